"""The health check: one look at the table, and a verdict on it.

    check(path, thresholds, …)  -> Report
        └─ take: the table in numbers            snapshot.py
        └─ one judge for each thing that can be wrong, below

States are those of a monitoring plugin. What is wrong is a `Finding`, which says what, since when,
which jobs, and what to do next.
"""

from __future__ import annotations

import errno
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Final

from ..config.sections import HealthConfig
from ..engines.tsv.snapshot import AHEAD, Limits, Snapshot, take
from ..errors import QueueError
from ..job import PENDING
from ..schedule.clock import machine_zone
from ..schedule.schedule import Schedule
from ..support.durations import format_duration
from ..support.text import escape_control
from ..table.line import Row
from .thresholds import Range

OK: Final = 0
WARNING: Final = 1
CRITICAL: Final = 2
UNKNOWN: Final = 3
STATES: Final = ("OK", "WARNING", "CRITICAL", "UNKNOWN")
_BY_GRAVITY: Final = (OK, UNKNOWN, WARNING, CRITICAL)

# What can be given a range, in the order in which it is told, and the ranges it has by itself.
RANGED: Final = (
    "stuck",
    "failed",
    "overdue",
    "malformed",
    "pending",
    "ready",
    "latency",
    "size",
)
NONE: Final = Range.parse("0")
WARN: Final[Mapping[str, Range]] = {"failed": NONE, "overdue": NONE}
CRIT: Final[Mapping[str, Range]] = {
    "stuck": NONE,
    "malformed": NONE,
    "failed": Range.parse("9"),
}

SCHEDULE_GRACE: Final = 60  # seconds that a scheduled run may be late


@dataclass(frozen=True, slots=True)
class Thresholds:
    """When something is a reason to alarm somebody.

    Args:
        ages: `stuck_after`, `overdue_after`, `silent_after` and `failed_within`, in seconds; a
            config's `[health]`, or its defaults.
        warning: ranges by name (see `RANGED`): outside of it the state is WARNING.
        critical: the same for CRITICAL.

    By itself any stuck job and any malformed line is CRITICAL, a failed job a WARNING and ten of
    them CRITICAL, an overdue job a WARNING.
    """

    ages: HealthConfig = field(default_factory=HealthConfig)
    warning: Mapping[str, Range] = field(default_factory=lambda: WARN)
    critical: Mapping[str, Range] = field(default_factory=lambda: CRIT)

    def state(self, name: str, value: float | None) -> int:
        """The state that a number of this name means."""
        for ranges, state in ((self.critical, CRITICAL), (self.warning, WARNING)):
            if value is not None and name in ranges and ranges[name].alerts(value):
                return state
        return OK


@dataclass(frozen=True, slots=True)
class Expectation:
    """That workers should run: what a config says, where no worker has left a trace yet.

    Args:
        since: Unix seconds; when the config was written.
        schedule: when they start.
    """

    since: float
    schedule: Schedule


@dataclass(frozen=True, slots=True)
class Named:
    """A job or a line that is worth a word."""

    name: str  # `type id`, or `line 17`
    note: str
    id: str | None = None
    type: str | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong.

    Args:
        kind: stuck, failed, overdue, malformed, silent, clock, claims, unreadable, textfile, or
            what of `RANGED` has left its range.
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
class Report:
    """What the check has found. `snapshot` is None when the table could not be read."""

    queue: str  # the config's name, or the file's path
    path: Path
    at: int  # Unix seconds
    thresholds: Thresholds
    snapshot: Snapshot | None
    last_run: int | None  # Unix seconds; now when a worker is at work
    findings: tuple[Finding, ...]

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
        """How many seconds ago a worker was last at work, if one ever was."""
        return None if self.last_run is None else max(0, self.at - self.last_run)

    @property
    def silent(self) -> bool:
        """Whether no worker has run for too long, where one should have."""
        return any(finding.kind == "silent" for finding in self.findings)

    @property
    def clock_behind(self) -> int | None:
        """By how many seconds the clock is behind the latest time that is recorded; 0 if it isn't.

        Up to `AHEAD` seconds are nothing: clocks are corrected all the time.
        """
        snapshot = self.snapshot
        if snapshot is None:
            return None
        behind = int(max(snapshot.written, snapshot.last_run or 0, *_recorded(snapshot))) - self.at
        return behind if behind > AHEAD else 0

    def number(self, name: str) -> int | None:
        """One of the numbers of `RANGED`."""
        snapshot = self.snapshot
        if snapshot is None:
            return None
        if name == "pending":
            return snapshot.counts[PENDING]
        return self.latency if name == "latency" else int(getattr(snapshot, name))


