"""What is done by hand to many jobs of a table: one lock and one sync, whatever their number.

The table is searched before the lock is taken. Under it, each row that was found is read again,
and nothing is done to one that has changed in such a way that it is not meant any more.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from ...errors import InvalidJob
from ...job import PENDING, Job, check_id
from ...support.text import dump_json
from ...table.line import Row, to_job
from ...table.reading import Hint
from ...table.scan import ids_in
from ...table.table import Change, Table
from ..choice import Choice
from ..unique import key_of
from ..verbs import Verb, done_to
from .uniqueness import unfinished_keys

FEW: Final = 20  # ids that are searched for one by one


def act(table: Table, verb: Verb, choice: Choice, now: int, *, dry_run: bool) -> list[Job]:
    """Do something to the jobs that are meant; returns them as they are then.

    Args:
        table: need not be there.
        verb: what is done.
        choice: of jobs; those that it cannot be done to are left alone.
        now: Unix seconds.
        dry_run: return them as they are, and do nothing.

    Raises `StorageError`, after which some of them may be changed.
    """
    if not os.path.lexists(table.data_file):
        return []  # not made for that
    search = _Search(table, verb, choice.within(verb.takes), now)
    if not search.found:
        return []
    if dry_run:
        with table.reading():
            return [job for _, job, _ in _without_second(table, search.found)]
    with table.writing():
        found = _without_second(table, list(search.again()))
        if any(new.payload is not job.payload for _, job, new in found):
            table.require_owner("retry --with")
        _write(table, found)
    if found:
        table.sync()
        table.compact_if_moved()
    return [new for _, _, new in found]


class _Found(NamedTuple):
    row: Row
    job: Job
    new: Job  # what becomes of it


class _Search:
    """The rows that are meant: found before the lock is taken, and read again under it."""

    def __init__(self, table: Table, verb: Verb, choice: Choice, now: int) -> None:
        self._table, self._verb, self._choice, self._now = table, verb, choice, now
        self._hints: dict[bytes, Hint] = {}
        if choice.ids is None:
            rows: Iterable[Row] = table.rows(choice.statuses)
        else:
            keys = [key for each in dict.fromkeys(choice.ids) if (key := _key(each))]
            if len(keys) <= FEW:
                self._hints = {key: table.search(key) for key in keys}
            with table.reading():
                rows = self._by_id(keys)
        self.found = list(self._meant(rows))
        self._generation = table.generation

    def again(self) -> Iterator[_Found]:
        """Yield those that are meant still, as they are now. Call it under the lock."""
        table = self._table
        keys = [each.row.id for each in self.found]
        if self._hints:
            rows: Iterable[Row] = self._by_id(keys)
        elif table.generation != self._generation:
            rows = self._by_id(keys)
        else:
            rows = self._at_their_places()
        return self._meant(rows)

    def _by_id(self, keys: list[bytes]) -> list[Row]:
        """The rows with these ids, in their order. Call it under the lock (either kind)."""
        if len(keys) <= FEW:
            found = {key: self._table.find(key, self._hints.get(key)) for key in keys}
        else:
            found = dict(rows_by_id(self._table, set(keys)))
        return [row for key in keys if (row := found.get(key)) is not None]

    def _at_their_places(self) -> Iterator[Row]:
        for old, _, _ in self.found:
            row = self._table.read_row(old.offset)
            if row is None or row.id != old.id:  # it stands elsewhere in the file now
                row = self._table.find(old.id)
            if row is not None:
                yield row

    def _meant(self, rows: Iterable[Row]) -> Iterator[_Found]:
        choice, left = self._choice, self._choice.limit
        only = choice.only_type()
        wanted = None if only is None else only.encode(errors="replace")
        for row in rows:
            if left == 0:
                return
            if row.status not in (choice.statuses or ()) or wanted not in (None, row.type):
                continue
            job = to_job(row)
            new = done_to(self._verb, job, self._now) if choice.takes(job) else None
            if new is not None:
                yield _Found(row, job, new)
                left = None if left is None else left - 1


def _without_second(table: Table, found: list[_Found]) -> list[_Found]:
    """Leave out those that would make two unfinished jobs of one key. Call it under the lock
    (either kind)."""
    woken = [each for each in found if each.new.status == PENDING != each.job.status]
    taken = unfinished_keys(table, [each.job.id for each in woken])
    left = []
    for each in found:
        key = key_of(each.job.id) if each.new.status == PENDING != each.job.status else ""
        if key not in taken:
            left.append(each)
            taken |= {key} if key else set()
    return left


def _write(table: Table, found: list[_Found]) -> None:
    """Write what becomes of the rows; one with another payload has the table written anew."""
    changes, replaced = [], {}
    for row, job, new in found:
        error = (new.error or "").encode()
        if new.payload is job.payload:
            changes.append(Change(row, new.status, new.run_at, new.attempts, error))
        else:
            replaced[row.offset] = row._replace(
                payload=dump_json(new.payload).encode(),
                status=new.status,
                run_at=new.run_at,
                attempts=new.attempts,
                error=error,
                result=b"",
            )
    if len(changes) == 1:
        table.change(*changes[0])
    else:
        table.change_all(changes)
    if replaced:
        table.rewrite(sorted(replaced), instead=replaced)


def rows_by_id(table: Table, ids: set[bytes]) -> Mapping[bytes, Row]:
    """Return the rows with these ids. Call it under the lock."""
    places = {}
    for offset, piece in table.pieces():
        for start, job_id in ids_in(piece, ids):
            places[job_id] = offset + start  # of two that are alive, the later one is the job
    rows = ((job_id, table.read_row(place)) for job_id, place in places.items())
    return {job_id: row for job_id, row in rows if row is not None}


def _key(job_id: str) -> bytes | None:
    """The id as bytes; None for what no job can have as its id."""
    try:
        return check_id(job_id).encode()
    except InvalidJob:
        return None
