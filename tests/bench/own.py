"""Our own figures with a target, each measured in a process of its own.

    python -m tests.bench.own OPERATION FOLDER ROWS

`ROWS` is how many the table in `FOLDER` has. Prints JSON: seconds, ratios, rates.
"""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dbbasic_queue import Queue

from . import least
from .actors import ROOT
from .adapters import TYPE, payload, payloads, peak_memory

BLOCK = 25  # operations in a row, before those they are compared with have their turn
BLOCKS = 12
NORMAL = 3000  # operations in normal
BATCH = 20_000  # jobs of enqueue_many


class Reference:
    """What no queue on this disk can do without: a lock, an append, a sync."""

    def __init__(self, folder: Path) -> None:
        flags = os.O_RDWR | os.O_CREAT
        self.lock = os.open(folder / "reference.lock", flags)
        self.log = os.open(folder / "reference.log", flags | os.O_APPEND)
        self.block = os.open(folder / "reference.block", flags)
        os.write(self.block, bytes(4096))
        os.fsync(self.block)

    def append(self) -> float:
        """Seconds of flock, append, unlock, fdatasync."""
        start = time.perf_counter()
        fcntl.flock(self.lock, fcntl.LOCK_EX)
        os.write(self.log, b"x" * 130 + b"\n")
        fcntl.flock(self.lock, fcntl.LOCK_UN)
        os.fdatasync(self.log)
        return time.perf_counter() - start

    def sync(self) -> float:
        """Seconds of fdatasync alone, after a write in place."""
        os.pwrite(self.block, b"y" * 64, 512)
        start = time.perf_counter()
        os.fdatasync(self.block)
        return time.perf_counter() - start


