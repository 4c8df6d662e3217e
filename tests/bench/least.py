"""The least that an enqueue and a turn can cost in Python: their system calls, unchecked.

No queue: it looks for nothing that could have gone wrong and keeps no rule. What they cost more
than this is our own Python; what this costs more than a sync alone, no queue of this design can
save on that disk.
"""

from __future__ import annotations

import fcntl
import os
import struct
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from dbbasic_queue.table.line import SECTOR, parse_line, to_job
from dbbasic_queue.table.table import AHEAD

_FLOCK = struct.Struct("@hhqqi0q")  # struct flock, fcntl(2)
_SETLK = getattr(fcntl, "F_OFD_SETLK", fcntl.F_SETLK)


def append(table: Path, lines: Iterable[bytes]) -> list[float]:
    """Add these lines, one after the other; the seconds that each took."""
    file = os.open(table, os.O_RDWR | os.O_CREAT)
    lock = os.open(table.with_suffix(".lock"), os.O_RDWR | os.O_CREAT)
    folder, clock = str(table.parent), time.perf_counter
    took = []
    for line in lines:
        start = clock()
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.stat(folder)
        os.lseek(file, 0, os.SEEK_END)
        os.lseek(lock, 0, os.SEEK_END)
        os.pwritev(file, (line,), 0, os.RWF_APPEND)
        fcntl.flock(lock, fcntl.LOCK_UN)
        took.append(clock() - start)
    os.close(file)
    os.close(lock)
    return took


def work(
    table: Path, offsets: Iterable[int], handler: Callable[[object], None], *, synced: bool
) -> None:
    """Run the jobs at these offsets, all of them pending: finish one and claim the next."""
    file = os.open(table, os.O_RDWR)
    lock = os.open(table.with_suffix(".lock"), os.O_RDWR | os.O_CREAT)
    claims = os.open(table.with_suffix(".claims"), os.O_RDWR | os.O_CREAT)
    folder = str(table.parent)
    before = -1  # the row in hand: its offset, line, tail and claim
    line, tail, claim = b"", 0, 0
    for offset in offsets:
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.stat(folder)
        os.lseek(file, 0, os.SEEK_END)
        now = int(time.time())
        start = offset - 1
        if before >= 0:
            start = before - 1
            piece = os.pread(file, len(line) + 1 + SECTOR, start)
            state = b"completed\t%d\t%d\t1\t\t" % (now, now)
            os.pwrite(file, state.ljust(len(line) - tail - 1), before + tail)
        else:
            piece = os.pread(file, AHEAD, start)
        line = piece[offset - start : piece.index(b"\n", offset - start) + 1]
        row = parse_line(line, offset)
        assert row is not None
        tail = row.tail
        last, claim = claim, int(row.id, 36) >> 22
        fcntl.fcntl(claims, _SETLK, _FLOCK.pack(fcntl.F_WRLCK, 0, claim, 1, 0))
        state = b"processing\t%d\t%d\t%d\t\t" % (row.created_at, now, row.attempts + 1)
        os.pwrite(file, state.ljust(len(line) - tail - 1), offset + tail)
        fcntl.flock(lock, fcntl.LOCK_UN)
        if before >= 0:
            fcntl.fcntl(claims, _SETLK, _FLOCK.pack(fcntl.F_UNLCK, 0, last, 1, 0))
        if synced:
            os.fdatasync(file)
        before = offset
        handler(to_job(row).payload)
    for fd in (file, lock, claims):
        os.close(fd)
