"""A reading that is kept up: only what has changed of the queue is read anew.

Theory of operation
-------------------
A whole reading (reading.py) looks at each job that is not completed, which takes some tenths of a
second for 100,000 of them: too much for each second. So `Follower` makes one now and then, above
all for the verdict, and in between puts what changes into it: what is counted, runs, waits and
failed. It asks the engine for the jobs in portions, keeps what it has made of each, and reads those
whose key is new. Where nothing has changed since, only the time goes on.

A server does not say which jobs have changed, so all of it is one portion, which takes seconds for
100,000 jobs. What a server counts itself, and what runs there, is asked for on its own.

Each of these is put off for `SHARE` times as long as it took, so that all together take a small
part of a processor however long the queue is; what is shown is older then.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from heapq import merge, nsmallest
from itertools import islice
from typing import Final

from ..engines.answers import Portion, Stats
from ..engines.failures import group
from ..engines.failures import merge as merged
from ..engines.pausing import matches
from ..job import FAILED, PENDING, PROCESSING, Job
from .reading import NEXT, Reader, Reading, RunningJob, TypeSeen, waiting_job

SECOND: Final = 1.0
WHOLE: Final = 15.0  # seconds between two whole readings at least
SHARE: Final = 60  # one part in so many of the time, for each of the things that take some
LOOKED_AT: Final = (FAILED, PENDING, PROCESSING)


class Follower:
    """Keeps a reading of one queue up.

    Args:
        reader: makes the whole readings.
        clock: seconds, for when to do what.
        cost: seconds that this process has worked.
    """

    def __init__(
        self,
        reader: Reader,
        clock: Callable[[], float] = time.monotonic,
        cost: Callable[[], float] = time.thread_time,
    ) -> None:
        self._reader = reader
        self._engine = reader.queue.engine
        self._clock = clock
        self._cost = cost
        self._reading: Reading | None = None
        self._known: dict[object, _Part] = {}  # of each portion, by its key
        self._parts: list[_Part] = []
        self._workers: dict[tuple[str, int], tuple[bool | None, int | None]] = {}
        self._next = dict.fromkeys(("whole", "parts", "numbers", "workers"), 0.0)
        self._numbers: Stats | None = None  # of a server
        self._state: object = None
        self.read = 0  # portions that were read anew, so far

    def hurry(self) -> None:
        """Have the next `look` read all that has changed."""
        self._next = dict.fromkeys(self._next, 0.0)
        self._state = None

    def look(self) -> Reading:
        """Return a reading of now. Raises `StorageError` where the queue goes away meanwhile."""
        whole = self._reading
        if whole is None or self._due("whole"):
            began = self._cost()
            whole = self._reading = self._reader.read()
            self._put_off("whole", WHOLE, began)
        if whole.health.snapshot is None:  # which says why there is nothing to see
            return whole
        if self._due("parts"):
            began, first = self._cost(), self._engine.path and not self._parts
            self._look_at_portions()
            # The first look reads all of a file, which says nothing of what the next one takes.
            self._put_off("parts", SECOND, self._cost() if first else began)
        return self._kept_up(whole)

    def _due(self, what: str) -> bool:
        return self._clock() >= self._next[what]

    def _put_off(self, what: str, least: float, began: float) -> None:
        # A little less than a second, as who asks each second does not do so to the microsecond.
        took = SHARE * (self._cost() - began)
        self._next[what] = self._clock() + max(0.9 * least, took)

    def _look_at_portions(self) -> None:
        state = self._engine.state() if self._engine.path else object()
        if state == self._state:
            return
        self._state = state
        fresh: dict[object, _Part] = {}
        self._parts = []
        for portion in self._engine.portions(LOOKED_AT):
            part = self._known.get(portion.key)
            if part is None:
                self.read += 1
                part = _Part(portion, self._reader.hide_error)
            fresh[portion.key] = part
            self._parts.append(part)
        self._known = fresh
        self._merge()

    def _merge(self) -> None:
        """Put together what is told of the portions."""
        parts = self._parts
        self._counts: Counter[str] = Counter()
        self._types: Counter[tuple[str, str]] = Counter()
        for part in parts:
            self._counts.update(part.counts)
            self._types.update(part.types)
        self._pauses = self._reader.paused([])
        self._running = [job for part in parts for job in part.running]
        found = merged(each for part in parts for each in part.failures)
        self._failures = tuple(map(self._reader.failing, found))
        first = merge(*(part.waiting for part in parts), key=_due_first)
        self._waiting = tuple(waiting_job(job) for job in islice(first, NEXT))

    def _kept_up(self, whole: Reading) -> Reading:
        now = int(self._engine.now())
        counts, ready, waited = self._look_at_numbers(now)
        names = sorted({name for name, _ in self._types} | {each.type for each in whole.types})
        kept = {each.type: each for each in whole.types}
        types = self._types
        return replace(
            whole,
            at=now,
            counts={status: counts[status] for status in whole.counts},
            ready=ready,
            waited=waited,
            failures=self._failures,
            running=self._look_at_workers(),
            waiting=self._waiting,
            paused=self._pauses,
            types=tuple(
                replace(
                    kept.get(name) or TypeSeen(name, 0, 0, 0),
                    paused=any(matches(name, glob) for glob in self._pauses),
                    pending=types[name, PENDING],
                    processing=types[name, PROCESSING],
                    failed=types[name, FAILED],
                )
                for name in names
            ),
        )

    def _look_at_numbers(self, now: int) -> tuple[Mapping[str, int], int, int]:
        """Jobs by state, how many are ready, and for how long the oldest of those has been."""
        if self._engine.path:
            ready = sum(bisect_right(part.due, now) for part in self._parts)
            oldest = min((part.due[0] for part in self._parts if part.due), default=now)
            return self._counts, ready, max(0, now - oldest) if ready else 0
        if self._numbers is None or self._due("numbers"):
            began = self._cost()
            self._numbers = self._engine.stats()
            self._put_off("numbers", SECOND, began)
        return self._numbers.jobs, self._numbers.ready, self._numbers.latency

    def _look_at_workers(self) -> tuple[RunningJob, ...]:
        """What runs, and whether its workers live, which is asked anew only now and then."""
        if self._due("workers") and (self._running or not self._engine.path):
            began = self._cost()
            found = self._engine.running(self._running)
            if not self._engine.path:
                self._running = [it.job for it in found]
            self._workers = {(it.job.id, it.job.run_at): (it.alive, it.process) for it in found}
            self._put_off("workers", SECOND, began)
        jobs = sorted(self._running, key=lambda job: (job.run_at, job.id))
        return tuple(
            self._reader.running_job(job, *self._workers.get((job.id, job.run_at), (True, None)))
            for job in jobs
        )


class _Part:
    """What is made of the jobs of one portion."""

    def __init__(self, portion: Portion, hide: Callable[[Job], Job]) -> None:
        self.counts, jobs = portion.read()
        shown = [hide(job) if job.error else job for job in jobs]
        pending = [job for job in shown if job.status == PENDING]
        self.types = Counter((job.type, job.status) for job in shown)
        self.running = [job for job in jobs if job.status == PROCESSING]
        self.due = sorted(job.run_at for job in pending)
        self.waiting = nsmallest(NEXT, pending, key=_due_first)
        self.failures = group(shown)


def _due_first(job: Job) -> tuple[int, str]:
    return job.run_at, job.id
