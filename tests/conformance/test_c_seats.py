"""What every engine promises to a worker."""

from __future__ import annotations

import os
import signal
import time

import pytest
from actors import AT_ONCE, Clock, die, in_child, sit, start

from dbbasic_queue import IllegalTransition
from dbbasic_queue.engines import open_engine
from dbbasic_queue.engines.interface import Engine, Order, Outcome
from dbbasic_queue.job import Job

FAR = 2_000_000_000


def add(engine: Engine, *names: str, due: int = int(Clock().now), job_type: str = "mail") -> None:
    engine.add([Order(name, job_type, "{}", due, False) for name in names], int(engine.now()))


def found(engine: Engine, job_id: str) -> Job:
    job = engine.find(job_id)
    assert job is not None
    return job


def begin_and_die(engine: Engine, count: int = 1) -> None:
    """Take jobs in a process that is killed then."""

    def run() -> None:
        seat = sit(engine)
        for _ in range(count):
            seat.turn()
        die()

    assert in_child(run) < 0


def test_the_last_job_ends_and_the_next_begins_in_one_turn(engine: Engine, clock: Clock) -> None:
    """The oldest due first; each attempt is counted when it begins, and kept as begun."""
    add(engine, "a1", "b2")
    seat = sit(engine)
    first = seat.turn()
    assert first is not None
    assert (first.job.id, first.job.status, first.job.attempts) == ("a1", "processing", 1)
    assert found(engine, "a1") == first.job
    clock.now += 3
    second = seat.turn(Outcome(first, "completed", int(clock.now), result='{"ok": true}'))
    assert second is not None
    assert second.job.id == "b2"
    job = found(engine, "a1")
    assert (job.status, job.result, job.run_at) == ("completed", {"ok": True}, int(clock.now))
    assert seat.turn(Outcome(second, "failed", int(clock.now), "E: no"), take=False) is None
    assert (found(engine, "b2").status, found(engine, "b2").error) == ("failed", "E: no")
    seat.leave()


def test_a_job_is_had_by_one_worker(engine: Engine, address: str, clock: Clock) -> None:
    """Another seat, and another engine object, do not get it."""
    add(engine, "a1")
    seat = sit(engine)
    assert seat.turn() is not None
    assert sit(engine).turn() is None
    assert sit(open_engine(address, "normal", clock=clock)).turn() is None


def test_only_what_is_due_is_taken(engine: Engine, clock: Clock) -> None:
    """When its time has come."""
    add(engine, "later", due=int(clock.now) + 5)
    seat = sit(engine)
    assert seat.turn() is None
    clock.now += 5
    attempt = seat.turn()
    assert attempt is not None
    assert attempt.job.id == "later"


def test_only_the_types_asked_for_are_taken(engine: Engine) -> None:
    """The others are left to other workers."""
    add(engine, "a1", job_type="report")
    add(engine, "b2")
    seat = sit(engine)
    attempt = seat.turn(None, True, {"mail"})
    assert attempt is not None
    assert attempt.job.id == "b2"
    assert found(engine, "a1").status == "pending"


def test_a_failed_attempt_is_put_back_and_a_refund_counts_nothing(engine: Engine) -> None:
    """Pending once more, with the error; the attempt of a refund is as if it had not been."""
    add(engine, "a1")
    seat = sit(engine)
    attempt = seat.turn()
    assert attempt is not None
    seat.turn(Outcome(attempt, "pending", FAR, "E: once"), take=False)
    job = found(engine, "a1")
    assert (job.status, job.attempts, job.run_at, job.error) == ("pending", 1, FAR, "E: once")
    engine.cancel("a1")
    engine.retry("a1")
    again = sit(engine)
    attempt = again.turn()
    assert attempt is not None
    again.turn(Outcome(attempt, "pending", FAR, refund=True), take=False)
    assert found(engine, "a1").attempts == 0


