"""A health report as text, for people and for machines: the same numbers in each format."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from typing import Any, Final

from ..job import STATUSES
from ..support.durations import format_duration
from ..support.text import escape_control
from .judge import STATES, Finding, Named, Report, local_time

ERROR_SHOWN: Final = 200  # characters of a job's error in a text for people


def nagios(report: Report, *, verbose: bool = False) -> str:
    """The output of a monitoring plugin: `DBQ STATE: text | perfdata`, details on further lines.

    Rules: Monitoring Plugins Development Guidelines, "Plugin Output", "Performance data". No `|`
    but the one in front of the performance data.
    """
    data = " ".join(_performance_data(report))
    first = _without_bar(headline(report))
    lines = [f"{first} | {data}" if data else first]
    if not _says_it_all(report):
        lines += [_without_bar(line) for line in _details(report, verbose=verbose)]
    return _joined(lines)


def headline(report: Report) -> str:
    """`DBQ STATE: text`, one line."""
    return f"DBQ {STATES[report.state]}: {_clean(_summary(report))}"


def text(report: Report, *, verbose: bool = False) -> str:
    """For people: one line when all is well, else what, since when, which jobs, what to do."""
    details = list(_details(report, verbose=verbose))
    if len(report.findings) == 1:
        return _joined(details)
    return _joined([f"{STATES[report.state]}: {_summary(report)}", *details])


def as_json(report: Report) -> str:
    """One JSON object: state, numbers, findings. Times are Unix seconds, ages seconds."""
    findings = [{**asdict(finding), "state": STATES[finding.state]} for finding in report.findings]
    record = {
        "queue": report.queue,
        "file": str(report.path.absolute()),
        "time": report.at,
        "state": STATES[report.state],
        "code": report.state,
        "jobs": report.snapshot.counts if report.snapshot else None,
        **numbers(report),
        "findings": findings,
    }
    return json.dumps(record, ensure_ascii=False, indent=2) + "\n"


def numbers(report: Report) -> dict[str, int | None]:
    """All numbers of a report by name, but for the jobs by status; None for what is not known."""
    snapshot = report.snapshot
    if snapshot is None:
        return dict.fromkeys(_NUMBERS)
    return {name: number(report, snapshot) for name, number in _NUMBERS.items()}


_NUMBERS: Final[Mapping[str, Callable[[Report, Any], int | None]]] = {
    "stuck": lambda report, snapshot: snapshot.stuck,
    "running": lambda report, snapshot: snapshot.running,
    "failed": lambda report, snapshot: snapshot.failed,
    "overdue": lambda report, snapshot: snapshot.overdue,
    "malformed": lambda report, snapshot: snapshot.malformed,
    "silent": lambda report, snapshot: int(report.silent),
    "ready": lambda report, snapshot: snapshot.ready,
    "oldest_ready": lambda report, snapshot: snapshot.oldest_ready,
    "latency": lambda report, snapshot: report.latency,
    "last_run": lambda report, snapshot: report.last_run,
    "silence": lambda report, snapshot: report.silence,
    "last_success": lambda report, snapshot: snapshot.last_success,
    "clock_behind": lambda report, snapshot: report.clock_behind,
    "size": lambda report, snapshot: snapshot.size,
}


# -- text for people -------------------------------------------------------------------------------


def _says_it_all(report: Report) -> bool:
    """Whether the first line leaves nothing to add: such as for a mistake in the arguments."""
    if report.snapshot is not None:
        return False
    return all(not (finding.named or finding.advice) for finding in report.findings)


def _summary(report: Report) -> str:
    if report.findings:
        return "; ".join(_clean(finding.summary) for finding in report.findings)
    assert report.snapshot is not None
    counts, silence = report.snapshot.counts, report.silence
    last = "no worker has run yet" if silence is None else f"last worker run {_ago(silence)}"
    return (
        f"{counts['pending']} pending ({report.snapshot.ready} ready),"
        f" {counts['processing']} running, {counts['completed']} completed,"
        f" {counts['failed']} failed; {last}"
    )


def _ago(seconds: int) -> str:
    return f"{format_duration(seconds)} ago" if seconds else "now"


def _details(report: Report, *, verbose: bool) -> Iterator[str]:
    """What is wrong, and with `verbose` all numbers."""
    for finding in report.findings:
        yield from _finding(finding, report.at)
    if verbose and report.snapshot is not None:
        counts = report.snapshot.counts
        yield "jobs: " + ", ".join(f"{counts[status]} {status}" for status in STATUSES)
        for name, value in numbers(report).items():
            yield f"{name}: {_shown(name, value)}"


def _finding(finding: Finding, now: int) -> Iterator[str]:
    since = "" if finding.since is None else f", since {local_time(finding.since)}"
    yield f"{STATES[finding.state]}: {_clean(finding.summary)}{since}"
    for named in finding.named:
        yield f"  {_clean(_named(named))}"
    if finding.count > len(finding.named) > 0:
        yield f"  and {finding.count - len(finding.named)} more (-v shows more of them)"
    for advice in finding.advice:
        yield f"  -> {_clean(advice)}"


def _named(named: Named) -> str:
    error = named.error or ""
    if len(error) > ERROR_SHOWN:
        error = error[: ERROR_SHOWN - 1] + "…"
    return f"{named.name}: {named.note}" + (f"; last error: {error}" if error else "")


def _shown(name: str, value: int | None) -> str:
    if value is None:
        return "-"
    if name in ("oldest_ready", "last_run", "last_success"):
        return local_time(value)
    if name in ("latency", "silence", "clock_behind"):
        return format_duration(value)
    return f"{value} bytes" if name == "size" else str(value)


def _clean(line: str) -> str:
    """Without control characters: a job's error must not steer a terminal, nor end a line."""
    return escape_control(line)