def timed(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def enqueues(queue: Queue, count: int) -> list[float]:
    """The seconds that each of so many enqueues took."""
    item, enqueue, clock = payload(1), queue.enqueue, time.perf_counter
    took = []
    for _ in range(count):
        start = clock()
        enqueue(TYPE, item)
        took.append(clock() - start)
    return took


def enqueue_normal(folder: Path, rows: int) -> dict[str, float]:
    queue = Queue(folder / "queue.tsv", durability="normal")
    queue.enqueue(TYPE, payload(0))
    took = enqueues(queue, NORMAL)
    return {"seconds": statistics.median(took)}


def enqueue_full(folder: Path, rows: int) -> dict[str, float]:
    queue = Queue(folder / "queue.tsv", durability="full")
    reference = Reference(folder)
    queue.enqueue(TYPE, payload(0))
    alone: list[float] = []
    took: list[float] = []
    for _ in range(BLOCKS):
        alone += [reference.append() for _ in range(BLOCK)]
        took += enqueues(queue, BLOCK)
    return _compared(took, alone)


def _compared(took: list[float], alone: list[float]) -> dict[str, float]:
    mine, least = statistics.median(took), statistics.median(alone)
    return {"seconds": mine, "alone": least, "ratio": mine / least}


class Gaps:
    """A handler that does nothing but note when it is called."""

    def __init__(self) -> None:
        times: list[float] = []
        note, clock = times.append, time.perf_counter
        self.times = times
        self.handler: Callable[[Any], None] = lambda item: note(clock())

    @property
    def found(self) -> list[float]:
        """The seconds from each call to the next."""
        return [later - earlier for earlier, later in itertools.pairwise(self.times)]


def take_normal(folder: Path, rows: int) -> dict[str, float]:
    queue = Queue(folder / "queue.tsv", durability="normal")
    count = min(NORMAL, rows - 1)
    gaps = Gaps()
    queue.process_jobs({TYPE: gaps.handler}, limit=count)
    queue.enqueue_many([(TYPE, item) for item in payloads(count)])
    return {"seconds": statistics.median(gaps.found)}


def take_full(folder: Path, rows: int) -> dict[str, float]:
    """The reference syncs before and after the worker's run of jobs, as both cannot run at once."""
    queue = Queue(folder / "queue.tsv", durability="full")
    reference = Reference(folder)
    alone: list[float] = []
    took: list[float] = []
    for _ in range(4):
        alone += [reference.sync() for _ in range(2 * BLOCK)]
        gaps = Gaps()
        queue.process_jobs({TYPE: gaps.handler}, limit=3 * BLOCK)
        took += gaps.found
        alone += [reference.sync() for _ in range(2 * BLOCK)]
    queue.enqueue_many([(TYPE, item) for item in payloads(12 * BLOCK)])
    return _compared(took, alone)


def least_enqueue(folder: Path, rows: int) -> dict[str, float]:
    """The system calls of an enqueue alone, with lines that are there already: see least.py."""
    place = folder / "least" / "queue.tsv"
    _some_rows(place, NORMAL)
    lines = place.read_bytes().splitlines(keepends=True)
    return {"seconds": statistics.median(least.append(place, lines))}


def least_normal(folder: Path, rows: int) -> dict[str, float]:
    """The system calls of a turn alone: see least.py."""
    gaps = Gaps()
    place = folder / "least" / "queue.tsv"
    least.work(place, _some_rows(place, NORMAL), gaps.handler, synced=False)
    return {"seconds": statistics.median(gaps.found)}


def least_full(folder: Path, rows: int) -> dict[str, float]:
    reference = Reference(folder)
    place = folder / "least" / "queue.tsv"
    offsets = _some_rows(place, 12 * BLOCK)
    alone: list[float] = []
    took: list[float] = []
    for block in range(4):
        alone += [reference.sync() for _ in range(2 * BLOCK)]
        gaps = Gaps()
        part = offsets[block * 3 * BLOCK : (block + 1) * 3 * BLOCK]
        least.work(place, part, gaps.handler, synced=True)
        took += gaps.found
        alone += [reference.sync() for _ in range(2 * BLOCK)]
    return _compared(took, alone)


def _some_rows(place: Path, count: int) -> list[int]:
    """The offsets of the rows of a new table."""
    shutil.rmtree(place.parent, ignore_errors=True)
    queue = Queue(place, durability="normal")
    queue.enqueue_many([(TYPE, item) for item in payloads(count)])
    return [row.offset for row in queue.engine.table.rows()]


def enqueue_many(folder: Path, rows: int) -> dict[str, float]:
    queue = Queue(folder / "many.tsv", durability="normal")
    jobs = [(TYPE, item) for item in payloads(BATCH)]
    took = timed(lambda: queue.enqueue_many(jobs))
    (folder / "many.tsv").unlink()
    return {"rate": BATCH / took}


def get_unknown(folder: Path, rows: int) -> dict[str, float]:
    queue = Queue(folder / "queue.tsv")
    took = [timed(lambda: queue.get_job("0123456789abcdef")) for _ in range(20)]
    return {"seconds": statistics.median(took), "worst": max(took)}


def memory(folder: Path, rows: int) -> dict[str, float]:
    """The most memory of a worker that reads the table and runs one job."""
    Queue(folder / "queue.tsv", durability="normal").process_jobs({TYPE: Gaps().handler}, limit=1)
    return {"peak": peak_memory()}


def seed(folder: Path, rows: int) -> dict[str, float]:
    queue = Queue(folder / "queue.tsv", durability="normal")
    for start in range(0, rows, 100_000):
        queue.enqueue_many([(TYPE, item) for item in payloads(min(100_000, rows - start))])
    return {}


OPERATIONS: dict[str, Callable[[Path, int], dict[str, float]]] = {
    "enqueue_normal": enqueue_normal,
    "enqueue_full": enqueue_full,
    "take_normal": take_normal,
    "take_full": take_full,
    "least_enqueue": least_enqueue,
    "least_normal": least_normal,
    "least_full": least_full,
    "enqueue_many": enqueue_many,
    "get_unknown": get_unknown,
    "memory": memory,
    "seed": seed,
}


def run(operation: str, folder: Path, rows: int) -> dict[str, float]:
    """Run an operation in a process of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.own", operation, str(folder), str(rows)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{operation} failed:\n{done.stderr}")
    found: dict[str, float] = json.loads(done.stdout)
    return found


if __name__ == "__main__":
    from . import growth

    OPERATIONS.update({name: getattr(growth, name) for name in growth.OPERATIONS})
    name, place, size = sys.argv[1:]
    print(json.dumps(OPERATIONS[name](Path(place), int(size))))
