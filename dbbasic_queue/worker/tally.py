"""What a run has done, for the queue's history: noted in memory, handed over now and then.

A turn of the worker appends to a list, and no more. The thread of watch.py hands over what is there
once a minute, also while a job runs for hours; the worker itself while it waits, and in its end.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Collection
from typing import Final

from ..engines.interface import Ended, Engine, Outcome, Rescued
from ..errors import QueueError

log = logging.getLogger("dbbasic_queue")

SAVE_EVERY: Final = 60.0  # seconds: what the history loses at most of a worker that is killed
MANY: Final = 10_000  # attempts, after which it is handed over earlier
MOST: Final = 200_000  # attempts that are kept while they cannot be handed over
OTHER: Final = "other"  # stands for all types without a handler: a producer may make up any number
UNKNOWN: Final = -1.0  # seconds


class Tally:
    """The attempts of one run, as far as they are not in the history yet.

    Args:
        engine: to which they are handed.
        types: that there are handlers for.
    """

    def __init__(self, engine: Engine, types: Collection[str]) -> None:
        self._engine = engine
        self._types = types
        # (type, status, begun, due, seconds) of each; the worker appends here itself.
        self.noted: list[Ended] = []
        self._taken: list[Ended] = []  # of `noted`, and not handed over yet
        self._call = ""  # by which the engine knows these
        self._mutex = threading.Lock()  # of those that hand over
        self._saved = time.monotonic()
        self._told = False  # that the history cannot be written

    def note(self, outcome: Outcome) -> None:
        """Note an attempt that has ended, unless it does not count."""
        if not outcome.refund:
            job, _, _, due = outcome.attempt
            self.noted.append((job.type, outcome.status, job.run_at, due, outcome.seconds))

    def note_rescued(self, rescued: list[Rescued]) -> None:
        """Note what became of the jobs of dead workers; how long they ran is not known."""
        now = int(self._engine.now()) if rescued else 0
        for job, status, _ in rescued:
            self.noted.append((job.type, status, now, 0, UNKNOWN))

    def save_in_time(self) -> None:
        """Hand over what was noted, if that was long ago, or if it is much."""
        if time.monotonic() - self._saved >= SAVE_EVERY or len(self.noted) >= MANY:
            self.save()

    def save(self) -> None:
        """Hand over what was noted; if that fails, keep it for later."""
        with self._mutex:
            self._saved = time.monotonic()
            try:
                if self._taken:  # the last time failed
                    self._hand_over()
                if self.noted:
                    self._take()
                    self._hand_over()
            except QueueError as error:
                self._forget_some()
                if not self._told:
                    self._told = True
                    log.warning("the history is not written: %s", error, extra=_EVENT)

    def _hand_over(self) -> None:
        self._engine.add_history(self._taken, self._call)
        self._taken, self._told = [], False

    def _take(self) -> None:
        """Take what is noted; the worker may note more meanwhile."""
        noted, number = self.noted, len(self.noted)
        taken = noted[:number]
        del noted[:number]
        if not {ended[0] for ended in taken} <= self._known():
            known = self._known()
            taken = [ended if ended[0] in known else (OTHER, *ended[1:]) for ended in taken]
        self._taken, self._call = taken, os.urandom(8).hex()

    def _known(self) -> set[str]:
        return {name for name in self._types if isinstance(name, str) and name.isprintable()}

    def _forget_some(self) -> None:
        """See that what cannot be handed over does not fill the memory."""
        if len(self.noted) > MOST:
            number = len(self.noted) - MOST
            del self.noted[:number]
            log.warning("the history lacks %d attempts: they are too many", number, extra=_EVENT)


_EVENT: Final = {"event": "history"}
