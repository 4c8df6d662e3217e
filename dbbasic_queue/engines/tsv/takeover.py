"""Root's part of an upgrade: a queue's folder, and what is in it, become the worker's alone.

Theory of operation
-------------------
In version 2.0.0 the folder of a package's queue was writable by its group, and the table belonged
to the user who had compacted it last, which may be the web application's. Root hands all of it to
the worker's user in place: by fchown and fchmod on descriptors of files that were looked at, so
that locks that are held, and files that are open, stay what they are.

Root must not be led meanwhile. The folder is closed to the group first, so that no producer can put
another file in the place of one that was looked at; and where a link may be made to any file (Linux
without protected_hardlinks), it is root's meanwhile, so that the worker's user cannot either.
Links, pipes, files with a second name, and files of users who cannot have made them, are left as
they are, and told of.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from ...support import acl
from ...support.opening import ROOT, SAFE, Folder, user_name
from ...table.line import HEADER
from ...table.rights import GROUP_MODE, OF_THE_GROUP, OWNER_MODE, names

FOLDER_MODE: Final = 0o2750

# How a file of root's begins that is one of the queue's, and not one that was moved to its place.
_BEGINNINGS: Final = {
    "tsv": HEADER[:-1],
    "lock": b"append ",
    "claims": b"Locks of running jobs",
    "recurring": b"# The last slot",
    "hint": b"# Where the first job",
    "history": b"# What the workers",
    "rates": b"# How far the jobs",
}


class Heir(NamedTuple):
    """The user that a folder goes to."""

    uid: int  # the worker's user
    gid: int  # the group that shares the queue
    is_member: Callable[[int], bool]  # whether a user may have made files in the folder


def take_over(table: Path, heir: Heir) -> list[str]:
    """Make the folder of `table` the worker's alone, and all files in it that are a queue's.

    No job is touched, and nothing is stopped: workers and producers go on meanwhile. What producers
    write is made where it is missing.

    Args:
        table: the queue's file; its folder is there, the file need not be.
        heir: whose it shall be.

    Returns a sentence for each file that is not as it should be and was left as it is. Raises
    `OSError` when the folder itself cannot be taken over.
    """
    top = _open_top(table.parent)
    try:
        owner = os.fstat(top).st_uid
        if not _may_have_made(owner, heir):
            return [_left(table.parent, f"belongs to {user_name(owner)}")]
        readers = acl.readers(top)
        acl.drop(top, acl.DEFAULT)
        os.fchown(top, heir.uid if _links_are_guarded() else ROOT, heir.gid)
        acl.set_rights(top, FOLDER_MODE, readers, acl.ENTER)
        left = [
            _left(table.parent / name, fault)
            for name in sorted(os.listdir(top))
            if _is_of(table, name) and (fault := _take_file(top, name, heir, readers))
        ]
        _make_missing(top, table, heir, readers)
        os.fchown(top, heir.uid, heir.gid)
        os.fchmod(top, FOLDER_MODE)  # which a change of owner takes a bit from, chown(2)
        os.fsync(top)
        return left
    finally:
        os.close(top)


def _open_top(path: Path) -> int:
    with Folder(path.parent) as above:
        return os.open(path.name, os.O_RDONLY | os.O_DIRECTORY | SAFE, dir_fd=above.fd)


def _may_have_made(uid: int, heir: Heir) -> bool:
    return uid in (heir.uid, ROOT) or heir.is_member(uid)


def _left(path: Path, fault: str) -> str:
    return f"{path} {fault}, and was left as it is"


def _is_of(table: Path, name: str) -> bool:
    stem, _, ending = name.rpartition(".")
    return stem == table.stem and ending in {*OF_THE_GROUP, *_BEGINNINGS}


def _take_file(top: int, name: str, heir: Heir, readers: list[acl.Named]) -> str | None:
    """Hand one file over; returns what is wrong with one that is not."""
    try:
        fd = os.open(name, os.O_RDONLY | SAFE, dir_fd=top)
    except OSError as error:
        return f"is not a regular file ({error.strerror})"
    try:
        status = os.fstat(fd)
        ending = name.rpartition(".")[2]
        if not stat.S_ISREG(status.st_mode):
            return "is not a regular file"
        if status.st_nlink != 1:
            return f"has {status.st_nlink} names (hard links)"
        if status.st_uid == ROOT and status.st_size and not _is_ours(fd, ending):
            return "belongs to root and is not a file of a queue"
        if not _may_have_made(status.st_uid, heir):
            return f"belongs to {user_name(status.st_uid)}"
        os.fchown(fd, heir.uid, heir.gid)
        mode = GROUP_MODE if ending in OF_THE_GROUP else OWNER_MODE
        acl.set_rights(fd, mode, readers if ending == "tsv" else [])
        return None
    finally:
        os.close(fd)


def _is_ours(fd: int, ending: str) -> bool:
    """Whether a file begins as the queue's does: one of root's could have been moved here."""
    start = _BEGINNINGS.get(ending)
    return start is not None and os.pread(fd, len(start), 0) == start


def _make_missing(top: int, table: Path, heir: Heir, readers: list[acl.Named]) -> None:
    for name in names(table, OF_THE_GROUP):
        with suppress(FileExistsError):
            fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | SAFE, 0o600, dir_fd=top)
            try:
                if name == table.name:
                    os.write(fd, HEADER)
                os.fchown(fd, heir.uid, heir.gid)
                acl.set_rights(fd, GROUP_MODE, readers if name == table.name else [])
                os.fsync(fd)
            finally:
                os.close(fd)


def _links_are_guarded() -> bool:
    """Whether only those can link a file who may write it (proc(5), protected_hardlinks)."""
    try:
        return Path("/proc/sys/fs/protected_hardlinks").read_text().strip() == "1"
    except OSError:
        return False
