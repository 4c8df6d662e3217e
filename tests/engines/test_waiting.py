"""The waiting: what is due, in order, however it got into the file."""

from __future__ import annotations

import math
import random
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tables import MALFORMED, add, look, overwrite, own, replace, text, write

from dbbasic_queue import Queue
from dbbasic_queue.engines.tsv.waiting import WaitingList
from dbbasic_queue.table.line import HEADER
from dbbasic_queue.table.table import Table

NOW = 1_000_000
EVER = 10**15


def reading(table: Table) -> WaitingList:
    waiting = WaitingList(table)
    waiting.read()
    return waiting


def drain(waiting: WaitingList, table: Table, now: int = EVER) -> list[str]:
    """The ids of what is due, in order, without what is named and is not a pending row."""
    found = []
    with table.writing():
        waiting.catch_up()
        while (offset := waiting.pop_due(now)) is not None:
            row = table.read_row(offset)
            if row is not None and row.status == "pending":
                assert row.run_at <= now
                found.append(row.id.decode())
    return found


def test_the_order_is_time_then_position(table: Table) -> None:
    """Jobs come by run_at; those of one second in the order of the file."""
    times = [5, 3, 5, 1, 3, 3, 9, 1]
    for number, run_at in enumerate(times):
        add(table, f"j{number}", run_at=run_at)
    wanted = [f"j{number}" for _, number in sorted((at, n) for n, at in enumerate(times))]
    assert drain(reading(table), table) == wanted


def test_appended_jobs_find_their_place(table: Table) -> None:
    """What comes after the reading is sorted in with what was read."""
    for number in (10, 30, 50):
        add(table, f"j{number}", run_at=number)
    waiting = reading(table)
    for number in (40, 20, 60, 0):
        add(table, f"j{number}", run_at=number)
    assert drain(waiting, table, now=35) == ["j0", "j10", "j20", "j30"]
    add(table, "j5", run_at=5)
    assert drain(waiting, table) == ["j5", "j40", "j50", "j60"]
    assert waiting.pop_due(EVER) is None


@pytest.mark.parametrize(("now", "due"), [(0, 0), (4, 0), (5, 1), (6, 1), (7, 2), (EVER, 2)])
def test_nothing_is_due_before_its_second(table: Table, now: int, due: int) -> None:
    """A job is due in the second of its run_at, not one before."""
    add(table, "a1", run_at=5)
    add(table, "b2", run_at=7)
    waiting = reading(table)
    assert waiting.next_time() == 5
    assert len(drain(waiting, table, now)) == due
    assert waiting.next_time() == {0: 5, 1: 7, 2: None}[due]


def test_the_largest_time_and_a_job_put_back(table: Table) -> None:
    """Times of 15 digits do not run into the offsets; a job put back has its place again."""
    add(table, "late", run_at=10**15 - 1)
    first = add(table, "soon", run_at=1)
    waiting = reading(table)
    assert drain(waiting, table, now=10**15 - 2) == ["soon"]
    waiting.add(2, first.offset)
    assert waiting.next_time() == 2
    assert drain(waiting, table) == ["soon", "late"]


def test_a_missing_table_has_nothing_due(table: Table, path: Path) -> None:
    """Before the first job nothing is due; the first one is seen."""
    waiting = reading(table)
    assert waiting.pop_due(EVER) is None
    assert waiting.next_time() is None
    assert not path.exists()
    add(table, "a1")
    assert drain(waiting, table) == ["a1"]


@pytest.mark.parametrize("save", [replace, overwrite])
def test_a_table_written_anew_is_read_anew(
    table: Table, path: Path, save: Callable[[Path, bytes], None]
) -> None:
    """After a prune, or an editor that made the file shorter, all of it is read again."""
    for number in range(5):
        add(table, f"j{number}")
    waiting = reading(table)
    save(path, HEADER + text("x9") + text("y8", run_at=3))
    assert drain(waiting, table) == ["y8", "x9"]
    add(table, "z7", run_at=1)
    with table.writing():
        table.rewrite()
    assert waiting.is_stale()
    assert drain(waiting, table) == ["z7", "y8", "x9"]
    assert not waiting.is_stale()


