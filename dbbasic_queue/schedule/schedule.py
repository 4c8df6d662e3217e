"""One schedule, rendered to cron's five fields and to systemd's `OnCalendar=`.

Theory of operation
-------------------
A text becomes five sets of numbers (`Schedule`), and cron's fields and the calendar expression are
both written from them. What only one of the two can express is refused. The rules are those of
Debian's cron 3.0 (crontab(5), cron(8) and its entry.c) and of systemd.time(7):

* A day must match both day fields if one of them *begins* with `*` (`*/2` does), and either of them
  otherwise. systemd always means both, so two restricted day fields are refused.
* `5/15`, `10-5` and a step that leads out of its range never mean what they seem to: refused.
* Only minutes are written to `OnCalendar=` as `00/5`. Days and hours are lists: before 251 systemd
  skips days of such a repetition at the end of a month (its issue 22665), before 244 hours when the
  clock is put forward (13745).

What becomes of times that the clock skips or shows twice is in `clock.py`.
"""

from __future__ import annotations

import calendar
import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import NamedTuple

from ..errors import ScheduleError
from ..support.text import shown
from .clock import Change, changes, cron_instants, offsets, only_instant
from .words import MONTHS, WEEKDAYS, in_words, spans

NICKNAMES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
FORMS = (
    'write five cron fields such as "0 2 * * *", or @hourly, @daily, @weekly, @monthly, @yearly, '
    'or "every 5 minutes"'
)
DAY = timedelta(days=1)
LONGEST_MONTHS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


class _Kind(NamedTuple):
    """What one of the five fields may hold."""

    noun: str
    low: int
    high: int
    names: tuple[str, ...] = ()

    @property
    def a(self) -> str:
        """The noun with its article."""
        return f"an {self.noun}" if self.noun == "hour" else f"a {self.noun}"


_KINDS = (
    _Kind("minute", 0, 59),
    _Kind("hour", 0, 23),
    _Kind("day of month", 1, 31),
    _Kind("month", 1, 12, tuple(name[:3].lower() for name in MONTHS)),
    _Kind("day of week", 0, 7, tuple(name[:3].lower() for name in WEEKDAYS)),
)


class Field(NamedTuple):
    """One cron field: its text in numbers, the values it means, whether it begins with `*`.

    The values of the day of week go from 0, Sunday, to 6.
    """

    text: str
    values: frozenset[int]
    star: bool


