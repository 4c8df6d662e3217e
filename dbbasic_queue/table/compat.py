"""JobTable: the table as a `dbbasic.tsv.TSV`, for programs that know tables of dbbasic-tsv."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dbbasic.tsv import TSV

from ..errors import TableError
from ..job import COMPLETED
from .line import COLUMNS, Row, explain, new_line, parse_line
from .lock import FULL
from .table import Table


class JobTable(Table, TSV):  # type: ignore[misc]  # dbbasic-tsv has no type hints
    """The queue's table: a `dbbasic.tsv.TSV` that is safe between processes and costs O(1).

    The same file, lock protocol and reading methods (`query`, `query_one`, `count`, `all`,
    `stats`). Each overridden method names the flaw of the plain class that it replaces.

    Args:
        path: the table file, which need not exist; it is made by the first write.
        durability: "full" or "normal", as for `Table`.
    """

    def __init__(self, path: str | Path, durability: str = FULL) -> None:
        # Plain: looking at a table makes its folder, file, index and metadata.
        Table.__init__(self, path, durability)
        self.columns = list(COLUMNS)
        self.index_file = self.sibling("idx")
        self.meta_file = self.sibling("meta")

    def _lock(self, exclusive: bool = True) -> Any:
        # Plain: opens the lock file anew for each operation, and not at all in a transaction.
        return self.writing() if exclusive else self.reading()

    def insert(self, record: Mapping[str, Any]) -> bool:
        """Append a row. Raises `TableError` or `StorageError`."""
        # Plain: prints the error and returns False; saves the index without the lock.
        return self.insert_many([record]) == 1

    def insert_many(self, records: list[Mapping[str, Any]]) -> int:
        """Append rows, all or none; returns how many."""
        # Plain: stops in the middle at an error, with what came before written.
        with self.writing():
            data = b""
            for record in records:
                data += self._line_of(self.size + len(data), record)
            if data:
                self.append_batch(data)
        self.sync()
        return len(records)

    def _line_of(self, offset: int, record: Mapping[str, Any]) -> bytes:
        fields = self._normalize_record(dict(record))
        line = "\t".join(fields[name] for name in COLUMNS).encode(errors="backslashreplace")
        row = parse_line(line + b"\n")
        if row is None or row.type.startswith(b'"'):
            raise TableError(f"not a job's row, so not written: {explain(line)}")
        return new_line(offset, row, moved=False)

    def all(self) -> Iterator[dict[str, str]]:
        """Every row as a dict of strings, without padding."""
        # Plain: holds the lock for as long as the caller takes between two rows.
        return map(_as_strings, self.rows())

    def query(self, **conditions: Any) -> list[dict[str, str]]:
        """The rows whose columns equal the conditions, as dicts of strings."""
        # Plain: query(id=...) answers from a cache that other processes' writes never reach.
        wanted = _as_conditions(conditions)
        if "id" in wanted:
            job_id = wanted["id"].encode(errors="replace")
            hint = self.search(job_id)
            with self.reading():
                row = self.find(job_id, hint)
            found = [_as_strings(row)] if row else []
        else:
            found = list(self.all())
        return [row for row in found if self._matches_conditions(row, wanted)]

    def count(self, **conditions: Any) -> int:
        """How many rows there are, or how many equal the conditions."""
        # Plain: without conditions, a number from an index that other processes do not keep.
        return len(self.query(**conditions)) if conditions else sum(1 for _ in self.rows())

    def update(self, conditions: dict[str, Any], updates: dict[str, Any]) -> int:
        """Write new values into the rows that equal the conditions; returns how many.

        Knows nothing of the states of a job: the queue's own verbs are for that.
        """
        # Plain: rewrites the whole file for each update, without a sync.
        wanted = _as_conditions(conditions)
        changed = 0
        of_the_past = False
        with self.writing():
            for row in list(self.rows()):
                fields = _as_strings(row)
                if self._matches_conditions(fields, wanted):
                    self._move(row, self._moved_line({**fields, **updates}))
                    of_the_past |= row.status == COMPLETED
                    changed += 1
            if of_the_past:  # which a prune at work just now does not look at again
                self.rewrite()
        self.sync()
        return changed

    def _moved_line(self, record: Mapping[str, Any]) -> bytes:
        row = parse_line(self._line_of(self.size, record))
        assert row is not None
        return new_line(self.size, row, moved=True)

    def delete(self, **conditions: Any) -> int:
        """Remove the rows that equal the conditions; returns how many."""
        # Plain: rewrites the file through a temporary name that another process's index replaces.
        wanted = _as_conditions(conditions)
        with self.writing():
            return self.rewrite(
                [
                    row.offset
                    for row in self.rows()
                    if self._matches_conditions(_as_strings(row), wanted)
                ]
            )

    def truncate(self) -> None:
        """Remove all rows."""
        # Plain: empties the file first and writes the header then; a crash leaves neither.
        self.delete()

    def drop(self) -> None:
        """Delete the table; the lock file stays, as others may be waiting for it."""
        # Plain: deletes the lock file while it holds the lock, so that two may hold one each.
        with self.writing():
            os.unlink(self.data_file)
            self._file = None

    def backup(self, backup_path: Path) -> None:
        """Copy the table, as it is at one moment, into the folder `backup_path`."""
        # Plain: copies an index that the copy will not match.
        with self.reading():
            Path(backup_path).mkdir(parents=True, exist_ok=True)
            shutil.copy2(self.data_file, Path(backup_path) / self.data_file.name)

    def restore(self, backup_path: Path) -> None:
        """Put the table that `backup` made in the place of this one."""
        # Plain: copies over the file that others are reading.
        data = (Path(backup_path) / self.data_file.name).read_bytes()
        with self.writing():
            self.replace_with(data)

    def stats(self) -> dict[str, Any]:
        """Name, columns, rows and size of the table."""
        # Plain: the numbers of this process's index.
        rows = self.count()
        return {
            "table_name": self.table_name,
            "columns": self.columns,
            "row_count": rows,
            "file_size": self.size,
            "file_size_human": self._format_bytes(self.size),
            "index_size": 0,
            "cache_size": 0,
            "data_file": str(self.data_file),
        }

    def create_index(self, column: str) -> None:
        """There is no index to make: raises `ValueError` for an unknown column, or does nothing."""
        # Plain: writes an index through the data file's temporary name, without the lock.
        if column not in COLUMNS:
            raise ValueError(f"column {column!r}: the table has {', '.join(COLUMNS)}")

    def transaction(self) -> Any:
        """Refused: each verb of the queue is atomic by itself."""
        # Plain: rolls back by copying a stale copy over the file that others are reading.
        raise TableError("a job table has no transactions; each of its verbs is atomic by itself")


def _as_conditions(values: Mapping[str, Any]) -> dict[str, str]:
    return {name: "" if value is None else str(value) for name, value in values.items()}


def _as_strings(row: Row) -> dict[str, str]:
    values = (
        row.id,
        row.type,
        row.payload.strip(),
        row.status,
        row.created_at,
        row.run_at,
        row.attempts,
        row.error.strip(),
        row.result.strip(),
    )
    return {
        name: value.decode(errors="replace") if isinstance(value, bytes) else str(value)
        for name, value in zip(COLUMNS, values, strict=True)
    }
