"""A user of this machine."""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple


def user_entry(name: str, error: Callable[[str], Exception] = LookupError) -> pwd.struct_passwd:
    """Return what passwd(5) says of a user.

    Raises what `error` makes of the message where this machine has no such user.

    >>> user_entry("root").pw_uid
    0
    """
    try:
        return pwd.getpwnam(name)
    except KeyError:
        raise error(no_user(name)) from None


def no_user(name: str) -> str:
    """Return the sentence that every message has about a user who is not there."""
    return f"there is no user {name!r} on this machine"


class Account(NamedTuple):  # not a dataclass: those are slow to import, for a worker of root's
    """A user with all groups, as passwd(5) and group(5) have them."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    home: Path

    @classmethod
    def find(cls, name: str | None) -> Account | None:
        """Return the user of this name, or None if this machine has no such user.

        For the name None it is the user that this process runs as. Where the user database does not
        know that user's number, as in a container, the number is the name.

        >>> Account.find("root").uid
        0
        """
        try:
            entry = pwd.getpwuid(os.geteuid()) if name is None else pwd.getpwnam(name)
        except KeyError:
            if name is not None:
                return None
            home = Path(os.environ.get("HOME") or "/")
            uid, gid = os.geteuid(), os.getegid()
            return cls(str(uid), uid, gid, tuple(os.getgroups()), home)
        groups = os.getgrouplist(entry.pw_name, entry.pw_gid)
        return cls(entry.pw_name, entry.pw_uid, entry.pw_gid, tuple(groups), Path(entry.pw_dir))

    @property
    def is_me(self) -> bool:
        """Whether this process runs as that user already."""
        return self.uid == os.geteuid() == os.getuid()
