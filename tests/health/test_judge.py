"""The verdict: which state each thing means, what it says, and what it tells to do."""

from __future__ import annotations

import os
import pwd
import shlex
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tables import NOBODY, in_child, let_in, text, write

from dbbasic_queue import Queue
from dbbasic_queue.cli import main as cli
from dbbasic_queue.config.sections import HealthConfig
from dbbasic_queue.engines.tsv.claims import Claims
from dbbasic_queue.health.advice import Advice
from dbbasic_queue.health.judge import check_health
from dbbasic_queue.health.report import (
    CRITICAL,
    OK,
    UNKNOWN,
    WARNING,
    Expectation,
    Finding,
    HealthReport,
    Thresholds,
)
from dbbasic_queue.health.thresholds import Range
from dbbasic_queue.schedule.clock import machine_uptime
from dbbasic_queue.schedule.marks import marks_file
from dbbasic_queue.schedule.recurring import RecurringJob, RecurringJobs
from dbbasic_queue.schedule.schedule import Schedule

NOW = 1_700_000_000  # 2023-11-14 22:13:20 UTC
EVERY_MINUTE = Schedule.parse("* * * * *")


def checked(path: Path, now: int = NOW, **options: Any) -> HealthReport:
    """A check by a clock that stands still. The files are as old as that clock says."""
    for file in path.parent.glob("queue.*"):
        if file.stat().st_mtime > NOW + 10**6:
            os.utime(file, (NOW, NOW))
    return check_health(path, clock=lambda: now, **{"uptime": lambda: 10**6, **options})


def found(report: HealthReport) -> dict[str, int]:
    """Kind -> state of what was found."""
    return {finding.kind: finding.state for finding in report.findings}


def worker_ran(path: Path, when: int) -> None:
    """Leave the trace of a worker's run."""
    claims = path.with_suffix(".claims")
    claims.touch()
    os.utime(claims, (when, when))


def ranges(**texts: str) -> Mapping[str, Range]:
    return {name: Range.parse(text) for name, text in texts.items()}


# -- the defaults --------------------------------------------------------------------------------

LATE = NOW - 10


@pytest.mark.parametrize(
    ("lines", "verdict"),
    [
        ([], {}),
        ([text(run_at=NOW - 300)], {}),
        ([text(run_at=NOW - 301)], {"overdue": WARNING}),
        ([text(run_at=NOW + 9, created_at=NOW)], {}),
        ([text(status="processing", run_at=LATE)], {"stuck": CRITICAL}),
        ([text(status="completed", run_at=LATE)], {}),
        ([text(status="cancelled", run_at=LATE)], {}),
        ([text(status="failed", run_at=NOW - 86_401)], {}),
        ([text(status="failed", run_at=NOW - 86_400)], {"failed": WARNING}),
        ([text(f"f{i}", "failed", run_at=LATE) for i in range(9)], {"failed": WARNING}),
        ([text(f"f{i}", "failed", run_at=LATE) for i in range(10)], {"failed": CRITICAL}),
        ([b"garbage\n"], {"malformed": CRITICAL}),
        ([text(status="completed", run_at=NOW + 61)], {"clock": WARNING}),
    ],
)
def test_the_default_thresholds(path: Path, lines: list[bytes], verdict: dict[str, int]) -> None:
    """Stuck and malformed are CRITICAL, one failed job a WARNING and ten CRITICAL, and so on."""
    write(path, *lines)
    report = checked(path)
    assert found(report) == verdict
    assert report.state == max(verdict.values(), default=OK)


