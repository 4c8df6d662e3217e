"""A worker's place at a table: one attempt ended, the next begun.

Theory of operation
-------------------
The waiting list says which job is next, the claim says that it is ours, the table writes it: all
under one lock, together with how the last attempt ended. One sync follows, outside the lock.

In a queue that is worked off, the job that begins most often stands right behind the one that
ended. Then one write changes both: the tail of the one, the head of the other as it stands there,
and its tail. Each tail lies in one sector, so that a crash leaves each as it was or as it shall be.

A job is ours while its line is as we left it, in the same generation of the file; else it is
looked for by its id, and written to only if it is still processing this very attempt. What another
process changed meanwhile stands ("fenced").

What a worker does between its turns is in idle.py.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Container
from typing import Final

from ...errors import StorageError
from ...job import CANCELLED, COMPLETED, NEXT_LINE, PENDING, PROCESSING, Job, require
from ...table.line import (
    ATTEMPTS_LIMIT,
    SECTOR,
    Row,
    begin,
    in_place,
    new_tail,
    parse_line,
    to_job,
)
from ...table.scan import NAMES_PENDING
from ...table.table import Table
from ..calling_off import note_of
from ..interface import Attempt, Outcome
from ..progress import Progress
from ..unique import instead
from . import idle
from .gate import NOTHING, Look
from .idle import IdleSeat, warn
from .uniqueness import Waits

log = logging.getLogger("dbbasic_queue")

_PLACE: Final = NEXT_LINE.encode()  # before where an attempt failed
_new_tuple = tuple.__new__  # without the call of a NamedTuple's __new__, written in Python

# What a token is: offset and line of the row as this worker left it, where the tail begins in the
# line, the generation of the file, and the claim.
_Token = tuple[int, bytes, int, int, int]


class TsvSeat(IdleSeat):
    """One worker at one table; `engine.seat()` makes it, with the arguments of `IdleSeat`."""

    def turn(
        self,
        outcome: Outcome | None = None,
        take: bool = True,
        types: Collection[str] | None = None,
    ) -> Attempt | None:
        """Write how the last attempt ended and begin the next, as `Seat.turn` says: one sync."""
        # No argument is keyword-only: CPython 3.11 would take a slower way to call this.
        table, waiting, lock = self._table, self._waiting, self._table.lock
        attempt, self._in_hand, self._end = None, None, b""
        self._ending = None if outcome is None else outcome.attempt.token[4]
        read, changed = False, outcome is not None
        if outcome is not None and outcome.status == PENDING:
            self._waits.search(outcome.attempt.job.id)
        try:
            while True:
                if waiting.doubtful:
                    waiting.resolve()
                with lock.mutex, lock.unlocking, lock.inside:
                    table.acquire(False, True)
                    if read or waiting.generation == table.generation:
                        if read or waiting.read_to != table.size:
                            self._catch_up()
                        if outcome is not None:
                            self._settle(outcome)
                        if waiting.twins:
                            self._part_twins()
                        attempt = self._take_next(take, types)
                        if attempt is not None or not take or not self._has_more():
                            break
                        outcome = None  # written; what came meanwhile is looked at first
                        continue
                waiting.read()  # all of it, which should not hold others up
                read = True
        except BaseException:
            self._release_ended()
            raise
        if table.synced and (changed or attempt is not None or self._gate.wrote):
            self._sync(attempt)
        self._in_hand = attempt
        now = time.monotonic()
        if now - self._marked >= idle.MARK_EVERY:
            self._mark(now)
        return attempt

    def _catch_up(self) -> None:
        self._waiting.catch_up()
        if self._waiting.told:
            self._gate.look()

    def _take_next(self, take: bool, types: Collection[str] | None) -> Attempt | None:
        """Begin a job, if one is to be taken; at last write what is still to be written."""
        try:
            if not take:
                return None
            return self._take(types) if self._gate.free else self._choose(types)
        finally:
            if self._end:
                self._write_end()

    def _has_more(self) -> bool:
        """Whether there may be a job to take after all, when more was looked at."""
        return bool(self._waiting.doubtful) or self._gate.passed_many()

    def _sync(self, attempt: Attempt | None) -> None:
        self._gate.wrote = False
        try:
            self._gate.sync()
            self._table.sync()
        except StorageError:
            if attempt is not None:
                self._put_back(attempt)
            raise

    def _settle(self, outcome: Outcome) -> None:
        """Write how an attempt ended, if the job is ours still; or leave that to `_begin`."""
        attempt, status, run_at, error, result, _, _, _ = outcome
        job, token, _, _ = attempt
        offset, line, tail_at, generation, _ = token
        table = self._table
        held = generation == table.generation and table.holds(line, offset)
        moved, found = self._waiting.moved, self._waiting.twins
        if held and moved and moved.get(job.id.encode(), 0) > offset:
            found[job.id.encode()] = [offset, moved[job.id.encode()]]
        if held and status == COMPLETED and not error and not found:  # as most of them end
            at, room, text = offset + tail_at, len(line) - tail_at - 1, result.encode()
            tail = new_tail(at, room, status, job.created_at, run_at, job.attempts, b"", text)
            if tail is not None:
                self._end, self._end_at, self._behind = tail + b"\n", at, offset + len(line)
                return
        row = (
            parse_line(line, offset)
            if held
            else self._notes.row(token) or _row_if_ours(self._table, job)
        )
        if row is not None:
            self._change_row(row, outcome)
        self._release_ended()

    def _write_end(self) -> None:
        """Write the end of an attempt that `_settle` has left to be written."""
        end, self._end = self._end, b""
        self._table.write_in_place(end, self._end_at)
        self._release_ended()

    def _release_ended(self) -> None:
        claim, self._ending = self._ending, None
        if claim is not None:
            self._claims.release(claim)

    def _change_row(self, row: Row, outcome: Outcome) -> None:
        """Write how an attempt ended into its row.

        On a full disk a change in place is perhaps still possible: without error and result.
        """
        result, refund = outcome.result, outcome.refund
        status, run_at, error = _end_of(row, outcome, int(self._clock()), self._waits)
        require(row.id, row.status, status)
        attempts, table = row.attempts - refund, self._table
        try:
            row = table.change(row, status, run_at, attempts, error.encode(), result.encode())
        except StorageError as fault:
            if not (error or result):
                raise
            log.error("%s: %s is recorded without error or result", fault, row.id.decode())
            row = table.change(row, status, run_at, attempts)
        if status == PENDING:
            self._waiting.add(run_at, row.offset)

    def note(self, attempt: Attempt, progress: Progress) -> bool:
        """Write how far the attempt in hand is, as `Seat.note` says."""
        with self._table.writing():
            return self._in_hand is attempt and self._notes.write(attempt, progress)

    def _choose(self, types: Container[str] | None) -> Attempt | None:
        """Take a job as the pauses and the policies have it."""
        outright = self._gate.outright(types)
        if outright is NOTHING:
            self._gate.begun(None)
            return None
        attempt = self._take(outright, self._gate.pop_due, types)
        self._gate.begun(attempt and attempt.job.type)
        return attempt

    def _take(
        self,
        types: Container[str] | None,
        pop_due: Callable[[int], int | None] | None = None,
        wanted: Container[str] | None = None,
    ) -> Attempt | None:
        """Take a job of `types`, or one of those `wanted` that the gate admits after a look."""
        now = int(self._clock())
        waiting, gate = self._waiting, self._gate
        pop_due = pop_due or waiting.pop_due
        line_at, moved = self._table.line_at, waiting.moved
        while (offset := pop_due(now)) is not None:
            line = line_at(offset)
            begun = begin(line, offset, now)
            if begun is not None and not (moved and offset < moved.get(begun[0], 0)):
                if types is not None and begun[1].type not in types:
                    _, job, _, _, due = begun
                    look = Look(job.type, due, job.attempts - 1, offset)
                    if gate.free or not self._admits(look, wanted, now):
                        if gate.is_full:
                            return None
                        continue
                attempt = self._begin(line, offset, begun)
            elif NAMES_PENDING in line:
                attempt = self._take_odd(line, offset, now, types, wanted)
            else:  # another worker has it; or the row has moved
                if not line:  # saved in place, without the lock
                    self._read_again()
                    moved = waiting.moved
                continue
            if attempt is not None:
                return attempt
        return None

    def _read_again(self) -> None:
        self._flush()
        self._waiting.read()

    def _flush(self) -> None:
        if self._end:
            self._write_end()

    def _admits(self, look: Look, wanted: Container[str] | None, now: int) -> bool:
        """Whether the gate lets a job through; one that has expired is cancelled."""
        gate = self._gate
        if gate.admits(look, wanted, now):
            return True
        if gate.is_to_cancel:
            self._flush()
            gate.cancel(now)
        return False

    def _begin(
        self, line: bytes, offset: int, begun: tuple[bytes, Job, int, bytes, int]
    ) -> Attempt | None:
        job_id, job, tail_at, tail, due = begun
        if self._end and (offset != self._behind or tail_at > SECTOR):
            self._write_end()
        claim = self._claims.take(job_id)
        if claim is None and self._end:  # perhaps the two jobs share a byte
            self._write_end()
            claim = self._claims.take(job_id)
        if claim is None:
            return None  # a person put it back while it runs
        table = self._table
        line = line[:tail_at] + tail + b"\n"
        try:
            if self._end:
                table.write_in_place(self._end + line, self._end_at)
                self._end = b""
            else:
                table.write_in_place(tail, offset + tail_at)
        except BaseException:
            self._claims.release(claim)
            raise
        ended, self._ending = self._ending, None  # `_release_ended` in short
        if ended is not None:
            self._claims.release(ended)
        token = offset, line, tail_at, table.generation, claim
        return _new_tuple(Attempt, (job, token, False, due))

    def _take_odd(
        self,
        line: bytes,
        offset: int,
        now: int,
        types: Container[str] | None,
        wanted: Container[str] | None,
    ) -> Attempt | None:
        """Take a job that `begin` declined: written by another program, unreadable, outdated or
        not yet due."""
        if self._end:
            self._write_end()
        row = parse_line(line, offset)
        if row is None or row.status != PENDING or self._is_outdated(row):
            return None
        if row.run_at > now:
            self._waiting.add(row.run_at, offset)
            return None
        job_type = row.type.decode(errors="replace")
        is_named = types is None or job_type in types
        look = Look(job_type, row.run_at, row.attempts, offset)
        if not is_named and (self._gate.free or not self._admits(look, wanted, now)):
            return None
        claim = self._claims.take(row.id)
        if claim is None:
            return None
        try:
            attempts, error = min(row.attempts + 1, ATTEMPTS_LIMIT), row.error
            if _PLACE in error and not in_place(row, PROCESSING, now, attempts, error, b""):
                error = error.partition(_PLACE)[0]  # so that the row need not move
            before, row = row, self._table.change(row, PROCESSING, now, attempts, error)
        except BaseException:
            self._claims.release(claim)
            raise
        job = to_job(row)
        if error is not before.error:
            job = job._replace(error=to_job(before).error)  # the handler is told all of it
        spoiled = isinstance(job.payload, str) and not row.payload.lstrip().startswith(b'"')
        token: _Token = row.offset, row.line, row.tail, self._table.generation, claim
        return Attempt(job, token, spoiled, before.run_at)

    def _put_back(self, attempt: Attempt) -> None:
        """Undo the beginning of an attempt that is perhaps not on disk, and so must not run."""
        try:
            with self._table.writing():
                row = _row_if_ours(self._table, attempt.job)
                if row is not None:
                    job = attempt.job
                    self._table.change(row, PENDING, job.run_at, job.attempts - 1, row.error)
        finally:
            self._claims.release(attempt.token[4])

    def asked(self) -> str:
        """The note that the job in hand is to be cancelled with: see `Seat.asked`."""
        attempt = self._in_hand
        return self._asked.look(attempt) if attempt is not None else ""


def _row_if_ours(table: Table, job: Job) -> Row | None:
    """The row of a job in hand, wherever it stands now; None if another process changed it."""
    row = table.find(job.id.encode())
    if row is not None and row.status == PROCESSING and row.attempts == job.attempts:
        return row
    status = row.status if row else "gone"
    message = f"not recorded: %s %s is {status} now, another process changed it while it ran"
    warn("fenced", message, job)
    return None


def _end_of(row: Row, outcome: Outcome, now: int, waits: Waits) -> tuple[str, int, str]:
    """State, time and error that an attempt ends with: others may ask for its end, or wait."""
    _, status, run_at, error, _, refund, _, _ = outcome
    note = note_of(row.error.decode(errors="replace")) if row.error else ""
    if note and status != COMPLETED:
        return CANCELLED, now, note
    if status == PENDING and (other := waits.other(row.id.decode())):
        status, error = instead(error, refund, other)
        return status, now, error
    return status, run_at, error
