"""A year of firings, daylight saving included: our schedules, cron's rules, systemd's own clock.

Three answers are compared for each schedule and time zone, minute by minute: `Schedule.next_runs`;
the main loop of Debian's cron 3.0 (cron(8)), played through all minutes of the year; and what
`systemd-analyze calendar` prints for `Schedule.on_calendar`. They are the same.
"""

from __future__ import annotations

import os
import re
import subprocess
import zoneinfo
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

import pytest

from dbbasic_queue.schedule.clock import changes
from dbbasic_queue.schedule.schedule import Schedule

BEGIN = datetime(2028, 1, 1, tzinfo=UTC)  # a leap year
END = datetime(2029, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
ZONES = [
    "UTC",
    "Europe/Berlin",  # 02:00 -> 03:00 and back
    "America/New_York",
    "America/Santiago",  # at midnight: 00:00 -> 01:00, 24:00 -> 23:00
    "America/Havana",  # 00:00 -> 01:00, 01:00 -> 00:00
    "Australia/Lord_Howe",  # by half an hour
    "Africa/Casablanca",  # four changes of which two for Ramadan
    "Asia/Kathmandu",  # 45 minutes off the hour, no changes
    "Pacific/Chatham",  # 45 minutes off the hour, with changes
    "Antarctica/Troll",  # by two hours
]
SCHEDULES = [
    "* * * * *",
    "*/5 * * * *",
    "*/15 * * * *",
    "every 3 minutes",
    "*/2 * * * *",
    "*/7 * * * *",
    "every 10 minutes",
    "every 30 minutes",
    "@hourly",
    "30 * * * *",
    "7,37 * * * *",
    "10-50/10 * * * *",
    "1-59/2 * * * *",
    "every 2 hours",
    "every 6 hours",
    "15 */3 * * *",
    "*/20 2 * * *",
    "* 2-3 * * *",
    "0-59/15 0-23 * * *",
    "3-59/5 * * * *",
    "*/15 9-17 * * mon-fri",
    "0 2 * * *",
    "30 2 * * *",
    "0,30 0,1,2,3 * * *",
    "0 2-4 * * *",
    "15 0 * * *",
    "59 23 * * *",
    "@daily",
    "@weekly",
    "@monthly",
    "@yearly",
    "30 2 * * sun",
    "30 2 * * 7",
    "0 0 * * 5-7",
    "0 12 1,15 * *",
    "0 12 31 * *",
    "30 1 29 2 *",
    "0 0 */2 * 1",
    "0 0 1-7/3 * */2",
    "0 6 25-31 mar,oct *",
    "*/10 2 28-31 3,10 *",
    "45 4 1 jan-jun/2 *",
]

DENSE = 100  # times a day; what runs more often is compared for some weeks, not for the year


@dataclass(frozen=True)
class Year:
    """A time zone's year: for each minute from `BEGIN` on what a clock on the wall shows.

    `walls` counts minutes since the year 1, so that a minute of the day is one modulo away.
    """

    walls: list[int]
    changes: list[int]
    repeated: set[int]


@cache
def year(zone: str) -> Year:
    """All minutes of the year in one time zone."""
    clock = ZoneInfo(zone)
    count = int((END - BEGIN) / MINUTE)
    local = ((BEGIN + number * MINUTE).astimezone(clock) for number in range(count))
    walls = [int((time.replace(tzinfo=None) - datetime.min) / MINUTE) for time in local]
    changes = [number for number in range(1, count) if walls[number] != walls[number - 1] + 1]
    latest, repeated = 0, set()
    for number, wall in enumerate(walls):
        if wall <= latest:
            repeated.add(number)
        latest = max(latest, wall)
    return Year(walls, changes, repeated)


def named(schedule: Schedule) -> tuple[set[int], set[int]]:
    """The minutes of the day and the days (since the year 1) that the fields name.

    A day must match both day fields, for one of them begins with `*`.
    """
    times = {
        60 * hour + minute for hour in schedule.hour.values for minute in schedule.minute.values
    }
    days = set()
    for number in range((END - BEGIN).days + 4):
        day = date(2027, 12, 30) + timedelta(days=number)
        right = day.day in schedule.day.values and day.month in schedule.month.values
        if right and day.isoweekday() % 7 in schedule.weekday.values:
            days.add((day - date.min).days)
    return times, days


def by_wall(schedule: Schedule, zone: str) -> set[int]:
    """The minutes at which the wall's clock shows a time that the fields name."""
    times, days = named(schedule)
    walls = enumerate(year(zone).walls)
    return {number for number, wall in walls if wall % 1440 in times and wall // 1440 in days}


def by_cron(schedule: Schedule, zone: str) -> set[int]:
    """What cron's main loop does: `virtual` is the minute up to which fixed jobs have run."""
    wildcard = schedule.minute.star or schedule.hour.star
    times, days = named(schedule)
    found = set()
    walls = year(zone).walls
    virtual = walls[0] - 1
    for number, wall in enumerate(walls):
        ahead = wall - virtual
        assert -180 < ahead <= 180, "a change of more than three hours"
        due = wall % 1440 in times and wall // 1440 in days
        if ahead == 1:
            virtual = wall
            if due:
                found.add(number)
            continue
        if due and wildcard:
            found.add(number)
        while virtual < wall:
            virtual += 1
            if not wildcard and virtual % 1440 in times and virtual // 1440 in days:
                found.add(number)
    return found


def by_systemd(schedule: Schedule, zone: str, begin: int, end: int) -> set[int]:
    """What systemd-analyze prints for all lines of the schedule, from one minute to another."""
    iterations = enough(schedule, begin, end)
    before = BEGIN + begin * MINUTE - timedelta(seconds=1)
    found: set[int] = set()
    local, *dated = schedule.on_calendar(ZoneInfo(zone))
    for line in (local, *(line for line in dated if line.startswith(str(BEGIN.year)))):
        run = subprocess.run(
            ["systemd-analyze", "calendar", f"--iterations={iterations}",
             f"--base-time={before:%Y-%m-%d %H:%M:%S} UTC", line],
            env={**os.environ, "TZ": zone, "LC_ALL": "C"}, capture_output=True, text=True,
        )  # fmt: skip
        assert run.returncode == 0, run.stderr
        # Where the zone is UTC itself, the line "(in UTC)" is left out.
        shown = re.findall(
            r"(?:Next elapse|Iter\. #\d+|\(in UTC\)): \w+ (.*) UTC$", run.stdout, re.M
        )
        found |= {number_of(datetime.fromisoformat(text).replace(tzinfo=UTC)) for text in shown}
    assert max(found) >= end - 1, "not enough iterations"
    return {number for number in found if begin <= number < end}


def by_us(schedule: Schedule, zone: str, begin: int, end: int) -> set[int]:
    """What `next_runs` says, from one minute to another."""
    before = (BEGIN + begin * MINUTE - timedelta(seconds=1)).astimezone(ZoneInfo(zone))
    runs = {number_of(run) for run in schedule.next_runs(before, enough(schedule, begin, end))}
    return {number for number in runs if begin <= number < end}


def enough(schedule: Schedule, begin: int, end: int) -> int:
    """A number of runs that is sure to lead beyond `end`."""
    days = (end - begin) // 1440 + 3
    return min(days * len(named(schedule)[0]), end - begin + 1)


def number_of(time: datetime) -> int:
    """The number of a minute, counted from `BEGIN`."""
    number, rest = divmod(time - BEGIN, MINUTE)
    assert not rest, f"{time} is not a full minute"
    return number


def is_dense(schedule: Schedule) -> bool:
    return len(named(schedule)[0]) > DENSE


def periods(schedule: Schedule, zone: str) -> list[tuple[int, int]]:
    """The whole year, or for a dense schedule the days around each change and a week in July."""
    whole = len(year(zone).walls)
    if not is_dense(schedule):
        return [(0, whole)]
    july = number_of(datetime(2028, 7, 1, tzinfo=UTC))
    around = [(change - 1500, change + 1500) for change in year(zone).changes]
    return [(0, 3000), (july, july + 7 * 1440), (whole - 3000, whole), *around]


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("text", SCHEDULES)
def test_a_year_of_firings(text: str, zone: str) -> None:
    """All three fire at the same minutes; times that the clock skips are late by wall."""
    schedule = Schedule.parse(text)
    wildcard = schedule.minute.star or schedule.hour.star
    cron, wall, repeated = by_cron(schedule, zone), by_wall(schedule, zone), year(zone).repeated
    late = cron - wall
    assert cron - late == (wall if wildcard else wall - repeated)
    assert not (wildcard and late)
    for begin, end in periods(schedule, zone):
        window = set(range(begin, end))
        assert by_us(schedule, zone, begin, end) == cron & window
        assert by_systemd(schedule, zone, begin, end) == cron & window


def changing_zones() -> list[str]:
    """One time zone for each way to change the clock."""
    found: dict[object, str] = {}
    for name in sorted(zoneinfo.available_timezones()):
        zone = ZoneInfo(name)
        each = changes(zone)
        # Where winter time bears the daylight saving flag, systemd counts otherwise.
        flags = tuple(bool(datetime.fromtimestamp(change.at, zone).dst()) for change in each)
        found.setdefault((each, flags), name)
    return sorted(found.values())


@pytest.mark.parametrize("zone", changing_zones())
def test_every_zone_with_changes(zone: str) -> None:
    """In each zone and around each change, systemd starts what cron does; a third of schedules."""
    for text in SCHEDULES[::3]:
        schedule = Schedule.parse(text)
        cron = by_cron(schedule, zone)
        for change in year(zone).changes:
            begin, end = change - 1500, change + 1500
            assert by_systemd(schedule, zone, begin, end) == cron & set(range(begin, end)), text
