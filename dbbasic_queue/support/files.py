"""Small things about files that the standard library leaves out."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

# The endings of the files that lie beside a table and belong to it: `queue.lock`, ...
BESIDE: Final = ("lock", "claims", "torn", "wake", "recurring", "idx", "meta", "tmp")


def family(table: Path) -> list[Path]:
    """Return the table and all files that may lie beside it and belong to it.

    >>> [path.name for path in family(Path("/srv/queue.tsv"))][:3]
    ['queue.tsv', 'queue.lock', 'queue.claims']
    """
    return [table, *(table.with_suffix(f".{ending}") for ending in BESIDE)]


def open_sibling(path: Path, table: Path) -> int:
    """Open a file beside the table for reading and appending, made with its owner and mode.

    So whoever may write the table may write what belongs to it, whoever came first (root, perhaps)
    and with what umask. Raises `OSError`.
    """
    flags = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC
    with suppress(FileNotFoundError):
        return os.open(path, flags)
    fd = os.open(path, flags | os.O_CREAT, 0o666)
    with suppress(FileNotFoundError):
        status = os.stat(table)
        with suppress(PermissionError):
            os.fchown(fd, status.st_uid, status.st_gid)
        with suppress(PermissionError):
            os.fchmod(fd, status.st_mode & 0o666)
    return fd


def sync_folder(path: Path) -> None:
    """Return when what was made, renamed and deleted in a folder is on disk. Raises `OSError`."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


# Bytes a write. A longer one makes the kernel (Linux, ext4 with large folios) keep the file in big
# pieces of memory: after writes of 1 MiB, each small write costs 4 microseconds instead of 1, and
# after those of 64 KiB each fdatasync 87 instead of 80.
SLICE: Final = 1 << 14


def write_all(fd: int, data: bytes) -> None:
    """Write all of `data`. Raises `OSError`; part of it may be written then."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view[:SLICE]) :]
