"""The table's file under its lock: opened, and still the one that its path leads to.

Theory of operation
-------------------
A writer holds an exclusive flock(2) on `queue.lock` (the protocol of dbbasic-tsv) and first looks
whether the table is still the file it knows: another inode means that another process wrote it
anew. `generation` counts that, and whatever else shortens the table. An offset, and what a search
has found, is worth something only within its generation.

Lock and table are opened in one folder, which is held open meanwhile, so that a path whose folders
are links that are set anew never leads to the lock of one table and to another table.

A process has one lock a table, whichever and however many objects use it: `FileLock`. Its threads
take turns by a mutex. A signal handler or a finalizer may break into a thread that holds the lock,
and want it, too. It can wait for nothing, as the thread goes on only after it. So it is let in to
add a job, which all that the thread may be doing can stand, unless the table is `busy`; all else
it is refused.

An exception may come out of a signal handler between any two steps of Python code. So what gives
the lock back is not Python code: see `_Unlocking`.

Syncs happen outside the lock, so that those of several processes merge. A thread may sync a file
that another has just replaced: `OpenTable` stays open for as long as a thread holds it.
"""

from __future__ import annotations

import errno
import fcntl
import functools
import io
import operator
import os
import sys
import threading
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from itertools import compress
from pathlib import Path
from types import FrameType
from typing import Any, Final

from ..errors import StorageError, TableError
from ..support.files import BESIDE, create, refused, refusing, remove_leftovers, sync_folder
from ..support.opening import Folder, ForeignFile, SecondName, is_ours, set_apart
from ..support.patience import WAIT, share_lock, take_lock
from .line import HEADER
from .opened import DirectoryWatch, Look, OpenTable, disown_closed, hold, identity, identity_of
from .rights import ensure_folder, new_table, open_in, prepare, require_maker

FULL: Final = "full"
NORMAL: Final = "normal"
UNKNOWN: Final = -1
LOST: Final = -2  # the size of a file that the program has closed

_call: Final[Any] = operator.call
_EXCLUSIVE: Final = fcntl.LOCK_EX | fcntl.LOCK_NB


class _Unlocking(io.IOBase):
    """Gives the lock back at the end of a `with` block, in whatever way that is left.

    `IOBase.__exit__` is C code and calls `close`, which is C code here as well. The first step of
    an `__exit__` in Python is one that a signal handler's exception can take the place of.
    """

    close: Callable[[], Any]
    closed = False  # found faster than what `IOBase` computes

    def __init__(self) -> None:
        self.close = int  # does nothing, in C


class FileLock:
    """The lock of one table in this process.

    To hold it, in this order: `with lock.mutex, lock.unlocking, lock.inside`. The thread that is
    inside `inside` can be sure that the lock, once taken, is given back after that.
    """

    __slots__ = (
        *("mutex", "inside", "is_mine", "unlocking", "fd", "identity", "writable"),
        *("holder", "busy", "disturbed", "__weakref__"),
    )

    def __init__(self) -> None:
        self.mutex = threading.RLock()  # flock does not exclude the threads of a process
        self.inside = threading.RLock()
        # Whether this thread holds the lock, or is just about to take it or to give it back.
        self.is_mine: Callable[[], bool] = self.inside._is_owned  # type: ignore[attr-defined]
        self.unlocking = _Unlocking()
        self.fd = -1
        self.identity = (0, 0)
        self.writable = False
        self.holder = 0  # id() of the table that holds it, or held it last
        self.busy = False  # with what no other change must come amid
        self.disturbed = False  # another change came amid, since the lock was taken
        hold(self)

    def set(self, fd: int, *, writable: bool) -> None:
        """Go on with another descriptor of the lock file, or -1 for none."""
        known = (0, 0)
        close: Callable[[], Any] = int
        if fd >= 0:
            known = identity(os.fstat(fd))
            close = functools.partial(fcntl.flock, fd, fcntl.LOCK_UN)
        # Between these no signal handler and no other thread runs: there is no call in them.
        old = self.fd
        self.fd, self.identity, self.writable = fd, known, writable
        self.unlocking.close = close
        if old >= 0 and is_ours(old):
            os.close(old)

    def __del__(self) -> None:
        self.unlocking.close = int
        # While the interpreter ends, modules lose their names; the file is closed anyway.
        if os is not None and not sys.is_finalizing():
            self.set(-1, writable=False)


