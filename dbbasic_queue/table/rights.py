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
else: who can open the lock or the claims, if only for reading, can hold up all others.

`take_over` is root's part of an upgrade: in version 2.0.0 the folder was writable by the group,
and the table belonged to the user who had compacted it last.
"""

from __future__ import annotations

import errno
import os
import shlex
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from ..support import acl
from ..support.opening import ROOT, SAFE, Folder, user_name
from .line import HEADER

OF_THE_GROUP: Final = ("tsv", "lock", "torn", "wake")
GROUP_MODE: Final = 0o660
OWNER_MODE: Final = 0o640
FOLDER_MODE: Final = 0o2750

# How a file of root's begins that is one of the queue's, and not one that was moved to its place.
_BEGINNINGS: Final = {
    "tsv": HEADER[:-1],
    "lock": b"append ",
    "wake": None,  # empty
    "claims": b"Locks of running jobs",
    "recurring": b"# The last slot",
}


def require_owner(table: Path) -> None:
    """Raise `PermissionError` unless this process may make files in the folder of `table`.

    The message has the command to run instead.
    """
    with Folder(table.parent) as folder:
        if not folder.is_mine:
            raise PermissionError(errno.EACCES, advice(folder, table))


def advice(folder: Folder, table: Path) -> str:
    """Say whose folder it is, and which command makes the files as that user."""
    whose = f"the folder {folder.path} belongs to {user_name(folder.owner)}"
    if folder.owner == ROOT:
        me = user_name(os.geteuid())
        return f"{whose}; as root, give it to the worker's user: chown {me} {_word(folder.path)}"
    return f"{whose}, who makes the queue's files: {as_owner(folder, table)}"


def as_owner(folder: Folder, table: Path, command: str = "fsck --repair") -> str:
    """Return the command line that runs `dbq` as the worker's user.

    >>> with Folder("/") as top: as_owner(top, Path("/queue.tsv"))
    'sudo -u root dbq fsck --repair --file /queue.tsv'
    """
    return f"sudo -u {user_name(folder.owner)} dbq {command} --file {_word(table)}"


def _word(path: Path) -> str:
    return shlex.quote(str(path))


def ensure_folder(table: Path) -> None:
    """Make the folder of a queue, and those above it, where they are missing. Raises `OSError`.

    As root only below folders of root's: what root makes in another user's belongs there to nobody.
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
    flags = os.O_RDWR | os.O_APPEND
    ending = path.suffix[1:]
    # A stranger chooses what is set aside; and root may write where a stranger has linked it to.
    one_name = ending == "torn" or os.geteuid() == ROOT
    with Folder(path.parent) as folder:
        with suppress(FileNotFoundError):
            return folder.open(path.name, flags, one_name=one_name)
        if not folder.is_mine:
            raise PermissionError(errno.EACCES, advice(folder, table))
        try:
            return folder.make(path.name, flags, _mode_beside(folder, ending, table))
        except FileExistsError:  # made by another process just now
            return folder.open(path.name, flags, one_name=one_name)


def _mode_beside(folder: Folder, ending: str, table: Path) -> int | None:
    if folder.is_shared:
        return GROUP_MODE if ending in OF_THE_GROUP else OWNER_MODE
    try:
        status = os.stat(table.name, dir_fd=folder.fd, follow_symlinks=False)
    except FileNotFoundError:
        return None
    return status.st_mode & 0o666


def prepare(table: Path) -> None:
    """Make the files that a group's producers need, where a group shares the folder.

    Called by the worker's user, for the table and at each start. Raises `OSError`.
    """
    with Folder(table.parent) as folder:
        if folder.is_shared and os.geteuid() == folder.owner:
            for name in _names(table, OF_THE_GROUP[1:]):
                _see_to(folder, name)


def _see_to(folder: Folder, name: str) -> None:
    """Make the file unless it is there; it is the group's then."""
    try:
        status = os.stat(name, dir_fd=folder.fd, follow_symlinks=False)
    except FileNotFoundError:
        with suppress(FileExistsError):  # made by another process of the worker's
            os.close(folder.make(name, os.O_RDWR, GROUP_MODE))
        return
    if status.st_uid == os.geteuid() and stat.S_IMODE(status.st_mode) != GROUP_MODE:
        fd = folder.open(name, os.O_RDONLY)
        try:
            os.fchmod(fd, GROUP_MODE)
        finally:
            os.close(fd)


