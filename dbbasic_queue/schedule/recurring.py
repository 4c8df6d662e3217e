"""Recurring jobs: at most one job for each slot, however often it is asked for.

Theory of operation
-------------------
A *slot* is one of the times of a schedule. cron or systemd start `dbq enqueue-recurring NAME` at
each; what that enqueues is decided here, from the clock, the schedule and the mark of the last slot
that was dealt with (`marks.py`):

    mark                     the last slot, as seen now        what is done
    that slot or a later     any                               nothing; it was enqueued
    an earlier slot          any                               it is enqueued
    none                     just now                          it is enqueued
    none                     long ago                          it is marked only

So a second entry for the same job, a restart and `Persistent=` cannot double a slot; of several
slots missed one is made up for, the last; and what was due before a job was first seen, or before
its schedule was changed, is not. Whether anything asks after a missed slot is what `catch_up` in
the config is for: its entries ask again when the machine starts, and `catch_up` below asks whenever
a worker starts, which also finds what was missed while the machine slept, and the times that
systemd skips when the clock is put forward.

Both the job's id, the same for the same slot, and the mark guard a slot. The job is enqueued first,
the mark written then: a crash in between repeats an enqueue of the same id, which the queue
ignores.

A mark that is ahead of the clock was made while the clock was wrong: a mark is never later than
the time at which it is made. Then the slot before it, which the mark remembers, is the last; where
that is ahead, too, there is none. So a clock that was ahead once silences no job.

Jitter delays the job by its `run_at`, always as much on this host for this name.

Where a server keeps the queue, it keeps the marks, too: all machines ask it, and it gives each slot
to one of them, mark and job in one step. Its marks are of one schedule by their key. There the
jitter is the same on all hosts, since it is the first to ask whose job it is.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from ..errors import ConfigError, JobExists
from .clock import machine_zone
from .marks import AllMarks, Mark, Marks, locked, read
from .schedule import Schedule

log = logging.getLogger("dbbasic_queue")

ON_TIME = 120  # seconds: cron and systemd's AccuracySec= take up to a minute
SMALL_STEP = 120  # seconds by which a clock is put back now and then, by NTP or by hand
MACHINE_ID = Path("/etc/machine-id")


# `Queue.enqueue`, which ignores an id that the queue has already.
Enqueue = Callable[..., str]


@dataclass(frozen=True)
class RecurringJob:
    """One `[[recurring]]` job. `jitter` in seconds."""

    name: str
    type: str
    schedule: Schedule
    payload: dict[str, Any] = field(default_factory=dict)
    jitter: int = 0
    catch_up: bool = False
    enabled: bool = True


class RecurringJobs(NamedTuple):
    """All recurring jobs of one config: its path and name, and the file of their marks."""

    config: Path
    config_name: str
    jobs: tuple[RecurringJob, ...]
    marks: Path | None  # None: the queue's server keeps them

    def find(self, name: str) -> RecurringJob:
        """Return the job of this name. Raises `ConfigError`, which names those there are."""
        for job in self.jobs:
            if job.name == name:
                return job
        known = ", ".join(job.name for job in self.jobs) or "none"
        raise ConfigError(f"{self.config}: has no recurring job {name!r}; those it has: {known}")


class SlotJob(NamedTuple):
    """The job of a slot; `due` in Unix seconds."""

    id: str
    type: str
    payload: dict[str, Any]
    due: int


class SlotServer(Protocol):
    """A server that keeps the marks for all machines, by keys as `slot_key` makes them."""

    def slots(self) -> Mapping[str, int]:
        """The last slot of each key that was dealt with."""

    def claim(self, key: str, slot: int, job: SlotJob | None) -> bool:
        """Mark a slot and add its job, both or neither; False if that was done before."""


class Verdict(StrEnum):
    """What became of a slot."""

    ENQUEUED = "enqueued"
    KNOWN = "enqueued before"
    PAST = "over before this job was first seen, or its schedule changed"


class SlotResult(NamedTuple):
    """What became of one recurring job's last slot (in Unix seconds), and the id of its job."""

    name: str
    slot: int
    verdict: Verdict
    job_id: str


def slot(schedule: Schedule, now: int) -> int:
    """Return the last time of `schedule` that is not later than `now`; both in Unix seconds.

    >>> slot(Schedule.parse("*/5 * * * *"), 1_700_000_123)
    1700000100
    """
    return int(schedule.last_run(datetime.fromtimestamp(now, machine_zone())).timestamp())


