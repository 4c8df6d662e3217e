"""The jobs of a table that have one key: searched before the lock, under it only what is new."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from ...job import COMPLETED, PENDING, PROCESSING
from ...table.line import Row
from ...table.table import Table
from ..unique import Unique, key_of, rank

FEW: Final = 20  # keys that are searched for one by one


class Found(NamedTuple):
    """What a search without the lock has found, for `rows_of`."""

    generation: int
    size: int  # of the part that was searched
    ended: tuple[Row, ...]  # completed: those stay as they are
    offsets: tuple[int, ...]  # of all others


def search(table: Table, key: str) -> Found:
    """Look for the jobs with a key without holding other processes up."""
    with table.reading():
        generation, size = table.generation, table.size
    ended, offsets = [], []
    for offset in _places(table, key, 0, size):
        with table.reading():
            row = table.read_row(offset) if table.generation == generation else None
        if row is not None and row.status == COMPLETED:
            ended.append(row)
        else:
            offsets.append(offset)
    return Found(generation, size, tuple(ended), tuple(offsets))


def rows_of(table: Table, key: str, found: Found | None = None) -> list[Row]:
    """The jobs with a key as they are now. Call it under the lock (either kind)."""
    if found is None or found.generation != table.generation:
        found = Found(table.generation, 0, (), ())
    rows = {row.id: row for row in found.ended}
    for offset in (*found.offsets, *_places(table, key, found.size, table.size)):
        row = table.read_row(offset)
        if row is not None:
            rows[row.id] = row  # of two that are alive, the later one is the job
    return list(rows.values())


def _places(table: Table, key: str, start: int, end: int) -> Iterator[int]:
    """Where the lines of the jobs with a key begin, dead ones left out."""
    if start >= end:
        return
    beginning = f"{key}--".encode()
    matches = re.compile(re.escape(beginning) + rb"[0-9a-f]{8}\t").match
    for offset, piece in table.pieces(start, end):
        if matches(piece):
            yield offset
        at = piece.find(b"\n" + beginning)
        while at >= 0:
            if matches(piece, at + 1):
                yield offset + at + 1
            at = piece.find(b"\n" + beginning, at + 1)


def there(table: Table, unique: Unique, found: Found) -> str:
    """The id of the job that counts as there; empty if none does. Call it under the lock."""
    rows = rows_of(table, unique.key, found)
    counting = [row for row in rows if unique.counts(row.status, row.created_at)]
    best = min(counting, key=lambda row: (rank(row.status), -row.created_at), default=None)
    return best.id.decode() if best is not None else ""


class Waits:
    """Whether another job with the key of one that ends waits already."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._found: tuple[str, Found] | None = None

    def search(self, job_id: str) -> None:
        """Search for it without the lock, if the job has a key."""
        key = key_of(job_id)
        self._found = (key, search(self._table, key)) if key else None

    def other(self, job_id: str) -> str:
        """The id of the one that waits; empty if none does. Call it under the lock."""
        key = key_of(job_id)
        if not key:
            return ""
        found = self._found[1] if self._found and self._found[0] == key else None
        rows = rows_of(self._table, key, found)
        others = (row.id.decode() for row in rows if row.status == PENDING)
        return next((each for each in others if each != job_id), "")


def unfinished_keys(table: Table, ids: Iterable[str]) -> set[str]:
    """Those keys of these jobs that an unfinished job has. Call it under the lock (either kind)."""
    keys = {key for job_id in ids if (key := key_of(job_id))}
    if not keys:
        return set()
    states: Sequence[str] = (PENDING, PROCESSING)
    if len(keys) > FEW:
        return keys & {key_of(row.id.decode()) for row in table.rows(states)}
    return {key for key in keys if any(row.status in states for row in rows_of(table, key))}
