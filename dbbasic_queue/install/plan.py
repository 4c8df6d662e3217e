"""Bring rendered files into force and take them out again, the same way for every target.

Theory of operation
-------------------
The manifest, `NAME.KIND.json` in `Site.installed`, holds the SHA-256 of each file written. So a
file whose hash is not in it was changed by another program or a person: apply and remove refuse to
touch it without `force`, and the text they overwrite is kept in `Site.backups`. A file is in one of
these states:

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

The first plan is made without the lock, and other installers may be at work: what it finds decides
only whether there is anything to do. Every refusal rests on the plan that is made under the lock.

This module knows no target by name and imports none of them.
"""

from __future__ import annotations

import contextlib
import difflib
import fcntl
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InstallError
from ..support.files import refusing
from ..support.opening import Folder
from ..support.patience import take_lock
from .manifest import (
    PACKAGED,
    Manifest,
    called,
    delete_manifest,
    digest,
    likely_sites,
    load_manifest,
    manifests,
    removals,
    save_manifest,
    schedulers,
)
from .site import Existing, Site, Wanted, delete_own, keep_backup
from .target import Action, Change, FileStore, Installation, Plan, Target

if TYPE_CHECKING:
    from ..config.sections import Config

_TRIES = 1000
LOCK_WAIT = 60.0  # seconds that another installer may take

# --- Public verbs -------------------------------------------------------------------------------


def plan_apply(target: Target, config: Config) -> Plan:
    """What an apply would do. Raises `InstallError` with all that `verify` finds wrong."""
    wanted = target.render(config)
    problems = [*_queue_faults(target, config), *target.verify(wanted, config)]
    if problems:
        raise InstallError("\n".join(problems))
    manifest = load_manifest(target.site, config.name, target.kind)
    changes = _changes(target.store, wanted.files, manifest)
    idle = all(change.action is Action.KEEP for change in changes)
    inactive = target.inactive(wanted) if target.site.live and idle else []
    unlisted = manifest != _manifest(target, config, wanted)
    return Plan(config.name, target.kind, changes, wanted, tuple(inactive), unlisted)


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
    why = target.refusal() if target.site.live else None
    if why:
        raise InstallError(why)
    plan = plan_apply(target, config)
    if plan.in_sync:
        return plan
    with _locked(target.site):
        plan = plan_apply(target, config)
        old = load_manifest(target.site, config.name, target.kind)
        if not force:
            _refuse_namesake(target.site, old, config)
            _refuse_second_scheduler(target, config)
            _refuse_edited(plan)
        assert plan.wanted is not None
        new = _manifest(target, config, plan.wanted)
        save_manifest(target.site, _both(old, new))
        _carry_out(target, plan)
        save_manifest(target.site, new)
        _activate(target, plan)
        _drop_leaves(target.site, old)
    return plan


def remove(target: Target, name: str, *, force: bool = False) -> Plan:
    """Take away exactly what was installed under this name. Returns what was done.

    Raises `InstallError` as `apply` does. Removing what is not installed is not an error.
    """
    plan = plan_remove(target, name, force=True)
    if plan.in_sync:
        return plan
    with _locked(target.site):
        plan = plan_remove(target, name, force=force)
        if not force:
            _refuse_edited(plan)
        _carry_out(target, plan)
        _activate(target, plan)
        old = load_manifest(target.site, name, target.kind)
        delete_manifest(target.site, name, target.kind)
        _tidy(target.site)
        _drop_leaves(target.site, old)
    return plan


def diff(plan: Plan, *, only: Sequence[Change] | None = None) -> str:
    """Unified diff from what is installed to what is wanted; bytes that are not UTF-8 escaped."""
    return "".join(_file_diff(change) for change in (plan.work if only is None else only))


def beside_diff(plan: Plan) -> list[str]:
    """What differs and is not text, a sentence each: modes, owners, the manifest, what is off."""
    found = [
        f"{change.path}: mode {change.before.mode:04o} or owner is wrong"
        for change in plan.work
        if change.before and change.after and change.before.text == change.after.text
    ]
    if plan.unlisted and not plan.work:
        found.append(f"{plan.name}: the files are as they should be, the manifest is not")
    return [*found, *plan.inactive]


def former_names(config: Config, target: Target) -> list[str]:
    """Names under which this very config file was installed before it was renamed."""
    return [
        m.name
        for m in manifests(target.site)
        if m.kind == target.kind and m.config == str(config.path) and m.name != config.name
    ]


# --- Steps, in call order -----------------------------------------------------------------------


def _queue_faults(target: Target, config: Config) -> Iterator[str]:
    """A queue that is a link has two folders: units, locks and claims would each mean another."""
    file = config.queue.file
    if file and target.site.live and target.kind != "logrotate" and os.path.islink(file):
        yield (
            f"{file} is a symbolic link; name the file that it leads to: [queue].file = "
            f'"{os.path.realpath(file)}"'
        )


