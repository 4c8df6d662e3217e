"""A worker's place at a table while it has no job: what it looks for, and what dead workers left.

The waiting list learns of appended jobs at each turn. Of rows that others put back in place it
learns only by reading the whole table again: as often as rests.py says.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection
from typing import Final

from ...backoff import BackoffLike, seconds
from ...job import CANCELLED, FAILED, PENDING, PROCESSING, Job
from ...support.text import printable
from ...table.line import Row, to_job
from ...table.table import Table
from ..calling_off import note_of
from ..interface import NONE, Attempt, Policies, Rescued
from ..unique import instead
from . import hint, twins
from .asked import Asked
from .claims import Claims
from .gate import Gate
from .noting import Notes
from .rests import Rests, rest_after
from .uniqueness import Waits
from .waiting import WaitingList

log = logging.getLogger("dbbasic_queue")

MARK_EVERY: Final = 5  # seconds between two notes that a worker is at work


class IdleSeat:
    """What a worker at a table does between its turns; `TsvSeat` adds those.

    Args:
        table: of the engine; it exists.
        claims: of the engine.
        clock: Unix seconds.
        place: the worker slot to give back in the end, if one was taken.
        heard: the byte that says which word to the workers this one has heard (restart.py).
    """

    def __init__(
        self,
        table: Table,
        claims: Claims,
        clock: Callable[[], float],
        place: int | None = None,
        heard: int | None = None,
    ) -> None:
        self.stopping: Callable[[], bool] = lambda: False  # not asked: a file is never away
        self._table = table
        self._claims = claims
        self._clock = clock
        self._place = place
        self._heard = heard
        self._waiting = WaitingList(table)
        self._asked = Asked(table.data_file)
        self._waits = Waits(table)
        self._in_hand: Attempt | None = None
        self._ending: int | None = None  # the claim on the job whose end is being written
        self._notes = Notes(table)
        # What is still to be written of it and where, and where the next row begins.
        self._end, self._end_at, self._behind = b"", 0, 0
        self._marked, self._rescued_at = time.monotonic(), 0.0  # last times
        self._rests = Rests(str(table.data_dir))
        self._gate = Gate(table, claims, self._waiting, clock)
        self._look_at_all(hint.read(table))

    def introduce(self, types: Collection[str]) -> None:
        """Do nothing: the workers of a file have one config."""

    def govern(self, policies: Policies) -> None:
        """Go by these policies, as `Seat.govern` says."""
        self._gate.govern(policies)

    def _look_at_all(self, start: int = 0) -> None:
        self._state = self._table.state()
        self._waiting.read(start)
        self._gate.look()
        self._looked = time.monotonic()

    def _mark(self, now: float) -> None:
        self._marked = now
        self._claims.mark_run()
        self._gate.look()

    def _is_outdated(self, row: Row) -> bool:
        """Whether a later line of this job is alive; if so, finish what a crash interrupted."""
        return twins.is_left_of_a_move(self._table, self._claims, row, self._waiting.moved)

    def _part_twins(self) -> None:
        """See that no line runs that bears the id of another. Call it under the lock."""
        found, self._waiting.twins = self._waiting.twins, {}
        for job_id, places in found.items():
            twins.part(self._table, self._claims, job_id, places, self._waiting.moved)

    # -- what dead workers left ----------------------------------------------------------------

    def rescue(
        self, max_attempts: int, backoff: BackoffLike, policies: Policies = NONE
    ) -> list[Rescued]:
        """Take back the jobs whose worker died: see `Seat.rescue`.

        Looks again after all was read anew, or the pause that `wait` keeps between two readings.
        """
        waiting, now, last = self._waiting, time.monotonic(), self._rescued_at
        soon = now < last + rest_after(waiting.read_cost) and waiting.read_at <= last
        if soon or not waiting.processing:
            return []
        self._rescued_at = now
        rescued = []
        rules = int(self._clock()), max_attempts, backoff, policies
        with self._table.writing():
            waiting.catch_up()
            if waiting.twins:
                self._part_twins()
            suspects, waiting.processing = waiting.processing, []
            for offset in suspects:
                row = self._table.read_row(offset)
                if row is None or row.status != PROCESSING or self._is_outdated(row):
                    continue
                if self._claims.is_held(row.id):
                    waiting.processing.append(offset)
                else:
                    rescued.append(_rescue(self._table, waiting, row, *rules))
        if rescued:
            self._table.sync()
        return rescued

    def wait(self, most: float) -> bool:
        """Wait for at most `most` seconds until there may be work; whether there may be."""
        ends = time.monotonic() + most
        while not self._may_have_work():
            now = time.monotonic()
            if now >= ends:
                return False
            if now - self._marked >= MARK_EVERY:
                self._mark(now)
            self._rests.take(now, min(self._gate.until_due(), ends - now))
        self._rests.end()
        return True

    def _may_have_work(self) -> bool:
        waiting = self._waiting
        self._gate.look_for_places()
        if self._gate.until_due() <= 0:
            return True
        if waiting.doubtful or waiting.is_stale() or not self._table.is_at(waiting.read_to):
            return True
        if time.monotonic() - self._looked < rest_after(self._waiting.read_cost):
            return False
        if self._table.state() == self._state:
            return False
        self._look_at_all()
        return True

    # -- the end -------------------------------------------------------------------------------

    def leave(self) -> None:
        """Leave the place; a job that is still in hand is given up, for the next run to rescue."""
        attempt, self._in_hand = self._in_hand, None
        self._rests.end()
        self._gate.leave()
        if attempt is not None:
            self._claims.release(attempt.token[4])
        else:
            self._table.compact_if_moved()
            hint.write(self._table, self._waiting.first())
        if self._place is not None:
            self._claims.release_slot(self._place)
            self._place = None
        if self._heard is not None:
            self._claims.unshare(self._heard)
            self._heard = None


def _rescue(
    table: Table,
    waiting: WaitingList,
    row: Row,
    now: int,
    max_attempts: int,
    backoff: BackoffLike,
    policies: Policies,
) -> Rescued:
    """Take back a job whose worker died. Call it under the lock."""
    job_type = row.type.decode(errors="replace")
    max_attempts, backoff = policies.trying(job_type, max_attempts, backoff)
    error = b"WorkerDied: the worker died while it ran this job (attempt %d)" % row.attempts
    note = note_of(row.error.decode(errors="replace"))
    if note:
        status, run_at, error = CANCELLED, now, note.encode()
    elif row.attempts >= max_attempts:
        status, run_at = FAILED, now
    elif other := Waits(table).other(row.id.decode()):
        status, text = instead(error.decode(), False, other)
        run_at, error = now, text.encode()
    else:
        status, run_at = PENDING, now + seconds(backoff, row.attempts)
    row = table.change(row, status, run_at, row.attempts, error)
    if status == PENDING:
        waiting.add(run_at, row.offset)
    job = to_job(row)
    which = f"attempt {job.attempts} of {max_attempts}; it is {status} now"
    warn("rescued", f"rescued %s %s: its worker died, {which}", job)
    return Rescued(job, status, run_at)


def warn(event: str, message: str, job: Job) -> None:
    """Log what happened to a job: `message` has its type and its id."""
    more = {"event": event, "job_id": job.id, "job_type": job.type}
    log.warning(message, printable(job.type), job.id, extra=more)
