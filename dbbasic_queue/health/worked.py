"""What workers did, as Prometheus's counters and histograms: made from the queue's history.

They never fall, as the history keeps what it no longer has by the hour, unless its file is deleted:
Prometheus takes that for a restart, as it should. The label `type` has the types that workers have
handlers for; of more than `TYPES` of them, those that come first by name, and `other`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from ..engines.history import BEFORE, BOUNDS, OUTCOMES, Hour, Times, merged

TYPES: Final = 100
OTHER: Final = "other"
PROCESSED: Final = "dbq_jobs_processed_total"
DURATION: Final = "dbq_job_duration_seconds"
WAIT: Final = "dbq_job_wait_seconds"
METRICS: Final = (
    (PROCESSED, "counter", "Attempts at jobs that ended, by type and outcome."),
    (DURATION, "histogram", "How long handlers ran, by type."),
    (WAIT, "histogram", "How long jobs waited from when they were due, by type."),
)


def by_type(hours: Iterable[Hour]) -> tuple[Hour, ...]:
    """One hour for each type, of all that is known; of too many types, the rest is one.

    >>> [hour.type for hour in by_type([Hour(3600, "a"), Hour(7200, "a"), Hour(7200, "b")])]
    ['a', 'b']
    """
    totals = merged(hour._replace(start=BEFORE) for hour in hours)
    rest = (hour._replace(type=OTHER) for hour in totals[TYPES:])
    return tuple(merged([*totals[:TYPES], *rest]))


def lines(worked: Iterable[Hour], queue: str, label: Callable[[str], str]) -> Iterator[str]:
    """Yield lines of Prometheus's text format; none if nothing is known.

    Args:
        worked: one hour for each type.
        queue: the label that all of them have.
        label: escapes the value of a label.
    """
    labelled = [(f'{queue},type="{label(hour.type)}"', hour) for hour in worked]
    if not labelled:
        return
    for name, kind, text in METRICS:
        yield f"# HELP {name} {text}"
        yield f"# TYPE {name} {kind}"
        for labels, hour in labelled:
            if name == PROCESSED:
                for outcome, number in zip(OUTCOMES, hour[2:6], strict=True):
                    yield f'{name}{{{labels},outcome="{outcome}"}} {number}'
            else:
                yield from _histogram(name, labels, hour.ran if name == DURATION else hour.waited)


def _histogram(name: str, labels: str, times: Times) -> Iterator[str]:
    """Yield the buckets, each with all that is not longer than its bound, the sum and the count."""
    ends = [*(f"{bound:g}" for bound in BOUNDS), "+Inf"]
    for end, number in zip(ends, itertools.accumulate(times.within), strict=True):
        yield f'{name}_bucket{{{labels},le="{end}"}} {number}'
    yield f"{name}_sum{{{labels}}} {times.total:.6f}"
    yield f"{name}_count{{{labels}}} {times.number}"
