"""What every engine promises of jobs in portions: all of them, and keys that tell of changes."""

from __future__ import annotations

from collections import Counter

from dbbasic_queue.engines.answers import Portion
from dbbasic_queue.engines.interface import Engine, Order
from dbbasic_queue.job import FAILED, PENDING, PROCESSING

STATES = (FAILED, PENDING, PROCESSING)


def add(engine: Engine, *ids: str) -> None:
    now = int(engine.now())
    engine.add([Order(job_id, "mail", "{}", now, keyed=True) for job_id in ids], now)


def portions(engine: Engine) -> list[Portion]:
    return list(engine.portions(STATES))


def test_portions_have_all_jobs(engine: Engine) -> None:
    """Each job that is asked for is in one of them, and each is counted once."""
    add(engine, "a1", "a2", "a3", "a4")
    engine.cancel("a2")
    seat = engine.seat()
    assert seat is not None
    seat.turn()
    counts: Counter[str] = Counter()
    jobs = []
    for portion in portions(engine):
        number, found = portion.read()
        counts.update(number)
        jobs += found
    seat.leave()
    assert {status: counts[status] for status in engine.counts()} == {
        **engine.counts(),
        PROCESSING: 1,
    }
    assert sorted((job.id, job.status) for job in jobs) == [
        ("a1", PROCESSING),
        ("a3", PENDING),
        ("a4", PENDING),
    ]


def test_a_change_changes_a_key(engine: Engine) -> None:
    """Where a job was added or changed, there is a portion with a key that was not there."""
    add(engine, "a1")
    before = {portion.key for portion in portions(engine)}
    engine.cancel("a1")
    cancelled = {portion.key for portion in portions(engine)}
    assert cancelled - before
    add(engine, "a2")
    assert {portion.key for portion in portions(engine)} - cancelled


def test_what_runs_is_told_of_known_jobs(engine: Engine) -> None:
    """The caller may name the jobs that run: the answer is the same as without."""
    add(engine, "a1", "a2")
    seat = engine.seat()
    assert seat is not None
    seat.turn()
    found = engine.running()
    assert [each.job.id for each in found] == ["a1"]
    assert engine.running([each.job for each in found]) == found
    seat.leave()
