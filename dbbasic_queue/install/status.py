"""What is installed, when it runs next, when it ran last, and which jobs are running now."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from ..engines.tsv.claims import Claims
from .manifest import digest, load_manifest
from .target import EntryStatus, Target

if TYPE_CHECKING:
    from ..config.sections import Config


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
    running = None
    if config is not None:
        queue = target.site.below(config.queue.file)
        running = tuple(holders(queue, _claimed(queue)))
    return Status(name, target.kind, manifest.config, files, entries, running)


def holders(queue_file: Path, held: Callable[[str], bool] | None = None) -> list[str]:
    """Which jobs are running, and which processes hold the claims file.

    Args:
        queue_file: the table. Only read, not locked: a job may end while this is told.
        held: whether a job's claim is held, by its id; without it the row's word is taken.
    """
    processes = _having_open(queue_file.with_suffix(".claims"))
    by = f" by process {', '.join(map(str, processes))}" if processes else ""
    found = []
    for job, kind, started in _processing(queue_file):
        if held is not None and not held(job):
            found.append(f"{job} {kind} is orphaned: its worker died; the next one rescues it")
        else:
            found.append(f"{job} {kind} since {datetime.fromtimestamp(started):%F %T}{by}")
    return found


def _claimed(queue_file: Path) -> Callable[[str], bool]:
    """Whether a job's claim is held; yes if the caller may not read the claims."""
    claims = Claims(queue_file.with_suffix(".claims"), queue_file)

    def held(job: str) -> bool:
        try:
            return claims.is_held(job.encode())
        except PermissionError:
            return True

    return held


def _processing(queue_file: Path) -> Iterator[tuple[str, str, int]]:
    """Id, type and start of the jobs that run, as the table says; of two rows the later wins."""
    try:
        lines = queue_file.read_bytes().split(b"\n")
    except OSError:
        return
    rows: dict[str, list[str]] = {}
    for line in lines:
        fields = line.decode("utf-8", "replace").split("\t")
        if len(fields) == 9 and re.fullmatch(r"[A-Za-z0-9_-]{1,64}", fields[0]):
            rows[fields[0]] = fields
    for job, fields in rows.items():
        if fields[3] == "processing" and re.fullmatch(r"[0-9]{1,11}", fields[5]):
            yield job, fields[1], int(fields[5])


def _having_open(path: Path) -> list[int]:
    """Processes with this file open, of those that the caller may look into (proc(5))."""
    wanted = os.path.realpath(path)
    processes = (process for process in os.listdir("/proc") if process.isdigit())
    return sorted(int(process) for process in processes if wanted in _open_files(process))


def _open_files(process: str) -> list[str]:
    folder, found = f"/proc/{process}/fd", []
    with contextlib.suppress(OSError):  # it ended, or is somebody else's
        for descriptor in os.listdir(folder):
            with contextlib.suppress(FileNotFoundError):  # closed in the meantime
                found.append(os.readlink(f"{folder}/{descriptor}"))
    return found
