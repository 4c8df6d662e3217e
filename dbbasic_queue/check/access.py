"""What a config needs of the file system, and whether the worker's user has it.

All of it is asked in a process of that user, which tries nothing out: access(2) tells. Each file is
approached folder by folder, and through each symbolic link, as the kernel does. So the answer names
the folder that is shut, however far it is from the path in the config.
"""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from ..config.sections import Config
from ..support.account import Account
from ..support.child import ChildDied, ChildTimeout, call
from ..support.files import family
from .finding import Problem, fault, warning

MOST_LINKS: Final = 40  # that the kernel follows on one path, path_resolution(7)


def access_problems(config: Config, account: Account, timeout: float) -> list[Problem]:
    """Return what keeps the user `account` from reading or writing what the config names.

    Args:
        config: whose files and folders are looked at.
        account: the worker's user; anyone but root can only ask for itself.
        timeout: seconds that the looking may take; a network file system may never answer.
    """
    try:
        found = call(lambda: list(_problems(config, account.name)), timeout, user=account)
    except ChildTimeout:
        return [fault("", f"the files that the config names did not answer within {timeout:g} s")]
    except ChildDied as error:
        return [fault("", f"the process that looked at the files as {account.name} {error}")]
    unique: dict[str, Problem] = {}
    for problem in found:  # a folder that several keys name is told once, for the first of them
        unique.setdefault(problem.what, problem)
    return list(unique.values())


def _problems(config: Config, name: str) -> Iterator[Problem]:
    """All problems, in a process of the user `name`; one question that fails stops no other."""
    for where, ask in _questions(config, name):
        try:
            yield from ask()
        except OSError as error:
            yield fault(where, f"{error.filename} cannot be looked at: {error.strerror}")


def _questions(config: Config, name: str) -> Iterator[tuple[str, Callable[[], Iterator[Problem]]]]:
    worker, log, health = config.worker, config.log, config.health
    yield "", lambda: _config_file(config.path, name)
    yield "[queue].file", lambda: _writable_folder("[queue].file", config.queue.file.parent, name)
    yield "[queue].file", lambda: _queue_files(config.queue.file, name)
    yield "[worker].directory", lambda: _directory(config, name)
    yield "[worker].python", lambda: _interpreter(Path(worker.python), name)
    if file := worker.environment_file:
        yield "[worker].environment_file", lambda: _environment_file(file, name)
    if log:
        yield "[log].file", lambda: _writable_folder("[log].file", log.file.parent, name)
        yield "[log].file", lambda: _writable_file("[log].file", log.file, name)
    if health and (textfile := health.textfile):
        where = "[health].textfile"
        yield where, lambda: _writable_folder(where, textfile.parent, name)


def _config_file(file: Path, name: str) -> Iterator[Problem]:
    if said := obstacle(file) or _unreadable(file):
        yield fault("", f"{name} cannot read {file}: {said}")


def _queue_files(table: Path, name: str) -> Iterator[Problem]:
    """Ask for the table and what lies beside it: a file that root made shuts the user out."""
    for file in family(Path(os.path.realpath(table))):
        yield from _writable_file("[queue].file", file, name)


def _directory(config: Config, name: str) -> Iterator[Problem]:
    folder = config.directory
    where = "[worker].directory" if config.worker.directory else ""
    if said := obstacle(folder):
        yield fault(where, f"{name} cannot work in {folder}: {said}")
    elif not folder.is_dir():
        yield fault(where, f"{folder} is not a directory")
    elif not os.access(folder, os.X_OK):
        yield fault(where, f"{name} cannot enter {folder}")


def _interpreter(python: Path, name: str) -> Iterator[Problem]:
    where = "[worker].python"
    if said := obstacle(python):
        yield fault(where, f"{name} cannot run {python}: {said}")
    elif not (python.is_file() and os.access(python, os.X_OK)):
        yield fault(where, f"{name} cannot run {python}: it is not an executable file")


def _environment_file(file: Path, name: str) -> Iterator[Problem]:
    if said := obstacle(file) or _unreadable(file):
        said = f"{name} cannot read {file}: {said}; systemd reads it as root, cron cannot"
        missing = not os.path.lexists(file) and os.access(file.parent, os.X_OK)
        yield (fault if missing else warning)("[worker].environment_file", said)


def _unreadable(file: Path) -> str | None:
    return None if os.access(file, os.R_OK) else "permission denied"


def _writable_file(where: str, file: Path, name: str) -> Iterator[Problem]:
    """Ask for a file that may be missing, but not belong to another user alone."""
    if not os.path.lexists(file):
        return
    if said := obstacle(file):
        yield fault(where, f"{name} cannot write {file}: {said}")
    elif not file.is_file():
        yield fault(where, f"{file} is not a regular file")
    elif not os.access(file, os.R_OK | os.W_OK):
        said = f"{name} has no permission to read and write {file}"
        yield fault(where, f"{said}: chown {name} {shlex.quote(str(file))}")


def _writable_folder(where: str, folder: Path, name: str) -> Iterator[Problem]:
    """Ask for a folder in which the user will create files."""
    word = shlex.quote(str(folder))
    create = f"install -d -o {name} {word}"
    if os.path.lexists(folder):
        if said := obstacle(folder):
            yield fault(where, f"{name} cannot write in {folder}: {said}")
        elif not folder.is_dir():
            yield fault(where, f"{folder} is not a directory")
        elif not os.access(folder, os.W_OK | os.X_OK):
            yield fault(where, f"{name} has no write permission in {folder}: chown {name} {word}")
        return
    parent = next(each for each in folder.parents if os.path.lexists(each))
    if said := obstacle(parent):
        yield fault(where, f"cannot create {folder}: {said}")
    elif not parent.is_dir():
        yield fault(where, f"cannot create {folder}: {parent} is not a directory")
    elif not os.access(parent, os.X_OK):
        yield fault(where, f"{name} cannot enter {parent}")
    elif os.access(parent, os.W_OK):
        yield warning(
            where, f"{folder} does not exist; create it before systemd needs it: {create}"
        )
    else:
        yield fault(where, f"{folder} does not exist, and {name} cannot create it: {create}")


def obstacle(path: Path) -> str | None:
    """Say what stops this process on its way to the absolute `path`, or that it does not exist.

    None if the path leads to something; whether that may be read or written is not asked. The
    walk is the kernel's, path_resolution(7).

    >>> obstacle(Path("/etc/no/such"))
    '/etc/no does not exist'
    """
    place = Path("/")
    ahead = list(reversed(path.parts[1:]))
    links = 0
    while ahead:
        part = ahead.pop()
        if not os.access(place, os.X_OK):
            return f"cannot enter {place}"
        step = place.parent if part == ".." else place / part
        try:
            mode = os.lstat(step).st_mode
        except FileNotFoundError:
            return f"{step} does not exist"
        if stat.S_ISLNK(mode):
            links += 1
            if links > MOST_LINKS:
                return f"{path} leads through too many symbolic links"
            target = Path(os.readlink(step))
            if target.is_absolute():
                place = Path("/")
            ahead += reversed(target.parts[1 if target.is_absolute() else 0 :])
        elif ahead and not stat.S_ISDIR(mode):
            return f"{step} is not a directory"
        else:
            place = step
    return None
