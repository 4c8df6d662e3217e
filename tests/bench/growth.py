"""What grows with the table, and what does not: look-ups, the first job of a cold worker, a turn.

    python -m tests.bench.growth [ROWS ...]     a table of its own, in a minute

The table is one that has been in use: most of its jobs have ended, some have moved, and there are
dead lines and people's own keys in it.
"""

from __future__ import annotations

import itertools
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dbbasic_queue import Queue
from dbbasic_queue.job import COMPLETED
from dbbasic_queue.support.ids import new_id
from dbbasic_queue.table.line import HEADER, build_line

from . import own
from .adapters import TYPE
from .figures import Figure, figure

ROWS = (1_000, 10_000, 100_000, 1_000_000)
LOOKS = 500  # jobs that are looked up
KEYS = 5
PENDING = 10  # jobs behind all that have ended, for the cold worker
TURNS = 1000
APART = 0.05  # seconds between two jobs
OPERATIONS = ("look_up", "new_key", "cold", "turn")


def build(folder: Path, rows: int) -> None:
    """Write a table of so many jobs that have ended, as it looks after a while."""
    folder.mkdir(parents=True, exist_ok=True)
    chance, began = random.Random(rows), time.time() - rows * APART
    size = len(HEADER)
    with (folder / "queue.tsv").open("wb") as file:
        file.write(HEADER)
        for number in range(rows):
            moment = began + number * APART
            job_id = f"order-{number}" if chance.random() < 0.05 else new_id(moment)
            mark, result = (" ", "x" * 150) if chance.random() < 0.05 else ("", "ok")
            head = f'{job_id}\t{TYPE}\t{mark}{{"to": "{number}@example.com"}}'.encode()
            times = int(moment), int(moment) + 1
            line = build_line(size, head, COMPLETED, *times, 1, b"", f' "{result}"'.encode())
            if mark:  # what was left where it stood first
                line = b" " * 180 + b"\n" + line
            file.write(line)
            size += len(line)
    with Queue(folder / "queue.tsv").engine.table.writing():
        pass  # so the files beside it are there


def look_up(folder: Path, rows: int) -> dict[str, float]:
    """Seconds of `get_job`, of any jobs whose ids were generated."""
    queue = Queue(folder / "queue.tsv", durability="normal")
    ids = [job["id"] for job in queue.list_jobs() if not job["id"].startswith("order-")]
    chosen = random.Random(1).sample(ids, min(LOOKS, len(ids)))
    took = [own.timed(lambda job_id=job_id: queue.get_job(job_id)) for job_id in chosen]
    return {"seconds": statistics.median(took)}


def new_key(folder: Path, rows: int) -> dict[str, float]:
    """Seconds of an enqueue with a key that no job has."""
    queue = Queue(folder / "queue.tsv", durability="normal")
    keys = [f"key-{time.time_ns()}" for _ in range(KEYS)]
    took = [own.timed(lambda key=key: queue.enqueue(TYPE, {}, job_id=key)) for key in keys]
    for each in keys:
        queue.cancel_job(each)
    return {"seconds": statistics.median(took)}


def cold(folder: Path, rows: int) -> dict[str, float]:
    """Seconds until the first job begins, after another worker has left its hint."""
    place, began = folder / "queue.tsv", []
    Queue(place, durability="normal").process_jobs({TYPE: lambda payload: None})
    Queue(place, durability="normal").enqueue_many([(TYPE, {"n": 1})] * PENDING)
    start = time.perf_counter()
    handlers = {TYPE: lambda payload: began.append(time.perf_counter())}
    Queue(place, durability="normal").process_jobs(handlers)
    return {"seconds": began[0] - start}


def turn(folder: Path, rows: int) -> dict[str, float]:
    """Seconds of one job's end and the next one's begin, once all of the table was read."""
    queue, began = Queue(folder / "queue.tsv", durability="normal"), []
    queue.enqueue_many([(TYPE, {"n": 1})] * TURNS)
    queue.process_jobs({TYPE: lambda payload: began.append(time.perf_counter())})
    late = began[TURNS // 2 :]
    return {"seconds": statistics.median(b - a for a, b in itertools.pairwise(late))}


def measure(folder: Path, sizes: Sequence[int] = ROWS, rounds: int = 3) -> dict[str, Any]:
    """{"1000": {"look_up": Figure, …}, …}: each operation in a process of its own."""
    found: dict[str, dict[str, Figure]] = {}
    for rows in sizes:
        place = folder / str(rows)
        build(place, rows)
        found[str(rows)] = {
            name: figure([own.run(name, place, rows)["seconds"] for _ in range(rounds)])
            for name in OPERATIONS
        }
    return found


if __name__ == "__main__":
    from .report import growth

    with tempfile.TemporaryDirectory(dir=own.ROOT / ".cache") as made:
        print(growth(measure(Path(made), [int(size) for size in sys.argv[1:]] or ROWS)))
