"""The same numbers in each format, each by the rules of who reads it."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from tables import text, write

from dbbasic_queue.health import formats
from dbbasic_queue.health.judge import check_health
from dbbasic_queue.health.measures import RANGED, SERVER
from dbbasic_queue.health.report import UNKNOWN, Finding, HealthReport, Thresholds
from dbbasic_queue.health.thresholds import Range
from dbbasic_queue.job import STATUSES

NOW = 1_700_000_000
DATUM = re.compile(r"'([^'=]+)'=(-?[0-9.]+)(s|B|)(?:;([^;\s]*))(?:;([^;\s]*))(?:;([^;\s]*))")


@pytest.fixture(autouse=True)
def up_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine has been running for longer than any threshold."""
    monkeypatch.setattr("dbbasic_queue.health.judge.machine_uptime", lambda: 10**6)


@pytest.fixture
def wrong(path: Path) -> HealthReport:
    """A report of a queue on which everything is wrong."""
    write(
        path,
        text("p1", run_at=NOW - 1000, type="ma|il"),
        text("p2", run_at=NOW + 1000, created_at=NOW),
        text("r1", "processing", run_at=NOW - 99, error="E: a|b\x1b[31m"),
        text("f1", "failed", run_at=NOW - 60, error="E: " + "x" * 500),
        text("c1", "completed", run_at=NOW - 30),
        b"gar|bage\n",
    )
    os.utime(path, (NOW, NOW))
    claims = path.with_suffix(".claims")
    claims.touch()
    os.utime(claims, (NOW - 700, NOW - 700))
    return check_health(path, queue="myapp", clock=lambda: NOW)


@pytest.fixture
def well(path: Path) -> HealthReport:
    """A report of a queue on which all is well."""
    write(path, text("p1", run_at=NOW - 10), text("c1", "completed", run_at=NOW - 30))
    os.utime(path, (NOW, NOW))
    claims = path.with_suffix(".claims")
    claims.touch()
    os.utime(claims, (NOW - 7, NOW - 7))
    return check_health(path, queue="myapp", clock=lambda: NOW)


@pytest.fixture
def blind(path: Path) -> HealthReport:
    """A report of a queue that is not there."""
    return check_health(path, queue="myapp", clock=lambda: NOW)


# -- text ----------------------------------------------------------------------------------------


def test_all_is_well_in_one_line(well: HealthReport) -> None:
    """When nothing is wrong there is one line, in both formats for people."""
    said = "1 pending (1 ready), 0 running, 1 completed, 0 failed; last worker run 7s ago"
    assert formats.text(well) == f"OK: {said}\n"
    assert formats.nagios(well).startswith(f"DBQ OK: {said} | 'stuck'=0;")
    assert formats.nagios(well).count("\n") == 1


def test_what_is_wrong_is_told_in_full(wrong: HealthReport) -> None:
    """Each finding with its state, its time, its jobs with their last error, and commands."""
    told = formats.text(wrong)
    first, *details = told.splitlines()
    assert first == (
        "CRITICAL: 1 stuck job; 1 failed job in the last 1d; 1 overdue job; 1 malformed line;"
        " no worker has run for 11min40s, and 1 job due"
    )
    heads = [line.split(":")[0] for line in details if not line.startswith(" ")]
    assert heads == ["CRITICAL", "WARNING", "WARNING", "CRITICAL", "CRITICAL"]
    assert re.search(r"^CRITICAL: 1 stuck job, since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d$", told, re.M)
    assert r"mail r1: its worker died; attempt 0 began" in told
    assert r"last error: E: a|b\x1b[31m" in told
    assert "  -> dbq show r1 --file " in told
    assert "line 7: " in told
    assert all(len(line) < 400 for line in details), "a long error is cut"
    assert "\x1b" not in told


def test_one_finding_is_not_told_twice(path: Path) -> None:
    """A single finding begins the text."""
    write(path, text("f1", "failed", run_at=NOW))
    os.utime(path, (NOW, NOW))
    told = formats.text(check_health(path, clock=lambda: NOW + 60))
    assert told.splitlines()[0].startswith("WARNING: 1 failed job in the last 1d, since ")
    assert told.count("1 failed job") == 1


def test_more_than_are_named_are_counted(path: Path) -> None:
    """What is left out is counted, and it is said how to see it."""
    write(path, *(text(f"f{i}", "failed", run_at=NOW) for i in range(8)))
    assert "  and 3 more (-v shows more of them)" in formats.text(
        check_health(path, clock=lambda: NOW)
    )


def test_verbose_adds_the_numbers(well: HealthReport) -> None:
    """-v tells all numbers, in words, also when all is well."""
    told = formats.text(well, verbose=True)
    assert "jobs: 1 pending, 0 processing, 1 completed, 0 failed, 0 cancelled" in told
    assert re.search(r"^last_success: \d{4}-\d\d-\d\d ", told, re.M)
    assert "latency: 10s" in told
    assert f"size: {well.path.stat().st_size} bytes" in told


