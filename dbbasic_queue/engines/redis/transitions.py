"""The transitions of a job on the server: each is one MULTI/EXEC that watches the job.

What a transition may be is said in job.py. Each can be repeated when its answer was lost (link.py):
`begin` and `end` know their own work by the execution, the others by what they find.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from inspect import signature
from typing import Any, Final, NamedTuple, TypeVar

from rq.executions import Execution
from rq.job import Job as RqJob
from rq.results import Result
from rq.serializers import JSONSerializer

from ...job import CANCELLED, COMPLETED, FAILED, PENDING, PROCESSING, require
from ...rate import Rate
from ..calling_off import note_of
from ..policies import expired, tell_expired
from ..unique import instead, key_of
from . import paused, rates
from .link import Link
from .records import (
    KEEP,
    QUEUED,
    RQ_STATUS,
    SCHEDULED,
    STARTED,
    Lane,
    Record,
    Records,
    rq_time,
)

_NAMES_WORKER: Final = "worker_name" in signature(Execution.create).parameters  # RQ 3
_RESULT_NAMES_WORKER: Final = "worker_name" in signature(Result.create).parameters  # RQ 2.5

T = TypeVar("T")


class Grip(NamedTuple):
    """What holds a job: the execution that has begun it."""

    job_id: str
    lane: Lane
    execution: str
    worker: str
    due: int = 0  # Unix seconds: when the job was, before it was begun; 0: not known


class Found(NamedTuple):
    """A job that may be due, and the key where it was seen."""

    job_id: str
    place: str
    lane: Lane


class Terms(NamedTuple):
    """On what terms a worker begins a job.

    Args:
        worker: the worker's name.
        lease: seconds.
        most: attempts; a job whose last worker died in the last of them is failed instead.
        expires: seconds; a job that was never begun and was due so long ago is cancelled instead.
        limit: how many of the type run at once, those whose lease is over included until they are
            rescued.
        rate: of the type; a job is not begun if it has none left.
    """

    worker: str
    lease: float
    most: int | None = None
    expires: float | None = None
    limit: int | None = None
    rate: Rate | None = None


class _Tries:
    """What the tries of one call have done: it is tried again when its answer was lost."""

    def __init__(self) -> None:
        self.mine: set[str] = set()  # the executions
        self.pauses: list[bytes] | None = None  # that held as the job was begun, if that was heard
        self.before: Record | None = None  # the job as it is put back
        self.expired = ""  # why the job ended instead

    def note(self, answers: list[Any]) -> None:
        """Note what the server has answered to what was written."""
        self.pauses = answers[0]


class Transitions:
    """The transitions of one queue's jobs."""

    def __init__(self, link: Link, records: Records) -> None:
        self._link = link
        self._records = records

    def change(
        self,
        job_id: str,
        change: Callable[[Any, Record | None], T],
        patience: float | None = None,
        also: tuple[str, ...] = (),
        done: Callable[[list[Any]], object] = len,
    ) -> T:
        """What `change` returns, given a pipeline that watches the job, and the job's record.

        It watches the keys `also`, too. `done` is given the answers to what was written.
        """
        key = self._records.key(job_id)
        return self._link.transact(
            [key, *also],
            lambda pipe: change(
                pipe, self._records.parse(job_id, self._records.read(pipe, job_id))
            ),
            patience,
            done,
        )

    # -- begun and ended -----------------------------------------------------------------------

    def begin(self, found: Found, terms: Terms) -> tuple[Record, Grip] | None:
        """Begin a pending job; None when it is not pending any more, or is not to be begun.

        That is so where its type is paused, at its limit or rate, and where it ends instead: see
        `Terms`.
        """
        tries, lane = _Tries(), found.lane
        watched = (
            (lane.started, terms.limit),
            (self._records.rate(lane.type), terms.rate),
        )
        taken = self.change(
            found.job_id,
            lambda pipe, record: self._try(pipe, record, found, terms, tries),
            also=tuple(key for key, says in watched if says is not None),
            done=tries.note,
        )
        if tries.expired:
            tell_expired(lane.type, found.job_id, tries.expired)
        if taken is not None and self._is_held(lane.type, tries.pauses):
            was = tries.before
            assert was is not None  # a try has begun the job
            self.end(taken[1], PENDING, was.run_at, was.error or "", refund=True)
            return None
        return taken

    def _try(
        self, pipe: Any, record: Record | None, found: Found, terms: Terms, tries: _Tries
    ) -> tuple[Record, Grip] | None:
        """Put into a pipeline what begins a job, or ends it instead: one try of `begin`."""
        job_id, place, lane = found
        if record is not None and record.holder in tries.mine:  # begun; the answer was lost
            return record, Grip(job_id, lane, record.holder or "", terms.worker)
        now = int(self._link.now())
        ours = record is not None and record.status == PENDING
        if terms.limit is not None and pipe.zcard(lane.started) >= terms.limit:
            return None
        rated = rates.Rated(pipe, self._link, self._records.rate(lane.type), terms.rate)
        if rated.is_used_up:
            rated.keep_if_late()
            return None
        pipe.multi()
        pipe.hvals(self._records.paused)
        self._take_from(pipe, place, lane, job_id)
        if record is None or not ours:  # a second entry of one id, or what is left of a job
            return None
        end = _end_before(record, terms.most, terms.expires, now)
        if end is not None:
            self._write_end(pipe, record, lane, end[0], now, end[1])
            tries.expired = end[1] if record.holder is None else ""
            return None
        rated.keep()
        error = record.error if record.holder is None else died(record.attempts)
        require(record.id.encode(), record.status, PROCESSING)
        begun = record._replace(
            status=PROCESSING,
            rq_status=STARTED,
            run_at=now,
            attempts=record.attempts + 1,
            error=error,
            worker=terms.worker,
        )
        grip = self._grasp(pipe, begun, lane, terms.lease, tries.mine)._replace(due=record.run_at)
        tries.before = record._replace(error=error)
        return begun._replace(holder=grip.execution), grip

    def _is_held(self, job_type: str, pauses: list[bytes] | None) -> bool:
        """Whether a type is paused; None of pauses if the answer that had them was lost."""
        if pauses is None:
            pauses = self._link.run(lambda client: client.hvals(self._records.paused))
        held = paused.held(pauses, self._link.now()) if pauses else None
        return held is not None and job_type in held

    def _take_from(self, pipe: Any, place: str, lane: Lane, job_id: str) -> None:
        rq_id = self._records.rq_id(job_id)
        if place == lane.queue:
            pipe.lrem(place, 1, rq_id)
        else:
            pipe.zrem(place, rq_id)

    def _grasp(self, pipe: Any, begun: Record, lane: Lane, lease: float, mine: set[str]) -> Grip:
        job = self._rq_job(begun.id, lane)
        by = {"worker_name": begun.worker} if _NAMES_WORKER else {}
        job.prepare_for_execution(begun.worker, pipeline=pipe)
        execution = Execution.create(job, max(1, int(lease)), pipeline=pipe, **by)
        mine.add(execution.id)
        # By the server's clock, where RQ has written by this host's.
        pipe.zadd(lane.started, {execution.composite_key: self._link.now() + lease})
        self._records.save(pipe, begun.id, {}, **own_fields(begun._replace(holder=execution.id)))
        return Grip(begun.id, lane, execution.id, begun.worker)

    def end(
        self,
        grip: Grip,
        status: str,
        run_at: int,
        error: str,
        result: str = "",
        refund: bool = False,
        patience: float | None = None,
        rescued: bool = False,
    ) -> tuple[bool, Record | None]:
        """End an attempt, if its execution still holds the job; whether it did, and the job now.

        With `rescued`, it is not its own worker that ends it, which is to learn of that.
        """
        require(grip.job_id.encode(), PROCESSING, status)
        mark = new_call() if rescued else grip.execution
        key = key_of(grip.job_id) if status == PENDING else ""

        def change(pipe: Any, record: Record | None) -> tuple[bool, Record | None]:
            if record is not None and record.ended == mark:
                return True, record  # written; the answer was lost
            holds = record is not None and record.holder == grip.execution
            if record is None or not holds or record.status != PROCESSING:
                return False, record
            end, at, why = status, run_at, error
            if status != COMPLETED and (note := note_of(record.error)):
                end, at, why = CANCELLED, int(self._link.now()), note
            elif other := self._other_waits(key, grip.job_id):
                at = int(self._link.now())
                end, why = instead(error, refund, other)
            pipe.multi()
            self._release(pipe, grip)
            attempts = record.attempts - refund
            record = record._replace(attempts=attempts, holder=None, ended=mark, progress=None)
            self._write_end(pipe, record, grip.lane, end, at, why, result)
            return True, record._replace(status=end, run_at=at, error=why or None)

        also = (self._records.unique(key),) if key else ()
        return self.change(grip.job_id, change, patience, also)

    def _other_waits(self, key: str, job_id: str) -> str:
        """The id of another job with a key that waits; empty if none does."""
        others = (each for each in self._records.of_key(key) if each.status == PENDING)
        return next((each.id for each in others if each.id != job_id), "")

    def note(self, grip: Grip, progress: str, patience: float) -> bool:
        """Write how far a job is, if its execution still holds it; whether it did."""

        def change(pipe: Any, record: Record | None) -> bool:
            if record is None or record.holder != grip.execution or record.status != PROCESSING:
                return False
            pipe.multi()
            self._records.save(
                pipe, record.id, {}, **own_fields(record._replace(progress=progress))
            )
            return True

        return self.change(grip.job_id, change, patience)

    def _release(self, pipe: Any, grip: Grip) -> None:
        by = {"worker_name": grip.worker} if _NAMES_WORKER else {}
        rq_id = self._records.rq_id(grip.job_id)
        execution = Execution(grip.execution, rq_id, self._records.client, **by)
        execution.delete(self._rq_job(grip.job_id, grip.lane), pipeline=pipe)

    def _write_end(
        self,
        pipe: Any,
        record: Record,
        lane: Lane,
        status: str,
        run_at: int,
        error: str,
        result: str = "",
    ) -> None:
        rq_id, fields = self._records.rq_id(record.id), {}
        if status == PENDING:
            fields["status"] = SCHEDULED
            self._records.comes_to_wait(pipe, record.id)
            pipe.zadd(lane.scheduled, {rq_id: run_at})
            pipe.publish(self._records.wake, "")
        else:
            fields |= {"status": RQ_STATUS[status], "ended_at": rq_time(run_at)}
            pipe.zadd(lane.ended(status), {rq_id: run_at + KEEP})
            self.write_result(pipe, record.id, record.worker, status, error, result)
        record = record._replace(run_at=run_at, error=error or None)
        self._records.save(pipe, record.id, fields, **own_fields(record))

    def write_result(
        self, pipe: Any, job_id: str, worker: str, status: str, error: str, result: str
    ) -> None:
        """Put into a pipeline what RQ's tools show as a job's result."""
        by = {"worker_name": worker} if _RESULT_NAMES_WORKER else {}
        if status == COMPLETED and result:
            job, kind = self._rq_job(job_id), Result.Type.SUCCESSFUL
            Result.create(job, kind, -1, return_value=result.strip(), pipeline=pipe, **by)
        elif status == FAILED:
            Result.create_failure(self._rq_job(job_id), -1, error, pipeline=pipe, **by)

    def _rq_job(self, job_id: str, lane: Lane | None = None) -> Any:
        job = RqJob(
            self._records.rq_id(job_id), connection=self._records.client, serializer=JSONSerializer
        )
        if lane is not None:
            job.origin = lane.name
        return job

    # -- by hand -------------------------------------------------------------------------------

    def write_cancelled(self, pipe: Any, record: Record, note: str, now: int) -> None:
        """Put into a pipeline that a job is cancelled: a pending one, or one that is moved."""
        lane = self._records.lane(record.type)
        if record.status == PENDING:
            require(record.id.encode(), record.status, CANCELLED)
            place = lane.queue if record.rq_status == QUEUED else lane.scheduled
            self._take_from(pipe, place, lane, record.id)
        else:
            pipe.zrem(lane.ended(record.status), self._records.rq_id(record.id))
            pipe.delete(self._records.results(record.id))
        self._write_end(pipe, record._replace(holder=None), lane, CANCELLED, now, note)

    def write_error(self, pipe: Any, record: Record, error: str) -> None:
        """Put into a pipeline another error of a job, which is otherwise left as it is."""
        self._records.save(pipe, record.id, {}, **own_fields(record._replace(error=error)))