def own_new_table(folder: Folder, fd: int) -> None:
    """Give a new table, still empty, its rights: the group's, and readable by the readers."""
    if folder.is_shared:
        acl.set_rights(fd, GROUP_MODE, acl.readers(folder.fd))


def _names(table: Path, endings: tuple[str, ...]) -> Iterator[str]:
    return (f"{table.stem}.{ending}" for ending in endings)


# -- root's part of an upgrade ---------------------------------------------------------------------


def take_over(table: Path, uid: int, gid: int, is_member: Callable[[int], bool]) -> list[str]:
    """Make the folder of `table` the worker's alone, and all files in it that are a queue's.

    Every change is made in place, by descriptor: locks that are held, and open files, stay what
    they are. No job is touched, so that workers and producers may go on meanwhile.

    Args:
        table: the queue's file; its folder is there, the file need not be.
        uid: the worker's user.
        gid: the group that shares the queue.
        is_member: whether a user may have made files of this queue.

    Returns a sentence for each file that is not as it should be and was left as it is. Raises
    `OSError` when the folder itself cannot be taken over.
    """
    with Folder(table.parent.parent) as above:
        flags = os.O_RDONLY | os.O_DIRECTORY | SAFE
        top = os.open(table.parent.name, flags, dir_fd=above.fd)
    try:
        owner = os.fstat(top).st_uid
        if owner not in (uid, ROOT):
            return [f"{table.parent} belongs to {user_name(owner)}, and was left as it is"]
        named = acl.readers(top)
        acl.drop(top, acl.DEFAULT)
        # From here on no producer can put another file in the place of one that is looked at; and
        # where a link may be made to any file (Linux without protected_hardlinks), the worker's
        # user cannot either.
        os.fchown(top, uid if _links_are_guarded() else ROOT, gid)
        acl.set_rights(top, FOLDER_MODE, named, acl.ENTER)
        left = list(_take_files(top, table, uid, gid, is_member, named))
        os.fchown(top, uid, gid)
        os.fchmod(top, FOLDER_MODE)
        os.fsync(top)
        return left
    finally:
        os.close(top)


def _take_files(
    top: int,
    table: Path,
    uid: int,
    gid: int,
    is_member: Callable[[int], bool],
    named: list[acl.Named],
) -> Iterator[str]:
    for name in os.listdir(top):
        stem, _, ending = name.rpartition(".")
        if stem != table.stem or ending not in {*OF_THE_GROUP, *_BEGINNINGS}:
            continue
        fault = _take_file(
            top, name, uid, gid, is_member, named if ending == OF_THE_GROUP[0] else []
        )
        if fault:
            yield f"{table.parent / name} {fault}, and was left as it is"
    for name in _names(table, OF_THE_GROUP):
        with suppress(FileExistsError):
            fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | SAFE, 0o600, dir_fd=top)
            try:
                if name.endswith(OF_THE_GROUP[0]):
                    os.write(fd, HEADER)
                    acl.set_rights(fd, GROUP_MODE, named)
                    os.fsync(fd)
                os.fchmod(fd, GROUP_MODE)
                os.fchown(fd, uid, gid)
            finally:
                os.close(fd)


def _take_file(
    top: int,
    name: str,
    uid: int,
    gid: int,
    is_member: Callable[[int], bool],
    named: list[acl.Named],
) -> str | None:
    """Take one file over; return why not."""
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
        if status.st_uid == ROOT and not _is_ours(fd, ending, status.st_size):
            return "belongs to root and is not a file of a queue"
        if status.st_uid not in (uid, ROOT) and not is_member(status.st_uid):
            return f"belongs to {user_name(status.st_uid)}"
        os.fchown(fd, uid, gid)
        acl.set_rights(fd, GROUP_MODE if ending in OF_THE_GROUP else OWNER_MODE, named)
        return None
    finally:
        os.close(fd)


def _is_ours(fd: int, ending: str, size: int) -> bool:
    """Whether a file of root's looks like the queue's: it could have been moved here."""
    if size == 0:
        return True
    start = _BEGINNINGS.get(ending)
    return bool(start) and os.pread(fd, len(start or b""), 0) == start


def _links_are_guarded() -> bool:
    """Whether only those can link a file who may write it (proc(5), protected_hardlinks)."""
    try:
        return Path("/proc/sys/fs/protected_hardlinks").read_text().strip() == "1"
    except OSError:
        return False