def test_a_time_in_the_far_future_does_no_harm(path: Path) -> None:
    """A hand-written time of fifteen digits is told like any other."""
    write(path, text("f1", "failed", run_at=999_999_999_999_999))
    assert "31690708-" in formats.text(check_health(path, clock=lambda: NOW), verbose=True)


# -- nagios --------------------------------------------------------------------------------------


def test_the_first_line_of_a_plugin(wrong: HealthReport) -> None:
    """`DBQ STATE: text | perfdata`, with no other `|`, whatever the jobs are called."""
    output = formats.nagios(wrong)
    first, *details = output.splitlines()
    said, data = first.split("|")
    assert said.startswith("DBQ CRITICAL: 1 stuck job; ")
    assert not [line for line in details if "|" in line]
    assert "ma/il p1" in output
    assert DATUM.sub("", data).strip() == ""


def test_performance_data(wrong: HealthReport) -> None:
    """Every number with its unit, its ranges and its minimum."""
    data = {match[1]: match.groups()[1:] for match in DATUM.finditer(formats.nagios(wrong))}
    size = str(wrong.path.stat().st_size)
    assert data == {
        "stuck": ("1", "", "", "0", "0"),
        "failed": ("1", "", "0", "9", "0"),
        "overdue": ("1", "", "0", "", "0"),
        "malformed": ("1", "", "", "0", "0"),
        "silent": ("1", "", "", "", "0"),
        "running": ("0", "", "", "", "0"),
        "ready": ("1", "", "", "", "0"),
        "latency": ("1000", "s", "", "", "0"),
        "silence": ("700", "s", "600", "600", "0"),
        "clock_behind": ("0", "s", "", "", "0"),
        "size": (size, "B", "", "", "0"),
        "pending": ("2", "", "", "", "0"),
        "processing": ("1", "", "", "", "0"),
        "completed": ("1", "", "", "", "0"),
        "failed_in_all": ("1", "", "", "", "0"),
        "cancelled": ("0", "", "", "", "0"),
    }


def test_ranges_stand_in_the_performance_data(path: Path) -> None:
    """A range that was given is shown as it was given, or shorter."""
    write(path)
    given = {name: Range.parse("~:0010.50") for name in RANGED}
    output = formats.nagios(check_health(path, Thresholds(warning=given, critical={})))
    for name in (name for name, measure in RANGED.items() if measure.only != SERVER):
        assert re.search(rf"'{name}'=\d+[sB]?;~:10.5;;0", output)


def test_no_data_when_nothing_could_be_read(blind: HealthReport) -> None:
    """Without numbers there is no performance data, and no `|`."""
    output = formats.nagios(blind)
    assert output.startswith("DBQ UNKNOWN: there is no queue ")
    assert "|" not in output


def test_a_mistake_is_one_line(path: Path) -> None:
    """A report that has nothing to add to its first line has one line."""
    mistake = Finding("check", UNKNOWN, "wrong\nin | two lines")
    report = HealthReport("", path, NOW, Thresholds(), None, None, (mistake,))
    assert formats.nagios(report) == "DBQ UNKNOWN: wrong\\nin / two lines\n"


# -- JSON ----------------------------------------------------------------------------------------


def test_json(wrong: HealthReport) -> None:
    """State, numbers and findings, for programs."""
    record = json.loads(formats.as_json(wrong))
    assert (record["state"], record["code"], record["queue"]) == ("CRITICAL", 2, "myapp")
    assert record["file"] == str(wrong.path)
    assert record["jobs"] == dict(zip(STATUSES, (2, 1, 1, 1, 0), strict=True))
    assert [record[name] for name in ("stuck", "failed", "overdue", "malformed")] == [1, 1, 1, 1]
    assert (record["ready"], record["latency"], record["silence"]) == (1, 1000, 700)
    assert (record["last_run"], record["last_success"]) == (NOW - 700, NOW - 30)
    stuck = record["findings"][0]
    assert (stuck["kind"], stuck["state"], stuck["since"]) == ("stuck", "CRITICAL", NOW - 99)
    assert stuck["named"][0]["id"] == "r1"
    assert stuck["advice"]


def test_json_without_numbers(blind: HealthReport) -> None:
    """What is not known is null."""
    record = json.loads(formats.as_json(blind))
    assert (record["state"], record["jobs"], record["stuck"]) == ("UNKNOWN", None, None)


# -- Prometheus ----------------------------------------------------------------------------------


def samples(output: str) -> dict[str, str]:
    return dict(line.rsplit(" ", 1) for line in output.splitlines() if not line.startswith("#"))


