"""The machine's time zone, and the times that its clock skips or shows twice.

Theory of operation
-------------------
cron and systemd go by local time. When the clock is put forward, local times are skipped; when it
is put back, they come twice. Debian's cron (cron(8), for changes by less than three hours) and
systemd (252) differ there:

                     skipped minute                      repeated minute
    cron, fixed      run at once, when the clock jumps   run the first time only
    cron, wildcard   not run                             run both times
    systemd          not run, until the next day         run the first time only

*Wildcard* is a schedule whose minute or hour begins with `*`. A wildcard schedule pauses under
systemd while the hour is repeated (its issue 8647), and in some zones (Chatham, Troll, Morocco:
where the skip is not one full hour, or winter time bears the daylight saving flag) systemd loses
what a schedule that names skipped times has in the rest of that day.

We go by cron's rules (`cron_instants`), and so that systemd does, too:

* A wildcard schedule that means the same minutes in UTC, as most do, is given to systemd in UTC.
  For every 1, 3, 5 or 15 minutes of every day that is so in every time zone in use, as all are a
  multiple of 15 minutes away from UTC.
* For any other, what systemd may miss on the days of a change is given to it by date, in UTC, for
  all changes from `FIRST_YEAR` to `LAST_YEAR` by the time zone's rules of today. When these change,
  `dbq-install-systemd --check` says that the timers differ.
"""

from __future__ import annotations

import bisect
import os
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta, tzinfo
from functools import cache
from pathlib import Path
from typing import NamedTuple

LOCAL_TIME = Path("/etc/localtime")
CLOCK_CORRECTION = 3 * 3600  # cron takes a larger jump for a clock that was wrong
FIRST_YEAR, LAST_YEAR = 2026, 2037  # the data of most time zones ends with 2037, too


class Change(NamedTuple):
    """A change of the clock: when (Unix seconds), and the offsets from UTC in seconds."""

    at: int
    before: int
    after: int


def machine_zone() -> tzinfo | None:
    """Return the machine's time zone where `$TZ` hides it, None where local time is the machine's.

    `$TZ` may be set for the handlers, or in the shell of the user who asks; cron and systemd go by
    `/etc/localtime`, localtime(5).
    """
    return zone_of(LOCAL_TIME) if "TZ" in os.environ else None


def zone_of(local_time: Path) -> tzinfo:
    """Return the time zone in a file such as /etc/localtime: UTC where there is none.

    Raises `OSError` and `ValueError` for a file that cannot be read or is not one of a time zone.
    """
    from zoneinfo import ZoneInfo  # here, as a worker that starts every minute does not need it

    try:
        with local_time.open("rb") as stream:
            return ZoneInfo.from_file(stream, key="localtime")
    except FileNotFoundError:
        return UTC


@cache
def changes(zone: tzinfo) -> tuple[Change, ...]:
    """Return all changes of the clock in `zone` from `FIRST_YEAR` to `LAST_YEAR`.

    >>> from zoneinfo import ZoneInfo
    >>> changes(ZoneInfo("Europe/Berlin"))[0]
    Change(at=1774746000, before=3600, after=7200)
    """
    found = []
    day = datetime(FIRST_YEAR, 1, 1, tzinfo=UTC)
    before = _offset(int(day.timestamp()), zone)
    while day.year <= LAST_YEAR:
        start, day = int(day.timestamp()), day + timedelta(days=1)
        end = int(day.timestamp())
        after = _offset(end, zone)
        if after != before:
            found.append(Change(_jump(start, end, zone), before, after))
        before = after
    return tuple(found)


def offsets(zone: tzinfo) -> set[int]:
    """Return all offsets from UTC, in seconds, that `zone` has in these years."""
    first = _offset(int(datetime(FIRST_YEAR, 1, 1, tzinfo=UTC).timestamp()), zone)
    return {first, *(change.after for change in changes(zone))}


def only_instant(wall: datetime) -> int | None:
    """Return when it is the local time `wall`, unless that is skipped or comes twice."""
    first, second = wall.timestamp(), wall.replace(fold=1).timestamp()
    return int(first) if first == second else None


def cron_instants(wall: datetime, wildcard: bool) -> list[int]:
    """Return when cron runs what is due at the local time `wall`, in seconds since the epoch.

    A skipped time has a later instant by the old offset (fold=0) than by the new one (PEP 495).
    """
    first = int(wall.timestamp())
    second = int(wall.replace(fold=1).timestamp())
    if first == second:
        return [first]
    correction = abs(second - first) >= CLOCK_CORRECTION
    if first < second:
        return [first, second] if wildcard or correction else [first]
    return [] if wildcard or correction else [_jump(second, first, wall.tzinfo)]


def _jump(before: int, after: int, zone: tzinfo | None) -> int:
    """Return the first instant of the new offset, after `before` and at the latest `after`."""
    new = _offset(after, zone)
    return bisect.bisect_left(
        range(after), True, lo=before, key=lambda instant: _offset(instant, zone) == new
    )


def _offset(instant: int, zone: tzinfo | None) -> int:
    """Return how many seconds local time is ahead of UTC."""
    local = datetime.fromtimestamp(instant, zone).replace(tzinfo=None)
    return int((local - datetime(1970, 1, 1)).total_seconds()) - instant


def machine_uptime() -> float:
    """Return for how many seconds this machine, or this container, has been running.

    A container's first process started with it. Where other users' processes are hidden, it is the
    machine's time that counts.

    >>> machine_uptime() > 0
    True
    """
    up = time.clock_gettime(time.CLOCK_BOOTTIME)
    with suppress(OSError, ValueError, IndexError):
        stat = Path("/proc/1/stat").read_text(errors="replace")
        started = int(stat.rpartition(")")[2].split()[19])  # proc(5): field 22, starttime
        up -= started / os.sysconf("SC_CLK_TCK")
    return up
