"""Time limits: a handler that takes too long is stopped, at a good moment."""

from __future__ import annotations

import asyncio
import fcntl
import signal
import time
from typing import Any

import pytest
from actors import Clock, columns
from working import Trap, a_lock_is_free, run_one, works_in_a_thread

from dbbasic_queue import JobTimeout, Queue, Summary
from dbbasic_queue.job import error_lines
from dbbasic_queue.table import lock
from dbbasic_queue.worker import signals


def long(payload: Any) -> None:
    time.sleep(30)


def test_a_handler_that_takes_too_long_fails_with_job_timeout(queue: Queue, clock: Clock) -> None:
    """It is interrupted, and the attempt has failed like any other."""
    job = run_one(queue, long, timeout=0.05)
    assert (job["status"], job["run_at"]) == ("pending", clock.now + 120)
    assert error_lines(job["error"])[0] == "JobTimeout: ran for longer than 0.05 s"


def test_timeouts_by_type(queue: Queue) -> None:
    """Only the types named have a limit."""
    queue.enqueue("slow", {})
    queue.enqueue("free", {})
    handlers = {"slow": long, "free": lambda payload: time.sleep(0.1)}
    assert queue.process_jobs(handlers, 1, timeout={"slow": 0.05}) == Summary(completed=1, failed=1)


def test_a_handler_that_swallows_its_timeout_has_failed_all_the_same(queue: Queue) -> None:
    """Whatever it returns after that, or raises instead."""

    def swallow(payload: Any) -> str:
        try:
            time.sleep(30)
        except Exception:
            return "nothing happened"
        return "slept"

    def replace(payload: Any) -> None:
        try:
            time.sleep(30)
        except JobTimeout:
            raise KeyError("hidden") from None

    for handler in (swallow, replace):
        job = run_one(queue, handler, timeout=0.05)
        assert error_lines(job["error"])[0] == "JobTimeout: ran for longer than 0.05 s"
        assert job["result"] is None