def test_prometheus(wrong: HealthReport) -> None:
    """All numbers, labelled with the queue's name, without a timestamp, id or type."""
    output = formats.prometheus(wrong)
    queue = '{queue="myapp"}'
    jobs = {
        f'dbq_jobs{{queue="myapp",status="{status}"}}': str(count)
        for status, count in zip(STATUSES, (2, 1, 1, 1, 0), strict=True)
    }
    assert samples(output) == {
        "dbq_up" + queue: "1",
        "dbq_health_state" + queue: "2",
        "dbq_last_check_timestamp_seconds" + queue: str(NOW),
        **jobs,
        "dbq_ready_jobs" + queue: "1",
        "dbq_paused_types" + queue: "0",
        "dbq_oldest_ready_timestamp_seconds" + queue: str(NOW - 1000),
        "dbq_overdue_jobs" + queue: "1",
        "dbq_running_jobs" + queue: "0",
        "dbq_stuck_jobs" + queue: "1",
        "dbq_recently_failed_jobs" + queue: "1",
        "dbq_malformed_lines" + queue: "1",
        "dbq_workers_silent" + queue: "1",
        "dbq_last_worker_run_timestamp_seconds" + queue: str(NOW - 700),
        "dbq_last_success_timestamp_seconds" + queue: str(NOW - 30),
        "dbq_clock_behind_seconds" + queue: "0",
        "dbq_file_size_bytes" + queue: str(wrong.path.stat().st_size),
    }
    assert output.endswith("\n")
    assert "r1" not in output
    assert "mail" not in output


def test_every_metric_has_help_and_type_once(
    wrong: HealthReport, blind: HealthReport, well: HealthReport
) -> None:
    """Help and type precede the samples; the help is the same whatever the queue and its state."""
    helps = []
    for report in (wrong, blind, well):
        lines = formats.prometheus(report).splitlines()
        named = [line.split()[2] for line in lines if line.startswith("# HELP")]
        assert len(set(named)) == len(named)
        helps.append({line.split()[2]: line for line in lines if line.startswith("# HELP")})
        for name in named:
            position = next(i for i, line in enumerate(lines) if line.startswith(f"# HELP {name} "))
            assert lines[position + 1] == f"# TYPE {name} gauge"
            assert lines[position + 2].startswith(f"{name}{{")
    for one in helps:
        assert one.items() <= helps[0].items()


def test_prometheus_without_numbers(path: Path) -> None:
    """What could not be read is down, and says nothing else about the queue."""
    report = check_health(path, queue="myapp", clock=lambda: NOW)
    assert samples(formats.prometheus(report)) == {
        'dbq_up{queue="myapp"}': "0",
        'dbq_health_state{queue="myapp"}': "3",
        'dbq_last_check_timestamp_seconds{queue="myapp"}': str(NOW),
    }


def test_a_label_is_escaped(path: Path) -> None:
    """A path may hold quotes, backslashes, newlines and bytes that are not UTF-8."""
    report = check_health(path, queue='/a "b"\\c\nd\udcff', clock=lambda: NOW)
    assert 'dbq_up{queue="/a \\"b\\"\\\\c\\nd?"} 0' in formats.prometheus(report)


@pytest.mark.parametrize("end", ["\r", "\x85", "\u2028", "\x1b[2J", "\n"])
def test_no_name_forges_a_line(path: Path, end: str) -> None:
    """A queue's, job's or file's name with control characters adds no line to any format."""
    forged = f"x{end}dbq_up{{queue=1}} 1"
    write(path, text("f1", "failed", run_at=NOW, type="mail", error=f"E:{end}DBQ OK"))
    reports = [
        check_health(path, queue=forged, clock=lambda: NOW),
        check_health(path.with_name(f"{end}DBQ OK"), queue=forged, clock=lambda: NOW),
        HealthReport(forged, path, NOW, Thresholds(), None, None, (_mistake(forged),)),
    ]
    for report in reports:
        for form in (formats.prometheus, formats.nagios, formats.text):
            told = form(report)
            assert not [
                line for line in told.splitlines() if line.startswith(("DBQ OK", "dbq_up{queue=1"))
            ]
            assert end == "\n" or end not in told
        assert json.loads(formats.as_json(report))["queue"] == forged


def _mistake(text: str) -> Finding:
    return Finding("check", UNKNOWN, text)


def test_the_same_numbers_in_each_format(wrong: HealthReport) -> None:
    """What JSON says, the performance data and Prometheus say."""
    record = json.loads(formats.as_json(wrong))
    known = {**record["jobs"], **record, "failed_in_all": record["jobs"]["failed"]}
    data = {match[1]: int(match[2]) for match in DATUM.finditer(formats.nagios(wrong))}
    assert data == {name: known[name] for name in data}
    told = samples(formats.prometheus(wrong))
    metrics = {key.split("{")[0]: int(value) for key, value in told.items()}
    names = {
        "ready": "dbq_ready_jobs",
        "overdue": "dbq_overdue_jobs",
        "running": "dbq_running_jobs",
        "stuck": "dbq_stuck_jobs",
        "failed": "dbq_recently_failed_jobs",
        "malformed": "dbq_malformed_lines",
        "silent": "dbq_workers_silent",
        "size": "dbq_file_size_bytes",
        "clock_behind": "dbq_clock_behind_seconds",
        "last_run": "dbq_last_worker_run_timestamp_seconds",
        "last_success": "dbq_last_success_timestamp_seconds",
        "oldest_ready": "dbq_oldest_ready_timestamp_seconds",
        "paused": "dbq_paused_types",
    }
    assert {name: record[name] for name in names} == {
        name: metrics[metric] for name, metric in names.items()
    }
