"""What a config needs of the file system, and whether the worker's user has it."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from pathlib import Path

from ..config.sections import Config
from ..support.account import Account, as_user
from ..support.files import family
from .finding import Finding, Level, fault, warning


def access_findings(config: Config, account: Account) -> list[Finding]:
    """Return what keeps the user `account` from reading or writing what the config names.

    The files are looked at by a process of that user, which tries nothing: access(2) tells.
    """
    found = as_user(account, lambda: [_plain(each) for each in _findings(config, account.name)])
    findings = [Finding(Level(level), where, what) for level, where, what in found]
    return list({finding.what: finding for finding in reversed(findings)}.values())[::-1]


def _plain(finding: Finding) -> tuple[str, str, str]:
    return finding.level, finding.where, finding.what


def _findings(config: Config, name: str) -> Iterator[Finding]:
    """All findings, in a process of the user `name`."""
    yield from _readable("", config.path, name)
    yield from _writable_folder("[queue].file", config.queue.file.parent, name)
    yield from _queue_files(config.queue.file, name)
    yield from _worker(config, name)
    if config.log:
        yield from _writable_folder("[log].file", config.log.file.parent, name)
        yield from _writable_file("[log].file", config.log.file, name)
    if config.health and config.health.textfile:
        where, folder = "[health].textfile", config.health.textfile.parent
        yield from _writable_folder(where, folder, name)


def _queue_files(table: Path, name: str) -> Iterator[Finding]:
    """The table and what lies beside it: a file that root once made shuts the user out."""
    for path in family(Path(os.path.realpath(table))):
        yield from _writable_file("[queue].file", path, name)


def _worker(config: Config, name: str) -> Iterator[Finding]:
    folder, python = config.directory, Path(config.worker.python)
    where = "[worker].directory" if config.worker.directory else ""
    if said := _obstacle(folder):
        yield fault(where, f"{name} cannot work in {folder}: {said}")
    elif not folder.is_dir():
        yield fault(where, f"{folder} is no folder")
    elif not os.access(folder, os.X_OK):
        yield fault(where, f"{name} may not enter {folder}")
    if said := _obstacle(python):
        yield fault("[worker].python", f"{name} cannot run {python}: {said}")
    elif not (python.is_file() and os.access(python, os.X_OK)):
        yield fault("[worker].python", f"{name} may not run {python}, or it is no program")
    file = config.worker.environment_file
    if file and (said := _obstacle(file) or _unreadable(file)):
        said = f"{name} cannot read {file}: {said}; systemd reads it as root, cron cannot"
        missing = not os.path.lexists(file) and os.access(file.parent, os.X_OK)
        yield (fault if missing else warning)("[worker].environment_file", said)


def _readable(where: str, file: Path, name: str) -> Iterator[Finding]:
    if said := _obstacle(file) or _unreadable(file):
        yield fault(where, f"{name} cannot read {file}: {said}")


def _unreadable(file: Path) -> str | None:
    return None if os.access(file, os.R_OK) else "permission denied"


def _writable_file(where: str, file: Path, name: str) -> Iterator[Finding]:
    """A file may be missing, but not be somebody else's."""
    if not os.path.lexists(file):
        return
    if not file.is_file():
        yield fault(where, f"{file} is no file")
    elif not os.access(file, os.R_OK | os.W_OK):
        yield fault(where, f"{name} may not read and write {file}: chown {name} {_word(file)}")


def _writable_folder(where: str, folder: Path, name: str) -> Iterator[Finding]:
    """A folder in which the user will make files."""
    make = f"install -d -o {name} {_word(folder)}"
    if os.path.lexists(folder):
        if not folder.is_dir():
            yield fault(where, f"{folder} is no folder")
        elif not os.access(folder, os.W_OK | os.X_OK):
            yield fault(where, f"{name} may not write in {folder}: chown {name} {_word(folder)}")
        return
    parent = next(each for each in folder.parents if os.path.lexists(each))
    if not parent.is_dir():
        yield fault(where, f"{folder} cannot be, for {parent} is no folder")
    elif not os.access(parent, os.X_OK):
        yield fault(where, f"{name} may not enter {parent}")
    elif os.access(parent, os.W_OK):
        yield warning(where, f"{folder} is not there yet; make it before systemd needs it: {make}")
    else:
        yield fault(where, f"{folder} is not there, and {name} may not make it: {make}")


def _obstacle(path: Path) -> str | None:
    """What on the way to `path` stops the user, or that it is not there."""
    for folder in reversed(path.parents):
        if not os.path.lexists(folder):
            return f"{folder} is not there"
        if not os.access(folder, os.X_OK):
            return f"may not enter {folder}"
    return None if path.exists() else "it is not there"


def _word(path: Path) -> str:
    return shlex.quote(str(path))
