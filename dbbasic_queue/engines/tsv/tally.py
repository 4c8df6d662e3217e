"""Rows counted by state and time in a piece of the table, without a row being built."""

from __future__ import annotations

import heapq
import math
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from ...job import PENDING
from ...table.line import MOVED, Row
from ...table.scan import unfinished, whole_row

CREATED: Final = 1  # the column of what `whole_row` finds
RUN: Final = 2

Found = tuple[bytes, bytes, bytes]  # what `whole_row` finds of a row


class Piece(NamedTuple):
    """Whole lines of the table, and where they stand."""

    text: bytes  # with the newline in front
    offset: int  # of the first line
    number: int  # of lines before

    def find(self, row: Found, after: int) -> int:
        """Offset of the first row beyond the one at `after` with these values in its columns."""
        needle = b"\t%b\t%b\t%b\t" % row
        at = self.text.find(b"\n", after - self.offset + 1) if after else 0
        while (at := self.text.find(needle, at + 1)) >= 0:
            newline = self.text.rfind(b"\n", 0, at)
            if (match := whole_row().match(self.text, newline)) and match.groups() == row:
                return self.offset + newline
        raise AssertionError("a row that was found is not there")


class Tally:
    """Rows of a kind to report: how many there are, and where the first few stand.

    They are in one of these states, with a time from `low` to `high`: run_at, or created_at of a
    pending row if `by_creation`.
    """

    def __init__(
        self,
        statuses: Sequence[str],
        names: int,
        *,
        low: float = 0,
        high: float = math.inf,
        latest: bool = False,
        by_creation: bool = False,
    ) -> None:
        self.count = 0
        self._statuses = statuses
        self._names = names
        self._low = low
        self._high = high
        self._sign = -1 if latest else 1
        self._by_creation = by_creation
        self._first: list[tuple[int, int]] = []  # (sign * time, offset), in order

    def read(self, times: list[int], rows: list[Found], piece: Piece) -> None:
        """Take in rows of a piece, all in one of these states, and their times."""
        low, high, sign = self._low, self._high, self._sign
        if max(times) < low or min(times) > high:
            return
        within = [time for time in times if low <= time <= high]
        self.count += len(within)
        if not within or not self._names:
            return
        first = min(within) if sign > 0 else -max(within)
        if len(self._first) == self._names and first >= self._first[-1][0]:
            return
        here = ((sign * time, at) for at, time in enumerate(times) if low <= time <= high)
        best = heapq.nsmallest(self._names, here)
        self._first = sorted(self._first + _places(best, rows, piece))[: self._names]

    def note(self, moment: int, offset: int) -> None:
        """Take in one row, by its time and where it stands."""
        if self._low <= moment <= self._high:
            self.count += 1
            self._first = sorted([*self._first, (self._sign * moment, offset)])[: self._names]

    def places(self) -> list[int]:
        """Offsets of the first few."""
        return [offset for _, offset in self._first]

    def last(self) -> int | None:
        """The time of the last of the first few."""
        return self._sign * self._first[-1][0] if self._first else None

    def holds(self, row: Row | None) -> bool:
        """Whether a row, read once more, is of this kind."""
        if row is None or row.status not in self._statuses:
            return False
        by_creation = self._by_creation and row.status == PENDING
        return self._low <= (row.created_at if by_creation else row.run_at) <= self._high


def _places(best: list[tuple[int, int]], rows: list[Found], piece: Piece) -> list[tuple[int, int]]:
    """(time, offset) for (time, number among `rows`) of some rows of a piece."""
    found = []
    after: dict[Found, int] = {}  # where the last of those that are alike stands
    for moment, at in best:
        row = rows[at]
        after[row] = offset = piece.find(row, after.get(row, 0))
        found.append((moment, offset))
    return found


class MovedRows:
    """Where each row that has perhaps moved stands, in eight bytes a row.

    A dictionary would need two hundred, and after a busy day many rows are such.
    """

    _BITS: Final = 22  # of an id's hash that are kept
    _SHIFT: Final = 42  # bits of an offset: 4 TiB
    _MASK: Final = (1 << _BITS) - 1

    def __init__(self) -> None:
        self._known = bytearray(1 << self._BITS)
        self._places = array("Q")

    def __len__(self) -> int:
        return len(self._places)

    def read(self, text: bytes, offset: int) -> None:
        """Note the rows of a piece that may be the new version of one further up."""
        for match in MOVED.finditer(text):
            start = text.rfind(b"\n", 0, match.start()) + 1
            key = hash(text[start : text.find(b"\t", start)]) & self._MASK
            self._known[key] = 1
            self._places.append(key << self._SHIFT | offset + start)

    def close(self) -> None:
        """Sort them: to be called when all are noted, before they are asked for."""
        self._places = array("Q", sorted(self._places))

    def pairs(self, text: bytes, offset: int) -> Iterator[tuple[int, int]]:
        """Offsets of a row in a piece and of what may be its later version."""
        known, mask = self._known, self._MASK
        text = b"\n" + text
        at = 0
        # Rows that can change are those of which there may be a later version.
        for job_id in unfinished().findall(text):
            if known[hash(job_id) & mask]:
                at = _line_of(job_id, text, at)
                for later in self._after(hash(job_id) & mask, offset + at):
                    yield offset + at, later
                at += 1

    def _after(self, key: int, offset: int) -> Iterator[int]:
        at = bisect_right(self._places, key << self._SHIFT | offset)
        while at < len(self._places) and self._places[at] >> self._SHIFT == key:
            yield self._places[at] & (1 << self._SHIFT) - 1
            at += 1


def _line_of(job_id: bytes, text: bytes, start: int) -> int:
    """Where the next row that `unfinished` finds and that has this id stands in a text."""
    needle = b"\n%b\t" % job_id
    while (at := text.find(needle, start)) >= 0:
        if unfinished().match(text, at):
            return at
        start = at + 1
    raise AssertionError("a row that was found is not there")
