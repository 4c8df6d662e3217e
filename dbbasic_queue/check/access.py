"""What a config needs of the file system, and whether the worker's user has it.

All of it is asked in a process of that user, and nothing is tried out: access(2) and a look at each
file tell. Each path is walked folder by folder and through each symbolic link, as the kernel does.
So the answer names the folder that is shut, however far it is from the path in the config.

The queue's files are opened as the worker opens them (support/opening.py), for reading only: a file
that is opened for writing would wake the path unit.

An advice must not take from others what they share: /var/log and the folder of node_exporter are
not given away. Where a group is let in, the user joins it; elsewhere the user gets a folder, or an
entry in the folder's access control list.
"""

from __future__ import annotations

import errno
import grp
import os
import shlex
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

from ..config.sections import Config
from ..config.url_file import read_url_file
from ..errors import ConfigError, QueueError
from ..install.log_owner import is_roots, rotation_fault
from ..install.status import unfinished_jobs
from ..support.account import Account
from ..support.child import ChildDied, ChildTimeout, call
from ..support.files import family
from ..support.opening import MOST_LINKS, Folder, is_mounted_alone, user_name
from .finding import Problem, fault, warning
from .programs import program_problems

MOST_FORMER: Final = 100  # folders beside the one that a link leads to
OF_THE_SYSTEM: Final = 3  # parts of a path that a single application does not own: /var/log


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
    if table := config.queue.file:
        yield "[queue].file", lambda: _queue_folder(config, table, name)
        yield "[queue].file", lambda: _queue_files(table, name)
        yield "[queue].file", lambda: _left_behind(table)
    yield "[worker].directory", lambda: _directory(config, name)
    yield "[commands]", lambda: program_problems(config, name)
    yield "[worker].python", lambda: _interpreter(Path(worker.python), name)
    if file := worker.environment_file:
        yield "[worker].environment_file", lambda: _environment_file(file, name)
    if url_file := config.queue.url_file:
        yield "[queue].url_file", lambda: _url_file(url_file)
    if log:
        yield "[log].file", lambda: _log(config, log.file, name)
    if health and (textfile := health.textfile):
        yield "[health].textfile", lambda: _shared_folder("[health].textfile", textfile, name)
    for writable in worker.writable:
        yield "[worker].writable", partial(_writable, writable, name)
    if report := config.report:
        yield "[report].file", lambda: _shared_folder("[report].file", report.file, name)


def _config_file(file: Path, name: str) -> Iterator[Problem]:
    if said := obstacle(file) or _unreadable(file):
        yield fault("", f"{name} cannot read {file}: {said}")


# -- the queue -------------------------------------------------------------------------------------


def _queue_folder(config: Config, table: Path, name: str) -> Iterator[Problem]:
    """Ask for the queue's folder, whose owner is the one who can run the worker."""
    where, path = "[queue].file", table.parent
    problems = list(_folder(where, path, name))
    yield from problems
    if problems or not path.is_dir():
        return
    worker = Account.find(config.worker.user)
    with Folder(path) as folder:
        owner = user_name(folder.owner)
        if worker is not None and worker.uid not in (folder.owner, 0):
            said = f"{path} belongs to {owner}, and only the owner of its folder can run a queue"
            if folder.owner == 0:
                yield fault(where, f"{said}: {_give(config, path, worker.name)}")
            else:
                own = _own_folder(config, path, worker.name)
                yield fault(where, f'{said}: set [worker].user = "{owner}", or {own}')
        elif not os.access(path, os.W_OK | os.X_OK):
            said = f"{name} has no write permission in {path}"
            mine = folder.owner == os.geteuid()
            yield fault(where, f"{said}: chmod u+rwx {shlex.quote(str(path))}" if mine else said)


def _queue_files(table: Path, name: str) -> Iterator[Problem]:
    """Ask for the table and what lies beside it: a file that root made shuts the user out."""
    try:
        folder = Folder(table.parent)
    except OSError:
        return  # told by `_queue_folder`
    with folder:
        for file in family(table):
            if said := _queue_file(folder, file, name, is_table=file == table):
                yield fault("[queue].file", said)


def _queue_file(folder: Folder, file: Path, name: str, *, is_table: bool) -> str | None:
    if is_table and file.is_symlink():
        target = os.path.realpath(file)
        return f'{file} is a symbolic link; name the file that it leads to: file = "{target}"'
    try:
        fd = folder.open(file.name, os.O_RDONLY, one_name=is_table)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno != errno.EACCES:
            return f"{file}: {error.strerror}"
    else:
        try:
            if is_table and is_mounted_alone(folder.fd, fd):
                return f"{file} is mounted by itself; mount the folder that it is in"
        finally:
            os.close(fd)
    if os.access(file, os.R_OK | os.W_OK):
        return None
    said = f"{name} has no permission to read and write {file}"
    return f"{said}: chown -h {name} {shlex.quote(str(file))}"


def _left_behind(table: Path) -> Iterator[Problem]:
    """Find jobs in the former folder of a queue whose path leads through a link.

    Deployments turn `current` from one release to the next; a queue below it starts anew then.
    """
    for link in filter(os.path.islink, table.parents):
        now = Path(os.path.realpath(link))
        try:
            siblings = sorted(now.parent.iterdir())[:MOST_FORMER]
        except OSError:  # closed to this user
            continue
        for former in siblings:
            old = former / table.relative_to(link)
            with suppress(QueueError, OSError):  # not a queue, or closed to this user
                count = unfinished_jobs(old) if former != now and old.is_file() else 0
                if count:
                    jobs = "1 job" if count == 1 else f"{count} jobs"
                    where = f"{old}, where no worker looks since {link} leads to {now}"
                    advice = f"keep the queue outside of {now.parent}"
                    yield warning("[queue].file", f"{jobs} left in {where}: {advice}")


