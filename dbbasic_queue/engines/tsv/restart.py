"""The word to workers to end between two jobs, for new code: `queue.restart`, and who has heard it.

Theory of operation
-------------------
A worker reads the file when it begins, and ends when the file says something else: no clock is
compared, and a file that is deleted or spoiled does no harm but to have workers begin anew. All who
may add jobs may write it, as those who deploy are often not the worker's user.

A worker also holds a shared lock on a byte of `queue.claims` that stands for what it has read. So
the kernel knows whether a worker is left that began before.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from pathlib import Path
from typing import Final

from ...errors import StorageError
from ...support.opening import Folder, open_file, user_name
from ...table.rights import advice, open_beside
from . import claims

NOTE: Final = "Workers that began before this was written end between two jobs (dbq restart).\n"
LARGEST: Final = 4096  # bytes that are read
BYTES: Final = 1 << 60  # the bytes of the claims from here on, and as many, stand for texts


def read(path: Path) -> str:
    """Return the last word to workers; empty if there was none. Raises `StorageError`."""
    try:
        fd = open_file(path, os.O_RDONLY)
    except (FileNotFoundError, NotADirectoryError):  # told where it is made
        return ""
    except OSError as error:
        raise StorageError(error.errno or errno.EIO, f"{path}: {error.strerror}") from error
    try:
        return os.read(fd, LARGEST).decode("utf-8", "replace")
    except OSError as error:
        raise StorageError(error.errno or errno.EIO, f"{path}: {error.strerror}") from error
    finally:
        os.close(fd)


def ask(path: Path, table: Path) -> str:
    """Give the word to workers; returns the text of it. Raises `StorageError`."""
    moment = time.strftime("%Y-%m-%d %H:%M:%S %z")
    text = f"{NOTE}{moment} {user_name(os.geteuid())} {os.urandom(4).hex()}\n"
    try:
        fd = open_beside(path, table)
        try:
            os.ftruncate(fd, 0)
            os.write(fd, text.encode())
        finally:
            os.close(fd)
    except PermissionError as error:
        said = f"{path}: {error.strerror}"
        with contextlib.suppress(OSError), Folder(path.parent) as folder:
            said = advice(folder, table, "restart")
        raise StorageError(errno.EACCES, said) from None
    except OSError as error:
        raise StorageError(error.errno or errno.EIO, f"{path}: {error.strerror}") from error
    return text


def byte_of(text: str) -> int:
    """The byte of the claims that a worker which has read this holds."""
    return BYTES | claims.byte_of(text.encode("utf-8", "surrogateescape")) & (BYTES - 1)
