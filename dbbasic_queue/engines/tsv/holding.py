"""What holds jobs back that are due: pauses, and the rates and limits of their types.

No worker is late with such a job, so it is not overdue. It is again when its type has been open for
as long as a job may wait: a rate that had one left all that time is not what it waits for.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from ...errors import StorageError
from ...table.table import Table
from ..answers import Limits
from ..pausing import Held
from . import paused, rates
from .claims import Claims

KNOWN: Final = 1000  # types of which it is remembered


class HeldBack:
    """Types that are held back: asked by `in`.

    What this user cannot read holds nothing back.

    Args:
        table: of the queue.
        claims: of the queue, where the limits of types are.
        limits: of the look: the moment, and from when on jobs are overdue.
    """

    def __init__(self, table: Table, claims: Claims, limits: Limits) -> None:
        self.pauses = paused.seen(table.sibling("paused"), limits.now)
        self._held = Held(self.pauses)
        self._claims = claims
        self._policies = limits.policies
        self._waiting: set[str] = set()  # for their rate
        with suppress(StorageError):
            opens = rates.opens(rates.read(table.sibling("rates")), limits.policies, limits.now)
            self._waiting = {each for each, at in opens.items() if at >= limits.overdue_before}
        self._limited = limits.policies.any(lambda policy: policy.concurrency)
        self._known: dict[str, bool] = {}

    def __bool__(self) -> bool:
        """Whether there may be such a type."""
        return bool(self.pauses or self._waiting or self._limited)

    @property
    def all(self) -> bool:
        """Whether all types are."""
        return self._held.all

    def __contains__(self, job_type: str) -> bool:
        held = self._known.get(job_type)
        if held is None:
            if len(self._known) >= KNOWN:
                self._known.clear()
            held = job_type in self._held or job_type in self._waiting or self._is_full(job_type)
            self._known[job_type] = held
        return held

    def _is_full(self, job_type: str) -> bool:
        limit = self._policies.of(job_type).concurrency if self._limited else None
        with suppress(StorageError):
            return limit is not None and self._claims.are_all_taken(job_type, limit)
        return False
