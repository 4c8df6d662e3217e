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
import hashlib
import json
import os
import pwd
import re
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from dbbasic_queue.errors import InstallError

if TYPE_CHECKING:
    from dbbasic_queue.config import Config

NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")
SYSTEM_STATE = Path("/var/lib/dbbasic-queue")
USER_STATE = Path(".local/state/dbbasic-queue")

# --- What a target works with -------------------------------------------------------------------


@dataclass(frozen=True)
class Site:
    """The machine, or image of one, and whose part of it an installation belongs to.

    Args:
        user: login name for a user's crontab or units, None for the system's.
        root: "/" for the running system, else the top folder of an image or package.
        home: the user's home folder as that system sees it; looked up if not given.
    """

    user: str | None = None
    root: Path = Path("/")
    home: Path | None = None

    @property
    def live(self) -> bool:
        """Whether this is the running system, where things can be activated."""
        return self.root == Path("/")

    @property
    def state(self) -> Path:
        """The folder of manifests and backups, without the root."""
        if self.user is None:
            return SYSTEM_STATE
        return self.home_folder() / USER_STATE

    @property
    def installed(self) -> Path:
        """The folder of manifests, below the root."""
        return self.below(self.state / "installed")

    @property
    def backups(self) -> Path:
        """The folder that keeps what was overwritten, below the root."""
        return self.below(self.state / "backups")

    def home_folder(self) -> Path:
        """The user's home folder, without the root. Raises `InstallError` for an unknown user."""
        if self.home is not None:
            return self.home
        if self.user is None:
            raise InstallError("a system installation has no home folder")
        try:
            return Path(pwd.getpwnam(self.user).pw_dir)
        except KeyError:
            raise InstallError(f"there is no user {self.user!r} on this machine") from None

    def below(self, path: Path) -> Path:
        """Where an absolute path of that system lies on this one; never outside the root."""
        if self.live:
            return path
        inside = self.root / path.relative_to("/")
        if not inside.parent.resolve().is_relative_to(self.root.resolve()):
            raise InstallError(f"{inside}: a symbolic link leads out of {self.root}")
        return inside


@dataclass(frozen=True)
class File:
    """One file as it shall be. `path` is absolute and does not contain `--root`."""

    path: Path
    text: bytes
    mode: int = 0o644


@dataclass(frozen=True)
class Found:
    """One file as it is. `sound` is False if its mode or owner would be wrong for any text."""

    text: bytes
    mode: int
    sound: bool = True


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
