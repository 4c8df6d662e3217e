"""Ids that sort by time: 16 of `[0-9a-z]`, eight for the milliseconds, eight by chance.

Theory of operation
-------------------
The first eight characters are the Unix time in milliseconds in base 36, which suffices until May
2059; after that they begin anew, and a job is found by the slower way. The other eight are 41 bits
by chance. In a batch they ascend, so that a batch lies in the order of its ids, too. The ids of
2.0.0 were 16 hexadecimal digits: they are below all of these, as none begins with more than `f`.

An id is not a secret: it tells when the job was made, and the next one can be guessed. The random
parts are drawn ahead, many with one call of the system, which takes half the time.
"""

from __future__ import annotations

import os
import re
from itertools import islice, product
from operator import eq
from typing import Final

ALPHABET: Final = "0123456789abcdefghijklmnopqrstuvwxyz"  # ascending, as bytes and as text
SHORT: Final = 8  # characters at the end of an id, which tell it from others of its batch
SPAN: Final = 36**SHORT  # milliseconds, after which the times begin anew
FIRST: Final = int("g0000000", 36)  # milliseconds: before September 2009 there are only others' ids

_DRAWN_AHEAD: Final = 256
_PAIRS: Final = [a + b for a, b in product(ALPHABET, repeat=2)]
_LETTERS: Final = bytes(ord(ALPHABET[byte % 36]) for byte in range(256))
_match: Final = re.compile(rb"[0-9a-z]{16}").fullmatch
_match_hex: Final = re.compile(r"[0-9a-f]{16}").fullmatch

_drawn: Final[list[str]] = []
_upper = -1, ""  # milliseconds // 1296, and the six characters that stand for them


def new_id(moment: float) -> str:
    """Return an id for what is made at `moment`, in Unix seconds.

    >>> new_id(1800000000.0)[:8], len(new_id(1800000000.0))
    ('mywpiww0', 16)
    """
    global _upper
    above, pair = divmod(int(moment * 1000), 1296)
    known, text = _upper
    if above != known:
        text = _six(above)
        _upper = above, text
    try:
        return text + _PAIRS[pair] + _drawn.pop()
    except IndexError:
        drawn = _drawn_text(_DRAWN_AHEAD)
        parts = [drawn[at : at + SHORT] for at in range(0, len(drawn), SHORT)]
        parts.sort(reverse=True)  # so that ids of one millisecond ascend, too
        _drawn.extend(parts)
        return text + _PAIRS[pair] + _drawn.pop()


def new_ids(count: int, moment: float) -> list[str]:
    """Return ids for a batch: each is greater than the one before it.

    >>> batch = new_ids(3, 1800000000.0)
    >>> batch == sorted(set(batch))
    True
    """
    first = time_part(int(moment * 1000))
    while True:
        text = _drawn_text(count)
        ids = [first + text[at : at + SHORT] for at in range(0, len(text), SHORT)]
        ids.sort()
        if not any(map(eq, ids, islice(ids, 1, None))):
            return ids


def made_at(job_id: bytes) -> int | None:
    """Return when an id was made, in milliseconds; None if it is none of these ids.

    >>> made_at(b"mywpiww0k3v9q7aa"), made_at(b"welcome-17"), made_at(b"5f2c9b1e8a7d4c30")
    (1800000000000, None, None)
    """
    if _match(job_id) is None:
        return None
    moment = int(job_id[:SHORT], 36)
    return moment if moment >= FIRST else None


def is_made(job_id: str) -> bool:
    """Say whether an id is one of these, or of the hexadecimal ones of 1.0.0 and 2.0.0.

    >>> is_made("mywpiww0k3v9q7aa"), is_made("5f2c9b1e8a7d4c30"), is_made("order-1")
    (True, True, False)
    """
    return made_at(job_id.encode()) is not None or _match_hex(job_id) is not None


def time_part(milliseconds: int) -> str:
    """Return how the ids of a millisecond begin.

    >>> time_part(1800000000000)
    'mywpiww0'
    """
    above, pair = divmod(milliseconds, 1296)
    return _six(above) + _PAIRS[pair]


def _six(number: int) -> str:
    """Return a number below 36**6 in base 36; of a greater or negative one its last six digits."""
    number, last = divmod(number % 36**6, 1296)
    first, middle = divmod(number, 1296)
    return _PAIRS[first] + _PAIRS[middle] + _PAIRS[last]


def _drawn_text(count: int) -> str:
    return os.urandom(SHORT * count).translate(_LETTERS).decode()


# A child would give out what its parent does.
os.register_at_fork(after_in_child=_drawn.clear)
