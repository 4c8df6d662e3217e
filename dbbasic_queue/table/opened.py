"""An open table, and whether its folder still is as it was.

Theory of operation
-------------------
Whatever makes, renames or deletes a file changes the ctime of its folder, which cannot be set, so
while that is the same all names lead to the same files. One stat(2) of the folder tells. It is
faster than to ask each file, and it leaves the files alone: to stat a file makes Linux (since 6.13,
multigrain timestamps) record a new time at the next write to it, and fdatasync(2) write the inode
as well, 45 microseconds on a disk that syncs in 100.

A worker that takes job after job looks at the folder by a descriptor, for half the price, and
follows the path twenty times a second: that its folders are links that were set anew, it may learn
so much later. What happens in the folder, and that it was renamed, it sees at each look.

One table has one name: under a second one it would have a second lock and a second set of claims.
So a writer refuses a file with two links, and one that is mounted by itself.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import weakref
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

from ..support.opening import FOLDER, Folder, is_ours, set_apart
from .rights import open_table

TICK: Final = 20_000_000  # nanoseconds; a clock tick, by which Linux dates files, is 10 ms at most
SECOND: Final = 1_000_000_000
FOLLOW_EVERY: Final = 0.05  # seconds between two times that a worker follows the path

Look = tuple[int, int]  # a directory's inode number and ctime, in nanoseconds
NEVER: Final[Look] = (0, 0)


def identity(status: os.stat_result) -> tuple[int, int]:
    """Return what tells a file from any other on this machine."""
    return status.st_dev, status.st_ino


def identity_of(folder: Folder, name: str) -> tuple[int, int] | None:
    """Return the identity of what a name in a folder leads to; None when there is nothing."""
    try:
        return identity(os.stat(name, dir_fd=folder.fd, follow_symlinks=False))
    except FileNotFoundError:
        return None


class OpenTable:
    """An open table file; closed when the last user lets go of it.

    Raises `OSError`, also for what is not a table's file: a link, a pipe, a second name.
    """

    __slots__ = ("__weakref__", "_failed", "_syncing", "fd", "identity", "name", "writable")

    def __init__(self, folder: Folder, table: Path, *, writable: bool) -> None:
        self.fd = -1
        self.fd = set_apart(open_table(folder, table, writable=writable))
        self.writable = writable
        self.name = table.name
        self.identity = identity(os.fstat(self.fd))
        self._syncing = threading.RLock()  # a signal handler may sync while we do
        self._failed: OSError | None = None
        hold(self)

    def is_current(self, folder: Folder) -> bool:
        """Say whether this is the file that the name in the folder leads to now."""
        return identity_of(folder, self.name) == self.identity

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
        # A signal may have broken off `__init__`; `os` is None while the interpreter ends.
        if (
            getattr(self, "fd", -1) >= 0
            and os is not None
            and not sys.is_finalizing()
            and is_ours(self.fd)
        ):
            os.close(self.fd)


class Held(Protocol):
    """What holds a file open: -1, or a descriptor, and the file that it led to when opened."""

    fd: int
    identity: tuple[int, int]
    writable: bool


_held: Final[weakref.WeakSet[Held]] = weakref.WeakSet()


def hold(holder: Held) -> None:
    """Let `disown_closed` know of a holder."""
    _held.add(holder)


def disown_closed() -> None:
    """Take the descriptors that the program has closed from those who hold them: they are not ours
    to close. To be called before a file is opened, which may get the number of one of them."""
    for holder in list(_held):
        try:
            lost = holder.fd >= 0 and identity(os.fstat(holder.fd)) != holder.identity
        except OSError:
            lost = True
        if lost:
            holder.fd, holder.writable = -1, False


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
        self.fd = -1  # of the directory, for `is_unchanged_yet`
        self.identity = (0, 0)
        self.writable = False
        self._follow_at = 0.0  # time.monotonic()
        hold(self)

    def __del__(self) -> None:
        if os is not None and not sys.is_finalizing():
            self._close()

    def is_unchanged(self) -> bool:
        """Say whether the path leads to the directory trusted last, with the same entries."""
        try:
            status = os.stat(self.path)
        except OSError:
            return False
        return status.st_ctime_ns == self._ctime and status.st_ino == self._inode

    def is_unchanged_yet(self) -> bool:
        """Say the same for less to a worker that asks at each job."""
        now = time.monotonic()
        if now < self._follow_at:
            try:
                status = os.fstat(self.fd)
            except OSError:  # not open, or closed by the program
                status = None
            if status and status.st_ctime_ns == self._ctime and status.st_ino == self._inode:
                return True
        if not self.is_unchanged():
            return False
        self._open()
        self._follow_at = now + FOLLOW_EVERY
        return True

    def _open(self) -> None:
        if self._is_open() and self.identity[1] == self._inode:
            return
        self._close()
        with suppress(OSError):  # a folder that cannot be opened is looked at by its path
            fd = set_apart(os.open(self.path, FOLDER))
            self.fd, self.identity = fd, identity(os.fstat(fd))

    def _close(self) -> None:
        if self._is_open():
            os.close(self.fd)
        self.fd = -1

    def _is_open(self) -> bool:
        try:
            return identity(os.fstat(self.fd)) == self.identity
        except OSError:
            return False

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

    @property
    def trusted(self) -> Look:
        """The look that is trusted: while it is the same, all names lead to the same files."""
        return self._inode, self._ctime
