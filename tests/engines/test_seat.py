"""What a worker owes to others at its seat: claims, syncs, its mark, and what it leaves."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from actors import AT_ONCE, Clock, die, in_child
from tables import add, look, own
from working import take

from dbbasic_queue import Policy, Queue, StorageError
from dbbasic_queue.engines.interface import Outcome, Policies
from dbbasic_queue.engines.tsv import gate, idle, rests
from dbbasic_queue.engines.tsv.waiting import WaitingList


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def queue(tmp_path: Path, clock: Clock) -> Queue:
    return Queue(tmp_path / "queue.tsv", "normal", clock=clock)


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The descriptors that were synced."""
    found: list[int] = []
    real = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda fd: (found.append(fd), real(fd)))
    return found


def no_space(fd: int) -> None:
    raise OSError(errno.EIO, "Input/output error")


# -- claims ----------------------------------------------------------------------------------------


def test_a_run_that_ends_in_an_error_gives_its_job_up(queue: Queue) -> None:
    """The job in hand when a run breaks off is rescued by the next run of the same process."""
    job_id = queue.enqueue("x", {})
    seat, _ = take(queue)
    seat.leave()
    assert not queue.engine.claims.is_held(job_id.encode())
    assert queue.process_jobs({"x": bool}, backoff=AT_ONCE).rescued == 1
    assert queue.get_job(job_id)["status"] == "completed"


