"""A job found by the time in its id: the file is bisected, a few small reads in all.

Theory of operation
-------------------
Rows are appended as jobs are made, so the times at which they were made ascend from line to line.
Not strictly: a producer waits for the lock, a clock is set back, a moved row stands further down,
jobs come from another queue, a person edits. So what the bisection says is a place to look at, and
around it; what it does not find may be anywhere. It never says that there is no such job: that
takes `scan.last_row`, which looks at every byte.

A probe reads a kilobyte and goes by the first row in it that stands where it was appended (without
the mark of a moved one): by the second in `created_at`, and within that second by the id, if it
bears a time. Then 16 KiB around are searched for the id, as producers may have come in another
order; then 128 KiB and 1 MiB, if that was in vain.

Of several live lines of one job the last one counts. A program of ours leaves two only where a
crash breaks into a move, between the new line and the death of the old. Of which lines a move can
have left is seen in them (`may_be_left`), and only for those is the rest of the file searched. It
is a job that is running, and one whose line has no reserve. Any other line is given a mark before
it is moved (`spoiled`): a carriage return for the last space of its reserve, which readers pass
over.

In "normal" a power cut can lose that a job was begun, and keep the new line: the old one looks as
if it was never moved. A move syncs before anything else is written, so the new line is the last of
the table then, which is looked at for each pending job. Many moves at once sync before their lines.
"""

from __future__ import annotations

import functools
import os
import re
from typing import Final, NamedTuple

from ..job import COMPLETED, PENDING, PROCESSING
from ..support.ids import made_at, time_part
from .line import ANY_STATUS, ID, SECTOR, Row
from .scan import LONGEST_LINE, last_row, line_start, row_at

PROBE: Final = 1 << 10  # bytes that a probe reads first
FAR: Final = 1 << 14  # bytes without a row to go by, after which a probe gives up
PROBES: Final = 100  # after which it is left to the full search; 15 do for a million rows
AROUND: Final = (1 << 13, 1 << 16, 1 << 19)  # bytes before and behind the place, one after another
SECOND: Final = 1000  # milliseconds

_SPOILED: Final = b"\r\n"


@functools.cache  # compiled when it is wanted: a worker starts a millisecond sooner
def _guide() -> re.Pattern[bytes]:
    """A row, as far as a probe goes by it: the id, the mark of a moved row, created_at."""
    row = rb'\n(%b)\t[^\t\n\0]+\t( (?!"))?[^\t\n\0]*\t(?:%b)\t(\d{1,15})\t'
    return re.compile(row % (ID, ANY_STATUS))


class _Sought(NamedTuple):
    """The job that is looked for, and what the ids of its second begin with."""

    id: bytes
    second: int  # Unix time
    first: bytes
    last: bytes


def find(fd: int, job_id: bytes, end: int) -> Row | None:
    """Return the last live row of a job, if it stands about where it was appended.

    Args:
        fd: the table.
        job_id: with a time in it, else the answer is None at once.
        end: of the table, in bytes.

    None says nothing: `scan.last_row` has to be asked then. A row is the one that it would return,
    unless a person has written a second line of the job, far away.
    """
    moment = made_at(job_id)
    if moment is None:
        return None
    second = moment // SECOND
    ends = time_part(second * SECOND), time_part(second * SECOND + SECOND - 1)
    places = _places(fd, _Sought(job_id, second, ends[0].encode(), ends[1].encode()), end)
    for far in AROUND:
        for place in places:
            row = last_row(fd, job_id, max(0, place - far), min(end, place + far))
            if row is not None:
                if may_be_left(row):
                    return last_row(fd, job_id, row.offset + len(row.line), end) or row
                return _begun_since(fd, row, end) if row.status == PENDING else row
    return None


def _begun_since(fd: int, row: Row, end: int) -> Row:
    """Return the last row of the table, if it is the same job, else the pending one."""
    last = row_at(fd, line_start(fd, end - 1))
    return last if last is not None and last.id == row.id else row


def _places(fd: int, sought: _Sought, end: int) -> tuple[int, ...]:
    """Return about where the job would stand.

    One place; or two, of which one is before and the other behind a stretch of nothing to go by.
    """
    low, high, left = 0, end, PROBES
    while high - low > AROUND[0]:
        # Halfway; where there is nothing to go by, nearer to the ends.
        part, answer = (high - low) // 2, None
        while answer is None and part >= PROBE:
            left -= 2
            answer = _probe(fd, sought, low + part, high)
            if answer is None:
                part //= 2
                answer = _probe(fd, sought, high - part, high)
        if left < 0:
            return ()
        if answer is None:
            return low, high
        at, is_later = answer
        low, high = (low, at) if is_later else (at, high)
    return (low,)


def _probe(fd: int, sought: _Sought, start: int, end: int) -> tuple[int, bool] | None:
    """Return where the first row to go by begins behind `start`, and whether it is a later one."""
    at, length, moved = start, PROBE, None
    while at < end and at - start < FAR:
        piece = os.pread(fd, min(length, end - at), at)
        for match in _guide().finditer(piece):
            job_id, mark, created_at = match.groups()
            later = int(created_at) - sought.second
            if not later:
                if len(job_id) != len(sought.id) or not sought.first <= job_id[:8] <= sought.last:
                    continue  # one of the same second, without a time in its id
                later = job_id > sought.id
            answer = at + match.start() + 1, later > 0
            if mark is None:
                return answer
            moved = moved or answer
        if moved is not None or at + len(piece) >= end or length > LONGEST_LINE:
            return moved
        last = piece.rfind(b"\n")
        at += max(0, last)
        length *= 4
    return None


def may_be_left(row: Row) -> bool:
    """Say whether a move that was broken off may have left this line, and a later one is the job.

    Not where the line has reserve in one sector, so that the next change is most often one in
    place, and is not spoiled. Nor where the job is completed: that stays as it is.
    """
    if row.status == COMPLETED:
        return row.line.endswith(_SPOILED)
    at = row.offset + row.tail
    fits = at % SECTOR + len(row.line) - row.tail <= SECTOR
    return row.status == PROCESSING or not (fits and row.line.endswith(b" \n"))


def spoil(row: Row) -> tuple[bytes, int] | None:
    """Return what to write where, so that `may_be_left` is true of a line that is to be moved.

    None where it is already; or where a completed job has no reserve to write it into.
    """
    if may_be_left(row) or not row.line.endswith(b" \n"):
        return None
    return b"\r", row.offset + len(row.line) - 2
