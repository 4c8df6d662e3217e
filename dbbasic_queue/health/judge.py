"""The health check: one look at the queue, and a verdict on it.

    check_health(path, thresholds, …)  -> HealthReport
        └─ look: the queue in numbers                    health/look.py
        └─ one method of `_Judge` for each thing that can be wrong

What is wrong is a `Finding`, which says what, since when, which jobs, and what to do next.

A machine that was off could not run workers: what waited longer than the machine is up gives no
reason to alarm yet. Nor is what waited longer than the config exists.
"""

from __future__ import annotations

import errno
import os
import shlex
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

from ..engines import open_engine
from ..engines.answers import Snapshot
from ..engines.interface import AHEAD, NONE
from ..engines.pausing import ALL
from ..errors import QueueError, StorageError, TableError
from ..job import FINISHED, PENDING, Job, error_lines
from ..schedule.clock import machine_uptime, machine_zone
from ..schedule.recurring import missed_slots
from ..schedule.schedule import Schedule
from ..support.address import masked, scheme_of
from ..support.durations import format_duration
from ..support.opening import user_name
from ..support.text import counted, escape_control
from .advice import Advice
from .look import Seen, limits_of, look, works_here
from .measures import RANGED
from .report import (
    CRITICAL,
    OK,
    UNKNOWN,
    WARNING,
    Expectation,
    Finding,
    HealthReport,
    Named,
    Thresholds,
    local_time,
    recorded_ahead,
)

SCHEDULE_GRACE: Final = 60  # seconds that a scheduled run of a worker may be late
ENTRY_GRACE: Final = 300  # seconds that the enqueueing of a recurring job may be late
FAR_AHEAD: Final = 7 * 86_400  # seconds; a smaller lead of the clock is soon caught up with
PATIENCE: Final = 2.0  # seconds to wait for a server
SETTLING: Final = 86_400  # seconds between writing a config and installing it, at most


def check_health(
    address: str | Path,
    thresholds: Thresholds | None = None,
    *,
    queue: str | None = None,
    expected: Expectation | None = None,
    advice: Advice | None = None,
    names: int = 5,
    options: Mapping[str, Any] | None = None,
    contact: int | None = None,
    clock: Callable[[], float] = time.time,
    uptime: Callable[[], float] | None = None,
) -> HealthReport:
    """Look at a queue and judge it. Creates and changes nothing, needs read permission only.

    Args:
        address: the queue's file, or the address of its server.
        thresholds: the defaults if None.
        queue: its name; its absolute path, or its server's address, if None.
        expected: what should happen; if None, only what has worked before can be silent.
        advice: the commands to type next; they name the queue by `--file` if None.
        names: how many jobs of a kind to name.
        options: how `open_engine` opens the address.
        contact: Unix seconds; when the server was last reached, if that is known.
        clock, uptime: Unix seconds, and for how many this machine has been running; for tests.

    Never raises for what is wrong with the queue; that is in the report.

    >>> import tempfile
    >>> check_health(Path(tempfile.mkdtemp()) / "queue.tsv").findings[0].kind
    'unreadable'
    """
    thresholds, now = thresholds or Thresholds(), int(clock())
    blind = _blind(address, queue, now, thresholds, expected, contact)
    advice = advice or Advice(["--url", blind.url] if blind.url else ["--file", str(blind.path)])
    limits = partial(limits_of, thresholds.ages, names, expected.policies if expected else NONE)
    try:
        patience = {"lock_timeout": PATIENCE} if blind.url else {}
        engine = open_engine(address, **{**(options or {}), **patience})
        seen = look(engine, now, (uptime or machine_uptime)(), expected, limits)
    except QueueError as error:
        why = _unreached if blind.url else _unreadable
        return replace(blind, findings=(why(error, blind, advice),))
    report = _filled(blind, seen)
    return replace(report, findings=tuple(_Judge(report, seen, expected, advice).findings()))


