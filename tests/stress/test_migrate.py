"""A move between queues that is killed at each of its steps, from each engine to each."""

from __future__ import annotations

import itertools
import os
from collections import Counter
from pathlib import Path

import pytest
from actors import Clock, queue_by
from mortal import Killed, Mortal
from redis_server import RedisServer

from dbbasic_queue import Queue
from dbbasic_queue.migrate import move
from dbbasic_queue.migrate.move import finish

ENGINES = ("file", "redis")
_numbers = itertools.count(1)


def address(request: pytest.FixtureRequest, name: str) -> str:
    """Where a queue is that has no jobs yet, by the engine that the test is given."""
    if request.param == "file":
        folder: Path = request.getfixturevalue("tmp_path")
        return f"file:{folder}/{name}.tsv"
    server: RedisServer = request.getfixturevalue("server")
    return server.url(f"{name}{os.getpid()}-{next(_numbers)}")


@pytest.fixture(params=ENGINES)
def old_address(request: pytest.FixtureRequest) -> str:
    return address(request, "old")


@pytest.fixture(params=ENGINES)
def new_address(request: pytest.FixtureRequest) -> str:
    return address(request, "new")


@pytest.mark.parametrize("way", ["move", "finish"])
def test_killed_at_any_step_no_job_is_lost_and_none_runs_twice(
    old_address: str, new_address: str, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers at both ends after each kill; a second run of the same command ends it."""
    monkeypatch.setattr(move, "BATCH", 4)
    clock = Clock()
    old, new = queue_by(clock, old_address), queue_by(clock, new_address)
    added: list[str] = []
    ran: Counter[str] = Counter()

    def work(queue: Queue) -> None:
        queue.process_jobs({"ok": lambda payload: ran.update([payload["id"]])}, limit=1)

    def counted(queue: Queue) -> int:
        return sum(hour.completed for hour in queue.history())

    def go(life: list[int]) -> None:
        source, target = Mortal(old.engine, life), Mortal(new.engine, life)
        if way == "move":
            move.move(source, target)  # type: ignore[arg-type]
        else:
            finish(source, target, 0)  # type: ignore[arg-type]

    for step in range(1, 1000):
        for number in range(9):
            key = f"k{step}-{number}"
            added.append(old.enqueue("ok", {"id": key}, job_id=key))
        try:
            go([step])
        except Killed:
            work(old)
            work(new)
            if old.engine.closed_for():
                go([-1])
                old.engine.close_for("")
        else:
            break
        clock.now += 1
    assert step > 10
    move.move(old.engine, new.engine)
    new.process_jobs({"ok": lambda payload: ran.update([payload["id"]])})
    assert ran == Counter(added)
    assert old.count_jobs()["pending"] == new.count_jobs()["pending"] == 0
    finish(old.engine, new.engine, 0)
    assert (counted(old), counted(new)) == (0, len(added))