def _changes(
    store: FileStore,
    files: Sequence[Wanted],
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


def _change(
    path: Path, before: Existing | None, after: Wanted | None, ours: tuple[str, ...]
) -> Change:
    if before is None:
        return Change(path, Action.CREATE, None, after)
    if after is None:
        return Change(path, Action.DELETE, before, None, digest(before.text) not in ours)
    if before.text == after.text:
        right = before.sound and before.mode == after.mode
        return Change(path, Action.KEEP if right else Action.UPDATE, before, after)
    return Change(path, Action.UPDATE, before, after, digest(before.text) not in ours)


def _manifest(target: Target, config: Config, wanted: Installation) -> Manifest:
    hashes: dict[Path, tuple[str, ...]] = {file.path: (digest(file.text),) for file in wanted.files}
    return Manifest(
        config.name, target.kind, str(config.path), hashes, wanted.entries, wanted.leaves
    )


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
            with refusing(folder, "cannot lock", InstallError):
                # Not for ever: any user can open the folder, and keep its lock.
                take_lock(handle, fcntl.LOCK_EX, folder, LOCK_WAIT, "the list of what is installed")
            if _is_at(handle, folder):
                if site.live and os.geteuid() == 0:
                    # As root: no folder on the way may be one that others can put another in.
                    with refusing(folder, "cannot go by what lies there", InstallError):
                        Folder(folder).close()
                yield
                return
        finally:
            os.close(handle)


def _is_at(handle: int, folder: Path) -> bool:
    """Whether the open folder is the one at this path: a removal may have taken it away while we
    waited for its lock, and another apply may have made a new one."""
    try:
        return os.path.samestat(os.fstat(handle), folder.stat())
    except FileNotFoundError:
        return False


def _open_folder(folder: Path) -> int:
    """Open the folder, made if need be; a removal at the same time may take it away in between."""
    with refusing(folder, "cannot lock", InstallError):
        for _ in range(_TRIES):
            # "Exists" is what mkdir says of a folder that is gone when it looks what is there.
            with contextlib.suppress(FileNotFoundError, FileExistsError):
                folder.mkdir(parents=True, exist_ok=True)
                handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                _require_own(handle, folder)
                return handle
        raise InstallError(f"{folder}: cannot lock it: it is not a folder, or it does not stay")


def _require_own(handle: int, folder: Path) -> None:
    """Refuse, as root, a folder of manifests that is not root's alone: they say what is deleted."""
    status = os.fstat(handle)
    others = stat.S_IWGRP | stat.S_IWOTH
    if os.geteuid() == 0 and (status.st_uid != 0 or status.st_mode & others):
        os.close(handle)
        raise InstallError(
            f"{folder}: is not root's alone, so root cannot go by what lies in it; as root: "
            f"chown root {folder}; chmod 0755 {folder}"
        )


def _refuse_namesake(site: Site, old: Manifest | None, config: Config) -> None:
    """Refuse another config of this name: the two would overwrite each other in turn."""
    if old is None or old.config == str(config.path):
        return
    if not os.path.exists(site.below(Path(old.config))):
        return
    raise InstallError(
        f"{config.name} is already installed from {old.config}, and that file is still there. "
        f"Give {config.path} another name, or take the name over with --force. "
        "Nothing was changed"
    )


def _refuse_second_scheduler(target: Target, config: Config) -> None:
    """Refuse a second scheduler of this name: each run would be started twice."""
    if target.kind == "logrotate":
        return
    site = target.site
    places = schedulers(config.name, [*likely_sites(config.worker.user, site.root), site])
    mine = (target.kind, PACKAGED) if target.kind == "systemd" else (target.kind,)
    others = [place for place in places if place[0].user != site.user or place[1] not in mine]
    if others:
        raise InstallError(
            f"{config.name} is scheduled {called(others)} already, and would be run twice. Remove "
            f"that first: {removals(config.name, others)}. Nothing was changed; --force installs "
            "it all the same"
        )


def _drop_leaves(site: Site, old: Manifest | None) -> None:
    """Take away what the entries wrote for others, such as metrics that would only grow stale,
    unless another installation of this site writes the same."""
    still = {path for manifest in manifests(site) for path in manifest.leaves}
    for path in (path for path in (old.leaves if old else ()) if path not in still):
        delete_own(site.below(path))


def _refuse_edited(plan: Plan) -> None:
    if not plan.edited:
        return
    listed = ", ".join(str(change.path) for change in plan.edited)
    error = InstallError(
        f"{listed}: changed by hand, or not written by this installer. Nothing was changed. "
        "Put the change into the config, or overwrite it with --force (a copy is kept)"
    )
    error.patch = diff(plan, only=[change for change in plan.edited if change.after])
    raise error


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


def _activate(target: Target, plan: Plan) -> None:
    if target.site.live and (plan.work or plan.inactive):
        target.activate(plan)


def _tidy(site: Site) -> None:
    """Take our own folders away when the last installation is gone; a folder in use stays.

    Under the lock: an installer that waits for it finds the folder gone, and makes another.
    """
    for folder in (site.installed, site.installed.parent):
        with contextlib.suppress(OSError):
            folder.rmdir()


def _file_diff(change: Change) -> str:
    old = change.before.text if change.before else b""
    new = change.after.text if change.after else b""
    source = str(change.path) if change.before else "/dev/null"
    result = str(change.path) if change.after else "/dev/null"
    lines = difflib.unified_diff(_lines(old), _lines(new), source, result)
    return "".join(x if x.endswith("\n") else f"{x}\n\\ No newline at end of file\n" for x in lines)


def _lines(text: bytes) -> list[str]:
    """Lines fit for a terminal: what is not a printable character is escaped."""
    lines = text.decode("utf-8", "backslashreplace").split("\n")
    clean = [
        "".join(c if c.isprintable() or c == "\t" else repr(c)[1:-1] for c in x) for x in lines
    ]
    return [f"{line}\n" for line in clean[:-1]] + [line for line in clean[-1:] if line]
