"""One measurement in a process of its own, printed as JSON.

python -m tests.bench.measure enqueue|work|fill|share ENGINE FOLDER [options]
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from .engines import ENGINES, Engine, Stopwatch

SECONDS = 0.4  # that a measurement lasts
WARM_UP = 20


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["enqueue", "work", "fill", "share"])
    parser.add_argument("engine", choices=ENGINES)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=0, help="jobs to fill in")
    parser.add_argument("--role", choices=["enqueue", "work"], help="of a share")
    parser.add_argument("--begin", type=float, default=0, help="time.time() at which shares begin")
    parser.add_argument("--limit", type=int, default=5000, help="jobs that are counted at most")
    parser.add_argument("--seconds", type=float, default=SECONDS)
    arguments = parser.parse_args()
    engine = ENGINES[arguments.engine](arguments.folder)
    if arguments.what == "fill":
        began = time.perf_counter()
        if arguments.count:
            engine.fill(arguments.count)
        print(json.dumps({"seconds": time.perf_counter() - began, "bytes": engine.bytes_used()}))
    elif arguments.what == "enqueue":
        print(json.dumps(enqueue(engine, arguments.limit, arguments.seconds)))
    elif arguments.what == "work":
        print(json.dumps(work(engine, arguments.limit, arguments.seconds)))
    else:
        print(json.dumps(share(engine, arguments.role, arguments.begin, arguments.seconds)))


def enqueue(engine: Engine, limit: int, seconds: float) -> dict[str, float]:
    """Seconds a job that is added."""
    for _ in range(WARM_UP):
        engine.enqueue()
    count = 0
    began = time.perf_counter()
    while count < limit:
        engine.enqueue()
        count += 1
        if count % 10 == 0 and time.perf_counter() - began > seconds:
            break
    return {"cost": (time.perf_counter() - began) / count, "count": count}


def work(engine: Engine, limit: int, seconds: float) -> dict[str, float]:
    """Seconds a job that is taken and finished."""
    watch = Stopwatch(limit, seconds)
    began = time.perf_counter()
    engine.work(watch)
    return {"cost": watch.cost(), "count": watch.count, "first": watch.first - began}


def share(engine: Engine, role: str, begin: float, seconds: float) -> dict[str, float]:
    """How many jobs one of several processes gets done in the same seconds."""
    time.sleep(max(0.0, begin - time.time()))
    count = 0
    if role == "work":
        watch = Stopwatch(10**9, seconds)
        engine.work(watch)
        return {"count": watch.count, "seconds": max(seconds, watch.last - watch.first)}
    began = time.perf_counter()
    while time.perf_counter() - began < seconds:
        engine.enqueue()
        count += 1
    return {"count": count, "seconds": time.perf_counter() - began}


if __name__ == "__main__":
    main()
