"""What an engine tells those who look: a queue in numbers, its jobs in portions, its server."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from ..job import Job
from .policies import NONE, Policies

if TYPE_CHECKING:
    from .pausing import Pause


class Running(NamedTuple):
    """A job that is processing, and what is known of its worker."""

    job: Job
    alive: bool | None  # None: this user cannot ask
    process: int | None = None  # the worker's id, where it can be told


class Stats(NamedTuple):
    """The state of a queue in numbers."""

    jobs: dict[str, int]  # by state
    ready: int  # pending and due
    latency: int  # seconds since the oldest of them was due
    last_run: float | None  # Unix seconds: when a worker was last at work; None: never
    size: int  # bytes that the engine keeps
    paused: tuple[Pause, ...] = ()


class Limits(NamedTuple):
    """Which jobs a snapshot names; times in Unix seconds."""

    now: int
    stuck_before: int  # processing since before then
    overdue_before: int  # pending, due before then, and its type held back by nothing since then
    failed_since: int  # failed then or later
    names: int  # how many of a kind to name
    policies: Policies = NONE  # whose limits and rates hold jobs back, as far as they are known


class Stuck(NamedTuple):
    """A job that is processing, but should not be any more."""

    job: Job
    orphaned: bool  # its worker is dead; otherwise it has run for too long


class BadLine(NamedTuple):
    """A line that is not a row, by its number from 1, and why not."""

    number: int
    why: str


class Snapshot(NamedTuple):
    """A queue in numbers, and the first few jobs of each kind to report.

    Times are Unix seconds. Where there are more jobs than were to be named, the lists are shorter
    than the numbers say: the longest processing, the longest due, the last failed.
    """

    counts: dict[str, int]  # jobs by state
    ready: int
    oldest_ready: int | None  # when the first of them was due
    overdue: int
    overdue_jobs: tuple[Job, ...]
    stuck: int
    stuck_jobs: tuple[Stuck, ...]
    running: int  # processing, and a worker is at it
    unknown: str  # why it is not known whether workers are at it; empty if it is
    failed: int  # lately
    failed_jobs: tuple[Job, ...]
    failed_first: int | None  # the first of those
    ahead: int  # jobs with a time that is yet to come, but is that of an event
    ahead_jobs: tuple[Job, ...]
    malformed: int
    bad_lines: tuple[BadLine, ...]
    last_success: int | None
    last_run: float | None  # of a worker
    written: float  # when the queue was last written
    size: int  # bytes
    paused: tuple[Pause, ...] = ()  # whose jobs are not overdue
    blocked: str = ""  # who holds up all writers, in a sentence; empty if no process does


class Shortfall(NamedTuple):
    """Where a server keeps jobs less safely than was asked for."""

    refused: bool  # no job is added or run there; otherwise this is a warning
    text: str  # one sentence: what is wrong
    lines: tuple[str, ...] = ()  # to be added to the server's configuration


class Peer(NamedTuple):
    """A worker at the engine's server, on whatever host."""

    name: str
    host: str
    process: int
    here: bool  # on this host, where it can be asked
    types: frozenset[str] | None  # which it has handlers for; None: it has not said


class Server(NamedTuple):
    """What a server says of itself. Times in seconds, sizes in bytes."""

    software: str  # "Redis 7.0.15"
    client: str  # "rq 3.0.0, redis 6.1.0"
    skew: float  # how far this host's clock is ahead of the server's
    lease: float  # after which a worker that was not heard of has lost its job
    memory: int
    memory_limit: int  # 0: none
    workers: tuple[Peer, ...]
    lag: str = ""  # what is wrong with its last write, in a sentence
    identity: str = ""  # of the queue: the same by whatever address; "": not told


class Portion(NamedTuple):
    """Some of the jobs of a queue, for who looks at them again and again."""

    key: object  # equals an earlier one only if the jobs are the same as they were then
    # Reads them: how many there are in each state, and those that are in the states asked for.
    read: Callable[[], tuple[dict[str, int], list[Job]]]
