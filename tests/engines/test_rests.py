"""A worker without work looks seldom where the kernel tells of changes, and misses nothing."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dbbasic_queue import Queue
from dbbasic_queue.engines.tsv import rests
from dbbasic_queue.engines.tsv.rests import Rests
from dbbasic_queue.support import notices
from dbbasic_queue.support.notices import Notices


@pytest.fixture
def waiting(tmp_path: Path) -> Iterator[Rests]:
    """The rests of a worker that has found nothing for long."""
    waiting = Rests(str(tmp_path))
    waiting._new_at -= 1000
    yield waiting
    waiting.end()


def test_it_is_looked_once_more_when_the_kernel_begins_to_tell(
    waiting: Rests, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What came just before that is told by nobody."""
    monkeypatch.setattr(Notices, "wait", lambda *_: pytest.fail("waited without a look"))
    waiting.take(time.monotonic(), 60)
    assert waiting._notices is not None


def test_a_change_ends_the_pause_and_more_looks_follow(waiting: Rests, tmp_path: Path) -> None:
    """More may come soon."""
    waiting.take(time.monotonic(), 60)
    (tmp_path / "queue.tsv").write_text("new")
    before = time.monotonic()
    waiting.take(before, 60)
    assert waiting._new_at >= before


def test_a_pause_is_no_longer_than_it_was_asked_to_be(waiting: Rests) -> None:
    """Until the next job is due, for one."""
    asked = []

    class Spy(Notices):
        def wait(self, seconds: float) -> bool:
            asked.append(seconds)
            return False

    waiting._notices = Spy(waiting._folder)
    for most in (0.2, 60):
        waiting.take(time.monotonic(), most)
    assert asked == [0.2, rests.SELDOM]


def test_where_the_kernel_does_not_tell_it_is_looked_often(
    waiting: Rests, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user has used up fs.inotify.max_user_instances, or there is no inotify."""

    def refuse(folder: str) -> Notices:
        raise OSError("too many")

    slept: list[float] = []
    monkeypatch.setattr(notices, "Notices", refuse)
    monkeypatch.setattr(time, "sleep", slept.append)
    for _ in range(3):
        waiting.take(time.monotonic(), 60)
    assert slept == [rests.POLL] * 2


def test_a_handler_finds_no_open_file_of_a_pause(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may close what it finds."""
    monkeypatch.setattr(rests, "QUIET", 0)
    queue = Queue(path, "normal")
    seat = queue.engine.seat()
    assert seat is not None
    assert not seat.wait(0.02)
    assert any("inotify" in target for target in targets())
    queue.enqueue("mail", {})
    assert seat.wait(60)
    assert not any("inotify" in target for target in targets())
    seat.leave()


def targets() -> list[str]:
    found = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{fd}"))
        except OSError:
            continue
    return found


def test_a_job_that_becomes_due_is_not_waited_past(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel tells nothing of time."""
    monkeypatch.setattr(rests, "QUIET", 0)
    monkeypatch.setattr(rests, "SELDOM", 600)
    queue = Queue(path, "normal")
    queue.enqueue("mail", {}, time.time() + 1)
    seat = queue.engine.seat()
    assert seat is not None
    assert seat.wait(500)
    seat.leave()
