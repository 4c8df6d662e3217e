"""The order of work: which jobs are due, in order of time and then of position in the file.

A worker reads the table once, without holding anybody up, and then only what is appended. What
the list names is a suggestion: a row is read again under the lock before it is believed, since
others change rows in place. A row that others put back to pending in place is found by the next
`read`.
"""

from __future__ import annotations

import heapq
import time
from typing import Final

from ...table.scan import PENDING_TAIL, moved_in, processing_in
from ...table.table import Table

_SHIFT: Final = 44  # an entry is run_at * 2**44 + offset: one int, 36 bytes, sorts as wanted
_MASK: Final = (1 << _SHIFT) - 1


class WaitingList:
    """The pending jobs of a table by time, and which rows were processing when it was read."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._read: list[int] = []  # what the last reading found, latest first
        self._heap: list[int] = []  # what came since
        self._generation = -1
        self.read_to = 0  # bytes
        self.moved: dict[bytes, int] = {}  # id -> where the row stands that was moved
        self.processing: list[int] = []  # offsets, as of the last read
        self.read_at = 0.0  # time.monotonic()
        self.read_cost = 0.0  # seconds

    def read(self) -> None:
        """Read the whole table. Call it without the lock."""
        began = time.monotonic()
        table = self._table
        with table.reading():
            self._generation, size = table.generation, table.size
        self._read, self._heap, self.processing, self.moved = [], [], [], {}
        self.read_to = 0
        for offset, piece in table.pieces(end=size):
            self._read += _pending_in(piece, offset)
            self._note(piece, offset)
        self.read_to = size
        self._read.sort(reverse=True)
        self.read_at = time.monotonic()
        self.read_cost = self.read_at - began

    def is_stale(self) -> bool:
        """Whether the table was written anew since, so that all of it has to be read."""
        return self._generation != self._table.generation

    def is_current(self) -> bool:
        """Whether there is nothing to catch up with."""
        table = self._table
        return self.read_to == table.size and self._generation == table.generation

    def catch_up(self) -> None:
        """Read what was appended since. Call it under the lock."""
        table = self._table
        if self._generation != table.generation:
            self.read()
        if table.size != self.read_to:
            for offset, piece in table.pieces(self.read_to, table.size):
                for entry in _pending_in(piece, offset):
                    heapq.heappush(self._heap, entry)
                self._note(piece, offset)
            self.read_to = table.size

    def _note(self, piece: bytes, offset: int) -> None:
        self.moved.update(moved_in(piece, offset))
        self.processing += processing_in(piece, offset)

    def add(self, run_at: int, offset: int) -> None:
        """Note a job that is pending again."""
        heapq.heappush(self._heap, run_at << _SHIFT | offset)

    def pop_due(self, now: int) -> int | None:
        """Take out the first job that is due at `now` (Unix seconds): its offset, or None."""
        read, heap = self._read, self._heap
        if read and not (heap and heap[0] < read[-1]):
            return read.pop() & _MASK if read[-1] >> _SHIFT <= now else None
        if heap and heap[0] >> _SHIFT <= now:
            return heapq.heappop(heap) & _MASK
        return None

    def next_time(self) -> int | None:
        """When the next job is due, in Unix seconds; None when none is pending."""
        first = self._heap[:1] + self._read[-1:]
        return min(first) >> _SHIFT if first else None


def _pending_in(piece: bytes, offset: int) -> list[int]:
    rfind = piece.rfind
    return [
        int(match[1]) << _SHIFT | offset + rfind(b"\n", 0, match.start()) + 1
        for match in PENDING_TAIL.finditer(piece)
    ]
