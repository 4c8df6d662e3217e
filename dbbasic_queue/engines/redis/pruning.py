"""Jobs that ended long ago are removed: found by when they ended, removed in batches."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final, NamedTuple

from ...job import CANCELLED
from ..interface import AHEAD
from ..moving import UNSURE
from .link import Link
from .looking import Looking
from .records import KEEP, Record, Records

BATCH: Final = 200  # jobs that one transaction removes


class _Span(NamedTuple):
    """Jobs of one type and state, by the time when they ended."""

    key: str
    status: str
    least: float | str
    most: float | str
    only: frozenset[str] | None  # ids; None: all of them


def prune(
    link: Link,
    records: Records,
    looking: Looking,
    ages: Mapping[str, float],
    dry_run: bool,
    ids: Collection[str] | None = None,
) -> int:
    """Remove the jobs in these states that ended so many seconds ago; returns how many.

    A job that ended that long ahead of now, under a wrong clock, would stay for years: it goes as
    well. One whose note says that it is perhaps not yet in another queue stays. With `ids`, only
    those are removed.
    """
    only = None if ids is None else frozenset(ids)
    now = link.look_at_clock()
    return sum(
        _prune(link, records, looking, span, dry_run)
        for lane in looking.lanes()
        for status, age in ages.items()
        for span in (
            _Span(lane.ended(status), status, "-inf", now - age + KEEP, only),
            _Span(lane.ended(status), status, now + max(age, AHEAD) + KEEP, "+inf", only),
        )
    )


def _prune(link: Link, records: Records, looking: Looking, span: _Span, dry_run: bool) -> int:
    pruned = stays = 0
    while True:
        entries = _entries(link, span, stays)
        if not entries:
            return pruned
        if dry_run:
            there = looking.records([records.own_id(entry) for entry in entries])
            pruned += sum(not _stays(record, span) for record in there)
            stays += len(entries)
        else:
            gone, kept = _remove(link, records, looking, span, entries)
            pruned, stays = pruned + gone, stays + kept


def _entries(link: Link, span: _Span, start: int) -> list[bytes]:
    key, _, least, most, _ = span
    found: list[bytes] = link.run(
        lambda client: client.zrangebyscore(key, least, most, start=start, num=BATCH)
    )
    return found


def _remove(
    link: Link, records: Records, looking: Looking, span: _Span, entries: list[bytes]
) -> tuple[int, int]:
    """Remove some jobs in one transaction; how many were, and how many stay."""
    ids = [records.own_id(entry) for entry in entries]

    def change(pipe: Any) -> tuple[int, int]:
        there = {record.id: record for record in looking.records(ids)}
        kept = {job_id for job_id, record in there.items() if _stays(record, span)}
        gone = [job_id for job_id in there if job_id not in kept]
        # Entries of jobs that have changed their state since stand elsewhere by now.
        old = [e for e, job_id in zip(entries, ids, strict=True) if job_id not in kept]
        if old:
            pipe.multi()
            pipe.zrem(span.key, *old)
            for job_id in gone:
                records.remove(pipe, job_id)
        return len(gone), len(kept)

    return link.transact([records.key(job_id) for job_id in ids], change)


def _stays(record: Record, span: _Span) -> bool:
    """Say whether a job is not to be removed: changed meanwhile, or on its way elsewhere."""
    if record.status != span.status or (span.only is not None and record.id not in span.only):
        return True
    return span.status == CANCELLED and (record.error or "").startswith(UNSURE)
