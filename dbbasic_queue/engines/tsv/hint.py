"""`queue.hint`: where in the table the first job stands that has not ended.

Theory of operation
-------------------
A worker that starts would read all of the table before its first job, most of it finished. So the
worker before it notes in its end where the first job stood that had not ended. The next one begins
to read there, and looks at what stands before in pieces between its first turns (waiting.py), until
it has seen that nothing there is to be done; if something is, it reads all of the table after all.

So a wrong hint costs time and order, never a job. It is for one file: a table that was written anew
has another inode. It is not synced, and one that is missing, torn or a link is not believed.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from typing import Final

from ...support.files import refusing, sync_folder
from ...support.opening import open_file
from ...table.rights import open_beside
from ...table.table import Table
from .aside import set_aside

LEAST: Final = 4 << 20  # bytes that there are to be passed over; it is not worth it for less
NOTE: Final = (
    b"# Where the first job stands that has not ended: inode of the table, and offset in it.\n"
    b"# Workers write it, and begin to read there; it may be deleted.\n"
)
_LINE: Final = re.compile(rb" *(\d{1,20}) +(\d{1,18})\n")


def read(table: Table) -> int:
    """Return where to begin to read the table; 0 where all of it is to be read."""
    path = table.sibling("hint")
    try:
        fd = open_file(path, os.O_RDONLY, one_name=True)
    except OSError:  # also what is not a file of ours
        return 0
    try:
        text = os.pread(fd, 512, 0)
    finally:
        os.close(fd)
    found = _LINE.fullmatch(text.removeprefix(NOTE)) if text.startswith(NOTE) else None
    if found is None:
        return 0
    inode, start = map(int, found.groups())
    file, size = table.snapshot()
    if file is None or inode != file.identity[1] or not LEAST <= start <= size:
        return 0
    # Where the rest is most of the table, to read that first gains nothing.
    is_line = os.pread(file.fd, 1, start - 1) == b"\n"
    return start if is_line and start > size // 2 else 0


def bad_lines(table: Table) -> list[tuple[int, str]]:
    """Return the number of each line that says nothing, from 1, and why. Raises `StorageError`."""
    why = "says nothing, so that all of the table is read: it is not an inode and an offset"
    return [
        (at, why)
        for at, line in enumerate(_whole(table).split(b"\n"), 1)
        if line.strip() and not line.startswith(b"#") and not _LINE.fullmatch(line + b"\n")
    ]


def mend(table: Table) -> None:
    """Move what is not a hint into `queue.torn`; a worker writes another. For the owner only.

    Raises `StorageError`.
    """
    path = table.sibling("hint")
    with table.writing(), refusing(path, "cannot mend"):
        set_aside(table, _whole(table).rstrip(b"\n") + b"\n")
        path.unlink()
        sync_folder(path.parent)


def _whole(table: Table) -> bytes:
    with refusing(table.sibling("hint"), "cannot read"):
        try:
            fd = open_file(table.sibling("hint"), os.O_RDONLY)
        except (FileNotFoundError, NotADirectoryError):
            return b""
        try:
            return os.pread(fd, 1 << 16, 0)
        finally:
            os.close(fd)


def write(table: Table, start: int) -> None:
    """Note where the next worker is to begin, unless it does so nearly there anyway."""
    file, _ = table.snapshot()
    if file is None or start < LEAST or abs(start - read(table)) < LEAST // 4:
        return
    with suppress(OSError):  # the next worker reads all of the table
        fd = open_beside(table.sibling("hint"), table.data_file)
        try:
            os.ftruncate(fd, 0)
            os.write(fd, b"%b%20d %18d\n" % (NOTE, file.identity[1], start))
        finally:
            os.close(fd)
