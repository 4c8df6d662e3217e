"""One reading of a queue: all that the report, `dbq top` and the page show, and nothing drawn yet.

    Reader(queue, check=…, advice=…).read()  -> Reading
        └─ the health check: the verdict and why, the numbers       health/judge.py
        └─ one pass over the jobs that have not ended well:
           failures by type and error, the jobs of each type, what is due next
        └─ what runs, since when and how far                        engines/interface.py

Times are Unix seconds by the queue's clock, lengths of time are seconds. Types, errors and words of
progress were chosen by strangers and stand here as they are: who draws them escapes them, for HTML
or for a terminal, once.
"""

from __future__ import annotations

import heapq
import re
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from ..engines.failures import Failures, group
from ..engines.history import History, Times
from ..engines.history import Hour as PastHour
from ..engines.pausing import matches
from ..engines.progress import progress_of
from ..errors import QueueError
from ..health.advice import Advice
from ..health.report import HealthReport
from ..install.schedules import Scheduled
from ..job import FAILED, PENDING, PROCESSING, Job
from ..queue import Queue

HOURS: Final = 48  # of which a reading tells how many jobs ended
NEXT: Final = 10  # jobs that wait and are named
LONGEST: Final = 160  # characters of a glob in a command
_PARTS: Final = re.compile(r"\[.\]|.", re.DOTALL)  # of a glob: what it matches one by one


@dataclass(frozen=True, slots=True)
class Failing:
    """Jobs of one type that failed in one way, and the command that tries them again."""

    kind: Failures
    retry: str  # for a shell
    payload: Any = None  # of the last of them, where payloads are shown


@dataclass(frozen=True, slots=True)
class RunningJob:
    """A job that a worker has in hand."""

    id: str
    type: str
    since: int
    attempt: int  # from 1
    alive: bool | None  # its worker; None: this user cannot ask
    process: int | None  # its worker's id, where it can be told
    share: float | None = None  # how far it is, from 0 to 1, if it has said so
    words: str = ""  # and what it said
    payload: Any = None  # where payloads are shown


@dataclass(frozen=True, slots=True)
class WaitingJob:
    """A job that is pending: one of those that are due first."""

    id: str
    type: str
    due: int
    attempts: int  # begun so far
    error: str = ""  # of the last of them


@dataclass(frozen=True, slots=True)
class Hour:
    """How many attempts ended in one hour, by outcome."""

    start: int
    completed: int = 0
    retried: int = 0  # failed, and tried again
    failed: int = 0  # for good


@dataclass(frozen=True, slots=True)
class Spread:
    """Where the half, and all but one in twenty, of some lengths of time end."""

    p50: float
    p95: float


@dataclass(frozen=True, slots=True)
class TypeSeen:
    """The jobs of one type: those that are there now, and those that ended in the last `HOURS`."""

    type: str
    pending: int
    processing: int
    failed: int
    paused: bool = False
    ended: int = 0  # attempts
    wait: Spread | None = None  # from being due to being begun; None where it is not known
    run: Spread | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """A queue at one moment.

    Where the queue could not be read, `health` says why, and everything else is empty.
    """

    queue: str  # its name by the config, or its address, without a password
    at: int
    health: HealthReport
    counts: Mapping[str, int]  # jobs by state
    ready: int
    waited: int  # how long the oldest ready job has been ready; 0 where none is
    failures: tuple[Failing, ...]  # most first
    running: tuple[RunningJob, ...]  # longest first
    waiting: tuple[WaitingJob, ...]  # the first `NEXT` that are due
    hours: tuple[Hour, ...]  # the oldest first; empty where nothing is known of them
    schedules: tuple[Scheduled, ...]
    types: tuple[TypeSeen, ...]  # by name
    size: int  # bytes
    last_run: int | None  # when a worker was last at work; now, if one is; None: never
    paused: tuple[str, ...]  # types, or globs of types
    notes: tuple[str, ...]  # what could not be read, a sentence each
    cost: float  # seconds that the reading took
    state: object  # of the engine before it, for `Reader.has_changed`


