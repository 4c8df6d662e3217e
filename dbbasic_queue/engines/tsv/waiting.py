"""The order of work: which jobs are due, in order of time and then of position in the file.

A worker reads the table once, without holding others up, and then only what is appended. What
the list names is a suggestion: a row is read again under the lock before it is believed, since
others change rows in place. A row that others put back to pending in place is found by the next
`read`.

What stands before the hint (hint.py) is looked at last, by `resolve`, a piece at a time. Until then
the list is `doubtful`, so that no worker takes it to be all.

A line that bears the id of another is not work: see twins.py. What may be one of them is kept apart
(`doubtful`) until all of the table has been searched for its id.
"""

from __future__ import annotations

import heapq
import itertools
import math
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

from ...table.scan import MARK, UNFINISHED_TAIL, ids_of, moved_in, row_at, rows_in
from ...table.table import Table
from . import twins
from .known_ids import KnownIds

if TYPE_CHECKING:
    from .lanes import Lanes

_SHIFT: Final = 44  # an entry is run_at * 2**44 + offset: one int, 36 bytes, sorts as wanted
_MASK: Final = (1 << _SHIFT) - 1
_MANY: Final = 1 << 20  # ids noted since the last reading, after which all is read again
_LAST: Final = 1 << 12  # bytes at the end of the table, in which the newest job is looked for
_FRONT: Final = (
    b"",
    -1,
)  # among the doubtful: what stands before the hint has not all been looked at
_MARK: Final = b"\n" + MARK
_FEW: Final = 1 << 10  # jobs behind the hint, up to which each is looked at by itself
_LATE: Final = 10  # seconds that a job may be created before the one above it in the table


