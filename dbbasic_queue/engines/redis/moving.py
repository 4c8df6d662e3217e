"""Jobs that leave a queue for another one: see engines/moving.py for the notes that they leave."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from ...job import CANCELLED, Job
from ...support.text import escape_control
from ..moving import departed, is_moved
from .acting import BATCH, Acting
from .link import Link
from .looking import Looking
from .records import Record, Records, to_job
from .transitions import Transitions, own_part


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
            text = escape_control(note(to_job(record)))
            self._transitions.write_cancelled(pipe, record, text, int(self._link.now()))
            return to_job(record)

        def is_wanted(record: Record) -> bool:
            return record.status in statuses and not is_moved(to_job(record))

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
        parts = self._link.ask(
            lambda pipe: [pipe.hget(self._records.key(job_id), "dbq") for job_id in ids]
        )
        found = []
        for job_id, part in zip(ids, parts, strict=True):
            error = own_part(part).get("error")
            if not is_moved(Job(job_id, "", None, CANCELLED, 0, 0, 0, error)):
                found.append(job_id)
        return found

    def renote(self, notes: Mapping[str, str]) -> None:
        """Give jobs that were withdrawn other notes, by id."""
        ids = list(notes)

        def write(pipe: Any, record: Record) -> Job:
            self._transitions.write_error(pipe, record, escape_control(notes[record.id]))
            return to_job(record)

        self._acting.change(ids, lambda record: is_moved(to_job(record)), write)

    def forget(self) -> int:
        """Remove the jobs whose note is sure; returns how many."""

        def is_gone(record: Record) -> bool:
            found = departed(to_job(record))
            return found is not None and found.sure

        def write(pipe: Any, record: Record) -> Job:
            lane = self._records.lane(record.type)
            pipe.zrem(lane.canceled, self._records.rq_id(record.id))
            self._records.remove(pipe, record.id)
            return to_job(record)

        return len(self._acting.change(self._looking.ids([CANCELLED]), is_gone, write))
