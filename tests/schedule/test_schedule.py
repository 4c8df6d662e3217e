"""Schedules: one model for cron and systemd. Their real clocks are asked in tests/e2e."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dbbasic_queue.errors import QueueError, ScheduleError
from dbbasic_queue.schedule.schedule import Schedule

BERLIN = ZoneInfo("Europe/Berlin")  # 02:00 -> 03:00 on 2024-03-31, 03:00 -> 02:00 on 2024-10-27

RENDERED = [
    # text, cron's fields, OnCalendar=, words
    ("* * * * *", "* * * * *", "*-*-* *:*:00 UTC", "every minute"),
    ("every minute", "* * * * *", "*-*-* *:*:00 UTC", "every minute"),
    ("every 5 minutes", "*/5 * * * *", "*-*-* *:00/5:00 UTC", "every 5 minutes"),
    ("*/15 * * * *", "*/15 * * * *", "*-*-* *:00/15:00 UTC", "every 15 minutes"),
    ("*/10 * * * *", "*/10 * * * *", "*-*-* *:00/10:00", "every 10 minutes"),
    ("0,30 * * * *", "0,30 * * * *", "*-*-* *:00,30:00", "every 30 minutes"),
    (
        "3-59/5 * * * *",
        "3-59/5 * * * *",
        "*-*-* *:03/5:00 UTC",
        "every hour at minutes 3, 8, ... 58",
    ),
    ("*/45 * * * *", "*/45 * * * *", "*-*-* *:00,45:00", "every hour at minutes 0 and 45"),
    ("10-59 * * * *", "10-59 * * * *", "*-*-* *:10..59:00", "every hour at minutes 10 to 59"),
    ("@hourly", "0 * * * *", "*-*-* *:00:00", "every hour"),
    ("every hour", "0 * * * *", "*-*-* *:00:00", "every hour"),
    ("every 60 minutes", "0 * * * *", "*-*-* *:00:00", "every hour"),
    ("7 * * * *", "7 * * * *", "*-*-* *:07:00", "every hour at minute 7"),
    ("every 8 hours", "0 */8 * * *", "*-*-* 00,08,16:00:00", "at 00:00, 08:00 and 16:00 every day"),
    (
        "every 120 minutes",
        "0 */2 * * *",
        "*-*-* 00,02,04,06,08,10,12,14,16,18,20,22:00:00",
        "every 2 hours",
    ),
    (
        "5 */4 * * *",
        "5 */4 * * *",
        "*-*-* 00,04,08,12,16,20:05:00",
        "every 4 hours at minute 5",
    ),
    ("every 24 hours", "0 0 * * *", "*-*-* 00:00:00", "at 00:00 every day"),
    ("@daily", "0 0 * * *", "*-*-* 00:00:00", "at 00:00 every day"),
    ("@midnight", "0 0 * * *", "*-*-* 00:00:00", "at 00:00 every day"),
    ("@weekly", "0 0 * * 0", "Sun *-*-* 00:00:00", "at 00:00 on Sunday"),
    ("@monthly", "0 0 1 * *", "*-*-01 00:00:00", "at 00:00 on day 1 of the month"),
    ("@yearly", "0 0 1 1 *", "*-01-01 00:00:00", "at 00:00 on day 1 of the month in January"),
    ("@annually", "0 0 1 1 *", "*-01-01 00:00:00", "at 00:00 on day 1 of the month in January"),
    ("  05  02 * * *  ", "5 2 * * *", "*-*-* 02:05:00", "at 02:05 every day"),
    ("0 2 * * 7", "0 2 * * 7", "Sun *-*-* 02:00:00", "at 02:00 on Sunday"),
    ("0 2 * * SUN", "0 2 * * 0", "Sun *-*-* 02:00:00", "at 02:00 on Sunday"),
    (
        "0 2 * * mon-fri",
        "0 2 * * 1-5",
        "Mon..Fri *-*-* 02:00:00",
        "at 02:00 on Monday to Friday",
    ),
    (
        "0 2 * * 5-7",
        "0 2 * * 5-7",
        "Fri..Sun *-*-* 02:00:00",
        "at 02:00 on Friday to Sunday",
    ),
    (
        "0 2 * * sun,wed,3",
        "0 2 * * 0,3,3",
        "Wed,Sun *-*-* 02:00:00",
        "at 02:00 on Wednesday and Sunday",
    ),
    (
        "0 0 * * */3",
        "0 0 * * */3",
        "Wed,Sat,Sun *-*-* 00:00:00",
        "at 00:00 on Wednesday, Saturday and Sunday",
    ),
    (
        "0 2 1,15 jan-mar,Dec *",
        "0 2 1,15 1-3,12 *",
        "*-01..03,12-01,15 02:00:00",
        "at 02:00 on days 1 and 15 of the month in January to March and December",
    ),
    (
        "*/30 9-17/4 * * *",
        "*/30 9-17/4 * * *",
        "*-*-* 09,13,17:00,30:00",
        "every 30 minutes of hours 9, 13 and 17",
    ),
    (
        "15,45 9-17 * * *",
        "15,45 9-17 * * *",
        "*-*-* 09..17:15,45:00",
        "at minutes 15 and 45 of hours 9 to 17 every day",
    ),
    (
        "* 9 * * 1",
        "* 9 * * 1",
        "Mon *-*-* 09:*:00",
        "every minute of hour 9 on Monday",
    ),
    (
        "0 0 */10 * 1,2",
        "0 0 */10 * 1,2",
        "Mon,Tue *-*-01,11,21,31 00:00:00",
        "at 00:00 on days 1, 11, 21 and 31 of the month if that is a Monday or Tuesday",
    ),
    ("0 0 29 2 *", "0 0 29 2 *", "*-02-29 00:00:00", "at 00:00 on day 29 of the month in February"),
]


@pytest.mark.parametrize(("text", "cron", "calendar", "words"), RENDERED)
def test_rendered(text: str, cron: str, calendar: str, words: str) -> None:
    """Every form is written as cron's five fields, as OnCalendar= and in words."""
    schedule = Schedule.parse(text)
    assert schedule.source == text
    assert schedule.cron() == cron
    assert schedule.on_calendar() == [calendar]
    assert schedule.describe() == words


