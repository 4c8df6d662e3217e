"""Root hands a queue's folder to the worker's user: what a package does when it is installed.

Not a command of its own on `$PATH`: the scripts of the packages run it as
`python -m dbbasic_queue take-over CONFIG`.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ..engines.tsv.takeover import Heir, take_over
from ..errors import ConfigError
from ..install.log_owner import give_log
from ..install.site import SYSTEM_STATE
from ..support.account import Account
from ..support.opening import open_file
from .common import reason

if TYPE_CHECKING:
    from ..config.sections import Config

USAGE: Final = """\
usage: python -m dbbasic_queue take-over CONFIG

As root: make the folder of the package's queue, the files in it and the log the worker's, in
place. Nothing is stopped, no job is changed. CONFIG says who the worker's user is; a queue
outside of /var/lib/dbbasic-queue is left alone.

example:
  python -m dbbasic_queue take-over /etc/dbbasic-queue/dbq.toml

exit status: 0 if all is as it should be; 1 if files were left as they are, each of which is
named on standard error; 2 if it could not be done"""

LONGEST: Final = 1 << 20  # bytes of a config
LOG: Final = Path("/var/log/dbbasic-queue/main.log")
USER: Final = "_dbbasic-queue"  # the package's


def main(arguments: Sequence[str]) -> int:
    """Hand over what the config names; returns the exit code."""
    if len(arguments) != 1 or arguments[0].startswith("-"):
        print(USAGE, file=sys.stdout if arguments[:1] == ["--help"] else sys.stderr)
        return 0 if arguments[:1] == ["--help"] else 2
    if os.geteuid() != 0:
        return _say("only root can give files to another user", 2)
    try:
        left = hand_over(_load(Path(arguments[0])))
    except (OSError, LookupError) as error:
        return _say(reason(error), 2)
    for sentence in left:
        _say(sentence, 1)
    return 1 if left else 0


def hand_over(config: Config | None) -> list[str]:
    """Hand the folder and the files of the package's queue, and its log, to the worker's user.

    Args:
        config: who that is; None for the package's own user.

    Returns a sentence for each file that was left as it is. Raises `OSError`, `LookupError`.
    """
    table, name = SYSTEM_STATE / "main" / "queue.tsv", USER
    if config is not None:
        if config.queue.file is None or SYSTEM_STATE not in config.queue.file.parents:
            return []
        table, name = config.queue.file, config.worker.user or USER
    account = Account.find(name)
    if account is None or account.uid == 0:
        account = Account.find(USER)
    if account is None:
        raise LookupError(f"there is no user {USER!r} on this machine")
    gid = os.stat(table.parent).st_gid
    heir = Heir(account.uid, gid, lambda uid: _is_member(uid, gid))
    left = take_over(table, heir)
    log = config.log.file if config is not None and config.log is not None else LOG
    if log.parent == LOG.parent and log.parent.is_dir():
        left += give_log(log, account)
    return left


def _is_member(uid: int, gid: int) -> bool:
    import pwd

    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        return False
    return gid in os.getgrouplist(entry.pw_name, entry.pw_gid)


def _load(path: Path) -> Config | None:
    """The config; None for one that is missing, has faults, or that others than root may write."""
    from ..config.sections import parse

    try:
        fd = open_file(path, os.O_RDONLY)
        with open(fd, encoding="utf-8") as stream:
            status = os.fstat(fd)
            if status.st_uid != 0 or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                _say(f"{path} is not root's alone, so it was not asked who the worker's user is", 1)
                return None
            return parse(stream.read(LONGEST), path)
    except (OSError, ValueError, ConfigError):
        return None


def _say(message: str, code: int) -> int:
    print(f"dbq: {message}", file=sys.stderr)
    return code
