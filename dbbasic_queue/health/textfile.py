"""A file for node_exporter's textfile collector: there whole, or as it was before."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from ..errors import StorageError
from ..support.files import write_all

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
    temporary = path.with_name(f".{path.name}.{os.urandom(6).hex()}.tmp")
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            write_all(fd, text.encode())
            os.fchmod(fd, MODE)
        finally:
            os.close(fd)
        os.rename(temporary, path)
    except OSError as error:
        raise StorageError(error.errno, f"cannot write {path}: {error.strerror}") from error
    finally:
        with suppress(OSError):
            os.unlink(temporary)
