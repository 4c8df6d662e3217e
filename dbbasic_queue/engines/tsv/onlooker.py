"""A table for somebody who may only look, and who neither waits for others nor lets them wait."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ...errors import StorageError, TableError
from ...table.handle import OpenTable
from ...table.scan import PIECE, is_torn
from ...table.table import NORMAL, Store

PATIENCE: Final = 0.1  # seconds to wait for the table's lock, in all
LONGEST_LINE: Final = 16 << 20  # bytes; the longest of ours have two megabytes


def require_readable(path: Path) -> None:
    """Raise `StorageError` or `TableError` that says plainly why there is nothing to read."""
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise TableError(f"{path} is not a regular file, so not a queue")
        os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
        for pause in (0.01, 0.02, 0.04, 0.08):  # a program without locks may be writing it anew
            if status.st_size:
                return
            time.sleep(pause)
            status = os.stat(path)
    except FileNotFoundError as error:
        raise missing(path) from error
    except OSError as error:
        raise StorageError(error.errno, f"cannot read the queue {path}: {error.strerror}") from None
    if not status.st_size:
        raise TableError(
            f"{path} is empty, without even a queue's header: if jobs were in it, they are lost"
        )


def missing(path: Path) -> StorageError:
    """The error for a queue that is not there."""
    return StorageError(errno.ENOENT, f"there is no queue {path}")


class Onlooker(Store):
    """A table whose lock is waited for politely, and not for long."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, NORMAL)
        self.locked = False  # whether the lock is held, while `reading`
        self._patience = PATIENCE

    def _take_lock(self, operation: int) -> None:
        # Base: waits for as long as it takes.
        if self._lock_fd < 0:
            self._lock_fd = self._open_lock_for_reading()
        self.locked = self._lock_fd >= 0 and self._try_lock()

    def _try_lock(self) -> bool:
        while True:
            try:
                fcntl.flock(self._lock_fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return True
            except BlockingIOError:
                if self._patience <= 0:
                    return False
            self._patience -= 0.001
            time.sleep(0.001)


def whole_lines(file: OpenTable, end: int) -> Iterator[tuple[int, bytes]]:
    """(offset, whole lines) of an open table up to `end` (bytes), about 1 MiB at a time, no lock.

    A torn last line is left out. Raises `TableError` for a line that is longer than memory should
    hold.
    """
    at, length = 0, PIECE
    while at < end:
        piece = os.pread(file.fd, min(length, end - at), at)
        cut = piece.rfind(b"\n") + 1
        if cut:
            yield at, piece[:cut]
            at, length = at + cut, PIECE
        elif len(piece) < length or at + length == end:
            if piece and not is_torn(file.fd, piece, at):
                yield at, piece
            return
        elif length >= LONGEST_LINE:
            raise TableError(f"the line at byte {at} is longer than {length} bytes")
        else:
            length *= 2