def test_ages_come_from_the_config(path: Path) -> None:
    """`[health]` says after how long something is a fault."""
    write(path, text("p", run_at=NOW - 50), text("f", "failed", run_at=NOW - 50))
    ages = HealthConfig(overdue_after=49, failed_within=49)
    assert found(checked(path, thresholds=Thresholds(ages))) == {"overdue": WARNING}
    ages = HealthConfig(overdue_after=50, failed_within=50)
    assert found(checked(path, thresholds=Thresholds(ages))) == {"failed": WARNING}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("stuck", 1),
        ("failed", 2),
        ("overdue", 3),
        ("malformed", 1),
        ("pending", 4),
        ("ready", 3),
        ("latency", 1000),
    ],
)
def test_every_number_can_be_given_a_range(path: Path, name: str, value: int) -> None:
    """A number outside of its range is a WARNING or CRITICAL, on it is fine."""
    lines = [text(f"p{i}", run_at=NOW - 1000 + i) for i in range(3)]
    lines += [text("later", run_at=NOW + 9, created_at=NOW), text("r", "processing", run_at=NOW)]
    lines += [text(f"f{i}", "failed", run_at=NOW) for i in range(2)]
    write(path, *lines, b"garbage\n")
    report = checked(path, thresholds=Thresholds(warning={}, critical={}))
    assert (found(report), report.number(name)) == ({}, value)
    low, high = {name: Range.parse(str(value - 1))}, {name: Range.parse(str(value))}
    assert found(checked(path, thresholds=Thresholds(warning=low, critical={}))) == {name: WARNING}
    assert found(checked(path, thresholds=Thresholds(warning=low, critical=low))) == {
        name: CRITICAL
    }
    assert found(checked(path, thresholds=Thresholds(warning=high, critical=high))) == {}
    inside = {name: Range.parse(f"@{value}:{value}")}
    (finding,) = checked(path, thresholds=Thresholds(warning=inside, critical={})).findings
    assert finding.summary
    assert finding.advice


def test_the_size_can_be_given_a_range(path: Path) -> None:
    """A file that grows too large is noticed."""
    write(path, text())
    size = path.stat().st_size
    (finding,) = checked(path, thresholds=Thresholds(warning=ranges(size=str(size - 1)))).findings
    assert (finding.kind, finding.state) == ("size", WARNING)
    assert f"{size} is not in {size - 1}" in finding.summary


def test_a_known_fault_is_graver_than_an_unknown_one() -> None:
    """CRITICAL before WARNING before UNKNOWN before OK."""
    bare = HealthReport("q", Path(), NOW, Thresholds(), None, None, ())
    states = [Finding("x", state, "x") for state in (UNKNOWN, WARNING, CRITICAL)]
    assert [replace(bare, findings=tuple(states[:n])).state for n in range(4)] == [
        OK,
        UNKNOWN,
        WARNING,
        CRITICAL,
    ]


# -- silence -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ran", "due", "verdict"),
    [
        (None, False, {}),
        (None, True, {}),
        (NOW - 600, False, {}),
        (NOW - 600, True, {}),
        (NOW - 601, False, {"silent": WARNING}),
        (NOW - 601, True, {"silent": CRITICAL}),
    ],
)
def test_silence(path: Path, ran: int | None, due: bool, verdict: dict[str, int]) -> None:
    """CRITICAL while jobs are due, a WARNING otherwise, nothing where no worker ever ran."""
    write(path, text(run_at=NOW if due else NOW + 9, created_at=NOW))
    if ran is not None:
        worker_ran(path, ran)
    assert found(checked(path)) == verdict


def test_a_config_says_that_workers_should_run(path: Path) -> None:
    """Where a config has been for long enough, a queue on which no worker ever ran is silent."""
    write(path)
    expected = Expectation(NOW - 601, EVERY_MINUTE)
    report = checked(path, expected=expected)
    assert found(report) == {"silent": WARNING}
    assert report.findings[0].summary == "no worker has ever run for 10min1s"
    assert found(checked(path, expected=Expectation(NOW - 600, EVERY_MINUTE))) == {}
    worker_ran(path, NOW - 5)
    assert found(checked(path, expected=expected)) == {}


