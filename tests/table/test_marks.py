"""The mark of a moved row, which is a space before its payload, and what it is not."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from tables import add, look

from dbbasic_queue.errors import StorageError
from dbbasic_queue.table.line import is_moved, new_line, parse_line


@pytest.mark.parametrize("payload", [b"{}", b'{"a": 1}', b'"text"', b"17", b"null"])
@pytest.mark.parametrize("moved", [False, True])
def test_a_row_bears_the_mark_if_it_was_moved(payload: bytes, moved: bool) -> None:
    """Also where the payload is a JSON string, which has a space before it in any case."""
    row = parse_line(b"a1\tmail\t%b\tpending\t5\t5\t0\t\t\n" % payload)
    assert row is not None
    new = parse_line(new_line(0, row, moved=moved))
    assert new is not None
    assert is_moved(new) is moved
    assert new.payload.strip() == payload


def test_a_change_in_place_that_the_disk_cuts_short_is_an_error(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A short write is not taken for a whole one."""
    table = look(path)
    row = add(table, "a1")
    write = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: write(fd, data[:3], at))
    with table.writing(), pytest.raises(StorageError) as refused:
        table.change(row, "processing", 5, 1)
    assert refused.value.errno == errno.ENOSPC