def _filled(blind: HealthReport, seen: Seen) -> HealthReport:
    """Return the report with all numbers, and nothing judged yet."""
    return replace(
        blind,
        at=seen.now,
        snapshot=seen.snapshot,
        last_run=_last_run(seen.snapshot, seen.now),
        server=seen.server,
        contact=seen.now if seen.server else None,
    )


def _blind(
    address: str | Path,
    queue: str | None,
    now: int,
    thresholds: Thresholds,
    expected: Expectation | None,
    contact: int | None,
) -> HealthReport:
    """Return the report of a queue that could not be looked at."""
    url = masked(str(address)) if scheme_of(str(address)) else None
    path = Path() if url else Path(address)
    next_check = _next_run(expected.checks, now) if expected and expected.checks else None
    return HealthReport(
        queue or url or str(path.absolute()),
        *(path, now, thresholds, None, None, (), next_check, url, None, contact),
    )


def _next_run(schedule: Schedule, now: int) -> int | None:
    runs = schedule.next_runs(datetime.fromtimestamp(now, machine_zone()), 1)
    return int(runs[0].timestamp()) if runs else None


def _last_run(snapshot: Snapshot, now: int) -> int | None:
    """Return when a worker was last at work. One in a long job leaves no trace meanwhile."""
    if snapshot.running:
        return now
    if snapshot.last_run is None or snapshot.last_run > now + AHEAD:  # a wrong clock's time
        return None
    return int(snapshot.last_run)


def _unreadable(error: QueueError, report: HealthReport, advice: Advice) -> Finding:
    reason = getattr(error, "strerror", None) or str(error)
    if getattr(error, "errno", None) == errno.ENOENT:
        enqueue = advice.dbq("enqueue", "TYPE")
        next_step = f"name it with --file or --config; the first job creates it: {enqueue}"
    else:
        next_step = f"look at the file and its permissions: ls -l {shlex.quote(str(report.path))}"
    return Finding("unreadable", UNKNOWN, reason, advice=(next_step,))


def _unreached(error: QueueError, report: HealthReport, advice: Advice) -> Finding:
    """Tell that the server does not answer: a reason to alarm once that lasts as long as silence.

    How long it lasts is known from the checks before, if they could leave word: see `contact`.
    """
    since = report.contact
    reason = getattr(error, "strerror", None) or str(error)
    long = since is not None and report.at - since > report.thresholds.ages.silent_after
    return Finding(
        "engine",
        CRITICAL if long else UNKNOWN,
        f"the server of the queue cannot be asked: {' '.join(reason.split())}",
        since,
        advice=(f"ask it from here: {advice.dbq('check')}",),
    )


