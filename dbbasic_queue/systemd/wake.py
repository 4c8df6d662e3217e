"""The wake file: `enqueue` touches it where it exists, and a path unit starts the worker on that.

It belongs to the worker's user, who marks each start on it. Every user with write permission for
the queue has it for this file as well.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from ..errors import InstallError
from ..support.account import user_entry
from ..support.files import refusing

_WRITE = 0o222
_NEW = 0o660


def wake_fault(wake: Path, queue: Path, user: str) -> str | None:
    """What is wrong with the wake file, in a sentence, or None.

    Args:
        wake: the file.
        queue: the queue beside it; it need not exist yet.
        user: the worker's.
    """
    with refusing(wake, "cannot look at the wake file", InstallError):
        status = _lstat(wake)
        wanted = _lstat(queue)
        if status is None:
            return f"{wake}: is missing, so enqueue cannot start the worker"
        if not stat.S_ISREG(status.st_mode):
            return f"{wake}: is not a regular file"
        if status.st_uid != user_entry(user, InstallError).pw_uid:
            return f"{wake}: does not belong to {user}"
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
    with refusing(wake, "cannot make the wake file", InstallError):
        account = user_entry(user, InstallError)
        like = _lstat(queue)
        folder = wake.parent.stat()
        group = folder.st_gid if folder.st_mode & stat.S_ISGID else account.pw_gid
        mode = _NEW
        if like is not None:
            group, mode = like.st_gid, like.st_mode & 0o666 | stat.S_IWUSR | stat.S_IRUSR
        wake.unlink(missing_ok=True)
        # The folder may be another user's: never follow a link, never take over a file.
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        handle = os.open(wake, flags, 0o600)
        try:
            os.fchown(handle, account.pw_uid, group)
            os.fchmod(handle, mode)
        finally:
            os.close(handle)


def drop_wake(wake: Path) -> None:
    """Take the wake file away. What is not plainly one, such as a file with text, stays."""
    with refusing(wake, "cannot remove the wake file", InstallError):
        status = _lstat(wake)
        if status is None or wake.suffix != ".wake":
            return
        if stat.S_ISREG(status.st_mode) and status.st_size == 0:
            wake.unlink()


def _lstat(path: Path) -> os.stat_result | None:
    try:
        return path.lstat()
    except FileNotFoundError:
        return None
