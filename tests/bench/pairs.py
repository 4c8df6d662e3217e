"""This library and plain RQ in turns on one server, in one process: the time of one by the other's.

A machine that is busy slows both alike, so that the ratio holds where the times do not.

    python pairs.py URL ROUNDS    # prints {"put": [ratio, ...], "work": [ratio, ...]}
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable
from typing import Any

import redis
import rq
from server_actor import NAME, Ours

JOBS = 40  # in a round
NOTHING = "pairs.nothing"  # RQ takes no function of a program's main module


def nothing(payload: dict[str, Any]) -> None:
    """What every job does."""


class Pair:
    """Two queues on one server."""

    def __init__(self, url: str) -> None:
        self.ours = Ours(url).queue
        self.connection = redis.Redis.from_url(url)
        self.theirs = rq.Queue(NAME, connection=self.connection)

    def put(self) -> tuple[Callable[[], object], Callable[[], object]]:
        """What adds one job, here and there."""
        return (
            lambda: self.ours.enqueue("note", {"at": 0.0}),
            lambda: self.theirs.enqueue(NOTHING, {"at": 0.0}),
        )

    def work(self) -> tuple[Callable[[], object], Callable[[], object]]:
        """What works off all jobs, here and there."""

        def drain() -> None:
            worker = rq.SimpleWorker([self.theirs], connection=self.connection)
            worker.work(burst=True, logging_level="ERROR")

        return lambda: self.ours.process_jobs({"note": nothing}), drain


def ratio(pair: tuple[Callable[[], object], Callable[[], object]], times: int, turn: int) -> float:
    """The time of the first by that of the second, in turns; who is first, says `turn`."""
    spent = [0.0, 0.0]
    for number in range(times):
        for place in (0, 1) if (turn + number) % 2 else (1, 0):
            began = time.perf_counter()
            pair[place]()
            spent[place] += time.perf_counter() - began
    return spent[0] / spent[1]


def main(url: str, rounds: str) -> None:
    """Print the ratios of all rounds."""
    logging.disable(logging.CRITICAL)
    pair = Pair(url)
    found: dict[str, list[float]] = {"put": [], "work": []}
    for number in range(int(rounds) + 1):
        put, work = ratio(pair.put(), JOBS, number), ratio(pair.work(), 1, number)
        if number:  # the first round imports and connects
            found["put"].append(put)
            found["work"].append(work)
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
