"""Rates on a server: for each type a key with the moment until which it has used up its rate.

Theory of operation
-------------------
The transaction that begins a job watches the key, reads the server's clock, and writes the next
moment. Of two workers that want the last job of a rate, one reads again, at a later time. The key
goes by itself an hour after that moment: until then, a health check sees for how long a job that is
due could have been begun.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from ...rate import MICROS, Rate
from .link import Link, ticks

KEEP: Final = 3600  # seconds for which it is known when a rate had one left again


class _Spent(NamedTuple):
    """What a job that is begun now makes of a rate; all in Unix microseconds."""

    until: int  # the moment to be kept
    wait: int  # for how long no job may be begun; 0: this one may
    now: int
    is_late: bool  # whether the moment that was there was too late, as the clock was put back


def _spent(rate: Rate, text: bytes | None, now: float) -> _Spent:
    there = int(text) if text and text.isdigit() else 0
    moment = int(now * MICROS)
    return _Spent(*rate.take(there, moment), moment, rate.is_beyond(there, moment))


def opens(rate: Rate, text: bytes | None, now: float) -> float | None:
    """When a rate has one left again, by what its key holds; None if it may have one now.

    A moment that is too late is put right where a job is begun.
    """
    spent = _spent(rate, text, now)
    return now + spent.wait / MICROS if spent.wait and not spent.is_late else None


def opened(rate: Rate | None, text: bytes | None, now: float) -> float | None:
    """When a rate has one left again, or had, by what its key holds; None if that is not known.

    Of a rate that is not known, it is when nothing is used up any more.
    """
    if not text or not text.isdigit():
        return None
    until = int(text)
    return (until if rate is None else rate.opens(until, int(now * MICROS))) / MICROS


class Rated:
    """The rate of the type of a job, in a transaction that is to begin it.

    Args:
        pipe: it watches the key.
        link: of the server, for its clock.
        key: of the rate.
        rate: None if the type has none; then nothing is asked.
    """

    def __init__(self, pipe: Any, link: Link, key: str, rate: Rate | None) -> None:
        self._pipe = pipe
        self._key = key
        self._spent: _Spent | None = None
        if rate is not None:
            began = ticks()
            now = link.set_clock(pipe.time(), began)  # before the key is read: never too late
            self._spent = _spent(rate, pipe.get(key), now)

    @property
    def is_used_up(self) -> bool:
        """Whether no job may be begun now."""
        return self._spent is not None and self._spent.wait > 0

    def keep(self) -> None:
        """Put the next moment into the transaction."""
        spent = self._spent
        if spent is not None:
            self._pipe.set(
                self._key, spent.until, px=(spent.until - spent.now) // 1000 + 1 + KEEP * 1000
            )

    def keep_if_late(self) -> None:
        """Keep the moment of a rate that is used up, if the one that was there is too late.

        Else each look would put off the next job once more.
        """
        if self._spent is not None and self._spent.is_late:
            self._pipe.multi()
            self.keep()