class WaitingList:
    """The pending jobs of a table by time, and which rows were processing when it was read."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._read: list[int] = []  # what the last reading found, latest first
        self._heap: list[int] = []  # what came since
        self.generation = -1  # of the table that was read
        self.read_to = 0  # bytes
        self.moved: dict[bytes, int] = {}  # id -> where the row stands that was moved
        self.processing: list[int] = []  # offsets, as of the last read
        self.twins: dict[bytes, list[int]] = {}  # id -> offsets of its lines, if it has several
        self.doubtful: list[tuple[bytes, int]] = []  # id and entry of what is perhaps a second line
        self._ids = KnownIds()
        self._ids_at_most = _MANY
        self._front: Iterator[tuple[int, bytes]] | None = None  # what is still to be looked at
        self.lanes: Lanes | None = None  # of what is due, where priorities count
        self._parked: list[int] = []  # entries of what is due, but is not to be begun now
        self.told = True  # that what lies beside the table has perhaps changed (paused.py)
        self._newest = 0  # when the last job in the table was created, in Unix seconds
        self.read_at = 0.0  # time.monotonic()
        self.read_cost = 0.0  # seconds

    def read(self, start: int = 0) -> None:
        """Read the whole table, or begin at a line (`_read_from`). Call it without the lock."""
        if start:
            self._read_from(start)
            return
        began = time.monotonic()
        table = self._table
        with table.reading():
            self.generation, size = table.generation, table.size
        self._parked, self.told = [], True
        if self.lanes is not None:
            self.lanes.clear()
        self._front = None
        self._read_rows(0, size)
        self.read_at = time.monotonic()
        self.read_cost = self.read_at - began

    def _read_from(self, start: int) -> None:
        """Read the table from a line on, before which all had ended when the hint was written.

        To be the first reading.
        """
        began = time.monotonic()
        table = self._table
        with table.reading():
            self.generation, size = table.generation, table.size
        for offset, piece in table.pieces(start, size):
            self._take_in(piece, offset)
            if len(self._heap) > _FEW:
                self._read_rows(start, size)
                break
        self.read_to = size
        self._note_newest(size)
        self._front = table.pieces(end=start)
        self.doubtful.append(_FRONT)
        self.read_at = time.monotonic()
        self.read_cost = self.read_at - began

    def _look_before(self, front: Iterator[tuple[int, bytes]]) -> None:
        """Look at one piece of what stands before the hint; at all of the table, if there is any
        job that has not ended, or another line of one that has not."""
        _, piece = next(front, (0, b""))
        if not piece:
            self._front = None
            self.doubtful.remove(_FRONT)
        elif UNFINISHED_TAIL.search(piece) or self._ids.may_meet(piece):
            self.read()

    def first(self) -> int:
        """Return where the first job stands that has not ended; 0 if that is not known."""
        known = len(self._read) + len(self._heap) + len(self._parked)
        known += sum(1 for _ in self.lanes.entries()) if self.lanes is not None else 0
        if self._front is not None or self.is_stale() or known > _MANY:
            return 0
        doubtful = [entry for _, entry in self.doubtful]
        doubtful += self.lanes.entries() if self.lanes is not None else ()
        entries = itertools.chain(self._read, self._heap, self._parked, doubtful)
        offsets = itertools.chain((entry & _MASK for entry in entries), self.processing)
        return min(offsets, default=self.read_to)

    def _read_rows(self, start: int, size: int) -> None:
        """Read what stands between two offsets, and nothing else."""
        self._read, self._heap, self.processing, self.moved = [], [], [], {}
        self._ids, self.doubtful, self.read_to = KnownIds(), [], 0
        lines = 0
        for offset, piece in self._table.pieces(start, size):
            # About how many: to count them all would take a tenth of the whole reading.
            lines = lines or piece.count(b"\n") * (size - start) // len(piece)
            self._read_piece(piece, offset)
        self.read_to = size
        self._look_for_twins(start, size, lines)
        self._read.sort(reverse=True)

    def _read_piece(self, piece: bytes, offset: int) -> None:
        self.moved.update(moved_in(piece, offset))
        rfind, note, before = piece.rfind, self._read.append, b""
        for match in UNFINISHED_TAIL.finditer(piece):
            at = rfind(b"\n", 0, match.start())
            pending, run_at = match.group(1, 3)
            if run_at != before:  # most are due in the same second as the one above
                before, first = run_at, (int(run_at) << _SHIFT) + offset + 1
            if pending:
                note(first + at)
            else:
                self.processing.append(offset + 1 + at)

    def _look_for_twins(self, start: int, size: int, lines: int) -> None:
        """Find the ids that several lines bear, and note what later lines are compared with."""
        table, ids = self._table, self._ids
        unfinished = len(self._read) + len(self.processing)
        repeated: set[bytes] = set()
        if unfinished > twins.FEW:
            suspects = ids.read(table.pieces(start, size), 2 * unfinished > lines)
            repeated = twins.repeated(table, start, size, suspects) if suspects else repeated
        elif unfinished:
            repeated = self._ids_at(self._offsets())
            ids.note(repeated)
        self.twins = twins.twins(table, size, repeated)
        if self.twins:
            here = set(self._offsets())
            self.twins = {key: at for key, at in self.twins.items() if not here.isdisjoint(at)}
        self._newest = 0
        self._note_newest(size)

    def _offsets(self) -> list[int]:
        return [entry & _MASK for entry in self._read] + self.processing

    def _note_newest(self, size: int) -> None:
        """Note the jobs at the end of the table: one that is appended may bear an id of theirs."""
        for offset, piece in self._table.pieces(max(0, size - _LAST), size):
            self._ids.note(ids_of(piece))
            for row in rows_in(piece, offset):
                self._newest = row.created_at
        self._ids_at_most = len(self._ids) + _MANY

    def _ids_at(self, offsets: Iterable[int]) -> set[bytes]:
        file = self._table.snapshot()[0]
        rows = [row_at(file.fd, offset) for offset in offsets] if file else []
        return {row.id for row in rows if row is not None}

    def is_stale(self) -> bool:
        """Whether the table was written anew since, so that all of it has to be read."""
        return self.generation != self._table.generation

    def catch_up(self) -> None:
        """Read what was appended since. Call it under the lock."""
        table = self._table
        if self.generation != table.generation:
            self.read()
        if table.size != self.read_to:
            for offset, piece in table.pieces(self.read_to, table.size):
                self._take_in(piece, offset)
            self.read_to = table.size
            if len(self._ids) > self._ids_at_most:
                self.generation = -1

    def _take_in(self, piece: bytes, offset: int) -> None:
        """Note what was appended."""
        if piece.startswith(MARK) or _MARK in piece:
            self.told = True
        moved = moved_in(piece, offset)
        self.moved.update(moved)
        ids, newest = self._ids, self._newest
        for match in UNFINISHED_TAIL.finditer(piece):
            start = piece.rfind(b"\n", 0, match.start()) + 1
            job_id = piece[start : piece.find(b"\t", start)]
            created_at = int(match[2])
            entry = int(match[3]) << _SHIFT | offset + start
            if not match[1]:
                self.processing.append(offset + start)
            elif job_id not in moved and (ids.may_bear(job_id) or created_at < newest - _LATE):
                self.doubtful.append((job_id, entry))
                continue
            else:
                heapq.heappush(self._heap, entry)
                newest = max(newest, created_at)
            ids.add(job_id)
        self._newest = newest

    def resolve(self) -> None:
        """Find out which doubtful lines are work after all. Call it without the lock."""
        if self._front is not None:
            self._look_before(self._front)
            return
        doubtful, self.doubtful = self.doubtful, []
        found = twins.twins(self._table, self.read_to, {job_id for job_id, _ in doubtful})
        self.twins.update(found)
        for job_id, entry in doubtful:
            heapq.heappush(self._heap, entry)
            self._ids.add(job_id)
            self._newest = 0  # whatever the clock showed before, it goes by the next job

    def add(self, run_at: int, offset: int) -> None:
        """Note a job that is pending again."""
        heapq.heappush(self._heap, run_at << _SHIFT | offset)

    def park(self, run_at: int, offset: int) -> None:
        """Note a job that is due, but is not to be begun before `unpark`."""
        self._parked.append(run_at << _SHIFT | offset)

    def unpark(self) -> None:
        """Let the jobs that were parked be found again, each at its time."""
        parked, self._parked = self._parked, []
        self._heap += parked
        heapq.heapify(self._heap)

    def pop_due(self, now: int) -> int | None:
        """Take out the first job that is due at `now` (Unix seconds): its offset, or None."""
        read, heap = self._read, self._heap
        if read and not (heap and heap[0] < read[-1]):
            return read.pop() & _MASK if read[-1] >> _SHIFT <= now else None
        if heap and heap[0] >> _SHIFT <= now:
            return heapq.heappop(heap) & _MASK
        return None

    def pop_entries(self, now: int, most: int) -> list[int]:
        """Do what `pop_due` does, for `Lanes`: entries, which sort by time, a few at once."""
        read, heap = self._read, self._heap
        some = read[-most:]
        if some and some[0] >> _SHIFT <= now and not (heap and heap[0] < some[0]):
            del read[-most:]
            return some[::-1]
        source = read if read and not (heap and heap[0] < read[-1]) else heap
        if not source or (source[-1] if source is read else source[0]) >> _SHIFT > now:
            return []
        return [read.pop() if source is read else heapq.heappop(heap)]

    @staticmethod
    def entry_of(run_at: int, offset: int) -> int:
        """The entry of a job that is due then and stands there."""
        return run_at << _SHIFT | offset

    @staticmethod
    def offset_of(entry: int) -> int:
        """Where the job of an entry stands."""
        return entry & _MASK

    def next_time(self) -> int | None:
        """When the next job is due, in Unix seconds; None when none is pending."""
        first = self._heap[:1] + self._read[-1:]
        return min(first) >> _SHIFT if first else None

    def until_due(self, now: float) -> float:
        """In how many seconds the next job is due; infinitely many when none is pending."""
        due = self.next_time()
        return math.inf if due is None else max(0.0, due - now)
