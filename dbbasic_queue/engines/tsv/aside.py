"""Where lines go that say nothing: into `queue.torn`, so that nothing is ever deleted."""

from __future__ import annotations

import os

from ...support.files import refusing, write_all
from ...table.rights import open_beside
from ...table.table import Table


def set_aside(table: Table, lines: bytes) -> None:
    """Add these lines to `queue.torn`; they are on disk then. Raises `StorageError`."""
    path = table.sibling("torn")
    with refusing(path, "cannot write"):
        fd = open_beside(path, table.data_file)
        try:
            write_all(fd, lines)
            os.fsync(fd)
        finally:
            os.close(fd)
