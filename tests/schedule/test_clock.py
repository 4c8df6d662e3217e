"""The days on which the clock is changed: cron, systemd and we start at the same minutes."""

from __future__ import annotations

import functools
import zoneinfo
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import given, settings
from hypothesis import strategies as st

from dbbasic_queue.schedule.clock import FIRST_YEAR, LAST_YEAR, Change, changes, offsets, zone_of
from dbbasic_queue.schedule.schedule import Schedule

DAY = 86_400
SCHEDULES = [
    "0 2 * * *",
    "30 2 * * *",
    "15 0 * * *",
    "30 3 * * *",
    "59 23 * * *",
    "0,30 0,1,2,3 * * *",
    "30 2 * * sun",
    "0 3 28-31 3,10 *",
    "@hourly",
    "*/10 * * * *",
    "*/7 * * * *",
    "*/20 0-3 * * *",
    "* 2-3 * * *",
    "0 */6 * * *",
    "*/15 9-17 * * mon-fri",
]


@cache
@functools.cache
def zones() -> dict[str, tuple[Change, ...]]:
    """One time zone for each way to change the clock that there is in these years.

    Without Lord Howe, which changes by half an hour: cronsim loses the hours after that. It is in
    tests/e2e/test_schedules_agree.py.
    """
    found: dict[tuple[Change, ...], str] = {}
    for name in sorted(zoneinfo.available_timezones()):
        each = changes(ZoneInfo(name))
        if each and all((change.after - change.before) % 3600 == 0 for change in each):
            found.setdefault(each, name)
    return {name: each for each, name in found.items()}


def cron(text: str, zone: ZoneInfo, begin: int, end: int) -> set[int]:
    """When cron runs it, by a library that is not ours."""
    runs = CronSim(Schedule.parse(text).cron(), datetime.fromtimestamp(begin - 1, zone))
    found = set()
    for run in runs:
        if run.timestamp() >= end:
            break
        found.add(int(run.timestamp()))
    return found


def sure(schedule: Schedule, zone: ZoneInfo, change: Change, begin: int, end: int) -> set[int]:
    """When systemd starts it for certain, by the table and the list at the top of clock.py."""
    local, *dated = schedule.on_calendar(zone)
    found = set()
    for line in dated:
        day, times = line.removesuffix(" UTC").split()
        hours, minutes, _ = times.split(":")
        for hour in numbers(hours, 24):
            for minute in numbers(minutes, 60):
                time = datetime.fromisoformat(day).replace(tzinfo=UTC, hour=hour, minute=minute)
                found.add(int(time.timestamp()))
    day_end = datetime.fromtimestamp(change.at, zone).replace(hour=0, minute=0, second=0)
    day_end += timedelta(days=1)
    for instant in range(begin - begin % 60, end, 60):
        if local.endswith("UTC"):
            wall = datetime.fromtimestamp(instant, UTC)
        else:
            wall = datetime.fromtimestamp(instant, zone)
            skipped = change.after > change.before and change.at <= instant < day_end.timestamp()
            if wall.fold or (skipped and dated):
                continue
        is_time = wall.minute in schedule.minute.values and wall.hour in schedule.hour.values
        if is_time and schedule._on(wall.date()):
            found.add(instant)
    return {instant for instant in found if begin <= instant < end}


def numbers(text: str, size: int) -> set[int]:
    """What one part of a calendar expression of ours means."""
    found: set[int] = set()
    if text == "*":
        return set(range(size))
    if "/" in text:
        first, step = text.split("/")
        return set(range(int(first), size, int(step)))
    for item in text.split(","):
        first, _, last = item.partition("..")
        found |= set(range(int(first), int(last or first) + 1))
    return found


@pytest.mark.parametrize("text", SCHEDULES)
def test_systemd_starts_when_cron_does(text: str) -> None:
    """In every time zone that changes its clock, what systemd may miss is given to it by date."""
    schedule = Schedule.parse(text)
    for name, found in zones().items():
        zone = ZoneInfo(name)
        for change in (each for each in found if year(each.at) == FIRST_YEAR + 1):
            begin, end = change.at - DAY, change.at + DAY
            assert sure(schedule, zone, change, begin, end) == cron(text, zone, begin, end), name


def year(instant: int) -> int:
    return datetime.fromtimestamp(instant, UTC).year


def test_nights_of_the_change() -> None:
    """A job at 02:00 gets the night on which there is no 02:00, by date, until LAST_YEAR."""
    first, *dated = Schedule.parse("0 2 * * *").on_calendar(ZoneInfo("Europe/Berlin"))
    assert first == "*-*-* 02:00:00"
    assert dated[1] == "2027-03-28 01:00:00 UTC"
    assert len(dated) == LAST_YEAR - FIRST_YEAR + 1
    assert Schedule.parse("30 3 * * *").on_calendar(ZoneInfo("Europe/Berlin")) == ["*-*-* 03:30:00"]


def test_whole_hours_go_in_utc_where_the_zone_has_whole_hours() -> None:
    """A schedule of every hour is in UTC where that changes nothing, and else by local time."""
    every = Schedule.parse("*/10 * * * *")
    assert every.on_calendar(ZoneInfo("Europe/Berlin")) == ["*-*-* *:00/10:00 UTC"]
    assert every.on_calendar(ZoneInfo("Asia/Kolkata")) == ["*-*-* *:00/10:00 UTC"]
    assert every.on_calendar(ZoneInfo("Asia/Kathmandu")) == ["*-*-* *:00/10:00"]
    assert every.on_calendar() == ["*-*-* *:00/10:00"]
    assert offsets(ZoneInfo("Asia/Kathmandu")) == {20_700}


def test_a_machine_without_a_time_zone_is_in_utc(tmp_path: Path) -> None:
    """No /etc/localtime means UTC, as localtime(5) says; a file of something else is refused."""
    assert zone_of(tmp_path / "localtime") is UTC
    (tmp_path / "localtime").write_text("Europe/Berlin")
    with pytest.raises(ValueError, match="magic"):
        zone_of(tmp_path / "localtime")


FIELD = st.one_of(st.just("*"), st.integers(2, 20).map("*/{}".format), st.integers(0, 23).map(str))


# Deferred, as to look through all zones takes seconds, in each process that collects the tests.
NAME = st.deferred(lambda: st.sampled_from(sorted(zones())))


@settings(max_examples=60, deadline=None)
@given(FIELD, FIELD, NAME, st.integers(0, 10**6))
def test_next_runs_are_crons(minute: str, hour: str, name: str, number: int) -> None:
    """Around any change of the clock we name the runs that another reading of cron does."""
    text, zone = f"{minute} {hour} * * *", ZoneInfo(name)
    change = zones()[name][number % len(zones()[name])]
    begin, end = change.at - DAY, change.at + DAY
    wanted = cron(text, zone, begin, end)
    runs = Schedule.parse(text).next_runs(datetime.fromtimestamp(begin - 1, zone), len(wanted) + 1)
    assert {int(run.timestamp()) for run in runs[:-1]} == wanted
