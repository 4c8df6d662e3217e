"""The report of a health check: the numbers, the thresholds, what should be, what is wrong."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ..config.sections import HealthConfig
from ..engines.answers import Server, Snapshot
from ..engines.history import Hour
from ..engines.interface import AHEAD, NONE, Policies
from ..job import PENDING, Job
from ..schedule.recurring import RecurringJobs
from ..schedule.schedule import Schedule
from .measures import CRIT, FILE, MEASURES, RANGED, SERVER, WARN, Measure
from .thresholds import Range

# The states of a monitoring plugin, and its exit codes: Monitoring Plugins Development Guidelines.
OK: Final = 0
WARNING: Final = 1
CRITICAL: Final = 2
UNKNOWN: Final = 3
STATES: Final = ("OK", "WARNING", "CRITICAL", "UNKNOWN")
_BY_GRAVITY: Final = (OK, UNKNOWN, WARNING, CRITICAL)


@dataclass(frozen=True, slots=True)
class Thresholds:
    """When something is a reason to alarm a person.

    Args:
        ages: `stuck_after`, `overdue_after`, `silent_after` and `failed_within`, in seconds; a
            config's `[health]`, or its defaults.
        warning: ranges by name (see `RANGED`): a number outside its range is a WARNING.
        critical: ranges by name: a number outside its range is CRITICAL.

    By default any stuck job and any malformed line is CRITICAL, a failed job a WARNING and ten of
    them CRITICAL, an overdue job a WARNING.
    """

    ages: HealthConfig = field(default_factory=HealthConfig)
    warning: Mapping[str, Range] = field(default_factory=lambda: WARN)
    critical: Mapping[str, Range] = field(default_factory=lambda: CRIT)

    def state(self, name: str, value: float | None) -> int:
        """Return the state that a number of this name means."""
        for ranges, state in ((self.critical, CRITICAL), (self.warning, WARNING)):
            if value is not None and name in ranges and ranges[name].alerts(value):
                return state
        return OK


@dataclass(frozen=True, slots=True)
class Expectation:
    """What a config says should happen, whether or not a worker has left a trace yet.

    Args:
        since: Unix seconds; when the config was written.
        worker: when workers start.
        checks: when the health is checked, if it is.
        recurring: the recurring jobs that should be enqueued, if there are any.
        always: whether workers run on this machine all the time.
        log: the worker's log, if this process runs as the worker's user and so can tell whether
            it can be written.
        policies: of the types, whose limits and rates hold jobs back.
    """

    since: float
    worker: Schedule
    checks: Schedule | None = None
    recurring: RecurringJobs | None = None
    log: Path | None = None
    always: bool = False
    policies: Policies = NONE


@dataclass(frozen=True, slots=True)
class Named:
    """A job or a line that a finding names."""

    name: str  # `type id`, or `line 17`
    note: str
    id: str | None = None
    type: str | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong.

    Args:
        kind: stuck, failed, overdue, malformed, silent, recurring, log, clock, claims, unreadable,
            engine, durability, workers, textfile, history, check, or the name of a measure that is
            outside its range.
        state: WARNING, CRITICAL or UNKNOWN.
        summary: what, in a few words.
        since: Unix seconds, if it is known.
        named: the first few jobs or lines.
        count: how many there are in all.
        advice: what to do next, a sentence or a command each.
    """

    kind: str
    state: int
    summary: str
    since: int | None = None
    named: tuple[Named, ...] = ()
    count: int = 0
    advice: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class HealthReport:
    """What the check has found. `snapshot` is None when the queue could not be read."""

    queue: str  # the config's name, or the file's path, or the server's address
    path: Path  # of a queue in a file
    at: int  # Unix seconds
    thresholds: Thresholds
    snapshot: Snapshot | None
    last_run: int | None  # Unix seconds; now when a worker is at work
    findings: tuple[Finding, ...]
    next_check: int | None = None  # Unix seconds; when the config schedules one
    url: str | None = None  # of a queue on a server, without its password
    server: Server | None = None
    contact: int | None = None  # Unix seconds; when the server was last reached
    worked: tuple[Hour, ...] = ()  # what workers did, by type: for Prometheus only

    @property
    def kind(self) -> str:
        """Whether the queue is in a `FILE` or on a `SERVER`."""
        return FILE if self.url is None else SERVER

    @property
    def state(self) -> int:
        """The gravest state of all findings; one that is known is graver than UNKNOWN."""
        return max((finding.state for finding in self.findings), key=_BY_GRAVITY.index, default=OK)

    @property
    def latency(self) -> int | None:
        """For how many seconds the oldest ready job has been waiting; 0 when none is."""
        if self.snapshot is None:
            return None
        oldest = self.snapshot.oldest_ready
        return 0 if oldest is None else max(0, self.at - oldest)

    @property
    def silence(self) -> int | None:
        """How many seconds ago a worker was last at work; None if none ever was."""
        return None if self.last_run is None else max(0, self.at - self.last_run)

    @property
    def silent(self) -> bool:
        """Whether no worker has run for too long, where one should have."""
        return any(finding.kind == "silent" for finding in self.findings)

    @property
    def clock_behind(self) -> int | None:
        """By how many seconds the clock is behind the latest time recorded; 0 if it is not.

        Up to `AHEAD` seconds count as 0: clocks are corrected all the time.
        """
        snapshot = self.snapshot
        if snapshot is None:
            return None
        latest = max(
            snapshot.written, snapshot.last_run or 0, *(at for _, at in recorded_ahead(snapshot))
        )
        behind = int(latest) - self.at
        return behind if behind > AHEAD else 0

    def numbers(self) -> dict[str, int | None]:
        """Return all numbers by name, except the jobs by status; None for what is not known."""
        suitable = (each for each in MEASURES if each.in_json and each.suits(self))
        return {measure.name: self._number(measure) for measure in suitable}

    def number(self, name: str) -> int | None:
        """Return one of the numbers of `RANGED`."""
        return self._number(RANGED[name])

    def _number(self, measure: Measure) -> int | None:
        value = measure.value(self.snapshot, self)
        return value if isinstance(value, int) else None


def recorded_ahead(snapshot: Snapshot) -> Iterator[tuple[Job, int]]:
    """Yield the jobs whose recorded time is ahead of the clock, with that time."""
    for job in snapshot.ahead_jobs:
        yield job, job.created_at if job.status == PENDING else job.run_at


def local_time(moment: float) -> str:
    """Return a point in time, given in Unix seconds, as people read it.

    >>> len(local_time(0))
    19
    """
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment))