def _without_bar(line: str) -> str:
    return line.replace("|", "/")


def _joined(lines: list[str]) -> str:
    return "\n".join(lines) + "\n"


# -- performance data ------------------------------------------------------------------------------

_UNITS: Final = {"latency": "s", "silence": "s", "clock_behind": "s", "size": "B"}
_IN_DATA: Final = (
    "stuck",
    "failed",
    "overdue",
    "malformed",
    "silent",
    "running",
    "ready",
    "latency",
    "silence",
    "clock_behind",
    "size",
)


def _performance_data(report: Report) -> Iterator[str]:
    """`'label'=value[UOM];warn;crit;min`; nothing when the table could not be read."""
    if report.snapshot is None:
        return
    values = numbers(report)
    for name in _IN_DATA:
        yield from _datum(report, name, values[name])
    for status in STATUSES:
        label = "failed_in_all" if status == "failed" else status
        yield from _datum(report, label, report.snapshot.counts[status])


def _datum(report: Report, name: str, value: int | None) -> Iterator[str]:
    if value is None:
        return
    thresholds = report.thresholds
    warning: object = thresholds.warning.get(name, "")
    critical: object = thresholds.critical.get(name, "")
    if name == "silence":
        warning = critical = thresholds.ages.silent_after
    yield f"'{name}'={value}{_UNITS.get(name, '')};{warning};{critical};0"


# -- Prometheus ------------------------------------------------------------------------------------

# Name, help, and the number it shows. The help is the same in every file: the textfile collector
# drops a metric whose help differs from that of another file.
METRICS: Final[tuple[tuple[str, str, Callable[[Report], Any]], ...]] = (
    (
        "dbq_up",
        "Whether the check could read the queue (1) or not (0).",
        lambda report: int(report.snapshot is not None),
    ),
    (
        "dbq_health_state",
        "Verdict of the check: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN.",
        lambda report: report.state,
    ),
    (
        "dbq_last_check_timestamp_seconds",
        "When the check looked at the queue, in Unix seconds.",
        lambda report: report.at,
    ),
    (
        "dbq_jobs",
        "Jobs in the queue, by status.",
        lambda report: report.snapshot and report.snapshot.counts,
    ),
    (
        "dbq_ready_jobs",
        "Pending jobs that are due.",
        lambda report: numbers(report)["ready"],
    ),
    (
        "dbq_oldest_ready_timestamp_seconds",
        "When the oldest ready job was due, in Unix seconds; absent when none is ready.",
        lambda report: numbers(report)["oldest_ready"],
    ),
    (
        "dbq_overdue_jobs",
        "Ready jobs that no worker took for longer than overdue_after.",
        lambda report: numbers(report)["overdue"],
    ),
    (
        "dbq_running_jobs",
        "Jobs that a living worker is running.",
        lambda report: numbers(report)["running"],
    ),
    (
        "dbq_stuck_jobs",
        "Jobs whose worker died, or that have run for longer than stuck_after.",
        lambda report: numbers(report)["stuck"],
    ),
    (
        "dbq_recently_failed_jobs",
        "Jobs that failed for good within failed_within.",
        lambda report: numbers(report)["failed"],
    ),
    (
        "dbq_malformed_lines",
        "Lines of the queue file that are no rows.",
        lambda report: numbers(report)["malformed"],
    ),
    (
        "dbq_workers_silent",
        "Whether no worker has run for longer than silent_after (1) or not (0).",
        lambda report: numbers(report)["silent"],
    ),
    (
        "dbq_last_worker_run_timestamp_seconds",
        "When a worker was last at work, in Unix seconds; absent when none ever was.",
        lambda report: numbers(report)["last_run"],
    ),
    (
        "dbq_last_success_timestamp_seconds",
        "When the last job was completed that is still in the queue, in Unix seconds.",
        lambda report: numbers(report)["last_success"],
    ),
    (
        "dbq_clock_behind_seconds",
        "By how much the clock is behind the latest time recorded; 0 when it is not.",
        lambda report: numbers(report)["clock_behind"],
    ),
    (
        "dbq_file_size_bytes",
        "Size of the queue file.",
        lambda report: numbers(report)["size"],
    ),
)


def prometheus(report: Report) -> str:
    """The report in Prometheus's text format 0.0.4, fit for node_exporter's textfile collector.

    No timestamps, and no job's id or type: each would be a new time series.
    """
    label = f'queue="{_label(report.queue)}"'
    lines = []
    for name, text, value_of in METRICS:
        value = value_of(report)
        if value is None:
            continue
        lines += [f"# HELP {name} {text}", f"# TYPE {name} gauge"]
        if isinstance(value, Mapping):
            lines += [f'{name}{{{label},status="{key}"}} {value[key]}' for key in value]
        else:
            lines.append(f"{name}{{{label}}} {value}")
    return _joined(lines)


def _label(value: str) -> str:
    """A label's value: UTF-8, with backslash, quote and newline escaped."""
    text = value.encode("utf-8", "replace").decode()
    return re.sub(r'[\\"]', r"\\\g<0>", text).replace("\n", r"\n")
