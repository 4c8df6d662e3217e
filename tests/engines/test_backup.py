"""A queue in one file, and the queue made of it again."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from dbbasic_queue import Queue, StorageError, TableError


@pytest.fixture
def queue(tmp_path: Path) -> Queue:
    queue = Queue(tmp_path / "data" / "queue.tsv", "normal")
    queue.enqueue("mail", {"to": "Zoë"}, job_id="a1")
    queue.path.with_suffix(".recurring").write_text("# marks\n")
    return queue


@pytest.mark.parametrize("name", ["b.tar", "b.tar.gz"])
def test_what_was_backed_up_comes_back(queue: Queue, tmp_path: Path, name: str) -> None:
    """With what belongs to it, once no worker is there; the queue as it was is kept."""
    size = queue.backup(tmp_path / name)
    assert size == (tmp_path / name).stat().st_size
    assert (tmp_path / name).stat().st_mode & 0o777 == 0o600
    queue.enqueue("mail", {"to": "Ben"}, job_id="b2")
    queue.path.with_suffix(".recurring").write_text("# later\n")
    seat = queue.engine.seat()  # at no job
    assert seat is not None
    rights = queue.path.stat().st_mode
    with pytest.raises(StorageError, match=f"at work, process {os.getpid()}: stop workers first"):
        queue.restore(tmp_path / name)
    seat.leave()
    found = queue.restore(tmp_path / name)
    assert (found.jobs["pending"], found.findings) == (1, 0)
    assert [job["id"] for job in queue.list_jobs()] == ["a1"]
    assert queue.path.stat().st_mode == rights
    assert queue.path.with_suffix(".recurring").read_text() == "# marks\n"
    assert found.aside is not None
    assert [job["id"] for job in Queue(found.aside).list_jobs()] == ["a1", "b2"]
    assert found.aside.with_suffix(".recurring").read_text() == "# later\n"
    assert queue.process_jobs({"mail": lambda payload: None}).completed == 1
    assert queue.count_jobs()["completed"] == 1


def test_a_queue_that_is_lost_comes_back(queue: Queue, tmp_path: Path) -> None:
    """In its folder or in a new one."""
    queue.backup(tmp_path / "b.tar")
    for path in queue.path.parent.iterdir():
        path.unlink()
    for other in (queue, Queue(tmp_path / "new" / "jobs.tsv")):
        assert other.restore(tmp_path / "b.tar").aside is None
        assert [job["payload"] for job in other.list_jobs()] == [{"to": "Zoë"}]
        assert other.path.with_suffix(".recurring").read_text() == "# marks\n"


def test_nothing_is_restored_while_a_worker_is_at_work(queue: Queue, tmp_path: Path) -> None:
    """Its job would be done by two; what runs in the copy is taken back by the next worker."""
    seat = queue.engine.seat()
    assert seat is not None
    assert seat.turn() is not None
    queue.backup(tmp_path / "b.tar")
    before = queue.path.read_bytes()
    with pytest.raises(StorageError, match=r"a worker is at work, process \d+: stop workers"):
        queue.restore(tmp_path / "b.tar")
    assert queue.path.read_bytes() == before
    seat.leave()
    assert queue.restore(tmp_path / "b.tar").jobs["processing"] == 1
    assert queue.process_jobs({"mail": bool}, backoff=lambda attempts: 0).rescued == 1


def tar_of(**members: bytes) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for name, content in members.items():
            entry = tarfile.TarInfo(name.replace("_", "."))
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return made.getvalue()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (lambda: b"id\ttype\n", "not a backup of a queue"),
        (lambda: tar_of(queue_tsv=b"no header\n"), "not a queue table"),
        (lambda: tar_of(queue_recurring=b""), "it has no queue.tsv"),
        (lambda: tar_of(queue_lock=b""), "it has 'queue.lock'"),
        (lambda: tar_of(__etc_passwd=b""), "it has '..etc.passwd'"),
    ],
    ids=["text", "table", "none", "lock", "path"],
)
def test_what_is_not_a_backup_changes_nothing(
    queue: Queue, tmp_path: Path, content: Callable[[], bytes], said: str
) -> None:
    """And is told from one."""
    (tmp_path / "b.tar").write_bytes(content())
    with pytest.raises(TableError, match=said):
        queue.restore(tmp_path / "b.tar")
    assert [job["id"] for job in queue.list_jobs()] == ["a1"]


def test_a_damaged_backup_is_refused_or_does_no_harm(queue: Queue, tmp_path: Path) -> None:
    """One byte of a compressed copy is another: no other job comes of it than there were."""
    queue.backup(tmp_path / "b.tar.gz")
    whole = (tmp_path / "b.tar.gz").read_bytes()
    refused = 0
    for place in range(0, len(whole), 9):
        (tmp_path / "b.tar.gz").write_bytes(
            whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :]
        )
        other = Queue(tmp_path / str(place) / "queue.tsv", "normal")
        try:
            other.restore(tmp_path / "b.tar.gz")
        except TableError:
            refused += 1
        else:
            assert list(other.list_jobs()) == list(queue.list_jobs())
    assert refused > 10


def test_what_is_not_a_file_is_no_backup(queue: Queue, tmp_path: Path) -> None:
    """Neither is a pipe waited for."""
    os.mkfifo(tmp_path / "b.tar")
    with pytest.raises(TableError, match="it is not a regular file"):
        queue.restore(tmp_path / "b.tar")


def test_a_backup_is_not_written_over_a_queue(queue: Queue, tmp_path: Path) -> None:
    """Nor over what belongs to one."""
    for path in (queue.path, queue.path.with_suffix(".lock"), tmp_path / "other.tsv"):
        with pytest.raises(StorageError, match="name another file"):
            queue.backup(path)
    with pytest.raises(StorageError, match="there is no queue"):
        Queue(tmp_path / "none.tsv").backup(tmp_path / "b.tar")
    assert not (tmp_path / "b.tar").exists()
