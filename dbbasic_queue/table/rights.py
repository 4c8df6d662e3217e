"""Who may do what with the files of a queue, and how the files come to these rights.

Theory of operation
-------------------
The queue's folder belongs to the worker's user, and only that user makes, renames and removes files
in it. In the usual case all are one user, and the umask decides about the files' modes.

Where a group shares the queue, the folder has the set-group-ID bit (2750) and is not writable by
the group. What the group's producers have to write exists beforehand: the table, its lock, what is
set aside, and the wake file are the group's, 0660. A producer appends, changes in place and
touches; it needs no right in the folder. All other files are the worker's, 0640.

Users and groups that an access control list lets into the folder may read the table, and nothing
else: who can open the lock or the claims, if only for reading, can hold up all others. So wherever
the folder is, those that cannot write these two cannot read them either.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from ..support.files import Fill, NewFile, leftovers
from ..support.opening import (
    ROOT,
    Folder,
    ForeignFile,
    SecondName,
    for_writers,
    group_name,
    is_mounted_alone,
    mount_of,
    quoted,
    user_name,
)

OF_THE_GROUP: Final = ("tsv", "lock", "torn", "wake", "restart", "paused")
GROUP_MODE: Final = 0o660
OWNER_MODE: Final = 0o640
LOCKED: Final = ("lock", "claims")  # files whose locks others wait for


def may_make(table: Path) -> bool:
    """Whether this process may make files in the folder of `table`."""
    with Folder(table.parent) as folder:
        return folder.is_mine


def require_owner(table: Path, command: str) -> None:
    """Raise `PermissionError` unless this process may make files in the folder of `table`.

    The message has the `command` of `dbq` to run instead.
    """
    with Folder(table.parent) as folder:
        if not folder.is_mine:
            raise PermissionError(errno.EACCES, advice(folder, table, command))


def require_maker(folder: Folder, table: Path) -> None:
    """Raise `PermissionError` unless this process is the folder's owner, who makes the queue.

    Nor does root make one in another user's folder: it would decide about that user's files.
    """
    if os.geteuid() != folder.owner:
        raise PermissionError(errno.EACCES, advice(folder, table))


def require_worker(table: Path) -> None:
    """Raise `PermissionError` unless this process is the folder's owner, who runs the jobs.

    Nor does root run them in the place of another user: handlers have that user's rights only.
    """
    with Folder(table.parent) as folder:
        if os.geteuid() != folder.owner:
            raise PermissionError(errno.EACCES, advice(folder, table, "work"))


def advice(folder: Folder, table: Path, command: str = "fsck --repair") -> str:
    """Say whose folder it is, and which command to run as that user instead."""
    whose = f"the folder {folder.path} belongs to {user_name(folder.owner)}, the worker's user"
    said = f"{whose}, who alone makes files there: {as_owner(folder, table, command)}"
    if folder.owner == ROOT:
        me = user_name(os.geteuid())
        said += f"; or make {me} that user: sudo chown {me} {quoted(folder.path)}"
    return said


def as_owner(folder: Folder, table: Path, command: str = "fsck --repair") -> str:
    """Return the command line that runs `dbq` as the worker's user.

    >>> with Folder("/") as top: as_owner(top, Path("/queue.tsv"))
    'sudo -u root dbq fsck --repair --file /queue.tsv'
    """
    return f"sudo -u {user_name(folder.owner)} dbq {command} --file {quoted(table)}"


def ensure_folder(table: Path) -> None:
    """Make the folder of a queue, and those above it, where they are missing. Raises `OSError`.

    As root only below folders of root's: what root makes in another user's belongs to none there.
    """
    missing = []
    folder = table.parent
    while not os.path.lexists(folder):
        missing.append(folder)
        folder = folder.parent
    while missing:
        new = missing.pop()
        with Folder(new.parent) as above:
            if os.geteuid() == ROOT != above.owner:
                raise PermissionError(errno.EACCES, advice(above, table))
            with suppress(FileExistsError):
                os.mkdir(new.name, dir_fd=above.fd)


def open_beside(path: Path, table: Path) -> int:
    """Open a file beside the table for reading and appending; it is made where it is missing.

    Only the folder's owner makes files. Where a group shares the folder, they are the group's or
    the worker's, as is said above; elsewhere the file gets the table's mode. Raises `OSError`.
    """
    with Folder(path.parent) as folder:
        return open_in(folder, path.name, table)


def open_in(folder: Folder, name: str, table: Path) -> int:
    """Do what `open_beside` does, in a folder that is open."""
    flags = os.O_RDWR | os.O_APPEND
    ending = name.rpartition(".")[2]
    while True:
        with suppress(FileNotFoundError):
            try:
                fd = folder.open(name, flags, one_name=True, not_mine=folder.is_shared)
            except ForeignFile:
                raise
            except PermissionError:
                raise PermissionError(errno.EACCES, _who_writes(folder, name)) from None
            if ending in LOCKED and not folder.is_shared:
                _close_to_readers(fd)
            return fd
        if not folder.is_mine:
            raise PermissionError(errno.EACCES, advice(folder, table))
        with suppress(FileExistsError):  # made by another process just now
            mode = _mode_beside(folder, ending, table)
            return folder.make(name, flags, mode, writers=ending in LOCKED)


def _who_writes(folder: Folder, name: str) -> str:
    """Say to a user who can look only which users can do more."""
    status = os.stat(name, dir_fd=folder.fd, follow_symlinks=False)
    whose = user_name(status.st_uid)
    if status.st_mode & stat.S_IWGRP:
        whose = f"{whose} and the group {group_name(status.st_gid)}"
    return f"{os.strerror(errno.EACCES)}: only {whose} can write here"


def _close_to_readers(fd: int) -> None:
    """Take the file, of an earlier version perhaps, from those that could only read it."""
    mode = os.fstat(fd).st_mode & 0o666
    if mode != for_writers(mode):
        with suppress(PermissionError):  # it is another user's
            os.fchmod(fd, for_writers(mode))


def _mode_beside(folder: Folder, ending: str, table: Path) -> int | None:
    if folder.is_shared:
        return GROUP_MODE if ending in OF_THE_GROUP else OWNER_MODE
    try:
        status = os.stat(table.name, dir_fd=folder.fd, follow_symlinks=False)
    except FileNotFoundError:
        return None
    mode = status.st_mode & 0o666
    return for_writers(mode) if ending in LOCKED else mode


def prepare(table: Path) -> None:
    """Make the files that a group's producers need, where a group shares the folder.

    Called by the worker's user, for the table and at each start. Raises `OSError`.
    """
    with Folder(table.parent) as folder:
        if folder.is_shared and os.geteuid() == folder.owner:
            for name in names(table, OF_THE_GROUP[1:]):
                _see_to(folder, name)


def _see_to(folder: Folder, name: str) -> None:
    """Make the file unless it is there; it is the group's then."""
    try:
        status = os.stat(name, dir_fd=folder.fd, follow_symlinks=False)
    except FileNotFoundError:
        with suppress(FileExistsError):  # made by another process of the worker's
            os.close(folder.make(name, os.O_RDWR, GROUP_MODE))
        return
    wrong = stat.S_IMODE(status.st_mode) != GROUP_MODE
    if wrong and stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid():
        fd = folder.open(name, os.O_RDONLY, one_name=True)
        try:
            os.fchmod(fd, GROUP_MODE)
        finally:
            os.close(fd)


