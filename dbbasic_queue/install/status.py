"""What is installed, when it runs next, when it ran last, and which jobs are running now."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from ..engines import open_engine, prepare
from ..engines.interface import Engine
from ..errors import QueueError
from ..job import FINISHED
from ..support.account import Account
from ..support.child import ChildDied, ChildTimeout, call
from .manifest import Manifest, digest, load_manifest
from .target import EntryStatus, Target

if TYPE_CHECKING:
    from ..config.sections import Config


PATIENCE = 2.0  # seconds to wait for the server of a queue
SECONDS = 8.0  # that all answers of a server may take
_GONE = "its file was taken out by hand: nothing starts it"


@dataclass(frozen=True)
class Status:
    """One installation as it is now.

    Args:
        name: the config's name.
        kind: the target's.
        config: the config that it was installed from.
        files: each file installed, with "as installed", "changed by hand" or "missing".
        entries: what is scheduled.
        running: the jobs that are running, one sentence each; None if that is not known.
    """

    name: str
    kind: str
    config: str
    files: dict[str, str]
    entries: tuple[EntryStatus, ...]
    running: tuple[str, ...] | None


def survey(target: Target, name: str, config: Config | None) -> Status | None:
    """The status of one installation, or None if nothing is installed under this name.

    Args:
        target: where to look.
        name: the config's name.
        config: if it can still be read; without it neither jobs nor traces of runs are found.

    Raises `InstallError` if the manifest or an installed file cannot be read.
    """
    manifest = load_manifest(target.site, name, target.kind)
    if manifest is None:
        return None
    files = {}
    for path, hashes in sorted(manifest.hashes.items()):
        found = target.store.read(path)
        state = "missing" if found is None else "changed by hand"
        files[str(path)] = "as installed" if found and digest(found.text) in hashes else state
    installed = manifest.entries
    if not installed and config is not None:  # version 2.0.0 did not write them down
        installed = target.render(config).entries
    entries = tuple(target.status(installed, config))
    if is_gone(target, manifest):
        entries = tuple(replace(each, next_run=None, note=_GONE) for each in entries)
    running = None
    if config is not None:
        with contextlib.suppress(QueueError, ChildTimeout, ChildDied):
            running = _running(target, config)
    return Status(name, target.kind, manifest.config, files, entries, running)


def is_gone(target: Target, manifest: Manifest) -> bool:
    """Return whether an installation was taken out by hand, so that nothing starts its entries.

    systemd tells by itself what it has loaded; cron and logrotate have nothing but the files.
    Raises `InstallError` if a file cannot be read.
    """
    if target.kind.startswith("systemd"):
        return False
    return all(target.store.read(path) is None for path in manifest.hashes)


def _running(target: Target, config: Config) -> tuple[str, ...] | None:
    """The jobs that are running, a sentence each; None if that is not known."""
    if config.queue.file is not None:
        # An image's queue is the one below it, not that of the same path on this machine.
        return tuple(running_jobs(open_engine(target.site.below(config.queue.file))))
    if not target.site.live:
        return None
    # A server may never answer, and only the worker's user may read its address.
    account = Account.find(config.worker.user)
    user = account if account and os.geteuid() == 0 and not account.is_me else None
    if user is not None:
        prepare()
    options = {**config.queue_options, "lock_timeout": PATIENCE}
    return call(
        lambda: tuple(running_jobs(open_engine(config.address(), **options))), SECONDS, user=user
    )


def unfinished_jobs(file: Path) -> int:
    """Return how many jobs of a queue are not finished: pending or processing.

    Raises `StorageError` or `TableError` if the queue cannot be read.
    """
    counts = open_engine(file).counts()
    return sum(count for status, count in counts.items() if status not in FINISHED)


def running_jobs(engine: Engine) -> list[str]:
    """The jobs that are running, a sentence each.

    Raises `StorageError` if the queue cannot be read; a queue that is not there has none.
    """
    found = []
    for running in engine.running():
        job = running.job
        if running.alive is False:
            said = "is orphaned: its worker died; the next one rescues it"
        else:
            by = f" by process {running.process}" if running.process else ""
            said = f"since {datetime.fromtimestamp(job.run_at):%F %T}{by}"
        found.append(f"{job.id} {job.type} {said}")
    return found
