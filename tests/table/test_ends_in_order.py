"""What is done to the end of the file, in which order, and what a dead batch leaves."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tables import add, look, mend, own, states, torn, write

from dbbasic_queue.table.line import HEADER


def test_a_torn_line_is_set_aside_and_synced_before_the_table_is_cut(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut at any of these moments leaves the line in one of the two files at least."""
    write(path, own(len(HEADER), "a1"), b"b2\tmail\t{")
    calls: list[str] = []
    for name in ("fsync", "ftruncate", "fdatasync"):
        real = getattr(os, name)
        monkeypatch.setattr(
            os, name, lambda *args, name=name, real=real: (calls.append(name), real(*args))
        )
    mend(path)
    assert torn(path) == b"b2\tmail\t{\n"
    assert [name for name in calls if name != "fsync"][:2] == ["ftruncate", "fdatasync"]
    assert "fsync" in calls[: calls.index("ftruncate")]


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
