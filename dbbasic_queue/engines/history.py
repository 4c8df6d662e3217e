"""What workers did, added up by hour and type, which the rows of ended jobs cannot tell.

Theory of operation
-------------------
A row cannot hold how long its job waited and ran, and goes in time. So a worker notes each attempt
that has ended in its memory, and hands what it noted to its engine once a minute and in its end. It
keeps that until it has been taken, so it is counted once; one that is killed loses its last minute.

An `Hour` is the sum for one type: how attempts ended, for how long jobs waited from when they were
due, and how long their handlers ran. Times are counted in fixed ranges, so that hours can be added
up, and percentiles told of any sum. What is too old to be kept by the hour is added to one of each
type whose hour is `before`: totals never fall, which Prometheus would take for a restart.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Iterable
from datetime import datetime
from itertools import pairwise
from typing import Any, Final, NamedTuple

from ..job import CANCELLED, COMPLETED, FAILED

# Ranges of times in seconds, each up to and with its bound; a last one has all that is longer.
BOUNDS: Final = (
    *(0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300),
    *(1000, 3000, 10_000, 30_000, 100_000),
)
HOUR: Final = 3600
BEFORE: Final = 0  # the hour of what is no longer kept by the hour
KEEP: Final = 35 * 86400  # seconds, if nothing else is said
OUTCOMES: Final = ("completed", "retried", "failed", "cancelled")
COLUMNS: Final = (
    *("hour", "type", *OUTCOMES),
    *("waited", "waited_most", "waited_within", "ran", "ran_most", "ran_within"),
)
_NOTHING: Final = (0,) * (len(BOUNDS) + 1)


class Times(NamedTuple):
    """Some times in seconds: their sum, the longest, and how many are in each range."""

    total: float = 0.0
    most: float = 0.0
    within: tuple[int, ...] = _NOTHING

    @classmethod
    def of(cls, seconds: list[float]) -> Times:
        """Count some times.

        >>> times = Times.of([0.002, 2, 2.5])
        >>> times.number, times.most, times.within[:9]
        (3, 2.5, (0, 1, 0, 0, 0, 0, 0, 2, 0))
        """
        if not seconds:
            return cls()
        seconds.sort()
        ends = [0, *(bisect_right(seconds, bound) for bound in BOUNDS), len(seconds)]
        within = tuple(end - start for start, end in pairwise(ends))
        return cls(sum(seconds), seconds[-1], within)

    def __add__(self, other: Any) -> Times:
        """Both together."""
        within = tuple(map(int.__add__, self.within, other.within))
        return Times(self.total + other.total, max(self.most, other.most), within)

    @property
    def number(self) -> int:
        """How many times."""
        return sum(self.within)

    def quantile(self, share: float) -> float | None:
        """The time that so large a share of them does not exceed; None if there are none.

        As Prometheus's histogram_quantile() has it: as if the times in a range lay evenly in it.

        >>> times = Times.of([4.0, 5.0, 6.0, 20.0])
        >>> times.quantile(0.5), times.quantile(1)
        (7.666666666666667, 20.0)
        """
        left = share * self.number
        if not self.number:
            return None
        low = 0.0
        for bound, number in zip(BOUNDS, self.within, strict=False):
            if number and left <= number:
                return min(low + (bound - low) * left / number, self.most)
            left -= number
            low = bound
        return self.most

    def as_dict(self) -> dict[str, Any]:
        """What `dbq history --json` says of them; seconds."""
        return {
            "jobs": self.number,
            "seconds": round(self.total, 6),
            "most": self.most,
            "p50": self.quantile(0.5),
            "p95": self.quantile(0.95),
            "within": list(self.within),
        }


class Hour(NamedTuple):
    """What became of the attempts at jobs of one type that ended in one hour.

    `retried` attempts failed and are tried again; `failed` ones were a job's last. What was put
    back or snoozed is not counted.
    """

    start: int  # Unix seconds of its beginning; BEFORE: all that is older than is kept
    type: str
    completed: int = 0
    retried: int = 0
    failed: int = 0
    cancelled: int = 0  # while they ran
    waited: Times = Times()  # from when a job was due, in whole seconds
    ran: Times = Times()

    def __add__(self, other: Any) -> Hour:
        """Both together, under this one's hour and type."""
        return Hour(*self[:2], *(a + b for a, b in zip(self[2:], other[2:], strict=True)))

    @property
    def attempts(self) -> int:
        """How many attempts ended, whatever became of them."""
        return self.completed + self.retried + self.failed + self.cancelled

    def as_dict(self) -> dict[str, Any]:
        """What `dbq history --json` says of it."""
        counts = dict(zip(OUTCOMES, self[2:6], strict=True))
        times = {"waited": self.waited.as_dict(), "ran": self.ran.as_dict()}
        return {"hour": self.start, "type": self.type, **counts, **times}


