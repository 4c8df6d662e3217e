"""Which bytes of a file are locked, for a user who has no permission to open it.

Theory of operation
-------------------
A reader must not be able to open `queue.claims`: opened for reading only, it can be locked, to make
jobs look as if they ran. But the kernel tells all locks of the machine to every user, in
/proc/locks (proc(5)): the kind, the device, the inode number and the bytes of each.

A line that is there says that the byte is locked. A line that is missing says nothing by itself:
another pid namespace has other lines, and some file systems (overlayfs, btrfs) have other numbers
in /proc/locks than in stat(2). So this process takes a lock of its own, for reading, on a byte of
the table that no other program asks for, and believes what is missing only where that lock is
listed under the numbers of stat(2).

The list is not read in one piece, so a lock that is given back meanwhile may hide its neighbour.
What is missing is looked for twice.

Any user can make the list long, by locks on a file of its own. So a process reads it for a few
seconds only, and then says for a while that it cannot be known.
"""

from __future__ import annotations

import fcntl
import os
import struct
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from ...support.patience import lock_lines

LOCKS: Final = "/proc/locks"
NAMESPACE: Final = "/proc/self/ns/pid"
FIRST: Final = "pid:[4026531836]"  # PROC_PID_INIT_INO, the same in every Linux
# Beyond any table's end; the bytes of whole-file locks that reach to it are asked for by flock(2).
_OWN_BYTE: Final = (1 << 62) + 1
PATIENCE: Final = 3.0  # seconds of processor time that a process reads the list in a WINDOW
WINDOW: Final = 30.0  # seconds
_FLOCK: Final = struct.Struct("@hhqqi0q")  # struct flock, as in claims.py


def is_locked(path: Path, byte: int, table: Path) -> bool | None:
    """Say whether any process holds a lock on a byte of a file; None if it cannot be known.

    Args:
        path: the file; its folder must be open to this user.
        byte: offset of the byte.
        table: a file beside it that this user can read.
    """
    setlk = getattr(fcntl, "F_OFD_SETLK", None)
    ends = _spent.ends()
    if setlk is None or ends is None:
        return None
    try:
        file, beside = os.stat(path), os.stat(table)
        first = os.readlink(NAMESPACE) == FIRST
        fd = os.open(table, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        with suppress(OSError):  # a file system without locks: it is not listed, then
            fcntl.fcntl(fd, setlk, _FLOCK.pack(fcntl.F_RDLCK, 0, _OWN_BYTE, 1, 0))
        own = (_key(beside), _OWN_BYTE)
        seen = False
        for _ in range(2):
            for key, start, end in _listed(ends):
                if key == _key(file) and start <= byte <= end:
                    return True
                seen |= (key, start) == own
    except OSError:
        return None
    finally:
        os.close(fd)
        _spent.note(ends)
    return False if seen and first and file.st_dev == beside.st_dev else None


class _Spent:
    """How long this process has read the list in a while."""

    def __init__(self) -> None:
        self._since = -WINDOW  # time.monotonic()
        self._left = 0.0

    def ends(self) -> float | None:
        """Until when it can be read now, by `time.thread_time`; None if it is not to be."""
        now = time.monotonic()
        if now - self._since >= WINDOW:
            self._since, self._left = now, PATIENCE
        return time.thread_time() + self._left if self._left > 0 else None

    def note(self, ends: float) -> None:
        """Note that it was read, after `ends` had said until when."""
        self._left = ends - time.thread_time()


_spent: Final = _Spent()


def _key(status: os.stat_result) -> str:
    """Return how /proc/locks names a file."""
    major, minor = os.major(status.st_dev), os.minor(status.st_dev)
    return f"{major:02x}:{minor:02x}:{status.st_ino}"


def _listed(ends: float) -> Iterator[tuple[str, int, int]]:
    """Yield each lock that is held: the file, its first and its last byte."""
    for words in lock_lines(LOCKS, ends):
        # 1: OFDLCK ADVISORY WRITE -1 fe:00:2146433 7 7; one that is waited for has "->".
        if len(words) == 8 and words[1] in ("OFDLCK", "POSIX"):
            end = (1 << 63) - 1 if words[7] == "EOF" else int(words[7])
            yield words[5], int(words[6]), end
