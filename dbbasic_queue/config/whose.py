"""Whose a config is: root takes one only from root, or from the user that it will become.

As sudo, cron and ssh do. The config names programs to run: what another user can write, or put in
its place, would be run as root or as the worker's user.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

from ..errors import ConfigError
from ..support.account import Account
from ..support.opening import ROOT, Folder, group_is_only, quoted, user_name


def require_own(path: Path, what: str, account: Account | None) -> None:
    """Raise `ConfigError` unless a file is root's or this user's, and no other can change it."""
    allowed = tuple(dict.fromkeys((ROOT, ROOT if account is None else account.uid)))
    whose = " or ".join(map(user_name, allowed))
    try:
        for name in dict.fromkeys((os.path.abspath(path), os.path.realpath(path))):
            place = Path(name)
            with Folder(place.parent) as folder:
                require_owner(os.fstat(folder.fd), place.parent, what, allowed, whose)
                status = os.stat(place.name, dir_fd=folder.fd, follow_symlinks=False)
                if not stat.S_ISLNK(status.st_mode):
                    folder.check(status, place.name)
                    require_owner(status, place, what, allowed, whose)
    except OSError as error:
        raise ConfigError(f"{what} {path}: {error.strerror}") from None


def require_owner(
    status: os.stat_result, place: Path, what: str, allowed: Sequence[int], whose: str
) -> None:
    """Raise `ConfigError` unless what has this status is of these users, and no other writes it.

    Args:
        status: of the file or folder `place`.
        place: for the message.
        what: it decides about, for the message.
        allowed: the users' numbers.
        whose: the users, for the message.
    """
    word = quoted(place)
    if status.st_uid not in allowed:
        owner = user_name(status.st_uid)
        why, remedy = f"{place} belongs to {owner}", f"run this as {owner}, or: chown root {word}"
    elif stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX:
        return
    elif status.st_mode & stat.S_IWOTH:
        why, remedy = f"every user can write {place}", f"chmod o-w {word}"
    elif status.st_mode & stat.S_IWGRP and not group_is_only(status.st_gid, allowed):
        why, remedy = f"its group can write {place}", f"chmod g-w {word}"
    else:
        return
    raise ConfigError(f"root takes {what} only from {whose}, and {why}: {remedy}")
