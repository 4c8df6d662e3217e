"""Makes each run of a scenario take the same steps: see scenarios.py."""

from __future__ import annotations

import os
import random
import weakref
from collections.abc import Iterator
from pathlib import Path

from dbbasic_queue.engines.tsv import history, idle
from dbbasic_queue.table import opened, reading
from dbbasic_queue.worker import tally, watch

CHECKOUT = Path(__file__).resolve().parents[2]
LONG = 1e6  # seconds


class InOrder:
    """Holders of open files: a `WeakSet` of them has another order in each process."""

    def __init__(self) -> None:
        self._all: list[weakref.ref[opened.Held]] = []

    def add(self, holder: opened.Held) -> None:
        """Take in a new one."""
        self._all.append(weakref.ref(holder))

    def __iter__(self) -> Iterator[opened.Held]:
        return (holder for ref in self._all if (holder := ref()) is not None)


def hold_still(chance: random.Random) -> None:
    """Let nothing hang on chance, time, memory or the current folder, in this process for good."""
    os.urandom = chance.randbytes  # ids and temporary names as the seed has them
    os.chdir(CHECKOUT)  # a job's error names the handler's file as seen from here
    opened._held = InOrder()  # type: ignore[misc, assignment]
    # What has been quiet for 20 ms is trusted, a folder or a file. So none is:
    opened.SECOND = 1  # type: ignore[misc]
    reading.TICK = 10**18  # type: ignore[misc]
    # What is done again after a time is not done again, however long a step takes.
    watch.LOOK_EVERY = LONG  # type: ignore[misc]
    idle.MARK_EVERY = LONG  # type: ignore[misc]
    idle.rest_after = lambda cost: LONG
    # How long a job ran is another number each time; what is added to the history has a scenario.
    tally.Tally.save = lambda self: None  # type: ignore[method-assign]
    history.is_over = lambda moment: False