class Commands:
    """The commands to type next, for the queue as the user named it.

    >>> Commands(["--file", "my queue.tsv"]).dbq("show", "a1")
    "dbq show a1 --file 'my queue.tsv'"
    """

    def __init__(self, where: Sequence[str]) -> None:
        self._where = list(where)
        self.has_config = "--config" in self._where

    def dbq(self, *words: str) -> str:
        return shlex.join(["dbq", *words, *self._where])

    def work(self) -> str:
        """A worker's run; without a config nobody but the user knows the handlers."""
        return self.dbq("work") if self.has_config else self.dbq("work", "MODULE:HANDLERS")

    def schedule(self) -> tuple[str, ...]:
        if not self.has_config:
            return (
                "see whether cron or systemd still starts it: crontab -l; systemctl list-timers",
            )
        tools = ("dbq-install-cron", "dbq-install-systemd")
        return tuple(shlex.join([tool, "--status", *self._where]) for tool in tools)


def check(
    path: Path,
    thresholds: Thresholds | None = None,
    *,
    queue: str | None = None,
    expected: Expectation | None = None,
    commands: Commands | None = None,
    names: int = 5,
    clock: Callable[[], float] = time.time,
) -> Report:
    """Look at a queue and judge it. Creates and changes nothing, needs read permission only.

    Args:
        path: the table.
        thresholds: the defaults if None.
        queue: what to call it; its absolute path if None.
        expected: that workers should run. If None, only a queue on which one has run before is
            ever silent.
        commands: how to name the queue in advice; by `--file` and its path if None.
        names: how many jobs of a kind to name.
        clock: the time in Unix seconds; for tests.

    Never raises for what is wrong with the table; that is in the report.

    >>> import tempfile
    >>> check(Path(tempfile.mkdtemp()) / "queue.tsv").findings[0].kind
    'unreadable'
    """
    thresholds = thresholds or Thresholds()
    commands = commands or Commands(["--file", str(path)])
    now = int(clock())
    queue = queue or str(path.absolute())
    try:
        snapshot = take(path, _limits(thresholds.ages, now, names))
    except QueueError as error:
        finding = _unreadable(error, path, commands)
        return Report(queue, path, now, thresholds, None, None, (finding,))
    report = Report(queue, path, now, thresholds, snapshot, _last_run(snapshot, now), ())
    judge = _Judge(report, snapshot, expected, commands)
    return replace(report, findings=tuple(judge.findings()))


def _limits(ages: HealthConfig, now: int, names: int) -> Limits:
    return Limits(
        now=now,
        stuck_before=now - ages.stuck_after,
        overdue_before=now - ages.overdue_after,
        failed_since=now - ages.failed_within,
        names=names,
    )


def _last_run(snapshot: Snapshot, now: int) -> int | None:
    """When a worker was last at work. One that runs a long job leaves no trace meanwhile."""
    if snapshot.running:
        return now
    return None if snapshot.last_run is None else int(snapshot.last_run)


def _unreadable(error: QueueError, path: Path, commands: Commands) -> Finding:
    reason = getattr(error, "strerror", None) or str(error)
    if getattr(error, "errno", None) == errno.ENOENT:
        advice = "name it by --file or --config; the first job makes it: " + commands.dbq(
            "enqueue", "TYPE"
        )
    else:
        advice = f"look at the file, and at who may read it: ls -l {shlex.quote(str(path))}"
    return Finding("unreadable", UNKNOWN, reason, advice=(advice,))


