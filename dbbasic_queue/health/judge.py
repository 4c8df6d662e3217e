"""The health check: one look at the queue, and a verdict on it.

    check_health(path, thresholds, …)  -> HealthReport
        └─ Engine.snapshot: the queue in numbers         engines/interface.py
        └─ one method of `_Judge` for each thing that can be wrong

What is wrong is a `Finding`, which says what, since when, which jobs, and what to do next.
"""

from __future__ import annotations

import errno
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Final

from ..engines import open_engine
from ..engines.interface import Limits, Snapshot
from ..errors import QueueError
from ..job import Job
from ..schedule.clock import machine_zone
from ..schedule.schedule import Schedule
from ..support.durations import format_duration
from ..support.text import escape_control
from .measures import RANGED
from .report import (
    CRITICAL,
    OK,
    UNKNOWN,
    WARNING,
    Finding,
    HealthReport,
    Named,
    Thresholds,
    local_time,
    recorded_ahead,
)

SCHEDULE_GRACE: Final = 60  # seconds that a scheduled run may be late


@dataclass(frozen=True, slots=True)
class Expectation:
    """That workers should run: what a config says, where no worker has left a trace yet.

    Args:
        since: Unix seconds; when the config was written.
        schedule: when they start.
    """

    since: float
    schedule: Schedule


class Advice:
    """The commands to type next, for the queue as the user named it.

    >>> Advice(["--file", "my queue.tsv"]).dbq("show", "a1")
    "dbq show a1 --file 'my queue.tsv'"
    """

    def __init__(self, where: Sequence[str]) -> None:
        self._where = list(where)
        self.has_config = "--config" in self._where

    def dbq(self, *words: str) -> str:
        """Return a command of `dbq` for this queue."""
        return shlex.join(["dbq", *words, *self._where])

    def work(self) -> str:
        """Return the command that runs a worker; only a config knows the handlers."""
        return self.dbq("work") if self.has_config else self.dbq("work", "MODULE:HANDLERS")

    def schedule(self) -> tuple[str, ...]:
        """Return what shows the schedule."""
        if not self.has_config:
            return (
                "see whether cron or systemd still starts it: crontab -l; systemctl list-timers",
            )
        tools = ("dbq-install-cron", "dbq-install-systemd")
        return tuple(shlex.join([tool, "--status", *self._where]) for tool in tools)


def check_health(
    path: Path,
    thresholds: Thresholds | None = None,
    *,
    queue: str | None = None,
    expected: Expectation | None = None,
    advice: Advice | None = None,
    names: int = 5,
    clock: Callable[[], float] = time.time,
) -> HealthReport:
    """Look at a queue and judge it. Creates and changes nothing, needs read permission only.

    Args:
        path: the queue's file.
        thresholds: the defaults if None.
        queue: what to call it; its absolute path if None.
        expected: that workers should run. If None, only a queue on which one has run before can be
            silent.
        advice: the commands to type next; they name the queue by `--file` if None.
        names: how many jobs of a kind to name.
        clock: the time in Unix seconds; for tests.

    Never raises for what is wrong with the queue; that is in the report.

    >>> import tempfile
    >>> check_health(Path(tempfile.mkdtemp()) / "queue.tsv").findings[0].kind
    'unreadable'
    """
    thresholds = thresholds or Thresholds()
    advice = advice or Advice(["--file", str(path)])
    now = int(clock())
    queue = queue or str(path.absolute())
    ages = thresholds.ages
    limits = Limits(
        now=now,
        stuck_before=now - ages.stuck_after,
        overdue_before=now - ages.overdue_after,
        failed_since=now - ages.failed_within,
        names=names,
    )
    try:
        snapshot = open_engine(path).snapshot(limits)
    except QueueError as error:
        finding = _unreadable(error, path, advice)
        return HealthReport(queue, path, now, thresholds, None, None, (finding,))
    report = HealthReport(queue, path, now, thresholds, snapshot, _last_run(snapshot, now), ())
    judge = _Judge(report, snapshot, expected, advice)
    return replace(report, findings=tuple(judge.findings()))


def _last_run(snapshot: Snapshot, now: int) -> int | None:
    """Return when a worker was last at work. One in a long job leaves no trace meanwhile."""
    if snapshot.running:
        return now
    return None if snapshot.last_run is None else int(snapshot.last_run)


def _unreadable(error: QueueError, path: Path, advice: Advice) -> Finding:
    reason = getattr(error, "strerror", None) or str(error)
    if getattr(error, "errno", None) == errno.ENOENT:
        enqueue = advice.dbq("enqueue", "TYPE")
        next_step = f"name it with --file or --config; the first job creates it: {enqueue}"
    else:
        next_step = f"look at the file and its permissions: ls -l {shlex.quote(str(path))}"
    return Finding("unreadable", UNKNOWN, reason, advice=(next_step,))


