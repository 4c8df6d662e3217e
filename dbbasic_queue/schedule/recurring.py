"""Recurring jobs: at most one job a slot, whoever asks and however often.

Theory of operation
-------------------
A *slot* is one of the times of a schedule. cron or systemd start `dbq enqueue-recurring NAME` at
each; what that enqueues is decided here, from the clock, the schedule and the mark of the last slot
that was dealt with (`slot_marks.py`):

    mark                     the last slot, as seen now        so
    that slot or a later     any                               nothing: it was enqueued
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
ignores. A mark more than a day ahead of the clock was made under a wrong clock, and is ignored.

Jitter delays the job by its `run_at`, always as much on this host for this name.
"""

from __future__ import annotations

import hashlib
import logging
import socket
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

from ..config.sections import Config, RecurringConfig
from ..errors import ConfigError, JobExists
from .clock import machine_zone
from .marks import AllMarks, Mark, Marks, locked, marks_file, read
from .schedule import Schedule

log = logging.getLogger("dbbasic_queue")

ON_TIME = 120  # seconds: cron and systemd's AccuracySec= take up to a minute
WRONG_CLOCK = 86_400  # seconds
MACHINE_ID = Path("/etc/machine-id")


class EnqueuesJobs(Protocol):
    """What is asked of a queue: `Queue.enqueue`, which ignores an id that it has already."""

    def enqueue(
        self,
        job_type: str,
        payload: dict[str, Any],
        run_at: Any = None,
        *,
        job_id: str | None = None,
    ) -> str: ...


class Verdict(StrEnum):
    """What became of a slot."""

    ENQUEUED = "enqueued"
    KNOWN = "enqueued before"
    PAST = "over before this job was first seen, or its schedule changed"


@dataclass(frozen=True)
class Outcome:
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
        names = hashlib.sha256(names.encode()).hexdigest()[:32]
    return f"{names}_{minute}"


def offset(config_name: str, name: str, jitter: int, host: str) -> int:
    """Return by how many seconds, from 0 to `jitter`, this job is later than its slots."""
    digest = hashlib.sha256(f"{host}\0{config_name}\0{name}".encode()).digest()
    return int.from_bytes(digest[:8]) % (jitter + 1)


def enqueue(config: Config, name: str, queue: EnqueuesJobs, now: int) -> Outcome:
    """Enqueue the job of the last slot of the recurring job `name`, unless that has been done.

    Args:
        config: the whole config; its queue's folder holds the marks.
        name: of one of its recurring jobs.
        queue: where to.
        now: Unix seconds.

    Raises `ConfigError` for a name that the config does not know, `StorageError` if the disk
    refuses, `TableError` for a damaged file of marks, and what `queue.enqueue` raises.

    Example:
        enqueue(config, "nightly-report", Queue(config.queue.file), int(time.time())).verdict
        # <Verdict.ENQUEUED: 'enqueued'>
    """
    jobs = {job.name: job for job in config.recurring}
    if name not in jobs:
        known = ", ".join(jobs) or "none"
        raise ConfigError(f"{config.path}: has no recurring job {name!r}; those it has: {known}")
    with locked(marks_file(config.queue.file)) as marks:
        return _settle(config, jobs[name], queue, now, marks)


def catch_up(config: Config, queue: EnqueuesJobs, now: int) -> list[Outcome]:
    """Enqueue what the jobs with `catch_up` have missed; what is on time is left to its own entry.

    For the start of a worker, which costs next to nothing while nothing was missed. Arguments and
    errors as for `enqueue`. Returns what was enqueued.
    """
    path = marks_file(config.queue.file)
    marked = read(path)
    jobs = [job for job in config.recurring if job.catch_up]
    missed = [job for job in jobs if _is_missed(config, job, now, marked)]
    if not missed:
        return []
    with locked(path) as marks:
        outcomes = [_settle(config, job, queue, now, marks) for job in missed]
    return [outcome for outcome in outcomes if outcome.verdict is Verdict.ENQUEUED]


def _settle(
    config: Config, job: RecurringConfig, queue: EnqueuesJobs, now: int, marks: Marks
) -> Outcome:
    """Decide by the table above, while the marks are locked."""
    last = slot(job.schedule, now)
    mark = _mark(config, job, now, marks.all)
    outcome = Outcome(job.name, last, Verdict.KNOWN, job_id(config.name, job.name, last))
    if mark is not None and mark.slot >= last:
        return outcome
    if mark is None and not _is_on_time(job, last, now):
        outcome = replace(outcome, verdict=Verdict.PAST)
    else:
        due = last + offset(config.name, job.name, job.jitter, _host())
        with suppress(JobExists):  # it is there; its payload was changed in the config since
            queue.enqueue(job.type, job.payload, due if due > now else None, job_id=outcome.job_id)
            outcome = replace(outcome, verdict=Verdict.ENQUEUED)
    marks.all[config.name, job.name] = Mark(last, job.schedule.cron())
    _forget_others(marks, config.name, (each.name for each in config.recurring))
    marks.save()
    log.info("recurring job %s: its slot %d was %s", job.name, last, outcome.verdict)
    return outcome


def _is_missed(config: Config, job: RecurringConfig, now: int, marked: AllMarks) -> bool:
    last = slot(job.schedule, now)
    mark = _mark(config, job, now, marked)
    return (mark is None or mark.slot < last) and not _is_on_time(job, last, now)


def _is_on_time(job: RecurringConfig, last: int, now: int) -> bool:
    return now - last <= ON_TIME + job.jitter


def _mark(config: Config, job: RecurringConfig, now: int, marked: AllMarks) -> Mark | None:
    """The mark, if it tells about this schedule and was not made under a wrong clock."""
    mark = marked.get((config.name, job.name))
    if mark is None or mark.schedule != job.schedule.cron() or mark.slot > now + WRONG_CLOCK:
        return None
    return mark


def _forget_others(marks: Marks, config_name: str, names: Iterable[str]) -> None:
    """Drop the marks of jobs that this config no longer has."""
    known = set(names)
    gone = [key for key in marks.all if key[0] == config_name and key[1] not in known]
    for key in gone:
        del marks.all[key]


def _host() -> str:
    """What tells this host from others; clones may share one of the two."""
    machine = MACHINE_ID.read_text() if MACHINE_ID.exists() else ""
    return f"{socket.gethostname()} {machine.strip()}"
