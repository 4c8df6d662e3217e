"""A move of which a power cut has left a part, however little."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from tables import add, fields, files, get, look, own, states

from dbbasic_queue import Queue
from dbbasic_queue.table.line import HEADER, parse_line

RESULTS = {
    "object": '{"a": {"b c": [1, 2, "x  y"]}, "d": "e f"}',
    "string": ' "a string, with  spaces and a \\" quote "',
    "array": "[1, 2, 3]",
    "number": "1234567890",
    "long": '{"text": "' + "spam and eggs " * 8 + '"}',
    "none": "",
}


@pytest.mark.usefixtures("unsynced")
@pytest.mark.parametrize("error", ["", "ValueError: no such user "])
@pytest.mark.parametrize("kind", RESULTS)
def test_a_move_cut_anywhere_is_the_old_state_or_the_new(path: Path, kind: str, error: str) -> None:
    """However little of a move is on disk, a job is there once, as it was or as it became."""
    old = HEADER + own(len(HEADER), "a1", "processing", attempts=1)
    old += own(len(old), "b2")
    new = {"status": "completed", "attempts": 1, "error": error, "result": RESULTS[kind]}
    content = old + own(len(old), "a1", moved=True, **new)
    wanted = (
        fields(parse_line(old.split(b"\n", 1)[1].split(b"\n")[0])),
        fields(parse_line(content[len(old) :])),
    )
    for cut, file in zip(range(len(old), len(content) + 1), files(path), strict=False):
        file.write_bytes(content[:cut])
        queue = Queue(file, "normal")
        seen = [fields(row) for row in queue.engine.table.rows() if row.id == b"a1"]
        assert len(seen) == 1
        assert seen[0] in wanted
        # As it was found, and once a writer has been there.
        for table in (queue.engine.table, look(file)):
            assert [fields(row) for row in table.rows() if row.id == b"a1"] == seen
            assert fields(get(table, "a1")) == seen[0]
            assert table.count_by_status() == Counter(states(table).values())
            if table is queue.engine.table:
                add(look(file), "c3")
        assert states(look(file))["c3"] == "pending"
    assert seen[0] == wanted[1]
