"""What is asked of this queue alone, and of the disk; each in a process of its own, as JSON.

python -m tests.bench.figures disk|batch|lookup|memory|worker|latency FOLDER [ENGINE]
"""

from __future__ import annotations

import fcntl
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .engines import ENGINES, PAYLOAD, Ours

ROUNDS = 300
ROW = 250  # bytes, about what a job takes
LATENCIES = 150
BATCH = 100_000


def main(what: str, folder: str, engine: str = "") -> None:
    """Measure, and print."""
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    measures: dict[str, Callable[[], dict[str, float]]] = {
        "disk": lambda: disk(path),
        "batch": lambda: batch(path),
        "lookup": lambda: lookup(path),
        "memory": lambda: memory(path),
        "worker": lambda: worker(path, engine),
        "latency": lambda: latency(path, engine),
    }
    print(json.dumps(measures[what]()))


def _median(function: Callable[[], Any], rounds: int = ROUNDS) -> float:
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        function()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def disk(folder: Path) -> dict[str, float]:
    """What the disk itself takes: fdatasync after a write in place, and after an append.

    `floor` is the least that a safe enqueue could cost: lock, append, unlock, fdatasync.
    """
    fd = os.open(folder / "disk", os.O_RDWR | os.O_CREAT | os.O_APPEND)
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT)
    times = []
    os.pwrite(fd, b"x" * 65536, 0)
    for _ in range(ROUNDS):
        os.pwritev(fd, [b"x" * ROW], 0)
        began = time.perf_counter()
        os.fdatasync(fd)
        times.append(time.perf_counter() - began)

    def append() -> None:
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.write(fd, b"x" * ROW)
        fcntl.flock(lock, fcntl.LOCK_UN)
        os.fdatasync(fd)

    return {"fdatasync": statistics.median(times), "floor": _median(append)}


def batch(folder: Path) -> dict[str, float]:
    """Jobs a second through enqueue_many."""
    from dbbasic_queue import Queue

    queue = Queue(folder / "queue.tsv")
    jobs = [("mail", PAYLOAD)] * BATCH
    began = time.perf_counter()
    queue.enqueue_many(jobs)
    return {"rate": BATCH / (time.perf_counter() - began)}


def lookup(folder: Path) -> dict[str, float]:
    """get_job in a table of 100,000 rows: an unknown id, which is the worst, and known ones."""
    from dbbasic_queue import Queue

    queue = Queue(folder / "queue.tsv")
    names = queue.enqueue_many([("mail", PAYLOAD)] * 100_000)
    chance = random.Random(1)
    return {
        "unknown": _median(lambda: queue.get_job("0" * 16), 50),
        "known": _median(lambda: queue.get_job(chance.choice(names)), 100),
    }


def _resident() -> int:
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmRSS:")[1].split()[0])


def memory(folder: Path) -> dict[str, float]:
    """Resident bytes of a worker with one job, and with as many as the table in `folder` has."""
    from dbbasic_queue import Queue

    seen: list[int] = []
    small = Queue(folder / "small.tsv")
    small.enqueue("mail", PAYLOAD)
    small.process_jobs({"mail": lambda payload: seen.append(_resident())})
    large = Queue(folder / "queue.tsv")
    large.process_jobs({"mail": lambda payload: seen.append(_resident())}, limit=1)
    return {"base": seen[0], "resident": seen[1], "jobs": large.count_jobs()["pending"] + 1}


def worker(folder: Path, engine: str) -> dict[str, float]:
    """A worker that waits for jobs and notes when it starts each; ended by SIGTERM."""
    late: list[float] = []

    def handler(payload: Any) -> None:
        late.append(time.monotonic() - payload["at"])

    queue: Any = ENGINES[engine](folder)
    if isinstance(queue, Ours):
        signal.signal(signal.SIGTERM, lambda number, frame: None)
        print("ready", flush=True)
        queue.queue.process_jobs({"timed": handler}, linger=600)
    else:
        queue.huey.task(name="timed")(handler)
        consumer = queue.huey.create_consumer(workers=1, periodic=False)
        signal.signal(signal.SIGTERM, lambda number, frame: consumer.stop(graceful=True))
        print("ready", flush=True)
        consumer.start()
        signal.pause()
        time.sleep(0.2)
    late.sort()
    return {
        "p50": late[len(late) // 2],
        "p99": late[int(len(late) * 0.99)],
        "count": len(late),
    }


def latency(folder: Path, engine: str) -> dict[str, float]:
    """Seconds from enqueue to handler, with a waiting worker, a job now and then."""
    command = [sys.executable, "-m", "tests.bench.figures", "worker", str(folder), engine]
    chance = random.Random(2)
    queue: Any = ENGINES[engine](folder)
    if isinstance(queue, Ours):
        add = lambda: queue.queue.enqueue("timed", {"at": time.monotonic()})  # noqa: E731
    else:
        task = queue.huey.task(name="timed")(lambda payload: None)
        add = lambda: task({"at": time.monotonic()})  # noqa: E731
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.5)
        for _ in range(LATENCIES):
            add()
            time.sleep(0.02 + 0.06 * chance.random())
        time.sleep(1)
        process.send_signal(signal.SIGTERM)
        answer: dict[str, float] = json.loads(process.stdout.read())
    return answer


if __name__ == "__main__":
    main(*sys.argv[1:])