def test_a_handler_that_goes_on_after_its_timeout_is_stopped_again(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The timeout comes back after a grace time, until the handler has ended."""
    monkeypatch.setattr(signals, "GRACE", 0.2)
    caught: list[int] = []

    def stubborn(payload: Any) -> None:
        while len(caught) < 2:
            try:
                time.sleep(30)
            except JobTimeout:
                caught.append(1)

    assert run_one(queue, stubborn, timeout=0.05)["error"].startswith("JobTimeout")
    assert len(caught) == 2


def test_a_handler_has_time_to_clean_up_after_its_timeout(queue: Queue) -> None:
    """The timeout is raised once, and not again into the cleaning up that follows it."""
    cleaned: list[int] = []

    def careful(payload: Any) -> None:
        try:
            time.sleep(30)
        finally:
            time.sleep(2.5)
            cleaned.append(1)

    assert run_one(queue, careful, timeout=0.05)["error"].startswith("JobTimeout")
    assert cleaned == [1]


def test_a_timeout_that_is_over_before_it_began_does_no_harm(queue: Queue) -> None:
    """A timer that rings while it is being set or taken back hits no code but the handler's."""
    queue.enqueue_many([("x", {})] * 200)
    summary = queue.process_jobs({"x": lambda payload: sum(range(50))}, 1, timeout=1e-6)
    assert summary.completed + summary.failed == 200
    assert summary.attempts == 200
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_a_coroutine_that_takes_too_long(queue: Queue) -> None:
    """It fails with JobTimeout, its cleanup runs, and the next coroutine finds all in order."""
    cleaned: list[int] = []

    async def handler(payload: dict[str, float]) -> str:
        try:
            await asyncio.sleep(payload["seconds"])
        finally:
            cleaned.append(1)
        return "slept"

    queue.enqueue("x", {"seconds": 30})
    queue.enqueue("x", {"seconds": 0})
    assert queue.process_jobs({"x": handler}, 1, timeout=0.05) == Summary(completed=1, failed=1)
    first, second = queue.list_jobs()
    assert error_lines(first["error"])[0] == "JobTimeout: ran for longer than 0.05 s"
    assert second["result"] == "slept"
    assert len(cleaned) == 2


def test_a_coroutine_that_does_not_stop_when_told_does_not_spoil_the_next(queue: Queue) -> None:
    """Its cleanup is broken off after a second; the coroutines after it run as ever."""

    async def handler(payload: dict[str, bool]) -> str:
        try:
            await asyncio.sleep(30 if payload["slow"] else 0)
        finally:
            if payload["slow"]:
                await asyncio.sleep(30)
        return "fine"

    queue.enqueue("x", {"slow": True})
    queue.enqueue("x", {"slow": False})
    queue.enqueue("x", {"slow": False})
    assert queue.process_jobs({"x": handler}, 1, timeout=0.05) == Summary(completed=2, failed=1)
    errors = [job["error"] for job in queue.list_jobs()]
    assert errors == ["JobTimeout: ran for longer than 0.05 s", None, None]


def test_a_timeout_off_the_main_thread_is_a_clear_error(queue: Queue) -> None:
    """SIGALRM reaches the main thread only: it is refused before a job is taken."""
    queue.enqueue("x", {})
    before = queue.path.read_bytes()
    errors: list[Exception] = []

    def run() -> None:
        try:
            queue.process_jobs({"x": bool}, timeout=1)
        except ValueError as error:
            errors.append(error)

    assert works_in_a_thread(run)
    assert "timeout works in the main thread only" in str(errors[0])
    assert queue.path.read_bytes() == before


@pytest.mark.parametrize("operation", [fcntl.LOCK_EX, fcntl.LOCK_UN], ids=["lock", "unlock"])
def test_a_timeout_never_leaves_the_table_locked(
    queue: Queue, operation: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes while the handler enqueues, between taking the lock and giving it back."""
    trap = Trap(operation, signal.SIGALRM)
    monkeypatch.setattr(lock, "fcntl", trap)

    def handler(payload: Any) -> None:
        trap.armed = True
        queue.enqueue("child", {})
        time.sleep(30)

    job = run_one(queue, handler, timeout=20, types=["x"])
    assert error_lines(job["error"])[0] == "JobTimeout: ran for longer than 20 s"
    assert a_lock_is_free(queue)
    assert works_in_a_thread(lambda: queue.enqueue("after", {}))
    assert sorted(job["type"] for job in queue.list_jobs()) == ["after", "child", "x"]


def test_a_handler_that_enqueues_all_the_time_is_stopped_at_a_good_moment(queue: Queue) -> None:
    """Whenever the timeout comes, the table stays whole and free for others."""
    added: list[str] = []

    def handler(payload: Any) -> None:
        while True:
            added.append(queue.enqueue("child", {}))

    for _ in range(10):
        queue.enqueue("x", {})
    assert queue.process_jobs({"x": handler}, 1, timeout=0.01, types=["x"]) == Summary(failed=10)
    assert a_lock_is_free(queue)
    assert works_in_a_thread(lambda: queue.enqueue("after", {}))
    ids = [row[0] for row in columns(queue)]
    assert len(ids) == len(set(ids)) == queue.count_jobs()["pending"] + 10
    assert set(added) <= set(ids)


def test_a_programs_own_alarm_outlives_a_run(queue: Queue) -> None:
    """A watchdog that the program has set is put off by a timeout, never lost."""
    rang: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda number, frame: rang.append(number))
    try:
        signal.setitimer(signal.ITIMER_REAL, 1000)
        run_one(queue, lambda payload: None, timeout=20)
        assert 900 < signal.getitimer(signal.ITIMER_REAL)[0] <= 1000
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        run_one(queue, lambda payload: time.sleep(0.05), timeout=20)
        while not rang:
            time.sleep(0.001)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
