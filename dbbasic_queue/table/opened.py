"""An open table, and whether its folder still is as it was.

Theory of operation
-------------------
Whatever makes, renames or deletes a file changes the ctime of its folder, which cannot be set, so
while that is the same all names lead to the same files. One stat(2) of the folder tells. It is
faster than to ask each file, and it leaves the files alone: to stat a file makes Linux (since 6.13,
multigrain timestamps) record a new time at the next write to it, and fdatasync(2) write the inode
as well, 45 microseconds on a disk that syncs in 100.

One table has one name: under a second one it would have a second lock and a second set of claims.
So a writer refuses a file with two links, and one that is mounted by itself.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import weakref
from pathlib import Path
from typing import Final, Protocol

from ..support.opening import Folder, is_ours
from .rights import open_table

TICK: Final = 20_000_000  # nanoseconds; a clock tick, by which Linux dates files, is 10 ms at most
SECOND: Final = 1_000_000_000

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
        self.fd = open_table(folder, table, writable=writable)
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
            holder.fd = -1


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