def job_id(config_name: str, name: str, when: int) -> str:
    """Return the id of the job of the slot `when` (Unix seconds): `[A-Za-z0-9_-]{1,64}`.

    No two slots share one, for neither name holds `_`. Names that are too long are hashed.

    >>> job_id("myapp", "nightly-report", 1_704_067_200)
    'myapp_nightly-report_20240101T0000Z'
    """
    names = f"{config_name}_{name}"
    minute = datetime.fromtimestamp(when, UTC).strftime("%Y%m%dT%H%MZ")
    if len(names) + len(minute) > 63:
        import hashlib  # here, because a config is loaded each minute and needs none

        names = hashlib.sha256(names.encode()).hexdigest()[:32]
    return f"{names}_{minute}"


def slot_key(config_name: str, name: str, schedule: Schedule) -> str:
    """Return the key under which a server keeps the slots of one job on one schedule.

    >>> slot_key("shop", "nightly", Schedule.parse("@daily"))
    'shop/nightly/0 0 * * *'
    """
    return f"{config_name}/{name}/{schedule.cron()}"


def offset(config_name: str, name: str, jitter: int, host: str) -> int:
    """Return by how many seconds, from 0 to `jitter`, this job is later than its slots."""
    import hashlib

    digest = hashlib.sha256(f"{host}\0{config_name}\0{name}".encode()).digest()
    return int.from_bytes(digest[:8]) % (jitter + 1)


def enqueue_slot(
    jobs: RecurringJobs, name: str, enqueue: Enqueue, now: int, server: SlotServer | None = None
) -> SlotResult:
    """Enqueue the job of the last slot of the recurring job `name`, unless that has been done.

    Args:
        jobs: all of the config, for the marks of those that are no longer there are dropped.
        name: of one of them.
        enqueue: `Queue.enqueue` of the queue that the marks belong to.
        now: Unix seconds.
        server: what keeps the marks, if the queue is on a server; it adds the job itself.

    Raises `ConfigError` for a name that the config does not know, `StorageError` if the disk
    refuses, `TableError` for a damaged file of marks, and what `enqueue` raises.

    Example:
        queue = Queue(config.queue.file)
        enqueue_slot(config.recurring_jobs, "nightly-report", queue.enqueue, queue.now()).verdict
        # <Verdict.ENQUEUED: 'enqueued'>
    """
    job = jobs.find(name)
    if server is not None:
        return _claim(jobs, job, server, now, server.slots())
    with locked(_marks_of(jobs)) as marks:
        return _settle(jobs, job, enqueue, now, marks)


def catch_up(
    jobs: RecurringJobs, enqueue: Enqueue, now: int, server: SlotServer | None = None
) -> list[SlotResult]:
    """Enqueue what the jobs with `catch_up` have missed; what is on time is left to its own entry.

    For the start of a worker, which costs next to nothing while nothing was missed. Arguments and
    errors as for `enqueue_slot`. Returns what was enqueued.
    """
    marked = _read_marks(jobs, server.slots() if server is not None else None)
    wanted = [job for job in jobs.jobs if job.catch_up and job.enabled]
    missed = [job for job in wanted if _is_missed(jobs, job, now, marked)]
    if not missed:
        return []
    if server is not None:
        known = server.slots()
        results = [_claim(jobs, job, server, now, known) for job in missed]
    else:
        with locked(_marks_of(jobs)) as marks:
            results = [_settle(jobs, job, enqueue, now, marks) for job in missed]
    return [result for result in results if result.verdict is Verdict.ENQUEUED]


def missed_slots(
    jobs: RecurringJobs,
    now: int,
    since: int,
    *,
    late: int = 0,
    first_after: int = 0,
    slots: Mapping[str, int] | None = None,
) -> list[tuple[str, int]]:
    """Return the recurring jobs whose last slot nothing has dealt with, each with that slot.

    Args:
        jobs: all of the config.
        now: Unix seconds.
        since: Unix seconds; earlier slots are left aside.
        late: seconds that a slot has time to be dealt with; one that has more is left aside.
        first_after: seconds more that a job is left aside which has not been enqueued once.
        slots: what `SlotServer.slots` said, if the queue is on a server.

    Raises `StorageError` if the marks cannot be read, `TableError` if they are damaged.
    """
    marked = _read_marks(jobs, slots)
    missed = []
    for job in jobs.jobs:
        if not job.enabled:
            continue
        last, mark = slot(job.schedule, now - late), _mark(jobs, job, now, marked)
        begin = since + first_after if mark is None else max(since, mark.slot + 1)
        if last >= begin:
            missed.append((job.name, last))
    return missed


