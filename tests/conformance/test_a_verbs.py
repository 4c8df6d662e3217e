"""What every engine promises to producers and people."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from actors import AT_ONCE, Clock, die, in_child, sit

from dbbasic_queue import ConfigError, JobExists
from dbbasic_queue.engines import open_engine
from dbbasic_queue.engines.answers import Limits
from dbbasic_queue.engines.interface import Engine, Order, Outcome

NONE = dict.fromkeys(("pending", "processing", "completed", "failed", "cancelled"), 0)


NOW = int(Clock().now)


def order(job_id: str, job_type: str = "mail", due: int = NOW, keyed: bool = False) -> Order:
    return Order(job_id, job_type, f'{{"n": "{job_id}"}}', due, keyed)


def add(engine: Engine, *orders: Order) -> int:
    return engine.add(orders, int(engine.now()))


def finish(engine: Engine, status: str, count: int = 1) -> None:
    """Take and end the next jobs."""
    seat = sit(engine)
    outcome = None
    for number in range(count + 1):
        attempt = seat.turn(outcome, number < count)
        if attempt is not None:
            outcome = Outcome(attempt, status, int(engine.now()), "E: x" * (status == "failed"))
    seat.leave()


# -- addresses -------------------------------------------------------------------------------------


def test_a_second_engine_at_the_address_sees_the_same(engine: Engine, address: str) -> None:
    """Nothing is kept in the object."""
    add(engine, order("a1"))
    assert open_engine(address).find("a1") == engine.find("a1")


def test_an_unknown_scheme_is_refused_and_names_those_known() -> None:
    """Nothing is taken for a path that is meant as a URL."""
    with pytest.raises(ConfigError, match="no engine for mysql; use a path or one of file:"):
        open_engine("mysql://user:secret@host/db")


def test_what_every_engine_says_of_itself(engine: Engine) -> None:
    """Where it is, and what it can."""
    assert engine.url
    assert engine.can <= {"edit", "file", "fsck", "server", "slots"}
    assert ("server" in engine.can) == (engine.server() is not None)
    assert ("file" in engine.can) == isinstance(engine.path, Path)


# -- adding ----------------------------------------------------------------------------------------


def test_jobs_are_there_when_they_were_added(engine: Engine, clock: Clock) -> None:
    """All their fields, alone and in a batch."""
    assert add(engine, order("a1")) == 1
    assert add(engine, order("b2"), order("c3", "report", due=int(clock.now) + 9)) == 2
    job = engine.find("c3")
    assert job is not None
    assert job._asdict() == {
        "id": "c3",
        "type": "report",
        "payload": {"n": "c3"},
        "status": "pending",
        "created_at": int(clock.now),
        "run_at": int(clock.now) + 9,
        "attempts": 0,
        "error": None,
        "result": None,
    }
    assert [job.id for job in engine.jobs()] == ["a1", "b2", "c3"]
    assert engine.find("nobody") is None
    assert engine.find("not an id\n") is None


def test_a_key_adds_one_job_for_good(engine: Engine) -> None:
    """Alone and in a batch, also when the job has ended."""
    assert add(engine, order("key", keyed=True)) == 1
    assert add(engine, order("key", keyed=True)) == 0
    finish(engine, "completed")
    assert add(engine, order("key", keyed=True), order("b2"), order("b3", keyed=True)) == 2
    assert engine.counts() == {**NONE, "pending": 2, "completed": 1}


def test_a_key_with_another_job_raises_and_adds_nothing(engine: Engine) -> None:
    """Another type or payload, alone and in a batch."""
    add(engine, order("key", keyed=True))
    for other in (order("key", "other", keyed=True), Order("key", "mail", "{}", 0, True)):
        with pytest.raises(JobExists, match="key"):
            add(engine, other)
        with pytest.raises(JobExists, match="key"):
            add(engine, order("b2"), other)
    assert engine.counts() == {**NONE, "pending": 1}


def test_an_empty_batch_adds_nothing(engine: Engine) -> None:
    """And is not an error."""
    assert add(engine) == 0


# -- by hand ---------------------------------------------------------------------------------------


def test_only_what_waits_is_cancelled(engine: Engine) -> None:
    """True once; a job that runs or has ended stays what it is."""
    add(engine, order("a1"))
    assert engine.cancel("a1", "because") is True
    job = engine.find("a1")
    assert job is not None
    assert (job.status, job.error) == ("cancelled", "because")
    assert engine.cancel("a1") is engine.cancel("nobody") is False
    add(engine, order("b2"))
    finish(engine, "completed")
    assert engine.cancel("b2") is False


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_what_ended_badly_is_put_back(engine: Engine, status: str, clock: Clock) -> None:
    """Due now, with no attempts counted."""
    add(engine, order("a1"))
    if status == "failed":
        finish(engine, "failed")
    else:
        engine.cancel("a1")
    clock.now += 5
    assert engine.retry("a1") is True
    job = engine.find("a1")
    assert job is not None
    assert (job.status, job.attempts, job.run_at) == ("pending", 0, int(clock.now))
    assert engine.retry("a1") is engine.retry("nobody") is False


def test_failed_jobs_are_put_back_by_type(engine: Engine) -> None:
    """Or all of them; their ids are told."""
    add(engine, order("a1"), order("b2", "report"), order("c3"))
    finish(engine, "failed", 3)
    assert engine.retry_failed("report") == ["b2"]
    assert sorted(engine.retry_failed()) == ["a1", "c3"]
    assert engine.counts() == {**NONE, "pending": 3}


def test_old_jobs_are_removed_by_state_and_age(engine: Engine, clock: Clock) -> None:
    """Those that ended that long ago, and no others; a dry run only counts."""
    add(engine, order("old"), order("bad"))
    finish(engine, "completed")
    finish(engine, "failed")
    clock.now += 100
    add(engine, order("young"), order("waits", due=int(clock.now) + 1000))
    finish(engine, "completed")
    assert engine.prune({"completed": 50}, dry_run=True) == 1
    assert engine.prune({"completed": 50}) == 1
    assert sorted(job.id for job in engine.jobs()) == ["bad", "waits", "young"]
    assert engine.prune({"completed": 0, "failed": 0}) == 2


# -- looking ---------------------------------------------------------------------------------------


def test_jobs_are_listed_by_state_and_type(engine: Engine) -> None:
    """In any combination."""
    add(engine, order("a1"), order("b2", "report"), order("c3"))
    engine.cancel("c3")
    assert [job.id for job in engine.jobs(["pending"])] == ["a1", "b2"]
    assert [job.id for job in engine.jobs(["pending", "cancelled"], "mail")] == ["a1", "c3"]
    assert list(engine.jobs(["failed"])) == []


def test_a_long_list_has_each_job_once_while_they_move(engine: Engine) -> None:
    """Those that are cancelled, taken or put back meanwhile too; and it begins with the first."""
    ids = [f"a{number:04}" for number in range(1300)]
    add(engine, *(order(job_id, due=NOW + number % 2) for number, job_id in enumerate(ids)))
    listed = engine.jobs()
    first = next(listed).id
    assert first == "a0000"
    assert engine.cancel("a0002")
    assert engine.cancel("a1298")
    finish(engine, "completed", 3)
    rest = [job.id for job in listed]
    assert sorted([first, *rest]) == ids


def test_the_numbers_agree(engine: Engine, clock: Clock) -> None:
    """`counts`, `stats`, `snapshot` and `running` say the same of one queue."""
    assert engine.counts() == NONE
    add(engine, order("done"), order("runs"), order("waits"), order("later", due=2_000_000_000))
    finish(engine, "completed")
    attempt = sit(engine).turn()
    assert attempt is not None
    clock.now += 30
    stats = engine.stats()
    assert stats.jobs == engine.counts() == {**NONE, "completed": 1, "processing": 1, "pending": 2}
    assert stats.ready == 1
    assert stats.last_run is not None
    now = int(clock.now)
    found = engine.snapshot(Limits(now, now - 3600, now - 3600, now - 3600, names=5))
    assert (found.counts, found.ready, found.running, found.stuck) == (stats.jobs, 1, 1, 0)
    (running,) = engine.running()
    assert (running.job, running.alive) == (attempt.job, True)
    assert running.process in (os.getpid(), None)


def test_a_dead_worker_is_seen(engine: Engine) -> None:
    """At once, in each way of looking."""
    add(engine, order("a1"))

    def begin_and_die() -> None:
        sit(engine).turn()
        die()

    assert in_child(begin_and_die) < 0
    (running,) = engine.running()
    assert running.alive is False
    now = int(engine.now())
    assert engine.snapshot(Limits(now, now - 3600, now - 3600, now - 3600, names=5)).stuck == 1
    assert [each.job.id for each in sit(engine).rescue(3, AT_ONCE)] == ["a1"]
