"""The places of a host's workers: at most so many at once, of those that name a number.

Each host (each container) has its own, so that every worker in them can be asked whether it lives.
"""

from __future__ import annotations

from typing import Any

from . import identity
from .lease import FAREWELL
from .link import Link
from .records import Records

KEPT = 7 * 86400  # seconds after which the places of a host that is gone are forgotten


class Places:
    """The places of this host."""

    def __init__(self, link: Link, records: Records) -> None:
        self._link = link
        place = identity.here()
        self._key = f"dbq:{records.name}:places:{place.boot}:{place.namespace}"

    def take(self, count: int, worker: str) -> int | None:
        """Take one of `count` places for a worker; None when all are taken."""

        def change(pipe: Any) -> int | None:
            taken = {
                int(place): name.decode()
                for place, name in pipe.hgetall(self._key).items()
                if not identity.is_dead(name.decode())
            }
            for place, name in taken.items():
                if name == worker:  # the answer was lost
                    return place
            free = next((place for place in range(count) if place not in taken), None)
            if free is not None:
                pipe.multi()
                pipe.hset(self._key, str(free), worker)
                pipe.expire(self._key, KEPT)
            return free

        return self._link.transact([self._key], change)

    def free(self, place: int, worker: str) -> None:
        """Give a place back, if it is that worker's still."""

        def change(pipe: Any) -> None:
            if pipe.hget(self._key, str(place)) == worker.encode():
                pipe.multi()
                pipe.hdel(self._key, str(place))

        self._link.transact([self._key], change, FAREWELL)
