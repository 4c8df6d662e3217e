"""Times, lengths and sizes as people read them, and what strangers wrote made fit to be shown."""

from __future__ import annotations

import re
import time
from typing import Final

from ..support.durations import OF_AGES
from ..support.text import escape_control

# What makes the text around it run the other way: Unicode Standard Annex 9, explicit formatting.
_TURNS: Final = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_SIZES: Final = ("bytes", "KiB", "MiB", "GiB", "TiB")


def clean(text: str, most: int = 200) -> str:
    """Return a text of a stranger's on one line, at most `most` characters of it.

    What steers a terminal or turns the direction of writing is shown as an escape. For HTML, it
    has to be escaped after that.

    >>> clean("two\\nlines"), clean("x" * 300, 4), clean("a\\u202eb")
    ('two\\\\nlines', 'xxx…', 'a\\\\u202eb')
    """
    short = text if len(text) <= most else text[: most - 1] + "…"
    return _TURNS.sub(lambda match: f"\\u{ord(match[0]):04x}", escape_control(short))


def age(seconds: float) -> str:
    """Return a length of time by its two largest units; below a minute, a digit after the point.

    >>> age(0), age(0.26), age(42), age(60), age(7500), age(93_600)
    ('0 s', '0.3 s', '42 s', '1 min', '2 h 5 min', '1 d 2 h')
    """
    if 0 < seconds < 10:
        return f"{seconds:.1f} s".replace(".0 s", " s") if seconds >= 0.1 else "under 0.1 s"
    whole = max(0, int(seconds))
    parts: list[str] = []
    for unit, length in OF_AGES:
        if whole >= length or (unit == "s" and not parts):
            parts.append(f"{whole // length} {unit}")
            whole %= length
        elif parts:
            break
    return " ".join(parts[:2])


def stamp(moment: float) -> str:
    """Return a point in time, of Unix seconds, to the minute and in local time.

    >>> len(stamp(0))
    16
    """
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(moment))


def size(number: int) -> str:
    """Return a number of bytes as people read it.

    >>> size(1), size(2048), size(18_175_766)
    ('1 byte', '2 KiB', '17.3 MiB')
    """
    if number == 1:
        return "1 byte"
    amount, unit = float(number), 0
    while amount >= 1024 and unit < len(_SIZES) - 1:
        amount, unit = amount / 1024, unit + 1
    return f"{amount:.3g} {_SIZES[unit]}" if amount < 1000 else f"{amount:.0f} {_SIZES[unit]}"
