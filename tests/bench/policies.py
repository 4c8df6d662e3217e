"""What pauses and policies by type cost a worker's turn: `python -m tests.bench.policies`.

Processor time of one process, on a table in memory, as a turn takes: one job ended, the next begun.
Prints Markdown: microseconds, the least of `ROUNDS`.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from dbbasic_queue import Policy, Queue, Rate
from dbbasic_queue.engines.interface import Outcome, Policies

ROUNDS = 5
JOBS = 20_000
MANY = 100_000
PLENTY = Rate(100_000, 1, 100_000)  # so many that no job waits
TYPES = [f"type-{number}" for number in range(50)]


def turns(folder: str, types: list[str], jobs: int, policies: Policies, paused: str = "") -> float:
    """Seconds of processor time a turn, to work off that many jobs, from the first one on."""
    queue = Queue(Path(folder) / "queue.tsv", "normal")
    queue.enqueue_many([(types[number % len(types)], {"n": number}) for number in range(jobs)])
    if paused:
        queue.pause(paused)
    seat = queue.engine.seat()
    assert seat is not None
    seat.govern(policies)
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


def least(types: list[str], jobs: int, policies: dict[str, Policy], paused: str = "") -> str:
    """The least of some rounds, in microseconds."""
    found = []
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
            found.append(turns(folder, types, jobs, Policies(policies), paused))
    return f"{min(found) * 1e6:.1f}"


def main() -> None:
    """Measure, and print a table."""
    one = ["mail"]
    ranks = {name: Policy(priority=number % 7) for number, name in enumerate(TYPES)}
    rows = {
        "no policy, nothing paused": least(one, JOBS, {}),
        "another type is paused": least(one, JOBS, {}, paused="report"),
        "with a priority": least(one, JOBS, {"mail": Policy(priority=5)}),
        "with an expiry": least(one, JOBS, {"mail": Policy(expires=86_400)}),
        "with a priority and a limit": least(
            one, JOBS, {"mail": Policy(priority=5, concurrency=2)}
        ),
        "with a priority, a limit and a rate": least(
            one, JOBS, {"mail": Policy(priority=5, concurrency=2, rate=PLENTY)}
        ),
        f"{MANY:,} due jobs of {len(TYPES)} types, by time": least(TYPES, MANY, {}),
        f"{MANY:,} due jobs of {len(TYPES)} types, by priority": least(TYPES, MANY, ranks),
    }
    print("| a turn | µs |\n|---|--:|")
    for name, figure in rows.items():
        print(f"| {name} | {figure} |")


if __name__ == "__main__":
    main()
