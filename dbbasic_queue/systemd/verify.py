"""What is wrong with a set of unit files, before any of them is installed.

systemd-analyze finds what systemd itself would refuse. It cannot see what is valid and still wrong:
a service without `User=` that would run as root, a `%` that was to be text, a timer of a service
that is not there. That is looked for in the text as it will be installed. What the services need of
this machine (a user, folders, files that the sandbox does not hide) the config says.
"""

from __future__ import annotations

import os.path
import re
import shlex
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InstallError
from ..install.entries import private_folder
from ..support.account import Account, no_user
from .syntax import Setting, parse

if TYPE_CHECKING:
    from ..config.sections import Config

OLDEST = 250  # systemd's version: the first with `verify --recursive-errors=` (its NEWS file)
_SPECIFIER = re.compile(r"%(?:%|(?P<letter>.?))")
_SPECIFIERS = ("b", "i", "N", "t")
_PERCENTAGES = ("CPUQuota",)  # systemd.resource-control(5): where % means percent
_REFERENCES = ("Unit", "OnFailure", "OnSuccess", "PartOf")
# What ProtectHome=yes and PrivateTmp=yes hide, systemd.exec(5).
_HIDDEN = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")

Units = Mapping[str, Sequence[Setting]]


def unit_faults(
    texts: Mapping[str, str], config: Config, *, for_user: bool, live: bool
) -> list[str]:
    """All that is wrong, a sentence each; empty if nothing is.

    Args:
        texts: unit files by name, a whole installation.
        config: what they were made from.
        for_user: whether they are for a user's own manager, which knows no `User=`.
        live: whether they are for this machine, so that its users and folders count.

    Where systemd-analyze is not installed, it is not asked. Raises `InstallError` if it is too old.
    """
    units = {name: parse(text) for name, text in texts.items()}
    found = [*_stray_specifiers(units), *_dangling(units), *_schedules(units)]
    if not for_user:
        found += _rootly(units)
    if live:
        found += _missing_paths(config)
        if not for_user:
            found += [*_unknown_user(config), *_hidden_paths(config)]
    return found or _verified(texts, for_user=for_user, live=live)


# --- What systemd-analyze cannot see -------------------------------------------------------------


def _stray_specifiers(units: Units) -> Iterator[str]:
    """Specifiers that our own text does not use: each is a `%` that was not doubled."""
    for name, settings in units.items():
        for setting in settings:
            if setting.key in _PERCENTAGES:
                continue
            for match in _SPECIFIER.finditer(setting.value):
                if match["letter"] is not None and match["letter"] not in _SPECIFIERS:
                    yield f"{name}: {setting.key}= holds a stray {match[0]!r}"


def _dangling(units: Units) -> Iterator[str]:
    """Units that name another one which is not among them."""
    for name, settings in units.items():
        keys = {setting.key for setting in settings}
        if name.endswith((".timer", ".path")) and "Unit" not in keys:
            yield f"{name}: does not say which unit it starts"
        for setting in settings:
            named = setting.key in _REFERENCES
            named = named or (setting.key == "Wants" and setting.value.startswith("dbq-"))
            if named and not _is_among(setting.value, units):
                yield f"{name}: {setting.key}= names {setting.value}, which is not installed"


def _is_among(name: str, units: Units) -> bool:
    return name in units or re.sub(r"@.*(\.\w+)$", r"@\1", name) in units


def _rootly(units: Units) -> Iterator[str]:
    """Services that would run as root because no user is named."""
    for name, settings in units.items():
        given = {setting.key for setting in settings}
        if name.endswith(".service") and not given & {"User", "DynamicUser"}:
            yield f"{name}: has no User=, so it would run as root"


def _all(units: Units) -> Iterator[tuple[str, Setting]]:
    for name, settings in units.items():
        for setting in settings:
            yield name, setting


# --- What the services need of this machine ------------------------------------------------------


def _unknown_user(config: Config) -> Iterator[str]:
    user = config.worker.user
    if user and Account.find(user) is None:
        yield f"{no_user(user)} ([worker].user)"


def _written(config: Config) -> dict[Path, str]:
    """The folders that the services write in, with the key that names each."""
    found = {} if config.queue.file is None else {config.queue.file.parent: "[queue].file"}
    if config.log:
        found.setdefault(config.log.file.parent, "[log].file")
    if config.health and config.health.textfile:
        found.setdefault(config.health.textfile.parent, "[health].textfile")
    if config.report:
        found.setdefault(config.report.file.parent, "[report].file")
    if config.notify and config.notify.remember:
        found.setdefault(config.notify.remember.parent, "[notify].remember")
    for folder in config.worker.writable:
        found.setdefault(folder, "[worker].writable")
    return found


