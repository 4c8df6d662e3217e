"""Lengths of time as people write them: `50s`, `10min`, `1h30min`, `7d`."""

from __future__ import annotations

import re

from .text import shown

SECONDS = {"w": 604_800, "d": 86_400, "h": 3_600, "min": 60, "s": 1}
# Those that an age is told in.
OF_AGES = tuple((unit, SECONDS[unit]) for unit in ("d", "h", "min", "s"))
LONGEST = 100 * 365 * SECONDS["d"]

_UNITS = "".join(rf" ?(?:(?P<{unit}>[0-9]{{1,18}}) ?{unit})?" for unit in SECONDS)


def parse_duration(text: str | int) -> int:
    """Return the length of time that `text` names, in seconds.

    `text` is a whole number of seconds (`90` or `"90"`), or numbers with the units w, d, h, min
    and s, from the largest to the smallest, each at most once: `"50s"`, `"10min"`, `"1h30min"`,
    `"1h 30min"`, `"7d"`.

    Raises `ValueError`, whose message says what was expected, for anything else and for more than
    a hundred years.

    >>> parse_duration("1h30min")
    5400
    """
    seconds = _read(text)
    if seconds is None:
        raise ValueError(
            f"{shown(text)} is not a duration; use numbers with units (w, d, h, min, s), largest "
            'first, such as "50s", "10min", "1h30min" or "7d", or a number of seconds'
        )
    if seconds > LONGEST:
        raise ValueError(f"{shown(text)} is longer than a hundred years")
    return seconds


def format_duration(seconds: int) -> str:
    """Return `seconds` (zero or more) as the text that `parse_duration` reads back.

    >>> format_duration(5400)
    '1h30min'
    """
    parts = []
    for unit in ("d", "h", "min", "s"):
        number, seconds = divmod(seconds, SECONDS[unit])
        if number:
            parts.append(f"{number}{unit}")
    return "".join(parts) or "0s"


def _read(text: str | int) -> int | None:
    """The seconds of `text`, or None where it is not a duration."""
    if isinstance(text, bool):
        return None
    if isinstance(text, int):
        return text if text >= 0 else None
    text = text.strip(" ")
    if re.fullmatch("[0-9]{1,18}", text):
        return int(text)
    match = re.fullmatch(_UNITS, text, re.ASCII)
    if match is None or not any(match.groupdict().values()):
        return None
    return sum(int(number) * SECONDS[unit] for unit, number in match.groupdict().items() if number)
