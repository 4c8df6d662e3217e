"""What a search without the lock has found is worth something only as long as it is still so."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from pathlib import Path

import pytest
from tables import add, look, own, replace

from dbbasic_queue import Queue
from dbbasic_queue.table import scan
from dbbasic_queue.table.line import Row
from dbbasic_queue.table.reading import Hint
from dbbasic_queue.table.table import Table


def rewritten(path: Path) -> None:
    """Put another file of the same content in the table's place."""
    replace(path, path.read_bytes())


def cut_in_place(path: Path) -> None:
    """Take the last row out, as a program without the lock does."""
    content = path.read_bytes()
    os.truncate(path, content.rindex(b"b2\t"))


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


def test_a_malformed_line_that_begins_like_a_job_does_not_hide_it(path: Path) -> None:
    """A search goes on behind a line that has the id and is not a row."""
    table = look(path)
    row = add(table, "a1")
    with table.writing():
        table.append(b"a1\tmail\t{}\tdone\t5\t5\t0\t\t\n")
    assert found(table, b"a1", table.search(b"a1")) == row
    with table.writing():
        assert table.find(b"a1") == row


@pytest.mark.parametrize("way", [rewritten, cut_in_place])
@pytest.mark.parametrize("look_by", ["reading", "writing"])
def test_what_was_known_of_a_table_is_void_when_it_is_another_or_shorter(
    path: Path, way: Callable[[Path], None], look_by: str
) -> None:
    """`generation` tells, in each way to look: offsets of before mean nothing."""
    table = look(path)
    for name in ("a1", "b2"):
        add(table, name)
    before = table.generation
    way(path)
    with getattr(table, look_by)():
        assert table.generation > before


def test_many_are_looked_for_at_once(path: Path) -> None:
    """Each id has its last line, or none; what comes later is found as for one."""
    table, other = look(path), look(path)
    rows = {name: add(table, name) for name in ("a1", "b2", "b2", "c3")}
    hints = table.search_many({b"a1", b"b2", b"d4"})
    assert {key: hint.offset for key, hint in hints.items()} == {
        b"a1": rows["a1"].offset,
        b"b2": rows["b2"].offset,
        b"d4": -1,
    }
    late = add(other, "d4")
    with table.writing():
        assert table.find(b"d4", hints[b"d4"]) == late
        assert table.find(b"b2", hints[b"b2"]) == rows["b2"]


def test_a_batch_with_keys_holds_nobody_up_while_it_looks_for_them(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table is searched without the lock; so it is written by others meanwhile."""
    queue, other = Queue(path, "normal"), Queue(path, "normal")
    queue.enqueue("mail", {}, job_id="k1")
    original, looks = scan.ids_of, []

    def come_between(piece: bytes) -> list[bytes]:
        if not looks:
            looks.append(piece)
            other.enqueue("mail", {}, job_id="k2")  # waits for ever, were the lock held
        return original(piece)

    monkeypatch.setattr(scan, "ids_of", come_between)
    jobs = [{"job_type": "mail", "payload": {}, "job_id": f"k{n}"} for n in range(4)]
    queue.enqueue_many(jobs)
    assert looks
    assert sorted(job["id"] for job in queue.list_jobs()) == ["k0", "k1", "k2", "k3"]


def test_a_batch_with_keys_is_not_misled_by_a_table_written_anew(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then all of them are looked for once more, under the lock."""
    queue = Queue(path, "normal")
    queue.enqueue("mail", {}, job_id="k1")
    original = Table.search_many

    def and_then(table: Table, ids: Collection[bytes]) -> dict[bytes, Hint]:
        found = original(table, ids)
        if not table.lock.is_mine():
            rewritten(path)
        return found

    monkeypatch.setattr(Table, "search_many", and_then)
    jobs = [{"job_type": "mail", "payload": {}, "job_id": f"k{n}"} for n in range(3)]
    queue.enqueue_many(jobs)
    assert sorted(job["id"] for job in queue.list_jobs()) == ["k0", "k1", "k2"]
