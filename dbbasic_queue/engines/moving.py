"""The note that a job leaves behind where it was taken out for another queue.

Theory of operation
-------------------
A job is never runnable in two places. So it is taken out of its queue first, and only then put
into the other; and whatever is killed in between must be able to go on. All of it stands in the
job's own row, which becomes `cancelled`, with a note in the place of its error:

    Moving to URL (was pending, 1767225600); the error it had      taken out, perhaps not there yet
    Moved to URL (was pending, 1767225600); the error it had       taken out, and there

The number is the job's own time, `run_at`. Its other columns are left as they are, so the row has
all that the job was. A job that has failed or was cancelled moves the same way, since `dbq retry`
could wake it at both ends. A completed one never changes again: it is copied.

A row with a note is not put back by `retry`. The first kind is not pruned either: that would lose
the job. When a job comes back to a queue that has its note, it takes the place of the note.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from ..job import CANCELLED, FAILED, PENDING, Job

MOVABLE: Final = (PENDING, FAILED, CANCELLED)  # what may run again, now or by `retry`
UNSURE: Final = "Moving to "  # how a note begins
SURE: Final = "Moved to "

_NOTE: Final = rf"(?s)({UNSURE}|{SURE})(.+?) \(was ({'|'.join(MOVABLE)}), (\d{{1,15}})\)(?:; (.*))?"


class Departed(NamedTuple):
    """What a note says: where the job went, whether it is there for certain, and what it was."""

    to: str
    sure: bool
    job: Job


def note_of(job: Job, to: str, *, sure: bool = False) -> str:
    """The note of a job on its way to the queue at the address `to`.

    >>> note_of(Job("a1", "mail", {}, "pending", 5, 9, 0), "/srv/queue.tsv")
    'Moving to /srv/queue.tsv (was pending, 9)'
    """
    rest = f"; {job.error}" if job.error else ""
    return f"{SURE if sure else UNSURE}{to} (was {job.status}, {job.run_at}){rest}"


def departed(job: Job) -> Departed | None:
    """What the note of a job says; None for a job without one.

    >>> row = Job("a1", "mail", {}, "cancelled", 5, 20, 1, "Moved to X (was failed, 9); E: no")
    >>> departed(row).sure, departed(row).job.status, departed(row).job.error
    (True, 'failed', 'E: no')
    >>> departed(row._replace(error="Cancelled by user"))
    """
    found = _note_in(job.status, job.error)
    if found is None:
        return None
    was = job._replace(status=found[3], run_at=int(found[4]), error=found[5] or None)
    return Departed(found[2], found[1] == SURE, was)


def is_moved(job: Job) -> bool:
    """Whether a job bears a note: it went to another queue, or is on its way there.

    >>> is_moved(Job("a1", "mail", {}, "cancelled", 5, 20, 1, "Moved to X (was failed, 9)"))
    True
    """
    return _note_in(job.status, job.error) is not None


def note_kind(status: str, error: str | None) -> str:
    """Which note a job in this state and with this error bears: `UNSURE`, `SURE`, or "" for none.

    >>> note_kind("cancelled", "Moved to X (was failed, 9)"), note_kind("cancelled", "by user")
    ('Moved to ', '')
    """
    found = _note_in(status, error)
    return found[1] if found else ""


def _note_in(status: str, error: str | None) -> re.Match[str] | None:
    if status != CANCELLED or not error or not error.startswith((UNSURE, SURE)):
        return None
    return re.fullmatch(_NOTE, error)
