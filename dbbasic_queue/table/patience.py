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
LOCKS: Final = "/proc/locks"


def take_lock(fd: int, operation: int, path: Path, seconds: float) -> None:
    """Take an flock(2) that was held a moment ago.

    Args:
        fd: the open lock file.
        operation: `LOCK_EX` or `LOCK_SH`.
        path: of the lock file, for the message.
        seconds: to wait at most.

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
                raise StorageError(errno.EAGAIN, held(fd, path, seconds)) from None
        time.sleep(pause)
        pause = min(pause * 1.5, LONGEST)


def held(fd: int, path: Path, seconds: float) -> str:
    """Say who has held the lock of an open file for so long.

    >>> held(0, Path("/q/queue.lock"), 10)
    'the queue is locked: another process has held /q/queue.lock for 10 s'
    """
    holder = next(_holders(fd), "another process")
    return f"the queue is locked: {holder} has held {path} for {seconds:g} s"


def _holders(fd: int) -> Iterator[str]:
    """Name the processes that hold an flock(2) on an open file, as far as the kernel tells.

    In /proc/locks (proc(5)), which every user may read. A process of another pid namespace is 0
    there; on some file systems the numbers are others than those of stat(2).
    """
    status = os.fstat(fd)
    device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    with suppress(OSError), open(LOCKS) as lines:
        for line in lines:
            words = line.split()
            if words[1:2] == ["FLOCK"] and words[5] == device and int(words[4]) > 0:
                yield f"process {words[4]}{_program(words[4])}"


def _program(process: str) -> str:
    with suppress(OSError, UnicodeDecodeError):
        name = Path(f"/proc/{process}/comm").read_text().strip()
        if name.isprintable():
            return f" ({name})"
    return ""