def _end_before(
    record: Record, most: int | None, expires: float | None, now: int
) -> tuple[str, str] | None:
    """State and error in which a pending job ends that is not to be begun; None for others."""
    if record.holder is not None:  # RQ's tools have put it back, as its worker died
        if note := note_of(record.error):
            return CANCELLED, note
        if most is not None and record.attempts >= most:
            return FAILED, died(record.attempts)
    elif expires is not None and not record.attempts and record.run_at + expires <= now:
        return CANCELLED, expired(expires)
    return None


def new_call() -> str:
    """What tells one call from all others."""
    return os.urandom(6).hex()


def died(attempts: int) -> str:
    """The error of a job whose worker died."""
    return f"WorkerDied: the worker died while it ran this job (attempt {attempts})"


def own_fields(record: Record) -> dict[str, Any]:
    """What our field of a job's hash holds."""
    return {
        "run_at": record.run_at,
        "attempts": record.attempts,
        "error": record.error,
        "holder": record.holder,
        "ended": record.ended,
        "by": record.by,
        "progress": record.progress,
    }


def own_part(raw: bytes | None) -> dict[str, Any]:
    """What is in our field of a job's hash."""
    try:
        own = json.loads(raw or b"{}")
    except ValueError:
        return {}
    return own if isinstance(own, dict) else {}
