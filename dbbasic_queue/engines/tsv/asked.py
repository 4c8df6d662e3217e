"""Whether a job in hand is to be broken off: its row is looked at from beside, without the lock."""

from __future__ import annotations

import os
from pathlib import Path

from ...job import PROCESSING
from ...support.opening import open_file
from ...table.line import Row
from ...table.scan import last_row, row_at
from ..calling_off import note_of
from ..interface import Attempt


class Asked:
    """Looks at the row of the job in hand, each time in the file that is there now.

    In another thread than the worker's, so with a descriptor of its own.
    """

    def __init__(self, table: Path) -> None:
        self._table = table
        self._attempt: Attempt | None = None
        self._offset = 0  # where its row was last seen

    def look(self, attempt: Attempt) -> str:
        """The note that this attempt is to end with; empty while it is to go on."""
        if attempt is not self._attempt:
            self._attempt, self._offset = attempt, attempt.token[0]
        try:
            fd = open_file(self._table, os.O_RDONLY)
        except OSError:  # being replaced, or gone: the worker itself will find that
            return ""
        try:
            row = row_at(fd, self._offset)
            if not _is_of(row, attempt):  # the table was written anew, or the row has moved
                size = os.fstat(fd).st_size
                row = last_row(fd, attempt.job.id.encode(), 0, size)
        except OSError:
            return ""
        finally:
            os.close(fd)
        if row is None or not _is_of(row, attempt):
            return ""
        self._offset = row.offset
        return note_of(row.error.decode(errors="replace"))


def _is_of(row: Row | None, attempt: Attempt) -> bool:
    job = attempt.job
    return (
        row is not None
        and row.id == job.id.encode()
        and row.status == PROCESSING
        and row.attempts == job.attempts
    )
