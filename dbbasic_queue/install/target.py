"""Bring rendered files into force and take them out again, the same way for every target.

Theory of operation
-------------------
A *target* (cron, a user's crontab, systemd, logrotate) turns a `Config` into `File`s. This module
compares them with what is installed, and that comparison, the `Plan`, is all that `--diff`,
`--check`, apply and `--remove` work from. It knows no target by name and imports none of them;
`cron.py`, `systemd.py` and `logrotate.py` import this module and each define a `Target`.

To write a target, implement the `Target` protocol:

* `kind`: "cron", "cron-user", "systemd", "systemd-user" or "logrotate". It names the manifest.
* `site`: a `Site`, given to the constructor: the live system or `--root DIR`, the whole machine or
  one user. File paths never contain the root; the `Store` puts it in front.
* `store`: where files are read and written. `Folders(site)` suits all that are plain files.
* `render(config)` returns every file wanted, whole, and touches nothing.
* `verify(files)` says what is wrong with them, before anything is written. `[]` when all is well.
* `notes(config)` says what a person should know at install time and that is no fault.
* `inactive(files)` says what of them is written but not in force (a timer that is not enabled).
  It asks the system, not the manifest, so that an activation that failed is made up for by the
  next apply. Called only on the live system.
* `deactivate(paths)` runs before these files are deleted: stop and disable timers, clean stamps.
* `activate(plan)` runs after all is written or deleted, on apply and on remove alike, and only if
  something changed or was inactive: `daemon-reload`, enable and start. `plan.changes` says what
  became of each file. It raises `InstallError` if the system refuses.
* `traces(name)` finds files that bear the name, for a machine whose manifest was lost.
* `status(name, config)` tells the schedule's entries with their next and last runs.

The manifest, `NAME.KIND.json` in `Site.installed`, holds the SHA-256 of each file written. So a
file whose hash is not in it was changed by somebody else: apply and remove refuse to touch it
without `force`, and the text they overwrite is kept in `Site.backups`. A file is in one of these
states:

    installed             wanted      action   remark
    -                     yes         create
    same bytes and mode   yes         keep     adopted if the manifest does not list it
    as in the manifest    yes         update
    as in the manifest    no          delete
    anything else         either      as above, but `edited`

Order of an apply, so that a crash or a full disk never leaves a state that the next apply cannot
finish: verify; lock; plan again from what is there now; write a manifest that allows the old and
the new hashes; stage all files beside their targets; rename them into place; delete what is no
longer wanted; write the final manifest; activate. If the first plan holds no change, none of this
happens and not one byte is written.
"""

from __future__ import annotations

import contextlib
import difflib
import fcntl
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ..errors import InstallError
from ..support.files import NewFile, refusing, replace_all
from .manifest import (
    Manifest,
    delete_manifest,
    digest,
    load_manifest,
    manifests,
    save_manifest,
)
from .site import File, Folders, Found, Site

if TYPE_CHECKING:
    from ..config.sections import Config

# The targets find all they need here.
__all__ = [
    "Action",
    "Change",
    "Entry",
    "File",
    "Folders",
    "Found",
    "InstallError",
    "Plan",
    "Site",
    "Store",
    "Target",
    "apply",
    "diff",
    "former_names",
    "keep_backup",
    "plan_apply",
    "plan_remove",
    "remove",
]

_TRIES = 1000

# --- What a target works with -------------------------------------------------------------------


class Store(Protocol):
    """Where a target's files are. `Folders` is the file system; a crontab block is another."""

    def read(self, path: Path) -> Found | None:
        """What is there, or None. Raises `InstallError` if that cannot be told."""

    def write(self, files: Sequence[File]) -> None:
        """Put all of these in place; if one cannot be written, none is."""

    def delete(self, path: Path) -> None:
        """Take this away. No error if it is gone already."""


class Action(StrEnum):
    """What a plan does with one file."""

    CREATE = "create"
    UPDATE = "update"
    KEEP = "keep"
    DELETE = "delete"


