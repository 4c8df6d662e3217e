"""What workers did, on the server: a hash with a line of text for each hour and type.

A worker changes the fields of its hours only, in one transaction that watches the hash. What it
adds is known by its call for a day: one that is repeated, as its answer was lost, adds nothing.
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
    return merged(hours_in(link.run(lambda client: client.hvals(records.history))))


def add(link: Link, records: Records, noted: Sequence[Ended], call: str) -> None:
    """Add attempts that have ended, once a call. Raises `StorageError`."""
    key, done = records.history, f"{records.history}:{call}"
    new = add_up(noted)
    fields = [field_of(hour) for hour in new]

    def change(pipe: Any) -> None:
        if pipe.exists(done):
            return  # added; the answer was lost
        there = hours_in(pipe.hmget(key, fields))
        pipe.multi()
        put(pipe, key, merged([*there, *new]))
        pipe.set(done, 1, ex=REMEMBERED)

    if new:
        link.transact([key, done], change, PATIENCE)


def fold(link: Link, records: Records, before: float) -> None:
    """Add what ended in hours before a time to one hour a type. Raises `StorageError`."""
    key = records.history

    def change(pipe: Any) -> None:
        there = hours_in(pipe.hvals(key))
        old = [hour for hour in there if hour.start < before and hour.start != BEFORE]
        pipe.multi()
        if old:
            known = [hour for hour in there if hour.start == BEFORE]
            pipe.hdel(key, *map(field_of, old))
            put(pipe, key, merged([*known, *old], before))

    link.transact([key], change)


def put(pipe: Any, key: str, hours: list[Hour]) -> None:
    """Write hours, each in place of what its field had."""
    lines = {field_of(hour): to_line(hour).encode("utf-8", "surrogateescape") for hour in hours}
    pipe.hset(key, mapping=lines)


def field_of(hour: Hour) -> bytes:
    """The field of an hour and type."""
    return f"{hour.start // HOUR} {hour.type}".encode("utf-8", "surrogateescape")


def hours_in(lines: list[bytes | None]) -> list[Hour]:
    """The hours of those lines that are one."""
    found = (parse_line(text_of(line)) for line in lines if line)
    return [hour for hour in found if hour is not None]


def text_of(line: bytes) -> str:
    """The text of a line."""
    return line.decode("utf-8", "surrogateescape")
