"""The last slot of each recurring job, kept in a small file beside the queue.

Theory of operation
-------------------
The queue forgets: once a slot's job is done and pruned, its id may be used again. So what has been
enqueued is remembered here, one line a recurring job:

    SLOT <tab> CONFIG <tab> NAME <tab> SCHEDULE

SLOT in Unix seconds, SCHEDULE as cron's five fields: a mark of another schedule says nothing about
this one's slots. Lines of other configs on the same queue are kept as they are.

A change locks the file (flock(2)), reads it, and renames a whole new one over it, synced before and
after; so a reader sees the old marks or the new ones. Whoever waited for the lock of the replaced
file notices that it no longer bears the name, and starts again. The lock is held while the job is
enqueued: of two processes at once the second waits, and then sees the mark of the first.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import TableError
from ..support.files import NewFile, own_like, refusing, replace

HEADING = "# The last slot of each recurring job; kept by: dbq enqueue-recurring\n"
_LINE = re.compile(r"([0-9]{1,11})\t([a-z0-9-]+)\t([a-z0-9-]+)\t([^\t]+)")


@dataclass(frozen=True)
class Mark:
    """The slot (Unix seconds) up to which a recurring job is done, and by which schedule."""

    slot: int
    schedule: str


AllMarks = dict[tuple[str, str], Mark]  # by config and name


@dataclass
class Marks:
    """All marks of one queue, while their file is locked."""

    path: Path
    all: AllMarks

    def save(self) -> None:
        """Replace the file, whole or not at all. Raises `StorageError`."""
        lines = (
            f"{mark.slot}\t{config}\t{name}\t{mark.schedule}\n"
            for (config, name), mark in sorted(self.all.items())
        )
        with refusing(self.path, "cannot write"):
            replace(NewFile(self.path, (HEADING + "".join(lines)).encode(), own=self._own))

    def _own(self, fd: int) -> None:
        """Give the new file the owner and mode of the table, else of the old one.

        So that what root enqueues by hand does not keep the application's user out.
        """
        table = self.path.with_suffix(".tsv")
        own_like(fd, table if table.exists() else self.path)


def marks_file(queue_file: Path) -> Path:
    """Return where the marks of a queue are: beside the table itself, `.recurring` for `.tsv`."""
    return Path(os.path.realpath(queue_file)).with_suffix(".recurring")


def read(path: Path) -> AllMarks:
    """Return the marks in the file `path`, none where it is missing; errors as `locked`."""
    with refusing(path, "cannot read"):
        try:
            text = path.read_text(encoding="utf-8", errors="surrogateescape")
        except FileNotFoundError:
            return {}
    marks = {}
    for number, line in enumerate(text.split("\n"), start=1):
        if not line or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            raise TableError(
                f"{path}:{number}: is no mark of a recurring job; correct or delete the line"
            )
        marks[match[2], match[3]] = Mark(int(match[1]), match[4])
    return marks


@contextlib.contextmanager
def locked(path: Path) -> Iterator[Marks]:
    """Hold the marks in the file `path`, which is made if it is missing.

    Raises `StorageError` if the system refuses, `TableError` for a line that is no mark.
    """
    handle = _lock(path)
    try:
        yield Marks(path, read(path))
    finally:
        os.close(handle)  # and with it the lock


def _lock(path: Path) -> int:
    """Open and lock the file that bears the name now."""
    with refusing(path, "cannot lock"):
        path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            handle = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, _mode(path))
            try:
                fcntl.flock(handle, fcntl.LOCK_EX)
                if os.path.samestat(os.fstat(handle), os.stat(path)):
                    return handle
            except FileNotFoundError:
                pass  # replaced and removed meanwhile: take the next
            except BaseException:
                os.close(handle)
                raise
            os.close(handle)


def _mode(path: Path) -> int:
    like = path.with_suffix(".tsv")
    return like.stat().st_mode & 0o666 if like.exists() else 0o666
