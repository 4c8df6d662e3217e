"""What else lays hands on a queue's folder or its jobs: git, a web server, another worker."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ..config.sections import Config
from .finding import Problem, warning

# Where web servers find what they serve, on Debian, Fedora, Arch and openSUSE. dbbasic-deploy
# empties /var/www/APP at each deployment.
WEB_ROOTS: Final = ("/var/www", "/srv/www", "/srv/http", "/usr/share/nginx/html")
FAMILY_WORKER: Final = b"email:worker"  # as `dbbasic email:worker` runs it, for data/queue.tsv


def neighbour_problems(config: Config) -> Iterator[Problem]:
    """Find what may remove the queue's file, serve it, or fail its jobs."""
    table = config.queue.file
    if table is None:
        return
    where, folder = "[queue].file", table.parent
    home = f"put it into a folder of its own, such as /var/lib/{config.name}"
    for root in WEB_ROOTS:
        if folder.is_relative_to(root):
            yield warning(
                where,
                f"{folder} is below {root}: a web server may serve the jobs, and a deployment may"
                f" remove them; {home}",
            )
    if tree := _work_tree(folder):
        yield warning(
            where,
            f"{folder} is in the git work tree {tree}: git clean, or a new checkout, takes the"
            f" jobs away; {home}",
        )
    for process in _family_workers(table):
        yield warning(
            where,
            f"process {process} is an email:worker of this file, which fails all jobs but its own:"
            ' stop it, and name its handlers too: handlers = ["dbbasic_email:QUEUE_HANDLERS", …]',
        )


def _work_tree(folder: Path) -> Path | None:
    """The git work tree that a folder is in. git itself is not asked: it runs what a tree says."""
    for above in (folder, *folder.parents):
        if os.path.lexists(above / ".git"):
            return above
    return None


def _family_workers(table: Path) -> Iterator[int]:
    """The processes that run `dbbasic email:worker` in a folder whose data/queue.tsv is `table`."""
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        try:
            if FAMILY_WORKER not in (process / "cmdline").read_bytes().split(b"\0"):
                continue
            if (process / "cwd" / "data" / "queue.tsv").samefile(table):
                yield int(process.name)
        except OSError:  # it has ended, belongs to another user, or has not made a table yet
            continue