def open_table(folder: Folder, table: Path, *, writable: bool) -> int:
    """Return a descriptor of the table, which has one name and one folder only.

    A table that can be reached by two ways has two locks and two sets of claims: its jobs would run
    twice, and acknowledged ones be lost. To read it does no harm, and one that is being made has
    two names for a moment. Raises `OSError`, of it `SecondName` and `ForeignFile`.
    """
    flags = os.O_RDWR if writable else os.O_RDONLY
    fd = folder.open(table.name, flags, not_mine=writable and folder.is_shared)
    try:
        names = _names_of(folder, table, fd)
        if writable and names > 1:
            raise SecondName(
                errno.EMLINK,
                f"it has {names} names (hard links), so more than one lock; find them with"
                f" find {quoted(mount_of(table.parent))} -xdev -samefile {quoted(table)}, and"
                f" give this one a file of its own: {as_owner(folder, table)}",
            )
        if writable and is_mounted_alone(folder.fd, fd):
            raise SecondName(
                errno.EMLINK,
                "it is mounted by itself, so there is more than one lock; mount its folder",
            )
        return fd
    except BaseException:
        os.close(fd)
        raise


def _names_of(folder: Folder, table: Path, fd: int) -> int:
    """How many names a table has, but for the temporary ones that it has while it is made."""
    status = os.fstat(fd)
    if status.st_nlink == 1:
        return 1
    names = status.st_nlink
    for name in leftovers(folder, table.name):
        with suppress(FileNotFoundError):
            found = os.stat(name, dir_fd=folder.fd, follow_symlinks=False)
            names -= os.path.samestat(found, status)
    return min(names, os.fstat(fd).st_nlink)


def new_table(folder: Folder, table: Path, content: bytes | Fill) -> NewFile:
    """Describe a new file for a table: of the folder's owner, and readable by the readers.

    Raises `PermissionError` unless this process may make it.
    """
    if not folder.is_mine:
        raise PermissionError(errno.EACCES, advice(folder, table))
    return NewFile(table, content, mode=None, own=lambda fd: _own(folder, fd))


def new_beside(folder: Folder, path: Path, content: bytes, table: Path) -> NewFile:
    """Describe a new file beside a table, of the folder's owner, with the mode of such a file."""

    def own(fd: int) -> None:
        if os.geteuid() == ROOT != folder.owner:
            os.fchown(fd, folder.owner, folder.group)
        mode = _mode_beside(folder, path.name.rpartition(".")[2], table)
        if mode is not None:
            os.fchmod(fd, mode)

    return NewFile(path, content, mode=None, own=own)


def _own(folder: Folder, fd: int) -> None:
    if os.geteuid() == ROOT != folder.owner:
        os.fchown(fd, folder.owner, folder.group)
    if folder.is_shared:
        from ..support import acl  # here, as most folders are one user's

        acl.set_rights(fd, GROUP_MODE, acl.readers(folder.fd))


def names(table: Path, endings: tuple[str, ...]) -> Iterator[str]:
    """The names of files beside a table, by their endings."""
    return (f"{table.stem}.{ending}" for ending in endings)
