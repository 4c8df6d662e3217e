"""The progress of the job in hand, written into its row: one write, under the lock, no sync."""

from __future__ import annotations

from typing import Any

from ...job import NEXT_LINE, PROCESSING
from ...table.line import Row, in_place, parse_line
from ...table.table import Table
from ..calling_off import note_of
from ..interface import Attempt
from ..progress import Progress


class Notes:
    """What one worker has noted in the row of its job, which its token does not know of."""

    def __init__(self, table: Table) -> None:
        self._table = table
        # The job in hand as it was noted last: its token, its row, the file's generation.
        self._last: tuple[Any, Row, int] | None = None

    def write(self, attempt: Attempt, progress: Progress) -> bool:
        """Write how far an attempt is; whether there was room. Call it under the lock."""
        row = self._row_in_hand(attempt)
        new = None if row is None else _with_progress(row, progress)
        if new is None:
            return False
        self._table.write_in_place(new.line[new.tail : -1], new.offset + new.tail)
        self._last = attempt.token, new, self._table.generation
        return True

    def _row_in_hand(self, attempt: Attempt) -> Row | None:
        """The row of an attempt, if it is still ours."""
        offset, line, _, generation, _ = attempt.token
        table, job = self._table, attempt.job
        if generation == table.generation and table.holds(line, offset):
            return parse_line(line, offset)
        row = self.row(attempt.token)
        if row is None:
            row = table.find(job.id.encode())
            if row is not None and (row.status, row.attempts) != (PROCESSING, job.attempts):
                return None
        return row

    def row(self, token: Any) -> Row | None:
        """The row of an attempt as it was noted last, if it stands there still."""
        if self._last is None or self._last[0] is not token:
            return None
        _, row, generation = self._last
        table = self._table
        return row if generation == table.generation and table.holds(row.line, row.offset) else None


def _with_progress(row: Row, progress: Progress) -> Row | None:
    """A row with its job's progress, as far as there is room in its tail; None if there is none.

    The error is that of the attempt before, and will not stay: what is too long of it makes way.
    Not so the mark of a job that is to be cancelled.
    """
    _, line, tail_at, _, _, _, status, created_at, run_at, attempts, error, _ = row
    fixed = b"%b\t%d\t%d\t%d\t\t" % (status.encode(), created_at, run_at, attempts)
    room = len(line) - tail_at - 1 - len(fixed)
    error = error.partition(NEXT_LINE.encode())[0]
    result = progress.written(room - len(error))
    if not result and not note_of(error.decode(errors="replace")):
        error, result = b"", progress.written(room)
    return in_place(row, status, run_at, attempts, error, result.encode()) if result else None
