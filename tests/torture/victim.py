"""A process of its own for strace to watch: one scenario, told on standard output.

python -m tests.torture.victim ROOT CASE SEED
"""

from __future__ import annotations

import errno
import logging
import os
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dbbasic_queue import Queue, StorageError, current_job

from . import faults
from .play import Case
from .reader import FINISHED, read
from .scenarios import TABLE, Stage
from .shim import Plan


def main(root: str, case: str, seed: str) -> None:
    """Play the case, and tell."""
    logging.disable(logging.CRITICAL)
    if case.startswith("full-tmpfs"):
        for problem in fill(Path(root), case.partition("/")[2]):
            print(problem)
        return

    def tell(what: Any) -> None:
        os.write(1, pickle.dumps(what))

    parsed = Case.parse(case)
    stage = Stage(Path(root), int(seed) + 1, parsed.durability, tell)
    tell(faults.suffer(stage, parsed.scenario, Plan(), go_on=parsed.how[:4] not in ("", "kill")))


def fill(root: Path, durability: str) -> Iterator[str]:
    """Fill the disk with jobs, work them off while it is full; yields what is wrong."""
    queue = Queue(root / TABLE, durability)
    names = []
    try:
        while True:
            names.append(queue.enqueue("work", {"pad": "x" * 200}))
    except StorageError as error:
        if error.errno != errno.ENOSPC:
            yield f"a full disk is reported as {error!r}"
    view = read(queue.path)
    if list(view.jobs) != names or view.malformed or view.torn:
        yield f"{len(names)} jobs were acknowledged, {len(view.jobs)} are there, {view.torn!r}"
    try:
        queue.enqueue_many([("work", {"pad": "x" * 200})] * 50)
        yield "a batch was accepted by a full disk"
    except StorageError:
        pass
    if list(read(queue.path).jobs) != names:
        yield "part of a batch was left on a full disk"
    runs = []

    def handler(payload: Any) -> str:
        runs.append(current_job().id)
        return "a result that is far too long for the reserve of a row, " * 5

    queue.process_jobs({"work": handler})
    final = read(queue.path)
    if sorted(runs) != sorted(names) or {s.status for s in final.jobs.values()} - set(FINISHED):
        yield f"of {len(names)} jobs {len(runs)} were run while the disk was full"
    free = os.statvfs(root).f_bavail
    pruned = queue.prune_jobs(0) if free else len(names)
    if pruned != len(names) and free:
        yield f"pruned {pruned} of {len(names)}"


if __name__ == "__main__":
    main(*sys.argv[1:])
