"""New code: when a worker that waits for jobs makes room for one that has it."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Sequence
from typing import Final

from ..errors import StorageError

log = logging.getLogger("dbbasic_queue")

LOOK: Final = 1.0  # seconds between two looks


class Renewal:
    """Whether it is time for new code, as `dbq restart` or a deployment says.

    Args:
        said: what was last said to the workers of the queue; read now, and compared later.
        came_by: paths by which the code came. A release that is deployed as a folder behind a link
            (`current`) has gone when one of them leads elsewhere.
    """

    def __init__(self, said: Callable[[], str], came_by: Sequence[str] = ()) -> None:
        self._said = said
        self._heard = said()
        self._came_by = {path: os.path.realpath(path) for path in came_by}
        self._next = time.monotonic() + LOOK
        self._told = False
        self._is_due = False

    def due(self) -> bool:
        """Whether the worker is to take no more jobs; looks at most once a second."""
        if not self._is_due and time.monotonic() >= self._next:
            self.look()
        return self._is_due

    def look(self) -> None:
        """Look now."""
        self._next = time.monotonic() + LOOK
        why = "" if self._is_due else self._why()
        if why:
            self._is_due = True
            log.info("%s: takes no more jobs", why, extra={"event": "restart"})

    def _why(self) -> str:
        try:
            if self._said() != self._heard:
                return "dbq restart"
        except StorageError as error:  # a turn that needs what keeps the jobs waits, or fails
            if not self._told:
                self._told = True
                log.warning("cannot see whether dbq restart was called: %s", error)
        for path, real in self._came_by.items():
            now = os.path.realpath(path)
            if now != real and os.path.exists(now):
                return f"{path} leads to {now} now"
        return ""
