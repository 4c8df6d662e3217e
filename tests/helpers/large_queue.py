"""A queue after two busy days: many jobs, five kinds of failures, a history, awkward texts."""

from __future__ import annotations

import random
import time
from pathlib import Path

from dbbasic_queue import Queue
from dbbasic_queue.job import Job

TYPES = ("mail.send", "report.build", "sync", "thumbnail")
HOSTILE = "<script>alert('type')</script>" + "W" * 34
ERRORS = (
    "ConnectionRefusedError: [Errno 111] Connection refused\\n  mail.py:17 in send",
    "KeyError: 'to'",
    "ValueError: no user {n} in 'it'",
    "TimeoutError: no answer after {n} s",
    "<img src=x onerror=alert(1)>: \u202e<b>turned</b> " + "x" * 3000,
)


def large_queue(path: Path, jobs: int, seed: int = 1) -> Queue:
    """Make a queue of so many jobs: nine in ten completed, some failed, cancelled and pending.

    Its history knows of those that have ended; two types are paused.
    """
    chance, now = random.Random(seed), int(time.time())
    made, noted = [], []
    for n in range(jobs):
        kind = HOSTILE if n % 5000 == 0 else chance.choice(TYPES)
        ended = now - chance.randrange(0, 48 * 3600)
        payload = {"to": "zoe@example.org", "n": n}
        roll = chance.random()
        if n % 5000 == 0 or 0.9 <= roll < 0.93:
            error = ERRORS[4] if n % 5000 == 0 else chance.choice(ERRORS).format(n=n)
            job = (payload, "failed", ended - 60, ended, 3, error)
        elif roll < 0.9:
            job = (payload, "completed", ended - 60, ended, 1, None)
        elif roll < 0.94:
            job = (payload, "cancelled", ended - 60, ended, 0, "Cancelled by user")
        else:
            job = (payload, "pending", now - 60, now + chance.randrange(-30, 7200), 0, None)
        made.append(Job(f"j{n:06d}", kind, *job))
        if job[1] in ("completed", "failed"):
            waited, ran = chance.randrange(60), chance.expovariate(0.2)
            noted.append((kind, job[1], int(ended - ran), int(ended - ran) - waited, ran))
            if chance.random() < 0.03:  # an earlier attempt at it
                noted.append((kind, "pending", ended - 90, ended - 90, 1.0))
    queue = Queue(path, "normal")
    queue.engine.adopt(made)
    queue.engine.add_history(noted, "large")
    queue.pause("thumbnail", why="its disk is full")
    queue.pause(HOSTILE, why="<b>unknown</b>")
    return queue
