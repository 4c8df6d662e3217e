"""The table: its file, its lock, its end, its moves, and whatever others do to it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tables import add, look, names, states

from dbbasic_queue import StorageError
from dbbasic_queue.table import JobTable


def refuse(*args: object, **kwargs: object) -> None:
    """Stands in for a system call that fails."""
    raise OSError(28, os.strerror(28))


# -- the file is the one that the path leads to ------------------------------------------------


def test_a_deleted_table_is_made_anew(table: JobTable, path: Path) -> None:
    """A table deleted while it is open is made anew, with what comes then, and nothing of before."""
    add(table, "a1")
    path.unlink()
    add(table, "b2")
    assert states(look(path)) == {"b2": "pending"} == states(table)


def test_a_deleted_table_that_cannot_be_made_anew_takes_nothing(
    table: JobTable, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a deleted table cannot be made anew, every append is refused, not only the first."""
    add(table, "a1")
    path.unlink()
    with monkeypatch.context() as broken:
        broken.setattr(os, "link", refuse)
        for _ in range(3):
            with pytest.raises(StorageError):
                add(table, "b2")
    add(table, "c3")
    assert states(look(path)) == {"c3": "pending"}
    assert names(path.parent) == {"queue.tsv", "queue.lock"}
