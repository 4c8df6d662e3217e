"""`dbq check`: would this config work here? Nothing is started, written or enqueued.

Theory of operation
-------------------
The faults of the file come first; with any of them there is no config to look further into. Then
what only the machine can tell: whether there is the user, whether that user may read and write
where it must (`access.py`), whether the configured interpreter imports the handlers
(`handlers_probe.py`), whether the same name is scheduled twice. All questions about the user are
asked in a process of that user, so root sees what the worker will see. Who is not root can ask for
nobody else: then they are asked as whoever asks, and what they find are warnings.

Importing handlers runs the application's code, as the start of a worker does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from ..config.sections import Config, load
from ..errors import ConfigError
from ..schedule.clock import machine_zone
from ..schedule.schedule import Schedule
from ..support.account import Account
from ..support.durations import format_duration
from .access import access_findings
from .finding import Finding, Level, fault, warning
from .probe import Handlers, probe

RUNS = 5  # so many next runs of each schedule are told


@dataclass(frozen=True)
class Runs:
    """A schedule: the key it stands under, as it was written, in words, and its next runs."""

    where: str
    source: str
    words: str
    next: tuple[datetime, ...]


@dataclass(frozen=True)
class Report:
    """All that a check found. `types` are the job types that there are handlers for."""

    path: str
    name: str | None = None
    findings: tuple[Finding, ...] = ()
    schedules: tuple[Runs, ...] = ()
    types: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether jobs would run: there are no faults, though there may be warnings."""
        return all(finding.level is not Level.FAULT for finding in self.findings)

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON can hold it; times in ISO 8601 with their offset from UTC."""
        found = asdict(self)
        for schedule in found["schedules"]:
            schedule["next"] = [run.isoformat() for run in schedule["next"]]
        return {"ok": self.ok, **found}


def check(
    path: str | Path,
    *,
    now: datetime | None = None,
    scheduled_twice: Callable[[Config], Iterable[str]] | None = None,
    timeout: float = 30,
) -> Report:
    """Return what is wrong with the config in the file `path`, and when its schedules fire next.

    Args:
        path: the `dbq.toml`; messages name it as it is given.
        now: the next runs are those after, in its time zone. Now and the machine's if None.
        scheduled_twice: says in sentences that cron and systemd both have this name, if they do;
            the installers know.
        timeout: seconds that importing the handlers may take.

    Raises nothing for what is wrong with the config: that is in the report.

    >>> print(check("/no/dbq.toml").findings[0])
    /no/dbq.toml: there is no such file; name yours by --config or $DBQ_CONFIG, or write one \
with: dbq init
    """
    try:
        config = load(path)
    except ConfigError as error:
        return Report(str(path), findings=tuple(fault("", line) for line in str(error).split("\n")))
    handlers, findings = _ask_as_user(config, timeout)
    findings += _unknown_types(config, handlers)
    findings += _alarms_for_nothing(config)
    findings += [
        fault("name", said) for said in (scheduled_twice(config) if scheduled_twice else [])
    ]
    after = now or datetime.now(machine_zone())
    return Report(
        path=str(path),
        name=config.name,
        findings=tuple(findings),
        schedules=tuple(_runs(where, schedule, after) for where, schedule in _schedules(config)),
        types=tuple(sorted(handlers.types)) if handlers else (),
    )


def _ask_as_user(config: Config, timeout: float) -> tuple[Handlers | None, list[Finding]]:
    """The handlers, if they can be imported, and what keeps the worker's user from its work."""
    account, me = Account.find(config.worker.user), Account.find(None)
    if account is None or me is None:
        said = f"there is no user {config.worker.user or ''!r} on this machine"
        return None, [fault("[worker].user", said)]
    if account.is_me or me.uid == 0:
        findings = access_findings(config, account)
        if {"[worker].python", "[worker].directory"} & {finding.where for finding in findings}:
            return None, findings
        handlers, found = probe(config, account, timeout)
        return handlers, findings + found
    said = (
        f"checked as {me.name}, who is not {account.name} and cannot ask for {account.name}; "
        f"to be sure, check as {account.name} or as root"
    )
    handlers, found = probe(config, me, timeout)
    findings = [*access_findings(config, me), *found]
    return handlers, [
        warning("[worker].user", said),
        *(replace(finding, level=Level.WARNING) for finding in findings),
    ]


def _unknown_types(config: Config, handlers: Handlers | None) -> Iterator[Finding]:
    """Recurring jobs that nothing can run."""
    for job in config.recurring if handlers else ():
        if handlers and job.type not in handlers.types:
            known = ", ".join(sorted(handlers.types)) or "none"
            said = f"{job.name}: there is no handler for {job.type!r}; those there are: {known}"
            yield fault("[recurring].type", said)


def _alarms_for_nothing(config: Config) -> Iterator[Finding]:
    """Health limits that the config itself is bound to break."""
    health, worker = config.health, config.worker
    if health is None:
        return
    pause = worker.schedule.longest_gap()
    for key in ("silent_after", "overdue_after"):
        limit = getattr(health, key)
        if limit < pause:
            said = (
                f"{format_duration(limit)} is less than the {format_duration(pause)} that may pass "
                f"between two runs of the worker ({worker.schedule.describe()}): it will alarm then"
            )
            yield warning(f"[health].{key}", said)
    if worker.timeout and health.stuck_after < worker.timeout:
        limit, allowed = format_duration(health.stuck_after), format_duration(worker.timeout)
        said = f"{limit} is less than the {allowed} that a job may run ([worker].timeout)"
        yield warning("[health].stuck_after", f"{said}: it will alarm for jobs that are well")


def _schedules(config: Config) -> Iterator[tuple[str, Schedule]]:
    yield "[worker].schedule", config.worker.schedule
    for job in config.recurring:
        yield f"[recurring].schedule of {job.name}", job.schedule
    if config.prune:
        yield "[prune].schedule", config.prune.schedule
    if config.health:
        yield "[health].schedule", config.health.schedule


def _runs(where: str, schedule: Schedule, after: datetime) -> Runs:
    following = (run.astimezone(after.tzinfo) for run in schedule.next_runs(after, RUNS))
    return Runs(where, schedule.source, schedule.describe(), tuple(following))
