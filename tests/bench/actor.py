"""One process of one engine: it prepares, says so, waits for the word, and notes each moment.

    python tests/bench/actor.py ENGINE OPERATION FOLDER COUNT SECONDS

Prints "ready", reads a line, and prints what it saw as a line of JSON. A worker says "ready" from
inside its first handler: so opening files and reading a table is over when the clock starts.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from adapters import ENGINES, Engine, payload, peak_memory


def main() -> None:
    name, operation, folder, count, seconds = sys.argv[1:]
    began = time.perf_counter()
    engine = ENGINES[name](Path(folder))
    answer = OPERATIONS[operation](engine, int(count), float(seconds), began)
    print(json.dumps({**answer, "peak": peak_memory()}), flush=True)


def wait_for_the_word() -> float:
    """Say so, and wait for the moment that the word names, the same for all processes."""
    print("ready", flush=True)
    moment = float(sys.stdin.readline())
    time.sleep(max(moment - time.perf_counter(), 0))
    return moment


def seed(engine: Engine, count: int, seconds: float, began: float) -> dict[str, Any]:
    engine.seed(count)
    return {"seconds": time.perf_counter() - began}


def put(engine: Engine, count: int, seconds: float, began: float) -> dict[str, Any]:
    """Put `count` jobs, noting the moment after each."""
    first = os.getpid() * 1_000_000
    engine.put(payload(first))  # opens the file
    start = wait_for_the_word()
    moments: list[float] = []
    for number in range(first + 1, first + 1 + count):
        engine.put(payload(number))
        now = time.perf_counter()
        moments.append(now)
        if now > start + seconds:
            break
    return {"start": start, "moments": moments}


def work(engine: Engine, count: int, seconds: float, began: float) -> dict[str, Any]:
    """Work on `count` jobs after the first, noting the moment each handler begins."""
    start = first = 0.0
    moments: list[float] = []
    numbers: list[int] = []

    def handler(item: Any) -> None:
        nonlocal start, first
        numbers.append(item["n"])
        if start:
            moments.append(time.perf_counter())
        else:
            first = time.perf_counter()
            start = wait_for_the_word()

    engine.work(handler, count + 1, seconds)
    if not start:
        start = wait_for_the_word()  # others have taken them all
    return {"start": start, "moments": moments, "numbers": numbers, "opening": first - began}


def cold(engine: Engine, count: int, seconds: float, began: float) -> dict[str, Any]:
    """A worker that finds nothing to do."""
    engine.work(lambda item: None, 1, seconds)
    return {}


def find(engine: Any, count: int, seconds: float, began: float) -> dict[str, Any]:
    """Look the youngest job up, `count` times."""
    key = engine.put(payload(os.getpid()))
    took = []
    for _ in range(count):
        start = time.perf_counter()
        if not engine.find(key):
            raise RuntimeError(f"{engine.name} does not find {key}")
        took.append(time.perf_counter() - start)
    return {"took": took}


def listen(engine: Any, count: int, seconds: float, began: float) -> dict[str, Any]:
    """Wait for jobs that carry the moment of their enqueueing; note how late each begins."""
    late: list[float] = []
    wait_for_the_word()
    engine.listen(lambda item: late.append(time.perf_counter() - item["at"]), seconds)
    return {"late": late}


def speak(engine: Engine, count: int, seconds: float, began: float) -> dict[str, Any]:
    """Put `count` jobs spread over `seconds`, each with its moment."""
    wait_for_the_word()
    pauses = [0.5 + (number * 0.618) % 1 for number in range(count)]  # uneven, in no rhythm
    for pause in pauses:
        time.sleep(pause * seconds / sum(pauses))
        engine.put({"n": count, "at": time.perf_counter()})
    return {}


OPERATIONS = {
    "seed": seed,
    "put": put,
    "work": work,
    "cold": cold,
    "find": find,
    "listen": listen,
    "speak": speak,
}

if __name__ == "__main__":
    main()
