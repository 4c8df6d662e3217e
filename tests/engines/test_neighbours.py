"""One job ended and its neighbour begun by one write: what others see of it, and what fails."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from actors import Clock
from working import take

from dbbasic_queue import Queue, StorageError
from dbbasic_queue.engines.interface import Attempt, Outcome
from dbbasic_queue.engines.tsv.seat import TsvSeat
from dbbasic_queue.table.line import SECTOR

Write = tuple[int, bytes]  # where, and what


@pytest.fixture
def queue(tmp_path: Path, clock: Clock) -> Queue:
    return Queue(tmp_path / "queue.tsv", "normal", clock=clock)


@pytest.fixture
def clock() -> Clock:
    return Clock()


class Writes:
    """What is written in place, but for those writes that are refused, counted from 0."""

    def __init__(self, patch: pytest.MonkeyPatch, *refused: int) -> None:
        self.made: list[Write] = []
        self._refused = refused
        self._calls = 0
        self._real = os.pwrite
        patch.setattr(os, "pwrite", self._write)

    def _write(self, fd: int, data: bytes, at: int) -> int:
        self._calls += 1
        if self._calls - 1 in self._refused:
            raise OSError(errno.EIO, "Input/output error")
        self.made.append((at, bytes(data)))
        return self._real(fd, data, at)


def end(attempt: Attempt, clock: Clock, **how: Any) -> Outcome:
    """The attempt as it ends when its handler returns nothing."""
    return Outcome(attempt, "completed", int(clock.now), **how)


def statuses(queue: Queue) -> list[str]:
    return [job["status"] for job in queue.list_jobs()]


def is_claimed(queue: Queue, job_id: str) -> bool:
    held: bool = queue.engine.claims.is_held(job_id.encode())
    return held


def begun(queue: Queue, *payloads: dict[str, Any]) -> tuple[TsvSeat, Attempt, list[str]]:
    """A seat with the first of these jobs in hand, and the ids of all."""
    ids = queue.enqueue_many([("x", payload) for payload in payloads])
    seat, attempt = take(queue)
    return seat, attempt, ids


def by_two_writes(queue: Queue, clock: Clock, folder: Path) -> bytes:
    """The table after the same turn, done in two: the job in hand ended, the next one begun."""
    other = Queue(shutil.copy(queue.path, folder / "other.tsv"), "normal", clock=clock)
    rows = list(other.engine.table.rows())
    with other.engine.table.writing():
        other.engine.table.change(rows[0], "completed", int(clock.now), 1)
        other.engine.table.change(rows[1], "processing", int(clock.now), 1)
    return other.path.read_bytes()


def test_neighbours_are_changed_by_one_write(
    queue: Queue, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It leaves the same bytes as two would, and the claim on the job that begins."""
    seat, attempt, ids = begun(queue, {"n": 1}, {"n": 2}, {"n": 3})
    clock.now += 5
    expected = by_two_writes(queue, clock, tmp_path)
    writes = Writes(monkeypatch)
    following = seat.turn(end(attempt, clock))
    assert len(writes.made) == 1
    assert following is not None
    assert following.job.payload == {"n": 2}
    assert [is_claimed(queue, each) for each in ids] == [False, True, False]
    assert following.token[1] == queue.path.read_bytes().splitlines(True)[2]
    assert queue.path.read_bytes() == expected


