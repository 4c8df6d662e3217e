"""Rows found and counted while others write: the lock is held for a piece at a time only."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

from . import bisection, scan
from .ending import MendedFile
from .line import Row, row_status
from .opened import TICK, OpenTable, identity


class Hint(NamedTuple):
    """Where a search without the lock has looked, and what it found: see `find`."""

    generation: int
    size: int  # of the part that was searched
    offset: int  # of the row, or -1


class ReadTable(MendedFile):
    """A table whose rows are looked up, listed and counted."""

    # -- whether it has changed ----------------------------------------------------------------

    def state(self) -> object:
        """Return what differs when the file has changed since; takes no lock.

        Nothing equals it while the file is so young that another change may get the same time.
        """
        try:
            status = os.stat(self._path, follow_symlinks=False)
        except OSError:
            return None
        if 0 <= time.time_ns() - status.st_mtime_ns < TICK:
            return object()
        return status.st_ino, status.st_size, status.st_mtime_ns

    def is_at(self, size: int) -> bool:
        """Say whether the path leads to the file last seen, and that is `size` bytes long.

        Takes no lock.
        """
        file = self._file
        try:
            status = os.stat(self._path, follow_symlinks=False)
        except OSError:
            return False
        return file is not None and status.st_size == size and identity(status) == file.identity

    # -- one row -----------------------------------------------------------------------------

    def read_row(self, offset: int) -> Row | None:
        """Return the live row that begins at `offset`; None when no row does."""
        return scan.row_at(self._fd, offset)

    def search(self, job_id: bytes) -> Hint:
        """Look for a job without holding others up; the answer is for `find` to confirm."""
        with self.reading():
            file, hint = self._file, Hint(self.generation, self.size, -1)
        if file is None:
            return hint
        row = bisection.find(file.fd, job_id, hint.size)
        if row is not None:
            return hint._replace(offset=row.offset)
        return hint._replace(offset=scan.search_back(file.fd, job_id, 0, hint.size))

    def search_many(self, ids: Collection[bytes]) -> dict[bytes, Hint]:
        """Look for many jobs by one reading of the table, as `search` looks for one."""
        with self.reading():
            file, hint = self._file, Hint(self.generation, self.size, -1)
        found = dict.fromkeys(ids, -1)
        for offset, piece in () if file is None else scan.whole_lines(file.fd, hint.size):
            if not found.keys().isdisjoint(scan.ids_of(piece)):
                for start, job_id in scan.ids_in(piece, found):
                    found[job_id] = offset + start
        return {job_id: hint._replace(offset=at) for job_id, at in found.items()}

    def find(self, job_id: bytes, hint: Hint | None = None) -> Row | None:
        """Return the row of a job, None when there is none. Call it under the lock (either kind).

        `hint` is what `search` answered before the lock was taken; then only what has been
        written since is searched. Of two live lines of one id, the later one is the job.
        """
        if self._file is None:
            return None
        if hint is not None and hint.generation == self.generation:
            row = scan.last_row(self._fd, job_id, hint.size, self.size)
            if row is None and hint.offset >= 0:
                row = self.read_row(hint.offset)
            if hint.offset < 0 or (row is not None and row.id == job_id):
                return row
        found = bisection.find(self._fd, job_id, self.size)
        return found or scan.last_row(self._fd, job_id, 0, self.size)

    # -- all of it ---------------------------------------------------------------------------

    def snapshot(self) -> tuple[OpenTable | None, int]:
        """Return the file as it is now, for readings that belong together, and its size."""
        with self.reading():
            return self._file, self.size

    def pieces(
        self,
        start: int = 0,
        end: int | None = None,
        file: OpenTable | None = None,
        *,
        overlong: bool = False,
    ) -> Iterator[tuple[int, bytes]]:
        """Yield (offset, whole lines) of the table from `start`, about 1 MiB at a time.

        The header is among them. Holds the lock for each piece only, and reads each line at once,
        so that it is as it was at one moment. What replaces the file meanwhile is not seen; what is
        appended is, unless `end` (bytes) says where to stop. A torn last line is left out, and a
        line of more than `LONGEST_LINE` bytes, or `OVERLONG` stands for it. `file` is that of a
        snapshot, the table's own if not given.
        """
        file = file or self.snapshot()[0]
        at, length = start, scan.PIECE
        while file is not None:
            with self.reading():
                size = (self.size if file is self._file else file.size()) if end is None else end
                piece = os.pread(file.fd, min(length, max(0, size - at)), at)
            cut = piece.rfind(b"\n") + 1
            if cut:
                yield at, piece[:cut]
                at, length = at + cut, scan.PIECE
            elif at + len(piece) >= size:
                if piece and not scan.is_torn(file.fd, piece, at):
                    yield at, piece
                return
            elif length < scan.LONGEST_LINE:
                length *= 2
            else:
                if overlong:
                    yield at, scan.OVERLONG
                at, length = scan.line_end(file.fd, at + length, size), scan.PIECE

    def moved(
        self, start: int = 0, end: int | None = None, file: OpenTable | None = None
    ) -> dict[bytes, int]:
        """Return where each row that was moved stands: a line of its id before that is outdated."""
        found: dict[bytes, int] = {}
        for offset, piece in self.pieces(start, end, file):
            found.update(scan.moved_in(piece, offset))
        return found

    def rows(self, statuses: Iterable[str] | None = None) -> Iterator[Row]:
        """Yield every live row, or those in some states, in the order of the file, each job once.

        Reads a table that others change: each row is as it was at some moment of the reading.
        """
        file, size = self.snapshot()
        moved = self.moved(0, size, file)
        seen: set[int] = set()
        states = None if statuses is None else scan.status_pattern(statuses)
        for offset, piece in self.pieces(0, None, file):
            found = (
                scan.rows_found(states, piece, offset) if states else scan.rows_in(piece, offset)
            )
            for row in found:
                if row.offset < moved.get(row.id, 0):
                    continue
                # Moved while we read: its line further up may have been given out already.
                if row.offset >= size and hash(row.id) in seen:
                    continue
                seen.add(hash(row.id))
                yield row

    def count_by_status(self) -> Counter[str]:
        """Return how many rows there are in each state, without building rows."""
        for _ in range(3):
            counts, settled = self._count()
            if settled:
                return counts
        with self.reading():  # rows move faster than they are counted: hold them
            return self._count()[0]

    def _count(self) -> tuple[Counter[str], bool]:
        """Return the counts; false when a row has moved meanwhile from where we had not been."""
        file, size = self.snapshot()
        moved = self.moved(0, size, file)
        counts: Counter[bytes] = Counter()
        for offset, piece in self.pieces(0, size, file):
            counts.update(row_status().findall(piece))
            if moved:
                counts.subtract(scan.outdated_in(piece, offset, moved))
        by_name = Counter({status.decode(): count for status, count in counts.items()})
        return by_name, not self.moved(size, None, file)