def _missing_paths(config: Config) -> Iterator[str]:
    """Folders and files without which a service does not even start."""
    owner = config.worker.user
    make = f"install -d -m 0750 -o {owner}" if owner else "mkdir -p"
    written = _written(config)
    for path, key in sorted(written.items()):
        if not _there(path, stat.S_ISDIR):
            yield (
                f"{path}: there is no such folder for the jobs to write in ({key}). "
                f"Make it: {make} {shlex.quote(str(path))}"
            )
    if config.directory not in written and not _there(config.directory, stat.S_ISDIR):
        said = "there is no such folder for the jobs to run in ([worker].directory)"
        yield f"{config.directory}: {said}"
    files = {
        "[worker].environment_file": config.worker.environment_file,
        "[queue].url_file": config.queue.url_file,
    }
    for key, file in files.items():
        if file and not _there(file, stat.S_ISREG):
            yield f"{file}: there is no such file ({key})"


def _there(path: Path, kind: Callable[[int], bool]) -> bool:
    """Say whether there is one; yes where this user cannot look, which `dbq check` tells."""
    try:
        return kind(path.stat().st_mode)
    except PermissionError:
        return True
    except OSError:
        return False


def _hidden_paths(config: Config) -> Iterator[str]:
    """What the services need and their sandbox hides, directly or behind a symbolic link.

    The environment file is not among them: systemd reads it before it sets the sandbox up.
    """
    if config.worker.hardening == "compat":
        return
    needed = [Path(config.worker.python), config.path, config.directory, *_written(config)]
    also = [path for path in (private_folder(), config.queue.url_file) if path]
    for path in dict.fromkeys([*needed, *also]):
        real = os.path.realpath(path)
        for top in _HIDDEN:
            if f"{real}/".startswith(f"{top}/"):
                yield (
                    f"{path}: lies in {top}, which the sandbox hides from the jobs. Move it out of "
                    f'there, or set [worker].hardening = "compat"'
                )


# --- What systemd-analyze says -------------------------------------------------------------------


def _schedules(units: Units) -> Iterator[str]:
    """Schedules that systemd does not understand, or that never come.

    Not single days on which the clock is changed, which are over one day: `verify` reads them.
    """
    schedules = [
        (name, each.value)
        for name, each in _all(units)
        if each.key == "OnCalendar" and not re.match("[0-9]{4}-", each.value)
    ]
    if not schedules or _calendar_fault(*(value for _, value in schedules)) is None:
        return
    for name, value in schedules:
        if said := _calendar_fault(value):
            yield f"{name}: OnCalendar={value}: {said}"


def _calendar_fault(*expressions: str) -> str | None:
    """What systemd-analyze has against one of these calendar expressions, or None."""
    done = _analyze("calendar", "--", *expressions)
    if done and (done.returncode or "Next elapse: never" in done.stdout):
        return " ".join((done.stderr or done.stdout).split())
    return None


def _verified(texts: Mapping[str, str], *, for_user: bool, live: bool) -> list[str]:
    """What `systemd-analyze verify` finds.

    `--recursive-errors=no` makes it fail for a warning about these very units (an unknown key),
    and only for these.
    """
    scope = ["--user"] if for_user else ["--system"]
    with tempfile.TemporaryDirectory() as folder:
        for name, text in texts.items():
            Path(folder, name).write_text(text)
        paths = [f"{folder}/{name}" for name in sorted(texts)]
        options = [*scope, "--recursive-errors=no", "--man=no"]
        done = _analyze("verify", *options, *paths, XDG_RUNTIME_DIR=folder)
    if done is None:  # to put the units in force is refused without it
        return []
    _refuse_old(done.stderr)
    said = [line.removeprefix(f"{folder}/") for line in done.stderr.splitlines()]
    # Users of a directory service, such as `CORP\svc`, are taken, with a remark.
    remark = "which does not match strict user/group name rules."
    # What programs another machine has is not to be seen from here.
    passed = (remark,) if live else (remark, ": No such file or directory")
    lines = [line for line in said if not line.endswith(passed)]
    if done.returncode == 0 or (said and not lines):
        return []
    ours = [line for line in lines if line.startswith("dbq-") or " dbq-" in line] or lines
    return list(dict.fromkeys(ours)) or [f"systemd-analyze verify: exit {done.returncode}"]


def _refuse_old(said: str) -> None:
    if "unrecognized option" in said or "Unknown command verb" in said:
        raise InstallError(
            f"systemd on this machine is older than version {OLDEST}, too old for these units"
        )


def _analyze(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str] | None:
    """Run systemd-analyze; None where it is not installed."""
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "SYSTEMD_COLORS": "0", **variables}
    try:
        return subprocess.run(
            ["systemd-analyze", *arguments], capture_output=True, text=True, env=environment
        )
    except FileNotFoundError:
        return None
