"""Ids that another line must not bear: found by comparing neighbours as by a count of all lines."""

from __future__ import annotations

import random
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tables import look, set_piece, text, write

from dbbasic_queue.engines.tsv.known_ids import KnownIds
from dbbasic_queue.engines.tsv.waiting import WaitingList
from dbbasic_queue.support.ids import new_id

NOW = 1_800_000_000.0
STATES = ("pending", "pending", "pending", "processing", "completed", "failed")
KINDS = (
    lambda chance, number: new_id(NOW + number),  # as most are
    lambda chance, number: new_id(NOW + number - chance.randrange(9)),  # it waited for the lock
    lambda chance, number: new_id(NOW + 10**8 + number),  # of a clock that was ahead
    lambda chance, number: f"{chance.randrange(16**16):016x}",  # of 2.0.0
    lambda chance, number: f"order-{number}",  # a person's own key
    lambda chance, number: f"my-{number}",  # one that sorts among ours
)
Row = tuple[str, str]  # id, status


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: NOW + 100)


def rows_of(chance: random.Random, count: int, odd: float, copies: float) -> list[Row]:
    """Rows as a queue has them: some ids are not as most are, some are there twice."""
    rows: list[Row] = []
    for number in range(count):
        job_id = chance.choice(KINDS if chance.random() < odd else KINDS[:1])(chance, number)
        if rows and chance.random() < copies:
            job_id = chance.choice(rows)[0]
        rows.append((job_id, chance.choice(STATES)))
    return rows


def borne_twice(rows: Sequence[Row]) -> set[str]:
    """By counting: ids of several lines, of which one has not ended."""
    states = defaultdict(list)
    for job_id, status in rows:
        states[job_id].append(status)
    return {
        job_id
        for job_id, found in states.items()
        if len(found) > 1 and not {"pending", "processing"}.isdisjoint(found)
    }


def lines_of(rows: Sequence[Row]) -> list[bytes]:
    return [text(job_id, status, created_at=int(NOW)) for job_id, status in rows]


@given(st.integers(0, 10**9), st.sampled_from([0, 0.1, 1]), st.sampled_from([0, 0.05, 0.5]))
def test_the_ids_of_several_lines_are_those_that_a_count_finds(
    seed: int, odd: float, copies: float
) -> None:
    """Whatever the ids look like, in whatever order they stand, and wherever a piece ends."""
    chance = random.Random(seed)
    rows = rows_of(chance, chance.choice([0, 3, 30, 90]), odd, copies)
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setattr(time, "time", lambda: NOW + 100)
        set_piece(patch, chance.choice([200, 700, 1 << 20]))
        path = Path(folder) / "queue.tsv"
        write(path, *lines_of(rows))
        waiting = WaitingList(look(path))
        waiting.read()
        assert {job_id.decode() for job_id in waiting.twins} == borne_twice(rows)


@given(st.integers(0, 10**9), st.sampled_from([0, 0.1, 1]), st.sampled_from([0, 0.3]))
def test_what_is_appended_is_compared_with_what_was_read(
    seed: int, odd: float, copies: float
) -> None:
    """A pending line that bears the id of a job that had not ended waits until all is searched."""
    chance = random.Random(seed)
    rows = rows_of(chance, 90, odd, 0)
    later = rows_of(chance, 20, odd, 0)
    later = [(job_id, "pending") for job_id, _ in later if job_id not in dict(rows)]
    copied = [(chance.choice(rows)[0], "pending") if chance.random() < copies else row
              for row in later]  # fmt: skip
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setattr(time, "time", lambda: NOW + 100)
        set_piece(patch, chance.choice([200, 700, 1 << 20]))
        path = Path(folder) / "queue.tsv"
        write(path, *lines_of(rows))
        table = look(path)
        waiting = WaitingList(table)
        waiting.read()
        with path.open("ab") as file:
            file.writelines(lines_of(copied))
        with table.writing():
            waiting.catch_up()
        while waiting.doubtful:
            waiting.resolve()
        wanted = borne_twice(rows + copied) - borne_twice(rows)
        first = {job_id for job_id, status in rows if status in ("pending", "processing")}
        found = {job_id.decode() for job_id in waiting.twins}
        assert found >= wanted & first
        assert found <= borne_twice(rows + copied)


def pieces(*ids: Sequence[str]) -> list[tuple[int, bytes]]:
    return [(0, b"".join(map(text, piece))) for piece in ids]


def test_ids_that_ascend_are_not_remembered_one_by_one() -> None:
    """But those at the end, which a producer that waited for the lock may come between."""
    ids = [new_id(NOW + number) for number in range(40)]
    known = KnownIds()
    assert known.read(pieces(*(ids[at : at + 4] for at in range(0, 40, 4))), True) == set()
    assert len(known) == 8
    assert all(known.may_bear(job_id.encode()) for job_id in ids)
    assert not known.may_bear(new_id(NOW + 35.5).encode())
    assert not known.may_bear(new_id(NOW + 41).encode())
    assert not known.may_bear(b"order-1")
    assert known.may_bear(new_id(NOW + 5.5).encode())  # perhaps: it is searched for


def test_a_line_that_stands_twice_in_a_row_is_suspect() -> None:
    """Only what is larger than the line above bears an id of its own."""
    ids = [new_id(NOW + number) for number in range(40)]
    assert KnownIds().read(pieces([*ids[:20], ids[19], *ids[20:]]), True)
    assert KnownIds().read(pieces(ids[:20], ids[19:]), True)


def test_a_clock_that_was_ahead_does_not_spoil_what_follows() -> None:
    """One id from next year is beside the others, which ascend as before."""
    ids = [new_id(NOW + number) for number in range(40)]
    known = KnownIds()
    ahead = new_id(NOW + 366 * 86_400)
    assert known.read(pieces(ids[:4], [*ids[4:8], ahead], *([i] for i in ids[8:])), True) == set()
    assert len(known) < 12


@pytest.mark.parametrize("many", [True, False], ids=["few have ended", "most have ended"])
def test_a_line_before_the_hint_may_bear_one(many: bool) -> None:
    """Whether it is known by its hash, or by its place between the ends of the others."""
    ids = [new_id(NOW + number) for number in range(40)]
    known = KnownIds()
    known.read(pieces(*([i] for i in ids[10:]), ["order-1"]), many)
    assert not known.may_meet(b"".join(map(text, ids[:10])))
    for job_id in (ids[10], ids[20], ids[39], "order-1"):
        assert known.may_meet(text(job_id)), job_id
