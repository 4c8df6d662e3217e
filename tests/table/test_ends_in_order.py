"""What is done to the end of the file, in which order, and what a dead batch leaves."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from tables import add, look, mend, own, states, torn, write

from dbbasic_queue.errors import StorageError
from dbbasic_queue.table.line import ATTEMPTS_LIMIT, HEADER, begin, build_line


def test_a_torn_line_is_set_aside_and_synced_before_the_table_is_cut(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut at any of these moments leaves the line in one of the two files at least."""
    write(path, own(len(HEADER), "a1"), b"b2\tmail\t{")
    calls: list[str] = []
    for name in ("fsync", "ftruncate", "fdatasync"):
        real = getattr(os, name)

        def call(*args: int, name: str = name, real: Any = real) -> None:
            folder = name == "fsync" and os.path.isdir(f"/proc/self/fd/{args[0]}")
            calls.append("fsync folder" if folder else name)
            real(*args)

        monkeypatch.setattr(os, name, call)
    mend(path)
    assert torn(path) == b"b2\tmail\t{\n"
    assert [name for name in calls if "fsync" not in name][:2] == ["ftruncate", "fdatasync"]
    assert calls[: calls.index("ftruncate")] == ["fsync", "fsync folder"]


def test_a_job_behind_the_note_of_a_dead_batch_is_not_taken_for_a_part_of_it(path: Path) -> None:
    """A producer that died between its note and its write must not cost the next one its job."""
    table, dead = look(path), look(path)
    add(table, "a1")
    with dead.writing():
        dead._note_batch(500)
    add(table, "b2")
    assert states(look(path)) == {"a1": "pending", "b2": "pending"}
    mend(path)
    assert states(look(path)) == {"a1": "pending", "b2": "pending"}


def test_a_failed_append_cuts_off_nothing_of_another_program(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a program without the lock has appended behind the half of our line stays."""
    table = look(path)
    add(table, "a1")
    foreign = b"# a note\n" * 100

    def half(fd: int, data: object, *rest: object) -> int:
        os.pwrite(fd, b"b2\tmail\t{" + foreign, os.fstat(fd).st_size)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwritev", half)
    with pytest.raises(StorageError):
        add(table, "b2")
    assert path.read_bytes().endswith(foreign)


def test_a_reader_knows_the_table_up_to_its_torn_line(path: Path) -> None:
    """What the next writer sets aside is not part of what a reader has seen."""
    write(path, own(len(HEADER), "a1"))
    whole = path.stat().st_size
    with path.open("ab") as file:
        file.write(b"b2\tmail\t{")
    table = look(path)
    with table.reading():
        assert table.size == whole


def test_attempts_stay_at_what_a_row_can_hold() -> None:
    """A row that has had as many as nine digits say is not made a malformed one."""
    begun = begin(build_line(0, b"a1\tmail\t{}", "pending", 5, 5, ATTEMPTS_LIMIT), 0, now=6)
    assert begun is not None
    assert begun[1].attempts == ATTEMPTS_LIMIT
    few = begin(build_line(0, b"a1\tmail\t{}", "pending", 5, 5, 7), 0, now=6)
    assert few is not None
    assert few[1].attempts == 8
