"""The table at one moment, for an onlooker: one that needs no right to write and holds nothing up.

Theory of operation
-------------------
The table is read from end to end without a lock: a lock would hold up the writers, and a writer
that makes it anew would hold us up. Each piece of 1 MiB is read at once and judged by regular
expressions, so that a million rows take about a second.

What is read like that may be wrong in small ways: a tail caught while it was being written, a job
seen in its old place while it moved to a new one. So nothing that is a reason for an
alarm is believed before it has been looked at again, now under the table's lock, some rows at a
time. Under the lock, a row that says processing while no process holds its claim is an orphan, as
the claim is taken before and given back after, both under the same lock. Where the lock cannot be
had (no permission, or another process holds it for long), the row must be the same before and after
the look at its claim, which comes to the same.

If the table was written anew meanwhile, offsets in the old file mean nothing in the new one; the
rows in question are then found by their ids.
"""

from __future__ import annotations

import errno
import itertools
import os
import stat
import time
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Final

from ...errors import StorageError, TableError
from ...job import FAILED, PENDING, PROCESSING, STATUSES, Job
from ...support.patience import kept
from ...table.line import MOVED, Row, explain, is_moved, to_job
from ...table.lock import NORMAL
from ...table.scan import (
    DEAD,
    EMPTY,
    OVERLONG,
    PIECE,
    TOO_LONG,
    UNFINISHED_TAIL,
    lines_in,
    processing_in,
    row_at,
    whole_lines,
    whole_row,
)
from ...table.table import Table
from ..answers import BadLine, Limits, Snapshot, Stuck
from ..interface import AHEAD
from .claims import Claims
from .holding import HeldBack
from .tally import CREATED, RUN, Found, MovedRows, Piece, Tally

PATIENCE: Final = 0.1  # seconds to wait for the table's lock, in all
BATCH: Final = 200  # rows looked at under one lock: about a millisecond
FEW: Final = 50  # rows searched for by their ids; a search may take 50 milliseconds
MANY: Final = 10_000  # no machine runs more jobs at once than that
QUICK: Final = 0.3  # seconds; a look that took less is repeated when rows moved meanwhile
TRIES: Final = 3
KEPT: Final = 2.0  # seconds for which one process holds the lock, before it is reported


def take(path: Path, limits: Limits) -> Snapshot:
    """Look at the table. Creates and changes nothing, and needs read permission only.

    Raises `StorageError` when the file is missing or cannot be read, `TableError` when it is not
    a queue table.
    """
    require_readable(path)
    table = Table(path, NORMAL, patience=PATIENCE)
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
            return snapshot._replace(blocked=kept(table.lock_file, KEPT))


def require_readable(path: Path) -> None:
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
        raise missing(path) from error
    except OSError as error:
        raise StorageError(error.errno, f"cannot read the queue {path}: {error.strerror}") from None
    if not status.st_size:
        raise TableError(
            f"{path} is empty, without even a queue's header: if jobs were in it, they are lost"
        )


def missing(path: Path) -> StorageError:
    """Return the error for a queue that is not there."""
    return StorageError(errno.ENOENT, f"there is no queue {path}")


class _WrittenAnew(Exception):
    """The table is another file now, and more is in question than can be searched for."""


