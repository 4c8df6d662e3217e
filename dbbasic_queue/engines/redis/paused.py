"""Pauses on a server: a hash, by type.

Theory of operation
-------------------
A worker sees the hash with what is due, in one trip, and passes over what is paused. Between that
and the transaction that begins a job, a pause may come. So the transaction asks for the hash, too:
where its answer says that the type was paused already, the job is put back before its handler runs,
and the attempt does not count.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

from ..pausing import Held, Pause, from_fields, matches, paused_at
from .link import Link
from .records import Records


def parse(values: Iterable[bytes]) -> list[Pause]:
    """Return the pauses that the hash names, over or not, in the order of their types."""
    found = []
    for value in values:
        with suppress(ValueError):  # of another program
            found.append(from_fields(value.decode("utf-8", "replace").split("\t")))
    return sorted(found)


def held(values: Sequence[bytes], now: float) -> Held | None:
    """Return what a worker must not begin at a time; None if that is nothing."""
    pauses = paused_at(parse(values), now) if values else []
    return Held(pauses) if pauses else None


class PausesOnServer:
    """The methods of the server's engine for pauses."""

    _link: Link
    _records: Records

    def pause(self, pauses: Sequence[Pause]) -> None:
        """Have no worker begin jobs of these types: see `Engine.pause`."""
        values = {pause.type: "\t".join(pause.fields()) for pause in pauses}
        self._link.run(lambda client: client.hset(self._records.paused, mapping=values))

    def resume(self, types: Sequence[str]) -> list[Pause]:
        """End the pauses that these match: see `Engine.resume`."""
        key, now = self._records.paused, self._link.look_at_clock()

        def change(pipe: Any) -> list[Pause]:
            there = parse(pipe.hvals(key))
            gone = [each for each in there if any(matches(each.type, glob) for glob in types)]
            if gone:
                pipe.multi()
                pipe.hdel(key, *(each.type for each in gone))
                pipe.publish(self._records.wake, "")
            return gone

        return paused_at(self._link.transact([key], change), now)

    def paused(self) -> list[Pause]:
        """The pauses that hold now."""
        values = self._link.run(lambda client: client.hvals(self._records.paused))
        return paused_at(parse(values), self._link.look_at_clock())
