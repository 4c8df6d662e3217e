"""The table at one moment, for somebody who may only look and for whom nobody waits.

Theory of operation
-------------------
The table is read from end to end without a lock: a lock would hold up whoever writes, and whoever
writes it anew would hold us up. Each piece of 1 MiB is read at once and judged by regular
expressions, so that a million rows take about a second.

What is read like that may be wrong in small ways: a tail caught while it was being written, a job
seen in its old place while it moved to a new one. So nothing that is a reason to alarm anybody
is believed before it has been looked at again, now under the table's lock, some rows at a time.
Under the lock a row that says processing while nobody holds its claim is an orphan, as the claim is
taken before and given back after, both under the same lock. Where the lock cannot be had (no
permission, or somebody holds it for long), the row must be the same before and after the look at
its claim, which comes to the same.

If the table was written anew meanwhile, offsets in the old file mean nothing in the new one; the
rows in question are then found by their ids.
"""

from __future__ import annotations

import errno
import fcntl
import heapq
import itertools
import math
import os
import re
import stat
import time
from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Final, NamedTuple

from .claims import Claims
from .errors import StorageError, TableError
from .handle import Handle
from .job import FAILED, PENDING, PROCESSING, STATUSES
from .scan import PIECE, is_torn, lines_in, row_at
from .store import NORMAL, Store
from .tsv import MOVED, Row, explain, is_moved

PATIENCE: Final = 0.1  # seconds to wait for the table's lock, in all
BATCH: Final = 200  # rows looked at under one lock: about a millisecond
FEW: Final = 50  # rows searched for by their ids; a search may take 50 milliseconds
MANY: Final = 10_000  # no machine runs more jobs at once than that
LONGEST_LINE: Final = 64 << 20  # bytes
AHEAD: Final = 60  # seconds a recorded time may be ahead of the clock
QUICK: Final = 0.3  # seconds; a look that took less is repeated when rows moved meanwhile
TRIES: Final = 3

# Expressions begin with the newline in front of a line: a byte is found much faster than a place
# where a line begins. A whole row, as tsv.py's parse_line sees it; groups: status,
# created_at, run_at. Nothing to backtrack to, most bytes decided by the first range, runs of spaces
# apart: three times as fast as the plain expression.
_FIELD: Final = rb"[\x0b-\xff\x01-\x08]"  # no tab, newline, NUL
_WORD: Final = rb"[\x21-\xff\x0b-\x1f\x01-\x08]"  # the same without space
_HEAD: Final = rb"\n([0-9A-Za-z_-]{1,64}+)\t%b++\t%b*+\t" % (_FIELD, _FIELD)
_ROW: Final = re.compile(
    rb"(?m)%b(%b)\t([0-9]{1,15}+)\t([0-9]{1,15}+)\t[0-9]{1,9}+"
    rb"(?:\t%b*+)?+(?:\t *+(?:%b++ *+)*+)?+\r?+$"
    % (_HEAD.replace(b"(", b"(?:"), "|".join(STATUSES).encode(), _FIELD, _WORD)
)
_CREATED: Final = 1  # the column of what `_ROW` finds
_RUN: Final = 2
# Ids of rows that are not completed, and where one may be processing: the rest is yet to be parsed.
_UNFINISHED: Final = re.compile(_HEAD + rb"(?:pending|processing|failed|cancelled)\t")
_PROCESSING: Final = re.compile(rb"\tprocessing\t[0-9]")
_DEAD: Final = re.compile(rb"\n ")
_EMPTY: Final = re.compile(rb"\n(?=(?:[^\S\n ][^\S\n]*)?\n)")


@dataclass(frozen=True, slots=True)
class Limits:
    """Which rows are worth a word; times in Unix seconds, `names` is how many of a kind to name."""

    now: int
    stuck_before: int  # processing since before then
    overdue_before: int  # pending, and due before then
    failed_since: int  # failed then or later
    names: int