def test_an_end_that_is_none_is_refused(engine: Engine) -> None:
    """A job that runs cannot end processing, and stays what it is."""
    add(engine, "a1")
    seat = sit(engine)
    attempt = seat.turn()
    assert attempt is not None
    with pytest.raises(IllegalTransition):
        seat.turn(Outcome(attempt, "processing", 5), take=False)
    assert found(engine, "a1").status == "processing"


def test_jobs_of_dead_workers_are_taken_back_and_counted(engine: Engine) -> None:
    """Pending after the backoff; failed when their attempts are used up; those that run stay."""
    add(engine, "a1", "b2", "c3")
    seat = sit(engine)
    mine = seat.turn()
    begin_and_die(engine, 2)
    other = sit(engine)
    assert mine is not None
    rescued = other.rescue(3, lambda attempts: 100)
    assert sorted(each.job.id for each in rescued) == ["b2", "c3"]
    assert {each.status for each in rescued} == {"pending"}
    job = found(engine, "b2")
    assert (job.attempts, job.run_at) == (1, int(engine.now()) + 100)
    assert (job.error or "").startswith("WorkerDied: ")
    assert found(engine, mine.job.id).status == "processing"
    engine.retry("b2")
    engine.cancel("c3")


def test_a_worker_that_dies_later_is_noticed(engine: Engine) -> None:
    """One that was alive when it was looked at first, and changed nothing as it died."""
    add(engine, "a1")
    began, tell = os.pipe()

    def run() -> None:
        sit(engine).turn()
        os.write(tell, b".")
        signal.pause()

    worker = start(run)
    os.read(began, 1)
    seat = sit(engine)
    assert seat.rescue(3, AT_ONCE) == []
    worker.kill()
    worker.join()
    rescued = []
    end = time.monotonic() + 20
    while not rescued and time.monotonic() < end:
        seat.wait(0.05)
        rescued = seat.rescue(3, AT_ONCE)
    assert [each.job.id for each in rescued] == ["a1"]


def test_a_job_that_kills_its_worker_each_time_ends_failed(engine: Engine) -> None:
    """After as many attempts as any other."""
    add(engine, "a1")
    for _ in range(2):
        begin_and_die(engine)
        sit(engine).rescue(2, AT_ONCE)
    assert (found(engine, "a1").status, found(engine, "a1").attempts) == ("failed", 2)


def test_a_seat_that_is_left_gives_up_what_it_has_in_hand(engine: Engine) -> None:
    """As an error ends a run: the next one takes the job back, with its attempt counted."""
    add(engine, "a1")
    seat = sit(engine)
    assert seat.turn() is not None
    seat.leave()
    assert [each.job.id for each in sit(engine).rescue(3, AT_ONCE)] == ["a1"]


def test_a_seat_waits_until_there_may_be_work(engine: Engine, address: str, clock: Clock) -> None:
    """For what is added, put back or due meanwhile; and no longer than it was told."""
    seat = sit(engine)
    assert seat.turn() is None
    began = time.monotonic()
    assert seat.wait(0.05) is False
    assert time.monotonic() - began >= 0.05
    add(open_engine(address, "normal", clock=clock), "a1")
    assert seat.wait(20) is True
    attempt = seat.turn()
    assert attempt is not None
    seat.turn(Outcome(attempt, "failed", int(clock.now)), take=False)
    engine.retry("a1")
    assert seat.wait(20) is True
    while seat.turn() is None:
        assert seat.wait(20) is True
    add(engine, "later", due=int(clock.now) + 5)
    while seat.wait(0.1):
        assert seat.turn() is None
    clock.now += 5
    assert seat.wait(20) is True


def test_places_bound_the_workers(engine: Engine, address: str) -> None:
    """Those that name a number of places; a place that is left is free."""
    first = sit(engine, 2)
    sit(open_engine(address, "normal"), 2)
    assert engine.seat(2) is None
    sit(engine)
    first.leave()
    sit(engine, 2)
