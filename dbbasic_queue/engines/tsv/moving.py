"""Jobs that leave a table for another queue, or come from one, with all that is known of them."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Final

from ...job import CANCELLED, PENDING, PROCESSING, Job, result_text, safe_error
from ...support.text import dump_json, escape_control
from ...table.line import ATTEMPTS_LIMIT, Row, new_line, to_job
from ...table.table import Change, Table
from ..moving import SURE, UNSURE, departed, is_moved
from .acting import rows_by_id

_NOTES: Final = (SURE.encode(), UNSURE.encode())


def withdraw(
    table: Table, limit: int, note: Callable[[Job], str], statuses: Collection[str], now: int
) -> list[Job]:
    """Cancel up to `limit` jobs with one lock and one sync; returns them as they were.

    Args:
        table: need not be there.
        limit: at most so many.
        note: makes the error of each.
        statuses: the states that they are in, neither processing nor completed.
        now: Unix seconds.

    Raises `StorageError`.
    """
    if not os.path.lexists(table.data_file):
        return []  # not made for that
    with table.writing():
        rows = list(itertools.islice(_movable(table, statuses), limit))
        jobs = [to_job(row) for row in rows]
        table.change_all(
            [
                Change(row, CANCELLED, now, row.attempts, _error(note(job)))
                for row, job in zip(rows, jobs, strict=True)
            ]
        )
    if jobs:
        table.sync()
        table.compact_if_moved()
    return jobs


def _movable(table: Table, statuses: Collection[str]) -> Iterator[Row]:
    """The rows in these states that bear no note, the cancelled ones last.

    As many of those bear one as were moved, each call would look through all of them.
    """
    if others := [status for status in statuses if status != CANCELLED]:
        yield from table.rows(others)
    if CANCELLED in statuses:
        yield from (row for row in table.rows([CANCELLED]) if not _is_noted(row))


def _is_noted(row: Row) -> bool:
    return row.error.startswith(_NOTES) and is_moved(to_job(row))


def renote(table: Table, notes: Mapping[str, str]) -> None:
    """Give jobs that were withdrawn other notes, by id. Raises `StorageError`."""
    with table.writing():
        rows = rows_by_id(table, {job_id.encode() for job_id in notes})
        table.change_all(
            [
                Change(row, CANCELLED, row.run_at, row.attempts, _error(notes[key.decode()]))
                for key, row in rows.items()
                if _is_noted(row)
            ]
        )


def forget_moved(table: Table) -> int:
    """Remove the jobs whose note is sure; returns how many. Raises `StorageError`."""

    def is_gone(row: Row) -> bool:
        if row.status != CANCELLED or not row.error.startswith(SURE.encode()):
            return False
        found = departed(to_job(row))
        return found is not None and found.sure

    if not os.path.lexists(table.data_file):
        return 0
    table.require_owner("migrate --finish")
    with table.writing():
        return table.rewrite([row.offset for row in table.rows([CANCELLED]) if is_gone(row)])


def _error(note: str) -> bytes:
    """A note as it stands in the table: longer than an error may be, as it has one in it."""
    return escape_control(note).encode()


def adopt(table: Table, jobs: Sequence[Job], over: Callable[[Job], bool] | None) -> int:
    """Write jobs with all nine columns, all or none; returns how many were new.

    Args:
        table: made if it is missing.
        jobs: none of them processing.
        over: of a job with the same id that has ended: whether it is replaced. None: it is not.

    Raises `ValueError` for a job that is processing, `StorageError`.
    """
    for job in jobs:
        if job.status == PROCESSING:
            raise ValueError(f"job {job.id} is processing: it cannot be moved")
    ids = {job.id.encode() for job in jobs}
    with table.writing():
        known = rows_by_id(table, ids)
        fresh: dict[bytes, Row] = {}
        back: dict[bytes, Change] = {}
        replaced: list[int] = []
        for job in jobs:
            key, new = job.id.encode(), _row(job)
            there = known.get(key)
            if key in fresh or key in back:
                continue
            if there is None:
                fresh[key] = new
            elif there.status in (PENDING, PROCESSING) or not (over and over(to_job(there))):
                continue
            elif _head(there) == _head(new):
                back[key] = Change(
                    there, new.status, new.run_at, new.attempts, new.error, new.result
                )
            else:
                fresh[key] = new
                replaced.append(there.offset)
        table.change_all(list(back.values()))
        if replaced:  # by another job that has the id: one step, so that the id is never unknown
            table.rewrite(sorted(replaced), added=fresh.values())
        elif fresh:
            table.append_batch(_lines(fresh.values(), table.size))
    table.sync()
    return len(fresh) + len(back)


def _head(row: Row) -> tuple[bytes, bytes, int]:
    """What never changes of a job."""
    return row.type, row.payload.strip(), row.created_at


def _row(job: Job) -> Row:
    """A job as a row that stands nowhere yet."""
    payload = job.payload if isinstance(job.payload, str) else dump_json(job.payload)
    return Row(
        0,
        b"",
        0,
        job.id.encode(),
        job.type.encode(),
        payload.encode(),
        job.status,
        job.created_at,
        job.run_at,
        min(job.attempts, ATTEMPTS_LIMIT),
        safe_error(job.error).encode() if job.error else b"",
        result_text(job.result).encode(),
    )


def _lines(rows: Iterable[Row], offset: int) -> bytes:
    """The lines of new rows, the first of which will stand at `offset`."""
    lines = []
    for row in rows:
        line = new_line(offset, row, moved=False)
        lines.append(line)
        offset += len(line)
    return b"".join(lines)