def last_slots(
    jobs: RecurringJobs, now: int, slots: Mapping[str, int] | None = None
) -> dict[str, int]:
    """Return the last slot (Unix seconds) of each job that was dealt with, by its name.

    Arguments and errors as for `missed_slots`.
    """
    marked = _read_marks(jobs, slots)
    found = ((job.name, _mark(jobs, job, now, marked)) for job in jobs.jobs)
    return {name: mark.slot for name, mark in found if mark is not None}


def _marks_of(jobs: RecurringJobs) -> Path:
    if jobs.marks is None:
        raise ConfigError(f"{jobs.config}: the server of this queue keeps the marks, not a file")
    return jobs.marks


def _read_marks(jobs: RecurringJobs, slots: Mapping[str, int] | None) -> AllMarks:
    """The marks in the file, or those of a server that are of these jobs and their schedules."""
    if slots is None:
        return read(_marks_of(jobs))
    marked = {}
    for job in jobs.jobs:
        last = slots.get(slot_key(jobs.config_name, job.name, job.schedule))
        if last is not None:
            marked[jobs.config_name, job.name] = Mark(last, job.schedule.cron())
    return marked


def _claim(
    jobs: RecurringJobs, job: RecurringJob, server: SlotServer, now: int, known: Mapping[str, int]
) -> SlotResult:
    """Decide by the table above; the server has the last word."""
    last, name = slot(job.schedule, now), jobs.config_name
    key = slot_key(name, job.name, job.schedule)
    result = SlotResult(job.name, last, Verdict.KNOWN, job_id(name, job.name, last))
    if known.get(key, -1) >= last:
        return result
    if key not in known and not _is_on_time(job, last, now):
        verdict, new = Verdict.PAST, None
    else:
        due = last + offset(name, job.name, job.jitter, "")
        verdict = Verdict.ENQUEUED
        new = SlotJob(result.job_id, job.type, job.payload, max(due, now))
    if server.claim(key, last, new):
        result = result._replace(verdict=verdict)
    log.info("recurring job %s: its slot %d was %s", job.name, last, result.verdict)
    return result


def _settle(
    jobs: RecurringJobs, job: RecurringJob, enqueue: Enqueue, now: int, marks: Marks
) -> SlotResult:
    """Decide by the table above, while the marks are locked."""
    last = slot(job.schedule, now)
    mark = _mark(jobs, job, now, marks.all)
    result = SlotResult(job.name, last, Verdict.KNOWN, job_id(jobs.config_name, job.name, last))
    if mark is not None and mark.slot >= last:
        return result
    if mark is None and not _is_on_time(job, last, now):
        result = result._replace(verdict=Verdict.PAST)
    else:
        due = last + offset(jobs.config_name, job.name, job.jitter, _host())
        with suppress(JobExists):  # it is there; its payload was changed in the config since
            enqueue(job.type, job.payload, due if due > now else None, job_id=result.job_id)
            result = result._replace(verdict=Verdict.ENQUEUED)
    before = mark.slot if mark is not None else None
    marks.all[jobs.config_name, job.name] = Mark(last, job.schedule.cron(), before)
    names = {each.name for each in jobs.jobs}
    for key in [key for key in marks.all if key[0] == jobs.config_name and key[1] not in names]:
        del marks.all[key]
    marks.save()
    log.info("recurring job %s: its slot %d was %s", job.name, last, result.verdict)
    return result


def _is_missed(jobs: RecurringJobs, job: RecurringJob, now: int, marked: AllMarks) -> bool:
    last = slot(job.schedule, now)
    mark = _mark(jobs, job, now, marked)
    return (mark is None or mark.slot < last) and not _is_on_time(job, last, now)


def _is_on_time(job: RecurringJob, last: int, now: int) -> bool:
    return now - last <= ON_TIME + job.jitter


def _mark(jobs: RecurringJobs, job: RecurringJob, now: int, marked: AllMarks) -> Mark | None:
    """The mark, if it is one of this schedule; the one before if the clock was ahead then."""
    mark = marked.get((jobs.config_name, job.name))
    if mark is None or mark.schedule != job.schedule.cron():
        return None
    if mark.slot <= now + SMALL_STEP:
        return mark
    if mark.before is None or mark.before > now + SMALL_STEP:
        return None
    return Mark(mark.before, mark.schedule)


def _host() -> str:
    """What tells this host from others; clones may share one of the two."""
    machine = MACHINE_ID.read_text() if MACHINE_ID.exists() else ""
    return f"{os.uname().nodename} {machine.strip()}"