REFUSED = [
    # what only one of the two can express
    ("0 0 1 * 1", "cron would run it on days that match either, systemd on days that match both"),
    ("0 0 1-31 * 1", "days that match either"),
    ("0 0 1,*/2 * mon", "days that match either"),
    ("every 7 minutes", "does not divide an hour or a day"),
    ("every 45 minutes", "does not divide an hour"),
    ("every 90 minutes", "does not divide an hour"),
    ("every 5 hours", "does not divide an hour"),
    ("every 48 hours", "does not divide an hour"),
    ("every 30 seconds", "cron's smallest step is a minute"),
    ("every second", "cron's smallest step is a minute"),
    ("0 2 * * * Europe/Berlin", "'Europe/Berlin': a time zone cannot be given"),
    ("0 2 * * * UTC", "'UTC': a time zone"),
    ("CRON_TZ=UTC 0 2 * * *", "'CRON_TZ=UTC': a time zone"),
    ("TZ=UTC 0 2 * * *", "'TZ=UTC': a time zone"),
    ("0 */5 * * * *", "has 6 fields, not five (cron has neither seconds nor years)"),
    ("0 0 0 1 1 * 2030", "has 7 fields"),
    ("@reboot", "@reboot is not a time"),
    # what never fires
    ("0 0 30 2 *", "never fires: there is no day 30 in February"),
    ("0 0 31 2,4,6,9,11 *", "never fires: there is no day 31 in February and April and June"),
    ("0 0 30-31 feb */7", "never fires: there is no day 30 in February"),
    # what cron takes and never or not so runs
    ("30-10 * * * *", "the minute 30-10 runs backwards, and cron would never fire"),
    ("0 22-6 * * *", "the hour 22-6 runs backwards"),
    ("0 0 * * fri-sun", "the day of week fri-sun runs backwards"),
    ("*/60 * * * *", "the minute */60 has a step that must be from 1 to 59"),
    ("*/0 * * * *", "has a step that must be from 1 to 59"),
    ("0 9-17/9 * * *", "the hour 9-17/9 has a step that must be from 1 to 8"),
    ("5/15 * * * *", "the minute 5/15 has a step without a range; write 5-59/15"),
    ("5-5/1 * * * *", "has a step without a range"),
    # what neither knows
    ("", "'' has 0 fields, not five"),
    ("* * * *", "has 4 fields, not five"),
    ("daily", "'daily' has 1 field, not five"),
    ("@never", "'@never' is not one of @yearly"),
    ("@DAILY", "'@DAILY' is not one of"),
    ("every day", 'write "every 5 minutes"'),
    ("every 0 minutes", 'write "every 5 minutes"'),
    ("everything", 'write "every 5 minutes"'),
    ("60 * * * *", "'60' is not a minute; write 0 to 59"),
    ("0 24 * * *", "'24' is not an hour; write 0 to 23"),
    ("0 0 0 * *", "'0' is not a day of month; write 1 to 31"),
    ("0 0 32 * *", "'32' is not a day of month"),
    ("0 0 * 0 *", "'0' is not a month; write 1 to 12 or jan to dec"),
    ("0 0 * 13 *", "'13' is not a month"),
    ("0 0 * * 8", "'8' is not a day of week; write 0 to 7 or sun to sat"),
    ("0 0 * * monday", "'monday' is not a day of week"),
    ("0 0 * mon *", "'mon' is not a month"),
    ("0 0 L * *", "'L' is not a day of month"),
    ("0 0 15W * *", "'15W' is not a day of month"),
    ("0 0 * * 5#2", "'5#2' is not a day of week"),
    ("0 0 ? * 1", "'?' is not a day of month"),
    ("H * * * *", "'H' is not a minute"),
    ("0~30 * * * *", "'0~30' is not a minute"),
    ("1,,2 * * * *", "'' is not a minute"),
    ("*5 * * * *", "'*5' is not a minute"),
    ("-1 * * * *", "'-1' is not a minute"),
    ("1-2-3 * * * *", "'1-2-3' is not a minute"),
    ("*-*-* 02:00:00", "has 2 fields"),
    ("* * * * *\n", "contains characters that a schedule cannot"),
    ("*\t* * * *", "contains characters that a schedule cannot"),
    ("٥ * * * *", "contains characters that a schedule cannot"),
    ("x" * 10_000, "has 1 field"),
]