@dataclass(frozen=True)
class Change:
    """One file's way from what is there (`before`) to what is wanted (`after`)."""

    path: Path
    action: Action
    before: Found | None
    after: File | None
    edited: bool = False


@dataclass(frozen=True)
class Plan:
    """What it takes to bring one installation to what is wanted.

    `changes` has an entry for each file, the kept ones too. `inactive` tells what is written but
    not in force. `unlisted` is set if the manifest must be written though no file changes.
    """

    name: str
    kind: str
    changes: tuple[Change, ...]
    inactive: tuple[str, ...] = ()
    unlisted: bool = False

    @property
    def work(self) -> tuple[Change, ...]:
        """The changes that do something."""
        return tuple(c for c in self.changes if c.action is not Action.KEEP)

    @property
    def edited(self) -> tuple[Change, ...]:
        """The changes that would overwrite or delete somebody else's text."""
        return tuple(c for c in self.work if c.edited)

    @property
    def in_sync(self) -> bool:
        """Whether there is nothing to do, not even a manifest to write."""
        return not (self.work or self.inactive or self.unlisted)

    def of(self, *actions: Action) -> tuple[Change, ...]:
        """The changes with one of these actions."""
        return tuple(c for c in self.changes if c.action in actions)


@dataclass(frozen=True)
class Entry:
    """One scheduled thing of an installation, for `--status`.

    Args:
        label: "worker", "prune", "health" or the recurring job's name.
        schedule: as the target has it installed (cron fields, OnCalendar).
        next_run: aware, or None if it is not scheduled.
        last_run: aware, or None if it never ran or nobody recorded it.
        note: what else there is to say ("timer is disabled", "last run failed").
    """

    label: str
    schedule: str
    next_run: datetime | None = None
    last_run: datetime | None = None
    note: str = ""


class Target(Protocol):
    """One way of scheduling; see the module's docstring for what each member owes."""

    @property
    def kind(self) -> str: ...
    @property
    def site(self) -> Site: ...
    @property
    def store(self) -> Store: ...

    def render(self, config: Config) -> list[File]: ...
    def verify(self, files: Sequence[File]) -> list[str]: ...
    def notes(self, config: Config) -> list[str]: ...
    def inactive(self, files: Sequence[File]) -> list[str]: ...
    def deactivate(self, paths: Sequence[Path]) -> None: ...
    def activate(self, plan: Plan) -> None: ...
    def traces(self, name: str) -> list[Path]: ...
    def status(self, name: str, config: Config | None) -> list[Entry]: ...


# --- Public verbs -------------------------------------------------------------------------------


def plan_apply(target: Target, config: Config) -> Plan:
    """What an apply would do. Raises `InstallError` with all that `verify` finds wrong."""
    files = target.render(config)
    problems = target.verify(files)
    if problems:
        raise InstallError("\n".join(problems))
    manifest = load_manifest(target.site, config.name, target.kind)
    changes = _changes(target.store, files, manifest)
    idle = not any(c.action is not Action.KEEP for c in changes)
    inactive = target.inactive(files) if target.site.live and idle else []
    wanted = _manifest(target, config, files)
    return Plan(config.name, target.kind, changes, tuple(inactive), manifest != wanted)


def plan_remove(target: Target, name: str, *, force: bool = False) -> Plan:
    """What a removal would do. The config is not needed, the manifest is.

    Raises `InstallError` if files bear the name that no manifest lists, unless `force` is set.
    """
    manifest = load_manifest(target.site, name, target.kind)
    if manifest is not None:
        changes = _changes(target.store, (), manifest)
        return Plan(name, target.kind, changes, unlisted=True)
    traces = target.traces(name)
    if traces and not force:
        listed = ", ".join(map(str, traces))
        raise InstallError(
            f"{listed}: bears the name {name}, but no manifest in {target.site.installed} says "
            "that it was installed from here. Look at it; --force removes it. Nothing was changed"
        )
    return Plan(name, target.kind, _changes(target.store, (), None, traces))


