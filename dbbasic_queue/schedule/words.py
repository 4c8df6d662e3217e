"""A schedule in words, for people who do not read cron fields."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

MONTHS = (
    "January", "February", "March", "April", "May", "June", "July",
    "August", "September", "October", "November", "December",
)  # fmt: skip
WEEKDAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
FEW = 4  # so many times of day are named one by one


def in_words(
    minutes: Iterable[int],
    hours: Iterable[int],
    days: Iterable[int],
    months: Iterable[int],
    weekdays: Iterable[int],
) -> str:
    """Return in English when something runs at all of these minutes, hours, ...; Sunday is 0.

    >>> in_words([0], [2], range(1, 32), range(1, 13), [1, 2, 3, 4, 5])
    'at 02:00 on Monday to Friday'
    """
    time = _time(sorted(minutes), sorted(hours))
    date = _date(sorted(days), sorted(months), sorted((day + 6) % 7 for day in weekdays))
    if not date:
        return f"{time} every day" if time.startswith("at") else time
    return f"{time} {date}"


def spans(ordered: Sequence[int]) -> list[tuple[int, int]]:
    """Return runs of three or more neighbours as (first, last), other numbers one by one.

    >>> spans([1, 2, 3, 7, 8])
    [(1, 3), (7, 7), (8, 8)]
    """
    found: list[tuple[int, int]] = []
    start = 0
    for end in range(1, len(ordered) + 1):
        if end < len(ordered) and ordered[end] == ordered[end - 1] + 1:
            continue
        run = ordered[start:end]
        found += [(run[0], run[-1])] if len(run) > 2 else [(number, number) for number in run]
        start = end
    return found


def even_step(ordered: Sequence[int], size: int) -> int | None:
    """Return the step if the numbers go from 0 in even steps to `size`, such as 0, 15, 30, 45."""
    step = size // len(ordered)
    return step if list(ordered) == list(range(0, size, step)) and size % step == 0 else None


def _time(minutes: list[int], hours: list[int]) -> str:
    every = even_step(minutes, 60)
    if len(hours) == 24:
        if every is None:
            return f"every hour at {_numbers('minute', minutes)}"
        return {1: "every minute", 60: "every hour"}.get(every, f"every {every} minutes")
    if len(minutes) * len(hours) <= FEW:
        return f"at {_list(f'{hour:02}:{minute:02}' for hour in hours for minute in minutes)}"
    every_hours = even_step(hours, 24)
    if every_hours is not None and len(minutes) == 1:
        at = f" at minute {minutes[0]}" if minutes[0] else ""
        return f"every {every_hours} hours{at}"
    if every == 1:
        begin = "every minute"
    elif every is not None and every < 60:
        begin = f"every {every} minutes"
    else:
        begin = f"at {_numbers('minute', minutes)}"
    return f"{begin} of {_numbers('hour', hours)}"


def _date(days: list[int], months: list[int], weekdays: list[int]) -> str:
    """The days in words; `weekdays` count from Monday."""
    names = [*WEEKDAYS[1:], WEEKDAYS[0]]
    parts = []
    if len(days) < 31:
        parts.append(f"on {_numbers('day', days)} of the month")
    if len(weekdays) < 7:
        parts.append(("if that is a " if parts else "on ") + _named(weekdays, names, bool(parts)))
    if len(months) < 12:
        parts.append("in " + _named([month - 1 for month in months], MONTHS))
    return " ".join(parts)


def _numbers(noun: str, numbers: list[int]) -> str:
    plural = "s" if len(numbers) > 1 else ""
    step = numbers[1] - numbers[0] if len(numbers) > FEW else 1
    if step > 1 and numbers == list(range(numbers[0], numbers[-1] + 1, step)):
        return f"{noun}s {numbers[0]}, {numbers[1]}, ... {numbers[-1]}"
    return f"{noun}{plural} " + _list(
        str(first) if first == last else f"{first} to {last}" for first, last in spans(numbers)
    )


def _named(numbers: list[int], names: Sequence[str], either: bool = False) -> str:
    if either:
        return _list((names[number] for number in numbers), "or")
    return _list(
        names[first] if first == last else f"{names[first]} to {names[last]}"
        for first, last in spans(numbers)
    )


def _list(items: Iterable[str], word: str = "and") -> str:
    *most, last = items
    return f"{', '.join(most)} {word} {last}" if most else last