# -- what runs -------------------------------------------------------------------------------------


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
    elif not file.is_file():
        yield fault("[worker].environment_file", f"{file} is not a regular file")


def _url_file(file: Path) -> Iterator[Problem]:
    """Ask for the file of the address, as this user would read it."""
    if said := obstacle(file):
        yield fault("[queue].url_file", f"{file}: {said}")
        return
    try:
        read_url_file(file)
    except ConfigError as error:
        yield fault("[queue].url_file", str(error))


def _unreadable(file: Path) -> str | None:
    return None if os.access(file, os.R_OK) else "permission denied"


# -- what is written beside the queue --------------------------------------------------------------


def _log(config: Config, file: Path, name: str) -> Iterator[Problem]:
    """Ask for the log, which the worker writes and logrotate moves away."""
    where, folder = "[log].file", file.parent
    problems = list(_folder(where, folder, name))
    yield from problems
    if problems or not folder.is_dir():
        return
    word = shlex.quote(str(file))
    if os.path.islink(file):
        target = os.path.realpath(file)
        said = f"{file} is a symbolic link, which logrotate passes over; name {target} itself"
        yield fault(where, said)
    elif os.path.lexists(file) and not file.is_file():
        yield fault(where, f"{file} is not a regular file")
    elif file.exists() and not os.access(file, os.R_OK | os.W_OK):
        said = f"{name} has no permission to read and write {file}"
        yield fault(where, f"{said}: chown -h {name} {word}")
    elif file.exists() or os.access(folder, os.W_OK | os.X_OK):
        worker = Account.find(config.worker.user)
        if worker and (unmovable := rotation_fault(file, worker)):
            yield warning(where, unmovable)
    elif is_roots(folder):
        said = f"{file} does not exist, and {name} cannot create it in {folder}"
        create = f"install -o {name} -m 0640 /dev/null {word}"
        yield warning(where, f"{said}; root's installation of the entries does, or: {create}")
    else:
        remedy = _join_group(folder, name) or _give(config, folder, name)
        yield fault(where, f"{name} has no write permission in {folder}: {remedy}")


def _shared_folder(where: str, file: Path, name: str) -> Iterator[Problem]:
    """Ask for the folder of a file for others, which is theirs and has to stay their own."""
    folder = file.parent
    problems = list(_folder(where, folder, name))
    yield from problems
    if not problems and folder.is_dir() and not os.access(folder, os.W_OK | os.X_OK):
        remedy = _join_group(folder, name) or f"setfacl -m u:{name}:rwx {shlex.quote(str(folder))}"
        yield fault(where, f"{name} has no write permission in {folder}: {remedy}")


def _writable(folder: Path, name: str) -> Iterator[Problem]:
    """Ask for a folder of the handlers', without which other jobs run all the same."""
    where = "[worker].writable"
    word = shlex.quote(str(folder))
    if said := obstacle(folder):
        yield warning(where, f"handlers cannot write in {folder}: {said}")
    elif not os.access(folder, os.W_OK | os.X_OK):
        allow = _join_group(folder, name) or f"setfacl -m u:{name}:rwx {word}"
        yield warning(where, f"{name} has no write permission in {folder}: {allow}")


def _folder(where: str, folder: Path, name: str) -> Iterator[Problem]:
    """Ask for a folder that exists, or that the user can create."""
    if os.path.lexists(folder):
        if said := obstacle(folder):
            yield fault(where, f"{name} cannot write in {folder}: {said}")
        elif not folder.is_dir():
            yield fault(where, f"{folder} is not a directory")
        return
    create = f"install -d -o {name} {shlex.quote(str(folder))}"
    parent = next(each for each in folder.parents if os.path.lexists(each))
    if said := obstacle(parent):
        yield fault(where, f"cannot create {folder}: {said}")
    elif not parent.is_dir():
        yield fault(where, f"cannot create {folder}: {parent} is not a directory")
    elif not os.access(parent, os.X_OK):
        yield fault(where, f"{name} cannot enter {parent}")
    elif os.access(parent, os.W_OK):
        said = f"{folder} does not exist; create it before systemd needs it: {create}"
        yield warning(where, said)
    else:
        yield fault(where, f"{folder} does not exist, and {name} cannot create it: {create}")


# -- advice ----------------------------------------------------------------------------------------


def _join_group(folder: Path, name: str) -> str | None:
    """Return the command that lets the user in by the folder's group, if a group is let in."""
    status = folder.stat()
    may_write = stat.S_IWGRP | stat.S_IXGRP
    if status.st_mode & may_write != may_write or status.st_gid == 0:
        return None
    if len(folder.parts) <= OF_THE_SYSTEM:  # its group means more than this folder
        return None
    try:
        return f"adduser {name} {grp.getgrgid(status.st_gid).gr_name}"
    except KeyError:
        return None


def _give(config: Config, folder: Path, name: str) -> str:
    """Return what gives the user a folder: this one, if nothing but the queue's files is in it."""
    ours = {file.name for file in family(config.queue.file)} if config.queue.file else set()
    ours |= {file.name for file in [config.log and config.log.file] if file}
    try:
        alone = set(os.listdir(folder)) <= ours and len(folder.parts) > OF_THE_SYSTEM
    except OSError:
        alone = False
    if alone:
        return f"chown {name} {shlex.quote(str(folder))}"
    return _own_folder(config, folder, name)


def _own_folder(config: Config, folder: Path, name: str) -> str:
    own = shlex.quote(str(folder / config.name))
    return f"use a folder of its own, made by: install -d -o {name} {own}"


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
