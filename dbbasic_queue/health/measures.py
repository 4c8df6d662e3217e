"""The numbers of the health check, each said once.

A `Measure` is a row of `MEASURES`: where the number comes from, its unit, what Prometheus calls it,
and, if it can be given a range, what `--help` calls it and the ranges it has by default. The JSON,
the performance data, the metrics and the options of `dbq-health` are read off the rows, in their
order. A new number is its place in the engine's `Snapshot` and a row here; if it is outside its
range, judge.py has the words for it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from ..engines.answers import Server, Snapshot
from ..job import PENDING
from .thresholds import Range

Value = int | Mapping[str, int] | None  # by the measure's label, if a mapping; None: not known

TIME: Final = "time"  # the unit of a point in time, in Unix seconds
FILE: Final = "file"
SERVER: Final = "server"


class Facts(Protocol):
    """What a measure may ask of a report, besides the engine's numbers."""

    @property
    def at(self) -> int: ...
    @property
    def kind(self) -> str: ...
    @property
    def server(self) -> Server | None: ...
    @property
    def contact(self) -> int | None: ...
    @property
    def next_check(self) -> int | None: ...
    @property
    def state(self) -> int: ...
    @property
    def silent(self) -> bool: ...
    @property
    def last_run(self) -> int | None: ...
    @property
    def silence(self) -> int | None: ...
    @property
    def latency(self) -> int | None: ...
    @property
    def clock_behind(self) -> int | None: ...


@dataclass(frozen=True)
class Measure:
    """A number of the health check.

    Args:
        name: in the JSON, the performance data and the options.
        of: the number, from the engine's numbers and the report; asked only if the queue could be
            read.
        unit: "s" for seconds, "B" for bytes, `TIME`, or "" for a count.
        metric: its name in Prometheus; "" if it is not a metric of its own.
        help: of the metric. It must not depend on the queue: the textfile collector drops a metric
            whose help differs from that of another file.
        blind: the number when the queue could not be read.
        in_json: whether it stands among the numbers in JSON and in `--verbose`.
        in_data: whether it is performance data.
        means: what `--help` calls it if it can be given a range; "" if it cannot.
        warning: the range outside which it is a WARNING by default; "" if there is none.
        critical: the range outside which it is CRITICAL by default.
        only: `FILE` or `SERVER` where only a queue kept so has such a number.
        label: of the metric, if the number is a mapping.
    """

    name: str
    of: Callable[[Snapshot, Facts], Value]
    unit: str = ""
    metric: str = ""
    help: str = ""
    blind: Callable[[Facts], Value] = lambda report: None
    in_json: bool = True
    in_data: bool = True
    means: str = ""
    warning: str = ""
    critical: str = ""
    only: str = ""
    label: str = "status"

    def suits(self, report: Facts) -> bool:
        """Say whether the queue of a report can have this number."""
        return self.only in ("", report.kind)

    def value(self, snapshot: Snapshot | None, report: Facts) -> Value:
        """Return the number, or None if it is not known."""
        if not self.suits(report):
            return None
        return self.blind(report) if snapshot is None else self.of(snapshot, report)