@pytest.mark.parametrize(("text", "reason"), REFUSED)
def test_refused(text: str, reason: str) -> None:
    """What cannot be said alike to both, never fires or is not a schedule is refused with why."""
    with pytest.raises(ScheduleError) as caught:
        Schedule.parse(text)
    assert reason in str(caught.value)
    assert len(str(caught.value)) < 300
    assert str(caught.value).isprintable()


def test_error_is_one_of_ours() -> None:
    """A caller who catches QueueError, or ValueError, catches a bad schedule too."""
    with pytest.raises(QueueError):
        Schedule.parse("x")
    assert issubclass(ScheduleError, ValueError)


def times(text: str, after: datetime, count: int) -> list[str]:
    return [f"{run:%m-%d %H:%M%z}" for run in Schedule.parse(text).next_runs(after, count)]


def test_next_runs() -> None:
    """The next runs are those later than the time given, in its zone."""
    after = datetime(2024, 2, 28, 2, 0, tzinfo=UTC)
    assert times("0 2 * * *", after, 3) == [
        "02-29 02:00+0000",
        "03-01 02:00+0000",
        "03-02 02:00+0000",
    ]
    assert times("0 2 * * *", after - timedelta(seconds=1), 1) == ["02-28 02:00+0000"]
    assert times("0 2 * * *", after.astimezone(BERLIN), 1) == ["02-29 02:00+0100"]
    assert times("0 2 * * *", after, 0) == []
    leap = Schedule.parse("0 0 29 2 *").next_runs(after, 3)
    assert [run.year for run in leap] == [2024, 2028, 2032]


def test_either_day_field_with_a_star_means_both() -> None:
    """`*/2` and a day of the week mean days that are both, as in cron's entry.c."""
    runs = Schedule.parse("0 0 */2 * 1").next_runs(datetime(2024, 1, 1, 12), 3)
    assert [(run.day, run.isoweekday()) for run in runs] == [(15, 1), (29, 1), (5, 1)]


def test_clock_put_forward() -> None:
    """A fixed time that is skipped is run when the clock jumps, as cron does; others are not."""
    after = datetime(2024, 3, 31, 1, 45, tzinfo=BERLIN)
    assert times("30 2 * * *", after, 2) == ["03-31 03:00+0200", "04-01 02:30+0200"]
    assert times("0,30 2,3 * * *", after, 3) == [
        "03-31 03:00+0200", "03-31 03:30+0200", "04-01 02:00+0200",
    ]  # fmt: skip
    assert times("30 * * * *", after, 2) == ["03-31 03:30+0200", "03-31 04:30+0200"]
    assert times("*/20 2 * * *", after, 1) == ["04-01 02:00+0200"]


