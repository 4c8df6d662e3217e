"""The last slot of each recurring job, kept in a small file beside the queue.

Theory of operation
-------------------
The queue forgets: once a slot's job is done and pruned, its id may be used again. So what has been
enqueued is remembered here, one line a recurring job:

    SLOT <tab> CONFIG <tab> NAME <tab> SCHEDULE [<tab> BEFORE]

SLOT in Unix seconds, SCHEDULE as cron's five fields: a mark of another schedule says nothing about
this one's slots. BEFORE is the slot of the mark before, for when the clock turns out to have been
ahead. Lines of other configs on the same queue are kept as they are.

A change locks the file (flock(2)), reads it, and renames a whole new one over it, synced before and
after; so a reader sees the old marks or the new ones. A process that waited for the lock of the
replaced file notices that it no longer bears the name, and starts again. The lock is held while the
job is enqueued: of two processes at once the second waits, and then sees the mark of the first. It
waits ten seconds, as any process that can read the file can keep its lock.

The file is the worker's, as all that no producer needs to write. It is opened as
`support/opening.py` does it, so nothing that another user puts in its place is followed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from ..errors import TableError
from ..support.files import NewFile, refusing, replace
from ..support.opening import ROOT, Folder, user_name
from ..support.patience import WAIT, take_lock

HEADING = "# The last slot of each recurring job; kept by: dbq enqueue-recurring\n"
LARGEST = 1 << 20  # bytes of the file; a hundred are enough for a job
SHARED_MODE = 0o640  # in a folder that a group shares, where this file is the worker's
# Not compiled here: a config is loaded each minute, and most need no mark.
_LINE = r"([0-9]{1,11})\t([a-z0-9-]{1,32})\t([a-z0-9-]{1,32})\t([^\t]+)(?:\t([0-9]{1,11}))?"


class Mark(NamedTuple):
    """The slot (Unix seconds) up to which a recurring job is done, and by which schedule.

    `before` is the slot of the mark before this one, if there was one.
    """

    slot: int
    schedule: str
    before: int | None = None


_Line = tuple[int, str, "re.Match[str] | None"]  # its number from 1; None: it is not a mark
AllMarks = dict[tuple[str, str], Mark]  # by config and name


class Marks(NamedTuple):
    """All marks of one queue, while their file is locked."""

    path: Path
    all: AllMarks
    folder: Folder

    def save(self) -> None:
        """Replace the file, whole or not at all. Raises `StorageError`."""
        lines = (
            f"{mark.slot}\t{config}\t{name}\t{mark.schedule}"
            + (f"\t{mark.before}\n" if mark.before is not None else "\n")
            for (config, name), mark in sorted(self.all.items())
        )
        text = (HEADING + "".join(lines)).encode("utf-8", "surrogateescape")
        with refusing(self.path, "cannot write"):
            replace(NewFile(self.path, text, own=self._own))

    def _own(self, fd: int) -> None:
        """Give the new file to the folder's owner: what root enqueues keeps the worker working."""
        if os.geteuid() == ROOT:
            os.fchown(fd, self.folder.owner, self.folder.group)
        os.fchmod(fd, _mode(self.folder, self.path))


def marks_file(queue_file: Path) -> Path:
    """Return where the marks of a queue are: beside the table itself, `.recurring` for `.tsv`."""
    return Path(os.path.realpath(queue_file)).with_suffix(".recurring")


def read(path: Path) -> AllMarks:
    """Return the marks in the file `path`, none where it is missing; errors as `locked`."""
    with refusing(path, "cannot read"):
        try:
            with Folder(path.parent) as folder:
                return _read(folder, path)
        except FileNotFoundError:
            return {}


@contextlib.contextmanager
def locked(path: Path) -> Iterator[Marks]:
    """Hold the marks in the file `path`, which is made if it is missing.

    Raises `StorageError` if the system refuses, `TableError` for a line that is not a mark.
    """
    with refusing(path, "cannot lock"):
        _make_folder(path.parent)
        folder = Folder(path.parent)
    with folder:
        with refusing(path, "cannot lock"):
            fd = _lock(folder, path)
        try:
            with refusing(path, "cannot read"):
                marks = _read(folder, path)
            yield Marks(path, marks, folder)
        finally:
            os.close(fd)  # and with it the lock


