"""What the keys of `dbq top` do to the entry that is chosen."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from dbbasic_queue import Queue
from dbbasic_queue.cli.deeds import Deed, deed_of
from dbbasic_queue.health.advice import Advice
from dbbasic_queue.health.judge import check_health
from dbbasic_queue.views.reading import Reader
from dbbasic_queue.views.screen import Entry, View, drawn


def fail(payload: dict[str, object]) -> None:
    raise ValueError("no")


@pytest.fixture
def queue(tmp_path: Path) -> Queue:
    """Two failed jobs of a type, one that is tried again, and those that wait."""
    queue = Queue(tmp_path / "queue.tsv")
    for name in ("f1", "f2"):
        queue.enqueue("bad*", {}, job_id=name)
    queue.enqueue("badly", {}, job_id="x1")
    queue.process_jobs({"bad*": fail, "badly": fail}, max_attempts=1)
    queue.enqueue("again", {}, job_id="w1")
    queue.process_jobs({"again": fail}, max_attempts=3)
    queue.enqueue("bad-too", {}, job_id="o1")
    queue.enqueue("good", {}, queue.now() + 1000, job_id="p1")
    return queue


def entry(queue: Queue, *key: str) -> Entry:
    check = partial(check_health, queue.path)
    view = View()
    reading = Reader(queue, check=check, advice=Advice([])).read()
    drawn(reading, view, 80, 24)
    return next(each for each in view.entries if each.key[: len(key)] == key)


def do(queue: Queue, key: str, *about: str) -> str:
    deed = deed_of(key, entry(queue, *about), queue)
    assert isinstance(deed, Deed), deed
    assert deed.question.endswith("?") or "?" in deed.question
    return deed.act()


def status(queue: Queue, job_id: str) -> str:
    job = queue.get_job(job_id)
    assert job is not None
    return str(job["status"])


def test_r_retries_what_failed_in_one_way(queue: Queue) -> None:
    """All jobs of the type with the error, and no other type that its name looks like."""
    deed = deed_of("r", entry(queue, "failed", "bad*"), queue)
    assert isinstance(deed, Deed)
    assert deed.question == "retry 2 jobs of bad* with this error?"
    assert status(queue, "f1") == "failed"  # until a person has agreed
    assert deed.act() == "retried 2 jobs"
    assert [status(queue, each) for each in ("f1", "f2", "x1")] == ["pending", "pending", "failed"]


def test_r_retries_a_type_and_a_job(queue: Queue) -> None:
    """What failed of a type; and a job that waits for its next attempt."""
    assert do(queue, "r", "type", "bad*") == "retried 2 jobs"
    assert do(queue, "r", "waiting", "w1") == "retried w1"
    assert queue.get_job("w1")["run_at"] <= queue.now()
    assert isinstance(deed_of("r", entry(queue, "type", "good"), queue), str)
    assert isinstance(deed_of("r", entry(queue, "waiting", "p1"), queue), str)


def test_c_cancels_what_waits(queue: Queue) -> None:
    """A job, the pending ones of a type, those that would be tried again; not what has ended."""
    assert isinstance(deed_of("c", entry(queue, "failed", "bad*"), queue), str)
    assert do(queue, "c", "waiting", "p1") == "cancelled p1"
    assert do(queue, "c", "failed", "again") == "cancelled 1 job"
    assert do(queue, "c", "type", "bad-too") == "cancelled 1 job"
    assert [status(queue, each) for each in ("p1", "w1", "o1")] == ["cancelled"] * 3
    assert status(queue, "f1") == "failed"


def test_c_asks_a_worker_to_break_off(queue: Queue) -> None:
    """A job that runs gets the mark; one that has ended meanwhile is told."""
    seat = queue.engine.seat()
    assert seat is not None
    attempt = seat.turn()
    assert attempt is not None
    deed = deed_of("c", entry(queue, "running", "o1"), queue)
    assert isinstance(deed, Deed)
    assert deed.act() == "its worker is asked to break off o1"
    assert seat.asked()
    seat.leave()
    late = deed_of("c", entry(queue, "waiting", "p1"), queue)
    assert isinstance(late, Deed)
    queue.cancel_job("p1")
    assert late.act() == "p1 has changed meanwhile: nothing was done"


def test_p_pauses_and_resumes(queue: Queue) -> None:
    """The type of the entry; what a glob has paused is resumed by that."""
    assert do(queue, "p", "waiting", "p1") == "paused good"
    assert [pause.type for pause in queue.paused()] == ["good"]
    assert do(queue, "p", "type", "good") == "resumed good"
    queue.pause("bad-*")
    assert do(queue, "p", "type", "bad-too") == "resumed bad-*"
    assert not queue.paused()


def test_nothing_is_done_to_nothing(queue: Queue) -> None:
    """A key in an empty list says so."""
    assert deed_of("r", None, queue) == "there is nothing to choose"
