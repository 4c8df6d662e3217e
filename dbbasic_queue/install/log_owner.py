"""Whose the worker's log is: the worker writes it, logrotate renames it, and both must be able to.

In a folder of root's that no one else can write (such as /var/log), logrotate works as root and
keeps the log's owner, and the log has to be there beforehand: `give_log` makes it. In a folder of
the worker's, logrotate becomes the worker's user. In any other, it refuses to rotate.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import Final

from ..support.account import Account
from ..support.opening import ROOT, SAFE, Folder, user_name

CONF: Final = Path("/etc/logrotate.conf")
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
    if is_roots(log.parent):
        return _fault_of_conf(log)
    if owner == account.uid:
        return None
    return (
        f"{log.parent}: belongs to {user_name(owner)}; logrotate can rename the log only in a "
        f"folder of {account.name}'s, or in one that only root can write"
    )


def _fault_of_conf(log: Path) -> str | None:
    """Why logrotate does not stay root in a folder of root's, or None.

    A `su` before all rules counts for those that have none of their own (logrotate.conf(5)). Ours
    cannot have `su root root` against it: logrotate would not look at the folder's rights then.
    """
    try:
        text = CONF.read_text(errors="replace")
    except OSError:
        return None
    users = re.findall(r"^[ \t]*su[ \t]+(\S+)", re.sub(r"\{[^}]*\}", "", text), re.MULTILINE)
    account = Account.find(users[-1]) if users else None
    if account is None or account.uid == ROOT:
        return None
    return (
        f"{CONF} says su {account.name} for all logs, which cannot rename one in {log.parent}, a "
        "folder of root's; take that line out, or name a folder of the worker's in [log].file"
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