def test_between_two_runs_of_the_schedule_there_may_be_silence(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that is to run every hour is not silent before its next run is late."""
    monkeypatch.setattr("dbbasic_queue.health.judge.machine_zone", lambda: None)
    write(path)
    hourly = Expectation(0, Schedule.parse("0 * * * *"))
    last = 3600 * (NOW // 3600) + 1  # whole hours in every zone that is whole hours off
    worker_ran(path, last)
    assert found(checked(path, last + 3500, expected=hourly)) == {}
    assert found(checked(path, last + 3640, expected=hourly)) == {}
    assert found(checked(path, last + 3700, expected=hourly)) == {"silent": WARNING}


def test_a_worker_in_a_long_job_is_not_silent(path: Path) -> None:
    """A job that runs for hours leaves no trace meanwhile; its worker lives all the same."""
    write(path, text(status="processing", run_at=NOW - 1700))
    claims = Claims(path.with_suffix(".claims"), path)
    assert claims.take(b"a1") is not None
    worker_ran(path, NOW - 1700)
    report = checked(path)
    assert (found(report), report.last_run, report.silence) == ({}, NOW, 0)


def test_while_all_is_paused_no_worker_is_missed(path: Path) -> None:
    """Nor is a job overdue; a pause of one type changes nothing about the others."""
    write(path, text(run_at=NOW - 4000))
    worker_ran(path, NOW - 601)
    queue = Queue(path, "normal", clock=lambda: NOW)
    queue.pause("other")
    assert found(checked(path)) == {"overdue": WARNING, "silent": CRITICAL}
    queue.pause()
    assert found(checked(path)) == {}


# -- after a start of the machine ------------------------------------------------------------------


def test_a_machine_that_was_off_has_time_to_begin(path: Path) -> None:
    """What waited while the machine was off, or without a config, raises no alarm at once."""
    write(path, text(run_at=NOW - 4000))
    worker_ran(path, NOW - 30_000)
    assert found(checked(path, uptime=lambda: 30)) == {}
    assert found(checked(path, uptime=lambda: 301)) == {"overdue": WARNING}
    late = checked(path, uptime=lambda: 601)
    assert found(late) == {"overdue": WARNING, "silent": CRITICAL}
    assert "no worker has run for 8h20min" in late.findings[1].summary
    fresh = Expectation(NOW - 30, EVERY_MINUTE)
    assert found(checked(path, expected=fresh)) == {}
    from_the_future = Expectation(NOW + 10**5, EVERY_MINUTE)
    assert found(checked(path, expected=from_the_future)) != {}


def test_jobs_that_a_power_cut_broke_off_wait_for_the_first_worker(path: Path) -> None:
    """Orphans of before the start are stuck when no worker has taken them back by then."""
    write(path, text(status="processing", run_at=NOW - 4000))
    assert found(checked(path, uptime=lambda: 30)) == {}
    assert found(checked(path, uptime=lambda: 301)) == {"stuck": CRITICAL}
    write(path, text(status="processing", run_at=NOW - 10))
    assert found(checked(path, uptime=lambda: 30)) == {"stuck": CRITICAL}


def test_the_uptime_is_a_number_of_seconds() -> None:
    """It begins no later than this process, and no earlier than the machine."""
    assert 0 < machine_uptime() <= time.clock_gettime(time.CLOCK_BOOTTIME)
    started = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    mine = time.clock_gettime(time.CLOCK_BOOTTIME) - started / os.sysconf("SC_CLK_TCK")
    assert machine_uptime() >= mine


# -- recurring jobs --------------------------------------------------------------------------------


def recurring(path: Path, schedule: str = "0 * * * *") -> Expectation:
    """What a config of long ago expects, with one recurring job."""
    job = RecurringJob("report", "mail", Schedule.parse(schedule))
    jobs = RecurringJobs(path.with_name("dbq.toml"), "shop", (job,), marks_file(path))
    return Expectation(NOW - 10**6, EVERY_MINUTE, recurring=jobs)


def mark(path: Path, slot: int, schedule: str = "0 * * * *") -> None:
    """Leave the trace of a slot that was dealt with."""
    marks_file(path).write_text(f"{slot}\tshop\treport\t{schedule}\n")


@pytest.fixture
def in_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    """Schedules go by UTC."""
    for module in ("health.judge", "schedule.recurring"):
        monkeypatch.setattr(f"dbbasic_queue.{module}.machine_zone", lambda: UTC)


HOUR = 3600 * (NOW // 3600 + 1)


@pytest.mark.parametrize(
    ("marked", "late", "told"),
    [
        (HOUR, 301, False),
        (HOUR, 10, False),  # newer than the slot that is asked about
        (HOUR - 3600, 299, False),
        (HOUR - 3600, 300, True),
        (HOUR - 7200, 60, True),
        (None, 400, True),
    ],
)
def test_recurring_jobs_that_are_not_enqueued(
    path: Path, in_utc: None, marked: int | None, late: int, told: bool
) -> None:
    """The last slot of each must have been dealt with five minutes later."""
    write(path)
    worker_ran(path, HOUR)
    if marked:
        mark(path, marked)
    report = checked(path, HOUR + late, expected=recurring(path))
    assert found(report) == ({"recurring": WARNING} if told else {})
    if told:
        (finding,) = report.findings
        assert finding.summary == "1 recurring job not enqueued when due"
        assert "another time zone" in finding.advice[-1]
        assert finding.named[0].name == "report"
        assert f"dbq enqueue-recurring report --file {path}" in finding.advice[0]


def test_what_was_due_before_the_start_is_not_missed(path: Path, in_utc: None) -> None:
    """Slots while the machine was off are not alarmed for; catch_up is there for them."""
    write(path)
    mark(path, HOUR - 7200)
    worker_ran(path, HOUR + 400)
    expected = recurring(path)
    assert found(checked(path, HOUR + 400, expected=expected, uptime=lambda: 399)) == {}
    assert found(checked(path, HOUR + 400, expected=expected, uptime=lambda: 401)) != {}


def test_a_new_config_may_be_installed_later(path: Path, in_utc: None) -> None:
    """A job that was never enqueued has a day from the writing of its config."""
    write(path)
    worker_ran(path, HOUR)
    young = replace(recurring(path), since=HOUR - 80_000)
    assert found(checked(path, HOUR + 400, expected=young)) == {}
    old = replace(recurring(path), since=HOUR - 90_000)
    assert found(checked(path, HOUR + 400, expected=old)) == {"recurring": WARNING}


def test_marks_that_are_closed_or_damaged(path: Path, in_utc: None) -> None:
    """A reader who cannot see the marks says nothing of them; damaged ones are told."""
    write(path)
    worker_ran(path, HOUR)
    marks_file(path).write_text("nonsense\n")
    assert "not a mark" in checked(path, HOUR, expected=recurring(path)).findings[0].summary
    marks_file(path).chmod(0)
    let_in(path.parent)
    expected = recurring(path)
    report = in_child(lambda: checked(path, HOUR + 400, expected=expected), user=NOBODY)
    assert "recurring" not in found(report)


def test_a_log_in_a_sandbox(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the file system is read-only to the check alone, the log is not judged."""
    write(path)
    worker_ran(path, NOW)
    expected = Expectation(NOW - 10**6, EVERY_MINUTE, log=tmp_path / "gone" / "a.log")
    assert found(checked(path, expected=expected)) == {"log": WARNING}
    (tmp_path / "gone").mkdir()
    assert found(checked(path, expected=expected)) == {}
    (tmp_path / "gone/a.log").mkdir()
    assert found(checked(path, expected=expected)) == {"log": WARNING}
    status = SimpleNamespace(f_flag=os.ST_RDONLY)
    monkeypatch.setattr(os, "statvfs", lambda folder: status)
    assert found(checked(path, expected=expected)) == {}


def test_the_next_check_is_told(path: Path, in_utc: None) -> None:
    """Where the config schedules checks, the report says when the next is, also without a queue."""
    expected = Expectation(NOW - 9, EVERY_MINUTE, checks=Schedule.parse("0 * * * *"))
    assert checked(path, HOUR + 5, expected=expected).next_check == HOUR + 3600
    write(path)
    assert checked(path, HOUR + 5, expected=expected).next_check == HOUR + 3600
    assert checked(path, HOUR + 5).next_check is None


# -- the clock -----------------------------------------------------------------------------------


def test_a_clock_that_went_back(path: Path) -> None:
    """What is recorded but is yet to come is told with the job, the time, and by how much."""
    write(
        path,
        text("d1", "completed", run_at=NOW + 7200),
        text("p1", created_at=NOW + 3600, run_at=NOW + 3600),
    )
    report = checked(path)
    (finding,) = report.findings
    assert (finding.kind, finding.state, finding.count) == ("clock", WARNING, 2)
    assert "gone back by 2h or more" in finding.summary
    assert [named.id for named in finding.named] == ["d1", "p1"]
    assert report.clock_behind == 7200


def test_a_clock_that_was_far_ahead_tells_the_way_out(path: Path) -> None:
    """Jobs that ended years ahead would alarm for years: the advice removes them and no others."""
    ahead = NOW + 730 * 86_400
    write(path, text("d1", "completed", run_at=ahead), text("d2", "completed", run_at=NOW - 86_400))
    advised = advice(checked(path), "clock")
    assert f"dbq prune --older-than 365d --status completed --file {path}" in advised
    write(path, text("p1", created_at=NOW + 7200, run_at=NOW + 7200))
    advised = advice(checked(path), "clock")
    assert "prune" not in advised
    assert f"dbq cancel ID --file {path}" in advised


def test_a_run_in_the_future_says_nothing_about_silence(path: Path) -> None:
    """A worker's trace of a wrong clock does not keep the silence from being told."""
    write(path)
    worker_ran(path, NOW + 10**5)
    report = checked(path, expected=Expectation(NOW - 700, EVERY_MINUTE))
    assert found(report) == {"silent": WARNING, "clock": WARNING}


def test_files_that_were_written_in_the_future(path: Path) -> None:
    """Where no row tells, the times of the files do; a minute is nothing."""
    write(path)
    worker_ran(path, NOW + 60)
    assert found(checked(path)) == {}
    worker_ran(path, NOW + 61)
    report = checked(path)
    assert found(report) == {"clock": WARNING}
    assert "after the next job and the next run of a worker: dbq work" in advice(report, "clock")


# -- what cannot be read ---------------------------------------------------------------------------


def test_a_missing_queue_is_unknown(path: Path) -> None:
    """A queue that is not there is UNKNOWN, and the advice makes one."""
    report = checked(path)
    assert found(report) == {"unreadable": UNKNOWN}
    assert f"dbq enqueue TYPE --file {path}" in report.findings[0].advice[0]
    assert (report.latency, report.silence, report.number("stuck")) == (None, None, None)


def test_claims_that_cannot_be_read_are_unknown(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the kernel does not tell whether workers live, that is said instead of a guess."""
    monkeypatch.setattr("dbbasic_queue.engines.tsv.kernel_locks.LOCKS", "/no/locks")
    write(path, text(status="processing", run_at=NOW - 5))
    Claims(path.with_suffix(".claims"), path).take(b"a1")
    path.with_suffix(".claims").chmod(0)
    os.utime(path, (NOW, NOW))
    worker_ran(path, NOW)
    let_in(path.parent)
    report = in_child(lambda: check_health(path, clock=lambda: NOW + 1), user=NOBODY)
    assert found(report) == {"claims": UNKNOWN}
    assert "Permission denied" in report.findings[0].summary
    owner = pwd.getpwuid(os.geteuid()).pw_name
    assert f"sudo -u {owner} dbq-health --file {path}" in advice(report, "claims")


# -- what it says --------------------------------------------------------------------------------


def advice(report: HealthReport, kind: str) -> str:
    (finding,) = (finding for finding in report.findings if finding.kind == kind)
    return "\n".join(finding.advice)


def full(path: Path) -> None:
    """A table on which everything is wrong."""
    write(
        path,
        text("p1", run_at=NOW - 1000, type="mail"),
        text("r1", "processing", run_at=NOW - 99, attempts=2, error="OSError: disk"),
        text("f1", "failed", run_at=NOW - 60, attempts=3, error="ValueError: no such user"),
        text("f2", "failed", run_at=NOW - 90, attempts=1, error="E: x"),
        b"garbage\n",
    )
    worker_ran(path, NOW - 1200)


def test_it_says_what_since_when_and_which(path: Path) -> None:
    """Each finding has its number, its time, and the jobs with type, id and last error."""
    full(path)
    by_kind = {finding.kind: finding for finding in checked(path).findings}
    assert [(kind, it.summary, it.since) for kind, it in by_kind.items()] == [
        ("stuck", "1 stuck job", NOW - 99),
        ("failed", "2 failed jobs in the last 1d", NOW - 90),
        ("overdue", "1 overdue job", NOW - 1000),
        ("malformed", "1 malformed line", None),
        ("silent", "no worker has run for 20min, and 1 job due", NOW - 1200),
    ]
    (stuck,) = by_kind["stuck"].named
    assert (stuck.name, stuck.error) == ("mail r1", "OSError: disk")
    assert "its worker died; attempt 2 began" in stuck.note
    assert [named.id for named in by_kind["failed"].named] == ["f1", "f2"]
    assert "after 3 attempts" in by_kind["failed"].named[0].note
    assert by_kind["malformed"].named[0].name == "line 6"


@pytest.mark.parametrize("where", [["--file", "my queue.tsv"], ["--config", "etc/dbq.toml"]])
def test_it_says_what_to_do_next(path: Path, where: list[str]) -> None:
    """The commands are exact, with the queue named as the user named it."""
    full(path)
    report = checked(path, advice=Advice(where))
    named = shlex.join(where)
    work = "dbq work" if where[0] == "--config" else "dbq work MODULE:HANDLERS"
    assert f"dbq show r1 {named}" in advice(report, "stuck")
    assert f"{work} {named}" in advice(report, "stuck")
    assert f"dbq show f1 {named}" in advice(report, "failed")
    assert f"dbq retry --failed {named}" in advice(report, "failed")
    assert f"{work} {named}" in advice(report, "overdue")
    assert f"dbq fsck {named}" in advice(report, "malformed")
    assert f"dbq edit {named}" in advice(report, "malformed")
    assert f"dbq fsck --repair {named}" in advice(report, "malformed")
    assert f"{work} {named}" in advice(report, "silent")


def test_one_failed_job_is_retried_by_its_id(path: Path) -> None:
    """Where one job has failed, the command names it."""
    write(path, text("f1", "failed", run_at=NOW))
    assert "dbq retry f1 --file" in advice(checked(path), "failed")


@pytest.mark.parametrize("option", ["--file", "--config"])
def test_every_command_that_it_tells_is_one_that_dbq_knows(path: Path, option: str) -> None:
    """`dbq` takes the commands as they are told."""
    full(path)
    to_type = Advice([option, "x y"])
    texts = [line for it in checked(path, advice=to_type).findings for line in it.advice]
    path.unlink()
    texts += checked(path, advice=to_type).findings[0].advice
    told = [line[line.index("dbq ") :] for line in texts if "dbq " in line]
    assert len(told) == 10
    for command in told:
        assert vars(cli._parser().parse_args(shlex.split(command)[1:]))[option[2:]] == "x y"


def test_a_silent_queue_with_a_config_tells_how_to_see_the_schedule(path: Path) -> None:
    """With a config, the installers say what is scheduled."""
    write(path)
    worker_ran(path, NOW - 10_000)
    report = checked(path, advice=Advice(["--config", "dbq.toml"]))
    assert "dbq-install-cron --status --config dbq.toml" in advice(report, "silent")
    assert "dbq-install-systemd --status --config dbq.toml" in advice(report, "silent")


def test_a_job_that_hangs_tells_how_to_find_its_worker(path: Path) -> None:
    """A job that is stuck though its worker lives is said to be running still; dbq names it."""
    write(path, text(status="processing", run_at=NOW - 9000))
    claims = Claims(path.with_suffix(".claims"), path)
    assert claims.take(b"a1") is not None
    report = checked(path)
    (finding,) = report.findings
    assert "still running, for longer than 30min" in finding.named[0].note
    assert f"which process it is: dbq show a1 --file {path}" in advice(report, "stuck")
    assert "the next worker run takes it back; run" not in advice(report, "stuck")


def test_overdue_jobs_tell_what_the_workers_do(path: Path) -> None:
    """Workers that are busy, or that leave these jobs alone, each get their own word."""
    write(path, text("p1", run_at=NOW - 1000), text("r1", "processing", run_at=NOW - 9))
    claims = Claims(path.with_suffix(".claims"), path)
    claims.take(b"r1")
    assert "1 job running: if that is usual, one worker is too few" in advice(
        checked(path), "overdue"
    )
    limits = "as many of their type may be running as a config allows"
    assert limits in advice(checked(path), "overdue")
    told = checked(path, expected=Expectation(0, EVERY_MINUTE))  # it has no limit
    assert limits not in advice(told, "overdue")
    write(path, text("p1", run_at=NOW - 1000))
    assert limits not in advice(checked(path), "overdue")
    worker_ran(path, NOW - 30)
    assert "a worker was at work 30s ago and left them" in advice(checked(path), "overdue")


def test_control_characters_of_a_job_are_escaped(path: Path) -> None:
    """A job's type and error cannot steer a terminal."""
    write(path, text("f1", "failed", run_at=NOW, type="a\x1b[2J", error="E: \x1b]0;x\x07"))
    (named,) = checked(path).findings[0].named
    assert named.type == r"a\x1b[2J"
    assert named.error == r"E: \x1b]0;x\x07"


def test_only_so_many_jobs_are_named(path: Path) -> None:
    """`names` says how many; the number says how many there are."""
    write(path, *(text(f"f{i}", "failed", run_at=NOW - i) for i in range(8)))
    (finding,) = checked(path, names=2).findings
    assert ([named.id for named in finding.named], finding.count) == (["f0", "f1"], 8)