class History(list[Hour]):
    """The hours of a queue, one each of an hour and type, in this order; and sums of them."""

    def by_type(self) -> list[Hour]:
        """One for each type, of all hours together; by name.

        >>> History([Hour(3600, "mail", 2), Hour(7200, "mail", 3)]).by_type()[0].completed
        5
        """
        return merged(hour._replace(start=BEFORE) for hour in self)

    def by_hour(self, last: float, number: int) -> list[Hour]:
        """One for each hour, of all types together, also for those in which nothing ended.

        Args:
            last: Unix seconds in the last hour that is wanted.
            number: of hours.

        >>> [hour.completed for hour in History([Hour(3600, "mail", 2)]).by_hour(7201, 3)]
        [0, 2, 0]
        """
        end = int(last) // HOUR * HOUR
        found = {
            start: Hour(start, "") for start in range(end - (number - 1) * HOUR, end + 1, HOUR)
        }
        for hour in self:
            if hour.start in found:
                found[hour.start] += hour
        return list(found.values())


def add_up(noted: Iterable[tuple[str, str, int, int, float]]) -> list[Hour]:
    """The sums of attempts that have ended (`Ended` in interface.py), by hour and type.

    >>> (hour,) = add_up([("mail", "completed", 7300, 7200, 0.5), ("mail", "failed", 7400, 0, -1)])
    >>> hour.start, hour.completed, hour.failed, hour.waited.total, hour.ran.number
    (7200, 1, 1, 100, 1)
    """
    found: dict[tuple[int, str], tuple[dict[str, int], list[float], list[float]]] = {}
    for job_type, status, begun, due, seconds in noted:
        key = int(begun + max(seconds, 0)) // HOUR * HOUR, job_type
        if key not in found:
            found[key] = {}, [], []
        counts, waited, ran = found[key]
        counts[status] = counts.get(status, 0) + 1
        if seconds >= 0:
            ran.append(seconds)
        if due:
            waited.append(max(0, begun - due))
    hours = []
    for key, (counts, waited, ran) in sorted(found.items()):
        ended, failed, cancelled = (counts.pop(e, 0) for e in (COMPLETED, FAILED, CANCELLED))
        retried, times = sum(counts.values()), (Times.of(waited), Times.of(ran))
        hours.append(Hour(*key, ended, retried, failed, cancelled, *times))
    return hours


def merged(hours: Iterable[Hour], before: float = 0) -> list[Hour]:
    """One of each hour and type, sorted; those of hours before a time become `BEFORE`."""
    found: dict[tuple[int, str], Hour] = {}
    for hour in hours:
        if hour.start < before:
            hour = hour._replace(start=BEFORE)
        key = hour.start, hour.type
        found[key] = found[key] + hour if key in found else hour
    return [found[key] for key in sorted(found)]


def chosen(hours: Iterable[Hour], types: str | Iterable[str] | None, since: float) -> History:
    """The hours of some types, which may be globs, that had not ended at a time; None for all."""
    from fnmatch import fnmatchcase  # which a worker does not need

    globs = [types] if isinstance(types, str) else types if types is None else list(types)
    return History(
        hour
        for hour in merged(hours)
        if (since <= 0 or hour.start + HOUR > since)
        and (globs is None or any(fnmatchcase(hour.type, each) for each in globs))
    )


# -- as text: a line of queue.history, a field on a server ----------------------------------------


def to_line(hour: Hour) -> str:
    """The line of an hour, without its end.

    >>> to_line(Hour(7200, "mail", 1))[:30].split("\\t")
    ['1970-01-01T02:00Z', 'mail', '1', '0', '0', '0']
    """
    times = (f"{t.total:.6f}\t{t.most:.6f}\t{','.join(map(str, t.within))}" for t in hour[6:])
    return "\t".join((_name_of(hour.start), hour.type, *map(str, hour[2:6]), *times))


def parse_line(line: str) -> Hour | None:
    """The hour of a line; None for a line that is not one."""
    try:
        name, job_type, *rest = line.split("\t")
        waited, ran = _times(rest[4:7]), _times(rest[7:])
        completed, retried, failed, cancelled = map(_count, rest[:4])
        start = _start_of(name)
        return Hour(start, job_type, completed, retried, failed, cancelled, waited, ran)
    except (ValueError, TypeError):
        return None


def _times(columns: list[str]) -> Times:
    total, most, within = columns
    numbers = tuple(map(_count, within.split(",")))
    if len(numbers) != len(_NOTHING) or not (0 <= float(most) <= float(total) + 1e-6 < 1e15):
        raise ValueError
    return Times(float(total), float(most), numbers)


def _count(text: str) -> int:
    if not (text.isdecimal() and text.isascii() and len(text) < 16):
        raise ValueError
    return int(text)


_names: Final[dict[str, int]] = {}  # of hours that were read: many lines have the same


def _name_of(start: int) -> str:
    if start == BEFORE:
        return "before"
    return time.strftime("%Y-%m-%dT%H:00Z", time.gmtime(start))


def _start_of(name: str) -> int:
    start = BEFORE if name == "before" else _names.get(name)
    if start is None:
        # Not by time.strptime: a worker that root has made another user can import nothing more.
        start = int(datetime.fromisoformat(name).timestamp())
        if _name_of(start) != name:
            raise ValueError
        if len(_names) > 10_000:
            _names.clear()
        _names[name] = start
    return start