class Reader:
    """Reads one queue, as often as it is asked.

    Args:
        queue: to be read.
        check: judges its health.
        advice: the commands to type next, for this queue.
        scheduled: tells what the clock starts; None if no config says it.
        hide: takes what is secret from a job as `Job.as_dict` gives it.
        hide_error: takes it from a job's error, such that its glob still matches.
        payloads: whether a reading has them.

    >>> import tempfile
    >>> from functools import partial
    >>> from dbbasic_queue.health.judge import check_health
    >>> queue = Queue(tempfile.mkdtemp() + "/queue.tsv")
    >>> _ = queue.enqueue("mail", {})
    >>> advice = Advice(["--file", "queue.tsv"])
    >>> reading = Reader(queue, check=partial(check_health, queue.path), advice=advice).read()
    >>> reading.ready, [(each.type, each.pending) for each in reading.types]
    (1, [('mail', 1)])
    """

    def __init__(
        self,
        queue: Queue,
        *,
        check: Callable[[], HealthReport],
        advice: Advice,
        scheduled: Callable[[], Iterable[Scheduled]] | None = None,
        hide: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
        hide_error: Callable[[Job], Job] | None = None,
        payloads: bool = False,
    ) -> None:
        self.queue = queue
        self._check = check
        self.advice = advice
        self._scheduled = scheduled
        self._hide = hide or (lambda job: job)
        self.hide_error = hide_error or (lambda job: job)
        self._payloads = payloads

    def has_changed(self, reading: Reading) -> bool:
        """Say whether a job has changed since then: costs next to nothing, unlike a reading.

        That a worker came or went, or that a job fell due, changes no job. Of a queue on a server
        it is always said, as to look there costs no more than to ask.
        """
        return self.queue.engine.state() != reading.state

    def read(self) -> Reading:
        """Read all of it. Reads only, and holds nothing up.

        Raises `StorageError` where the queue goes away during it; one that could not be read at
        all is told by the verdict.
        """
        began = time.perf_counter()
        state = self.queue.engine.state()
        health = self._check()
        snapshot = health.snapshot
        seen = _Pass()
        notes: list[str] = []
        failures: tuple[Failing, ...] = ()
        if snapshot is not None:
            failures = tuple(map(self.failing, group(self._failed(seen))))
        paused = self.paused(notes) if snapshot else ()
        history = self._history(health.at, notes) if snapshot else History()
        return Reading(
            queue=health.queue,
            at=health.at,
            health=health,
            counts=snapshot.counts if snapshot else {},
            ready=snapshot.ready if snapshot else 0,
            waited=health.latency or 0,
            failures=failures,
            running=self._running() if snapshot else (),
            waiting=seen.waiting(),
            hours=_hours(history, health.at),
            schedules=self._schedules(notes),
            types=seen.types(paused, history),
            size=snapshot.size if snapshot else 0,
            last_run=health.last_run,
            paused=paused,
            notes=tuple(notes),
            cost=time.perf_counter() - began,
            state=state,
        )

    def _failed(self, seen: _Pass) -> Iterator[Job]:
        """Yield the jobs that have failed, after all that are read have been counted."""
        for job in self.queue.engine.jobs((FAILED, PENDING, PROCESSING)):
            shown = self.hide_error(job) if job.error else job
            seen.take(shown)
            if job.error and job.status != PROCESSING:
                yield shown

    def failing(self, kind: Failures) -> Failing:
        """Return what is shown of jobs that failed in one way."""
        payload = None
        if self._payloads:
            job = self.queue.find_job(kind.example)
            payload = job and self._hide(job.as_dict())["payload"]
        return Failing(kind, self._retry(kind), payload)

    def _retry(self, kind: Failures) -> str:
        """The command that puts back the jobs of one kind."""
        states = [FAILED, PENDING] if kind.waiting < kind.number else [PENDING]
        words = [word for state in states for word in ("--status", state)] if kind.waiting else []
        for option, value in (("--type", _plain(kind.type)), ("--error", _plain(kind.glob))):
            words += [f"{option}={value}"] if value.startswith("-") else [option, value]
        return self.advice.dbq("retry", *words)

    def _running(self) -> tuple[RunningJob, ...]:
        found = (self.running_job(*each) for each in self.queue.engine.running())
        return tuple(sorted(found, key=lambda each: (each.since, each.id)))

    def paused(self, notes: list[str]) -> tuple[str, ...]:
        """Return the types and globs that are paused; what is wrong is added to `notes`."""
        try:
            return tuple(pause.type for pause in self.queue.paused())
        except QueueError as error:
            notes.append(f"what is paused could not be read: {error}")
            return ()

    def _history(self, now: int, notes: list[str]) -> History:
        """What workers did in the last hours; what is wrong is added to `notes`."""
        try:
            return self.queue.history(since=now - (HOURS - 1) * 3600)
        except QueueError as error:
            notes.append(f"what workers did could not be read: {error}")
            return History()

    def running_job(self, job: Job, alive: bool | None, process: int | None) -> RunningJob:
        """Return what is shown of a job that runs, as `Engine.running` tells it."""
        shown = self._hide(job.as_dict())
        progress = progress_of(job.status, shown["result"])
        return RunningJob(
            id=job.id,
            type=job.type,
            since=job.run_at,
            attempt=job.attempts,
            alive=alive,
            process=process,
            share=progress.share if progress else None,
            words=progress.text if progress else "",
            payload=shown["payload"] if self._payloads else None,
        )

    def _schedules(self, notes: list[str]) -> tuple[Scheduled, ...]:
        try:
            return tuple(self._scheduled()) if self._scheduled else ()
        except QueueError as error:
            notes.append(f"the schedules could not be read: {error}")
            return ()