def test_clock_put_back() -> None:
    """A repeated fixed time is run once, the first time; a wildcard one both times, as in cron."""
    after = datetime(2024, 10, 27, 1, 45, tzinfo=BERLIN)
    assert times("30 2 * * *", after, 2) == ["10-27 02:30+0200", "10-28 02:30+0100"]
    assert times("30 * * * *", after, 3) == [
        "10-27 02:30+0200", "10-27 02:30+0100", "10-27 03:30+0100",
    ]  # fmt: skip
    assert times("0 2-3 * * *", after, 2) == ["10-27 02:00+0200", "10-27 03:00+0100"]
    second = datetime(2024, 10, 27, 2, 10, tzinfo=BERLIN, fold=1)
    assert times("*/20 2 * * *", second, 2) == ["10-27 02:20+0100", "10-27 02:40+0100"]


def test_clock_put_back_over_midnight() -> None:
    """Runs of a day that begins twice come in the order of time."""
    zone = ZoneInfo("America/St_Johns")  # 00:01 on 2010-11-07 became 23:01 of the day before
    after = datetime(2010, 11, 6, 23, 30, tzinfo=zone)
    assert times("*/30 * * * *", after, 4) == [
        "11-07 00:00-0230", "11-06 23:30-0330", "11-07 00:00-0330", "11-07 00:30-0330",
    ]  # fmt: skip


def test_day_that_a_zone_skips() -> None:
    """A jump of three hours or more is a clock put right: nothing is made up for."""
    after = datetime(2011, 12, 29, 12, tzinfo=ZoneInfo("Pacific/Apia"))  # had no 30 December
    assert times("0 2 * * *", after, 1) == ["12-31 02:00+1400"]


def test_local_time_without_a_zone() -> None:
    """Datetimes without a zone are the machine's local time, daylight saving included."""
    program = (
        "from datetime import datetime; from dbbasic_queue.schedule.schedule import Schedule\n"
        "runs = Schedule.parse('30 2 * * *').next_runs(datetime(2024, 3, 30, 12), 2)\n"
        "again = Schedule.parse('30 * * * *').next_runs(datetime(2024, 10, 27, 2), 2)\n"
        "print([f'{run:%d %H:%M}' for run in runs], [run.fold for run in again])"
    )
    run = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "TZ": "CET-1CEST,M3.5.0,M10.5.0/3"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert run.stdout.strip() == "['31 03:00', '01 02:30'] [0, 1]"


def test_last_run() -> None:
    """The last run is not later than the time given, and may be that very time."""
    schedule = Schedule.parse("*/15 2 * * *")
    last = [
        schedule.last_run(datetime(2024, 5, 2, *time, tzinfo=UTC))
        for time in [(2, 14, 59), (2, 15, 0), (1, 59, 59)]
    ]
    assert [f"{run:%d %H:%M:%S}" for run in last] == ["02 02:00:00", "02 02:15:00", "01 02:45:00"]
    skipped = Schedule.parse("30 2 * * *").last_run(datetime(2024, 3, 31, 12, tzinfo=BERLIN))
    assert f"{skipped:%d %H:%M}" == "31 03:00"
    rare = Schedule.parse("0 0 29 2 *").last_run(datetime(2023, 1, 1, tzinfo=UTC))
    assert rare == datetime(2020, 2, 29, tzinfo=UTC)


def test_gaps() -> None:
    """The shortest and longest times between two runs are known, also over months and years."""
    expected = {
        "*/30 * * * *": (0.5, 0.5),
        "0 9-17 * * *": (1, 16),
        "0 0 * * 1-5": (24, 72),
        "@weekly": (168, 168),
        "@monthly": (28 * 24, 31 * 24),
        "0 0 31 * *": (31 * 24, 61 * 24),
        "0 0 29 2 *": (1461 * 24, 1461 * 24),
        "0 6,7 * * 1,2": (1, 143),
        "*/45 * * * *": (0.25, 0.75),
    }
    for text, (shortest, longest) in expected.items():
        schedule = Schedule.parse(text)
        assert (schedule.shortest_gap(), schedule.longest_gap()) == (
            shortest * 3600,
            longest * 3600,
        )


# --- against an evaluation that shares no code ---------------------------------------------------

NAMES = {
    name: number
    for names in (
        "sun mon tue wed thu fri sat",
        "- jan feb mar apr may jun jul aug sep oct nov dec",
    )
    for number, name in enumerate(names.split())
}


