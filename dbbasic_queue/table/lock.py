"""The table's file under its lock: opened, and still the one that its path leads to.

Theory of operation
-------------------
Whoever changes the table holds an exclusive flock(2) on `queue.lock` (the protocol of dbbasic-tsv)
and first looks whether the table is still the file it knows: another inode means that another
process wrote it anew. `generation` counts that, and an offset is worth something only within its
generation.

That look is one stat(2) of the folder. Whatever makes, renames or deletes a file changes the ctime
of its folder, which nobody can set, so while that is the same all names lead to the same files. It
is faster than to ask each file, and it leaves the files alone: to stat a file makes Linux (since
6.13, multigrain timestamps) record a new time at the next write to it, and fdatasync(2) write the
inode as well, 45 microseconds on a disk that syncs in 100.

Syncs happen outside the lock, so that those of several processes merge. A thread may sync a file
that another has just replaced: `OpenTable` stays open for as long as a thread holds it.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, Final, cast

from ..errors import TableError
from ..support.files import (
    BESIDE,
    create,
    refused,
    refusing,
    sync_folder,
)
from ..support.opening import Folder, ForeignFile, SecondName, open_file
from .line import HEADER
from .rights import ensure_folder, new_table, open_beside, open_table, prepare

FULL: Final = "full"
NORMAL: Final = "normal"
UNKNOWN: Final = -1
TICK: Final = 20_000_000  # nanoseconds; a clock tick, by which Linux dates files, is 10 ms at most
SECOND: Final = 1_000_000_000

Look = tuple[int, int]  # a directory's inode number and ctime, in nanoseconds
NEVER: Final[Look] = (0, 0)


def identity(status: os.stat_result) -> tuple[int, int]:
    """Return what tells a file from any other on this machine."""
    return status.st_dev, status.st_ino


class OpenTable:
    """An open table file; closed when the last user lets go of it."""

    __slots__ = ("_failed", "_path", "_syncing", "fd", "identity", "writable")

    def __init__(self, path: str, *, writable: bool) -> None:
        self.fd = -1
        self.fd = open_table(Path(path), writable=writable)
        self.writable = writable
        self.identity = identity(os.fstat(self.fd))
        self._path = path
        self._syncing = threading.Lock()
        self._failed: OSError | None = None

    def is_current(self) -> bool:
        """Say whether this is the file that the path leads to now."""
        try:
            return identity(os.stat(self._path, follow_symlinks=False)) == self.identity
        except OSError:
            return False

    def size(self) -> int:
        """Return its length in bytes."""
        return os.lseek(self.fd, 0, os.SEEK_END)

    def sync(self) -> None:
        """Call fdatasync(2); once that has failed, it fails for all who wrote by this descriptor.

        The kernel reports an error once to each open file, and marks what it could not write as
        written. So another thread, whose sync would succeed now, has perhaps lost its write. The
        next writer opens the file again. Raises `OSError`.
        """
        with self._syncing:
            if self._failed is None:
                try:
                    os.fdatasync(self.fd)
                except OSError as error:
                    self._failed, self.writable = error, False
            if self._failed is not None:
                raise OSError(self._failed.errno, self._failed.strerror)

    def __del__(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)


class DirectoryWatch:
    """The directory of a path, as it was when all that matters in it was known.

    >>> import tempfile
    >>> watch = DirectoryWatch(tempfile.mkdtemp())
    >>> watch.is_unchanged()
    False
    >>> time.sleep(0.03); watch.trust(watch.look()); watch.is_unchanged()
    True
    >>> open(watch.path + "/new", "w").close(); watch.is_unchanged()
    False
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._inode, self._ctime = NEVER

    def is_unchanged(self) -> bool:
        """Say whether the path leads to the directory trusted last, with the same entries."""
        try:
            status = os.stat(self.path)
        except OSError:
            return False
        return status.st_ctime_ns == self._ctime and status.st_ino == self._inode

    def look(self) -> Look:
        """Return what to `trust` when the files looked at after this are the right ones.

        A directory changed just now may change again and bear the same time, so it is not to be
        trusted yet; nor is one on a file system that counts in whole seconds.
        """
        try:
            status = os.stat(self.path)
        except OSError:
            return NEVER
        changed = status.st_ctime_ns
        if changed % SECOND == 0 or time.time_ns() - changed < TICK:
            return NEVER
        return status.st_ino, changed

    def trust(self, look: Look) -> None:
        """Hold the directory to be unchanged while it is as it was at that look."""
        self._inode, self._ctime = look


