"""What a search without the lock has found is worth something only as long as it is still so."""

from __future__ import annotations

import os
from pathlib import Path

from tables import add, look, own

from dbbasic_queue.table.line import Row
from dbbasic_queue.table.reading import Hint
from dbbasic_queue.table.table import Table


def found(table: Table, key: bytes, hint: Hint) -> Row | None:
    """What a producer finds under the lock, with what it found before."""
    with table.writing():
        return table.find(key, hint)


def test_a_row_added_to_a_table_written_anew_is_found(path: Path) -> None:
    """A table that got shorter, and then a row, may be as long as the part that was searched."""
    table, other = look(path), look(path)
    old = [add(table, f"old-{n}", status="completed").offset for n in range(20)]
    hint = table.search(b"key")
    with other.writing():
        other.rewrite(old)
    row = add(other, "key")
    assert row.offset < hint.size
    assert found(table, b"key", hint) == row


def test_a_row_that_was_moved_since_is_found_where_it_is_now(path: Path) -> None:
    """A crash in a move leaves both lines alive: the later one is the job."""
    table, other = look(path), look(path)
    add(other, "key")
    hint = table.search(b"key")
    moved = add(other, "key", status="processing", attempts=1, moved=True)
    assert found(table, b"key", hint) == moved


def test_a_row_in_whose_place_another_stands_is_not_taken_for_it(path: Path) -> None:
    """An editor that saves in place, without the lock, puts another job where the first was."""
    table = look(path)
    row = add(table, "key-1")
    hint = table.search(b"key-1")
    with open(path, "r+b") as file:
        os.pwrite(file.fileno(), own(row.offset, "key-2"), row.offset)
    assert found(table, b"key-1", hint) is None
