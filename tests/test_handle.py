"""Tests of an open table file."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from dbbasic_queue import Queue, StorageError
from dbbasic_queue.handle import Handle


def test_failed_sync_fails_for_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sync that failed once fails for everybody who wrote through that descriptor."""
    queue = Queue(tmp_path / "queue.tsv")
    queue.enqueue("work", {})
    handle = Handle(str(queue.path), writable=True)
    monkeypatch.setattr(os, "fdatasync", _refuse)
    with pytest.raises(OSError, match="Input/output error"):
        handle.sync()
    monkeypatch.undo()
    with pytest.raises(OSError, match="Input/output error"):
        handle.sync()


def test_next_writer_opens_the_file_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a failed sync the next job goes through a new descriptor, and is accepted."""
    queue = Queue(tmp_path / "queue.tsv")
    queue.enqueue("work", {})
    monkeypatch.setattr(os, "fdatasync", _refuse)
    with pytest.raises(StorageError, match="sync failed"):
        queue.enqueue("work", {})
    monkeypatch.undo()
    assert queue.get_job(queue.enqueue("work", {"again": True})) is not None


def _refuse(fd: int) -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO))
