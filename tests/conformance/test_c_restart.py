"""C: workers make room for new code between two jobs, whatever keeps the jobs."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from dbbasic_queue import Queue
from dbbasic_queue.worker import renewal


class Lingering:
    """A worker in a thread that waits for jobs; each of its jobs waits for `go`."""

    def __init__(self, address: str) -> None:
        self.started, self.go = threading.Event(), threading.Event()
        self._address = address
        self.summary: Any = None
        self.thread = threading.Thread(target=self._work, daemon=True)
        self.thread.start()

    def _work(self) -> None:
        queue = Queue(self._address, "normal")
        self.summary = queue.process_jobs({"x": self._handle}, linger=120)

    def _handle(self, payload: Any) -> None:
        self.started.set()
        assert self.go.wait(60)


@pytest.fixture(autouse=True)
def _looks_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renewal, "LOOK", 0.0)


def test_a_worker_ends_between_two_jobs(address: str, queue: Queue) -> None:
    """The job in hand is finished, the next is left to the worker that begins anew."""
    queue.enqueue_many([("x", {}), ("x", {})])
    worker = Lingering(address)
    assert worker.started.wait(60)
    assert queue.restart_workers() is False
    assert queue.restart_workers(wait=0.2) is False
    worker.go.set()
    worker.thread.join(60)
    assert worker.summary.completed == 1
    assert queue.count_jobs()["pending"] == 1
    assert queue.restart_workers(wait=60) is True


def test_waiting_for_it(address: str, queue: Queue) -> None:
    """The wait is over when the last worker of before has left, and not for a newer one."""
    old = Lingering(address)
    queue.enqueue("x", {})
    assert old.started.wait(60)
    told: list[bool] = []
    waiting = threading.Thread(target=lambda: told.append(queue.restart_workers(wait=60)))
    waiting.start()
    while not queue.engine.restart_mark():
        assert waiting.is_alive()
    new = Lingering(address)
    queue.enqueue("x", {})
    assert new.started.wait(60)
    assert told == []
    old.go.set()
    old.thread.join(60)
    waiting.join(60)
    assert told == [True]
    assert new.thread.is_alive()
    new.go.set()
    assert queue.restart_workers(wait=60) is True


def test_what_was_said_before_a_worker_began_does_not_end_it(address: str, queue: Queue) -> None:
    """Nor does it end a worker that only drains what is due."""
    queue.restart_workers()
    queue.enqueue_many([("x", {})] * 3)
    assert queue.process_jobs({"x": bool}, linger=0.2).completed == 3
    queue.enqueue_many([("x", {})] * 3)

    def ask(payload: Any) -> None:
        queue.restart_workers()

    assert queue.process_jobs({"x": ask}).completed == 3