class _Judge:
    """One method for each thing that can be wrong."""

    def __init__(
        self,
        report: HealthReport,
        snapshot: Snapshot,
        expected: Expectation | None,
        advice: Advice,
    ) -> None:
        self._report = report
        self._snapshot = snapshot
        self._ages = report.thresholds.ages
        self._expected = expected
        self._advice = advice

    def findings(self) -> Iterator[Finding]:
        """Yield all that is wrong, the gravest kinds first."""
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
        snapshot, tell = self._snapshot, self._advice
        orphans = [stuck.job for stuck in snapshot.stuck_jobs if stuck.orphaned]
        named = [
            _named(stuck.job, self._processing_since(stuck.job, stuck.orphaned))
            for stuck in snapshot.stuck_jobs
        ]
        advice = []
        if orphans:
            advice.append(f"the next worker run takes it back; run one now: {tell.work()}")
        if len(orphans) < len(named):
            advice.append(
                "if it hangs, stop its worker, and the next run takes it back; which process it is"
                f" shows: fuser -v {self._claims_file()}"
            )
        advice += [tell.dbq("show", job.id or "") for job in named[:1]]
        since = min((stuck.job.run_at for stuck in snapshot.stuck_jobs), default=None)
        summary = _many(snapshot.stuck, "stuck job")
        return Finding("stuck", state, summary, since, tuple(named), snapshot.stuck, tuple(advice))

    def _processing_since(self, job: Job, orphaned: bool) -> str:
        since = f"attempt {job.attempts} began {self._ago(job.run_at)}"
        if orphaned:
            return f"its worker died; {since}"
        return f"still running, for longer than {format_duration(self._ages.stuck_after)}; {since}"

    def _failed(self, state: int) -> Finding:
        snapshot, tell = self._snapshot, self._advice
        named = tuple(
            _named(job, f"failed {self._ago(job.run_at)} after {_many(job.attempts, 'attempt')}")
            for job in snapshot.failed_jobs
        )
        first = [named[0].id or ""] if named else []
        again = tell.dbq("retry", *(["--failed"] if snapshot.failed > 1 else first))
        advice = (*(tell.dbq("show", job_id) for job_id in first), f"to try again: {again}")
        within = format_duration(self._ages.failed_within)
        summary = f"{_many(snapshot.failed, 'failed job')} in the last {within}"
        return Finding(
            "failed", state, summary, snapshot.failed_first, named, snapshot.failed, advice
        )

    def _overdue(self, state: int) -> Finding:
        snapshot, tell = self._snapshot, self._advice
        jobs = snapshot.overdue_jobs
        named = tuple(_named(job, f"was due {self._ago(job.run_at)}") for job in jobs)
        silence = self._report.silence
        advice = [f"run a worker now: {tell.work()}"]
        if snapshot.running:
            advice.append(
                f"{_many(snapshot.running, 'job')} running: if that is usual, one worker is too few"
            )
        elif silence is not None and silence <= self._ages.silent_after:
            advice.append(
                f"a worker was at work {format_duration(silence)} ago and left them: does it know"
                " their types?"
            )
        since = min((job.run_at for job in jobs), default=None)
        summary = _many(snapshot.overdue, "overdue job")
        return Finding("overdue", state, summary, since, named, snapshot.overdue, tuple(advice))

    def _malformed(self, state: int) -> Finding:
        snapshot, tell = self._snapshot, self._advice
        named = tuple(Named(f"line {line.number}", line.why) for line in snapshot.bad_lines)
        advice = (
            f"see them all: {tell.dbq('fsck')}",
            f"correct them: {tell.dbq('edit')}",
            f"or set them aside: {tell.dbq('fsck', '--repair')}",
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
        }.get(name, name)
        how = "is in" if limit.inside else "is not in"
        advice = {
            "latency": f"run a worker now: {self._advice.work()}",
            "size": f"remove what is done: {self._advice.dbq('prune', '--older-than', '7d')}",
        }.get(name, f"see the numbers: {self._advice.dbq('stats')}")
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
        advice = (f"run one now: {self._advice.work()}", *self._advice.schedule())
        return Finding("silent", CRITICAL if ready else WARNING, summary, since, advice=advice)

    def _was_due(self, schedule: Schedule, since: int) -> bool:
        """Say whether a worker should have started after `since`, by the config's schedule."""
        at = datetime.fromtimestamp(self._report.at - SCHEDULE_GRACE, machine_zone())
        return schedule.last_run(at).timestamp() > since

    def _clock(self) -> Finding | None:
        """The clock has gone back: something is recorded that is yet to come."""
        behind, snapshot = self._report.clock_behind, self._snapshot
        if not behind:
            return None
        named = tuple(
            _named(job, f"{job.status} since {local_time(moment)}, which is yet to come")
            for job, moment in recorded_ahead(snapshot)
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


def _named(job: Job, note: str) -> Named:
    kind, error = escape_control(job.type), escape_control(job.error or "")
    return Named(f"{kind} {job.id}", note, job.id, kind, error or None)


def _many(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _age(seconds: int) -> str:
    """Return a length of time for people: its two largest units."""
    for unit, finer in ((86_400, 3_600), (3_600, 60)):
        if seconds >= unit:
            return format_duration(seconds // finer * finer)
    return format_duration(seconds)
