"""The wake file: `enqueue` touches it where it exists, and a path unit starts the worker on that.

Any user can own it: the worker and every user with write permission for the queue have it for this
file as well. All is done relative to the open folder, so that a link in its place leads nowhere.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from ..errors import InstallError
from ..support.account import Account, no_user
from ..support.files import refusing
from ..support.opening import ROOT, Folder

_WRITE = 0o222
_NEW = 0o660


def wake_fault(wake: Path, queue: Path, user: str) -> str | None:
    """What is wrong with the wake file, in a sentence, or None.

    Args:
        wake: the file.
        queue: the queue beside it; it need not exist yet.
        user: the worker's.
    """
    account = _account(user)
    with refusing(wake, "cannot look at the wake file", InstallError), Folder(wake.parent) as top:
        status, wanted = _status(top, wake.name), _status(top, queue.name)
        if status is None:
            return f"{wake}: is missing, so enqueue cannot start the worker"
        if not stat.S_ISREG(status.st_mode):
            return f"{wake}: is not a regular file"
        if not _is_writable(status, account):
            return f"{wake}: {user} has no write permission for it"
        if wanted is None:
            return None
        lacks = wanted.st_mode & _WRITE & ~status.st_mode
        stranger = wanted.st_mode & stat.S_IWGRP and wanted.st_gid != status.st_gid
        if lacks or stranger:
            return f"{wake}: some users with write permission for {queue.name} have none for it"
    return None


def make_wake(wake: Path, queue: Path, user: str) -> None:
    """Make the wake file as it should be, in place of what is there.

    Raises `InstallError` if that is a folder, or the system refuses.
    """
    account = _account(user)
    with refusing(wake, "cannot make the wake file", InstallError), Folder(wake.parent) as top:
        like = _status(top, queue.name)
        group, mode = top.group if top.is_shared else account.gid, _NEW
        if like is not None:
            group, mode = like.st_gid, like.st_mode & 0o666 | stat.S_IWUSR | stat.S_IRUSR
        if _status(top, wake.name) is not None:
            os.unlink(wake.name, dir_fd=top.fd)
        handle = top.make(wake.name, os.O_WRONLY, 0o600)
        try:
            if os.geteuid() == ROOT:
                os.fchown(handle, account.uid, group)
            elif group in account.groups:
                os.fchown(handle, -1, group)
            os.fchmod(handle, mode)
        finally:
            os.close(handle)


def drop_wake(wake: Path) -> None:
    """Take the wake file away. What is not plainly one, such as a file with text, stays."""
    if wake.suffix != ".wake" or not wake.parent.is_dir():
        return
    with refusing(wake, "cannot remove the wake file", InstallError), Folder(wake.parent) as top:
        status = _status(top, wake.name)
        if status is not None and stat.S_ISREG(status.st_mode) and status.st_size == 0:
            os.unlink(wake.name, dir_fd=top.fd)


def _is_writable(status: os.stat_result, account: Account) -> bool:
    """Whether the user may touch a file, by its mode: owner, group, others, in this order."""
    if account.uid in (ROOT, status.st_uid):
        return account.uid == ROOT or bool(status.st_mode & stat.S_IWUSR)
    if status.st_gid in account.groups:
        return bool(status.st_mode & stat.S_IWGRP)
    return bool(status.st_mode & stat.S_IWOTH)


def _status(folder: Folder, name: str) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=folder.fd, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _account(user: str) -> Account:
    account = Account.find(user)
    if account is None:
        raise InstallError(no_user(user))
    return account