class Stuck(NamedTuple):
    """A job that is processing, but should not be any more."""

    row: Row
    orphaned: bool  # its worker is dead; otherwise it has run for too long


class BadLine(NamedTuple):
    """A line that is no row, by its number from 1, and why not."""

    number: int
    why: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The table in numbers, and the first few rows of each kind that is worth a word.

    Times are Unix seconds. Where there are more than were to be named, the lists are shorter than
    the numbers say: the longest processing, the longest due, the last failed.
    """

    counts: dict[str, int]  # rows by status
    ready: int
    oldest_ready: int | None  # when the first of them was due
    overdue: int
    overdue_rows: tuple[Row, ...]
    stuck: int
    stuck_rows: tuple[Stuck, ...]
    running: int  # processing, and a worker is at it
    unknown: str  # why it is not known whether workers are at it; empty if it is
    failed: int  # lately
    failed_rows: tuple[Row, ...]
    failed_first: int | None  # the first of those
    ahead: int  # rows with a time that is yet to come, but is that of an event
    ahead_rows: tuple[Row, ...]
    malformed: int
    bad_lines: tuple[BadLine, ...]
    last_success: int | None
    last_run: float | None  # of a worker
    written: float  # when the file was last written
    size: int  # bytes


def take(path: Path, limits: Limits) -> Snapshot:
    """Look at the table. Creates and changes nothing, and needs read permission only.

    Raises `StorageError` when the file is missing or cannot be read, `TableError` when it is no
    queue table.
    """
    _require_readable(path)
    table = Onlooker(path)
    claims = Claims(table.sibling("claims"), table.data_file)
    tries = 0
    while True:
        began = time.monotonic()
        look = _Look(table, claims, limits)
        try:
            snapshot = look.snapshot()
        except _WrittenAnew:
            continue
        tries += 1
        if tries == TRIES or time.monotonic() - began > QUICK or not look.has_moved():
            return snapshot


def _require_readable(path: Path) -> None:
    """Raise `StorageError` or `TableError` that says plainly why there is nothing to read."""
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise TableError(f"{path} is not a regular file, so not a queue")
        os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
        for pause in (0.01, 0.02, 0.04, 0.08):  # a program without locks may be writing it anew
            if status.st_size:
                return
            time.sleep(pause)
            status = os.stat(path)
    except FileNotFoundError as error:
        raise _missing(path) from error
    except OSError as error:
        raise StorageError(error.errno, f"cannot read the queue {path}: {error.strerror}") from None
    if not status.st_size:
        raise TableError(
            f"{path} is empty, without even a queue's header: if jobs were in it, they are lost"
        )


def _missing(path: Path) -> StorageError:
    return StorageError(errno.ENOENT, f"there is no queue {path}")


class Onlooker(Store):
    """A table whose lock is waited for politely, and not for long."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, NORMAL)
        self.locked = False  # whether the lock is held, while `reading`
        self._patience = PATIENCE

    def _lock_shared(self) -> int:
        # Base: waits for as long as it takes.
        self.locked = False
        while True:
            if self._lock_fd < 0:
                self._lock_fd = self._open_lock_for_reading()
            if self._lock_fd < 0 or not self._try_lock():
                return 0
            status = os.fstat(self._lock_fd)
            if status.st_nlink:
                self.locked = True
                return status.st_size
            self._close_lock()

    def _try_lock(self) -> bool:
        while True:
            try:
                fcntl.flock(self._lock_fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return True
            except BlockingIOError:
                if self._patience <= 0:
                    return False
            self._patience -= 0.001
            time.sleep(0.001)


def whole_lines(file: Handle, end: int) -> Iterator[tuple[int, bytes]]:
    """(offset, whole lines) of an open table up to `end` (bytes), about 1 MiB at a time, no lock.

    A torn last line is left out. Raises `TableError` for a line that is longer than memory should
    hold.
    """
    at, length = 0, PIECE
    while at < end:
        piece = os.pread(file.fd, min(length, end - at), at)
        cut = piece.rfind(b"\n") + 1
        if cut:
            yield at, piece[:cut]
            at, length = at + cut, PIECE
        elif len(piece) < length or at + length == end:
            if piece and not is_torn(file.fd, piece, at):
                yield at, piece
            return
        elif length >= LONGEST_LINE:
            raise TableError(f"the line at byte {at} is longer than {length} bytes")
        else:
            length *= 2


class _Moved:
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
        """To be called when all are noted, before they are asked for."""
        self._places = array("Q", sorted(self._places))

    def pairs(self, text: bytes, offset: int) -> Iterator[tuple[int, int]]:
        """Offsets of a row in a piece and of what may be its later version."""
        known, mask = self._known, self._MASK
        text = b"\n" + text
        at = 0
        # Rows that can change are those of which there may be a later version.
        for job_id in _UNFINISHED.findall(text):
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
    """Where the next row that `_UNFINISHED` finds and that has this id stands in a text."""
    needle = b"\n%b\t" % job_id
    while (at := text.find(needle, start)) >= 0:
        if _UNFINISHED.match(text, at):
            return at
        start = at + 1
    raise AssertionError("a row that was found is not there")


class _WrittenAnew(Exception):
    """The table is another file now, and more is in question than can be searched for."""


class _Piece(NamedTuple):
    """Whole lines of the table, and where they stand."""

    text: bytes  # with the newline in front
    offset: int  # of the first line
    number: int  # of lines before

    def find(self, row: tuple[bytes, bytes, bytes], after: int) -> int:
        """Offset of the first row beyond the one at `after` with these values in its columns."""
        needle = b"\t%b\t%b\t%b\t" % row
        at = self.text.find(b"\n", after - self.offset + 1) if after else 0
        while (at := self.text.find(needle, at + 1)) >= 0:
            newline = self.text.rfind(b"\n", 0, at)
            if (match := _ROW.match(self.text, newline)) and match.groups() == row:
                return self.offset + newline
        raise AssertionError("a row that was found is not there")


class _Kind:
    """Rows of a kind that is worth a word: how many there are, and where the first few stand.

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

    def read(self, times: list[int], rows: list[tuple[bytes, bytes, bytes]], piece: _Piece) -> None:
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


def _places(
    best: list[tuple[int, int]], rows: list[tuple[bytes, bytes, bytes]], piece: _Piece
) -> list[tuple[int, int]]:
    """(time, offset) for (time, number among `rows`) of some rows of a piece."""
    found = []
    after: dict[
        tuple[bytes, bytes, bytes], int
    ] = {}  # where the last of rows that are alike stands
    for time_, at in best:
        row = rows[at]
        after[row] = offset = piece.find(row, after.get(row, 0))
        found.append((time_, offset))
    return found


class _Look:
    """One reading of the table, and the second look at what is wrong."""

    def __init__(self, table: Onlooker, claims: Claims, limits: Limits) -> None:
        self._table = table
        self._claims = claims
        self._limits = limits
        file, self._size = table.snapshot()
        if file is None:
            raise _missing(table.data_file)
        self._file = file
        self._generation = table.generation
        self._counts: Counter[bytes] = Counter()
        now, names = limits.now, limits.names
        self._ready = _Kind([PENDING], max(1, names), high=now)
        self._overdue = _Kind([PENDING], names, high=limits.overdue_before - 1)
        self._failed = _Kind([FAILED], names, low=limits.failed_since, latest=True)
        self._ahead = _Kind(STATUSES, names, low=now + AHEAD + 1, latest=True, by_creation=True)
        self._failed_first: int | None = None
        self._last_success: int | None = None
        self._processing = array("Q")  # offsets
        self._malformed = 0
        self._bad: list[tuple[int, int, bytes]] = []  # number, offset, line

    def snapshot(self) -> Snapshot:
        """The table as it is. Raises `_WrittenAnew` when it has to be read again."""
        outdated = self._outdated()
        number = 0
        for offset, text in self._lines():
            number += self._read(_blanked(text, offset, outdated), offset, number)
        return self._confirmed()

    def has_moved(self) -> bool:
        """Whether a row has moved to beyond what was read: it may have been missed."""
        return MOVED.search(os.pread(self._file.fd, PIECE, self._size)) is not None

    # -- the first look: without a lock -----------------------------------------------------------

    def _outdated(self) -> dict[int, int]:
        """Offset and length of each line of which a later one is alive: what a crash has left."""
        moved = _Moved()
        for offset, text in self._lines():
            moved.read(text, offset)
        if not moved:
            return {}
        moved.close()
        found = {}
        for start, text in self._lines():
            for offset, later in moved.pairs(text, start):
                row = row_at(self._file.fd, offset)
                if row is not None and self._is_moved_to(row.id, later):
                    found[offset] = len(row.line) - row.line.endswith(b"\n")
        return found

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        return whole_lines(self._file, self._size)

    def _is_moved_to(self, job_id: bytes, offset: int) -> bool:
        row = row_at(self._file.fd, offset)
        return row is not None and row.id == job_id and is_moved(row)

    def _read(self, text: bytes, offset: int, number: int) -> int:
        """Take in a piece of the table, before which there are `number` lines; returns its own."""
        header = text.find(b"\n") if offset == 0 else -1
        if header < 0:
            piece = _Piece(b"\n" + text, offset, number)
        else:
            piece = _Piece(text[header:], header + 1, 1)
        rows = sorted(_ROW.findall(piece.text), key=itemgetter(0))
        for status, group in itertools.groupby(rows, itemgetter(0)):
            self._take_in(status, list(group), piece)
        lines = piece.text.count(b"\n", 1) + (not piece.text.endswith(b"\n"))
        if lines != len(rows):
            self._look_for_bad_lines(piece, lines - len(rows))
        return lines + (header >= 0)

    def _take_in(
        self, status: bytes, rows: list[tuple[bytes, bytes, bytes]], piece: _Piece
    ) -> None:
        self._counts[status] += len(rows)
        times = [int(row[_RUN]) for row in rows]
        if status == b"pending":
            self._ready.read(times, rows, piece)
            self._overdue.read(times, rows, piece)
            self._ahead.read([int(row[_CREATED]) for row in rows], rows, piece)
            return
        self._ahead.read(times, rows, piece)
        if status == b"processing":
            for match in _PROCESSING.finditer(piece.text):
                newline = piece.text.rfind(b"\n", 0, match.start())
                self._processing.append(piece.offset + newline)
        elif status == b"failed":
            self._failed.read(times, rows, piece)
            late = [time for time in times if time >= self._limits.failed_since]
            self._failed_first = min([*late, *_known(self._failed_first)], default=None)
        elif status == b"completed":
            now = self._limits.now + AHEAD
            past = times if max(times) <= now else [time for time in times if time <= now]
            self._last_success = max([max(past, default=0), *_known(self._last_success)]) or None

    def _look_for_bad_lines(self, piece: _Piece, others: int) -> None:
        """Of the lines of a piece that are no rows, count and note those that should be."""
        offset = piece.offset
        bad = others - len(_DEAD.findall(piece.text))
        if bad:
            bad -= len(_EMPTY.findall(piece.text))
        self._malformed += bad
        if not bad or len(self._bad) >= self._limits.names:
            return
        for number, (line, row) in enumerate(lines_in(piece.text[1:], offset), piece.number + 1):
            if not bad or len(self._bad) >= self._limits.names:
                return
            if row is None and not line.startswith(b" ") and not line.isspace():
                self._bad.append((number, offset, line))
                bad -= 1
            offset += len(line)

    # -- the second look: under the lock, where it can be had --------------------------------------

    def _confirmed(self) -> Snapshot:
        ready = self._again(self._ready)
        overdue = self._again(self._overdue)
        failed = self._again(self._failed)
        ahead = self._again(self._ahead)
        running, stuck, worst, unknown = self._look_at_running()
        bad = self._bad_lines()
        return Snapshot(
            counts={status: self._counts[status.encode()] for status in STATUSES},
            ready=self._ready.count,
            # None of the first few is there any more: the rest is not older than they were.
            oldest_ready=(ready[0].run_at if ready else self._ready.last())
            if self._ready.count
            else None,
            overdue=self._overdue.count,
            overdue_rows=overdue,
            stuck=stuck,
            stuck_rows=worst,
            running=running,
            unknown=unknown,
            failed=self._failed.count,
            failed_rows=failed,
            failed_first=self._failed_first if self._failed.count else None,
            ahead=self._ahead.count,
            ahead_rows=ahead,
            malformed=self._malformed,
            bad_lines=bad,
            last_success=self._last_success,
            last_run=self._claims.last_run(),
            written=os.stat(self._table.data_file).st_mtime,
            size=self._size,
        )

    def _rows(self, offsets: Sequence[int]) -> Iterator[Row | None]:
        """The rows at these offsets, each handed out under the lock: do not keep it for long."""
        for start in range(0, len(offsets), BATCH):
            batch = offsets[start : start + BATCH]
            with self._table.reading():
                if self._is_current():
                    yield from map(self._table.read_row, batch)
                    continue
            yield from self._rows_by_id(batch)

    def _rows_by_id(self, offsets: Sequence[int]) -> Iterator[Row | None]:
        """The same when the table was written anew since: the old file, which nobody changes any
        more, says which jobs they are.
        """
        if len(offsets) > FEW:
            raise _WrittenAnew
        for offset in offsets:
            old = row_at(self._file.fd, offset)
            if old is not None:
                hint = self._table.search(old.id)
                with self._table.reading():
                    yield self._table.find(old.id, hint)

    def _is_current(self) -> bool:
        return self._table.generation == self._generation

    def _again(self, kind: _Kind) -> tuple[Row, ...]:
        """The first few of a kind, without those that are not of it any more."""
        places = kind.places()
        still = tuple(row for row in self._rows(places) if row is not None and kind.holds(row))
        kind.count -= len(places) - len(still)
        return still

    def _look_at_running(self) -> tuple[int, int, tuple[Stuck, ...], str]:
        """How many jobs run, how many are stuck, the first of those, and what is not known."""
        running = 0
        # No machine runs more jobs at once than that: the others are orphans in any case.
        stuck = max(0, len(self._processing) - MANY)
        unknown = ""
        worst: list[Stuck] = []
        for row in self._rows(self._processing[:MANY]):
            if row is None or row.status != PROCESSING:
                continue
            try:
                orphaned = self._is_orphaned(row)
            except OSError as error:
                orphaned, unknown = False, f"cannot read {error.filename}: {error.strerror}"
            running += not orphaned
            if orphaned or row.run_at < self._limits.stuck_before:
                stuck += 1
                worst.append(Stuck(row, orphaned))
                worst = sorted(worst, key=lambda it: it.row.run_at)[: self._limits.names]
        return running, stuck, tuple(worst), unknown

    def _is_orphaned(self, row: Row) -> bool:
        if self._claims.is_held(row.id):
            return False
        return self._table.locked or self._table.holds(row)

    def _bad_lines(self) -> tuple[BadLine, ...]:
        found = []
        for number, offset, line in self._bad:
            with self._table.reading():
                still = os.pread(self._file.fd, len(line), offset)
            if still == line:
                found.append(BadLine(number, explain(line)))
            else:
                self._malformed -= 1
        return tuple(found)


def _known(value: int | None) -> list[int]:
    return [] if value is None else [value]


def _blanked(text: bytes, offset: int, lines: Mapping[int, int]) -> bytes:
    """A piece of the table with some of its lines made dead, as the next writer will make them."""
    for start, length in lines.items():
        at = start - offset
        if 0 <= at < len(text):
            text = text[:at] + b" " * length + text[at + length :]
    return text
