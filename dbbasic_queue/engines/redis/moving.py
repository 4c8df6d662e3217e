"""Jobs that leave a queue for another one: see engines/moving.py for the notes that they leave."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

from ...job import CANCELLED, Job
from ...support.text import escape_control
from ..moving import SURE, note_kind
from .acting import BATCH, Acting
from .link import Link
from .looking import Looking
from .records import RQ_STATUS, Record, Records, to_job
from .transitions import Transitions, own_part

_CANCELED: Final = RQ_STATUS[CANCELLED].encode()

Own = dict[str, Any]  # what is in our field of a job's hash


class Moving:
    """What takes jobs out of one queue, a batch in one transaction."""

    def __init__(
        self, link: Link, records: Records, looking: Looking, transitions: Transitions
    ) -> None:
        self._link = link
        self._records = records
        self._looking = looking
        self._transitions = transitions
        self._acting = Acting(link, records, looking)

    def withdraw(
        self, limit: int, note: Callable[[Job], str], statuses: Collection[str]
    ) -> list[Job]:
        """Cancel up to `limit` jobs in these states; returns them as they were."""
        if CANCELLED in statuses:
            return self._withdraw(self._looking.ids(statuses), limit, note, statuses)
        # What is withdrawn leaves the head of its list, so that this is as far as one has to look,
        # unless entries stand there whose jobs are not what they seem.
        jobs = self._withdraw(self._looking.ids(statuses, most=limit), limit, note, statuses)
        return jobs or self._withdraw(self._looking.ids(statuses), limit, note, statuses)

    def _withdraw(
        self, ids: list[str], limit: int, note: Callable[[Job], str], statuses: Collection[str]
    ) -> list[Job]:
        jobs: list[Job] = []

        def write(pipe: Any, record: Record) -> Job:
            job = to_job(record)
            text = escape_control(note(job))
            self._transitions.write_cancelled(pipe, record, text, int(self._link.now()))
            return job

        def is_wanted(record: Record) -> bool:
            return record.status in statuses and not note_kind(record.status, record.error)

        for start in range(0, len(ids), BATCH):
            if len(jobs) >= limit:
                break
            some = ids[start : start + min(BATCH, limit - len(jobs))]
            if CANCELLED in statuses:
                some = self._without_notes(some)
            jobs += self._acting.change(some, is_wanted, write)
        return jobs

    def _without_notes(self, ids: list[str]) -> list[str]:
        """Those jobs that bear no note, by a quick look: as many bear one as were moved before."""
        return [job_id for job_id, own in self._own_parts(ids).items() if not _kind(own)]

    def renote(self, notes: Mapping[str, str]) -> None:
        """Give jobs that were withdrawn other notes, by id."""

        def change(pipe: Any, parts: Mapping[str, Own]) -> None:
            for job_id, own in parts.items():
                if _kind(own):
                    own["error"] = escape_control(notes[job_id])
                    pipe.hset(self._records.key(job_id), "dbq", json.dumps(own))

        self._change_noted(list(notes), change)

    def forget(self) -> int:
        """Remove the jobs whose note is sure; returns how many."""
        removed: set[str] = set()
        for lane in self._looking.lanes():

            def change(pipe: Any, parts: Mapping[str, Own], canceled: str = lane.canceled) -> None:
                gone = [job_id for job_id, own in parts.items() if _kind(own) == SURE]
                if gone:
                    pipe.zrem(canceled, *map(self._records.rq_id, gone))
                    self._records.remove(pipe, *gone)
                removed.update(gone)

            self._change_noted(self._looking.ids([CANCELLED], lane.type), change)
        return len(removed)

    def _change_noted(
        self, ids: list[str], change: Callable[[Any, Mapping[str, Own]], None]
    ) -> None:
        """Have `change` put into a pipeline what becomes of cancelled jobs, some at a time."""

        def once(pipe: Any) -> None:
            parts = self._own_parts(some)
            pipe.multi()
            change(pipe, parts)

        for start in range(0, len(ids), BATCH):
            some = ids[start : start + BATCH]
            self._link.transact([self._records.key(job_id) for job_id in some], once)

    def _own_parts(self, ids: list[str]) -> dict[str, Own]:
        """What is in our field of those jobs that are cancelled: less than `Records.read` reads."""
        raws = self._link.ask(
            lambda pipe: [pipe.hmget(self._records.key(each), "status", "dbq") for each in ids]
        )
        return {
            job_id: own_part(dbq)
            for job_id, (status, dbq) in zip(ids, raws, strict=True)
            if status == _CANCELED
        }


def _kind(own: Own) -> str:
    return note_kind(CANCELLED, own.get("error"))
