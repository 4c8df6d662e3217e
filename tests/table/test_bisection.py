"""Where bisection finds a job, the full search finds the same line; elsewhere it says nothing."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tables import LONG, MALFORMED, add, change, look, own, text, write

from dbbasic_queue.support.ids import new_id, new_ids
from dbbasic_queue.table import bisection, scan
from dbbasic_queue.table.bisection import may_be_left
from dbbasic_queue.table.line import HEADER, Row, parse_line
from dbbasic_queue.table.table import Change

NOW = 1_800_000_000

# What a table consists of: what a line is, how much later than the one before it, and its length.
LINE = st.tuples(
    st.sampled_from(
        [
            *("own", "own", "own", "batch", "ended", "key", "hex", "dead", "malformed"),
            *("foreign", "crlf", "moved", "left", "spoiled"),
        ]
    ),
    st.sampled_from([0, 0, 0.0004, 0.001, 0.02, 1.5, 60, -0.003, -2, -4000]),
    st.sampled_from([0, 0, 0, 90, 700, 5000]),
)


class Made:
    """A table that is being made, line by line."""

    def __init__(self) -> None:
        self.content, self.before = HEADER, 0  # what is at hand of the file, and bytes before it
        self.moment = float(NOW)
        self.ids: list[str] = []
        self.moves: list[tuple[str, str]] = []

    def put(self, job_id: str, status: str = "pending", **fields: object) -> None:
        moved = {"moved": True} if fields.pop("moved", False) else {}
        made = {"created_at": int(self.moment), "run_at": int(self.moment), **fields, **moved}
        self.content += own(self.before + len(self.content), job_id, status, **made)
        self.ids.append(job_id)

    def line(self, kind: str, later: float, length: int) -> None:
        self.moment += later
        payload = '{"x": "' + "y" * length + '"}'
        job_id = new_id(self.moment)
        if kind == "batch":
            for each in new_ids(5, self.moment):
                self.put(each, payload=payload)
        elif kind in ("own", "ended"):
            self.put(job_id, "completed" if kind == "ended" else "pending", payload=payload)
        elif kind in ("key", "hex"):
            number = len(self.ids)
            self.put(f"order-{number}" if kind == "key" else f"{number:016x}", payload=payload)
        elif kind == "dead":
            self.content += b" " * (150 + length) + b"\n"
        elif kind == "malformed":
            self.content += MALFORMED[length % len(MALFORMED)]
        elif kind in ("foreign", "crlf"):
            line = text(job_id, created_at=int(self.moment), payload=payload)
            self.content += line[:-1] + b"\r\n" if kind == "crlf" else line
            self.ids.append(job_id)
        else:
            self._move(job_id, kind, payload)

    def _move(self, job_id: str, kind: str, payload: str) -> None:
        """Put a line that was moved down: dead, or left by a crash before it was killed."""
        start = len(self.content)
        self.put(job_id, "processing" if kind == "left" else "failed", payload=payload)
        line = self.content[start:]
        if kind == "moved":
            line = b" " * (len(line) - 1) + b"\n"
        elif kind == "spoiled":
            line = line[:-2] + b"\r\n"
        self.content = self.content[:start] + line
        self.moves.append((job_id, payload))

    def end(self, torn: bool) -> bytes:
        for job_id, payload in self.moves:
            self.put(job_id, "failed", payload=payload, error="E: " + "z" * 200, moved=True)
        return self.content + (b"torn\tmail\t{" if torn else b"")


@pytest.fixture(params=["small", "as it is"], scope="module")
def steps(request: pytest.FixtureRequest) -> object:
    """Steps of bisection that are small beside these tables; and those that it has."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "small":
            patch.setattr(bisection, "PROBE", 200)
            patch.setattr(bisection, "FAR", 900)
            patch.setattr(bisection, "AROUND", (300, 900, 3000))
        yield request.param


@given(lines=st.lists(LINE, max_size=90), torn=st.booleans())
@settings(max_examples=150, deadline=None)
def test_bisection_and_full_search_agree_on_any_table(
    steps: str, lines: list[tuple[str, float, int]], torn: bool
) -> None:
    """Moved, dead, torn, foreign, equal milliseconds, a clock set back, edited by hand."""
    made = Made()
    for line in lines:
        made.line(*line)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "queue.tsv"
        write(path, made.end(torn)[len(HEADER) :])
        table = look(path)
        fd, size = os.open(path, os.O_RDONLY), path.stat().st_size
        try:
            for job_id in [*made.ids, new_id(NOW), new_id(made.moment), "none"]:
                key = job_id.encode()
                full = scan.last_row(fd, key, 0, size)
                found = bisection.find(fd, key, size)
                assert found is None or found == full
                with table.reading():
                    assert table.find(key) == full
                hint = table.search(key)
                with table.reading():
                    assert table.find(key, hint) == full
        finally:
            os.close(fd)


@given(lines=st.lists(LINE, min_size=1, max_size=90))
@settings(max_examples=100, deadline=None)
def test_rows_in_their_order_are_all_found(steps: str, lines: list[tuple[str, float, int]]) -> None:
    """Bisection needs no other search where rows stand as they were added, whatever is between."""
    made = Made()
    for kind, later, length in lines:
        if kind not in ("moved", "left", "spoiled"):
            made.line(kind, max(abs(later), 0.002), length % 700)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "queue.tsv"
        write(path, made.end(torn=False)[len(HEADER) :])
        fd, size = os.open(path, os.O_RDONLY), path.stat().st_size
        try:
            for job_id in made.ids:
                if len(job_id) == 16 and job_id[0] != "0":
                    row = bisection.find(fd, job_id.encode(), size)
                    assert row is not None
                    assert row.id.decode() == job_id
        finally:
            os.close(fd)