class _Look:
    """One reading of the table, and the second look at what is wrong."""

    def __init__(self, table: Table, claims: Claims, limits: Limits) -> None:
        self._table = table
        self._claims = claims
        self._limits = limits
        self._held = HeldBack(table, claims, limits)
        file, self._size = table.snapshot()
        if file is None:
            raise missing(table.data_file)
        self._file = file
        self._generation = table.generation
        self._counts: Counter[bytes] = Counter()
        now, names = limits.now, limits.names
        self._ready = Tally([PENDING], max(1, names), high=now)
        self._overdue = Tally([PENDING], names, high=limits.overdue_before - 1)
        self._failed = Tally([FAILED], names, low=limits.failed_since, latest=True)
        self._ahead = Tally(STATUSES, names, low=now + AHEAD + 1, latest=True, by_creation=True)
        self._failed_first: int | None = None
        self._last_success: int | None = None
        self._processing = array("Q")  # offsets
        self._malformed = 0
        self._bad: list[tuple[int, int, bytes]] = []  # number, offset, line

    def snapshot(self) -> Snapshot:
        """The table as it is. Raises `_WrittenAnew` when it has to be read again."""
        outdated = self._outdated()
        number = 0
        for offset, text in whole_lines(self._file.fd, self._size, overlong=True):
            if text is OVERLONG:
                number += 1
                self._malformed += 1
                if len(self._bad) < self._limits.names:
                    self._bad.append((number, offset, text))
                continue
            number += self._read(_blanked(text, offset, outdated), offset, number)
        return self._confirmed()

    def has_moved(self) -> bool:
        """Whether a row has moved to beyond what was read: it may have been missed."""
        return MOVED.search(os.pread(self._file.fd, PIECE, self._size)) is not None

    # -- the first look: without a lock -----------------------------------------------------------

    def _outdated(self) -> dict[int, int]:
        """Offset and length of each line of which a later one is alive: what a crash has left."""
        moved = MovedRows()
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
        return whole_lines(self._file.fd, self._size)

    def _is_moved_to(self, job_id: bytes, offset: int) -> bool:
        row = row_at(self._file.fd, offset)
        return row is not None and row.id == job_id and is_moved(row)

    def _read(self, text: bytes, offset: int, number: int) -> int:
        """Take in a piece of the table, before which there are `number` lines; returns its own."""
        header = text.find(b"\n") if offset == 0 else -1
        if header < 0:
            piece = Piece(b"\n" + text, offset, number)
        else:
            piece = Piece(text[header:], header + 1, 1)
        rows = sorted(whole_row().findall(piece.text), key=itemgetter(0))
        for status, group in itertools.groupby(rows, itemgetter(0)):
            self._take_in(status, list(group), piece)
        lines = piece.text.count(b"\n", 1) + (not piece.text.endswith(b"\n"))
        if lines != len(rows):
            self._look_for_bad_lines(piece, lines - len(rows))
        return lines + (header >= 0)

    def _take_in(self, status: bytes, rows: list[Found], piece: Piece) -> None:
        self._counts[status] += len(rows)
        times = [int(row[RUN]) for row in rows]
        if status == b"pending":
            self._ready.read(times, rows, piece)
            if self._held:
                self._note_overdue(piece)
            else:
                self._overdue.read(times, rows, piece)
            self._ahead.read([int(row[CREATED]) for row in rows], rows, piece)
            return
        self._ahead.read(times, rows, piece)
        if status == b"processing":
            self._processing.extend(processing_in(piece.text, piece.offset - 1))
        elif status == b"failed":
            self._failed.read(times, rows, piece)
            late = [time for time in times if time >= self._limits.failed_since]
            self._failed_first = min([*late, *_known(self._failed_first)], default=None)
        elif status == b"completed":
            now = self._limits.now + AHEAD
            past = times if max(times) <= now else [time for time in times if time <= now]
            self._last_success = max([max(past, default=0), *_known(self._last_success)]) or None

    def _note_overdue(self, piece: Piece) -> None:
        """Take in what is overdue, but for types that are held back."""
        for match in () if self._held.all else UNFINISHED_TAIL.finditer(piece.text):
            start = piece.text.rfind(b"\n", 0, match.start()) + 1
            job_type = piece.text[start : match.start()].split(b"\t", 2)[1]
            if match[1] and job_type.decode(errors="replace") not in self._held:
                self._overdue.note(int(match[3]), piece.offset + start - 1)

    def _look_for_bad_lines(self, piece: Piece, others: int) -> None:
        """Count and note the lines of a piece that should be rows and are not."""
        offset = piece.offset
        bad = others - len(DEAD.findall(piece.text))
        if bad:
            bad -= len(EMPTY.findall(piece.text))
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
            oldest_ready=self._oldest_ready(ready),
            overdue=self._overdue.count,
            overdue_jobs=overdue,
            stuck=stuck,
            stuck_jobs=worst,
            running=running,
            unknown=unknown,
            failed=self._failed.count,
            failed_jobs=failed,
            failed_first=self._failed_first if self._failed.count else None,
            ahead=self._ahead.count,
            ahead_jobs=ahead,
            malformed=self._malformed,
            bad_lines=bad,
            last_success=self._last_success,
            last_run=self._claims.last_run(),
            written=os.fstat(self._file.fd).st_mtime,
            size=self._size,
            paused=self._held.pauses,
        )

    def _rows(self, offsets: Sequence[int]) -> Iterator[Row | None]:
        """The rows at these offsets, each yielded under the lock: do not keep it for long."""
        for start in range(0, len(offsets), BATCH):
            batch = offsets[start : start + BATCH]
            with self._table.reading():
                if self._is_current():
                    yield from map(self._table.read_row, batch)
                    continue
            yield from self._rows_by_id(batch)

    def _rows_by_id(self, offsets: Sequence[int]) -> Iterator[Row | None]:
        """The rows at these offsets of a table that was written anew since.

        The old file, which no process changes any more, says which jobs they are.
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

    def _again(self, kind: Tally) -> tuple[Job, ...]:
        """The first few of a kind, without those that are not of it any more."""
        places = kind.places()
        still = [row for row in self._rows(places) if row is not None and kind.holds(row)]
        kind.count -= len(places) - len(still)
        return tuple(map(to_job, still))

    def _oldest_ready(self, first: tuple[Job, ...]) -> int | None:
        if not self._ready.count:
            return None
        # Where none of the first few is there any more, the rest is not older than they were.
        return first[0].run_at if first else self._ready.last()

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
                orphaned, unknown = False, str(error.strerror)
            running += not orphaned
            if orphaned or row.run_at < self._limits.stuck_before:
                stuck += 1
                worst.append(Stuck(to_job(row), orphaned))
                worst = sorted(worst, key=lambda it: it.job.run_at)[: self._limits.names]
        return running, stuck, tuple(worst), unknown

    def _is_orphaned(self, row: Row) -> bool:
        if self._claims.is_held(row.id):
            return False
        return self._table.locked or self._table.holds(row.line, row.offset)

    def _bad_lines(self) -> tuple[BadLine, ...]:
        found = []
        for number, offset, line in self._bad:
            if line is OVERLONG:
                found.append(BadLine(number, TOO_LONG))
                continue
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
