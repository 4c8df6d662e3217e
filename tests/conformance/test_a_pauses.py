"""A: types of jobs that no worker begins for a while, whatever keeps the jobs."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from actors import Clock, die, in_child, queue_by, sit

from dbbasic_queue import InvalidJob, Queue
from dbbasic_queue.engines import open_engine
from dbbasic_queue.engines.answers import Limits
from dbbasic_queue.engines.interface import Engine, Order, Outcome
from dbbasic_queue.engines.pausing import Pause

HANDLERS: dict[str, Callable[[Any], Any]] = {"mail": bool, "mail.send": bool, "report": bool}


def add(engine: Engine, *names: str, job_type: str = "mail") -> None:
    now = int(engine.now())
    engine.add([Order(name, job_type, "{}", now, False) for name in names], now)


def done(queue: Queue) -> list[str]:
    """The types of the jobs that a worker completes now."""
    before = {job["id"] for job in queue.list_jobs("completed")}
    queue.process_jobs(HANDLERS)
    return sorted(job["type"] for job in queue.list_jobs("completed") if job["id"] not in before)


def test_a_paused_type_is_not_begun(queue: Queue) -> None:
    """Other types are; and it is, when it is resumed."""
    queue.enqueue_many([("mail", {}), ("report", {})])
    queue.pause("mail")
    assert done(queue) == ["report"]
    queue.resume("mail")
    assert done(queue) == ["mail"]


def test_a_pause_of_all(queue: Queue) -> None:
    """Without a type, nothing is begun, and `resume` without one ends all pauses."""
    queue.pause("report")
    queue.pause()
    queue.enqueue_many([("mail", {}), ("report", {})])
    assert done(queue) == []
    assert [pause.type for pause in queue.paused()] == ["*", "report"]
    assert [pause.type for pause in queue.resume()] == ["*", "report"]
    assert done(queue) == ["mail", "report"]
    assert queue.resume() == []


def test_a_glob_pauses_several(queue: Queue) -> None:
    """And is resumed as it was paused, or by a glob that matches it."""
    queue.enqueue_many([("mail", {}), ("mail.send", {})])
    queue.pause("mail.*")
    assert done(queue) == ["mail"]
    assert queue.resume("mail.send") == []
    assert [pause.type for pause in queue.resume("mail*")] == ["mail.*"]
    assert done(queue) == ["mail.send"]


def test_a_type_that_looks_like_a_glob(queue: Queue) -> None:
    """It is paused by its own name, too."""
    queue.enqueue("a[1]", {})
    queue.pause("a[1]")
    assert queue.process_jobs({"a[1]": bool}).completed == 0


def test_what_a_pause_says(queue: Queue) -> None:
    """Since when, until when, by which user and why; the last word on a type counts."""
    now = queue.now()
    queue.pause("mail", why="first")
    queue.pause("mail", until=now + 3600, why="no\tserver\nat all")
    (pause,) = queue.paused()
    assert (pause.type, pause.until, pause.why) == ("mail", now + 3600, "no\\tserver\\nat all")
    assert now <= pause.since <= now + 60
    assert pause.who
    assert queue.stats().paused == (pause,)


def test_a_worker_says_once_what_is_paused(queue: Queue, caplog: pytest.LogCaptureFixture) -> None:
    """Whenever it meets a pause that it had not met before: so its log tells why it idles."""
    caplog.set_level(logging.INFO)
    queue.pause("mail", why="no server")
    queue.enqueue("mail", {})
    seat = sit(queue.engine)

    def told() -> int:
        assert seat.turn() is None
        return caplog.text.count("mail paused since ")

    assert (told(), told()) == (1, 1)
    queue.resume("mail")
    queue.pause("mail", "report")
    assert (told(), told()) == (2, 2)
    assert caplog.text.count("report paused since ") == 1
    seat.leave()


def test_a_pause_ends_by_itself(address: str, clock: Clock) -> None:
    """At the time that it was given, also for a worker that has seen it."""
    queue = queue_by(clock, address)
    queue.enqueue("mail", {})
    queue.pause("mail", until=datetime.fromtimestamp(clock.now + 60, UTC))
    seat = sit(queue.engine)
    assert seat.turn() is None
    clock.now += 59
    assert seat.turn() is None
    clock.now += 1
    assert seat.wait(0)
    assert seat.turn() is not None
    assert queue.paused() == []
    seat.leave()


def test_a_worker_that_has_read_ahead(engine: Engine, clock: Clock) -> None:
    """From the moment that `pause` has returned, no worker begins another of the type."""
    add(engine, "a1", "b2", "c3")
    add(engine, "d4", job_type="report")
    seat = sit(engine)
    first = seat.turn()
    assert first is not None
    engine.pause([Pause("mail", int(clock.now))])
    second = seat.turn(Outcome(first, "completed", int(clock.now)))
    assert second is not None
    assert second.job.id == "d4"
    assert seat.turn(Outcome(second, "completed", int(clock.now))) is None
    engine.resume(["mail"])
    order = []
    attempt = seat.turn()
    while attempt is not None:
        order.append(attempt.job.id)
        attempt = seat.turn(Outcome(attempt, "completed", int(clock.now)))
    assert order == ["b2", "c3"]
    seat.leave()


def test_a_worker_that_waits_is_woken_by_a_resume(address: str, queue: Queue) -> None:
    """One that lingers begins what was paused."""
    queue.enqueue("mail", {})
    queue.pause()
    begun = threading.Event()

    def work() -> None:
        Queue(address, "normal").process_jobs(
            {"mail": lambda payload: begun.set()}, linger=120, limit=1
        )

    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    assert not begun.wait(0.3)
    queue.resume()
    assert begun.wait(60)
    worker.join(60)


def test_a_dead_worker_s_job_waits_too(address: str, queue: Queue) -> None:
    """It is taken back while its type is paused, and begun after that."""
    queue.enqueue("mail", {})

    def begin_and_die() -> None:
        sit(open_engine(address, "normal")).turn()
        die()

    assert in_child(begin_and_die) < 0
    queue.pause("mail")
    assert queue.process_jobs(HANDLERS, backoff=lambda attempts: 0).rescued == 1
    assert queue.count_jobs()["pending"] == 1
    queue.resume()
    assert done(queue) == ["mail"]


def test_jobs_can_be_added_and_cancelled_meanwhile(queue: Queue) -> None:
    """A pause is for workers only."""
    queue.pause()
    job_id = queue.enqueue("mail", {})
    assert queue.cancel_job(job_id)


def test_what_is_paused_is_not_overdue(engine: Engine, clock: Clock) -> None:
    """A health check counts the others, and names the pauses."""
    add(engine, "a1", "b2")
    add(engine, "c3", job_type="report")
    engine.pause([Pause("mail", int(clock.now))])
    clock.now += 100
    now = int(clock.now)
    snapshot = engine.snapshot(Limits(now, 0, now - 50, 0, 5))
    assert (snapshot.overdue, [job.id for job in snapshot.overdue_jobs]) == (1, ["c3"])
    assert [pause.type for pause in snapshot.paused] == ["mail"]
    engine.pause([Pause("*", now)])
    assert engine.snapshot(Limits(now, 0, now - 50, 0, 5)).overdue == 0


@pytest.mark.parametrize(
    ("types", "options"),
    [
        (("two words",), {}),
        (("",), {}),
        (("mail",), {"until": 5}),
        (("mail",), {"until": "2h"}),
        (("mail",), {"why": "x" * 201}),
    ],
    ids=["space", "empty", "past", "text", "long"],
)
def test_what_cannot_be_a_pause(queue: Queue, types: tuple[str], options: dict[str, Any]) -> None:
    """It is refused, and nothing is paused."""
    with pytest.raises(InvalidJob):
        queue.pause(*types, **options)
    assert queue.paused() == []
