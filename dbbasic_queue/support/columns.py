"""How many columns of a terminal a text takes: wide characters take two, combining marks none.

The rules are those of Markus Kuhn's `wcwidth`, by the tables of Python's `unicodedata`: East Asian
Wide and Fullwidth take two columns (Unicode, UAX #11); marks, format characters and the vowels and
finals of Hangul that join a syllable take none.
"""

from __future__ import annotations

import itertools
import unicodedata
from typing import Final

SOFT_HYPHEN: Final = "\u00ad"  # a format character that terminals draw
JAMO: Final = ("\u1160", "\u11ff")  # the vowels and finals that join the syllable before them


def width_of(text: str) -> int:
    """Return how many columns of a terminal a text takes.

    >>> width_of("Zoë"), width_of("数"), width_of("e\\u0301")
    (3, 2, 1)
    """
    if text.isascii():
        return len(text)
    return sum(map(_columns, text))


def cut(text: str, most: int) -> str:
    """Return a text in at most `most` columns of a terminal.

    >>> cut("abcdef", 4), cut("数据库", 4), cut("abc", 0)
    ('abc…', '数…', '')
    """
    if width_of(text) <= most:
        return text
    if most <= 0:
        return ""
    taken = itertools.accumulate(map(_columns, text))
    return text[: sum(1 for columns in taken if columns < most)] + "…"


def fitted(text: str, width: int, *, right: bool = False) -> str:
    """Return a text in exactly `width` columns: cut, or with spaces after it, or before it.

    >>> fitted("数据库", 5), fitted("7", 3, right=True)
    ('数据…', '  7')
    """
    text = cut(text, width)
    space = " " * (width - width_of(text))
    return space + text if right else text + space


def _columns(character: str) -> int:
    if character == SOFT_HYPHEN:
        return 1
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    if JAMO[0] <= character <= JAMO[1]:
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
