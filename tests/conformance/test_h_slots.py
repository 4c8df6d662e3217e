"""H: the slots of recurring jobs, each had once over all servers."""

from __future__ import annotations

import os
from pathlib import Path

from actors import Clock, Diary, join, start
from redis_server import RedisServer

from dbbasic_queue.engines import open_engine
from dbbasic_queue.engines.interface import Engine, Order

FIRST = 1_700_000_000
SLOTS = 100


def claim(engine: Engine, number: int) -> bool:
    job = Order(f"nightly-{number}", "report", "{}", FIRST + 60 * number, True)
    return engine.claim_slot("shop/nightly", FIRST + 60 * number, job)


def test_eight_askers_have_each_slot_once(server: RedisServer, tmp_path: Path) -> None:
    """Also when its job is done and pruned since."""
    address, diary = server.url(f"h{os.getpid()}"), Diary(tmp_path / "won")

    def ask() -> None:
        engine = open_engine(address, "normal")
        for number in range(SLOTS):
            if claim(engine, number):
                diary.add(number)

    join(*[start(ask) for _ in range(8)])
    assert diary.count() == {str(number): 1 for number in range(SLOTS)}
    engine = open_engine(address, "normal")
    assert engine.counts()["pending"] == SLOTS
    for job in engine.jobs():
        engine.cancel(job.id)
    assert engine.prune({"cancelled": 0}) == SLOTS
    assert not any(claim(engine, number) for number in range(SLOTS))
    assert engine.counts()["pending"] == 0
    assert engine.slots() == {"shop/nightly": FIRST + 60 * (SLOTS - 1)}


def test_a_slot_claimed_by_a_clock_that_was_ahead_silences_nothing(server: RedisServer) -> None:
    """The one before it counts, when the clock is right again."""
    clock = Clock(FIRST)
    engine = open_engine(server.url(f"i{os.getpid()}"), "normal", clock=clock)
    assert claim(engine, 0)
    clock.now += 10**8
    assert engine.claim_slot("shop/nightly", FIRST + 10**8, None)
    clock.now = FIRST + 60
    assert engine.slots() == {"shop/nightly": FIRST}
    assert claim(engine, 1)
    assert not claim(engine, 1)
    assert not claim(engine, 0)


def test_a_slot_that_is_marked_only_adds_no_job(server: RedisServer) -> None:
    """As one that was over before its job was first seen."""
    engine = open_engine(server.url(f"j{os.getpid()}"), "normal")
    assert engine.claim_slot("shop/weekly", FIRST, None)
    assert not engine.claim_slot("shop/weekly", FIRST, Order("a1", "x", "{}", FIRST, True))
    assert engine.counts()["pending"] == 0