def _plain(glob: str) -> str:
    """A glob that a terminal and a page show as it is, and of a length that is read.

    It may match a little more than the one that it is made of.

    >>> _plain("E: a\\x1bb"), len(_plain("E: " + "x" * 1000))
    ('E: a?b', 161)
    """
    parts = _PARTS.findall(glob)
    cut = [*parts[:LONGEST], "*"] if len(parts) > LONGEST else parts
    return "".join(part if part.isprintable() else "?" for part in cut)


def waiting_job(job: Job) -> WaitingJob:
    """Return what is shown of a job that waits."""
    return WaitingJob(job.id, job.type, job.run_at, job.attempts, job.error or "")


def _hours(history: History, now: int) -> tuple[Hour, ...]:
    """The last hours of a history; empty where it has none."""
    if not history:
        return ()
    return tuple(
        Hour(each.start, each.completed, each.retried, each.failed)
        for each in history.by_hour(now, HOURS)
    )


def _ended(hour: PastHour) -> int:
    return hour.completed + hour.retried + hour.failed + hour.cancelled


def _spread(times: Times) -> Spread | None:
    half, most = times.quantile(0.5), times.quantile(0.95)
    return Spread(half, most) if half is not None and most is not None else None


class _Pass:
    """What is kept of the jobs that are read one after the other."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()
        self._first: list[tuple[int, str, Job]] = []  # a heap, the last of those kept first

    def take(self, job: Job) -> None:
        self._counts[job.type, job.status] += 1
        if job.status != PENDING:
            return
        if len(self._first) < NEXT:
            heapq.heappush(self._first, (-job.run_at, job.id, job))
        elif -job.run_at > self._first[0][0]:
            heapq.heapreplace(self._first, (-job.run_at, job.id, job))

    def waiting(self) -> tuple[WaitingJob, ...]:
        jobs = (job for _, _, job in self._first)
        return tuple(map(waiting_job, sorted(jobs, key=lambda job: (job.run_at, job.id))))

    def types(self, paused: Collection[str], history: History) -> tuple[TypeSeen, ...]:
        counts, past = self._counts, {hour.type: hour for hour in history.by_type()}
        return tuple(
            TypeSeen(
                type=name,
                pending=counts[name, PENDING],
                processing=counts[name, PROCESSING],
                failed=counts[name, FAILED],
                paused=any(matches(name, glob) for glob in paused),
                ended=_ended(past[name]) if name in past else 0,
                wait=_spread(past[name].waited) if name in past else None,
                run=_spread(past[name].ran) if name in past else None,
            )
            for name in sorted({name for name, _ in counts} | past.keys())
        )
