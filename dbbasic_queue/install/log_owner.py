"""Whose the worker's log is: the worker writes it, logrotate renames it, and both must be able to.

In a folder of root's that no one else can write (such as /var/log), logrotate works as root and
keeps the log's owner, and the log has to be there beforehand: `give_log` makes it. In a folder of
the worker's, logrotate becomes the worker's user. In any other, it refuses to rotate.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from ..support.account import Account
from ..support.opening import ROOT, SAFE, Folder, user_name

_MODE = 0o640
_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def is_roots(folder: Path) -> bool:
    """Whether this folder is root's alone; False for one that is not there."""
    try:
        status = os.stat(folder)
    except OSError:
        return False
    return status.st_uid == ROOT and not status.st_mode & _OTHERS


def rotation_fault(log: Path, account: Account) -> str | None:
    """Why logrotate cannot rotate a log of this user's, or None; a missing folder is not judged."""
    try:
        owner = os.stat(log.parent).st_uid
    except OSError:
        return None
    if is_roots(log.parent) or owner == account.uid:
        return None
    return (
        f"{log.parent}: belongs to {user_name(owner)}; logrotate can rename the log only in a "
        f"folder of {account.name}'s, or in one that only root can write"
    )


def give_log(log: Path, account: Account) -> list[str]:
    """As root, make the log this user's, if its folder is root's alone; it is made if need be.

    Returns a sentence if something else stands in its place and was left. Raises `OSError`.
    """
    with Folder(log.parent) as folder:
        if folder.owner != ROOT or folder.mode & _OTHERS:
            return []
        try:
            handle = os.open(log.name, os.O_RDONLY | SAFE, dir_fd=folder.fd)
        except FileNotFoundError:
            handle = folder.make(log.name, os.O_WRONLY, _MODE)
        except OSError as error:
            return [f"{log} is not a regular file ({error.strerror}), and was left as it is"]
        try:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
                return [f"{log} is not a regular file with one name, and was left as it is"]
            if status.st_uid != account.uid:
                os.fchown(handle, account.uid, -1)
            return []
        finally:
            os.close(handle)