def apply(target: Target, config: Config, *, force: bool = False) -> Plan:
    """Write what is wanted, take away what is not, put it in force. Returns what was done.

    Raises `InstallError` if `verify` finds a fault, if a file was edited by hand (unless `force`
    is set), or if the system refuses; nothing was written in the first two cases.
    """
    plan = plan_apply(target, config)
    if plan.in_sync:
        return plan
    with _locked(target.site):
        plan = plan_apply(target, config)
        old = load_manifest(target.site, config.name, target.kind)
        if not force:
            _refuse_namesake(target.site, old, config)
            _refuse_edited(plan)
        files = [change.after for change in plan.changes if change.after]
        new = _manifest(target, config, files)
        save_manifest(target.site, _both(old, new))
        _carry_out(target, plan)
        save_manifest(target.site, new)
    _activate(target, plan)
    return plan


def remove(target: Target, name: str, *, force: bool = False) -> Plan:
    """Take away exactly what was installed under this name. Returns what was done.

    Raises `InstallError` as `apply` does. To remove what is not installed is no fault.
    """
    plan = plan_remove(target, name, force=force)
    if plan.in_sync:
        return plan
    with _locked(target.site):
        plan = plan_remove(target, name, force=force)
        if not force:
            _refuse_edited(plan)
        _carry_out(target, plan)
        delete_manifest(target.site, name, target.kind)
        _tidy(target.site)
    _activate(target, plan)
    return plan


def diff(plan: Plan, *, only: Sequence[Change] | None = None) -> str:
    """Unified diff from what is installed to what is wanted; bytes that are no UTF-8 escaped."""
    return "".join(_file_diff(change) for change in (plan.work if only is None else only))


def former_names(config: Config, target: Target) -> list[str]:
    """Names under which this very config file was installed before it was renamed."""
    return [
        m.name
        for m in manifests(target.site)
        if m.kind == target.kind and m.config == str(config.path) and m.name != config.name
    ]


# --- Steps, in call order -----------------------------------------------------------------------


def _changes(
    store: Store,
    files: Sequence[File],
    manifest: Manifest | None,
    unlisted: Sequence[Path] = (),
) -> tuple[Change, ...]:
    """Compare each wanted, listed or named file with what is there."""
    hashes = manifest.hashes if manifest else {}
    wanted = {file.path: file for file in files}
    changes = []
    for path in dict.fromkeys([*wanted, *hashes, *unlisted]):
        before, after = store.read(path), wanted.get(path)
        if before is None and after is None:
            continue
        changes.append(_change(path, before, after, hashes.get(path, ())))
    return tuple(changes)


def _change(path: Path, before: Found | None, after: File | None, ours: tuple[str, ...]) -> Change:
    if before is None:
        return Change(path, Action.CREATE, None, after)
    if after is None:
        return Change(path, Action.DELETE, before, None, digest(before.text) not in ours)
    if before.text == after.text:
        right = before.sound and before.mode == after.mode
        return Change(path, Action.KEEP if right else Action.UPDATE, before, after)
    return Change(path, Action.UPDATE, before, after, digest(before.text) not in ours)


def _manifest(target: Target, config: Config, files: Iterable[File]) -> Manifest:
    hashes: dict[Path, tuple[str, ...]] = {file.path: (digest(file.text),) for file in files}
    return Manifest(config.name, target.kind, str(config.path), hashes)


def _both(old: Manifest | None, new: Manifest) -> Manifest:
    """The manifest for the time of the change: the old text is ours, and the new."""
    if old is None:
        return new
    paths = [*old.hashes, *new.hashes]
    either = {
        p: tuple(dict.fromkeys([*old.hashes.get(p, ()), *new.hashes.get(p, ())])) for p in paths
    }
    return replace(new, hashes=either)