MEASURES: Final = (
    Measure(
        "up",
        lambda snapshot, report: 1,
        metric="dbq_up",
        help="Whether the check could read the queue (1) or not (0).",
        blind=lambda report: 0,
        in_json=False,
        in_data=False,
    ),
    Measure(
        "state",
        lambda snapshot, report: report.state,
        metric="dbq_health_state",
        help="Verdict of the check: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN.",
        blind=lambda report: report.state,
        in_json=False,
        in_data=False,
    ),
    Measure(
        "time",
        lambda snapshot, report: report.at,
        TIME,
        metric="dbq_last_check_timestamp_seconds",
        help="When the check looked at the queue, in Unix seconds.",
        blind=lambda report: report.at,
        in_json=False,
        in_data=False,
    ),
    Measure(
        "next_check",
        lambda snapshot, report: report.next_check,
        TIME,
        metric="dbq_next_check_timestamp_seconds",
        help="When the config schedules the next check, in Unix seconds; absent without one.",
        blind=lambda report: report.next_check,
        in_data=False,
    ),
    Measure(
        "jobs",
        lambda snapshot, report: snapshot.counts,
        metric="dbq_jobs",
        help="Jobs in the queue, by status.",
        in_json=False,
        in_data=False,
    ),
    Measure(
        "stuck",
        lambda snapshot, report: snapshot.stuck,
        metric="dbq_stuck_jobs",
        help="Jobs whose worker died, or that have run for longer than stuck_after.",
        means="the number of stuck jobs",
        critical="0",
    ),
    Measure(
        "failed",
        lambda snapshot, report: snapshot.failed,
        metric="dbq_recently_failed_jobs",
        help="Jobs that failed for good within failed_within.",
        means="the number of jobs that failed lately",
        warning="0",
        critical="9",
    ),
    Measure(
        "overdue",
        lambda snapshot, report: snapshot.overdue,
        metric="dbq_overdue_jobs",
        help="Ready jobs that no worker took for longer than overdue_after.",
        means="the number of overdue jobs",
        warning="0",
    ),
    Measure(
        "malformed",
        lambda snapshot, report: snapshot.malformed,
        metric="dbq_malformed_lines",
        help="Lines of the queue file that are not rows.",
        means="the number of malformed lines",
        critical="0",
        only=FILE,
    ),
    Measure(
        "silent",
        lambda snapshot, report: int(report.silent),
        metric="dbq_workers_silent",
        help="Whether no worker has run for longer than silent_after (1) or not (0).",
    ),
    Measure(
        "running",
        lambda snapshot, report: snapshot.running,
        metric="dbq_running_jobs",
        help="Jobs that a living worker is running.",
    ),
    Measure(
        "pending",
        lambda snapshot, report: snapshot.counts[PENDING],
        in_json=False,
        in_data=False,
        means="the number of pending jobs",
    ),
    Measure(
        "ready",
        lambda snapshot, report: snapshot.ready,
        metric="dbq_ready_jobs",
        help="Pending jobs that are due.",
        means="the number of pending jobs that are due",
    ),
    Measure(
        "paused",
        lambda snapshot, report: len(snapshot.paused),
        metric="dbq_paused_types",
        help="Types of jobs that are paused; a glob for several counts as one.",
        in_data=False,
    ),
    Measure(
        "oldest_ready",
        lambda snapshot, report: snapshot.oldest_ready,
        TIME,
        metric="dbq_oldest_ready_timestamp_seconds",
        help="When the oldest ready job was due, in Unix seconds; absent when none is ready.",
        in_data=False,
    ),
    Measure(
        "latency",
        lambda snapshot, report: report.latency,
        "s",
        means="the age of the oldest ready job, in seconds,",
    ),
    Measure(
        "last_run",
        lambda snapshot, report: report.last_run,
        TIME,
        metric="dbq_last_worker_run_timestamp_seconds",
        help="When a worker was last at work, in Unix seconds; absent when none ever was.",
        in_data=False,
    ),
    Measure("silence", lambda snapshot, report: report.silence, "s"),
    Measure(
        "last_success",
        lambda snapshot, report: snapshot.last_success,
        TIME,
        metric="dbq_last_success_timestamp_seconds",
        help="When the last job was completed that is still in the queue, in Unix seconds.",
        in_data=False,
    ),
    Measure(
        "clock_behind",
        lambda snapshot, report: report.clock_behind,
        "s",
        metric="dbq_clock_behind_seconds",
        help="By how much the clock is behind the latest time recorded; 0 when it is not.",
    ),
    Measure(
        "size",
        lambda snapshot, report: snapshot.size,
        "B",
        metric="dbq_file_size_bytes",
        help="Size of the queue file.",
        means="the size of the file, in bytes,",
        only=FILE,
    ),
    Measure(
        "engine_up",
        lambda snapshot, report: 1,
        metric="dbq_engine_up",
        help="Whether the check reached the server of the queue (1) or not (0).",
        blind=lambda report: 0,
        in_json=False,
        in_data=False,
        only=SERVER,
    ),
    Measure(
        "contact",
        lambda snapshot, report: report.contact,
        TIME,
        metric="dbq_engine_last_contact_timestamp_seconds",
        help="When the check last reached the server of the queue, in Unix seconds.",
        blind=lambda report: report.contact,
        in_data=False,
        only=SERVER,
    ),
    Measure(
        "workers",
        lambda snapshot, report: workers_by_host(report.server) if report.server else None,
        metric="dbq_workers",
        help="Workers of the queue that its server knows of, by host.",
        in_json=False,
        in_data=False,
        only=SERVER,
        label="host",
    ),
    Measure(
        "engine_bytes",
        lambda snapshot, report: report.server.memory if report.server else None,
        "B",
        metric="dbq_engine_bytes",
        help="Memory that the server of the queue uses.",
        only=SERVER,
    ),
    Measure(
        "memory",
        lambda snapshot, report: share_of_memory(report.server),
        "%",
        means="how much of the memory that it may use the server uses, in percent,",
        warning="80",
        critical="95",
        only=SERVER,
    ),
    Measure(
        "lease",
        lambda snapshot, report: int(report.server.lease) if report.server else None,
        "s",
        metric="dbq_lease_seconds",
        help="After how long a worker that the server has not heard of has lost its job.",
        in_data=False,
        only=SERVER,
    ),
    Measure(
        "clock_skew",
        lambda snapshot, report: round(report.server.skew) if report.server else None,
        "s",
        metric="dbq_clock_skew_seconds",
        help="By how much this machine's clock is ahead of that of the server of the queue.",
        only=SERVER,
    ),
)


def workers_by_host(server: Server) -> Mapping[str, int]:
    """Return how many workers each host has."""
    return Counter(sorted(peer.host for peer in server.workers))


def share_of_memory(server: Server | None) -> int | None:
    """Return how many percent of its memory a server uses; None where nothing limits it."""
    if server is None or not server.memory_limit:
        return None
    return server.memory * 100 // server.memory_limit


METRICS: Final = tuple(measure for measure in MEASURES if measure.metric)
RANGED: Final = {measure.name: measure for measure in MEASURES if measure.means}


def _ranges(level: str) -> Mapping[str, Range]:
    texts = {name: getattr(measure, level) for name, measure in RANGED.items()}
    return {name: Range.parse(text) for name, text in texts.items() if text}


WARN: Final = _ranges("warning")
CRIT: Final = _ranges("critical")
