"""A connection that breaks at any message: each call does its work once, and says what it did."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from actors import AT_ONCE
from cutting import Wire
from redis_server import RedisServer

from dbbasic_queue.engines import open_engine
from dbbasic_queue.engines.interface import Engine, Order, Outcome
from dbbasic_queue.engines.moving import note_of

NONE = dict.fromkeys(("pending", "processing", "completed", "failed", "cancelled"), 0)
_names = (f"w{os.getpid()}-{number}" for number in itertools.count(1))


def order(job_id: str, keyed: bool = False) -> Order:
    return Order(job_id, "mail", "{}", 5, keyed)


@pytest.fixture
def wire(server: RedisServer) -> Iterator[Wire]:
    with Wire(server.port) as wire:
        yield wire


def added(engine: Engine) -> tuple[Any, dict[str, int]]:
    engine.add([order("b2")], 5)
    return engine.find("b2"), {"pending": 2}


def added_by_key(engine: Engine) -> tuple[Any, dict[str, int]]:
    engine.add([order("b2", keyed=True), order("c3")], 5)
    return engine.find("b2"), {"pending": 3}


def cancelled(engine: Engine) -> tuple[Any, dict[str, int]]:
    return engine.cancel("a1"), {"cancelled": 1}


def put_back(engine: Engine) -> tuple[Any, dict[str, int]]:
    engine.cancel("a1")
    return engine.retry("a1"), {"pending": 1}


def withdrawn(engine: Engine) -> tuple[Any, dict[str, int]]:
    found = engine.withdraw(5, lambda job: note_of(job, "X"))
    return [(job.id, job.status) for job in found] == [("a1", "pending")], {"cancelled": 1}


def adopted(engine: Engine) -> tuple[Any, dict[str, int]]:
    job = engine.find("a1")
    assert job is not None
    jobs = [job._replace(id="b2", status="failed", error="E: x"), job]
    return engine.adopt(jobs) == 1, {"pending": 1, "failed": 1}


def claimed(engine: Engine) -> tuple[Any, dict[str, int]]:
    return engine.claim_slot("shop/nightly", 5, order("b2", keyed=True)), {"pending": 2}


def worked(engine: Engine) -> tuple[Any, dict[str, int]]:
    seat = engine.seat()
    assert seat is not None
    attempt = seat.turn()
    assert attempt is not None
    assert attempt.job.attempts == 1
    assert seat.turn(Outcome(attempt, "completed", 5, result='"x"')) is None
    seat.leave()
    job = engine.find("a1")
    assert job is not None
    return job.result == "x", {"completed": 1}


def rescued(engine: Engine) -> tuple[Any, dict[str, int]]:
    seat = engine.seat()
    assert seat is not None
    assert seat.turn() is not None
    seat.leave()
    other = engine.seat()
    assert other is not None
    other.rescue(3, AT_ONCE)
    other.leave()
    job = engine.find("a1")
    assert job is not None
    return (job.status, job.attempts) == ("pending", 1), {"pending": 1}


def pruned(engine: Engine) -> tuple[Any, dict[str, int]]:
    engine.cancel("a1")
    engine.prune({"cancelled": 0})
    return True, {}


WORKS = (
    *(added, added_by_key, cancelled, put_back, withdrawn, adopted),
    *(claimed, worked, rescued, pruned),
)


@pytest.mark.parametrize("late", [False, True], ids=["unheard", "unanswered"])
@pytest.mark.parametrize("work", WORKS, ids=lambda work: work.__name__)
def test_a_cut_at_any_message_changes_nothing(
    wire: Wire, server: RedisServer, work: Callable[[Engine], Any], late: bool
) -> None:
    """Whether the server heard the message that the cut came at, or only its answer was lost."""
    for number in range(1, 100):
        name = next(_names)
        direct = open_engine(server.url(name), "normal")
        direct.add([order("a1")], 5)
        engine = open_engine(
            f"redis://127.0.0.1:{wire.port}/0?name={name}", "normal", clock=lambda: 1000
        )
        wire.cut(number, late=late)
        answer, counts = work(engine)
        assert answer, f"cut at message {number}"
        assert direct.counts() == NONE | counts, f"cut at message {number}"
        if not wire.was_cut:
            break
    else:
        pytest.fail("a call of a hundred messages")
