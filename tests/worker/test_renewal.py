"""When a worker makes room for one with new code."""

from __future__ import annotations

import errno
import logging
from pathlib import Path

import pytest

from dbbasic_queue import Queue, StorageError
from dbbasic_queue.worker import renewal
from dbbasic_queue.worker.renewal import Renewal


@pytest.fixture(autouse=True)
def _looks_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renewal, "LOOK", 0.0)


def test_a_link_that_leads_elsewhere(tmp_path: Path) -> None:
    """A deployment turns `current`; one that is half done, or undone, changes nothing."""
    for name in ("1", "2"):
        (tmp_path / name).mkdir()
    link = tmp_path / "current"
    link.symlink_to("1")
    due = Renewal(lambda: "", [str(link / "dbq.toml"), str(link)]).due
    link.unlink()
    assert not due()
    link.symlink_to("none")
    assert not due()
    link.unlink()
    link.symlink_to("1")
    assert not due()
    link.unlink()
    link.symlink_to("2")
    assert due()
    link.unlink()
    assert due()


def test_what_keeps_the_jobs_is_away(caplog: pytest.LogCaptureFixture) -> None:
    """It is said once, and the worker goes on: a turn that needs it waits, or fails."""
    answers = [""]

    def said() -> str:
        if not answers:
            raise StorageError(errno.ECONNREFUSED, "away")
        return answers.pop()

    caplog.set_level(logging.WARNING, "dbbasic_queue")
    each = Renewal(said)
    assert not each.due()
    assert not each.due()
    assert caplog.text.count("cannot see whether dbq restart was called") == 1
    answers.append("now")
    assert each.due()


def test_the_file_says_what_it_is_for(tmp_path: Path) -> None:
    """Plain text, replaced each time; without it nothing was said."""
    queue = Queue(tmp_path / "queue.tsv")
    queue.enqueue("x", {})
    assert queue.engine.restart_mark() == ""
    queue.restart_workers()
    first = (tmp_path / "queue.restart").read_text()
    assert first.startswith("Workers that began before this was written end between two jobs")
    queue.restart_workers()
    second = (tmp_path / "queue.restart").read_text()
    assert (len(second.splitlines()), second == first) == (2, False)
    (tmp_path / "queue.restart").unlink()
    assert queue.engine.restart_mark() == ""


def test_a_spoiled_file_is_read_in_bounds(tmp_path: Path) -> None:
    """Whatever a producer has written there, a worker begins, and works."""
    queue = Queue(tmp_path / "queue.tsv")
    (tmp_path / "queue.restart").write_bytes(b"\xff\0" * 100_000)
    assert len(queue.engine.restart_mark()) <= 4096
    queue.enqueue("x", {})
    assert queue.process_jobs({"x": bool}, linger=0.1).completed == 1