class _Hold(io.IOBase):
    """A `with` block under the lock, for where a microsecond does not count.

    What gives the lock back is C code here, too, and one call of it. Where `begin` is broken off
    that is the next thing called: a second exception, as of a second Ctrl-C, comes after it.
    """

    close: Callable[[], Any]
    closed = False

    def __init__(self, lock: FileLock, begin: Callable[[], None]) -> None:
        self.close = int
        self._lock = lock
        self._begin = begin

    def __enter__(self) -> _Hold:
        lock = self._lock
        # What this thread has taken of them; not the lock that another thread has, by the same
        # descriptor, if this one was broken off while it waited for the mutex.
        mine = (lock.is_mine, lock.mutex._is_owned, lock.mutex._is_owned)  # type: ignore[attr-defined]
        unlock = functools.partial(operator.methodcaller("close"), lock.unlocking)  # as it is then
        parts = (lock.inside.release, unlock, lock.mutex.release)
        taken = compress(parts, map(_call, mine))
        give_back = functools.partial(any, map(_call, taken))  # each returns None or 0
        try:
            lock.mutex.acquire()
            lock.inside.acquire()
            self._begin()
            self.close = give_back
        except BaseException:
            give_back()
            raise
        return self


_HELD: Final = nullcontext()


class LockedFile:
    """A table's file, and the lock that its writers and readers take in turn.

    Args:
        path: the table file, which need not exist; it is made by the first write.
        durability: "full" (a change is on disk when its `sync` returns) or "normal" (left to the
            kernel: survives any crash of processes, not one of the machine).
        patience: seconds that a reader waits for the lock, in all; None: for as long as it takes.
            When they are used up, the table is read without the lock, and `locked` is false.
        lock_timeout: seconds that all others wait for the lock, each time.

    Raises `ValueError` for another durability, `TableError` for the name of a file that belongs
    beside a table.
    """

    def __init__(
        self,
        path: str | Path,
        durability: str = FULL,
        *,
        patience: float | None = None,
        lock_timeout: float = WAIT,
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
        self.synced = durability == FULL  # whether `sync` does something
        self.generation = 0
        self.size = 0  # of the file, as seen when the lock was taken
        self.locked = False  # whether the lock is held, while `reading`
        self._patience = patience
        self.lock_timeout = lock_timeout
        self._id = id(self)
        self._path = str(self.data_file)  # os.stat takes a str faster than a Path
        self._forget()
        _tables.add(self)

    def sibling(self, suffix: str) -> Path:
        """Return the path of the file beside the table that ends in `.suffix`."""
        return self.data_file.with_name(f"{self.table_name}.{suffix}")

    def after_fork(self) -> None:
        """Start afresh in a forked child, which would share the parent's lock otherwise."""
        self.lock.set(-1, writable=False)
        self._forget()
        self.generation += 1

    def _forget(self) -> None:
        self.lock = _locks.get(self._path) or _locks.setdefault(self._path, FileLock())
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

    def writing(self) -> AbstractContextManager[object]:
        """Hold the table exclusively: made if missing, its end mended, its size known.

        Raises `StorageError`, also when this thread holds it already.
        """
        if self.lock.is_mine():
            raise self._held_already()
        return _Hold(self.lock, self._begin_writing)

    @property
    def folder_look(self) -> Look:
        """Where the lock is held: what its folder is like, or `NEVER`. See opened.py."""
        return self._watch.trusted

    def _begin_writing(self) -> None:
        self.acquire()
        self.lock.busy = True

    def reading(self) -> AbstractContextManager[object]:
        """Hold the table against writers; creates and changes nothing."""
        lock = self.lock
        if not lock.is_mine():
            return _Hold(lock, self._begin_reading)
        if lock.holder != id(self) or self._file is None:
            self._look_for_reading(fcntl.LOCK_UN)
        return _HELD

    def _begin_reading(self) -> None:
        self.lock.holder, self.lock.busy = id(self), False
        self._look_for_reading(fcntl.LOCK_SH)

    def acquire(self, amid: bool = False, again: bool = False) -> None:
        """Take the lock: `writing` for the paths where a microsecond counts.

        Call it in a `with` block of the three parts of `lock`; or `amid` another change of this
        thread's, to append a row to it. `again` is for a worker, see `is_unchanged_yet`.
        """
        lock = self.lock
        lock.disturbed = amid
        if not amid:
            lock.holder, lock.busy = self._id, False
        elif lock.busy or not _APPEND:
            raise self._held_already()
        self._ahead = b""
        try:
            if lock.writable:
                fcntl.flock(lock.fd, _EXCLUSIVE)
        except BlockingIOError:
            self._lock_as(fcntl.LOCK_EX)
        except OSError as error:
            if amid or self._kept() is not None:
                raise refused(error, f"cannot lock the queue: lock {self.lock_file}") from error
        except ValueError:  # below 0: another thread has just found that the program has closed it
            pass
        file, watch = self._file, self._watch
        is_unchanged = watch.is_unchanged_yet if again else watch.is_unchanged
        if not (lock.writable and file and file.writable and is_unchanged()):
            file = self._look_to_write()
        try:
            size = os.lseek(file.fd, 0, os.SEEK_END)
        except OSError:
            size = LOST
        if size != self._clean_to and not (amid or is_ours(file.fd)):
            self._kept()
            file = self._look_to_write()
            size = file.size()
        if self.synced:
            self._mine.file = file
        if size < self.size:
            self._new_generation()  # another program cut it in place
        self.size = size
        if size != self._clean_to:
            lock.busy = True
            self._mend()
            lock.busy = False

    def _kept(self) -> OpenTable | None:
        """The open table; None, to open all anew, once the program has closed it or the lock."""
        lock, file = self.lock, self._file
        if (lock.fd < 0 or is_ours(lock.fd)) and (file is None or is_ours(file.fd)):
            return file
        lock.set(-1, writable=False)
        self._file = None
        return None

    def _held_already(self) -> StorageError:
        return StorageError(
            errno.EDEADLK,
            f"the queue {self.data_file} cannot be written now: this thread is at work on it, and"
            " was broken into by a signal handler or a finalizer; do it when that has returned",
        )

    def _lock_as(self, operation: int) -> None:
        """Take the lock, whose file is open. A reader with patience may go without it."""
        if operation == fcntl.LOCK_SH and self._patience is not None:
            self.locked, self._patience = share_lock(self.lock.fd, self._patience)
            return
        fd = self.lock.fd
        try:
            try:
                fcntl.flock(fd, operation | fcntl.LOCK_NB)
            except BlockingIOError:
                if _is_held_by_alias(self.lock):
                    raise self._held_already() from None
                take_lock(fd, operation, self.lock_file, self.lock_timeout)
        except StorageError:
            raise
        except OSError as error:
            raise refused(error, f"cannot lock the queue: lock {self.lock_file}") from error
        self.locked = True

    # -- looking at the files ------------------------------------------------------------------

    def _look_for_reading(self, operation: int) -> None:
        """Look at the table as a reader; `LOCK_UN` when this thread holds the lock otherwise."""
        self.locked = False
        file = self._file if operation == fcntl.LOCK_UN else self._kept()
        if operation == fcntl.LOCK_SH and self.lock.fd >= 0:
            self._lock_as(operation)
        if file is None or self.lock.fd < 0 or not self._watch.is_unchanged():
            file = self._look_again(writable=False, operation=operation)
            if file is None:
                return
        size = self._end_for_readers(file.size())
        if size < self.size:
            self._new_generation()
        self.size = size

    def _look_to_write(self) -> OpenTable:
        file = self._look_again(writable=True)
        assert file is not None  # which is for readers
        return file

    def _look_again(self, *, writable: bool, operation: int = fcntl.LOCK_EX) -> OpenTable | None:
        """Lock and open what the paths lead to now; None for a reader when there is no table."""
        self.lock.busy = True
        disown_closed()
        look = self._watch.look()
        verb = "write to" if writable else "read"
        with refusing(self.data_file, f"cannot {verb} the queue"):
            if writable:
                ensure_folder(self.data_file)
            try:
                folder = Folder(self.data_dir)
            except FileNotFoundError:
                if writable:
                    raise
                self._file, self.size = None, 0
                return None
        with folder:
            file = self._open_current(folder, operation)
        self._watch.trust(look)
        self.lock.busy = operation == fcntl.LOCK_UN
        return file

    def _open_current(self, folder: Folder, operation: int) -> OpenTable | None:
        """Lock and open the files that bear the names in this folder."""
        writable = operation == fcntl.LOCK_EX
        if operation != fcntl.LOCK_UN:
            self._lock_current(folder, operation)
        file = self._file
        with refusing(self.data_file, f"cannot {'write to' if writable else 'read'} the queue"):
            if file is not None and file.is_current(folder) and (file.writable or not writable):
                return file
            if identity_of(folder, self.data_file.name) is None:
                if not writable:
                    self._file, self.size = None, 0
                    return None
                self._create(folder)
            elif writable:
                # One may be a second name of the table.
                remove_leftovers(folder, self.data_file.name)
            try:
                file = OpenTable(folder, self.data_file, writable=writable)
            except (ForeignFile, SecondName) as fault:
                if not (writable and self._renew(folder, fault)):
                    raise
                file = OpenTable(folder, self.data_file, writable=writable)
            while not file.is_current(folder):
                file = OpenTable(folder, self.data_file, writable=writable)
        if self._file is None or self._file.identity != file.identity:
            self._new_generation()
            self.size = 0
        self._file = file
        if not writable:
            self._check_header(mend=False)
        return file

    def _lock_current(self, folder: Folder, operation: int) -> None:
        """Take the lock of the file that bears the name: a deleted one keeps no process out."""
        lock, name = self.lock, self.lock_file.name
        writable = operation == fcntl.LOCK_EX
        while True:
            usable = lock.fd >= 0 and (lock.writable or not writable)
            if usable and identity_of(folder, name) == lock.identity:
                return
            lock.set(self._open_lock(folder, writable=writable), writable=writable)
            if lock.fd < 0:
                return
            self._lock_as(operation)

    def _open_lock(self, folder: Folder, *, writable: bool) -> int:
        """Open the lock file; -1 for a reader when there is none, or none that it may open."""
        if not writable:
            for access in (os.O_RDWR, os.O_RDONLY):
                with suppress(OSError):
                    return set_apart(folder.open(self.lock_file.name, access, one_name=True))
            return -1
        with refusing(self.data_file, "cannot write to the queue"):
            if identity_of(folder, self.data_file.name) is None:
                require_maker(folder, self.data_file)
            else:
                # Beside what is not a table, no lock is made.
                with suppress(ForeignFile, SecondName):  # which may be mended under the lock
                    OpenTable(folder, self.data_file, writable=False)
        with refusing(self.lock_file, "cannot lock the queue: open"):
            return set_apart(open_in(folder, self.lock_file.name, self.data_file))

    def _create(self, folder: Folder) -> None:
        require_maker(folder, self.data_file)
        with suppress(FileExistsError):
            create(new_table(folder, self.data_file, HEADER))
        # Also when it was made meanwhile, by a program that takes no lock.
        sync_folder(self.data_dir)
        prepare(self.data_file)
        # The folders above may be new, too: one is on disk when the folder it is in is synced.
        for above in self.data_dir.parents:
            with suppress(PermissionError):  # so nothing in it was made by us
                sync_folder(above)

    def _renew(self, folder: Folder, fault: OSError) -> bool:
        """Give the table another file, if that mends the fault. For `Table` to say how."""
        return False

    def _mend(self) -> None:
        """See to what others have left at the end of the file. For `MendedFile` to say how."""

    def _end_for_readers(self, size: int) -> int:
        """Return up to where readers should read a file of this size."""
        return size

    def _check_header(self, *, mend: bool) -> None:
        """Raise `TableError` for a file that is not a table."""

    def _new_generation(self) -> None:
        self.generation += 1
        self._clean_to = UNKNOWN

    @property
    def _fd(self) -> int:
        if self._file is None:
            raise TableError(f"{self.data_file}: there is no such file")
        return self._file.fd

    # -- durability ------------------------------------------------------------------------------

    def sync(self) -> None:
        """In "full", return when every change made so far is on disk. Call it without the lock.

        Raises `StorageError`; whether the changes are on disk is then unknown, and syncing again
        would not tell (fsync(2): the kernel reports an error once).
        """
        if self.synced:
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
                error, f"the queue {self.data_file} is perhaps not on disk: sync failed"
            ) from error


