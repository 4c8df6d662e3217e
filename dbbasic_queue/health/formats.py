"""A health report as text, for people and for machines: the same numbers in each format."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Final

from ..job import STATUSES
from ..support.durations import format_duration
from ..support.text import escape_control, escape_json
from . import worked
from .measures import MEASURES, METRICS, TIME, Measure, workers_by_host
from .report import STATES, Finding, HealthReport, Named, local_time

UNITS: Final = {"B": "bytes", "%": "%", "": ""}
ERROR_SHOWN: Final = 200  # characters of a job's error in a text for people


def nagios(report: HealthReport, *, verbose: bool = False) -> str:
    """Return the output of a monitoring plugin: `DBQ STATE: text | perfdata`, then details.

    The rules are those of the Monitoring Plugins Development Guidelines, "Plugin Output" and
    "Performance data". The only `|` is the one in front of the performance data.
    """
    data = " ".join(_performance_data(report))
    first = _without_bar(headline(report))
    lines = [f"{first} | {data}" if data else first]
    if report.snapshot or any(finding.named or finding.advice for finding in report.findings):
        lines += [_without_bar(line) for line in _details(report, verbose=verbose)]
    return _joined(lines)


def headline(report: HealthReport) -> str:
    """Return `DBQ STATE: text`, one line."""
    return f"DBQ {STATES[report.state]}: {escape_control(_summary(report))}"


def text(report: HealthReport, *, verbose: bool = False) -> str:
    """Return text for people: one line when all is well, else what is wrong and what to do."""
    details = list(_details(report, verbose=verbose))
    if len(report.findings) == 1 and not _pauses(report):
        return _joined(details)
    return _joined([f"{STATES[report.state]}: {_summary(report)}", *details])


def as_json(report: HealthReport) -> str:
    """Return one JSON object: state, numbers, findings. Times are Unix seconds, ages seconds."""
    findings = [{**asdict(finding), "state": STATES[finding.state]} for finding in report.findings]
    record = {
        "queue": report.queue,
        **({"file": str(report.path.absolute())} if report.url is None else {"url": report.url}),
        "time": report.at,
        "state": STATES[report.state],
        "code": report.state,
        "jobs": report.snapshot.counts if report.snapshot else None,
        **report.numbers(),
        "pauses": [pause._asdict() for pause in report.snapshot.paused] if report.snapshot else [],
        **({"workers": workers_by_host(report.server)} if report.server else {}),
        "findings": findings,
    }
    return escape_json(json.dumps(record, ensure_ascii=False, indent=2)) + "\n"


# -- text for people -------------------------------------------------------------------------------


def _summary(report: HealthReport) -> str:
    if report.findings:
        summaries = "; ".join(escape_control(finding.summary) for finding in report.findings)
        return summaries + _pauses(report)
    assert report.snapshot is not None
    counts, silence = report.snapshot.counts, report.silence
    if silence is None:
        last = "no worker has run yet"
    else:
        last = "last worker run " + (f"{format_duration(silence)} ago" if silence else "now")
    return (
        f"{counts['pending']:,} pending ({report.snapshot.ready:,} ready),"
        f" {counts['processing']:,} running, {counts['completed']:,} completed,"
        f" {counts['failed']:,} failed; {last}{_pauses(report)}"
    )


def _pauses(report: HealthReport) -> str:
    pauses = report.snapshot.paused if report.snapshot else ()
    return "".join(f"; {escape_control(str(pause))}" for pause in pauses)


def _details(report: HealthReport, *, verbose: bool) -> Iterator[str]:
    """Yield what is wrong, and with `verbose` all numbers."""
    for finding in report.findings:
        yield from _finding(finding)
    if verbose and report.snapshot is not None:
        counts = report.snapshot.counts
        yield "jobs: " + ", ".join(f"{counts[status]} {status}" for status in STATUSES)
        for measure in MEASURES:
            if measure.in_json and measure.suits(report):
                yield f"{measure.name}: {_shown(measure, report)}"


def _finding(finding: Finding) -> Iterator[str]:
    since = "" if finding.since is None else f", since {local_time(finding.since)}"
    yield f"{STATES[finding.state]}: {escape_control(finding.summary)}{since}"
    for named in finding.named:
        yield f"  {escape_control(_named(named))}"
    if finding.count > len(finding.named) > 0:
        yield f"  and {finding.count - len(finding.named):,} more (-v shows more of them)"
    for advice in finding.advice:
        yield f"  -> {escape_control(advice)}"


def _named(named: Named) -> str:
    error = named.error or ""
    if len(error) > ERROR_SHOWN:
        error = error[: ERROR_SHOWN - 1] + "…"
    return f"{named.name}: {named.note}" + (f"; last error: {error}" if error else "")


def _shown(measure: Measure, report: HealthReport) -> str:
    value = measure.value(report.snapshot, report)
    if not isinstance(value, int):
        return "-"
    if measure.unit == TIME:
        return local_time(value)
    if measure.unit == "s":
        return format_duration(value)
    return f"{value} {UNITS[measure.unit]}".rstrip()


def _without_bar(line: str) -> str:
    return line.replace("|", "/")


def _joined(lines: list[str]) -> str:
    return "\n".join(lines) + "\n"


# -- performance data ------------------------------------------------------------------------------


def _performance_data(report: HealthReport) -> Iterator[str]:
    """Yield `'label'=value[UOM];warn;crit;min`; nothing when the queue could not be read."""
    if report.snapshot is None:
        return
    for measure in MEASURES:
        value = measure.value(report.snapshot, report)
        if measure.in_data and isinstance(value, int):
            yield _datum(measure.name, f"{value}{measure.unit}", report)
    for status in STATUSES:  # "failed" is the name of those that failed lately
        label = "failed_in_all" if status == "failed" else status
        yield _datum(label, str(report.snapshot.counts[status]), report)


def _datum(label: str, value: str, report: HealthReport) -> str:
    thresholds = report.thresholds
    warning: object = thresholds.warning.get(label, "")
    critical: object = thresholds.critical.get(label, "")
    if label == "silence":
        warning = critical = thresholds.ages.silent_after
    return f"'{label}'={value};{warning};{critical};0"


# -- Prometheus ------------------------------------------------------------------------------------


def prometheus(report: HealthReport) -> str:
    """Return Prometheus's text format 0.0.4, fit for node_exporter's textfile collector.

    No timestamps, and no job's id: each would be a new time series.
    """
    label = f'queue="{_label(report.queue)}"'
    lines = []
    for measure in METRICS:
        name, value = measure.metric, measure.value(report.snapshot, report)
        if value is None:
            continue
        lines += [f"# HELP {name} {measure.help}", f"# TYPE {name} gauge"]
        if isinstance(value, Mapping):
            by = measure.label
            lines += [f'{name}{{{label},{by}="{_label(key)}"}} {value[key]}' for key in value]
        else:
            lines.append(f"{name}{{{label}}} {value}")
    return _joined([*lines, *worked.lines(report.worked, label, _label)])


def _label(value: str) -> str:
    """Return a label's value: UTF-8, with backslash, quote and newline escaped.

    Any other control character is shown as an escape, so that no reader takes it for a line's end.
    """
    lines = value.encode("utf-8", "replace").decode().split("\n")
    return r"\n".join(re.sub(r'[\\"]', r"\\\g<0>", escape_control(line)) for line in lines)
