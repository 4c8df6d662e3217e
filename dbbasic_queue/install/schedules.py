"""All that a config schedules: in words, when it ran last, how that went, and when it runs next."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from ..engines.interface import Engine
from ..job import Job
from ..schedule.clock import machine_zone
from ..schedule.recurring import job_id, last_slots
from ..schedule.schedule import Schedule
from .target import EntryStatus

if TYPE_CHECKING:
    from ..config.sections import Config


class Scheduled(NamedTuple):
    """One thing that the clock starts. Times are aware."""

    name: str
    what: str  # worker, recurring, prune, health or report
    words: str  # its schedule
    enabled: bool
    installed: bool | None  # None: that cannot be seen as this user
    last: datetime | None
    how: str  # the last run went
    next: datetime | None


def schedules(
    config: Config,
    engine: Engine,
    installed: Mapping[str, EntryStatus] | None,
    slots: Mapping[str, int] | None,
) -> Iterator[Scheduled]:
    """Yield what a config schedules.

    Args:
        config: what says it.
        engine: of its queue, which knows what became of the jobs.
        installed: the entries of the scheduler by their labels; None: that cannot be seen.
        slots: the slots of a queue on a server; None: they are in a file.

    Raises `StorageError` and `TableError` where the queue or the marks cannot be read.
    """
    stats = engine.stats()
    seen = installed or {}
    last = None if stats.last_run is None else _aware(int(stats.last_run))
    running = stats.jobs["processing"]
    how = f"{running} running" if running else ""
    enabled = config.worker.enabled
    worker = _one(config.worker.schedule, "worker", "worker", enabled, installed)
    yield worker._replace(last=last or _last(seen, "worker"), how=how)
    done = last_slots(config.recurring_jobs, int(engine.now()), slots)
    for job in config.recurring:
        found = _one(job.schedule, job.name, "recurring", job.enabled, installed)
        slot = done.get(job.name)
        if slot is not None:
            its = engine.find(job_id(config.name, job.name, slot))
            found = found._replace(last=_aware(slot), how=_how(its))
        yield found
    others = {"prune": config.prune, "health": config.health, "report": config.report}
    for name, part in others.items():
        if part is not None:
            entry = seen.get(name)
            found = _one(part.schedule, name, name, part.enabled, installed)
            yield found._replace(last=_last(seen, name), how=entry.note if entry else "")


def _one(
    schedule: Schedule,
    name: str,
    what: str,
    enabled: bool,
    installed: Mapping[str, EntryStatus] | None,
) -> Scheduled:
    there = None if installed is None else name in installed
    following = None
    if enabled and there is not False:
        zone = machine_zone()
        following = next(iter(schedule.next_runs(datetime.now(zone), 1)), None)
    return Scheduled(name, what, schedule.describe(), enabled, there, None, "", following)


def _last(seen: Mapping[str, EntryStatus], name: str) -> datetime | None:
    return seen[name].last_run if name in seen else None


def _aware(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, machine_zone())


def _how(job: Job | None) -> str:
    """What became of the job of a time."""
    if job is None:
        return "enqueued"  # and removed since, or left out
    return f"{job.status}: {job.error}" if job.error and job.status == "failed" else job.status
