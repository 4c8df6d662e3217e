"""The jobs that dead workers have left are taken back.

At once where this host can tell that the worker is dead, elsewhere when its lease is over.
"""

from __future__ import annotations

import logging
import time
from typing import Any, Final

from ...backoff import BackoffLike, seconds
from ...job import FAILED, PENDING
from ...support.text import printable
from ..interface import Policies, Rescued
from . import identity
from .link import Link
from .looking import Looking
from .records import Lane, Record, Records, to_job
from .transitions import Grip, Transitions, died

log = logging.getLogger("dbbasic_queue")

RESCUE_EVERY: Final = 1.0  # seconds between two looks for dead workers


class Rescuer:
    """What looks for the dead workers of one queue."""

    def __init__(
        self, link: Link, records: Records, looking: Looking, transitions: Transitions
    ) -> None:
        self._link = link
        self._records = records
        self._looking = looking
        self._transitions = transitions
        self._rest_until = 0.0

    def rescue(self, max_attempts: int, backoff: BackoffLike, policies: Policies) -> list[Rescued]:
        """Take back what can be taken back now: see `Seat.rescue`."""
        now = time.monotonic()
        if now < self._rest_until:
            return []
        self._rest_until = now + RESCUE_EVERY
        lanes = self._looking.lanes()
        if not lanes:
            return []
        entries = self._link.ask(
            lambda pipe: [pipe.zrange(lane.started, 0, -1, withscores=True) for lane in lanes]
        )
        if not any(entries):
            return []
        moment = self._link.look_at_clock()
        rescued = []
        for lane, some in zip(lanes, entries, strict=True):
            ids = [self._records.own_id(member) for member, _ in some]
            found = {record.id: record for record in self._looking.records(ids)} if ids else {}
            for member, ends in some:
                record = found.get(self._records.own_id(member))
                execution = member.decode().partition(":")[2]
                if record is None or record.holder != execution:
                    self._drop(lane, member)
                elif ends <= moment or identity.is_dead(record.worker):
                    trying = policies.trying(record.type, max_attempts, backoff)
                    each = self._rescue(record, lane, *trying)
                    rescued += [each] if each else []
        return rescued

    def _rescue(
        self, record: Record, lane: Lane, max_attempts: int, backoff: BackoffLike
    ) -> Rescued | None:
        now = int(self._link.now())
        if record.attempts >= max_attempts:
            status, run_at = FAILED, now
        else:
            status, run_at = PENDING, now + seconds(backoff, record.attempts)
        error = died(record.attempts)
        grip = Grip(record.id, lane, record.holder or "", record.worker)
        done, now_is = self._transitions.end(grip, status, run_at, error, rescued=True)
        if not done or now_is is None:
            return None
        status, run_at, error = now_is.status, now_is.run_at, now_is.error or ""
        log.warning(
            "rescued %s %s: its worker died, attempt %d of %d; it is %s now",
            printable(record.type),
            record.id,
            record.attempts,
            max_attempts,
            status,
            extra={"event": "rescued", "job_id": record.id, "job_type": record.type},
        )
        job = to_job(record._replace(status=status, run_at=run_at, error=error))
        return Rescued(job, status, run_at)

    def _drop(self, lane: Lane, member: bytes) -> None:
        """Take out an entry of an execution that holds no job, if that is so still."""

        def change(pipe: Any, record: Record | None) -> None:
            if record is None or record.holder != member.decode().partition(":")[2]:
                pipe.multi()
                pipe.zrem(lane.started, member)

        self._transitions.change(self._records.own_id(member), change)