def test_what_is_running_and_what_has_moved(table: Table) -> None:
    """Rows in processing are noted for the rescue, and where the new line of a moved row stands."""
    add(table, "a1")
    running = add(table, "b2", status="processing")
    waiting = reading(table)
    later = add(table, "c3", status="processing")
    moved = add(table, "a1", moved=True)
    assert waiting.processing == [running.offset]
    with table.writing():
        waiting.catch_up()
        waiting.catch_up()
    assert waiting.processing == [running.offset, later.offset]
    assert waiting.moved == {b"a1": moved.offset}
    assert reading(table).moved == {b"a1": moved.offset}
    again = add(table, "b2", moved=True)
    with table.writing():
        waiting.catch_up()
    assert waiting.moved == {b"a1": moved.offset, b"b2": again.offset}


def test_a_torn_line_is_not_on_the_list(path: Path) -> None:
    """Half a row at the end is not a job; what is appended in its place is."""
    write(path, text("a1"), text("b2")[:-12])
    table = look(path)
    waiting = reading(table)
    add(table, "c3", run_at=6)
    assert drain(waiting, table) == ["a1", "c3"]


def test_a_last_line_without_a_newline_is_seen_once(path: Path) -> None:
    """A whole row without a newline is a job, also after its line was ended."""
    write(path, text("a1"), text("b2")[:-1])
    table = look(path)
    waiting = reading(table)
    add(table, "c3", run_at=6)
    assert drain(waiting, table) == ["a1", "b2", "c3"]


@given(st.data())
def test_any_table_is_worked_in_order(data: st.DataObject) -> None:
    """In any table, read at any moment of its growth, the pending jobs come in order, each once."""
    run_ats = data.draw(st.lists(st.integers(0, 9), max_size=12))
    cut = data.draw(st.integers(0, 12))
    noise = random.Random(data.draw(st.integers(0, 99)))
    content = HEADER
    lines = []
    for number, run_at in enumerate(run_ats):
        status = noise.choice(["pending", "pending", "completed", "processing"])
        junk = noise.choice([b"", b"", noise.choice(MALFORMED), b"    \n"])
        line = own(len(content) + len(junk), f"j{number}", status, run_at=run_at)
        lines.append((run_at, number, status, junk + line))
        content += junk + line
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda fd: None)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "queue.tsv"
            write(path, *(line for *_, line in lines[:cut]))
            table = look(path)
            waiting = reading(table)
            with path.open("ab") as file:
                file.writelines(line for *_, line in lines[cut:])
            assert drain(waiting, table) == [
                f"j{number}" for _, number, status, _ in sorted(lines) if status == "pending"
            ]


@pytest.mark.parametrize("spoil", ["malformed", "half blanked"])
def test_a_line_that_only_looks_pending_costs_one_look(
    queue: Queue, path: Path, spoil: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A malformed pending line, or the rest of a dead one, makes no worker read on and on."""
    line = text("x9", error="x", result="y\tz") if spoil == "malformed" else b" " + text("x9")[1:]
    write(path, line, *(text(f"j{number}") for number in range(20)))
    reads = []
    monkeypatch.setattr(
        WaitingList,
        "read",
        lambda self, start=0, read=WaitingList.read: (reads.append(1), read(self, start)),
    )
    assert queue.process_jobs({"mail": lambda payload: None}).completed == 20
    assert len(reads) < 5  # of 20 turns; for another reason, it may be read anew once
    assert line in path.read_bytes()


def test_the_cost_of_a_reading_is_known(table: Table) -> None:
    """How long a reading took, and when it was, is noted for the worker's pause."""
    waiting = WaitingList(table)
    assert waiting.read_at == 0
    waiting.read()
    assert waiting.read_at > 0
    assert 0 <= waiting.read_cost < math.inf
