"""Lines that bear the id of another job's line, such as a person's copy: none may run again.

Theory of operation
-------------------
No program of ours writes a second line of an id, but when it moves a row, and then the new line
bears a mark. So a second line is a copy that was pasted or appended by hand. A job runs once: of
its lines that have not ended one stays, and none if one has ended. The others become malformed, by
the state `doubled` in the place of theirs: no worker takes them, the health check reports them, and
`dbq edit` shows them. Nothing is lost, whatever the person meant by it.

Two lines are found when the table is read: see known_ids.py. What is appended later is compared
with the ids of jobs that had yet to run then, and with what was appended before it; a job that was
created long before the one above it is looked for in all of the table.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from ...job import PENDING, PROCESSING
from ...support.text import printable
from ...table import scan
from ...table.line import DOUBLED, Row, is_outdated
from ...table.table import Table
from .claims import Claims

log = logging.getLogger("dbbasic_queue")

FEW: Final = 4  # ids, for each of which the whole table is searched; more are found by one reading


def repeated(table: Table, start: int, size: int, known: Collection[int]) -> set[bytes]:
    """Return the ids with these hashes that more than one line bears, from `start` up to `size`."""
    count, seen = 0, set[int]()
    for _, piece in table.pieces(start, size):
        found = list(filter(known.__contains__, map(hash, scan.ids_of(piece))))
        count += len(found)
        seen.update(found)
    once, twice = set[bytes](), set[bytes]()
    for _, piece in table.pieces(start, size) if count > len(seen) else ():
        for job_id in scan.ids_of(piece):
            if hash(job_id) in known:
                (twice if job_id in once else once).add(job_id)
    return twice


def twins(table: Table, size: int, ids: Collection[bytes]) -> dict[bytes, list[int]]:
    """Return where the rows of these ids begin, of each id that has more than one up to `size`."""
    file = table.snapshot()[0]
    found: dict[bytes, list[int]] = {job_id: [] for job_id in ids}
    if file is None:
        return {}
    if len(found) <= FEW:
        for job_id, places in found.items():
            end = size
            while (row := scan.last_row(file.fd, job_id, 0, end)) is not None:
                places.append(row.offset)
                end = row.offset - 1
            places.reverse()
    else:
        for offset, piece in table.pieces(end=size):
            for start, job_id in scan.ids_in(piece, found):
                found[job_id].append(offset + start)
    return {job_id: places for job_id, places in found.items() if len(places) > 1}


def doubles(rows: Sequence[Row], is_running: bool) -> list[Row]:
    """Return which lines of one job, in the order of the file, must not run.

    Args:
        rows: all live lines of the job, two at least.
        is_running: whether a worker is at it.
    """
    unfinished = [row for row in rows if row.status in (PENDING, PROCESSING)]
    begun = [row for row in unfinished if row.status == PROCESSING]
    if len(unfinished) == len(rows):
        unfinished.remove((begun or unfinished)[-1])  # the later one counts, as for readers
    return [row for row in unfinished if not (is_running and row.status == PROCESSING)]


def part(
    table: Table, claims: Claims, job_id: bytes, places: Collection[int], moved: Mapping[bytes, int]
) -> None:
    """See that of the lines of a job at these places one runs at most. Call it under the lock.

    `moved` says where rows stand that were moved.
    """
    rows = [row for row in map(table.read_row, places) if row and row.id == job_id]
    if len(rows) > 1 and rows[-1].offset == moved.get(job_id):
        rows = [row for row in rows if not is_outdated(row, rows[-1])] + rows[-1:]
    if len(rows) < 2:
        return
    for row in doubles(rows, claims.is_held(job_id)):
        table.write_in_place(DOUBLED.ljust(len(row.status)), row.offset + row.tail)
        log.warning(
            "not run: a second line of %s %s; it is malformed now, `dbq edit` shows it",
            printable(row.type.decode(errors="replace")),
            job_id.decode(),
            extra={"event": "doubled", "job_id": job_id.decode()},
        )


def is_left_of_a_move(table: Table, claims: Claims, row: Row, moved: dict[bytes, int]) -> bool:
    """Say whether a later line of this job counts; if so, finish what a crash interrupted."""
    moved_to = moved.get(row.id, 0)
    if row.offset >= moved_to:
        return False
    later = table.read_row(moved_to)
    if later is None or later.id != row.id:
        del moved[row.id]
        return False
    if is_outdated(row, later):
        table.kill(row)
        return True
    part(table, claims, row.id, [row.offset, moved_to], moved)
    return table.read_row(row.offset) is None
