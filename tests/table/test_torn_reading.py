"""What a reader knows stays true when a writer sets a torn line aside."""

from __future__ import annotations

from pathlib import Path

import pytest
from tables import add, look, own, set_piece, states, text, torn, write

from dbbasic_queue import Queue
from dbbasic_queue.table import scan
from dbbasic_queue.table.line import HEADER
from dbbasic_queue.table.table import Table


def torn_table(path: Path) -> None:
    """A table whose last line was cut off, far longer than the next row will be."""
    write(path, own(len(HEADER), "a1"), b"cut\tmail\t" + b"x" * 5000)


def test_a_key_is_not_enqueued_twice_after_a_torn_end_was_mended(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A producer that searched while the end was torn sees the row that took its place."""
    torn_table(path)
    queue = Queue(path, "normal")
    search = Table.search

    def meanwhile(table: Table, job_id: bytes) -> object:
        hint = search(table, job_id)
        monkeypatch.setattr(Table, "search", search)
        Queue(path, "normal").enqueue("mail", {}, job_id="key")
        return hint

    monkeypatch.setattr(Table, "search", meanwhile)
    queue.enqueue("mail", {}, job_id="key")
    assert [job["id"] for job in queue.list_jobs()] == ["a1", "key"]


@pytest.mark.parametrize("piece", [600, 1 << 20])
def test_a_listing_that_is_read_meanwhile_shows_what_is_there(
    path: Path, monkeypatch: pytest.MonkeyPatch, piece: int
) -> None:
    """No job is left out of it, and none is shown that never was."""
    set_piece(monkeypatch, piece)
    write(
        path,
        *(text(f"a{number}") for number in range(100)),
        b"cut\tmail\t" + b'{"a": "' + b"x" * 300,
    )
    table = look(path)
    rows = table.rows()
    seen = [next(rows).id]
    for number in range(30):
        add(look(path), f"new{number}")
    seen += [row.id for row in rows]
    assert len(set(seen)) == len(seen)
    assert set(seen) <= {*(b"a%d" % n for n in range(100)), *(b"new%d" % n for n in range(30))}
    assert set(seen) >= {b"a%d" % n for n in range(100)}
    assert states(look(path)).keys() >= {row.decode() for row in seen}
    assert torn(path).startswith(b"cut")


def test_a_reader_knows_no_more_than_a_writer_keeps(path: Path) -> None:
    """The size that a reader is told ends with a whole line, or one that lacks only its end."""
    torn_table(path)
    table = look(path)
    with table.reading():
        assert table.size == path.read_bytes().rindex(b"\n") + 1
    write(path, text("a1"), text("b2").rstrip(b"\n"))
    table = look(path)
    with table.reading():
        assert table.size == path.stat().st_size


def test_a_line_is_read_as_it_was_at_one_moment(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line on the edge of two pieces is read anew, not joined from two moments."""
    write(path, text("a1", payload='{"x": "' + "y" * 200 + '"}'), text("b2"))
    monkeypatch.setattr(scan, "PIECE", len(HEADER) + 230)  # within the tail of a1
    table = look(path)
    pieces = table.pieces()
    next(pieces)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"pending\t5\t5\t0", b"failed \t6\t6\t6", 1))
    assert b"".join(piece for _, piece in pieces) == path.read_bytes()[len(HEADER) :]