_tables: Final[weakref.WeakSet[LockedFile]] = weakref.WeakSet()
_locks: Final[weakref.WeakValueDictionary[str, FileLock]] = weakref.WeakValueDictionary()
_APPEND: Final[int] = getattr(os, "RWF_APPEND", 0)
_LOCKING: Final = (LockedFile.acquire.__code__, _Hold.__enter__.__code__)


def _is_held_by_alias(lock: FileLock) -> bool:
    """Say whether this thread holds the same lock file by another path to it."""
    return any(
        other is not lock and other.is_mine() and other.fd >= 0 and other.identity == lock.identity
        for other in list(_locks.values())
    )


def may_hold_a_lock(frame: FrameType | None) -> bool:
    """Say whether this thread, interrupted by a signal in `frame`, holds or is taking a table.

    An exception that the signal raises must not break into that: a change would be half made.
    """
    try:
        if any(lock.is_mine() for lock in _locks.values()):
            return True
    except RuntimeError:  # another thread makes one just now
        return True
    while frame is not None and frame.f_code not in _LOCKING:
        frame = frame.f_back
    return frame is not None


def _after_fork() -> None:
    tables = list(_tables)
    for table in tables:
        table.lock.set(-1, writable=False)
    _locks.clear()
    for table in tables:
        table.after_fork()


os.register_at_fork(after_in_child=_after_fork)