class LockedFile:
    """A table's file, and the lock that its writers and readers take in turn.

    Args:
        path: the table file, which need not exist; it is made by the first write.
        durability: "full" (a change is on disk when its `sync` returns) or "normal" (left to the
            kernel: survives any crash of processes, not one of the machine).
        patience: seconds that a reader waits for the lock, in all; None: for as long as it takes.
            When they are used up, the table is read without the lock, and `locked` is false.

    Raises `ValueError` for another durability, `TableError` for the name of a file that belongs
    beside a table.
    """

    def __init__(
        self, path: str | Path, durability: str = FULL, *, patience: float | None = None
    ) -> None:
        if durability not in (FULL, NORMAL):
            raise ValueError(f'durability {durability!r}: must be "full" or "normal"')
        # Folders may be links, and are looked up at each opening: a release may replace one.
        self.data_file = Path(os.path.abspath(Path(path).expanduser()))
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
        self.locked = False  # whether the lock is held, while `reading`
        self._patience = patience
        self._path = str(self.data_file)  # os.stat takes a str faster than a Path
        self._forget()
        _tables.add(self)

    _lock_fd = -1

    def __del__(self) -> None:
        if self._lock_fd >= 0:
            os.close(self._lock_fd)

    def sibling(self, suffix: str) -> Path:
        """Return the path of the file beside the table that ends in `.suffix`."""
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
        # Bytes read ahead under this lock, where they begin, and from where on they are unwritten
        # since.
        self._ahead = b""
        self._ahead_at = 0
        self._ahead_from = 0

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
            if not self._exclusive:
                self._mutex.release()
                raise RuntimeError("a table being read cannot be written under the same lock")
            self._depth += 1
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

    def release(self) -> None:
        """Let go of the table."""
        self._depth -= 1
        self._ahead = b""
        try:
            if self._depth == 0 and self._lock_fd >= 0:
                fcntl.flock(self._lock_fd, fcntl.LOCK_UN)
        finally:
            self._mutex.release()

    def _take_lock(self, operation: int) -> None:
        """Take the lock. A reader goes without when there is none yet, or it may not lock."""
        if self._lock_fd < 0:
            writing = operation == fcntl.LOCK_EX
            self._lock_fd = self._open_lock() if writing else self._open_lock_for_reading()
        if operation == fcntl.LOCK_SH and (self._lock_fd < 0 or self._patience is not None):
            self.locked = self._lock_fd >= 0 and self._try_lock()
            return
        try:
            fcntl.flock(self._lock_fd, operation)
        except OSError as error:
            raise refused(error, f"cannot lock the queue: lock {self.lock_file}") from error
        if operation == fcntl.LOCK_SH:
            self.locked = True

    def _try_lock(self) -> bool:
        """Take the lock as a reader, while patience lasts; say whether that succeeded."""
        assert self._patience is not None
        while True:
            try:
                fcntl.flock(self._lock_fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return True
            except BlockingIOError:
                if self._patience <= 0:
                    return False
            self._patience -= 0.001
            time.sleep(0.001)

    def _take_current_lock(self, operation: int) -> None:
        """Take the lock of the file that the path leads to: a deleted one keeps nobody out."""
        while self._lock_fd >= 0 and not self._is_lock_current():
            fd, self._lock_fd = self._lock_fd, -1
            os.close(fd)
            self._take_lock(operation)

    def _is_lock_current(self) -> bool:
        try:
            status = os.stat(self.lock_file, follow_symlinks=False)
        except OSError:
            return False
        return identity(status) == identity(os.fstat(self._lock_fd))

    def _open_lock(self) -> int:
        with refusing(self.lock_file, "cannot lock the queue: open"):
            ensure_folder(self.data_file)
            return open_beside(self.lock_file, self.data_file)

    def _open_lock_for_reading(self) -> int:
        for access in (os.O_RDWR, os.O_RDONLY):
            with suppress(OSError):
                return open_file(self.lock_file, access, one_name=True)
        return -1

    # -- looking at the file -------------------------------------------------------------------

    def _look_again(self) -> OpenTable:
        """Lock and open what the paths lead to: they, or the folder, may have been replaced."""
        look = self._watch.look()
        self._take_current_lock(fcntl.LOCK_EX)
        file = self._file
        if file is None or not file.writable or not file.is_current():
            file = self._open(writable=True)
        self._watch.trust(look)
        return file

    def _look_for_reading(self) -> None:
        self._take_lock(fcntl.LOCK_SH)
        file = self._file
        if file is None or self._lock_fd < 0 or not self._watch.is_unchanged():
            file = self._look_again_for_reading()
            if file is None:
                return
        size = self._end_for_readers(file.size())
        if size < self.size:
            self._new_generation()
        self.size = size

    def _look_again_for_reading(self) -> OpenTable | None:
        """Lock and open for reading what the paths lead to; None when there is no table."""
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

    def _mend(self) -> None:
        """See to what others have left at the end of the file. For `MendedFile` to say how."""

    def _end_for_readers(self, size: int) -> int:
        """Return up to where readers should read a file of this size."""
        return size

    def _check_header(self, *, mend: bool) -> None:
        """Raise `TableError` for a file that is not a table."""

    def _open(self, *, writable: bool) -> OpenTable:
        """Open the table as it is now, whoever wrote it; for writing, make it when missing."""
        if writable and not self._exists():
            self._create()
        with refusing(self.data_file, f"cannot {'write to' if writable else 'read'} the queue"):
            try:
                opened = OpenTable(self._path, writable=writable)
            except (ForeignFile, SecondName) as fault:
                if not (writable and self._renew(fault)):
                    raise
                opened = OpenTable(self._path, writable=writable)
            while not opened.is_current():
                opened = OpenTable(self._path, writable=writable)
        if self._file is None or self._file.identity != opened.identity:
            self._new_generation()
            self.size = 0
        self._file = opened
        return opened

    def _renew(self, fault: OSError) -> bool:
        """Give the table another file, if that mends the fault. For `Table` to say how."""
        return False

    def _exists(self) -> bool:
        try:
            os.stat(self._path, follow_symlinks=False)
        except FileNotFoundError:
            return False
        except OSError as error:  # a folder without permission is not an empty queue
            raise refused(error, f"cannot see the queue {self.data_file}") from error
        return True

    def _create(self) -> None:
        with refusing(self.data_file, "cannot make the queue"):
            with Folder(self.data_dir) as folder, suppress(FileExistsError):
                create(new_table(folder, self.data_file, HEADER))
            # Also when it was made meanwhile, by a program that takes no lock.
            sync_folder(self.data_dir)
            prepare(self.data_file)
            # The folders above may be new, too: one is on disk when the folder it is in is synced.
            for above in self.data_dir.parents:
                with suppress(PermissionError):  # so nothing in it was made by us
                    sync_folder(above)

    def _new_generation(self) -> None:
        self.generation += 1
        self._clean_to = UNKNOWN

    @property
    def _fd(self) -> int:
        if self._file is None:
            raise TableError(f"{self.data_file}: there is no such file")
        return self._file.fd

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


_tables: Final[weakref.WeakSet[LockedFile]] = weakref.WeakSet()
_LOCKING: Final = frozenset(
    cast(Any, function).__code__
    for function in (
        LockedFile.acquire,
        LockedFile.release,
        cast(Any, LockedFile.reading).__wrapped__,
        cast(Any, LockedFile.writing).__wrapped__,
    )
)


def may_hold_a_lock(frame: FrameType | None) -> bool:
    """Say whether this thread, interrupted by a signal in `frame`, holds or is taking a table.

    An exception that the signal raises must not break into that: one that came between taking a
    lock and noting it would leave it taken for good. True also when it is another thread.
    """
    try:
        if any(table._depth for table in _tables):
            return True
    except RuntimeError:  # another thread makes one just now
        return True
    while frame is not None and frame.f_code not in _LOCKING:
        frame = frame.f_back
    return frame is not None
