"""What a worker may begin now: its types, but for those that are paused."""

from __future__ import annotations

import logging
from collections.abc import Callable, Container
from typing import Final

from ...errors import StorageError
from ...support.text import printable
from ...table.line import parse_line
from ...table.table import Table
from ..pausing import Held, paused_at
from . import paused
from .waiting import WaitingList

log = logging.getLogger("dbbasic_queue")

NOTHING: Final[Container[str]] = ()
MANY: Final = 500  # jobs passed over, after which the table's lock is given back for a moment


class Gate:
    """The pauses of a queue, as its worker knows them.

    Args:
        table: of the queue.
        waiting: the worker's, where what is paused is parked.
        clock: Unix seconds.
    """

    def __init__(self, table: Table, waiting: WaitingList, clock: Callable[[], float]) -> None:
        self.held: Held | None = None  # None: nothing is paused
        self._path = table.sibling("paused")
        self._waiting = waiting
        self._clock = clock
        self._text = b""
        self._passed = 0
        self._fault = ""

    def look(self) -> None:
        """Learn what is paused now."""
        self._waiting.told = False
        try:
            text = paused.read(self._path)
        except StorageError as error:  # it holds what held before
            if str(error) != self._fault:
                self._fault = str(error)
                log.warning("cannot see what is paused: %s", error, extra={"event": "paused"})
            return
        now = self._clock()
        if text == self._text and (self.held is None or now < self.held.ends):
            return
        self._text = text
        pauses = paused_at(paused.parse(text), now)
        if self.held is not None:
            self._waiting.unpark()
        before, self.held = self.held, Held(pauses) if pauses else None
        for pause in pauses:
            if before is None or pause not in before.pauses:
                log.info("%s", printable(str(pause)), extra={"event": "paused"})

    def may_begin(self, types: Container[str] | None) -> Container[str] | None:
        """Which of these types may be begun now; to be asked under the lock, while any is held."""
        held = self.held
        if held is not None and held.ends <= self._clock():
            self.look()
            held = self.held
        if held is None:
            return types
        return NOTHING if held.all else _Allowed(types, held)

    def passed(self, job_type: str, line: bytes, offset: int) -> bool:
        """Note that a due job was passed over; whether that were many under this lock."""
        if self.held is not None and job_type in self.held:
            row = parse_line(line, offset)
            if row is not None:
                self._waiting.park(row.run_at, offset)
        self._passed += 1
        return self._passed >= MANY

    def passed_many(self) -> bool:
        """Whether many were passed over, so that more may be due; asked once."""
        many = self._passed >= MANY
        if many:
            self._passed = 0
        return many

    def until_due(self) -> float:
        """In how many seconds there may be something to begin, as far as is known now."""
        now = self._clock()
        if self.held is None:
            return self._waiting.until_due(now)
        ends = max(0.0, self.held.ends - now)
        return ends if self.held.all else min(ends, self._waiting.until_due(now))


class _Allowed:
    """The types that a worker takes, less those that are held."""

    def __init__(self, types: Container[str] | None, held: Held) -> None:
        self._types = types
        self._held = held

    def __contains__(self, job_type: object) -> bool:
        wanted = self._types is None or job_type in self._types
        return wanted and isinstance(job_type, str) and job_type not in self._held
