"""What `dbq cancel --running` tells: what became of the jobs when their workers saw it."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Final

from ..job import CANCELLED, PROCESSING, Job
from ..queue import Queue
from ..support.text import dump_json
from .common import DONE, REFUSED, complain
from .secrets import Hide

PATIENCE: Final = 5.0  # seconds: the worker looks once a second, then the handler cleans up
PAUSE: Final = 0.05  # seconds between two looks


def told(queue: Queue, jobs: Iterable[Job], hide: Hide | None) -> tuple[int, list[Job]]:
    """Print what became of jobs that ran when they were cancelled, as JSON if there is a `hide`.

    Waits `PATIENCE` at most for their workers. Returns the exit code, and the jobs as they are now,
    less those that ended before they were broken off.
    """
    code, ends, done = DONE, time.monotonic() + PATIENCE, []
    for job in jobs:
        now: Job | None = job
        while now is not None and now.status == PROCESSING:
            now = queue.find_job(job.id)
            if time.monotonic() >= ends:
                break
            time.sleep(PAUSE)
        if now is None or now.status not in (CANCELLED, PROCESSING):
            status = now.status if now else "gone"
            complain(f"job {job.id} is {status}: it ended before it was broken off", REFUSED)
            code = REFUSED
            continue
        done.append(now)
        word = "asked" if now.status == PROCESSING else "cancelled"
        print(dump_json(hide(now.as_dict())) if hide else f"{word} {job.id}")
        if now.status == PROCESSING:
            complain(
                f"job {job.id} still runs: its worker breaks it off as soon as its handler lets it;"
                f" if the worker is dead, the next one cancels it. See dbq show {job.id}",
                DONE,
            )
    return code, done
