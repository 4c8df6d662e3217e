"""The table: one TSV file that many processes change safely.

Theory of operation
-------------------
The file is the only truth; nothing about it is kept elsewhere. It is changed under an exclusive
lock (lock.py), and its end is mended first (ending.py). Three kinds of change exist:

* **append**: one write at the end, whole or taken back.
* **change in place**: one write of a row's tail, inside one sector (line.py), or of the tails of
  two neighbours with the head between them as it stands, each inside one sector, so that a crash
  leaves the old tail or the new one.
* **move**, where that does not fit: append the new version, marked as moved; sync; kill the old
  line. After a crash in between, two lines of one id are alive: the later one wins, and the mark
  tells a reader that comes from the start that there may be an earlier one.

`renew` (prune, compaction) writes a new file beside the old and renames it over (renewing.py).

The classes `LockedFile`, `MendedFile`, `ReadTable`, `RenewableTable` and `Table` are floors of one
object, so that the four methods of a busy queue (`acquire`, `append`, `line_at`, `write_in_place`)
cost no more calls than they must.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Final, NamedTuple, TypeVar

from ..errors import StorageError
from ..job import PROCESSING
from ..support.files import (
    SLICE,
    refused,
    refusing,
    replace,
    sync_folder,
)
from ..support.opening import Folder
from .bisection import spoil
from .line import (
    ATTEMPTS_LIMIT,
    SECTOR,
    Row,
    build_head,
    build_line,
    in_place,
    parse_line,
    pending_line,
)
from .opened import OpenTable
from .renewing import RenewableTable
from .rights import new_beside, prepare, require_worker
from .scan import LONGEST_LINE, line_end

log = logging.getLogger("dbbasic_queue")
T = TypeVar("T")

ELSEWHERE: Final = "another address"  # where `queue.moved` does not say which
LONGEST_ADDRESS: Final = 1 << 12  # bytes of `queue.moved` that are read
AHEAD: Final = 1 << 11  # bytes that are read at a time of rows that are looked at one by one

_NEWLINE: Final = 10
_APPEND: Final[int] = getattr(os, "RWF_APPEND", 0)


class Change(NamedTuple):
    """A row, and what is to be written of it."""

    row: Row
    status: str
    run_at: int
    attempts: int
    error: bytes = b""
    result: bytes = b""


class Table(RenewableTable):
    """The table of a queue: see `LockedFile` for its arguments.

    >>> import tempfile
    >>> table = Table(tempfile.mkdtemp() + "/queue.tsv")
    >>> with table.writing():
    ...     _ = table.append(build_line(table.size, b"a1\\tmail\\t{}", "pending", 5, 5, 0))
    >>> [row.id for row in table.rows()]
    [b'a1']
    """

    moved_to = ""  # the address that the queue is closed for, as seen when it was last opened
    # -- appending ---------------------------------------------------------------------------

    def add_row(self, head: bytes, created_at: int, run_at: int) -> None:
        """Take the lock and append one pending row; `head` is `id TAB type TAB payload`.

        A signal handler or a finalizer can do that even where its thread has the lock, if there is
        no change at work that it could come amid. Raises `StorageError`.
        """
        lock = self.lock
        if lock.is_mine():
            self.acquire(amid=True)
            self.require_open()
            self.append(pending_line(self.size, head, created_at, run_at))
            lock.disturbed = True
            return
        with lock.mutex, lock.unlocking, lock.inside:
            self.acquire()
            if self.moved_to:
                self.require_open()
            self.append(pending_line(self.size, head, created_at, run_at))

    def append(self, data: bytes, noted: bool = False) -> int:
        """Write whole lines at the end, all or nothing; returns the offset of the first.

        `noted` if the note of a batch speaks of this. Raises `StorageError` (disk full, quota, I/O
        error), after which the table is as before.
        """
        if not noted and os.lseek(self.lock.fd, 0, os.SEEK_END) > 0:
            self._end_batch()  # one of which nothing was written: its note would speak of this
        file, offset, length = self._file, self.size, len(data)
        assert file is not None
        written = 0
        try:
            if length <= SLICE and _APPEND:
                written = os.pwritev(file.fd, (data,), 0, _APPEND)
            if written < length:
                self.lock.busy = True  # until the lock is given back
            while written < length:
                part = data[written : written + SLICE]
                written += _write_end(file.fd, part, offset + written)
        except BaseException as error:  # a handler's timeout, too
            self._cut_off(offset, length)
            if isinstance(error, OSError):
                raise refused(error, f"cannot append to the queue {self.data_file}") from error
            raise
        end = offset + length
        if self.lock.disturbed:  # a row of a signal handler's stands before or behind this one
            end = os.lseek(file.fd, 0, os.SEEK_END)
        self.size = self._clean_to = end
        return offset

    def append_batch(self, data: bytes) -> int:
        """`append` of many lines, of which a crash in the middle leaves none."""
        self._end_batch()
        self._note_batch(len(data))
        try:
            return self.append(data, noted=True)
        finally:
            self._forget_batch()

    # -- changing a row ----------------------------------------------------------------------

    def line_at(self, offset: int) -> bytes:
        """The line that begins at `offset`, its newline included; b"" when none does.

        Call it under the exclusive lock: while that is held, what is read with one line answers
        for those after it, as workers take them one after another.
        """
        if offset > self._ahead_from:
            ahead, start = self._ahead, offset - self._ahead_at
            end = ahead.find(b"\n", start) + 1
            if end and ahead[start - 1] == _NEWLINE:
                return ahead[start:end]
        ahead = self._ahead = os.pread(self._fd, AHEAD, offset - 1)
        self._ahead_at = self._ahead_from = offset - 1
        if not ahead.startswith(b"\n"):
            return b""
        end = ahead.find(b"\n", 1) + 1
        return ahead[1:end] if end else self._line_from(offset)  # a long one

    def holds(self, line: bytes, offset: int) -> bool:
        """Whether the line stands in the file still, byte for byte."""
        file, before = self._file, offset - 1
        assert file is not None
        # Most often the next row is read next: both at once.
        ahead = self._ahead = os.pread(file.fd, len(line) + 1 + SECTOR, before)
        self._ahead_at = self._ahead_from = before
        return ahead.startswith(line, 1) and ahead.startswith(b"\n")

    def change(
        self,
        row: Row,
        status: str,
        run_at: int,
        attempts: int,
        error: bytes = b"",
        result: bytes = b"",
    ) -> Row:
        """Write a new state of `row`, in place or by moving it; returns the row as it is now.

        Raises `StorageError`, after which the old state is still there.
        """
        attempts = min(attempts, ATTEMPTS_LIMIT)
        new = in_place(row, status, run_at, attempts, error, result)
        if new is None:
            return self._relocate(row, status, run_at, attempts, error, result)
        self.write_in_place(new.line[row.tail : -1], row.offset + row.tail)
        return new

    def change_all(self, changes: Sequence[Change]) -> list[Row]:
        """Make many changes with no more syncs than one; returns the rows as they are now.

        Raises `StorageError`, after which some of the rows may be changed.
        """
        rows = []
        moving = []
        for change in changes:
            row, status, run_at, attempts, error, result = change
            new = in_place(row, status, run_at, attempts, error, result)
            if new is None:
                moving.append(change)
            else:
                self.write_in_place(new.line[row.tail : -1], row.offset + row.tail)
                rows.append(new)
        return rows + self._move_all(moving)

    def _move_all(self, changes: Sequence[Change]) -> list[Row]:
        lines, rows = [], []
        at = self.size
        for row, status, run_at, attempts, error, result in changes:
            head = build_head(row, moved=True)
            line = build_line(at, head, status, row.created_at, run_at, attempts, error, result)
            lines.append(line)
            new = parse_line(line, at)
            assert new is not None
            rows.append(new)
            at += len(line)
        if rows:
            self._spoil(change.row for change in changes)
            if any(change.row.status == PROCESSING for change in changes):
                self._fdatasync()  # that they were begun is on disk before their new lines
            self.append_batch(b"".join(lines))
            self._fdatasync()
            for change in changes:
                self._strike(change.row)
            self._fdatasync()
            for change in changes:
                self._blank_struck(change.row)
        return rows

    def _relocate(
        self, row: Row, status: str, run_at: int, attempts: int, error: bytes, result: bytes
    ) -> Row:
        head = build_head(row, moved=True)
        line = build_line(self.size, head, status, row.created_at, run_at, attempts, error, result)
        return self._move(row, line)

    def _move(self, row: Row, line: bytes) -> Row:
        self.lock.busy = True  # until the lock is given back
        self._spoil((row,))
        offset = self.append(line)
        try:
            # In "normal", too: here order alone decides whether the job survives a power cut.
            self._fdatasync()
            self._strike(row)
        except StorageError:
            self._cut_off(offset, len(line))
            raise
        self._blank(row)
        new = parse_line(line, offset)
        assert new is not None
        return new

    def _spoil(self, rows: Iterable[Row]) -> None:
        """Mark lines that are to be moved and do not look like it, before the new ones come."""
        marks = [mark for mark in map(spoil, rows) if mark is not None]
        for mark in marks:
            self.write_in_place(*mark)
        if marks:
            self._fdatasync()

    def kill(self, row: Row) -> None:
        """Turn a row's line into a dead one: blanks, of the same length."""
        self._strike(row)
        self._blank(row)

    def _strike(self, row: Row) -> None:
        """Blank a line's beginning, as far as one sector goes: by this one write it is dead."""
        self._killed = True
        end = _strike_end(row)
        self.write_in_place(b" " * (end - row.offset), row.offset)

    def _blank(self, row: Row) -> None:
        """Blank the rest of a line that was struck, when that is on disk.

        Blanks there alone would be a malformed line after a power cut.
        """
        if _strike_end(row) < _end_of(row):
            self._fdatasync()
            self._blank_struck(row)

    def _blank_struck(self, row: Row) -> None:
        start, end = _strike_end(row), _end_of(row)
        if start < end:
            self.write_in_place(b" " * (end - start), start)

    def write_in_place(self, data: bytes, offset: int) -> None:
        """Write over bytes of the table. Call it under the exclusive lock.

        Atomic only inside one sector, as each tail that `new_tail` makes is. Raises
        `StorageError`.
        """
        file = self._file
        assert file is not None
        end = offset + len(data)
        if end > self._ahead_from:
            self._ahead_from = end
        try:
            if os.pwrite(file.fd, data, offset) < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise refused(error, f"cannot write to the queue {self.data_file}") from error

    def _line_from(self, offset: int) -> bytes:
        """Return a long line; its beginning only when it is too long for a row."""
        length = min(line_end(self._fd, offset, self.size) - offset, LONGEST_LINE)
        return os.pread(self._fd, length, offset)

    # -- closed, since its jobs have moved -----------------------------------------------------

    def close_for(self, url: str) -> None:
        """Let the queue take no new jobs, since they belong to `url` now; or again, if empty.

        `queue.moved` says so. Whatever makes or removes a file in the folder makes each writer look
        again, under the lock; so no job is added after this. Raises `StorageError`.
        """
        self.require_owner("migrate")
        note = self.sibling("moved")
        with self.writing(), refusing(note, "cannot write"), Folder(self.data_dir) as folder:
            if url:
                replace(new_beside(folder, note, f"{url}\n".encode(), self.data_file))
            else:
                with suppress(FileNotFoundError):
                    os.unlink(note.name, dir_fd=folder.fd)
                sync_folder(self.data_dir)

    def closed_for(self) -> str:
        """Return the address that the queue is closed for; empty while it takes jobs."""
        with refusing(self.sibling("moved"), "cannot read"):
            try:
                with Folder(self.data_dir) as folder:
                    return self._closed_for(folder)
            except FileNotFoundError:
                return ""

    def _closed_for(self, folder: Folder) -> str:
        try:
            fd = folder.open(self.sibling("moved").name, os.O_RDONLY)
        except FileNotFoundError:
            return ""
        except PermissionError:  # only readers have none
            return ELSEWHERE
        try:
            return os.read(fd, LONGEST_ADDRESS).decode(errors="replace").strip() or ELSEWHERE
        finally:
            os.close(fd)

    def _open_current(self, folder: Folder, operation: int) -> OpenTable | None:
        file = super()._open_current(folder, operation)
        # Also as a reader: what is seen now, the next writer will not look for again.
        with refusing(self.sibling("moved"), "cannot read"):
            self.moved_to = self._closed_for(folder)
        return file

    def require_open(self) -> None:
        """Raise `StorageError` when the queue takes no new jobs. Call it under the lock."""
        if self.moved_to:
            raise StorageError(
                errno.ESTALE,
                f"the queue {self.data_file} takes no new jobs: it was moved to {self.moved_to};"
                " enqueue them there",
            )

    def prepare(self) -> None:
        """See that what a group's producers write is there, before a worker begins.

        Raises `StorageError` when this process is not the worker's user.
        """
        with refusing(self.data_file, "cannot run the jobs of the queue"):
            require_worker(self.data_file)
            prepare(self.data_file)


def _write_end(fd: int, data: bytes, offset: int) -> int:
    """Write at the end of the file, which is at `offset`; returns how many bytes it took.

    Where the kernel can (Linux), at the end as it is at this very moment: a person's `echo >>
    queue.tsv`, which takes no lock, is not written over.
    """
    return os.pwritev(fd, (data,), 0, _APPEND) if _APPEND else os.pwrite(fd, data, offset)


def _end_of(row: Row) -> int:
    """Where the newline of a row's line stands."""
    return row.offset + len(row.line) - 1


def _strike_end(row: Row) -> int:
    """Where the sector ends in which a row begins, or the row itself.

    Or before a character that goes on in the next sector: the half of one that would be left, were
    the process killed then, makes the file no UTF-8, which 1.0.0 reads not at all.
    """
    end = min(_end_of(row), (row.offset // SECTOR + 1) * SECTOR)
    while row.line[end - row.offset] & 0xC0 == 0x80:
        end -= 1
    return end
