"""Pruning: what is old and finished goes, and nothing else."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from actors import Clock, columns
from working import job_in

from dbbasic_queue import Queue
from dbbasic_queue.job import FINISHED

DAY = 86400


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def queue(tmp_path: Path, clock: Clock) -> Queue:
    return Queue(tmp_path / "queue.tsv", "normal", clock=clock)


def test_prune_removes_the_old_and_finished(queue: Queue, clock: Clock) -> None:
    """By default completed and cancelled jobs, never one that still has to run."""
    ids = {status: job_in(queue, status) for status in ("completed", "cancelled", "failed")}
    ids["processing"] = job_in(queue, "processing")
    ids["pending"] = queue.enqueue("x", {})
    clock.now += 1000 * DAY
    assert queue.prune_jobs(DAY) == 2
    assert {job["id"] for job in queue.list_jobs()} == {
        ids["failed"],
        ids["processing"],
        ids["pending"],
    }
    assert queue.prune_jobs(DAY, FINISHED) == 1
    assert queue.prune_jobs(0, FINISHED) == 0
    assert {job["status"] for job in queue.list_jobs()} == {"processing", "pending"}
    assert queue.get_job(ids["failed"]) is None


@pytest.mark.parametrize("age", [DAY, float(DAY), timedelta(days=1)])
def test_the_age_is_in_seconds_or_a_timedelta(queue: Queue, clock: Clock, age: Any) -> None:
    """A job counts from when it last changed: when it ended, was cancelled, failed."""
    queue.enqueue("x", {})
    clock.now += 5 * DAY
    queue.process_jobs({"x": bool})
    clock.now += DAY - 1
    assert queue.prune_jobs(age) == 0
    clock.now += 1
    assert queue.prune_jobs(age) == 1


def test_what_is_young_stays_beside_what_is_old(queue: Queue, clock: Clock) -> None:
    """Of two jobs of one status, only the older one goes."""
    job_in(queue, "completed")
    clock.now += 5 * DAY
    young = job_in(queue, "completed")
    assert queue.prune_jobs(DAY) == 1
    assert [job["id"] for job in queue.list_jobs()] == [young]


def test_what_ended_under_a_wrong_clock_goes_too(queue: Queue, clock: Clock) -> None:
    """A job that ended as long ahead as the age says would stay, and alarm, for years."""
    job_in(queue, "completed")
    queue.enqueue("x", {})  # which has to run, whatever the clock said
    clock.now -= 730 * DAY
    assert queue.prune_jobs(731 * DAY) == 0
    assert queue.prune_jobs(7 * DAY, dry_run=True) == 1
    assert queue.prune_jobs(7 * DAY) == 1
    job_in(queue, "completed")
    clock.now -= 59  # clocks are corrected all the time
    assert queue.prune_jobs(0) == 0
    clock.now -= 1
    assert queue.prune_jobs(0) == 1
    assert queue.count_jobs()["pending"] == 1


@pytest.mark.parametrize("status", FINISHED)
def test_statuses_choose_what_is_removed(queue: Queue, status: str) -> None:
    """As a tuple, a list, a set or a single name."""
    for statuses in ((status,), [status], {status}, status):
        for each in FINISHED:
            job_in(queue, each)
        assert queue.prune_jobs(0, statuses) == 1
        assert queue.count_jobs()[status] == 0
        assert queue.prune_jobs(0, FINISHED) == 2


@pytest.mark.parametrize(
    "statuses",
    [("pending",), ("processing",), ("completed", "pending"), ("done",), (), "pending", ""],
)
def test_what_has_to_run_cannot_be_pruned(queue: Queue, statuses: Any) -> None:
    """A status that is not finished is refused with a clear error; nothing is removed."""
    job_in(queue, "completed")
    queue.enqueue("x", {})
    before = queue.path.read_bytes()
    with pytest.raises(ValueError, match="only completed, failed, cancelled jobs can be pruned"):
        queue.prune_jobs(0, statuses)
    assert queue.path.read_bytes() == before


@pytest.mark.parametrize("age", [-1, math.nan, timedelta(seconds=-1), "7d", None, True])
def test_an_age_that_makes_no_sense_is_refused(queue: Queue, age: Any) -> None:
    """The error says what an age has to be; nothing is removed."""
    job_in(queue, "completed")
    before = queue.path.read_bytes()
    with pytest.raises(ValueError, match=r"older_than .*: must be 0 or more seconds"):
        queue.prune_jobs(age)
    assert queue.path.read_bytes() == before


@pytest.mark.parametrize("age", [math.inf, 1e15, timedelta.max])
def test_an_endless_age_prunes_nothing(queue: Queue, age: Any) -> None:
    """Nothing is that old."""
    job_in(queue, "completed")
    assert queue.prune_jobs(age) == 0


def test_a_dry_run_only_counts(queue: Queue) -> None:
    """It says how many there would be, and changes no byte."""
    job_in(queue, "completed")
    job_in(queue, "cancelled")
    before = queue.path.read_bytes()
    assert queue.prune_jobs(0, dry_run=True) == 2
    assert queue.path.read_bytes() == before
    assert queue.prune_jobs(0) == 2


def test_a_prune_that_finds_nothing_writes_nothing(queue: Queue) -> None:
    """The same file, the same inode: nightly prunes of an idle queue cost a read."""
    job_in(queue, "failed")
    before = queue.path.stat()
    assert queue.prune_jobs(0) == 0
    assert queue.path.stat() == before


def test_what_a_prune_leaves_is_as_it_was(queue: Queue) -> None:
    """Every job that stays reads as before, to the letter, and can be worked on."""
    for number in range(200):
        queue.enqueue("x", {"n": number, "text": "ä" * number})
    queue.process_jobs({"x": lambda payload: "r" * payload["n"]}, limit=100)
    kept = [queue.enqueue("y", {"text": "ü" * 700}) for _ in range(3)]
    before = [job for job in queue.list_jobs() if job["status"] != "completed"]
    assert queue.prune_jobs(0) == 100
    assert list(queue.list_jobs()) == before
    assert len(columns(queue)) == 103
    assert queue.process_jobs({"x": bool, "y": bool}).completed == 103
    assert all(queue.get_job(job_id)["status"] == "completed" for job_id in kept)


def meanwhile(queue: Queue, action: Callable[[Queue], object], monkeypatch: Any) -> None:
    """Let another process act when a prune has looked, and before it has the lock."""
    table, writing = queue.engine.table, queue.engine.table.writing

    def late() -> Any:
        monkeypatch.setattr(table, "writing", writing)
        action(Queue(queue.path, "normal", clock=queue.engine.now))
        return writing()

    monkeypatch.setattr(table, "writing", late)


def test_a_job_that_is_put_back_while_a_prune_looks_stays(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is old is looked at again when no other process can change it."""
    wanted, other = (job_in(queue, "failed") for _ in range(2))
    meanwhile(queue, lambda other_queue: other_queue.retry_job(wanted), monkeypatch)
    assert queue.prune_jobs(0, ["failed"]) == 1
    assert queue.get_job(wanted)["status"] == "pending"
    assert queue.get_job(other) is None


def test_a_prune_that_another_came_before_looks_again(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a table that was written anew the places of before mean nothing."""
    job_in(queue, "cancelled")
    for _ in range(3):
        job_in(queue, "completed")
    meanwhile(queue, lambda other: other.prune_jobs(0, ["cancelled"]), monkeypatch)
    assert queue.prune_jobs(0, ["completed"]) == 3
    assert list(queue.list_jobs()) == []
