"""What a target is: one way of scheduling. Its records, and the class that each one builds on.

Theory of operation
-------------------
A *target* (cron, a user's crontab, systemd, logrotate) makes an `Installation` of a `Config`: the
files, and with them all that it knows of them. `plan.py` compares the files with what is installed,
and that comparison, the `Plan`, is all that `--diff`, `--check`, apply and `--remove` work from.
What a target knows it keeps: labels, schedules, the user and the wake file come with the files, and
the manifest stores the entries. So no target ever reads its own text back.

To write a target, derive from `Target`:

* `kind`: "cron", "cron-user", "systemd", "systemd-user" or "logrotate". It names the manifest.
* `site`: a `Site`, given to the constructor: the live system or `--root DIR`, the whole machine or
  one user. File paths never contain the root; the `FileStore` puts it in front.
* `store`: where files are read and written. `PlainFiles(site)` suits all that are plain files.
* `render(config)` returns everything wanted, and touches nothing.
* `verify(wanted, config)` says what is wrong with it, before anything is written.
* `refusal()` says why nothing can be put in force here and now.
* `notes(config)` says what a person should know at install time and that is not a fault.
* `inactive(wanted)` says what of it is written but not in force (a timer that is not enabled). It
  asks the system, not the manifest, so that an activation that failed is made up for by the next
  apply. Called only on the live system.
* `deactivate(paths)` runs before these files are deleted: stop and disable timers, clean stamps.
* `activate(plan)` runs after all is written or deleted, on apply and on remove alike, and only if
  something changed or was inactive: `daemon-reload`, enable and start. It raises `InstallError` if
  the system refuses.
* `traces(name)` finds files that bear the name, for a machine whose manifest was lost.
* `status(entries, config)` tells the next and the last runs of what is installed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from .site import Existing, PlainFiles, Site, Wanted

if TYPE_CHECKING:
    from ..config.sections import Config


class FileStore(Protocol):
    """Where a target's files are. `PlainFiles` is the file system; a crontab's block is another."""

    def read(self, path: Path) -> Existing | None:
        """What is there, or None. Raises `InstallError` if that cannot be told."""

    def write(self, files: Sequence[Wanted]) -> None:
        """Put all of these in place; if one cannot be written, none is."""

    def delete(self, path: Path) -> None:
        """Take this away. No error if it is gone already."""


@dataclass(frozen=True)
class Entry:
    """One thing that a scheduler runs.

    Args:
        label: "worker", "prune", "health" or the recurring job's name, for people.
        schedule: as the scheduler has it: cron fields, `OnCalendar=`.
        known_as: what the scheduler knows it by: a unit's name, a command as the crontab has it.
        persistent: whether the scheduler keeps a record of its runs, to make up for missed ones.
    """

    label: str
    schedule: str
    known_as: str = ""
    persistent: bool = False


@dataclass(frozen=True)
class Installation:
    """All that a target makes of one config.

    Args:
        files: every file wanted, whole.
        entries: what they schedule.
        user: the user that the entries run as.
        wake: the file that the scheduler watches, if it does.
        leaves: files that the entries write for others, and that go when they are removed.
    """

    files: tuple[Wanted, ...]
    entries: tuple[Entry, ...] = ()
    user: str | None = None
    wake: Path | None = None
    leaves: tuple[Path, ...] = ()


@dataclass(frozen=True)
class EntryStatus:
    """One entry of an installation as it is now.

    Args:
        label: see `Entry`.
        schedule: see `Entry`.
        next_run: aware, or None if it is not scheduled.
        last_run: aware, or None if it never ran or no record says so.
        note: what else there is to say ("not enabled", "last run failed").
    """

    label: str
    schedule: str
    next_run: datetime | None = None
    last_run: datetime | None = None
    note: str = ""


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
    before: Existing | None
    after: Wanted | None
    edited: bool = False


@dataclass(frozen=True)
class Plan:
    """What it takes to bring one installation to what is wanted.

    `changes` has an entry for each file, the kept ones too. `wanted` is None for a removal.
    `inactive` tells what is written but not in force. `unlisted` is set if the manifest must be
    written though no file changes.
    """

    name: str
    kind: str
    changes: tuple[Change, ...]
    wanted: Installation | None = None
    inactive: tuple[str, ...] = ()
    unlisted: bool = False

    @property
    def work(self) -> tuple[Change, ...]:
        """The changes that do something."""
        return tuple(c for c in self.changes if c.action is not Action.KEEP)

    @property
    def edited(self) -> tuple[Change, ...]:
        """The changes that would overwrite or delete a text that is not ours."""
        return tuple(c for c in self.work if c.edited)

    @property
    def in_sync(self) -> bool:
        """Whether there is nothing to do, not even a manifest to write."""
        return not (self.work or self.inactive or self.unlisted)

    def of(self, *actions: Action) -> tuple[Change, ...]:
        """The changes with one of these actions."""
        return tuple(c for c in self.changes if c.action in actions)


class Target:
    """One way of scheduling; the module's docstring says what each member owes."""

    kind: str

    def __init__(self, site: Site, store: FileStore | None = None) -> None:
        self.site = site
        self.store = store or PlainFiles(site)

    def render(self, config: Config) -> Installation:
        """Everything wanted. Raises `InstallError` for what the scheduler cannot express."""
        raise NotImplementedError

    def traces(self, name: str) -> list[Path]:
        """The files that bear this name."""
        raise NotImplementedError

    def status(self, entries: Sequence[Entry], config: Config | None) -> list[EntryStatus]:
        """The next and the last runs of these entries, as far as they are known."""
        raise NotImplementedError

    def verify(self, wanted: Installation, config: Config) -> list[str]:
        """What is wrong with it, a sentence each."""
        return []

    def refusal(self) -> str | None:
        """Why nothing can be put in force now, in a sentence, or None."""
        return None

    def notes(self, config: Config) -> list[str]:
        """What a person should know of it, a sentence each."""
        return []

    def inactive(self, wanted: Installation) -> list[str]:
        """What of it is not in force, a sentence each."""
        return []

    def deactivate(self, paths: Sequence[Path]) -> None:
        """Take these files out of force before they are deleted."""

    def activate(self, plan: Plan) -> None:
        """Put what was written in force. Raises `InstallError` if the system refuses."""