def test_an_end_that_cannot_be_written_gives_the_claim_back(
    queue: Queue, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that refuses the end of a job does not leave it claimed for as long as we live."""
    job_id = queue.enqueue("x", {})
    seat, attempt = take(queue)

    def refuse(fd: int, data: bytes, offset: int) -> int:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "pwrite", refuse)
    with pytest.raises(StorageError):
        seat.turn(Outcome(attempt, "completed", int(clock.now)))
    assert not queue.engine.claims.is_held(job_id.encode())


def test_a_worker_gives_its_slot_back(queue: Queue) -> None:
    """Of two workers in a row, each may have the only place."""
    queue.enqueue("x", {})
    first = queue.engine.seat(1)
    assert first is not None
    assert queue.engine.seat(1) is None
    first.leave()
    assert queue.engine.seat(1) is not None


# -- syncs -----------------------------------------------------------------------------------------


def test_an_attempt_that_cannot_be_synced_does_not_run_and_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is perhaps not on disk is put back as it was, with no attempt behind it."""
    queue = Queue(tmp_path / "queue.tsv", "full")
    job_id = queue.enqueue("x", {})
    seat = queue.engine.seat()
    with monkeypatch.context() as broken:
        broken.setattr(os, "fdatasync", no_space)
        with pytest.raises(StorageError):
            seat.turn()
    job = queue.get_job(job_id)
    assert (job["status"], job["attempts"]) == ("pending", 0)
    assert not queue.engine.claims.is_held(job_id.encode())


def test_a_rescue_is_on_disk_when_it_is_told(tmp_path: Path, synced: list[int]) -> None:
    """In "full" what `rescue` returns has been synced."""
    queue = Queue(tmp_path / "queue.tsv", "full")
    queue.enqueue("die", {})
    assert in_child(lambda: queue.process_jobs({"die": die})) != 0
    seat = queue.engine.seat()
    synced.clear()
    assert len(seat.rescue(3, AT_ONCE)) == 1
    assert len(synced) == 1


@pytest.mark.parametrize(
    "verb",
    [
        lambda queue: queue.retry_failed(),
        lambda queue: queue.retry_job("failed"),
        lambda queue: queue.cancel_job("pending"),
        lambda queue: queue.enqueue_many([("x", {}), ("x", {})]),
        lambda queue: queue.enqueue("x", {}, job_id="pending"),
        lambda queue: queue.enqueue("x", {}),
    ],
)
def test_what_a_verb_acknowledges_is_on_disk(
    tmp_path: Path, synced: list[int], verb: Callable[[Queue], object]
) -> None:
    """In "full" each verb syncs what it has written, or what another process has, once."""
    queue = Queue(tmp_path / "queue.tsv", "full")
    queue.enqueue("bad", {}, job_id="failed")
    queue.process_jobs({"bad": lambda payload: 1 / 0}, 1)
    queue.enqueue("x", {}, job_id="pending")
    synced.clear()
    verb(queue)
    assert len(synced) == 1


# -- the mark --------------------------------------------------------------------------------------


@pytest.mark.parametrize("waits", [False, True])
def test_a_worker_marks_its_run_while_it_is_at_work(
    queue: Queue, monkeypatch: pytest.MonkeyPatch, waits: bool
) -> None:
    """Also in the middle of a long run: the health check would call a busy worker silent."""
    queue.enqueue("x", {})
    seat = queue.engine.seat()
    claims = queue.path.with_suffix(".claims")
    os.utime(claims, (1, 1))
    monkeypatch.setattr(idle, "MARK_EVERY", 0)
    if waits:
        seat.turn(None, False)
        os.utime(claims, (1, 1))
        while seat.turn() is not None:
            pass
        os.utime(claims, (1, 1))
        seat.wait(0.01)
    else:
        seat.turn()
    assert claims.stat().st_mtime > 1


# -- which row is the job --------------------------------------------------------------------------


def test_rows_that_move_later_are_noted_too(path: Path) -> None:
    """A row that moved after the first one is out of date as well."""
    table = look(path)
    for name in ("a1", "b2"):
        add(table, name)
    waiting = WaitingList(table)
    waiting.read()
    for name in ("a1", "b2"):
        with table.writing():
            table.append(own(table.size, name, moved=True))
            waiting.catch_up()
    assert set(waiting.moved) == {b"a1", b"b2"}


def test_of_two_lines_of_a_moved_job_the_older_is_killed_and_not_run(queue: Queue) -> None:
    """A crash in the middle of a move leaves both alive; the job runs once, by the later line."""
    queue.enqueue("mail", {}, job_id="a1")
    old = queue.path.read_bytes()
    with queue.engine.table.writing():
        queue.engine.table.append(own(queue.engine.table.size, "a1", moved=True))
    runs = []
    queue.process_jobs({"mail": lambda payload: runs.append(payload)})
    assert len(runs) == 1
    assert queue.count_jobs()["completed"] == 1
    at = old.index(b"a1\t")
    assert queue.path.read_bytes()[at : at + 2] == b"  "


def test_an_attempt_that_another_worker_has_begun_anew_is_not_settled_by_the_first(
    queue: Queue, clock: Clock
) -> None:
    """A job that a person put back, and that runs once more, is the second worker's."""
    job_id = queue.enqueue("x", {})
    seat, attempt = take(queue)
    row = queue.engine.table.find(job_id.encode())
    assert row is not None
    with queue.engine.table.writing():
        queue.engine.table.change(row, "processing", int(clock.now), row.attempts + 1)
    seat.turn(Outcome(attempt, "completed", int(clock.now)), False)
    assert queue.get_job(job_id)["status"] == "processing"


# -- what others change ----------------------------------------------------------------------------


def test_a_worker_that_waits_sees_what_was_put_back_in_place(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A retry changes a row further up, which no size tells."""
    monkeypatch.setattr(rests, "LOOK_AGAIN", 0)
    monkeypatch.setattr(rests, "SHARE", 0)
    queue.enqueue("bad", {}, job_id="a1")
    queue.process_jobs({"bad": lambda payload: 1 / 0}, 1)
    seat = queue.engine.seat()
    assert not seat.wait(0)
    time.sleep(0.02)
    Queue(queue.path, "normal", clock=queue.engine.now).retry_job("a1")
    assert seat.wait(5)
    assert seat.turn() is not None


def test_a_job_whose_worker_dies_later_is_rescued_later(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job that was running when it was first looked at is looked at again."""
    monkeypatch.setattr(rests, "LOOK_AGAIN", 0)
    monkeypatch.setattr(rests, "SHARE", 0)
    queue.enqueue("x", {})
    other = Queue(queue.path, "normal", clock=queue.engine.now)
    first, _ = take(other)
    seat = queue.engine.seat()
    assert seat.rescue(3, AT_ONCE) == []
    first.leave()  # its claim is gone, as it is when the process dies
    assert len(seat.rescue(3, AT_ONCE)) == 1


def test_the_place_of_a_dead_worker_s_type_is_not_waited_for(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its locks end without a change of any file, and a worker that waits sees it all the same."""
    monkeypatch.setattr(gate, "LOOK_AGAIN", 3600)
    queue.enqueue_many([("mail", {}), ("mail", {})])
    other = Queue(queue.path, "normal", clock=queue.engine.now)
    first, second = other.engine.seat(), queue.engine.seat()
    for seat in (first, second):
        seat.govern(Policies({"mail": Policy(concurrency=1)}))
    assert first.turn() is not None
    assert second.turn() is None
    first.leave()  # its locks are gone, as they are when the process dies
    assert second.wait(0)
    assert second.turn() is not None
    second.leave()


def test_on_a_full_disk_the_end_of_a_job_is_recorded_without_its_result(
    queue: Queue, clock: Clock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A result that takes a longer line is given up for the state, which fits in place."""
    job_id = queue.enqueue("x", {})
    seat, attempt = take(queue)

    def refuse(*args: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwritev", refuse)
    seat.turn(Outcome(attempt, "completed", int(clock.now), result='"' + "x" * 500 + '"'), False)
    job = queue.get_job(job_id)
    assert (job["status"], job["result"]) == ("completed", None)
    assert "recorded without error or result" in caplog.text


# -- which jobs are taken --------------------------------------------------------------------------


def test_a_job_that_is_to_run_again_at_once_runs_in_the_same_run(queue: Queue) -> None:
    """What this worker has put back is in its list of what is due."""
    queue.enqueue("bad", {})
    summary = queue.process_jobs({"bad": lambda payload: 1 / 0}, 3, backoff=AT_ONCE)
    assert (summary.retried, summary.failed) == (2, 1)


def test_a_worker_takes_the_types_that_it_was_asked_for(queue: Queue) -> None:
    """Other types stay as they are, though they are due and have a handler."""
    wanted, other = queue.enqueue("x", {}), queue.enqueue("y", {})
    queue.process_jobs({"x": bool, "y": bool}, types=["x"])
    assert queue.get_job(wanted)["status"] == "completed"
    assert queue.get_job(other)["status"] == "pending"


def test_retry_of_all_failed_jobs_of_a_type_leaves_the_others(queue: Queue) -> None:
    """`dbq retry --failed --type x` puts back those of the type only."""
    ids = [queue.enqueue(name, {}) for name in ("x", "y")]
    queue.process_jobs({name: lambda payload: 1 / 0 for name in ("x", "y")}, 1)
    assert queue.engine.retry_failed("x") == ids[:1]
    assert queue.get_job(ids[1])["status"] == "failed"
