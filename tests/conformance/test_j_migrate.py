"""J: a queue moves while producers and workers are live at both ends, and the mover is killed."""

from __future__ import annotations

import itertools
import os
import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from actors import AT_ONCE, Diary, join, start

from dbbasic_queue import Queue
from dbbasic_queue.engines.moving import departed
from dbbasic_queue.migrate import move

KILLS = int(os.environ.get("DBQ_KILLS", "200")) // 16
LIVE = 8.0  # seconds


def produce(address: str, name: str, added: Diary, until: float) -> None:
    """Add jobs: with a key and without, singly and in batches, due now and soon."""
    queue = Queue(address, "normal")
    for number in itertools.count():
        if time.time() > until:
            return
        later = time.time() + random.random() * 3 if number % 4 == 0 else None
        words = [f"{name}-{number}-{each}" for each in range(3 if number % 7 == 0 else 1)]
        if len(words) > 1:
            queue.enqueue_many([("x", {"word": word}, later) for word in words])
        else:
            key = words[0] if number % 3 == 0 else None
            queue.enqueue("x", {"word": words[0]}, later, job_id=key)
        for word in words:
            added.add(word)
        time.sleep(0.002)


def work(address: str, name: str, ran: Diary) -> None:
    """Work until killed; every tenth job fails once."""
    failed: set[str] = set()

    def run(payload: dict[str, Any]) -> None:
        word = payload["word"]
        if word.endswith("9-0") and word not in failed:
            failed.add(word)
            raise ValueError("once")
        ran.add(name, word)

    Queue(address, "normal").process_jobs({"x": run}, 1000, linger=10**6, backoff=AT_ONCE)


def follow(old: str, new: str) -> None:
    """What `dbq migrate --follow` does, until killed."""
    move.BATCH = 50
    source, target = Queue(old, "normal").engine, Queue(new, "normal").engine
    move.move(source, target)
    while True:
        move.move_waiting(source, target)
        time.sleep(0.01)


@pytest.mark.parametrize("order", [("old", "new"), ("new", "old")], ids=["there", "and-back"])
def test_nothing_is_lost_and_nothing_runs_twice(
    address: str,
    other_address: str,
    order: tuple[str, str],
    tmp_path: Path,
    figure: Callable[..., None],
) -> None:
    """A mover that is killed again and again moves every job, or leaves it to a worker there."""
    ends = {"old": address, "new": other_address}
    if order == ("new", "old"):  # the notes of a first way are there
        first = Queue(address, "normal")
        first.enqueue_many([("x", {"word": f"first-{n}"}) for n in range(100)])
        move.move(first.engine, Queue(other_address, "normal").engine)
    old, new = (ends[name] for name in order)
    added, ran = Diary(tmp_path / "added"), Diary(tmp_path / "ran")
    workers = [start(work, old, "old", ran), start(work, new, "new", ran)]
    until = time.time() + LIVE
    producers = [start(produce, old, "o", added, until), start(produce, new, "n", added, until)]
    kills = 0
    while time.time() < until:
        mover = start(follow, old, new)
        mover.join(random.uniform(0.2, 2 * LIVE / KILLS))
        assert mover.is_alive()
        mover.kill()
        mover.join()
        kills += 1
    join(*producers)
    source, target = Queue(old, "normal").engine, Queue(new, "normal").engine
    workers[0].kill()  # as `finish` wants it: what it had in hand is a dead worker's
    workers[0].join()
    died = Queue(old, "normal").process_jobs({}, 1000, types=[], backoff=AT_ONCE).rescued
    move.finish(source, target, 0)
    expected = set(added.lines()) | {f"first-{n}" for n in range(100 * (order[0] == "new"))}
    end = time.monotonic() + 120
    while expected - (done := {line.split()[1] for line in ran.lines()}):
        assert time.monotonic() < end, f"never run: {sorted(expected - done)[:5]}"
        time.sleep(0.1)
    workers[1].kill()
    workers[1].join()
    times = Counter(line.split()[1] for line in ran.lines())
    twice = [word for word, count in times.items() if count > 1]
    by = Counter(line.split()[0] for line in ran.lines())
    figure(kills=kills, jobs=len(times), twice=len(twice), ran_at_each_end=dict(by))
    assert len(twice) <= died  # of the worker that was killed at the end, not of the mover
    assert not [job for job in source.jobs() if departed(job) is not None]