@contextlib.contextmanager
def _locked(site: Site) -> Iterator[None]:
    """Exclude other installers of this site; the lock is on the folder, so no file is left over."""
    folder = site.installed
    while True:
        handle = _open_folder(folder)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            # A removal may have taken the folder away while we waited for its lock.
            if folder.exists() and os.path.samestat(os.fstat(handle), folder.stat()):
                yield
                return
        finally:
            os.close(handle)


def _open_folder(folder: Path) -> int:
    """Open the folder, made if need be; a removal at the same time may take it away in between."""
    with refusing(folder, "cannot lock", InstallError):
        for _ in range(_TRIES):
            with contextlib.suppress(FileNotFoundError):
                folder.mkdir(parents=True, exist_ok=True)
                return os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        raise InstallError(f"{folder}: cannot lock: it does not stay")


def _refuse_namesake(site: Site, old: Manifest | None, config: Config) -> None:
    """Two configs of one name would take turns at overwriting each other."""
    if old is None or old.config == str(config.path) or not site.below(Path(old.config)).exists():
        return
    raise InstallError(
        f"{config.name} is already installed from {old.config}, and that file is still there. "
        f"Give {config.path} another name, or take the name over with --force. "
        "Nothing was changed"
    )


def _refuse_edited(plan: Plan) -> None:
    if not plan.edited:
        return
    listed = ", ".join(str(change.path) for change in plan.edited)
    raise InstallError(
        f"{listed}: changed by hand, or not written by this installer. Nothing was changed. "
        "Take the change over into the config, or overwrite it with --force (a copy is kept)\n"
        + diff(plan, only=[change for change in plan.edited if change.after])
    )


def _carry_out(target: Target, plan: Plan) -> None:
    """Back up what is not ours, then write, then delete."""
    for change in plan.edited:
        if change.before:
            keep_backup(target.site, change.path, change.before.text)
    doomed = [change.path for change in plan.of(Action.DELETE)]
    if doomed and target.site.live:
        target.deactivate(doomed)
    fresh = [c.after for c in plan.of(Action.CREATE, Action.UPDATE) if c.after]
    if fresh:
        target.store.write(fresh)
    for path in doomed:
        target.store.delete(path)


def keep_backup(site: Site, path: Path, text: bytes) -> Path:
    """Keep a text that is about to be overwritten; one copy a path, readable by its owner only."""
    copy = site.backups / "-".join(path.parts[1:])
    with refusing(copy, "cannot keep a backup in", InstallError):
        copy.parent.mkdir(parents=True, exist_ok=True)
        replace_all([NewFile(copy, text)])
    return copy


def _activate(target: Target, plan: Plan) -> None:
    if target.site.live and (plan.work or plan.inactive):
        target.activate(plan)


def _tidy(site: Site) -> None:
    """Take our own folders away when the last installation is gone; a folder in use stays.

    Under the lock: who waits for it finds the folder gone, and makes another.
    """
    for folder in (site.installed, site.installed.parent):
        with contextlib.suppress(OSError):
            folder.rmdir()


def _file_diff(change: Change) -> str:
    old = change.before.text if change.before else b""
    new = change.after.text if change.after else b""
    if old == new and change.before and change.after:
        return f"{change.path}: mode {change.before.mode:04o} or owner is wrong\n"
    source = str(change.path) if change.before else "/dev/null"
    result = str(change.path) if change.after else "/dev/null"
    lines = difflib.unified_diff(_lines(old), _lines(new), source, result)
    return "".join(x if x.endswith("\n") else f"{x}\n\\ No newline at end of file\n" for x in lines)


def _lines(text: bytes) -> list[str]:
    """Lines fit for a terminal: what is no printable character is escaped."""
    lines = text.decode("utf-8", "backslashreplace").split("\n")
    clean = [
        "".join(c if c.isprintable() or c == "\t" else repr(c)[1:-1] for c in x) for x in lines
    ]
    return [f"{line}\n" for line in clean[:-1]] + [line for line in clean[-1:] if line]
