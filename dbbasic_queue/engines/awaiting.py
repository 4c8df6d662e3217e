"""Waiting for a job to end."""

from __future__ import annotations

import time
from typing import Final

from ..job import FINISHED, Job
from .interface import Engine

FIRST: Final = 0.02  # seconds from one look to the next, which grow
LONGEST: Final = 0.5


def wait(engine: Engine, job_id: str, timeout: float | None) -> Job | None:
    """Return a job as soon as it has ended, or as it is after `timeout` seconds; None: for ever.

    None when there is no such job, or not any more. An engine that has not changed since is not
    searched again.
    """
    ends = None if timeout is None else time.monotonic() + timeout
    pause = FIRST
    while True:
        state = engine.state()  # before the look: what changes after it is looked at again
        job = engine.find(job_id)
        if job is None or job.status in FINISHED:
            return job
        while True:
            left = LONGEST if ends is None else ends - time.monotonic()
            if left <= 0:
                return job
            time.sleep(min(pause, left))
            pause = min(2 * pause, LONGEST)
            if engine.state() != state:
                break
