"""What pauses and policies by type cost a worker's turn: `python -m tests.bench.policies`.

Processor time of one process, on a table in memory, as a turn takes: one job ended, the next begun.
The rows take turns. Part of `make bench`; by itself, it prints its table in half a minute.
"""

from __future__ import annotations

import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from dbbasic_queue import Policy, Queue, Rate
from dbbasic_queue.engines.interface import Outcome, Policies

from .figures import Figure, figure

ROUNDS = 5
JOBS = 20_000
MANY = 100_000
PLENTY = Rate(100_000, 1, 100_000)  # so many that no job waits
PLAIN = "nothing is said of it"
ALL_THREE = "with a priority, a limit and a rate"
TYPES = [f"type-{number}" for number in range(50)]


class Case(NamedTuple):
    """Jobs of some types, and what was said to the queue of them."""

    types: list[str]
    jobs: int
    policies: Mapping[str, Policy] = MappingProxyType({})
    paused: str = ""


def turns(folder: str, case: Case) -> float:
    """Seconds of processor time a turn, to work off those jobs, from the first one on."""
    types, jobs, policies, paused = case
    queue = Queue(Path(folder) / "queue.tsv", "normal")
    queue.enqueue_many([(types[number % len(types)], {"n": number}) for number in range(jobs)])
    if paused:
        queue.pause(paused)
    seat = queue.engine.seat()
    assert seat is not None
    seat.govern(Policies(policies))
    began = time.process_time()
    attempt, count = seat.turn(), 0
    while attempt is not None:
        count += 1
        attempt = seat.turn(Outcome(attempt, "completed", int(time.time())))
    took = time.process_time() - began
    seat.leave()
    if count != jobs:
        raise RuntimeError(f"{count} of {jobs} jobs were begun")
    return took / jobs


def cases() -> dict[str, Case]:
    """What is measured, by the name of its row."""
    one = ["mail"]
    ranks = {name: Policy(priority=number % 7) for number, name in enumerate(TYPES)}
    many = f"among {MANY:,} due jobs of {len(TYPES)} types"
    limited = Policy(priority=5, concurrency=2)
    return {
        PLAIN: Case(one, JOBS),
        "another type is paused": Case(one, JOBS, paused="report"),
        "with a priority": Case(one, JOBS, {"mail": Policy(priority=5)}),
        "with an expiry": Case(one, JOBS, {"mail": Policy(expires=86_400)}),
        "with a priority and a limit": Case(one, JOBS, {"mail": limited}),
        ALL_THREE: Case(one, JOBS, {"mail": limited._replace(rate=PLENTY)}),
        f"{many}, by time": Case(TYPES, MANY),
        f"{many}, by priority": Case(TYPES, MANY, ranks),
    }


def measure(rounds: int) -> dict[str, Figure]:
    """The seconds of a turn, by the name of the row."""
    took = defaultdict(list)
    for _ in range(rounds):
        for name, case in cases().items():
            with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
                took[name].append(turns(folder, case))
    return {name: figure(values) for name, values in took.items()}


if __name__ == "__main__":
    from .report import control

    print(control(measure(ROUNDS)))