class _Judge:
    """One method for each thing that can be wrong."""

    def __init__(
        self,
        report: HealthReport,
        seen: Seen,
        expected: Expectation | None,
        advice: Advice,
    ) -> None:
        self._report = report
        self._snapshot = seen.snapshot
        self._ages = report.thresholds.ages
        self._expected = expected
        self._advice = advice
        self._started = seen.started
        self._shortfall = seen.shortfall
        self._slots = seen.slots

    def findings(self) -> Iterator[Finding]:
        """Yield all that is wrong, the gravest kinds first."""
        if self._snapshot.blocked:
            advice = "see what that process is; if it hangs, end it: the kernel frees the lock"
            yield Finding("locked", CRITICAL, self._snapshot.blocked, advice=(advice,))
        named: dict[str, Callable[[int], Finding]] = {
            "stuck": self._stuck,
            "failed": self._failed,
            "overdue": self._overdue,
            "malformed": self._malformed,
        }
        for name in RANGED:
            state = self._report.thresholds.state(name, self._report.number(name))
            if state != OK and not (name == "stuck" and self._are_of_a_former_life()):
                yield named[name](state) if name in named else self._out_of_range(name, state)
        judges = (self._silent, self._recurring, self._log, self._clock, self._claims)
        for judge in (*judges, self._durability, self._workers):
            finding = judge()
            if finding is not None:
                yield finding

    def _are_of_a_former_life(self) -> bool:
        """Say whether the stuck jobs were running when the machine went down, moments ago.

        The first worker takes them back; it has as long as the first job has to be taken.
        """
        report = self._report
        if report.at - self._started > self._ages.overdue_after:
            return False
        stuck = self._snapshot.stuck_jobs
        return bool(stuck) and all(it.orphaned and it.job.run_at < self._started for it in stuck)

    def _stuck(self, state: int) -> Finding:
        snapshot, tell = self._snapshot, self._advice
        orphans = [stuck.job for stuck in snapshot.stuck_jobs if stuck.orphaned]
        named = [
            _named(stuck.job, self._processing_since(stuck.job, stuck.orphaned))
            for stuck in snapshot.stuck_jobs
        ]
        show = tell.dbq("show", named[0].id or "") if named else ""
        advice = []
        if orphans:
            advice += [f"the next worker run takes it back; run one now: {tell.work()}", show]
        if len(orphans) < len(named):
            hanging = next(it.job.id for it in snapshot.stuck_jobs if not it.orphaned)
            advice.append(
                "if it hangs, stop its worker, and the next run takes it back; which process it"
                f" is: {tell.dbq('show', hanging)}"
            )
        since = min((stuck.job.run_at for stuck in snapshot.stuck_jobs), default=None)
        summary = counted(snapshot.stuck, "stuck job")
        return Finding("stuck", state, summary, since, tuple(named), snapshot.stuck, tuple(advice))

    def _processing_since(self, job: Job, orphaned: bool) -> str:
        since = f"attempt {job.attempts} began {self._ago(job.run_at)}"
        if orphaned:
            return f"its worker died; {since}"
        return f"still running, for longer than {format_duration(self._ages.stuck_after)}; {since}"

    def _failed(self, state: int) -> Finding:
        snapshot, tell = self._snapshot, self._advice
        named = tuple(
            _named(job, f"failed {self._ago(job.run_at)} after {counted(job.attempts, 'attempt')}")
            for job in snapshot.failed_jobs
        )
        first = [named[0].id or ""] if named else []
        again = tell.dbq("retry", *(["--failed"] if snapshot.failed > 1 else first))
        advice = (*(tell.dbq("show", job_id) for job_id in first), f"to try again: {again}")
        within = format_duration(self._ages.failed_within)
        summary = f"{counted(snapshot.failed, 'failed job')} in the last {within}"
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
                f"{counted(snapshot.running, 'job')} running: if that is usual,"
                " one worker is too few"
            )
            if self._expected is None:
                advice.append(
                    "as many of their type may be running as a config allows; that is known with"
                    " --config PATH"
                )
        elif silence is not None and silence <= self._ages.silent_after:
            advice.append(
                f"a worker was at work {format_duration(silence)} ago and left them: does it know"
                " their types?"
            )
        since = min((job.run_at for job in jobs), default=None)
        summary = counted(snapshot.overdue, "overdue job")
        return Finding("overdue", state, summary, since, named, snapshot.overdue, tuple(advice))

    def _malformed(self, state: int) -> Finding:
        snapshot, tell = self._snapshot, self._advice
        named = tuple(Named(f"line {line.number}", line.why) for line in snapshot.bad_lines)
        advice = (
            f"see them all: {tell.dbq('fsck')}",
            f"correct them: {tell.dbq('edit')}",
            f"or set them aside: {tell.dbq('fsck', '--repair')}",
        )
        summary = counted(snapshot.malformed, "malformed line")
        return Finding("malformed", state, summary, None, named, snapshot.malformed, advice)

    def _out_of_range(self, name: str, state: int) -> Finding:
        ranges = self._report.thresholds
        limit = (ranges.critical if state == CRITICAL else ranges.warning)[name]
        value = self._report.number(name) or 0
        what = {
            "pending": counted(value, "pending job"),
            "ready": counted(value, "ready job"),
            "latency": f"the oldest ready job has waited {format_duration(value)}",
            "size": f"the file has {value:,} bytes",
            "memory": f"the server uses {value} % of the memory that it may use",
        }.get(name, name)
        how = "is in" if limit.inside else "is not in"
        advice = {
            "latency": f"run a worker now: {self._advice.work()}",
            **dict.fromkeys(
                ("size", "memory"),
                f"remove what is done: {self._advice.dbq('prune', '--older-than', '7d')}",
            ),
        }.get(name, f"see the numbers: {self._advice.dbq('stats')}")
        since = self._snapshot.oldest_ready if name == "latency" else None
        return Finding(
            name, state, f"{what}: {value} {how} {str(limit).lstrip('@')}", since, advice=(advice,)
        )

    def _silent(self) -> Finding | None:
        report, expected = self._report, self._expected
        since = report.last_run
        if since is None and expected is not None:
            since = int(expected.since)
        if since is None or any(pause.type == ALL for pause in self._snapshot.paused):
            return None
        awaited = max(since, self._started)
        if report.at - awaited <= self._ages.silent_after:
            return None
        if expected is not None and not self._was_due(expected.worker, awaited):
            return None
        ready = self._snapshot.ready
        who = "no worker has run" if report.last_run else "no worker has ever run"
        summary = f"{who} for {_age(report.at - since)}"
        if ready:
            summary += f", and {counted(ready, 'job')} due"
        advice = (f"run one now: {self._advice.work()}", *self._advice.schedule())
        return Finding("silent", CRITICAL if ready else WARNING, summary, since, advice=advice)

    def _was_due(self, schedule: Schedule, since: int) -> bool:
        """Say whether a worker should have started after `since`, by the config's schedule."""
        at = datetime.fromtimestamp(self._report.at - SCHEDULE_GRACE, machine_zone())
        return schedule.last_run(at).timestamp() > since

    def _recurring(self) -> Finding | None:
        """Find recurring jobs whose last time has passed without a job."""
        if self._expected is None or self._expected.recurring is None:
            return None
        jobs, now = self._expected.recurring, self._report.at
        try:
            missed = missed_slots(
                jobs,
                now,
                self._started,
                late=ENTRY_GRACE,
                first_after=SETTLING,
                slots=self._slots,
            )
        except StorageError:  # this user has no permission to read the marks
            return None
        except TableError as error:
            return Finding("recurring", WARNING, str(error))
        if not missed:
            return None
        named = tuple(Named(name, f"was to be enqueued {self._ago(slot)}") for name, slot in missed)
        summary = f"{counted(len(missed), 'recurring job')} not enqueued when due"
        advice = (
            f"enqueue it now: {self._advice.dbq('enqueue-recurring', named[0].name)}",
            *self._advice.schedule(),
            f"if it starts, but at other times, its scheduler goes by another time zone (TZ): as"
            f" root: {self._advice.dbq('check')}",
        )
        since = min(slot for _, slot in missed)
        return Finding("recurring", WARNING, summary, since, named, len(missed), advice)

    def _log(self) -> Finding | None:
        """Find a log that the worker cannot write: the jobs run, and their lines go elsewhere."""
        log = self._expected.log if self._expected else None
        if log is None or self._snapshot.last_run is None or _is_writable(log):
            return None
        summary = f"the worker cannot write its log {log}"
        advice = (
            f"look at the file and its folder: ls -ld {shlex.join([str(log.parent), str(log)])}",
            f"then: {self._advice.dbq('check')}",
        )
        return Finding("log", WARNING, summary, advice=advice)

    def _clock(self) -> Finding | None:
        """Find recorded times that are yet to come: the clock has gone back."""
        behind, snapshot = self._report.clock_behind, self._snapshot
        if not behind:
            return None
        named = tuple(
            _named(job, f"{job.status} since {local_time(moment)}, which is yet to come")
            for job, moment in recorded_ahead(snapshot)
        )
        summary = f"the clock has gone back by {_age(behind)} or more"
        advice = ["check the machine's clock: timedatectl"]
        if any(job.status == PENDING for job in snapshot.ahead_jobs):
            advice.append(
                "pending jobs from then run when the clock has caught up; to have one run earlier,"
                f" enqueue it again and cancel the old one: {self._advice.dbq('cancel', 'ID')}"
            )
        ended = sorted({job.status for job in snapshot.ahead_jobs} & set(FINISHED))
        if ended and behind >= FAR_AHEAD:
            age = _age(behind // 2)
            words = [word for status in ended for word in ("--status", status)]
            advice.append(
                f"if the clock is right now, remove the jobs that ended more than {age} ago or"
                f" ahead: {self._advice.dbq('prune', '--older-than', age, *words)}"
            )
        if max(snapshot.written, snapshot.last_run or 0) - self._report.at > AHEAD:
            advice.append(
                "if the clock is right now, the times of the files are right again after the next"
                f" job and the next run of a worker: {self._advice.work()}"
            )
        return Finding("clock", WARNING, summary, None, named, snapshot.ahead, tuple(advice))

    def _claims(self) -> Finding | None:
        """Tell why it is not known whether workers are alive, if it is not."""
        snapshot = self._snapshot
        if not snapshot.unknown:
            return None
        summary = f"it is not known whether the workers of running jobs live: {snapshot.unknown}"
        path = self._report.path
        with suppress(OSError):
            health = self._advice.health(user_name(path.stat().st_uid))
            return Finding("claims", UNKNOWN, summary, advice=(f"the owner can tell: {health}",))
        return Finding("claims", UNKNOWN, summary)

    def _durability(self) -> Finding | None:
        """Tell where the server may lose jobs that were acknowledged."""
        short, server = self._shortfall, self._report.server
        said = [each for each in (short and short.text, server and server.lag) if each]
        if not said:
            return None
        lines = short.lines if short else ()
        advice = [f"add to the server's configuration: {line}" for line in lines]
        return Finding("durability", WARNING, "; ".join(said), advice=tuple(advice))

    def _workers(self) -> Finding | None:
        """Find that no worker runs on this machine, where some should all the time."""
        server, expected = self._report.server, self._expected
        if server is None or expected is None or not expected.always or works_here(server):
            return None
        if self._report.at - self._started <= self._ages.silent_after:
            return None
        there = counted(len(server.workers), "worker")
        summary = f"no worker runs on this machine; {there} elsewhere"
        return Finding("workers", WARNING, summary, advice=self._advice.schedule())

    def _ago(self, moment: int) -> str:
        return f"{local_time(moment)} ({_age(max(0, self._report.at - moment))} ago)"


def _is_writable(file: Path) -> bool:
    """Say whether this user can write a file, or create it; True if it cannot be told from here.

    The scheduled check may run in a sandbox to which the file system is read-only, unlike to the
    worker's.
    """
    with suppress(OSError):
        if os.statvfs(file.parent).f_flag & os.ST_RDONLY:
            return True
    if os.path.lexists(file):
        return file.is_file() and os.access(file, os.W_OK)
    return os.access(file.parent, os.W_OK | os.X_OK)


def _named(job: Job, note: str) -> Named:
    kind, error = escape_control(job.type), escape_control(error_lines(job.error)[0])
    return Named(f"{kind} {job.id}", note, job.id, kind, error or None)


def _age(seconds: int) -> str:
    """Return a length of time for people: its two largest units."""
    for unit, finer in ((86_400, 3_600), (3_600, 60)):
        if seconds >= unit:
            return format_duration(seconds // finer * finer)
    return format_duration(seconds)
