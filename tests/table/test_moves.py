"""Rows that move, and crashes in between."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tables import (
    LONG,
    add,
    change,
    fields,
    get,
    look,
    own,
    states,
    write,
)

from dbbasic_queue import Queue
from dbbasic_queue.engines.tsv import fsck
from dbbasic_queue.table.compat import JobTable
from dbbasic_queue.table.line import HEADER, SECTOR
from dbbasic_queue.table.table import Table


def moving(path: Path, old: str, new: str, **more: Any) -> bytes:
    """A table in which the job a1 has been appended anew, and its old line not yet killed."""
    first = own(len(HEADER), "a1", old, attempts=1)
    other = own(len(HEADER) + len(first), "b2", run_at=4_000_000_000)
    offset = len(HEADER) + len(first) + len(other)
    return write(path, first, other, own(offset, "a1", new, moved=True, **more))


@pytest.mark.parametrize(
    ("old", "new"),
    [("pending", "processing"), ("processing", "completed"), ("processing", "pending")],
)
def test_a_crash_before_the_tombstone_is_finished_by_a_worker(
    path: Path, old: str, new: str
) -> None:
    """Of two live lines the later is the job, for every reader; a worker kills the older one."""
    content = moving(path, old, new, attempts=2, run_at=4_000_000_000, result="")
    queue = Queue(path, "normal")
    held = queue.engine.claims.take(b"a1")
    for _ in range(2):
        assert states(queue.engine.table) == {"b2": "pending", "a1": new}
        assert [job["status"] for job in queue.list_jobs()] == ["pending", new]
        assert sum(queue.count_jobs().values()) == 2
        job = queue.get_job("a1")
        assert job is not None
        assert (job["status"], job["attempts"]) == (new, 2)
        assert JobTable(path).count(id="a1") == 1
        assert queue.process_jobs({"mail": print}).attempts == 0
    after = path.read_bytes()
    start, end = len(HEADER), content.index(b"\n", len(HEADER))
    assert after == content[:start] + b" " * (end - start) + content[end:]
    assert held is not None


def test_a_crash_before_the_tombstone_is_finished_by_a_rewrite(path: Path) -> None:
    """The outdated line of a finished job, which no worker looks at, goes with the next rewrite."""
    moving(path, "failed", "pending", attempts=0)
    table = look(path)
    with table.writing():
        assert table.rewrite() == 0
    assert states(table) == {"b2": "pending", "a1": "pending"}
    assert path.read_bytes().count(b"a1\t") == 1
    assert table.moved() == {}


def test_a_line_half_blanked_is_dead(path: Path) -> None:
    """A crash between the two writes that blank a long line leaves a dead line, not a malformed."""
    old = own(len(HEADER), "a1", payload=LONG + " " * 900)
    content = HEADER + b" " * (SECTOR - len(HEADER)) + old[SECTOR - len(HEADER) :]
    write(path, content + own(len(content), "a1", "completed", moved=True), header=b"")
    queue = Queue(path)
    assert states(queue.engine.table) == {"a1": "completed"}
    assert fsck.check(queue.engine) == []
    assert queue.engine.table.count_by_status() == {"completed": 1}


@pytest.mark.parametrize("size", [0, 90, 400, 2000])
def test_a_long_result_moves_the_row(table: Table, path: Path, size: int) -> None:
    """A change that does not fit goes to the end of the file and leaves blanks where it was."""
    add(table, "a1", payload='{"text": "' + "y" * size + '"}')
    add(table, "b2")
    before = path.read_bytes()
    with table.writing():
        old = get(table, "a1")
    new = change(table, "a1", "completed", result=LONG)
    after = path.read_bytes()
    assert new.offset == len(before)
    blank = b" " * (len(old.line) - 1) + b"\n"
    assert after == before.replace(old.line, blank) + new.line
    assert fields(get(table, "a1")) == fields(new)
    assert states(look(path)) == {"b2": "pending", "a1": "completed"}


def test_a_moved_row_may_move_again(table: Table, path: Path) -> None:
    """However often a row moves, its job is there once."""
    add(table, "a1")
    for number in range(1, 6):
        change(table, "a1", "processing", error="x" * 120 * number)
        assert fields(get(look(path), "a1"))[-2] == b"x" * 120 * number
        assert states(look(path)) == {"a1": "processing"}
    assert len(table.moved()) == 1


def test_a_change_in_place_touches_the_tail_only(table: Table, path: Path) -> None:
    """A change that fits is written where the tail stands, and to no other byte."""
    for number in range(20):
        add(table, f"a{number}", payload='{"n": "' + "z" * 7 * number + '"}')
    before = path.read_bytes()
    row = get(table, "a7")
    new = change(table, "a7", "completed", result='{"ok": true}')
    after = path.read_bytes()
    changed = [at for at, pair in enumerate(zip(before, after, strict=True)) if len({*pair}) > 1]
    assert new.offset == row.offset
    assert changed[0] >= row.offset + row.tail
    assert changed[-1] < row.offset + len(row.line) - 1
    assert changed[0] // SECTOR == changed[-1] // SECTOR
