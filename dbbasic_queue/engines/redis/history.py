"""What workers did, on the server: a hash with a line of text for each hour and type.

A worker changes the fields of its hours only, in one transaction that watches the hash. What it
adds is known by its call for a day: so a repetition adds nothing, whose answer was lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from ..history import BEFORE, HOUR, Hour, add_up, merged, parse_line, to_line
from ..interface import Ended
from .link import Link
from .records import Records

REMEMBERED: Final = 86400  # seconds that a call is known
PATIENCE: Final = 1.0  # seconds; what could not be added is kept by the worker


def read(link: Link, records: Records) -> list[Hour]:
    """The hours, one each of an hour and type. Raises `StorageError`."""
    return merged(_parsed(link.run(lambda client: client.hvals(records.history))))


def add(link: Link, records: Records, noted: Sequence[Ended], call: str) -> None:
    """Add attempts that have ended, once a call. Raises `StorageError`."""
    key, done = records.history, f"{records.history}:{call}"
    new = add_up(noted)
    fields = [_field(hour) for hour in new]

    def change(pipe: Any) -> None:
        if pipe.exists(done):
            return  # added; the answer was lost
        there = _parsed(pipe.hmget(key, fields))
        pipe.multi()
        _put(pipe, key, merged([*there, *new]))
        pipe.set(done, 1, ex=REMEMBERED)

    if new:
        link.transact([key, done], change, PATIENCE)


def fold(link: Link, records: Records, before: float) -> None:
    """Add what ended in hours before a time to one hour a type. Raises `StorageError`."""
    key = records.history

    def change(pipe: Any) -> None:
        there = _parsed(pipe.hvals(key))
        old = [hour for hour in there if hour.start < before and hour.start != BEFORE]
        pipe.multi()
        if old:
            known = [hour for hour in there if hour.start == BEFORE]
            pipe.hdel(key, *map(_field, old))
            _put(pipe, key, merged([*known, *old], before))

    link.transact([key], change)


def _put(pipe: Any, key: str, hours: list[Hour]) -> None:
    lines = {_field(hour): to_line(hour).encode("utf-8", "surrogateescape") for hour in hours}
    pipe.hset(key, mapping=lines)


def _field(hour: Hour) -> bytes:
    return f"{hour.start // HOUR} {hour.type}".encode("utf-8", "surrogateescape")


def _parsed(lines: list[bytes | None]) -> list[Hour]:
    found = (parse_line(line.decode("utf-8", "surrogateescape")) for line in lines if line)
    return [hour for hour in found if hour is not None]
