"""L: what a worker keeps in memory does not grow with the jobs that it has done.

Counted in what Python has allocated, not in what the system has given the process.
"""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from dbbasic_queue import Queue
from dbbasic_queue.engines.tsv import waiting
from dbbasic_queue.worker.tally import Tally

FIRST, LAST = 300, 1300  # jobs done when it is measured
SHORTEST = 40  # bytes of the shortest text, to keep one of which a job would be too much


@pytest.fixture
def measure(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], int]]:
    """How many bytes are allocated, once the worker has handed over what it has noted.

    That is done once a minute, and for ids of jobs at a million: here, much earlier.
    """
    tallies: list[Tally] = []
    make = Tally.__init__

    def made(tally: Tally, *args: Any) -> None:
        make(tally, *args)
        tallies.append(tally)

    monkeypatch.setattr(Tally, "__init__", made)
    monkeypatch.setattr(waiting, "_MANY", FIRST // 3)

    def measure() -> int:
        (tally,) = tallies
        tally.save()
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    yield measure
    tracemalloc.stop()


def test_a_worker_keeps_nothing_of_the_jobs_that_it_has_done(
    address: str, measure: Callable[[], int], caplog: pytest.LogCaptureFixture
) -> None:
    """One after another, each added by the one before, so that as many wait all the time."""
    caplog.set_level("CRITICAL", "dbbasic_queue")  # pytest keeps what is logged
    queue = Queue(address, "normal")
    bytes_at: dict[int, int] = {}

    def handle(payload: dict[str, int]) -> dict[str, int]:
        number = payload["number"]
        if number in (FIRST, LAST):
            bytes_at[number] = measure()
        if number < LAST:
            queue.enqueue("x", {"number": number + 1})
        if number % 10 == 5:
            raise ValueError(f"job {number}")
        return payload

    queue.enqueue("x", {"number": 1})
    done = queue.process_jobs({"x": handle}, max_attempts=1)
    assert (done.completed, done.failed) == (LAST * 9 // 10, LAST // 10)
    assert bytes_at[LAST] - bytes_at[FIRST] < SHORTEST * (LAST - FIRST)