def test_a_result_that_fits_goes_with_it(
    queue: Queue, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So does what a handler returns, if there is room for it."""
    seat, attempt, ids = begun(queue, {}, {})
    writes = Writes(monkeypatch)
    assert seat.turn(end(attempt, clock, result='{"n": 1}')) is not None
    assert len(writes.made) == 1
    assert queue.get_job(ids[0])["result"] == {"n": 1}


def test_a_long_neighbour_takes_two_writes(
    queue: Queue, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A head that is long is not written again."""
    seat, attempt, _ = begun(queue, {}, {"long": "x" * SECTOR})
    writes = Writes(monkeypatch)
    assert seat.turn(end(attempt, clock)) is not None
    assert len(writes.made) == 2
    assert sum(len(data) for _, data in writes.made) < SECTOR
    assert statuses(queue) == ["completed", "processing"]


def test_jobs_that_do_not_touch_take_two_writes(
    queue: Queue, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stands between them is not written, whatever it is."""
    seat, attempt, ids = begun(queue, {}, {}, {})
    queue.cancel_job(ids[1])
    writes = Writes(monkeypatch)
    assert seat.turn(end(attempt, clock)) is not None
    assert len(writes.made) == 2
    assert statuses(queue) == ["completed", "cancelled", "processing"]


@pytest.mark.parametrize(
    ("add", "take_more"),
    [
        (lambda queue: queue.enqueue("x", {}, queue.now() + 100), True),
        (lambda queue: queue.enqueue("other", {}), True),
        (lambda queue: queue.engine.claims.take(queue.enqueue("x", {}).encode()), True),
        (lambda queue: queue.enqueue("x", {}), False),
        (lambda queue: None, True),
    ],
    ids=["later", "other", "running", "limit", "none"],
)
def test_the_end_is_written_although_nothing_begins(
    queue: Queue, clock: Clock, add: Callable[[Queue], object], take_more: bool
) -> None:
    """With a neighbour that is not to be taken, or without one."""
    seat, attempt, (first,) = begun(queue, {})
    add(queue)
    assert seat.turn(end(attempt, clock), take_more, ["x"]) is None
    assert statuses(queue) == ["completed", "pending"][: len(statuses(queue))]
    assert not is_claimed(queue, first)


def test_the_end_is_written_before_a_row_of_another_program_is_moved(
    queue: Queue, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is slow does not come between a job and its end, which a kill would lose."""
    seat, attempt, _ = begun(queue, {})
    with queue.path.open("ab") as table:
        table.write(b"b2\tx\t{}\tpending\t%d\t5\t0\t\t\n" % clock.now)
    seen: list[bool] = []
    change = queue.engine.table.change
    monkeypatch.setattr(
        queue.engine.table,
        "change",
        lambda *args: seen.append(b"\tcompleted\t" in queue.path.read_bytes()) or change(*args),
    )
    assert seat.turn(end(attempt, clock)) is not None
    assert seen == [True]


def test_a_line_with_an_old_date_is_taken_in_the_same_turn(queue: Queue, clock: Clock) -> None:
    """A worker does not end before a job that another program has just written, of whatever age."""
    seat, attempt, _ = begun(queue, {})
    with queue.path.open("ab") as table:
        table.write(b"b2\tx\t{}\tpending\t5\t5\t0\t\t\n")
    following = seat.turn(end(attempt, clock))
    assert following is not None
    assert following.job.id == "b2"


def test_the_end_is_written_before_the_table_is_read_again(
    queue: Queue, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does a reading of all of it, which a neighbour that is gone asks for."""
    seat, attempt, _ = begun(queue, {}, {})
    seen: list[bool] = []
    monkeypatch.setattr(seat._table, "line_at", lambda offset: b"")
    monkeypatch.setattr(
        seat._waiting, "read", lambda: seen.append(b"\tcompleted\t" in queue.path.read_bytes())
    )
    assert seat.turn(end(attempt, clock)) is None
    assert seen == [True]


@pytest.mark.parametrize("refused", [(0,), (0, 1)])
def test_an_end_is_written_by_itself_when_both_are_refused(
    queue: Queue, clock: Clock, monkeypatch: pytest.MonkeyPatch, refused: tuple[int, ...]
) -> None:
    """The neighbour stays as it was; no claim is left, whatever the disk says."""
    seat, attempt, ids = begun(queue, {}, {})
    with monkeypatch.context() as broken:
        Writes(broken, *refused)
        with pytest.raises(StorageError, match="cannot write to the queue"):
            seat.turn(end(attempt, clock))
    assert statuses(queue) == ["completed" if refused == (0,) else "processing", "pending"]
    assert [is_claimed(queue, each) for each in ids] == [False, False]


def test_an_end_is_written_when_nothing_can_be_claimed(
    queue: Queue, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A neighbour that cannot be claimed does not take the end of the job before it away."""
    seat, attempt, ids = begun(queue, {}, {})

    def refuse(job_id: bytes) -> int:
        raise StorageError(errno.EIO, "cannot claim jobs")

    with monkeypatch.context() as broken:
        broken.setattr(queue.engine.claims, "take", refuse)
        with pytest.raises(StorageError, match="cannot claim jobs"):
            seat.turn(end(attempt, clock))
    assert statuses(queue) == ["completed", "pending"]
    assert not is_claimed(queue, ids[0])


def test_neighbours_that_share_a_byte_of_the_claims(queue: Queue, clock: Clock) -> None:
    """The second is begun by the turn that ends the first, as any other is."""
    for job_id in ("0000000000000001", "e000000000000001"):
        queue.enqueue("x", {}, job_id=job_id)
    seat, attempt = take(queue)
    following = seat.turn(end(attempt, clock))
    assert following is not None
    assert following.job.id == "e000000000000001"
    assert is_claimed(queue, following.job.id)
    assert statuses(queue) == ["completed", "processing"]


def test_a_neighbour_that_was_cancelled_meanwhile_stands(queue: Queue, clock: Clock) -> None:
    """It is read again under the lock before the write."""
    seat, attempt, ids = begun(queue, {}, {})
    assert queue.cancel_job(ids[1])
    assert seat.turn(end(attempt, clock)) is None
    assert statuses(queue) == ["completed", "cancelled"]


def test_the_jobs_run_in_order_whatever_is_between_them(queue: Queue) -> None:
    """A mix of neighbours and others, long and short, with results and without, runs once each."""
    ran: list[int] = []
    handler: Callable[[Any], Any] = lambda job: ran.append(job["n"]) or job.get("result")  # noqa: E731
    jobs: list[dict[str, Any]] = []
    for number in range(60):
        job: dict[str, Any] = {"n": number, "text": "x" * (number * 37 % 700)}
        if number % 5 == 3:
            job["result"] = "y" * (number * 11)
        jobs.append(job)
    queue.enqueue_many([("x", job) for job in jobs])
    assert queue.process_jobs({"x": handler}).completed == 60
    assert ran == list(range(60))
    results = {job["payload"]["n"]: job["result"] for job in queue.list_jobs()}
    assert results == {job["n"]: job.get("result") for job in jobs}
