"""Waiting for a lock that another process holds: not for ever, and it is told which one.

flock(2) itself waits for as long as it takes, and any process that can open the lock file can keep
it. So the lock is asked for again and again, at first in quick succession, as a change takes some
ten microseconds.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from ..errors import StorageError

WAIT: Final = 10.0  # seconds; a program may set another time
FIRST: Final = 0.00002  # seconds between two attempts,
LONGEST: Final = 0.002  # which becomes longer up to that
READING: Final = 1.0  # seconds of processor time that the list of locks is read
LOCKS: Final = "/proc/locks"


def take_lock(
    fd: int, operation: int, path: Path, seconds: float = WAIT, what: str = "the queue"
) -> None:
    """Take an flock(2) that was held a moment ago.

    Args:
        fd: the open lock file.
        operation: `LOCK_EX` or `LOCK_SH`.
        path: of the lock file, for the message.
        seconds: to wait at most.
        what: is locked, for the message.

    Raises `StorageError` that names the holder after that time, `OSError`.
    """
    until = time.monotonic() + seconds
    pause = FIRST
    while True:
        try:
            fcntl.flock(fd, operation | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= until:
                raise StorageError(errno.EAGAIN, held(fd, path, seconds, what)) from None
        time.sleep(pause)
        pause = min(pause * 1.5, LONGEST)


def share_lock(fd: int, patience: float) -> tuple[bool, float]:
    """Take an flock(2) as a reader that would rather go without it than wait long.

    Args:
        fd: the open lock file.
        patience: seconds to wait at most.

    Returns whether it is taken, and the patience that is left, for the next time.
    Raises `OSError`.
    """
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return True, patience
        except BlockingIOError:
            if patience <= 0:
                return False, patience
        patience -= 0.001
        time.sleep(0.001)


def held(fd: int, path: Path, seconds: float, what: str = "the queue") -> str:
    """Say who has held the lock of an open file for so long.

    >>> held(0, Path("/q/queue.lock"), 10)
    'the queue is locked: another process has held /q/queue.lock for 10 s'
    """
    with suppress(OSError):
        return said(min(_holders(os.fstat(fd)), default=0), path, seconds, what)
    return said(0, path, seconds, what)


def said(holder: int, path: Path, seconds: float, what: str = "the queue") -> str:
    """Say that a process, 0 for one that is not known, has held a lock file for so long."""
    who = f"process {holder}{_program(holder)}" if holder > 0 else "another process"
    return f"{what} is locked: {who} has held {path} for {seconds:g} s"


def kept(path: Path, seconds: float) -> str:
    """Say which process holds the lock of a file all the time for so long; "" if none does.

    For a user who has no permission to open the file. Returns at once when no process holds it.
    """
    until = time.monotonic() + seconds
    holders: set[int] | None = None
    with suppress(OSError):
        while True:
            now = _holders(os.stat(path, follow_symlinks=False))
            holders = now if holders is None else holders & now
            if not holders or time.monotonic() >= until:
                break
            time.sleep(0.05)
    return said(min(holders), path, seconds) if holders else ""


def _holders(status: os.stat_result) -> set[int]:
    """The processes that hold an flock(2) on a file, as far as the kernel tells.

    In /proc/locks (proc(5)), which every user may read. A process of another pid namespace is 0
    there; on some file systems the numbers are others than those of stat(2). Raises `OSError`.
    """
    device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    words = lock_lines(LOCKS, time.thread_time() + READING)
    # 1: FLOCK ADVISORY WRITE 1234 fe:00:2146433 0 EOF; one that is waited for has "->".
    return {int(each[4]) for each in words if each[1] == "FLOCK" and each[5] == device}


def lock_lines(locks: str, ends: float) -> Iterator[list[str]]:
    """Yield the words of each line of the kernel's list of locks.

    Any user can make it long, by locks on a file of its own: to read one of a million lines takes
    the kernel minutes. Raises `TimeoutError` when it has not ended at `ends` of `time.thread_time`,
    which a busy machine does not hasten, and `OSError`.
    """
    with open(locks) as lines:
        for line in lines:
            if time.thread_time() >= ends:
                raise TimeoutError(errno.ETIMEDOUT, f"{locks} is too long")
            yield line.split()


def _program(process: int) -> str:
    with suppress(OSError, UnicodeDecodeError):
        name = Path(f"/proc/{process}/comm").read_text().strip()
        if name.isprintable():
            return f" ({name})"
    return ""