@pytest.fixture
def searches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many bytes each search has looked at that bisection did not narrow down."""
    seen: list[int] = []
    original = scan.search_back

    def watch(fd: int, job_id: bytes, start: int, end: int) -> int:
        seen.append(end - start)
        return original(fd, job_id, start, end)

    monkeypatch.setattr(scan, "search_back", watch)
    return seen


def of_many(path: Path, put: Callable[[int, Made], None], number: int = 20_000) -> list[str]:
    made = Made()
    parts = []
    for n in range(number):
        made.moment += 0.0001
        put(n, made)
        parts.append(made.content)
        made.before, made.content = made.before + len(made.content), b""
    write(path, b"".join(parts)[len(HEADER) :])
    return made.ids


def in_order(n: int, made: Made) -> None:
    made.put(new_id(made.moment))


def among_keys(n: int, made: Made) -> None:
    made.put(new_id(made.moment) if n % 3 else f"order-{n}")


def among_dead(n: int, made: Made) -> None:
    if 4000 < n < 9000:
        made.content += b" " * 180 + b"\n"
    else:
        made.put(new_id(made.moment))


@pytest.mark.parametrize("put", [in_order, among_keys, among_dead])
def test_a_job_of_many_is_found_by_reading_little(
    path: Path, searches: list[int], put: Callable[[int, Made], None]
) -> None:
    """Of megabytes no more than a few pieces are read, with keys or a stretch of dead lines in
    between, wherever the row stands."""
    ids = of_many(path, put)
    table = look(path)
    for job_id in [*ids[:3], *ids[::997], *ids[-3:]]:
        if job_id.startswith("order"):
            continue
        searches.clear()
        hint = table.search(job_id.encode())
        with table.reading():
            row = table.find(job_id.encode(), hint)
        assert row is not None
        assert row.id.decode() == job_id
        assert sum(searches) < 1 << 18


def test_a_line_is_marked_before_it_is_moved(path: Path) -> None:
    """Of a job that looks as if it could not have been moved, bisection would find the old line."""
    table = look(path)
    row = add(table, new_id(NOW), created_at=NOW)
    assert not may_be_left(row)
    before: list[bytes] = []
    append = table.append

    def watch(data: bytes, noted: bool = False) -> int:
        before.append(path.read_bytes()[row.offset : row.offset + len(row.line)])
        return append(data, noted)

    table.append = watch  # type: ignore[method-assign]
    change(table, row.id.decode(), "cancelled", "E: " + "x" * 300)
    left = parse_line(before[0], row.offset)
    assert left is not None
    assert left.status == "pending"
    assert may_be_left(left)


def test_a_power_cut_loses_that_a_moved_job_was_begun(path: Path) -> None:
    """Its old line is pending as before; the new one, the last of the table, is the job."""
    made = Made()
    for _ in range(300):
        made.moment += 0.5
        made.put(new_id(made.moment))
    job_id = made.ids[100]
    made.put(job_id, "completed", attempts=1, result=LONG, moved=True)
    write(path, made.content[len(HEADER) :])
    table = look(path)
    hint = table.search(job_id.encode())
    with table.reading():
        for row in (table.find(job_id.encode()), table.find(job_id.encode(), hint)):
            assert row is not None
            assert row.status == "completed"


def test_many_that_are_begun_are_synced_before_they_move(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of several new lines not each is the last, so no old one is to look as if it had stayed."""
    table = look(path)
    rows = [add(table, new_id(NOW + n), status="processing", created_at=NOW + n) for n in range(2)]
    steps: list[str] = []
    sync, append = table._fdatasync, table.append_batch

    def noted_sync() -> None:
        steps.append("sync")
        sync()

    def noted_append(data: bytes) -> int:
        steps.append("append")
        return append(data)

    monkeypatch.setattr(table, "_fdatasync", noted_sync)
    monkeypatch.setattr(table, "append_batch", noted_append)
    with table.writing():
        table.change_all([Change(row, "failed", NOW, 1, b"E: " + b"x" * 700, b"") for row in rows])
    assert steps[:2] == ["sync", "append"]


@pytest.mark.parametrize("status", ["pending", "failed", "cancelled", "completed"])
def test_a_marked_line_is_read_as_before(status: str) -> None:
    """The mark is a carriage return, as rows of other programs have one."""
    row = parse_line(own(0, status=status), 0)
    assert row is not None
    mark = bisection.spoil(row)
    assert mark is not None
    data, at = mark
    marked = parse_line(row.line[:at] + data + row.line[at + 1 :], 0)
    assert marked is not None
    assert marked[3:] == row[3:]
    assert may_be_left(marked)
    assert bisection.spoil(marked) is None


def test_a_job_that_was_moved_is_found_where_it_is(path: Path) -> None:
    """By the full search, where bisection finds no more than a dead line."""
    table = look(path)
    ids = [new_id(NOW + n) for n in range(300)]
    rows: list[Row] = [add(table, job_id, created_at=NOW + n) for n, job_id in enumerate(ids)]
    moved = change(table, ids[5], "completed", result=LONG)
    assert moved.offset > rows[-1].offset
    for job_id in (ids[5], ids[4], ids[-1]):
        hint = table.search(job_id.encode())
        with table.reading():
            row = table.find(job_id.encode(), hint)
            assert table.find(job_id.encode()) == row
        assert row is not None
        assert row.id.decode() == job_id
    assert row.offset == rows[-1].offset
