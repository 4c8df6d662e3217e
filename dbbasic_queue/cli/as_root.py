"""What a command does that root runs: it becomes the worker's user.

Root has power over files that the worker's user has not, and handlers are the application's code.
So a command that root runs on the queue of a config becomes `[worker].user`, with all its groups,
or, where no user is named, the owner of the queue's folder. `dbq work` also takes
`[worker].python` and the variables, as the scheduled entries do. The config decides about all of
that, so it is taken only from root or that user, and only if no other user can write it or put
another in its place.

Without such a user, handlers run as root only where everything that decides what they do is root's
alone: the queue, the config, the folder of the handlers. That is so in a container.
"""

from __future__ import annotations

import importlib
import os
import pwd
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

from .. import engines
from ..config.whose import require_own, require_owner
from ..errors import ConfigError
from ..support.account import Account, no_user
from ..support.files import family
from ..support.opening import ROOT, Folder

if TYPE_CHECKING:
    from ..config.sections import Config

_OURS: Final = __name__.partition(".")[0]
# What commands import when they need it: the interpreter may be one that only root can read.
LATE: Final = (
    *("difflib", "grp", "hashlib", "subprocess"),
    *("encodings.utf_8_sig", "encodings.unicode_escape"),  # the latter for text of strangers
    *("heapq", "pickle", "select", "shlex", "shutil", f"{_OURS}.support.child"),
    *(f"{_OURS}.cli.look", f"{_OURS}.engines.tsv.portions"),
    *(f"{_OURS}.cli.types", f"{_OURS}.engines.tsv.edit", f"{_OURS}.engines.tsv.fsck"),
    *(f"{_OURS}.engines.tsv.engine", f"{_OURS}.engines.tsv.snapshot"),
    *(f"{_OURS}.engines.tsv.moving", f"{_OURS}.engines.tsv.lanes", f"{_OURS}.engines.answers"),
    *(f"{_OURS}.worker.settings", f"{_OURS}.worker.switches", f"{_OURS}.support.notices"),
    f"{_OURS}.engines.awaiting",
    *(f"{_OURS}.schedule.clock", f"{_OURS}.schedule.recurring"),
    *(f"{_OURS}.config.url_file", f"{_OURS}.cli.slots", f"{_OURS}.support.acl"),
    *(f"{_OURS}.worker.places", f"{_OURS}.worker.renewal", f"{_OURS}.health.notify"),
)
# What of root's own environment a worker gets that root starts; the rest comes from the config.
KEPT: Final = ("LANG", "LANGUAGE", "TERM", "TZ", "NO_COLOR", "COLUMNS", "LINES")


def worker_of(config: Config) -> Account | None:
    """Return the user that the worker of this config runs as; None for root, or if none is named.

    Raises `ConfigError` for a user that this machine does not know, and for a config that root
    cannot rely on.
    """
    name = config.worker.user
    account = None if name is None else Account.find(name)
    if name is not None and account is None:
        raise ConfigError(f"{config.path}: [worker].user: {no_user(name)}")
    if account is None or account.uid == ROOT:
        return None
    require_own(config.path, "the config", account)
    return account


def owner_of(table: Path) -> Account | None:
    """Return the user that root becomes for a queue: the owner of its folder; None for root.

    Also None for a folder that is not there, or that root would not enter: what then happens to
    the queue says why.
    """
    try:
        with Folder(table.parent) as folder:
            uid, gid = folder.owner, folder.group
    except OSError:
        return None
    if uid == ROOT:
        return None
    try:
        return Account.find(pwd.getpwuid(uid).pw_name)
    except KeyError:  # in a container
        return Account(str(uid), uid, gid, (gid,), Path("/"))


def prepare(*, server: bool) -> None:
    """Import what commands import late, with `server` what asks the server of a queue as well."""
    for module in LATE:
        importlib.import_module(module)
    if server:
        engines.prepare()


def become(account: Account, *, starts_programs: bool = False, server: bool = False) -> None:
    """Become this user for the rest of this process.

    A command that starts programs as that user, such as an editor, gets a terminal of its own; one
    with `server` asks the server of a queue.
    """
    prepare(server=server)
    if starts_programs:
        from .own_terminal import enter

        enter()
    drop(account)
    os.environ.update(HOME=str(account.home), USER=account.name, LOGNAME=account.name)


def drop(account: Account) -> None:
    """Give root up for good."""
    os.setgroups(account.groups)
    os.setresgid(account.gid, account.gid, account.gid)
    os.setresuid(account.uid, account.uid, account.uid)


def work_as_worker(
    config: Config, account: Account, arguments: Sequence[str], verb: str = "work"
) -> NoReturn:
    """Become the worker's user and `[worker].python`, which runs `dbq work` with these arguments.

    Or another `verb` that starts a worker.

    Raises `ConfigError` for an environment_file that root cannot rely on, `OSError` when there is
    no such program.
    """
    from ..config.environment_file import read_environment_file
    from ..install.entries import command
    from .own_terminal import enter

    variables = {
        name: value
        for name, value in os.environ.items()
        if name in KEPT or name.startswith(("LC_", "DBQ_"))
    }
    variables.update(
        HOME=str(account.home), USER=account.name, LOGNAME=account.name, SHELL="/bin/sh"
    )
    variables.update(config.environment_variables)
    file = config.worker.environment_file
    if file is not None:
        require_own(file, "[worker].environment_file", account)
        variables.update(read_environment_file(file))
    words = command(config.worker.python, verb, "--config", str(config.path), *arguments)
    enter()
    drop(account)
    os.execve(words[0], words, variables)


def require_roots_alone(config: Config | None, table: Path | None, handlers: Path) -> None:
    """Raise `ConfigError` unless what decides about the handlers is root's alone.

    Args:
        config: the config, if there is one.
        table: the queue's file; neither it nor its folder has to be there. None: a server keeps
            the jobs, and who may add some is for its passwords to say.
        handlers: the folder that the handlers are imported from.
    """
    try:
        if config is not None:
            require_own(config.path, "the config", None)
        if table is not None:
            _require_roots_table(table)
        with Folder(handlers) as opened:
            require_owner(os.fstat(opened.fd), handlers, "handlers", (ROOT,), "root")
    except (ConfigError, OSError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(
            f"work: handlers do not run as root here; name their user in [worker].user of a config,"
            f" or run this as that user ({why})"
        ) from None


def _require_roots_table(table: Path) -> None:
    folder = table.absolute().parent
    while not folder.exists():
        folder = folder.parent
    with Folder(folder) as opened:
        require_owner(os.fstat(opened.fd), folder, "jobs", (ROOT,), "root")
    for file in family(table):
        if file.exists():
            require_own(file, "jobs", None)
