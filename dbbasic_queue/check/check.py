"""Would this config work here? Nothing is started, written or enqueued.

Theory of operation
-------------------
The faults of the file come first; with any of them there is no config to look further into. Then
come the questions that only the machine can answer: whether the user exists, whether that user can
read and write where it must (`access.py`), whether the configured interpreter imports the handlers
(`probe.py`), whether two schedulers run the same name (`install/manifest.py`).

All questions about the user are asked in a process of that user, so root sees what the worker will
see. Anyone but root can only ask for themselves: the answers are then warnings.

Importing the handlers runs the application's code, as the start of a worker does. Root does that as
the worker's user, and only by a config that no third party can write.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ..config.sections import Config, load
from ..config.whose import require_own
from ..errors import ConfigError
from ..install.manifest import double_scheduled, likely_sites
from ..schedule.clock import machine_zone
from ..schedule.schedule import Schedule
from ..support.account import Account, no_user
from ..support.address import has_password
from ..support.durations import format_duration
from .access import access_problems
from .finding import Level, Problem, fault, warning
from .neighbours import neighbour_problems
from .probe import probe

if TYPE_CHECKING:
    from .server import ServerFacts

RUNS: Final = 5  # how many next runs of each schedule are told


@dataclass(frozen=True)
class Runs:
    """A schedule: the key it stands under, as it was written, in words, and its next runs."""

    where: str
    source: str
    words: str
    next: tuple[datetime, ...]


@dataclass(frozen=True)
class CheckReport:
    """All that a check found.

    `types` are the job types that have handlers, `server` is that of a queue which is on one.
    """

    path: str
    name: str | None = None
    findings: tuple[Problem, ...] = ()
    schedules: tuple[Runs, ...] = ()
    types: tuple[str, ...] = ()
    server: ServerFacts | None = None

    @property
    def ok(self) -> bool:
        """Whether all of it would work: there is no fault, though there may be warnings."""
        return all(problem.level is not Level.FAULT for problem in self.findings)

    def as_dict(self) -> dict[str, Any]:
        """Return what JSON can hold; times are in ISO 8601 with their offset from UTC."""
        found = asdict(self)
        if self.server is None:
            del found["server"]
        for schedule in found["schedules"]:
            schedule["next"] = [run.isoformat() for run in schedule["next"]]
        return {"ok": self.ok, **found}


def check_config(
    path: str | Path, *, now: datetime | None = None, timeout: float = 30
) -> CheckReport:
    """Return what is wrong with the config in the file `path`, and when its schedules fire next.

    Args:
        path: the `dbq.toml`; messages name it as it is given.
        now: the next runs are those after it, in its time zone. If None: now, in the machine's.
        timeout: seconds that importing the handlers may take, and looking at the files as well.

    Raises nothing for what is wrong with the config: that is in the report.

    >>> check_config("/no/dbq.toml").ok
    False
    """
    try:
        config = load(path)
    except ConfigError as error:
        problems = tuple(fault("", line) for line in str(error).split("\n"))
        return CheckReport(str(path), findings=problems)
    types, found = _ask_as_user(config, timeout)
    if types is not None:
        twice = sorted(types & config.commands.keys())
        said = "is the type of a handler, too: take it out of one of them"
        found += [fault(f"[commands].{name}", said) for name in twice]
        types |= config.commands.keys()
    server, more = _ask_server(config, types)
    found += more
    found += _unknown_types(config, types)
    found += _needless_alarms(config)
    found += neighbour_problems(config)
    sites = likely_sites(config.worker.user)
    found += [fault("name", said) for said in double_scheduled(config.name, sites)]
    after = now or datetime.now(machine_zone())
    return CheckReport(
        path=str(path),
        name=config.name,
        findings=tuple(found),
        schedules=tuple(_runs(where, schedule, after) for where, schedule in _schedules(config)),
        types=tuple(sorted(types or ())),
        server=server,
    )


def _ask_as_user(config: Config, timeout: float) -> tuple[frozenset[str] | None, list[Problem]]:
    """Return the job types with a handler, if they are known, and what the user lacks."""
    account, me = Account.find(config.worker.user), Account.find(None)
    if account is None or me is None:
        said = no_user(config.worker.user or "")
        return None, [fault("[worker].user", said)]
    if account.is_me or me.uid == 0:
        found = access_problems(config, account, timeout)
        foreign = list(_foreign(config, account)) if me.uid == 0 else []
        if foreign or {"[worker].python", "[worker].directory"} & {each.where for each in found}:
            return None, foreign + found
        types, more = probe(config, account, timeout)
        return types, found + more
    said = (
        f"checked as {me.name}, who is not {account.name} and cannot ask for {account.name}; "
        f"to be sure, check as {account.name} or as root"
    )
    types, more = probe(config, me, timeout)
    problems = [*access_problems(config, me, timeout), *more]
    return types, [
        warning("[worker].user", said),
        *(replace(problem, level=Level.WARNING) for problem in problems),
    ]


def _ask_server(
    config: Config, types: frozenset[str] | None
) -> tuple[ServerFacts | None, list[Problem]]:
    """Ask the server of the queue, if it is on one."""
    if config.queue.file is not None:
        return None, []
    from .server import server_problems  # what talks to a server is slow to import

    account, me = Account.find(config.worker.user), Account.find(None)
    user = account if account and me and me.uid == 0 and not account.is_me else None
    facts, problems = server_problems(config, types, user)
    if config.queue.url and has_password(config.queue.url) and config.path.stat().st_mode & 0o044:
        said = "holds a password, and other users can read this file: put it into a url_file"
        problems.append(warning("[queue].url", said))
    return facts, problems


def _foreign(config: Config, account: Account) -> Iterator[Problem]:
    """Find what root does not take from others: the config says which program runs, as which user.

    Its handlers are not imported then.
    """
    user = None if account.uid == 0 else account
    files = {
        "": config.path,
        "[worker].environment_file": config.worker.environment_file,
        "[queue].url_file": config.queue.url_file,
    }
    for where, file in files.items():
        if file is not None and file.exists():
            try:
                require_own(file, where.rpartition(".")[2] or "the config", user)
            except ConfigError as error:
                yield fault(where, str(error))


def _unknown_types(config: Config, types: frozenset[str] | None) -> Iterator[Problem]:
    """Find recurring jobs that nothing can run."""
    if types is None:
        return
    known = ", ".join(sorted(types)) or "nothing"
    for job in config.recurring:
        if job.type not in types:
            said = f"{job.name}: no handler for {job.type!r}; there are handlers for: {known}"
            yield fault("[recurring].type", said)


def _needless_alarms(config: Config) -> Iterator[Problem]:
    """Find health limits that the config itself is bound to break."""
    health, worker = config.health, config.worker
    if health is None:
        return
    pause = worker.schedule.longest_gap()
    for key in ("silent_after", "overdue_after") if worker.enabled else ():
        limit = getattr(health, key)
        if limit < pause:
            said = (
                f"{format_duration(limit)} is less than the {format_duration(pause)} that may pass "
                f"between two runs of the worker ({worker.schedule.describe()}): it will alarm then"
            )
            yield warning(f"[health].{key}", said)
    longest = config.longest_timeout
    if longest and health.stuck_after < longest:
        limit, allowed = format_duration(health.stuck_after), format_duration(longest)
        whose = "[worker].timeout" if longest == worker.timeout else "timeout of its type"
        said = f"{limit} is less than the {allowed} that a job may run ({whose})"
        yield warning("[health].stuck_after", f"{said}: it will alarm for jobs that are well")


def _schedules(config: Config) -> Iterator[tuple[str, Schedule]]:
    if config.worker.enabled:
        yield "[worker].schedule", config.worker.schedule
    for job in (each for each in config.recurring if each.enabled):
        yield f"[recurring].schedule of {job.name}", job.schedule
    if config.prune and config.prune.enabled:
        yield "[prune].schedule", config.prune.schedule
    if config.health and config.health.enabled:
        yield "[health].schedule", config.health.schedule
    if config.report and config.report.enabled:
        yield "[report].schedule", config.report.schedule


def _runs(where: str, schedule: Schedule, after: datetime) -> Runs:
    following = (run.astimezone(after.tzinfo) for run in schedule.next_runs(after, RUNS))
    return Runs(where, schedule.source, schedule.describe(), tuple(following))