class _Judge:
    """One method for each thing that can be wrong."""

    def __init__(
        self,
        report: Report,
        snapshot: Snapshot,
        expected: Expectation | None,
        commands: Commands,
    ) -> None:
        self._report = report
        self._snapshot = snapshot
        self._ages = report.thresholds.ages
        self._expected = expected
        self._commands = commands

    def findings(self) -> Iterator[Finding]:
        """All that is wrong, the gravest kinds first."""
        named: dict[str, Callable[[int], Finding]] = {
            "stuck": self._stuck,
            "failed": self._failed,
            "overdue": self._overdue,
            "malformed": self._malformed,
        }
        for name in RANGED:
            state = self._report.thresholds.state(name, self._report.number(name))
            if state != OK:
                yield named[name](state) if name in named else self._out_of_range(name, state)
        for finding in (self._silent(), self._clock(), self._claims()):
            if finding is not None:
                yield finding

    def _stuck(self, state: int) -> Finding:
        snapshot, commands = self._snapshot, self._commands
        orphans = [stuck.row for stuck in snapshot.stuck_rows if stuck.orphaned]
        named = [
            _job(stuck.row, self._processing_since(stuck.row, stuck.orphaned))
            for stuck in snapshot.stuck_rows
        ]
        advice = []
        if orphans:
            advice.append(f"the next worker run takes it back; run one now: {commands.work()}")
        if len(orphans) < len(named):
            advice.append(
                "if it hangs, stop its worker, and the next run takes it back; which process it is"
                f" shows: fuser -v {self._claims_file()}"
            )
        advice += [commands.dbq("show", job.id or "") for job in named[:1]]
        since = min((stuck.row.run_at for stuck in snapshot.stuck_rows), default=None)
        summary = _many(snapshot.stuck, "stuck job")
        return Finding("stuck", state, summary, since, tuple(named), snapshot.stuck, tuple(advice))

    def _processing_since(self, row: Row, orphaned: bool) -> str:
        since = f"attempt {row.attempts} began {self._ago(row.run_at)}"
        if orphaned:
            return f"its worker died; {since}"
        return f"still running, for longer than {format_duration(self._ages.stuck_after)}; {since}"

    def _failed(self, state: int) -> Finding:
        snapshot, commands = self._snapshot, self._commands
        named = tuple(
            _job(row, f"failed {self._ago(row.run_at)} after {_many(row.attempts, 'attempt')}")
            for row in snapshot.failed_rows
        )
        first = [named[0].id or ""] if named else []
        again = commands.dbq("retry", *(["--failed"] if snapshot.failed > 1 else first))
        advice = (*(commands.dbq("show", job_id) for job_id in first), f"to try again: {again}")
        within = format_duration(self._ages.failed_within)
        summary = f"{_many(snapshot.failed, 'failed job')} in the last {within}"
        return Finding(
            "failed", state, summary, snapshot.failed_first, named, snapshot.failed, advice
        )

    def _overdue(self, state: int) -> Finding:
        snapshot, commands = self._snapshot, self._commands
        rows = snapshot.overdue_rows
        named = tuple(_job(row, f"was due {self._ago(row.run_at)}") for row in rows)
        silence = self._report.silence
        advice = [f"run a worker now: {commands.work()}"]
        if snapshot.running:
            advice.append(
                f"{_many(snapshot.running, 'job')} running: if that is usual, one worker is too few"
            )
        elif silence is not None and silence <= self._ages.silent_after:
            advice.append(
                f"a worker was at work {format_duration(silence)} ago and left them: does it know"
                " their types?"
            )
        since = min((row.run_at for row in rows), default=None)
        summary = _many(snapshot.overdue, "overdue job")
        return Finding("overdue", state, summary, since, named, snapshot.overdue, tuple(advice))

    def _malformed(self, state: int) -> Finding:
        snapshot, commands = self._snapshot, self._commands
        named = tuple(Named(f"line {line.number}", line.why) for line in snapshot.bad_lines)
        advice = (
            f"see them all: {commands.dbq('fsck')}",
            f"correct them: {commands.dbq('edit')}",
            f"or set them aside: {commands.dbq('fsck', '--repair')}",
        )
        summary = _many(snapshot.malformed, "malformed line")
        return Finding("malformed", state, summary, None, named, snapshot.malformed, advice)

    def _out_of_range(self, name: str, state: int) -> Finding:
        ranges = self._report.thresholds
        limit = (ranges.critical if state == CRITICAL else ranges.warning)[name]
        value = self._report.number(name) or 0
        what = {
            "pending": _many(value, "pending job"),
            "ready": _many(value, "ready job"),
            "latency": f"the oldest ready job has waited {format_duration(value)}",
            "size": f"the file has {value} bytes",
        }[name]
        how = "is in" if limit.inside else "is not in"
        advice = {
            "latency": f"run a worker now: {self._commands.work()}",
            "size": f"remove what is done: {self._commands.dbq('prune', '--older-than', '7d')}",
        }.get(name, f"see the numbers: {self._commands.dbq('stats')}")
        since = self._snapshot.oldest_ready if name == "latency" else None
        return Finding(
            name, state, f"{what}: {value} {how} {str(limit).lstrip('@')}", since, advice=(advice,)
        )

    def _silent(self) -> Finding | None:
        report, expected = self._report, self._expected
        since = report.last_run if expected is None else report.last_run or int(expected.since)
        if since is None or report.at - since <= self._ages.silent_after:
            return None
        if expected is not None and not self._was_due(expected.schedule, since):
            return None
        ready = self._snapshot.ready
        who = "no worker has run" if report.last_run else "no worker has ever run"
        summary = f"{who} for {_age(report.at - since)}"
        if ready:
            summary += f", and {_many(ready, 'job')} due"
        advice = (f"run one now: {self._commands.work()}", *self._commands.schedule())
        return Finding("silent", CRITICAL if ready else WARNING, summary, since, advice=advice)

    def _was_due(self, schedule: Schedule, since: int) -> bool:
        """Whether a worker should have started after `since`, by the config's schedule."""
        at = datetime.fromtimestamp(self._report.at - SCHEDULE_GRACE, machine_zone())
        return schedule.last_run(at).timestamp() > since

    def _clock(self) -> Finding | None:
        """The clock has gone back: something is recorded that is yet to come."""
        behind, snapshot = self._report.clock_behind, self._snapshot
        if not behind:
            return None
        named = tuple(
            _job(row, f"{row.status} since {local_time(moment)}, which is yet to come")
            for row, moment in zip(snapshot.ahead_rows, _recorded(snapshot), strict=True)
        )
        summary = f"the clock has gone back by {_age(behind)} or more"
        advice = (
            "see to the machine's clock: timedatectl; jobs that were enqueued meanwhile run when"
            " it has caught up",
        )
        return Finding("clock", WARNING, summary, None, named, snapshot.ahead, advice)

    def _claims(self) -> Finding | None:
        """Whether workers are alive cannot be told: the claims cannot be read."""
        snapshot = self._snapshot
        if not snapshot.unknown:
            return None
        summary = f"it is not known whether the workers of running jobs live: {snapshot.unknown}"
        advice = (f"let this user read it, as it may read the queue: {self._claims_file()}",)
        return Finding("claims", UNKNOWN, summary, advice=advice)

    def _claims_file(self) -> str:
        return shlex.quote(str(self._report.path.resolve().with_suffix(".claims")))

    def _ago(self, moment: int) -> str:
        return f"{local_time(moment)} ({_age(max(0, self._report.at - moment))} ago)"


def _recorded(snapshot: Snapshot) -> list[int]:
    """The times of the rows that are ahead of the clock."""
    return [row.created_at if row.status == PENDING else row.run_at for row in snapshot.ahead_rows]


def _job(row: Row, note: str) -> Named:
    job_id, job_type = row.id.decode(), escape_control(row.type.decode(errors="replace"))
    error = escape_control(row.error.decode(errors="replace")) or None
    return Named(f"{job_type} {job_id}", note, job_id, job_type, error)


def _many(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _age(seconds: int) -> str:
    """A length of time for people: its two largest units."""
    for unit, finer in ((86_400, 3_600), (3_600, 60)):
        if seconds >= unit:
            return format_duration(seconds // finer * finer)
    return format_duration(seconds)


def local_time(moment: float) -> str:
    """A point in time, in Unix seconds, as people read it."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment))