def cron_values(field: str, low: int, high: int) -> set[int]:
    """What crontab(5) says a field means."""
    found = set()
    for item in field.split(","):
        bounds, _, step = item.partition("/")
        first, _, last = bounds.partition("-")
        numbers = [NAMES.get(word.lower(), word) for word in (first, last or first)]
        begin, end = (low, high) if bounds == "*" else map(int, numbers)
        found |= {
            number for number in range(begin, end + 1) if (number - begin) % int(step or 1) == 0
        }
    return found


def calendar_values(part: str, low: int, high: int) -> set[int]:
    """What systemd.time(7) says a part of a calendar expression means."""
    found = set()
    for item in part.split(","):
        bounds, _, step = item.partition("/")
        first, _, last = bounds.partition("..")
        begin = low if first == "*" else int(first)
        end = int(last) if last else (high if step or first == "*" else begin)
        found |= set(range(begin, end + 1, int(step or 1)))
    return found


def calendar_weekdays(part: str) -> set[int]:
    order = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]
    found = set()
    for item in part.split(","):
        first, _, last = item.partition("..")
        found |= set(range(order.index(first) + 1, order.index(last or first) + 2))
    return {day % 7 for day in found}


def numbers(low: int, high: int, names: str = "") -> st.SearchStrategy[str]:
    plain = st.integers(low, high).map(str)
    return st.one_of(plain, st.sampled_from(names.split())) if names else plain


def fields(low: int, high: int, names: str = "") -> st.SearchStrategy[str]:
    number = numbers(low, high, names)
    spread = st.tuples(number, number).map("-".join)
    step = st.integers(1, max(1, (high - low) // 3)).map(str)
    item = st.one_of(
        st.just("*"), number, spread, st.tuples(st.one_of(st.just("*"), spread), step).map("/".join)
    )
    return st.one_of(st.just("*"), st.lists(item, min_size=1, max_size=3).map(",".join))


TEXTS = st.tuples(
    fields(0, 59),
    fields(0, 23),
    fields(1, 31),
    fields(1, 12, "jan Feb MAR dec"),
    fields(0, 7, "sun Mon FRI sat"),
).map(" ".join)
LIMITS = [(0, 59), (0, 23), (1, 31), (1, 12), (0, 7)]


@given(TEXTS)
def test_what_is_accepted_means_the_same_to_both(text: str) -> None:
    """cron's fields, the calendar expression and our own sets name the same minutes."""
    try:
        schedule = Schedule.parse(text)
    except ScheduleError:
        return
    source = [cron_values(field, *limit) for field, limit in zip(text.split(), LIMITS, strict=True)]
    source[4] = {day % 7 for day in source[4]}
    assert Schedule.parse(schedule.cron()).cron() == schedule.cron()
    rendered = schedule.cron().split()
    assert rendered[2].startswith("*") or rendered[4].startswith("*")
    cron = [cron_values(field, *limit) for field, limit in zip(rendered, LIMITS, strict=True)]
    cron[4] = {day % 7 for day in cron[4]}
    (line,) = schedule.on_calendar()
    words = line.removesuffix(" UTC").split()
    weekdays = calendar_weekdays(words.pop(0)) if len(words) == 3 else set(range(7))
    _, month, day = words[0].split("-")
    hour, minute, second = words[1].split(":")
    assert second == "00"
    parts = (minute, hour, day, month)
    calendar = [
        calendar_values(*each) for each in zip(parts, *zip(*LIMITS[:4], strict=True), strict=True)
    ]
    assert [*calendar, weekdays] == cron == source


@settings(max_examples=100)
@given(TEXTS, st.datetimes(datetime(2023, 1, 1), datetime(2026, 1, 1), timezones=st.just(BERLIN)))
def test_runs_are_consistent(text: str, after: datetime) -> None:
    """Next runs ascend, match the fields but for a skipped hour, and are each other's last run."""
    try:
        schedule = Schedule.parse(text)
    except ScheduleError:
        return
    runs = schedule.next_runs(after, 4)
    instants = [run.timestamp() for run in runs]
    assert instants == sorted(set(instants))
    assert instants[0] > after.timestamp()
    assert [schedule.last_run(run) for run in runs] == runs
    for one, two in itertools.pairwise(instants):
        before = datetime.fromtimestamp(two - 1, BERLIN)
        assert schedule.last_run(before).timestamp() == one
    for run in runs:
        jump = run.replace(fold=0).utcoffset() != (run - timedelta(hours=2)).utcoffset()
        assert jump or (run.minute in schedule.minute.values and run.hour in schedule.hour.values)
