"""Tests of an open table file."""

from __future__ import annotations

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dbbasic_queue import Queue, StorageError
from dbbasic_queue.table.handle import OpenTable


def test_failed_sync_fails_for_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sync that failed once fails for everybody who wrote through that descriptor."""
    queue = Queue(tmp_path / "queue.tsv")
    queue.enqueue("work", {})
    handle = OpenTable(str(queue.path), writable=True)
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


def test_thread_is_not_told_of_another_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread whose write went through a failed descriptor is told, whoever opened it again."""
    queue = Queue(tmp_path / "queue.tsv")
    queue.enqueue("work", {})
    with queue.engine.table.writing():
        pass  # as a thread that has written, and not synced yet
    with ThreadPoolExecutor(1) as other:
        monkeypatch.setattr(os, "fdatasync", _refuse)
        with pytest.raises(StorageError):
            other.submit(queue.enqueue, "work", {}).result()
        monkeypatch.undo()
        assert other.submit(queue.enqueue, "work", {}).result()
    with pytest.raises(StorageError, match="sync failed"):
        queue.engine.table.sync()


def _refuse(fd: int) -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO))
