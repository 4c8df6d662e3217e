"""What is done by hand to many jobs on a server: a few hundred in one transaction.

The jobs are looked for first. Each transaction watches those that it changes, reads them again, and
does nothing to one that is not meant any more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

from ...errors import InvalidJob
from ...job import CANCELLED, FINISHED, PENDING, PROCESSING, Job, check_id
from ...support.text import dump_json
from ..choice import Choice
from ..unique import key_of
from ..verbs import Verb, done_to
from .gathered import Gathered
from .link import Link
from .looking import Looking
from .records import KEEP, QUEUED, RQ_STATUS, SCHEDULED, Record, Records, rq_time, to_job
from .transitions import new_call, own_fields

BATCH: Final = 500  # jobs that one transaction changes

Write = Callable[[Any, Record], Job]
Chosen = TypeVar("Chosen", Job, Record)


def act(
    link: Link, records: Records, looking: Looking, verb: Verb, choice: Choice, *, dry_run: bool
) -> list[Job]:
    """Do something to the jobs that are meant; returns them as they are then.

    Raises `StorageError`, after which some of them may be changed.
    """
    choice = choice.within(verb.takes)
    now = int(link.now())
    found = _found(looking, verb, choice, now)
    if dry_run:
        return _without_second(records, found, lambda job: done_to(verb, job, now))
    return Acting(link, records, looking).change(
        [job.id for job in found],
        lambda record: choice.takes(to_job(record)) and _new(verb, record, now) is not None,
        lambda pipe, record: _write(pipe, records, record, _new(verb, record, now), now),
        lambda chosen: _without_second(records, chosen, lambda each: _new(verb, each, now)),
    )


def _without_second(
    records: Records, chosen: list[Chosen], becomes: Callable[[Chosen], Job | None]
) -> list[Chosen]:
    """Leave out those that would make two unfinished jobs of one key."""
    left = []
    unfinished: dict[str, bool] = {}
    for each in chosen:
        new, key = becomes(each), key_of(each.id)
        if key and new is not None and new.status == PENDING != each.status:
            if key not in unfinished:
                states = {record.status for record in records.of_key(key)}
                unfinished[key] = not states.isdisjoint((PENDING, PROCESSING))
            if unfinished[key]:
                continue
            unfinished[key] = True
        left.append(each)
    return left


def _found(looking: Looking, verb: Verb, choice: Choice, now: int) -> list[Job]:
    ids = choice.ids
    if ids is None:
        jobs = looking.jobs(choice.statuses, choice.only_type())
    else:
        jobs = looking.fetch([each for each in dict.fromkeys(ids) if is_id(each)])
    found: list[Job] = []
    for job in jobs:
        if choice.limit is not None and len(found) >= choice.limit:
            break
        if choice.takes(job) and done_to(verb, job, now) is not None:
            found.append(job)
    return found


def is_id(job_id: str) -> bool:
    """Say whether a job can have this id."""
    try:
        check_id(job_id)
    except InvalidJob:
        return False
    return True


def _new(verb: Verb, record: Record, now: int) -> Job | None:
    return done_to(verb, to_job(record), now)


def _write(pipe: Any, records: Records, record: Record, new: Job | None, now: int) -> Job:
    """Put into a pipeline what becomes of a job."""
    assert new is not None  # it was asked for before
    lane, rq_id = records.lane(record.type), records.rq_id(record.id)
    if record.status == PENDING:
        pipe.lrem(lane.queue, 1, rq_id)
        pipe.zrem(lane.scheduled, rq_id)
    elif record.status in FINISHED:
        pipe.zrem(lane.ended(record.status), rq_id)
        pipe.delete(records.results(record.id))
    fields: dict[str, Any] = {}
    if new.payload != to_job(record).payload:
        fields["data"] = records.call(record.type, dump_json(new.payload))
    if new.status == PENDING:
        fields["status"] = QUEUED if new.run_at <= now else SCHEDULED
        if record.status != PENDING:
            records.comes_to_wait(pipe, record.id)
        if new.run_at <= now:
            pipe.rpush(lane.queue, rq_id)
        else:
            pipe.zadd(lane.scheduled, {rq_id: new.run_at})
        pipe.publish(records.wake, "")
    elif new.status == CANCELLED:
        fields |= {"status": RQ_STATUS[CANCELLED], "ended_at": rq_time(new.run_at)}
        pipe.zadd(lane.canceled, {rq_id: new.run_at + KEEP})
    after = record._replace(
        run_at=new.run_at,
        attempts=new.attempts,
        error=new.error,
        holder=record.holder if new.status == record.status else None,
    )
    records.save(pipe, record.id, fields, **own_fields(after))
    return new


class Acting:
    """What changes many jobs of one queue."""

    def __init__(self, link: Link, records: Records, looking: Looking) -> None:
        self._link = link
        self._records = records
        self._looking = looking

    def change(
        self,
        ids: list[str],
        wanted: Callable[[Record], bool],
        write: Write,
        left: Callable[[list[Record]], list[Record]] = list,
    ) -> list[Job]:
        """Change those of some jobs that are `wanted`; returns what `write` does, of each.

        `left` takes out of a transaction's jobs those that cannot be changed beside the others.
        """
        return [
            job
            for start in range(0, len(ids), BATCH)
            for job in self._change(ids[start : start + BATCH], wanted, write, left)
        ]

    def _change(
        self,
        ids: list[str],
        wanted: Callable[[Record], bool],
        write: Write,
        left: Callable[[list[Record]], list[Record]],
    ) -> list[Job]:
        """Change some jobs in one transaction."""
        call = new_call()
        answers: dict[str, Job] = {}

        def change(pipe: Any) -> list[Job]:
            records = self._looking.records(ids)
            done = [record.id for record in records if record.by == call]  # the answer was lost
            chosen = left([each for each in records if each.by != call and wanted(each)])
            if chosen:
                pipe.multi()
                into = Gathered(pipe)
                for record in chosen:
                    answers[record.id] = write(into, record._replace(by=call))
                into.flush()
            return [answers[job_id] for job_id in [*done, *(record.id for record in chosen)]]

        keys = [self._records.key(job_id) for job_id in ids]
        keys += [self._records.unique(key) for key in {*map(key_of, ids)} if key]
        return self._link.transact(keys, change)
