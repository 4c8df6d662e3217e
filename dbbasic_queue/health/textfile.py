"""A file for node_exporter's textfile collector: there whole, or as it was before."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from ..support.files import NewFile, refusing, replace

MODE: Final = 0o644  # the collector runs as another user


def write_textfile(path: Path, text: str) -> None:
    """Put `text` into the file at `path`, readable by all whatever the umask.

    It is written to a temporary file in the same folder, whose name does not end in `.prom` (the
    collector reads all that do), and renamed. Raises `StorageError`; the old file is there then.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "dbq.prom"
    >>> write_textfile(path, "dbq_up 1\\n")
    >>> path.read_text()
    'dbq_up 1\\n'
    """
    with refusing(path, "cannot write"):
        replace(NewFile(path, text.encode(), MODE, synced=False))
