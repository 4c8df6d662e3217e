"""Jobs that come into a queue: new ones, and those of another queue."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from typing import Any

from rq import Queue

from ...errors import StorageError
from ...job import PENDING, PROCESSING, Job, result_text
from ..interface import Order
from ..sameness import require_same
from ..unique import Unique, rank
from .gathered import Gathered
from .link import Away, Link
from .records import KEEP, QUEUED, RQ_STATUS, SCHEDULED, Record, Records, payload_text, rq_time
from .records import to_job as job_of
from .transitions import Transitions, new_call


class Adding:
    """What adds jobs to one queue: all of a batch or none, in one MULTI/EXEC."""

    def __init__(self, link: Link, records: Records, transitions: Transitions) -> None:
        self._link = link
        self._records = records
        self._transitions = transitions

    def add(self, orders: Sequence[Order], now: int) -> int:
        """Add jobs; returns how many were. Raises `JobExists`, `StorageError`.

        Without a key it is one trip. A repetition, after an answer was lost, treats every order as
        one with a key, and so finds what it has added.
        """
        tries = 0

        def once(client: Any) -> tuple[int, list[Order], str]:
            nonlocal tries
            tries += 1
            if tries == 1 and not any(order.keyed for order in orders):
                with client.pipeline() as pipe:
                    return self._write(pipe, orders, now)
            fresh, written, moved = self._add_watching(orders, now, repeated=tries > 1)
            return fresh, written, moved

        if not orders:
            return 0
        try:
            count, written, moved = self._link.run(once)
        except Away as error:
            if not error.unsure:
                raise
            raise StorageError(
                error.errno, f"{error.strerror}; it is not known whether the jobs were added"
            ) from None
        if moved:
            self._undo(written, moved)
        return count

    def _add_watching(
        self, orders: Sequence[Order], now: int, repeated: bool
    ) -> tuple[int, list[Order], str]:
        """Add those whose ids are not known; counts what an earlier try has added."""
        keys = [self._records.key(order.job_id) for order in orders if order.keyed or repeated]
        answer: list[tuple[int, list[Order], str]] = []
        again = repeated

        def change(pipe: Any) -> None:
            nonlocal again
            answer.clear()
            known = self._known([order.job_id for order in orders if order.keyed or again])
            again = True
            fresh, before = [], 0
            there = {job_id: (found.type, found.payload) for job_id, found in known.items()}
            for order in orders:
                if order.job_id in there:
                    require_same(order.job_id, there[order.job_id], order)
                    before += not order.keyed
                else:
                    there[order.job_id] = order.job_type, order.payload
                    fresh.append(order)
            if fresh:
                pipe.multi()
                answer.append(self._write(pipe, fresh, now))
                answer[0] = answer[0][0] + before, *answer[0][1:]
            else:
                answer.append((before, [], ""))

        self._link.transact(keys, change)
        return answer[0]

    def add_unique(self, order: Order, unique: Unique, now: int) -> str:
        """Add a job, unless one with its key is there: see `Engine.add_unique`."""
        records, written = self._records, [""]

        def change(pipe: Any) -> str:
            there = [
                record
                for record in records.of_key(unique.key)
                if unique.counts(record.status, record.created_at)
            ]
            if there:  # or it was added, and the answer was lost
                return min(there, key=lambda each: (rank(each.status), -each.created_at)).id
            pipe.multi()
            written[0] = self._write(pipe, [order], now)[2]
            return order.job_id

        job_id = self._link.transact([records.unique(unique.key)], change)
        if written[0]:
            self._undo([order], written[0])
        return job_id

    def _known(self, job_ids: list[str]) -> dict[str, Record]:
        with self._records.client.pipeline(transaction=False) as look:
            for job_id in job_ids:
                self._records.read(look, job_id)
            raws = look.execute()
        found = map(self._records.parse, job_ids, raws)
        return {record.id: record for record in found if record is not None}

    def _write(self, pipe: Any, orders: Sequence[Order], now: int) -> tuple[int, list[Order], str]:
        """Carry out a transaction that adds jobs; also tells where the queue has moved to."""
        self.name_types(pipe, {order.job_type for order in orders})
        for order in orders:
            self.write_order(pipe, order, now)
        pipe.publish(self._records.wake, "")
        pipe.get(self._records.moved)
        moved = (pipe.execute()[-1] or b"").decode()
        return len(orders), list(orders), moved

    def name_types(self, pipe: Any, types: set[str]) -> None:
        """Put into a pipeline that these types have queues."""
        lanes = [self._records.lane(job_type) for job_type in types]
        pipe.sadd(Queue.redis_queues_keys, *[lane.queue for lane in lanes])
        pipe.sadd(self._records.types, *types)

    def write_order(self, pipe: Any, order: Order, now: int) -> None:
        """Put a new job into a pipeline.

        One due at another time than now goes to those scheduled, also if that is over: so the list
        is in the order of when its jobs were due.
        """
        lane, rq_id = self._records.lane(order.job_type), self._records.rq_id(order.job_id)
        fields = self._records.new(order.job_id, order.job_type, order.payload, now)
        if order.due == now:
            pipe.rpush(lane.queue, rq_id)
        else:
            pipe.zadd(lane.scheduled, {rq_id: order.due})
        fields["status"] = QUEUED if order.due == now else SCHEDULED
        self._records.comes_to_wait(pipe, order.job_id)
        self._records.save(pipe, order.job_id, fields, run_at=order.due, attempts=0)

    def _undo(self, orders: Sequence[Order], moved: str) -> None:
        """Take out what was added to a queue that is closed, and raise `StorageError`.

        What has been begun meanwhile, or moved, was accepted: nothing is said of that.
        """
        taken = False
        for order in orders:

            def remove(pipe: Any, record: Record | None) -> bool:
                if record is None or record.status != PENDING:
                    return False
                pipe.multi()
                lane = self._records.lane(record.type)
                rq_id = self._records.rq_id(record.id)
                pipe.lrem(lane.queue, -1, rq_id)
                pipe.zrem(lane.scheduled, rq_id)
                self._records.remove(pipe, record.id)
                return True

            taken |= self._transitions.change(order.job_id, remove)
        if taken:
            self.require_open(moved.encode())

    def require_open(self, moved: bytes | None) -> None:
        """Raise `StorageError` if the queue is closed for an address."""
        if moved:
            raise StorageError(
                errno.EROFS,
                f"the queue {self._link.shown} was moved to {moved.decode()}; use that address",
            )

    # -- from another queue --------------------------------------------------------------------

    def adopt(self, jobs: Sequence[Job], over: Callable[[Job], bool] | None) -> int:
        """Keep jobs with all that is known of them, all or none; returns how many were new."""
        unique = {job.id: job for job in jobs}
        for job in jobs:
            if job.status == PROCESSING:
                raise ValueError(f"job {job.id} is processing: it cannot be moved")
        keys = [self._records.key(job_id) for job_id in unique]
        call = new_call()

        def change(pipe: Any) -> int:
            known = self._known(list(unique))
            done = sum(record.by == call for record in known.values())  # the answer was lost
            fresh = [job for job in unique.values() if _is_free(known.get(job.id), over)]
            if fresh and not done:
                pipe.multi()
                self.name_types(pipe, {job.type for job in fresh})
                into = Gathered(pipe)
                for job in fresh:
                    self._write_adopted(into, job, known.get(job.id), call)
                into.flush()
                pipe.publish(self._records.wake, "")
            return done or len(fresh)

        return self._link.transact(keys, change) if keys else 0

    def _write_adopted(self, pipe: Any, job: Job, there: Record | None, call: str) -> None:
        records = self._records
        lane, rq_id = records.lane(job.type), records.rq_id(job.id)
        if there is not None:
            pipe.zrem(records.lane(there.type).ended(there.status), rq_id)
            pipe.delete(*records.leftovers(job.id))
        records.comes_to_wait(pipe, job.id)
        fields = records.new(job.id, job.type, payload_text(job), job.created_at)
        if job.status == PENDING:
            fields["status"] = SCHEDULED
            pipe.zadd(lane.scheduled, {rq_id: job.run_at})
        else:
            fields |= {"status": RQ_STATUS[job.status], "ended_at": rq_time(job.run_at)}
            pipe.zadd(lane.ended(job.status), {rq_id: job.run_at + KEEP})
            result = result_text(job.result)
            self._transitions.write_result(pipe, job.id, "", job.status, job.error or "", result)
        own = {"run_at": job.run_at, "attempts": job.attempts, "error": job.error, "by": call}
        records.save(pipe, job.id, fields, **own)


def _is_free(there: Record | None, over: Callable[[Job], bool] | None) -> bool:
    if there is None:
        return True
    if there.status in (PENDING, PROCESSING) or over is None:
        return False
    return over(job_of(there))