@dataclass(frozen=True)
class Schedule:
    """When something runs, to the minute, in the machine's own time zone.

    >>> nightly = Schedule.parse("0 2 * * mon-fri")
    >>> nightly.cron(), nightly.on_calendar(), nightly.describe()
    ('0 2 * * 1-5', ['Mon..Fri *-*-* 02:00:00'], 'at 02:00 on Monday to Friday')
    """

    source: str
    minute: Field = field(compare=False)
    hour: Field = field(compare=False)
    day: Field = field(compare=False)
    month: Field = field(compare=False)
    weekday: Field = field(compare=False)

    @classmethod
    def parse(cls, text: str) -> Schedule:
        """Return the schedule that `text` names.

        `text` is five cron fields (`"*/5 9-17 * * mon-fri"`), `@hourly`, `@daily`, `@midnight`,
        `@weekly`, `@monthly`, `@yearly` or `@annually`, or `"every 5 minutes"`, `"every 2 hours"`.

        Raises `ScheduleError`, whose message is the reason and reads well after `schedule: `, if
        `text` is none of these, never fires, or says what only cron or only systemd can express.
        """
        parts = _five(text)
        fields = [_parse(kind, part) for kind, part in zip(_KINDS, parts, strict=True)]
        schedule = cls(text, *fields)
        schedule._refuse_either_day()
        schedule._refuse_never()
        return schedule

    def cron(self) -> str:
        """Return the five fields for a crontab, with numbers for names (crontab(5)).

        Numbers because Debian's manual allows no ranges or lists of names.
        """
        fields = (self.minute, self.hour, self.day, self.month, self.weekday)
        return " ".join(each.text for each in fields)

    def on_calendar(self, zone: tzinfo | None = None) -> list[str]:
        """Return the values of systemd's `OnCalendar=` whose union is this schedule.

        Args:
            zone: the machine's time zone. systemd then starts at the same times as cron on the days
                when the clock is changed, too: see `clock.py`. Without it, it may differ on those.

        See systemd.time(7).
        """
        date_part = f"*-{_calendar(self.month.values, 12)}-{_calendar(self.day.values, 31)}"
        hour, minute = _calendar(self.hour.values, 24), _calendar(self.minute.values, 60)
        text = f"{date_part} {hour}:{minute}:00"
        if len(self.weekday.values) < 7:
            text = f"{_calendar_weekdays(self.weekday.values)} {text}"
        if self._is_the_same_in_utc(zone):
            return [f"{text} UTC"]
        return [text, *_utc_lines(self._on_changes(zone) if zone else [])]

    def next_runs(self, after: datetime, count: int) -> list[datetime]:
        """Return the next `count` runs later than `after`, in the time zone of `after`.

        A datetime without a zone is local time, as everywhere in Python, and so are the results.
        Where the clock is put forward or back they are cron's; see above.
        """
        instant, zone = after.timestamp(), after.tzinfo
        runs: set[int] = set()
        day = after.date() - DAY
        while day.year < date.max.year:
            enough = len(runs) >= count
            runs |= {run for run in self._runs_on(day, zone) if run > instant}
            if enough:  # only now: where the clock goes back over midnight, two days overlap
                break
            day += DAY
        return [datetime.fromtimestamp(run, zone) for run in sorted(runs)[:count]]

    def last_run(self, at: datetime) -> datetime:
        """Return the last run not later than `at`, in the time zone of `at`, as `next_runs` does.

        Raises `ScheduleError` if there was none since the year 1 (the clock is wrong).
        """
        instant, zone = at.timestamp(), at.tzinfo
        runs: set[int] = set()
        day = at.date() + DAY
        while day.year > date.min.year:
            enough = bool(runs)
            runs |= {run for run in self._runs_on(day, zone) if run <= instant}
            if enough:
                return datetime.fromtimestamp(max(runs), zone)
            day -= DAY
        raise ScheduleError(f"{self.source!r} never fired before {at}")

    def shortest_gap(self) -> int:
        """Return the shortest time between two runs, in seconds, daylight saving left aside."""
        return min(self._gaps())

    def longest_gap(self) -> int:
        """Return the longest time between two runs, in seconds, daylight saving left aside."""
        return max(self._gaps())

    def describe(self) -> str:
        """Return the schedule in words, such as `at 02:00 on Monday to Friday`."""
        fields = (self.minute, self.hour, self.day, self.month, self.weekday)
        return in_words(*(each.values for each in fields))

    def _refuse_either_day(self) -> None:
        if not (self.day.star or self.weekday.star):
            raise ScheduleError(
                f"restricts the day of month ({self.day.text}) and the day of week "
                f"({self.weekday.text}): cron would run it on days that match either, systemd on "
                "days that match both; put * for one of them, or make two schedules"
            )

    def _refuse_never(self) -> None:
        days, months = sorted(self.day.values), sorted(self.month.values)
        if all(days[0] > LONGEST_MONTHS[month - 1] for month in months):
            names = " and ".join(MONTHS[month - 1] for month in months)
            raise ScheduleError(f"never fires: there is no day {days[0]} in {names}")

    def _is_the_same_in_utc(self, zone: tzinfo | None) -> bool:
        """Whether the local times are those of UTC, in this zone or (None) in every one in use.

        Those are multiples of 15 minutes away from UTC.
        """
        if not (
            self._is_wildcard()
            and len(self.hour.values) == 24
            and len(self.day.values) == 31
            and len(self.month.values) == 12
            and len(self.weekday.values) == 7
        ):
            return False
        minutes = self.minute.values
        return all(
            offset % 60 == 0
            and {(minute + offset // 60) % 60 for minute in minutes} == set(minutes)
            for offset in (offsets(zone) if zone else {900})
        )

    def _on_changes(self, zone: tzinfo) -> Iterator[int]:
        """The runs on days of a change that systemd may miss, in seconds since the epoch."""
        for change in changes(zone):
            day = datetime.fromtimestamp(change.at, zone).date()
            runs = sorted({run for near in (day - DAY, day) for run in self._runs_on(near, zone)})
            if change.after < change.before and self._is_wildcard():
                repeated = change.at + change.before - change.after
                yield from (run for run in runs if change.at <= run < repeated)
            elif change.after > change.before and self._is_skipped(change):
                yield from (run for run in runs if run >= change.at)

    def _is_skipped(self, change: Change) -> bool:
        """Whether it names a local time that this change skips."""
        first, end = change.at + change.before, change.at + change.after
        walls = (datetime.fromtimestamp(wall, UTC) for wall in range(-(-first // 60) * 60, end, 60))
        return any(
            wall.minute in self.minute.values
            and wall.hour in self.hour.values
            and self._on(wall.date())
            for wall in walls
        )

    def _is_wildcard(self) -> bool:
        return self.minute.star or self.hour.star

    def _on(self, day: date) -> bool:
        """Whether it runs on that day; both day fields must match, see `_refuse_either_day`."""
        return (
            day.month in self.month.values
            and day.day in self.day.values
            and day.isoweekday() % 7 in self.weekday.values
        )

    def _gaps(self) -> set[int]:
        """The times between one run and the next, in seconds."""
        times = [hour * 60 + minute for hour in self.hour.values for minute in self.minute.values]
        times.sort()
        within = {after - before for before, after in itertools.pairwise(times)}
        over_night = {days * 1440 - times[-1] + times[0] for days in self._day_gaps()}
        return {60 * minutes for minutes in within | over_night}

    def _day_gaps(self) -> set[int]:
        """The numbers of days from one day it runs on to the next."""
        if len(self.day.values) == 31 and len(self.month.values) == 12:
            days = sorted(self.weekday.values)
            circle = itertools.pairwise([*days, days[0]])
            return {(after - before - 1) % 7 + 1 for before, after in circle}
        return {(after - before).days for before, after in itertools.pairwise(self._some_days())}

    def _some_days(self) -> Iterator[date]:
        """The days it runs on in 57 years, in order: the calendar repeats after 28."""
        for year in range(2000, 2057):
            for month in sorted(self.month.values):
                last = calendar.monthrange(year, month)[1]
                days = (date(year, month, day) for day in sorted(self.day.values) if day <= last)
                yield from (day for day in days if self._on(day))

    def _runs_on(self, day: date, zone: tzinfo | None) -> Iterator[int]:
        """The runs of one day of the calendar, in seconds since the epoch."""
        if not self._on(day):
            return
        midnight = datetime(day.year, day.month, day.day, tzinfo=zone)
        begin, end = (only_instant(wall) for wall in (midnight, midnight + DAY))
        wildcard = self._is_wildcard()
        for hour, minute in itertools.product(self.hour.values, self.minute.values):
            if begin is not None and end == begin + 86_400:  # the clock is not changed on that day
                yield begin + 3600 * hour + 60 * minute
            else:
                yield from cron_instants(midnight.replace(hour=hour, minute=minute), wildcard)


def _five(text: str) -> list[str]:
    """The five fields that `text`, in any of its forms, stands for."""
    if not text.isascii() or not text.isprintable():
        raise ScheduleError(f"contains characters that a schedule cannot have; {FORMS}")
    text = text.strip(" ")
    if text == "@reboot":
        raise ScheduleError("@reboot is not a time: it has no next run, and none to catch up on")
    if text.startswith("@"):
        if text not in NICKNAMES:
            raise ScheduleError(f"{shown(text)} is not one of {', '.join(NICKNAMES)}")
        return NICKNAMES[text].split()
    if text.startswith("every"):
        return _every(text)
    fields = text.split()
    _refuse_zone(fields)
    if len(fields) != 5:
        number = f"{len(fields)} fields" if len(fields) != 1 else "1 field"
        hint = " (cron has neither seconds nor years)" if len(fields) in (6, 7) else ""
        raise ScheduleError(f"{shown(text)} has {number}, not five{hint}; {FORMS}")
    return fields


def _refuse_zone(fields: list[str]) -> None:
    named = [each for each in fields if re.match("(CRON_)?TZ=", each)]
    named += [each for each in fields[5:] if re.fullmatch("[A-Za-z_]+/[A-Za-z_].*|UTC|GMT", each)]
    if named:
        raise ScheduleError(
            f"{shown(named[0])}: a time zone cannot be given, as Debian's cron knows only the "
            "machine's own; write the machine's local time"
        )


def _every(text: str) -> list[str]:
    match = re.fullmatch("every (?:([1-9][0-9]{0,3}) )?(second|minute|hour)s?", text)
    if match is None:
        raise ScheduleError(
            f'{shown(text)} is not understood; write "every 5 minutes" or "every 2 hours", '
            "or five cron fields"
        )
    number, unit = int(match[1] or 1), match[2]
    if unit == "second":
        raise ScheduleError(f"{text}: cron's smallest step is a minute")
    minutes = number * 60 if unit == "hour" else number
    if 60 % minutes == 0:
        return [_step(minutes, 60), "*", "*", "*", "*"]
    if minutes % 60 == 0 and 1440 % minutes == 0:
        return ["0", _step(minutes // 60, 24), "*", "*", "*"]
    raise ScheduleError(
        f"{text} does not divide an hour or a day evenly, so one step would be shorter than the "
        "others; take 1, 2, 3, 4, 5, 6, 10, 12, 15, 20 or 30 minutes, or 1, 2, 3, 4, 6, 8 or 12 "
        "hours, or write five cron fields"
    )


def _step(step: int, size: int) -> str:
    return "*" if step == 1 else "0" if step == size else f"*/{step}"


def _parse(kind: _Kind, text: str) -> Field:
    """One field: a list of items; see crontab(5)."""
    items = [_parse_item(kind, item) for item in text.split(",")]
    values = frozenset(number for _, numbers in items for number in numbers)
    if kind.noun == "day of week":
        values = frozenset(number % 7 for number in values)
    return Field(",".join(normal for normal, _ in items), values, text.startswith("*"))


def _parse_item(kind: _Kind, item: str) -> tuple[str, range]:
    """One item of a list: its text in numbers, and the numbers it means."""
    match = re.fullmatch(r"(?:(\*)|(\w+)(?:-(\w+))?)(?:/([0-9]{1,4}))?", item, re.ASCII)
    if match is None:
        raise ScheduleError(
            f"{shown(item)} is not {kind.a}; write *, a number, a range such as "
            f"{kind.low}-{kind.high}, or either with a step such as */2"
        )
    star, first, last, step = match.groups()
    low = kind.low if star else _number(kind, first)
    high = kind.high if star else _number(kind, last or first)
    text = star or (f"{low}-{high}" if last else f"{low}")
    if high < low:
        raise ScheduleError(
            f"the {kind.noun} {item} runs backwards, and cron would never fire; write a list"
            + (", or 7 for Sunday" if kind.noun == "day of week" else "")
        )
    if step is None:
        return text, range(low, high + 1)
    _refuse_step(kind, item, int(step), low, high)
    return f"{text}/{int(step)}", range(low, high + 1, int(step))


def _refuse_step(kind: _Kind, item: str, step: int, low: int, high: int) -> None:
    if low == high:
        raise ScheduleError(
            f"the {kind.noun} {item} has a step without a range; write {low}-{kind.high}/{step}"
        )
    if not 1 <= step <= high - low:
        raise ScheduleError(
            f"the {kind.noun} {item} has a step that must be from 1 to {high - low}"
        )


def _number(kind: _Kind, text: str) -> int:
    if text.lower() in kind.names:
        return kind.names.index(text.lower()) + kind.low
    if not re.fullmatch("[0-9]{1,4}", text) or not kind.low <= int(text) <= kind.high:
        names = f" or {kind.names[0]} to {kind.names[-1]}" if kind.names else ""
        raise ScheduleError(
            f"{shown(text)} is not {kind.a}; write {kind.low} to {kind.high}{names}"
        )
    return int(text)


def _calendar(values: frozenset[int], size: int) -> str:
    """One part of a calendar expression; `size` is how many values there are, 60 for minutes."""
    ordered = sorted(values)
    if len(ordered) == size:
        return "*"
    step = size // len(ordered)
    even = step > 1 and ordered == list(range(ordered[0], size, step))
    if size == 60 and len(ordered) > 2 and even:
        return f"{ordered[0]:02}/{step}"
    return ",".join(
        f"{first:02}" if first == last else f"{first:02}..{last:02}"
        for first, last in spans(ordered)
    )


def _utc_lines(instants: Iterable[int]) -> Iterator[str]:
    """Calendar expressions of full minutes, in seconds since the epoch; one for alike hours."""
    minutes: dict[datetime, set[int]] = {}
    for instant in instants:
        time = datetime.fromtimestamp(instant, UTC)
        minutes.setdefault(time.replace(minute=0), set()).add(time.minute)
    alike: dict[tuple[date, frozenset[int]], list[int]] = {}
    for hour, found in sorted(minutes.items()):
        alike.setdefault((hour.date(), frozenset(found)), []).append(hour.hour)
    for (day, same), hours in alike.items():
        yield f"{day} {_calendar(frozenset(hours), 24)}:{_calendar(same, 60)}:00 UTC"


def _calendar_weekdays(values: frozenset[int]) -> str:
    """The days of the week from Monday on, as systemd's ranges go."""
    names = [name[:3] for name in (*WEEKDAYS[1:], WEEKDAYS[0])]
    return ",".join(
        names[first] if first == last else f"{names[first]}..{names[last]}"
        for first, last in spans(sorted((value + 6) % 7 for value in values))
    )
