"""An open table file, and whether it is still the one that its path leads to."""

from __future__ import annotations

import errno
import os
import stat
import threading


class OpenTable:
    """An open table file; closed when the last user lets go of it."""

    __slots__ = ("_failed", "_path", "_syncing", "fd", "identity", "writable")

    def __init__(self, path: str, *, writable: bool) -> None:
        self.fd = -1
        access = os.O_RDWR if writable else os.O_RDONLY
        self.fd = os.open(path, access | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe must not block us
        self.writable = writable
        status = os.fstat(self.fd)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file")
        self.identity = identity(status)
        self._path = path
        self._syncing = threading.Lock()
        self._failed: OSError | None = None

    def is_current(self) -> bool:
        """Whether this is the file that the path leads to now."""
        try:
            return identity(os.stat(self._path)) == self.identity
        except OSError:
            return False

    def size(self) -> int:
        """Its length in bytes."""
        return os.lseek(self.fd, 0, os.SEEK_END)

    def sync(self) -> None:
        """fdatasync(2); once it has failed, it fails for all who wrote through this descriptor.

        The kernel reports an error once to each open file, and marks what it could not write as
        written. So another thread, whose sync would succeed now, has perhaps lost its write. Who
        writes next opens the file again. Raises `OSError`.
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


def identity(status: os.stat_result) -> tuple[int, int]:
    """What tells a file from any other on this machine."""
    return status.st_dev, status.st_ino
