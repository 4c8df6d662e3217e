"""Jobs that leave a table for another queue, or come from one, with all that is known of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from ...job import CANCELLED, PENDING, PROCESSING, Job, require, result_text, safe_error
from ...support.text import dump_json
from ...table.line import ATTEMPTS_LIMIT, Row, new_line, to_job
from ...table.table import Table

FEW: Final = 8  # rows that are changed one by one; more are written with the table anew


def withdraw(table: Table, limit: int, note: Callable[[Job], str], now: int) -> list[Job]:
    """Cancel up to `limit` pending jobs with one lock and one sync; returns them as they were.

    Args:
        table: need not be there.
        limit: at most so many.
        note: makes the error of each.
        now: Unix seconds.

    Raises `StorageError`.
    """
    with table.reading():
        if table.generation == 0:
            return []
    with table.writing():
        rows = _first(table, limit)
        jobs = [to_job(row) for row in rows]
        instead = {}
        for row, job in zip(rows, jobs, strict=True):
            require(row.id, row.status, CANCELLED)
            error = safe_error(note(job)).encode()
            instead[row.offset] = row._replace(status=CANCELLED, run_at=now, error=error)
        if len(rows) <= FEW:
            for row in rows:
                new = instead[row.offset]
                table.change(row, new.status, now, row.attempts, new.error)
        else:  # a note seldom fits into a row's reserve, and to move a row takes a sync
            table.rewrite(list(instead), instead=instead)
    if jobs:
        table.sync()
        table.compact_if_moved()
    return jobs


def _first(table: Table, limit: int) -> list[Row]:
    rows: list[Row] = []
    for row in table.rows([PENDING]):
        if len(rows) >= limit:
            break
        rows.append(row)
    return rows


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
        known = {row.id: row for row in table.rows() if row.id in ids}
        fresh: dict[bytes, Job] = {}
        replaced: list[int] = []
        for job in jobs:
            key, there = job.id.encode(), known.get(job.id.encode())
            if key in fresh:
                continue
            if there is not None:
                if there.status in (PENDING, PROCESSING) or not (over and over(to_job(there))):
                    continue
                replaced.append(there.offset)
            fresh[key] = job
        if replaced:
            added = [_row(job) for job in fresh.values()]
            table.rewrite(sorted(replaced), added=added)
        elif fresh:
            table.append_batch(_lines(fresh.values(), table.size))
    table.sync()
    return len(fresh)


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


def _lines(jobs: Iterable[Job], offset: int) -> bytes:
    """The lines of jobs, the first of which will stand at `offset`."""
    lines = []
    for job in jobs:
        line = new_line(offset, _row(job), moved=False)
        lines.append(line)
        offset += len(line)
    return b"".join(lines)
