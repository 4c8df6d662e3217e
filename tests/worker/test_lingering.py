"""A worker that waits for more work."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from actors import AT_ONCE, Clock, Diary, join, start

from dbbasic_queue import Queue, Summary


def test_lingering_ends_when_its_time_is_over(queue: Queue) -> None:
    """Without work it waits and returns."""
    assert queue.process_jobs({"x": bool}, linger=0.05) == Summary()


def later(action: Callable[[], Any]) -> threading.Thread:
    """Do something as soon as the worker of the main thread has nothing to do."""

    def run() -> None:
        time.sleep(0.1)
        action()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


def test_a_lingering_worker_takes_new_work(queue: Queue) -> None:
    """Jobs enqueued by others while it waits, one at a time and many at once."""
    other = Queue(queue.path, "normal", clock=Clock())
    thread = later(lambda: (other.enqueue("x", {}), other.enqueue_many([("x", {})] * 3)))
    assert queue.process_jobs({"x": bool}, linger=1000, limit=4).completed == 4
    thread.join()


def test_a_lingering_worker_takes_what_is_put_back(queue: Queue) -> None:
    """A failed job that a person retries, which changes the file in place."""
    other = Queue(queue.path, "normal", clock=Clock())
    job_id = queue.enqueue("x", {})
    queue.process_jobs({}, 1)
    thread = later(lambda: other.retry_job(job_id))
    assert queue.process_jobs({"x": bool}, linger=1000, limit=1) == Summary(completed=1)
    thread.join()


def test_a_lingering_worker_runs_a_job_when_it_is_due(queue: Queue, clock: Clock) -> None:
    """A job for later that the worker knows of, though the file does not change."""
    queue.enqueue("x", {}, clock.now + 3600)

    def wait_an_hour() -> None:
        clock.now += 3600

    thread = later(wait_an_hour)
    assert queue.process_jobs({"x": bool}, linger=1000, limit=1) == Summary(completed=1)
    thread.join()


def test_a_lingering_worker_rescues_what_a_dead_one_leaves(queue: Queue, diary: Diary) -> None:
    """Another worker is killed in mid-job while this one waits: it takes over."""

    def hang(payload: Any) -> None:
        diary.add("begun")
        time.sleep(60)

    job_id = queue.enqueue("x", {})
    victim = start(queue.process_jobs, {"x": hang})
    while not diary.lines():
        time.sleep(0.001)
    thread = later(victim.kill)
    summary = queue.process_jobs({"x": bool}, linger=1000, limit=1, backoff=AT_ONCE)
    assert summary == Summary(completed=1, rescued=1)
    assert queue.get_job(job_id)["attempts"] == 2
    join(victim, code=-signal.SIGKILL)
    thread.join()


def test_a_change_within_one_tick_of_the_clock_is_not_overlooked(queue: Queue) -> None:
    """Older kernels date all changes of one tick alike: a young state counts for nothing."""
    queue.enqueue("x", {})
    old = time.time_ns() - 10**9
    os.utime(queue.path, ns=(old, old))
    assert queue.engine.table.state() == queue.engine.table.state()
    now = time.time_ns()
    os.utime(queue.path, ns=(now, now))
    assert queue.engine.table.state() != queue.engine.table.state()


def test_a_lingering_worker_notes_that_it_is_alive(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time of `queue.claims` is that of the last run, also while it only waits."""
    monkeypatch.setattr("dbbasic_queue.engines.tsv.idle.MARK_EVERY", 0.02)
    claims = queue.path.with_suffix(".claims")
    queue.process_jobs({})
    os.utime(claims, (1, 1))
    queue.process_jobs({}, linger=0.1)
    assert claims.stat().st_mtime > 1
