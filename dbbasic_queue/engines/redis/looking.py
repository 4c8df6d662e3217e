"""What is on the server: jobs found, listed and counted. Reads only, and never by RQ's properties.

RQ's own counting properties clean up as they count, and so change the state of jobs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any, Final

from ...job import CANCELLED, COMPLETED, FAILED, PENDING, PROCESSING, STATUSES, Job
from .link import Link
from .records import Lane, Record, Records, result_in, to_job

PAGE: Final = 500  # jobs that are read in one trip


class Looking:
    """What can be read of one queue."""

    def __init__(self, link: Link, records: Records) -> None:
        self._link = link
        self._records = records

    def lanes(self) -> list[Lane]:
        """The queues of all types, in the order of their names."""
        types = self._link.run(lambda client: client.smembers(self._records.types))
        return [self._records.lane(name) for name in sorted(name.decode() for name in types)]

    def find(self, job_id: str) -> Job | None:
        """A job by its id."""
        return next(self.fetch([job_id]), None)

    def records(self, job_ids: list[str]) -> list[Record]:
        """The records of those jobs that are there."""
        raws = self._link.ask(lambda pipe: [self._records.read(pipe, job_id) for job_id in job_ids])
        found = map(self._records.parse, job_ids, raws)
        return [record for record in found if record is not None]

    def fetch(self, job_ids: list[str]) -> Iterator[Job]:
        """Those of the jobs that are there, with their results; two trips."""
        if not job_ids:
            return
        records = self.records(job_ids)
        done = [record.id for record in records if record.status == COMPLETED]
        results: dict[str, str] = {}
        if done:
            entries = self._link.ask(
                lambda pipe: [
                    pipe.xrevrange(self._records.results(job_id), "+", "-", count=1)
                    for job_id in done
                ]
            )
            results = dict(zip(done, map(result_in, entries), strict=True))
        for record in records:
            yield to_job(record, results.get(record.id, ""))

    def jobs(self, statuses: Collection[str] | None, job_type: str | None) -> Iterator[Job]:
        """The jobs in some states and of one type, by state.

        The first are told after a look at the beginning of each list. Which others there are is
        read at one moment, so that none is missed that changes its state; the state that counts is
        that of the moment when it is looked at.
        """
        wanted = STATUSES if statuses is None else tuple(statuses)
        heads = self._entries(wanted, job_type, PAGE)
        cut = [len(head) == PAGE for head in heads]
        first = self._own(heads[: cut.index(True) + 1] if any(cut) else heads)
        yield from self._told(first, wanted)
        if any(cut):
            told = set(first)
            rest = [job_id for job_id in self.ids(wanted, job_type) if job_id not in told]
            yield from self._told(rest, wanted)

    def _told(self, ids: list[str], wanted: Collection[str]) -> Iterator[Job]:
        for start in range(0, len(ids), PAGE):
            for job in self.fetch(ids[start : start + PAGE]):
                if job.status in wanted:
                    yield job

    def ids(
        self, statuses: Collection[str], job_type: str | None = None, most: int = 0
    ) -> list[str]:
        """The ids of the jobs in these states, as of one moment; of a type and state `most`.

        All of them if that is 0.
        """
        return self._own(self._entries(statuses, job_type, most))

    def _own(self, entries: Iterable[list[bytes]]) -> list[str]:
        """The ids of our jobs in these, each once."""
        own, ours = self._records.own_id, self._records.is_ours
        return list(dict.fromkeys(own(entry) for some in entries for entry in some if ours(entry)))

    def _entries(
        self, statuses: Collection[str], job_type: str | None, most: int
    ) -> list[list[bytes]]:
        """What stands in each list of these states, as of one moment; of each the first `most`."""
        lanes = [lane for lane in self.lanes() if job_type in (None, lane.type)]
        if not lanes:
            return []

        def questions(pipe: Any) -> None:
            for status in STATUSES:
                for lane in lanes:
                    if status in statuses:
                        for key in places(lane, status):
                            if key == lane.queue:
                                pipe.lrange(key, 0, most - 1)
                            else:
                                pipe.zrange(key, 0, most - 1)

        return self._link.ask(questions, at_once=True)

    def counts(self, lanes: Iterable[Lane] | None = None) -> dict[str, int]:
        """How many jobs there are in each state, as of one moment."""
        asked = [
            (status, key, key == lane.queue)
            for lane in (self.lanes() if lanes is None else lanes)
            for status in STATUSES
            for key in places(lane, status)
        ]
        counts = dict.fromkeys(STATUSES, 0)
        if asked:
            numbers = self._link.ask(
                lambda pipe: [
                    pipe.llen(key) if is_list else pipe.zcard(key) for _, key, is_list in asked
                ],
                at_once=True,
            )
            for (status, _, _), number in zip(asked, numbers, strict=True):
                counts[status] += number
        return counts


def places(lane: Lane, status: str) -> tuple[str, ...]:
    """The keys where the jobs of a lane are that have this status."""
    return {
        PENDING: (lane.queue, lane.scheduled),
        PROCESSING: (lane.started,),
        COMPLETED: (lane.finished,),
        FAILED: (lane.failed,),
        CANCELLED: (lane.canceled,),
    }[status]
