"""A user of this machine, and doing something as that user."""

from __future__ import annotations

import json
import os
import pwd
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Account:
    """A user, with all groups, as passwd(5) and group(5) have them."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    home: Path

    @classmethod
    def find(cls, name: str | None) -> Account | None:
        """The user of this name, or whose process this is; None if there is none such."""
        try:
            entry = pwd.getpwuid(os.geteuid()) if name is None else pwd.getpwnam(name)
        except KeyError:
            return None
        groups = os.getgrouplist(entry.pw_name, entry.pw_gid)
        return cls(entry.pw_name, entry.pw_uid, entry.pw_gid, tuple(groups), Path(entry.pw_dir))

    @property
    def is_me(self) -> bool:
        """Whether this process runs as that user already."""
        return self.uid == os.geteuid() == os.getuid()


def as_user(account: Account, ask: Callable[[], Any]) -> Any:
    """Return what `ask`, called in a process of that user, returns; it must be possible as JSON.

    Only root may ask as somebody else; the process gives up root for good before it asks.
    Raises `PermissionError` for anybody else, and `ChildProcessError` if the process dies.
    """
    if account.is_me:
        return ask()
    if os.geteuid() != 0:
        raise PermissionError(f"only root may become {account.name}")
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        _answer(account, ask, write_end)
    os.close(write_end)
    with open(read_end, "rb") as stream:
        answer = stream.read()
    _, status = os.waitpid(child, 0)
    if status != 0:
        raise ChildProcessError(f"the process that asked as {account.name} died ({status})")
    return json.loads(answer)


def _answer(account: Account, ask: Callable[[], Any], write_end: int) -> None:
    """The whole life of the child: it never returns into the caller's program."""
    code = 1
    try:
        os.setgroups(account.groups)
        os.setresgid(account.gid, account.gid, account.gid)
        os.setresuid(account.uid, account.uid, account.uid)
        with open(write_end, "wb") as stream:
            stream.write(json.dumps(ask()).encode())
        code = 0
    finally:
        os._exit(code)