def bad_lines(path: Path) -> list[tuple[int, str]]:
    """Return the number of each line that is not a mark, from 1, and why.

    Raises `StorageError`, `TableError`.
    """
    why = "not a mark of a recurring job: none is enqueued until the line is corrected or gone"
    with refusing(path, "cannot read"):
        try:
            with Folder(path.parent) as folder:
                return [(at, why) for at, _, match in _lines(folder, path) if match is None]
        except FileNotFoundError:
            return []


def mend(path: Path, set_aside: Callable[[bytes], None]) -> None:
    """Take out the lines that are not marks, which `set_aside` is given before.

    Raises `StorageError`, `TableError`.
    """
    with refusing(path, "cannot mend"), Folder(path.parent) as folder:
        fd = _lock(folder, path)
        try:
            lines = list(_lines(folder, path))
            bad = "".join(f"{line}\n" for _, line, match in lines if match is None)
            set_aside(bad.encode("utf-8", "surrogateescape"))
            Marks(path, _marks(lines), folder).save()
        finally:
            os.close(fd)


def _read(folder: Folder, path: Path) -> AllMarks:
    lines = list(_lines(folder, path))
    for number, _, match in lines:
        if match is None:
            raise TableError(
                f"{path}:{number}: not a mark of a recurring job; correct or delete the line"
            )
    return _marks(lines)


def _marks(lines: list[_Line]) -> AllMarks:
    marks = {}
    for _, _, match in lines:
        if match is not None:
            before = int(match[5]) if match[5] else None
            marks[match[2], match[3]] = Mark(int(match[1]), match[4], before)
    return marks


def _lines(folder: Folder, path: Path) -> Iterator[_Line]:
    """The lines that should be marks."""
    with open(folder.open(path.name, os.O_RDONLY), "rb") as stream:
        data = stream.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise TableError(f"{path}: larger than {LARGEST} bytes; move it out of the way")
    for number, line in enumerate(data.decode("utf-8", "surrogateescape").split("\n"), start=1):
        if line.strip() and not line.startswith("#"):
            yield number, line, re.fullmatch(_LINE, line.removesuffix("\r"))


def _lock(folder: Folder, path: Path) -> int:
    """Open and lock the file that bears the name now."""
    if not folder.is_mine:
        whose = user_name(folder.owner)
        raise PermissionError(
            errno.EACCES, f"the folder belongs to {whose}; run this as {whose}: sudo -u {whose} ..."
        )
    while True:
        try:
            fd = folder.open(path.name, os.O_RDONLY)
        except FileNotFoundError:
            try:
                fd = folder.make(path.name, os.O_RDONLY, _mode(folder, path))
            except FileExistsError:  # made by another process just now, or a link to nowhere
                fd = folder.open(path.name, os.O_RDONLY)
        try:
            take_lock(fd, fcntl.LOCK_EX, path, WAIT, "the record of recurring jobs")
            named = os.stat(path.name, dir_fd=folder.fd, follow_symlinks=False)
            if os.path.samestat(os.fstat(fd), named):
                return fd
        except FileNotFoundError:
            pass  # replaced and removed meanwhile: take the next
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)


def _mode(folder: Folder, path: Path) -> int:
    """The mode of the file: the table's, but for folders that a group shares."""
    if folder.is_shared:
        return SHARED_MODE
    try:
        table = os.stat(path.with_suffix(".tsv").name, dir_fd=folder.fd, follow_symlinks=False)
    except FileNotFoundError:
        return 0o600
    return table.st_mode & 0o666


def _make_folder(folder: Path) -> None:
    """Make the folder of a new queue; as root not in another user's, where it would be in the way.

    Raises `OSError`.
    """
    if folder.is_dir():
        return
    above = next(each for each in folder.parents if each.is_dir())
    owner = above.stat().st_uid
    if os.geteuid() == ROOT != owner:
        whose = user_name(owner)
        raise PermissionError(
            errno.EACCES, f"{above} belongs to {whose}; make the folder {folder} as {whose}"
        )
    folder.mkdir(parents=True, exist_ok=True)
