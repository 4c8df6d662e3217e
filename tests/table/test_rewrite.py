"""Writing a table anew: nothing that lives is lost, whatever stands around it."""

from __future__ import annotations

import errno
import itertools
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tables import MALFORMED, fields, look, names, own, write

from dbbasic_queue import StorageError
from dbbasic_queue.table import rewrite, scan
from dbbasic_queue.table.line import HEADER, SECTOR, Row, in_place, parse_line

LINES = st.lists(
    st.one_of(
        st.tuples(
            st.sampled_from(["pending", "processing", "completed", "failed"]),
            st.integers(0, 400),
            st.sampled_from(["", "E: x", "E: " + "y" * 200]),
        ),
        st.sampled_from([*MALFORMED[:-1], b"   \n", b" " * 600 + b"\n", b"\n", b"half\n"]),
    ),
    max_size=15,
)


@given(LINES, st.sampled_from([1, 200, 1000, 1 << 16]), st.sets(st.integers(0, 14)))
@example([("pending", n % 7, "") for n in range(14)], 1, {0})
def test_a_rewrite_keeps_all_that_lives(lines: list[Any], stretch: int, unwanted: set[int]) -> None:
    """Whatever is copied, and in what stretches: rows, their sectors, and malformed lines stay.

    A second rewrite changes nothing.
    """
    content, wanted, drop, malformed = HEADER, {}, [], b""
    for number, line in enumerate(lines):
        if isinstance(line, bytes):
            malformed += b"" if line.startswith(b" ") else line
        else:
            status, length, error = line
            payload = '{"n": "' + "z" * length + '"}'
            line = own(len(content), f"j{number}", status, payload=payload, error=error)
            if number in unwanted:
                drop.append(len(content))
            else:
                wanted[f"j{number}".encode()] = fields(parse_line(line))
        content += line
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patched:
        for name in ("fsync", "fdatasync"):
            patched.setattr(os, name, lambda fd: None)
        patched.setattr(rewrite, "LONG_STRETCH", stretch)
        path = Path(folder) / "queue.tsv"
        write(path, content, header=b"")
        table = look(path)
        with table.writing():
            assert table.rewrite(drop) == len(drop)
            once = path.read_bytes()
            assert table.rewrite() == 0
        assert path.read_bytes() == once
        rows = list(table.rows())
        assert {row.id: fields(row) for row in rows} == wanted
        assert [row.id for row in rows] == list(wanted)
        assert all(in_place(row, "failed", 6, 9, b"", b"") for row in rows if not is_done(row))
        dead = b"".join(line for line in once.splitlines(True)[1:] if line[:1] == b" ")
        assert len(dead) < 520 * (len(lines) + 1)
        live = [row.line for row in rows]
        others = [line for line in once.split(b"\n")[1:-1] if line[:1] != b" "]
        assert b"".join(line + b"\n" for line in others if line + b"\n" not in live) == malformed


def is_done(row: Row) -> bool:
    """Whether a row never changes again, or is too long for one sector."""
    return row.status == "completed" or len(row.line) - row.tail > SECTOR


def test_a_table_that_cannot_be_read_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that fails while the old file is read: a clear error, and all is as it was."""
    path = tmp_path / "queue.tsv"
    before = write(path, own(len(HEADER)))
    table = look(path)

    def fail(fd: int, end: int) -> Any:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(rewrite, "whole_lines", fail)
    with pytest.raises(StorageError, match=r"cannot rewrite the queue .*"), table.writing():
        table.rewrite()
    assert path.read_bytes() == before
    assert names(tmp_path) == {"queue.tsv", "queue.lock"}


@given(st.lists(st.integers(1, 40), max_size=9), st.integers(0, 12), st.integers(1, 9))
def test_whole_lines_make_up_the_file(lengths: list[int], rest: int, piece: int) -> None:
    """However long lines and pieces are, no line is cut, left out or given twice."""
    whole = b"".join(b"x" * (length - 1) + b"\n" for length in lengths)
    with tempfile.TemporaryFile() as file, pytest.MonkeyPatch.context() as patched:
        patched.setattr(scan, "PIECE", piece)
        file.write(whole + b"y" * rest)
        file.flush()
        found = list(scan.whole_lines(file.fileno(), len(whole) + rest))
    assert b"".join(lines for _, lines in found) == whole
    assert all(lines.endswith(b"\n") for _, lines in found)
    starts = [0, *itertools.accumulate(len(lines) for _, lines in found)]
    assert [offset for offset, _ in found] == starts[: len(found)]


def test_a_file_shorter_than_it_was_has_an_end() -> None:
    """A table that another program has cut off meanwhile does not hold a rewrite up for ever."""
    with tempfile.TemporaryFile() as file:
        file.write(b"one\ntwo")
        file.flush()
        assert list(scan.whole_lines(file.fileno(), 1000)) == [(0, b"one\n")]
