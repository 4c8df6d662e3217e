"""Store: the only module that opens, locks, syncs or renames the table.

Theory of operation
-------------------
The file is the only truth; nothing about it is kept elsewhere. Whoever changes it holds an
exclusive flock on `queue.lock` (the protocol of dbbasic-tsv) and first looks whether the file is
still the one it knows: another inode means that somebody wrote it anew. (While nothing in the
folder has changed, it is; directory_watch.py.) `generation` counts that, and an offset is worth
something only within its generation.

Three kinds of change exist:

* **append**: one write at the end. One that fails is cut off again; one that a crash has cut
  short is a last line without a newline, which the next writer ends or sets aside. An append of
  many lines first notes in `queue.lock` where it begins; a note found there by the next holder
  means that the batch is not whole, and what there is of it is set aside.
* **change in place**: one write of a row's tail, inside one sector (tsv.py), so that a crash
  leaves the old tail or the new one.
* **move**, where that does not fit: append the new version, marked as moved; sync; kill the old
  line. After a crash in between, two lines of one id are alive: the later one wins, and the mark
  tells whoever reads the table from the start that there may be an earlier one.

`rewrite` (prune, compaction) writes a new file beside the old and renames it over.

Syncs happen outside the lock, so that those of several processes merge. A thread may sync a file
that another has just replaced: `OpenTable` stays open for as long as somebody holds it.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, Final, NamedTuple, TypeVar, cast

from ..errors import StorageError, TableError
from ..support.files import (
    BESIDE,
    SLICE,
    NewFile,
    create,
    keep_status,
    open_sibling,
    refused,
    refusing,
    remove_leftovers,
    replace,
    sync_folder,
    write_all,
)
from .directory_watch import TICK, DirectoryWatch
from .handle import OpenTable, identity
from .line import (
    HEADER,
    SECTOR,
    Row,
    build_head,
    build_line,
    in_place,
    parse_line,
    row_status,
)
from .rewrite import Rewrite
from .scan import (
    PIECE,
    is_torn,
    last_row,
    moved_in,
    outdated_in,
    row_at,
    rows_found,
    rows_in,
    search_back,
    status_pattern,
)

log = logging.getLogger("dbbasic_queue")
T = TypeVar("T")

FULL: Final = "full"
NORMAL: Final = "normal"
UNKNOWN: Final = -1
WORTH_COMPACTING: Final = 1 << 20  # dead bytes, and a quarter of the file

NEWLINE: Final = 10
AHEAD: Final = 1 << 11  # bytes that are read at a time of rows that are looked at one by one

_APPEND: Final[int] = getattr(os, "RWF_APPEND", 0)
_HEADERS: Final = (HEADER, HEADER[:-1] + b"\r\n")


class Hint(NamedTuple):
    """Where a search without the lock has looked, and what it found: see `Store.find`."""

    generation: int
    size: int  # of the part that was searched
    offset: int  # of the row, or -1


class Store:
    """The table's file: locked, opened, read, written and synced here and nowhere else.

    Args:
        path: the table file, which need not exist; it is made by the first write.
        durability: "full" (a change is on disk when its `sync` returns) or "normal" (left to the
            kernel: survives any crash of processes, not one of the machine).
    """

    def __init__(self, path: str | Path, durability: str = FULL) -> None:
        if durability not in (FULL, NORMAL):
            raise ValueError(f'durability {durability!r}: must be "full" or "normal"')
        self.data_file = Path(path).expanduser().resolve()
        if self.data_file.suffix[1:] in BESIDE:
            raise TableError(
                f"{self.data_file}: files that end in {self.data_file.suffix} stand beside a table"
                " and are not one"
            )
        self.data_dir = self.data_file.parent
        self.table_name = self.data_file.stem
        self.lock_file = self.sibling("lock")
        self.durability = durability
        self.generation = 0
        self.size = 0  # of the file, as seen when the lock was taken
        self._killed = False  # lines, since the last look at whether to compact
        self._path = str(self.data_file)  # os.stat takes a str faster than a Path
        self._forget()
        _stores.add(self)

    _lock_fd = -1

    def __del__(self) -> None:
        if self._lock_fd >= 0:
            os.close(self._lock_fd)

    def sibling(self, suffix: str) -> Path:
        """The path of the file beside the table that ends in `.suffix`."""
        return self.data_file.with_name(f"{self.table_name}.{suffix}")

    def after_fork(self) -> None:
        """Start afresh in a forked child, which would share the parent's locks otherwise."""
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
        self._forget()
        self.generation += 1

    def _forget(self) -> None:
        self._mutex = threading.RLock()  # flock does not exclude the threads of a process
        self._depth = 0  # how often this thread holds the lock
        self._exclusive = False
        self._lock_fd = -1
        self._file: OpenTable | None = None
        self._mine = threading.local()  # file: the one that this thread last wrote
        self._clean_to = UNKNOWN  # the file is known to end in a newline here
        self._watch = DirectoryWatch(str(self.data_dir))
        self._ahead = b""  # what was read under this lock,
        self._ahead_at = 0  # at which offset,
        self._ahead_from = 0  # and from where on none of it has been written since

    # -- the lock ----------------------------------------------------------------------------

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the table exclusively: made if missing, its end mended, its size known."""
        self.acquire()
        try:
            yield
        finally:
            self.release()

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Hold the table against writers; creates and changes nothing."""
        self._mutex.acquire()
        self._depth += 1
        try:
            if self._depth == 1:
                self._exclusive = False
                self._look_for_reading()
            yield
        finally:
            self.release()

    def acquire(self) -> None:
        """`writing` without the context manager, for the paths where a microsecond counts."""
        self._mutex.acquire()
        if self._depth > 0:
            self._enter_again()
            return
        self._depth = 1
        self._exclusive = True
        try:
            self._take_lock(fcntl.LOCK_EX)
            file = self._file
            if file is None or not file.writable or not self._watch.is_unchanged():
                file = self._look_again()
            self._mine.file = file
            size = os.lseek(file.fd, 0, os.SEEK_END)
            if size < self.size:
                self._new_generation()  # another program cut it in place
            self.size = size
            if size != self._clean_to:
                self._mend()
        except BaseException:
            self.release()
            raise

    def _enter_again(self) -> None:
        if not self._exclusive:
            self._mutex.release()
            raise RuntimeError("a table that is being read cannot be written under the same lock")
        self._depth += 1

    def _mend(self) -> None:
        """See to what others have left: a lost header, half a batch, a torn line."""
        if self._clean_to == UNKNOWN:
            self._check_header(mend=True)
        self._end_batch()
        if self.size != self._clean_to:
            self._end_last_line()

    def release(self) -> None:
        """Let go of the table."""
        self._depth -= 1
        self._ahead = b""
        try:
            if self._depth == 0 and self._lock_fd >= 0:
                fcntl.flock(self._lock_fd, fcntl.LOCK_UN)
        finally:
            self._mutex.release()

    def _look_again(self) -> OpenTable:
        """Lock and open what the paths lead to: somebody may have replaced it, or the folder."""
        look = self._watch.look()
        self._take_current_lock(fcntl.LOCK_EX)
        file = self._file
        if file is None or not file.writable or not file.is_current():
            file = self._open(writable=True)
        self._watch.trust(look)
        return file

    def _look_again_for_reading(self) -> OpenTable | None:
        """The same for readers; None when there is no table."""
        look = self._watch.look()
        self._take_current_lock(fcntl.LOCK_SH)
        file = self._file
        if file is None or not file.is_current():
            if not self._exists():
                self._file, self.size = None, 0
                return None
            file = self._open(writable=False)
            self._check_header(mend=False)
        self._watch.trust(look)
        return file

    def _take_lock(self, operation: int) -> None:
        """Take the lock. A reader goes without when nobody has written yet, or we may not lock."""
        if self._lock_fd < 0:
            writing = operation == fcntl.LOCK_EX
            self._lock_fd = self._open_lock() if writing else self._open_lock_for_reading()
            if self._lock_fd < 0:
                return
        try:
            fcntl.flock(self._lock_fd, operation)
        except OSError as error:
            raise refused(error, f"cannot lock the queue: lock {self.lock_file}") from error

    def _take_current_lock(self, operation: int) -> None:
        """Take the lock of the file that the path leads to: a deleted one keeps nobody out."""
        while self._lock_fd >= 0 and not self._is_lock_current():
            self._close_lock()
            self._take_lock(operation)

    def _is_lock_current(self) -> bool:
        try:
            return identity(os.stat(self.lock_file)) == identity(os.fstat(self._lock_fd))
        except FileNotFoundError:
            return False

    def _open_lock(self) -> int:
        try:
            self.data_dir.mkdir(parents=True, exist_ok=True)
            return open_sibling(self.lock_file, self.data_file)
        except OSError as error:
            raise refused(error, f"cannot lock the queue: open {self.lock_file}") from error

    def _open_lock_for_reading(self) -> int:
        for access in (os.O_RDWR, os.O_RDONLY):
            with suppress(OSError):
                return os.open(self.lock_file, access | os.O_CLOEXEC)
        return -1

    def _close_lock(self) -> None:
        fd, self._lock_fd = self._lock_fd, -1
        os.close(fd)

    # -- looking at the file -------------------------------------------------------------------

    def _look_for_reading(self) -> None:
        self._take_lock(fcntl.LOCK_SH)
        file = self._file
        if file is None or self._lock_fd < 0 or not self._watch.is_unchanged():
            file = self._look_again_for_reading()
            if file is None:
                return
        size = file.size()
        if self._lock_fd >= 0 and self._is_noted():
            size = self._start_of_half_batch(size) or size
        if size < self.size:
            self._new_generation()
        self.size = size

    def _open(self, *, writable: bool) -> OpenTable:
        """Open the table as it is now, whoever wrote it; for writing, make it when missing."""
        if writable and not self._exists():
            self._create()
        try:
            opened = OpenTable(self._path, writable=writable)
            while not opened.is_current():
                opened = OpenTable(self._path, writable=writable)
        except OSError as error:
            verb = "write to" if writable else "read"
            raise refused(error, f"cannot {verb} the queue {self.data_file}") from error
        if self._file is None or self._file.identity != opened.identity:
            self._new_generation()
            self.size = 0
        self._file = opened
        return opened

    def _exists(self) -> bool:
        try:
            os.stat(self._path)
        except FileNotFoundError:
            return False
        except OSError as error:  # a folder that we may not enter is not an empty queue
            raise refused(error, f"cannot see the queue {self.data_file}") from error
        return True

    def _new_generation(self) -> None:
        self.generation += 1
        self._clean_to = UNKNOWN

    def _create(self) -> None:
        with refusing(self.data_file, "cannot make the queue"):
            try:
                create(NewFile(self.data_file, HEADER, mode=None))
            except FileExistsError:  # made by a program that takes no lock
                sync_folder(self.data_dir)
            self._sync_folders_above()

    def _check_header(self, *, mend: bool) -> None:
        first = os.pread(self._fd, 4096, 0)
        if first.startswith(_HEADERS):
            return
        # Empty, as 1.0.0 leaves it behind when two processes meet, or as a power cut does then.
        if len(first) <= len(HEADER) and HEADER.startswith(first.rstrip(b"\0")):
            if mend:
                self.write_in_place(HEADER, 0)
                self._fdatasync()  # a table that lacks it is none, whatever else is on disk
                self.size = len(HEADER)
            return
        self._file = None  # looked at again next time, also by a reader
        line = first.split(b"\n", 1)[0][:80].decode(errors="replace")
        raise TableError(
            f"{self.data_file} is not a queue table: its first line is {line!r}, not the header"
            f" {HEADER.decode().strip()!r}. If the header was lost, put it back as the first line"
        )

    @property
    def _fd(self) -> int:
        if self._file is None:
            raise TableError(f"{self.data_file}: there is no such file")
        return self._file.fd

    def state(self) -> object:
        """Something that differs when the file has changed since; takes no lock.

        Nothing equals it while the file is so young that another change may get the same time.
        """
        try:
            status = os.stat(self._path)
        except FileNotFoundError:
            return None
        if 0 <= time.time_ns() - status.st_mtime_ns < TICK:
            return object()
        return status.st_ino, status.st_size, status.st_mtime_ns

    def is_at(self, size: int) -> bool:
        """Whether the path leads to the file last seen, and that is `size` bytes long; takes no
        lock."""
        file = self._file
        try:
            status = os.stat(self._path)
        except FileNotFoundError:
            return False
        return file is not None and status.st_size == size and identity(status) == file.identity

    # -- the end of the file ---------------------------------------------------------------------

    def _end_last_line(self) -> None:
        """See to it that the file ends in a newline, whatever a crash or an editor left there."""
        if os.pread(self._fd, 1, self.size - 1) != b"\n":
            start = self._start_of_last_line()
            line = os.pread(self._fd, self.size - start, start)
            if self.is_torn(line, start):
                self._set_aside(start)
            else:
                self.write_in_place(b"\n", self.size)
                self.size += 1
        self._clean_to = self.size

    def is_torn(self, line: bytes, offset: int) -> bool:
        """Whether the last line of the file, found without a newline, was cut off in an append.

        A line that parses has all that counts: what follows the attempts of a new row is empty.
        The new version of a moved row may lack the end of its result; then its older line is
        alive still, and stands.
        """
        return is_torn(self._fd, line, offset)

    def _start_of_last_line(self) -> int:
        end = self.size
        while end > 0:
            start = max(0, end - PIECE)
            newline = os.pread(self._fd, end - start, start).rfind(b"\n")
            if newline >= 0:
                return start + newline + 1
            end = start
        return 0

    def _set_aside(self, start: int) -> None:
        """Move what stands from `start` to the end into `queue.torn`: out of the way, not lost."""
        torn = os.pread(self._fd, self.size - start, start)
        self._write_aside(torn if torn.endswith(b"\n") else torn + b"\n")
        self._shorten(start)
        self.size = self._clean_to = start

    def _write_aside(self, lines: bytes) -> None:
        path = self.sibling("torn")
        try:
            fd = open_sibling(path, self.data_file)
            try:
                write_all(fd, lines)
                os.fsync(fd)
            finally:
                os.close(fd)
        except OSError as error:
            raise refused(error, f"cannot set lines of the queue aside in {path}") from error

    def last_line(self) -> tuple[int, bytes, int]:
        """Number (from 1), bytes and offset of the line at the end of the file."""
        if self._file is None or self.size == 0:
            return 0, b"", 0
        start = self._start_of_last_line()
        before = sum(piece.count(b"\n") for _, piece in self.pieces(end=start))
        return before + 1, os.pread(self._fd, self.size - start, start), start

    def append(self, data: bytes) -> int:
        """Write whole lines at the end, all or nothing; returns the offset of the first.

        Raises `StorageError` (disk full, quota, I/O error), after which the table is as before.
        """
        self._end_batch()  # one of which nothing was written: the note would speak of these lines
        return self._append_whole(data)

    def _append_whole(self, data: bytes) -> int:
        offset, written = self.size, 0
        try:
            while written < len(data):
                part = data[written : written + SLICE] if len(data) > SLICE else data
                # Where the kernel can (Linux), at the end as it is at this very moment: a person's
                # `echo >> queue.tsv`, which takes no lock, is not written over.
                if _APPEND:
                    written += os.pwritev(self._fd, [part], 0, _APPEND)
                else:
                    written += os.pwrite(self._fd, part, offset + written)
        except BaseException as error:  # a handler's timeout, too
            self._cut_off(offset, len(data))
            if isinstance(error, OSError):
                raise refused(error, f"cannot append to the queue {self.data_file}") from error
            raise
        self.size = self._clean_to = offset + len(data)
        return offset

    def append_batch(self, data: bytes) -> int:
        """`append` of many lines, of which a crash in the middle leaves none."""
        self._end_batch()
        note = b"append %d %d %d %s\n" % (self._file_id(), self.size, len(data), _boot_id())
        try:
            os.pwrite(self._lock_fd, note, 0)
        except OSError as error:
            raise refused(error, f"cannot write to {self.lock_file}") from error
        try:
            return self._append_whole(data)
        finally:
            # What is whole or cut off needs no note: it would be taken to speak of what a program
            # without a lock appends next. Else it stays for the next to look into.
            assert self._file is not None
            if not self._start_of_half_batch(self._file.size()):
                with suppress(OSError):
                    os.ftruncate(self._lock_fd, 0)

    def _cut_off(self, offset: int, length: int) -> None:
        assert self._file is not None
        size = self._file.size()
        if offset < size <= offset + length:
            self._shorten(offset)
            size = offset
        self.size, self._clean_to = size, UNKNOWN

    def _shorten(self, size: int) -> None:
        """Cut the table off at `size`.

        Synced before anything else is written there: of what was cut off and what comes after,
        a power cut could leave some sectors each, which might make one line.
        """
        try:
            os.ftruncate(self._fd, size)
        except OSError as error:
            raise refused(error, f"cannot shorten the queue {self.data_file}") from error
        self._fdatasync()

    def _is_noted(self) -> bool:
        """Whether a process has begun a batch, and not ended it."""
        return os.lseek(self._lock_fd, 0, os.SEEK_END) > 0

    def _end_batch(self) -> None:
        """Set aside what a process that died in `append_batch` has written of its batch."""
        if not self._is_noted():
            return
        start = self._start_of_half_batch(self.size)
        if start:
            self._set_aside(start)
        try:
            os.ftruncate(self._lock_fd, 0)
        except OSError as error:
            raise refused(error, f"cannot write to {self.lock_file}") from error

    def _start_of_half_batch(self, size: int) -> int:
        """Where in the table, `size` bytes long, the batch begins of which a part is missing.

        0 when there is none. Call it under the lock, which whoever writes a batch holds.
        """
        note = os.pread(self._lock_fd, 4096, 0).split()
        if len(note) == 5 and note[0] == b"append" and note[4] == _boot_id():
            inode, start, length = (int(word) for word in note[1:4])
            if inode == self._file_id() and start < size < start + length:
                return start
        return 0

    def _file_id(self) -> int:
        assert self._file is not None
        return self._file.identity[1]

    # -- rows ------------------------------------------------------------------------------------

    def read_row(self, offset: int) -> Row | None:
        """The live row that begins at `offset`; None when no row does."""
        return row_at(self._fd, offset)

    def line_at(self, offset: int) -> bytes:
        """The line that begins at `offset`, its newline included; b"" when none does.

        Call it under the exclusive lock: while that is held, what is read with one line answers
        for those after it, as workers take them one after another.
        """
        if offset > self._ahead_from:
            ahead, start = self._ahead, offset - self._ahead_at
            end = ahead.find(b"\n", start) + 1
            if end and ahead[start - 1] == NEWLINE:
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
        new = in_place(row, status, run_at, attempts, error, result)
        if new is None:
            return self._relocate(row, status, run_at, attempts, error, result)
        self.write_in_place(new.line[row.tail : -1], row.offset + row.tail)
        return new

    def _relocate(
        self, row: Row, status: str, run_at: int, attempts: int, error: bytes, result: bytes
    ) -> Row:
        head = build_head(row, moved=True)
        line = build_line(self.size, head, status, row.created_at, run_at, attempts, error, result)
        return self._move(row, line)

    def _move(self, row: Row, line: bytes) -> Row:
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
        start, end = _strike_end(row), _end_of(row)
        if start < end:
            self._fdatasync()
            self.write_in_place(b" " * (end - start), start)

    def write_in_place(self, data: bytes, offset: int) -> None:
        """Write over bytes of the table. Call it under the exclusive lock.

        Atomic only inside one sector, as what `new_tail` makes is. Raises `StorageError`.
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

    # -- durability ------------------------------------------------------------------------------

    def sync(self) -> None:
        """In "full", return when every change made so far is on disk. Call it without the lock.

        Raises `StorageError`; whether the changes are on disk is then unknown, and syncing again
        would not tell (fsync(2): the kernel reports an error once).
        """
        if self.durability == FULL:
            # The file that this thread wrote, as another may have opened it again meanwhile.
            self._sync_file(getattr(self._mine, "file", None))

    def _fdatasync(self) -> None:
        self._sync_file(self._file)

    def _sync_file(self, file: OpenTable | None) -> None:
        if file is None:
            return
        try:
            file.sync()
        except OSError as error:
            raise refused(
                error, f"the queue {self.data_file} may not be on disk: sync failed"
            ) from error

    def _sync_folders_above(self) -> None:
        """They may be new as well, and a new folder is on disk when the one above it is synced."""
        for folder in self.data_dir.parents:
            with suppress(PermissionError):  # so we have not made anything in it
                sync_folder(folder)

    # -- finding a job -----------------------------------------------------------------------------

    def search(self, job_id: bytes) -> Hint:
        """Look for a job without holding anybody up; the answer is for `find` to confirm."""
        with self.reading():
            file, hint = self._file, Hint(self.generation, self.size, -1)
        if file is None:
            return hint
        return hint._replace(offset=search_back(file.fd, job_id, 0, hint.size))

    def find(self, job_id: bytes, hint: Hint | None = None) -> Row | None:
        """The row of a job, None when there is none. Call it under the lock (either kind).

        `hint` is what `search` answered before the lock was taken; then only what has been
        written since is searched. Of two live lines of one id, the later one is the job.
        """
        if self._file is None:
            return None
        if hint is not None and hint.generation == self.generation:
            row = last_row(self._fd, job_id, hint.size, self.size)
            if row is None and hint.offset >= 0:
                row = self.read_row(hint.offset)
            if hint.offset < 0 or (row is not None and row.id == job_id):
                return row
        return last_row(self._fd, job_id, 0, self.size)

    # -- reading it all ----------------------------------------------------------------------------

    def snapshot(self) -> tuple[OpenTable | None, int]:
        """The file as it is now, for readings that belong together, and its size in bytes."""
        with self.reading():
            return self._file, self.size

    def pieces(
        self, start: int = 0, end: int | None = None, file: OpenTable | None = None
    ) -> Iterator[tuple[int, bytes]]:
        """(offset, whole lines) of the table from `start`, about 1 MiB at a time, header included.

        Holds the lock for each piece only. What replaces the file meanwhile is not seen; what is
        appended is, unless `end` (bytes) says where to stop. A torn last line is left out. `file`
        is that of a snapshot, the table's own if not given.
        """
        file = file or self.snapshot()[0]
        carry = b""
        at = start
        while file is not None:
            with self.reading():
                size = (self.size if file is self._file else file.size()) if end is None else end
                piece = os.pread(file.fd, min(PIECE, max(0, size - at)), at)
            at += len(piece)
            if not piece:
                if carry and not is_torn(file.fd, carry, at - len(carry)):
                    yield at - len(carry), carry
                return
            cut = piece.rfind(b"\n") + 1
            if cut:
                whole = carry + piece[:cut] if carry else piece[:cut]
                yield at - len(piece) + cut - len(whole), whole
                carry = piece[cut:]
            else:
                carry += piece

    def moved(
        self, start: int = 0, end: int | None = None, file: OpenTable | None = None
    ) -> dict[bytes, int]:
        """Where each row that was moved stands: a line of its id before that is out of date."""
        found: dict[bytes, int] = {}
        for offset, piece in self.pieces(start, end, file):
            found.update(moved_in(piece, offset))
        return found

    def rows(self, statuses: Iterable[str] | None = None) -> Iterator[Row]:
        """Every live row, or those in some states, in the order of the file, each job once.

        Reads a table that others change: each row is as it was at some moment of the reading.
        """
        file, size = self.snapshot()
        moved = self.moved(0, size, file)
        seen: set[int] = set()
        states = None if statuses is None else status_pattern(statuses)
        for offset, piece in self.pieces(0, None, file):
            for row in rows_found(states, piece, offset) if states else rows_in(piece, offset):
                if row.offset < moved.get(row.id, 0):
                    continue
                # Moved while we read: its line further up may have been given out already.
                if row.offset >= size and hash(row.id) in seen:
                    continue
                seen.add(hash(row.id))
                yield row

    def count_by_status(self) -> Counter[str]:
        """How many rows there are in each state, without building rows."""
        for _ in range(3):
            counts, settled = self._count()
            if settled:
                return counts
        with self.reading():  # rows move faster than they are counted: hold them
            return self._count()[0]

    def _count(self) -> tuple[Counter[str], bool]:
        """The counts; false when a row has moved meanwhile from where we had not been yet."""
        file, size = self.snapshot()
        moved = self.moved(0, size, file)
        counts: Counter[bytes] = Counter()
        for offset, piece in self.pieces(0, size, file):
            counts.update(row_status().findall(piece))
            if moved:
                counts.subtract(outdated_in(piece, offset, moved))
        by_name = Counter({status.decode(): count for status, count in counts.items()})
        return by_name, not self.moved(size, None, file)

    # -- writing it all anew -----------------------------------------------------------------------

    def set_lines_aside(self, offsets: Iterable[int]) -> None:
        """Move the lines at these offsets into `queue.torn`. Call it under the exclusive lock."""
        drop = sorted(offsets)
        self._write_aside(b"".join(self._line_from(start) for start in drop))
        self.rewrite(drop)

    def _line_from(self, offset: int) -> bytes:
        line = b""
        while not line.endswith(b"\n"):
            piece = os.pread(self._fd, PIECE, offset + len(line))
            if not piece:
                break
            line += piece[: piece.find(b"\n") + 1 or len(piece)]
        return line

    def rewrite(self, drop: Sequence[int] = (), still: Callable[[Row], bool] | None = None) -> int:
        """Write the table anew, without dead lines and without some others; returns how many.

        The others are the lines at the offsets `drop` (ascending); with `still`, those of them that
        are rows of which it says so now that nobody can change them. Out of date lines of moved
        rows go, too, and then the marks of these. All else stays, malformed lines byte for byte.
        So do owner, mode and extended attributes. Call it under the exclusive lock.
        """
        return self._replace(lambda fd: Rewrite(self._fd, self.size).write(fd, drop, still))

    def replace_with(self, table: bytes) -> None:
        """Put a whole other table in the place of this one. Call it under the exclusive lock."""
        if not table.startswith(_HEADERS):
            raise TableError(f"not a queue table: it begins with {table[:80]!r}, not the header")
        self._replace(lambda fd: write_all(fd, table))

    def _replace(self, write: Callable[[int], T]) -> T:
        """Let `write` fill a new file, and put it, synced, in the place of the table."""
        answers: list[T] = []
        file = NewFile(
            self.data_file,
            lambda fd: answers.append(write(fd)),
            own=lambda fd: keep_status(self._fd, fd),
        )
        remove_leftovers(self.data_file)  # of any age: we hold the lock
        with refusing(self.data_file, "cannot rewrite the queue"):
            replace(file)
        self._mine.file = self._open(writable=True)
        self.size = self._clean_to = self._mine.file.size()
        return answers[0]

    def compact_if_moved(self) -> None:
        """`compact`, when this process has moved rows since the last time."""
        if self._killed:
            self._killed = False
            try:
                self.compact()
            except StorageError as error:  # no space for a second file: the first is good, too
                log.warning("not compacted: %s", error, extra={"event": "not compacted"})

    def compact(self) -> bool:
        """Rewrite the table when dead lines make up a quarter of it and 1 MiB; says whether."""
        with self.writing():
            if self.size <= WORTH_COMPACTING:
                return False
            dead = Rewrite(self._fd, self.size).dead_bytes()
            if dead <= max(WORTH_COMPACTING, self.size // 4):
                return False
            self.rewrite()
            return True


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


_stores: Final[weakref.WeakSet[Store]] = weakref.WeakSet()
_LOCKING: Final = frozenset(
    cast(Any, function).__code__
    for function in (
        Store.acquire,
        Store.release,
        cast(Any, Store.reading).__wrapped__,
        cast(Any, Store.writing).__wrapped__,
    )
)


def may_hold_a_lock(frame: FrameType | None) -> bool:
    """Whether this thread, interrupted by a signal in `frame`, holds or is taking a table.

    An exception that the signal raises must not break into that: one that came between taking a
    lock and noting it would leave it taken for good. True also when it is another thread.
    """
    try:
        if any(store._depth for store in _stores):
            return True
    except RuntimeError:  # another thread makes one just now
        return True
    while frame is not None and frame.f_code not in _LOCKING:
        frame = frame.f_back
    return frame is not None


_boot: bytes | None = None


def _boot_id() -> bytes:
    """What tells this run of the kernel from the last; a note from before a power cut is void."""
    global _boot
    if _boot is None:
        try:
            _boot = Path("/proc/sys/kernel/random/boot_id").read_bytes().strip()
        except OSError:
            _boot = b"-"
    return _boot
