"""One schedule, rendered to cron's five fields and to systemd's `OnCalendar=`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from dbbasic_queue.errors import ScheduleError

_MONTHS = "January February March April May June July August September October November December"
_DAYS = "Sunday Monday Tuesday Wednesday Thursday Friday Saturday"
MONTHS = tuple(_MONTHS.split())
DAYS = tuple(_DAYS.split())

NICKNAMES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
FORMS = 'five cron fields ("0 2 * * *"), @hourly, @daily, @weekly, @monthly, @yearly, or "every 5 minutes"'


@dataclass(frozen=True, slots=True)
class _Kind:
    """What one of the five fields may hold."""

    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()


_KINDS = (
    _Kind("minute", 0, 59),
    _Kind("hour", 0, 23),
    _Kind("day of month", 1, 31),
    _Kind("month", 1, 12, tuple(name[:3].lower() for name in MONTHS)),
    _Kind("day of week", 0, 7, tuple(name[:3].lower() for name in DAYS)),
)


@dataclass(frozen=True, slots=True)
class Field:
    """One cron field: its text in numbers, the values it means, whether it begins with `*`."""

    text: str
    values: frozenset[int]
    star: bool


@dataclass(frozen=True, slots=True)
class Schedule:
    """When something runs, to the minute, in the machine's own time zone."""

    source: str
    minute: Field
    hour: Field
    day: Field
    month: Field
    weekday: Field

    @classmethod
    def parse(cls, text: str) -> Schedule:
        """Return the schedule that `text` names."""
        fields = _expand(text.strip(" "))
        if len(fields) != 5:
            raise ScheduleError(f"has {len(fields)} fields, not five; write {FORMS}")
        parsed = [_parse_field(kind, field) for kind, field in zip(_KINDS, fields, strict=True)]
        schedule = cls(text, *parsed)
        return schedule

    def cron(self) -> str:
        """Return the five cron fields, names as numbers."""
        fields = (self.minute, self.hour, self.day, self.month, self.weekday)
        return " ".join(field.text for field in fields)

    def on_calendar(self) -> list[str]:
        """Return systemd's `OnCalendar=` values, whose union is this schedule."""
        minute = _calendar(self.minute.values, 0, 59)
        hour = _calendar(self.hour.values, 0, 23)
        day = _calendar(self.day.values, 1, 31)
        month = _calendar(self.month.values, 1, 12)
        text = f"*-{month}-{day} {hour}:{minute}:00"
        if len(self.weekday.values) < 7:
            text = f"{_calendar_weekdays(self.weekday.values)} {text}"
        return [text]

    def next_runs(self, after: datetime, count: int) -> list[datetime]:
        """Return the next `count` runs later than `after`."""
        runs: list[datetime] = []
        for day in _days(after.date()):
            if len(runs) >= count:
                break
            if not self._on(day):
                continue
            for hour in sorted(self.hour.values):
                for minute in sorted(self.minute.values):
                    at = datetime(day.year, day.month, day.day, hour, minute, tzinfo=after.tzinfo)
                    if at > after:
                        runs.append(at)
        return runs[:count]

    def describe(self) -> str:
        """Return the schedule in words."""
        return self.cron()

    def _on(self, day: date) -> bool:
        return (
            day.month in self.month.values
            and day.day in self.day.values
            and day.isoweekday() % 7 in self.weekday.values
        )


def _days(first: date) -> Iterator[date]:
    day = first
    while day.year < 9999:
        yield day
        day += timedelta(days=1)


def _expand(text: str) -> list[str]:
    """The five fields of any of the forms."""
    if text.startswith("@"):
        if text not in NICKNAMES:
            raise ScheduleError(f"{text!r} is none of {', '.join(NICKNAMES)}")
        return NICKNAMES[text].split()
    match = re.fullmatch(r"every (?:([0-9]{1,4}) )?(minute|hour)s?", text)
    if match:
        return _every(int(match[1] or 1), match[2])
    return text.split(" ")


def _every(number: int, unit: str) -> list[str]:
    minutes = number * (60 if unit == "hour" else 1)
    if minutes and 60 % minutes == 0:
        return [_step(minutes, 60), "*", "*", "*", "*"]
    hours, rest = divmod(minutes, 60)
    if hours and not rest and 24 % hours == 0:
        return ["0", _step(hours, 24), "*", "*", "*"]
    raise ScheduleError(f"every {number} {unit}s does not divide an hour or a day evenly")


def _step(step: int, size: int) -> str:
    return "*" if step == 1 else "0" if step == size else f"*/{step}"


def _parse_field(kind: _Kind, text: str) -> Field:
    values: set[int] = set()
    items = []
    for item in text.split(","):
        normal, part = _parse_item(kind, item)
        items.append(normal)
        values |= part
    if kind.name == "day of week":
        values = {value % 7 for value in values}
    return Field(",".join(items), frozenset(values), text.startswith("*"))


def _parse_item(kind: _Kind, item: str) -> tuple[str, set[int]]:
    match = re.fullmatch(r"(\*|(\w+)(?:-(\w+))?)(?:/([0-9]{1,4}))?", item, re.ASCII)
    if match is None:
        raise ScheduleError(f"{item!r} is no {kind.name}")
    low, high = kind.low, kind.high
    text = "*"
    if match[1] != "*":
        low = high = _number(kind, match[2])
        text = str(low)
        if match[3]:
            high = _number(kind, match[3])
            text = f"{low}-{high}"
    step = int(match[4] or 1)
    if step < 1 or low > high:
        raise ScheduleError(f"{item!r} is no {kind.name}")
    return text + (f"/{step}" if match[4] else ""), set(range(low, high + 1, step))


def _number(kind: _Kind, text: str) -> int:
    if text.lower() in kind.names:
        return kind.names.index(text.lower()) + kind.low
    if not re.fullmatch("[0-9]{1,4}", text) or not kind.low <= int(text) <= kind.high:
        raise ScheduleError(f"{text!r} is no {kind.name} from {kind.low} to {kind.high}")
    return int(text)


def _calendar(values: frozenset[int], low: int, high: int) -> str:
    """One numeric part of a calendar expression, systemd.time(7)."""
    ordered = sorted(values)
    if len(ordered) == high - low + 1:
        return "*"
    step = ordered[1] - ordered[0] if len(ordered) > 2 else 0
    if step > 1 and ordered == list(range(ordered[0], high + 1, step)):
        return f"{ordered[0]:02}/{step}"
    return ",".join(
        f"{first:02}" if first == last else f"{first:02}..{last:02}" for first, last in _spans(ordered)
    )


def _calendar_weekdays(values: frozenset[int]) -> str:
    monday_first = sorted((value + 6) % 7 for value in values)
    names = [DAYS[(value + 1) % 7][:3] for value in range(7)]
    return ",".join(
        names[first] if first == last else f"{names[first]}..{names[last]}"
        for first, last in _spans(monday_first)
    )


def _spans(ordered: list[int]) -> list[tuple[int, int]]:
    """Runs of three or more neighbours as (first, last), everything else one by one."""
    spans: list[tuple[int, int]] = []
    start = 0
    for end in range(1, len(ordered) + 1):
        if end < len(ordered) and ordered[end] == ordered[end - 1] + 1:
            continue
        run = ordered[start:end]
        spans += [(run[0], run[-1])] if len(run) > 2 else [(value, value) for value in run]
        start = end
    return spans
