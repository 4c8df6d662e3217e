"""The history on a server on its way to another queue, and from one: more fields of its hash."""

from __future__ import annotations

from typing import Any, Final

from ..history import Hour, merged
from ..history_moves import LEAVING, adopted_line, by_call, leaving_line
from .history import field_of, hours_in, put, text_of
from .link import Link
from .records import Records


class MovesOnServer:
    """What `dbq migrate` does with the hash of the history; each change is one transaction.

    Args:
        link: to the server.
        records: of the queue.
    """

    def __init__(self, link: Link, records: Records) -> None:
        self._link: Final = link
        self._key: Final = records.history

    def underway(self) -> dict[str, list[Hour]]:
        """What was taken out and is not forgotten, by call."""
        lines = self._link.run(lambda client: client.hvals(self._key))
        return by_call([text_of(line) for line in lines])

    def take_out(self, call: str) -> None:
        """Have all hours leave."""

        def change(pipe: Any) -> None:
            hours = merged(hours_in(pipe.hvals(self._key)))
            pipe.multi()
            for hour in hours:
                line = leaving_line(call, hour).encode("utf-8", "surrogateescape")
                pipe.hdel(self._key, field_of(hour))
                pipe.hset(self._key, _leaving(call) + field_of(hour), line)

        self._link.transact([self._key], change)

    def adopt(self, call: str, hours: list[Hour]) -> None:
        """Add hours of another queue, once a call."""
        known = adopted_line(call)

        def change(pipe: Any) -> None:
            if pipe.hexists(self._key, known):
                return
            there = hours_in(pipe.hmget(self._key, [field_of(hour) for hour in hours]))
            pipe.multi()
            put(pipe, self._key, merged([*there, *hours]))
            pipe.hset(self._key, known, known)

        self._link.transact([self._key], change)

    def forget(self, call: str) -> None:
        """Remove what was taken out by a call."""

        def change(pipe: Any) -> None:
            begins = _leaving(call)
            fields = [field for field in pipe.hkeys(self._key) if field.startswith(begins)]
            pipe.multi()
            if fields:
                pipe.hdel(self._key, *fields)

        self._link.transact([self._key], change)


def _leaving(call: str) -> bytes:
    """How the fields of what is on its way by a call begin."""
    return f"{LEAVING} {call} ".encode()
