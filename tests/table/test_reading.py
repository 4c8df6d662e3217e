"""Rows read one by one and all together, while others write."""

from __future__ import annotations

import random
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tables import (
    LONG,
    MALFORMED,
    add,
    change,
    find,
    get,
    look,
    own,
    set_piece,
    stands,
    text,
    write,
)

from dbbasic_queue import Queue
from dbbasic_queue.table.line import SECTOR, parse_line
from dbbasic_queue.table.table import Table

# -- one by one ------------------------------------------------------------------------------------


def status_at(table: Table, offset: int) -> str:
    """The state of the row at an offset, as a worker reads it."""
    row = parse_line(table.line_at(offset), offset)
    assert row is not None
    return row.status


def test_what_is_read_ahead_is_forgotten_with_the_lock(table: Table) -> None:
    """A row that another process changes between two turns is read as it is then."""
    first, second = add(table, "a1"), add(table, "b2")
    other = Table(table.data_file, "normal")
    with table.writing():
        assert stands(table, first)
        assert status_at(table, second.offset) == "pending"
    change(other, "b2", "processing")
    with table.writing():
        assert table.line_at(first.offset) == first.line
        assert status_at(table, second.offset) == "processing"
    change(other, "b2", "failed")
    with table.writing():
        assert status_at(table, second.offset) == "failed"


def test_what_is_read_ahead_is_forgotten_when_it_is_written(table: Table) -> None:
    """Under one lock, a row is read as it was changed last; the row before it may change freely."""
    first, second, third = add(table, "a1"), add(table, "b2"), add(table, "c3")
    with table.writing():
        assert stands(table, first)
        table.change(first, "processing", 6, 1)
        assert table.line_at(second.offset) == second.line
        table.change(second, "processing", 6, 1)
        assert status_at(table, first.offset) == status_at(table, second.offset) == "processing"
        table.change(third, "processing", 6, 1)
        assert [status_at(table, row.offset) for row in (third, second)] == ["processing"] * 2
        assert stands(table, get(table, "a1"))
        table.kill(get(table, "b2"))
        assert table.line_at(second.offset).strip() == b""
        assert table.line_at(third.offset) == get(table, "c3").line


@pytest.mark.parametrize("size", [1, 300, 600, 5000, 10**6])
def test_a_row_longer_than_what_is_read_ahead_is_read_whole(table: Table, size: int) -> None:
    """The next row may begin in what was read with the one before it and end beyond."""
    first, second = add(table, "a1"), add(table, "b2", payload='{"x": "%s"}' % ("y" * size))
    third = add(table, "c3")
    with table.writing():
        assert stands(table, first)
        for row in (second, third, second, first, third):
            assert table.line_at(row.offset) == row.line


@pytest.mark.parametrize("seed", range(5))
def test_lines_are_those_of_the_file_in_whatever_order(table: Table, seed: int) -> None:
    """Looked at and changed in any order under one lock, each line is as it stands in the file."""
    chance = random.Random(seed)
    rows = [
        add(table, f"a{number}", payload='{"x": "%s"}' % ("y" * chance.randrange(900)))
        for number in range(20)
    ]
    with table.writing():
        for _ in range(300):
            place = chance.randrange(20)
            row = rows[place]
            if chance.random() < 0.3:
                assert stands(table, row)
            if chance.random() < 0.3:
                rows[place] = row = table.change(row, "pending", chance.randrange(10**9), 0)
            content = table.data_file.read_bytes()
            end = content.index(b"\n", row.offset) + 1
            assert table.line_at(row.offset) == content[row.offset : end] == row.line
            assert table.line_at(row.offset + 1) == b""


def test_a_long_malformed_line_is_a_line(path: Path) -> None:
    """What is not a row, but names the state pending, is passed over by a worker."""
    long = b"a1\tmail\t" + b"\0" * 5000 + b"\tpending\t5\t5\t0\t\t\n"
    content = write(path, long, text("b2"))
    with look(path).writing():
        pass
    table = look(path)
    with table.writing():
        assert table.line_at(content.index(b"a1")) == long
    ran: list[Any] = []
    Queue(path, "normal").process_jobs({"mail": ran.append})
    assert len(ran) == 1


def test_no_line_begins_within_one_or_beyond_the_end(table: Table) -> None:
    """What is not the first byte of a line gives no line, and so does the end of the file."""
    first, second = add(table, "a1"), add(table, "b2")
    with table.writing():
        for known in (False, True):
            if known:
                assert stands(table, first)
            assert table.line_at(second.offset + 3) == b""
            assert table.line_at(table.size) == b""
            assert table.line_at(table.size + 999) == b""


# -- while others write ----------------------------------------------------------------------------


def test_a_row_that_moves_while_we_read_is_given_out_once(
    table: Table, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reading that meets a job twice, as it moves to the end meanwhile, yields it once."""
    set_piece(monkeypatch, 400)
    for number in range(40):
        add(table, f"a{number}")
    reading = look(path).rows()
    first = [next(reading) for _ in range(5)]
    for number in (2, 30):
        change(table, f"a{number}", "completed", result=LONG)
    add(table, "late")
    ids = [row.id.decode() for row in (*first, *reading)]
    assert sorted(ids) == sorted([*(f"a{number}" for number in range(40)), "late"])


def test_counting_while_rows_move(
    table: Table, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job that moves from behind the reader to before it, or back, is counted once."""
    set_piece(monkeypatch, 400)
    for number in range(40):
        add(table, f"a{number}")
    pieces, moved = Table.pieces, []

    def disturbed(self: Table, *args: Any, **kwargs: Any) -> Iterator[tuple[int, bytes]]:
        for piece in pieces(self, *args, **kwargs):
            yield piece
            if len(moved) < 60:
                number = 39 - len(moved) % 40
                moved.append(number)
                change(table, f"a{number}", "completed", result=LONG)

    monkeypatch.setattr(Table, "pieces", disturbed)
    counts = look(path).count_by_status()
    assert len(moved) == 60
    assert sum(counts.values()) == 40


@given(data=st.data())
@settings(max_examples=50)
def test_pieces_of_any_size_give_the_same_rows(data: st.DataObject) -> None:
    """Rows, searches, counts and moved rows do not depend on how much is read at a time."""
    lines = data.draw(
        st.lists(
            st.one_of(
                st.builds(
                    own,
                    st.integers(0, SECTOR),
                    st.sampled_from(["a1", "b2", "c3", "d4"]),
                    st.sampled_from(["pending", "completed"]),
                    payload=st.sampled_from(["{}", LONG]),
                    moved=st.booleans(),
                ),
                st.sampled_from([*MALFORMED, b"\n", b"    \n", b" a1\t\n"]),
            ),
            max_size=12,
        )
    )
    last = data.draw(st.sampled_from([b"", b"a1", text("e5")[:-1], b" a1\t{"]))
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patched:
        path = Path(folder) / "queue.tsv"
        write(path, *lines, last)
        seen = []
        for size in (1 << 20, data.draw(st.integers(20, 700))):
            set_piece(patched, size)
            table = look(path)
            seen.append(
                (
                    list(table.rows()),
                    table.count_by_status(),
                    table.moved(),
                    [find(table, name) for name in ("a1", "b2", "c3", "d4", "e5")],
                )
            )
            assert b"".join(piece for _, piece in table.pieces()) in (
                path.read_bytes(),
                path.read_bytes()[: len(path.read_bytes()) - len(last)],
            )
        assert seen[0] == seen[1]
        rows, counts, _, found = seen[0]
        assert counts == Counter(row.status for row in rows)
        assert all(row == [r for r in rows if r.id == row.id][-1] for row in found if row)
