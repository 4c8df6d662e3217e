"""C: what a handler may say about its own job, whatever keeps the jobs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from actors import Clock, queue_by

from dbbasic_queue import Discard, Queue, Retry, Snooze

Raise = Callable[[BaseException], Callable[[Any], Any]]


@pytest.fixture
def queue(address: str, clock: Clock) -> Queue:
    """A queue whose clock the test sets."""
    return queue_by(clock, address)


def plainly(error: BaseException) -> Callable[[Any], Any]:
    """A handler that raises it."""

    def handler(payload: Any) -> None:
        raise error

    return handler


def in_a_coroutine(error: BaseException) -> Callable[[Any], Any]:
    """A coroutine that raises it."""

    async def handler(payload: Any) -> None:
        await asyncio.sleep(0)
        raise error

    return handler


def in_a_task(error: BaseException) -> Callable[[Any], Any]:
    """A coroutine, one of whose tasks raises it, so that it comes in a group."""

    async def handler(payload: Any) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(in_a_coroutine(error)(payload))

    return handler


each_way = pytest.mark.parametrize("handler", [plainly, in_a_coroutine, in_a_task])


def run(queue: Queue, handler: Callable[[Any], Any], **options: Any) -> tuple[Any, dict[str, Any]]:
    """The summary of one run, and the job."""
    job_id = queue.enqueue("x", {})
    summary = queue.process_jobs({"x": handler}, **options)
    job = queue.get_job(job_id)
    assert job is not None
    return summary, job


@each_way
@pytest.mark.parametrize("after", ["10min", 600, 599.5, timedelta(minutes=10)], ids=str)
def test_a_retry_comes_when_it_says(queue: Queue, clock: Clock, handler: Raise, after: Any) -> None:
    """And counts as an attempt."""
    summary, job = run(queue, handler(Retry(after, "it is off")))
    assert summary.retried == 1
    assert (job["status"], job["attempts"]) == ("pending", 1)
    assert job["run_at"] == int(clock.now) + 600
    assert job["error"].startswith("Retry: it is off")


def test_a_retry_without_a_time_comes_after_the_backoff(queue: Queue, clock: Clock) -> None:
    """And without words, it says what was being handled."""

    def handler(payload: Any) -> None:
        try:
            {}["x"]
        except KeyError as error:
            raise Retry from error

    _, job = run(queue, handler, backoff=lambda attempts: 7)
    assert (job["status"], job["run_at"]) == ("pending", int(clock.now) + 7)
    assert job["error"].startswith("Retry: KeyError: 'x'")


def test_the_last_retry_has_failed(queue: Queue) -> None:
    """It cannot go on for ever."""
    summary, job = run(queue, plainly(Retry("1s")), max_attempts=1)
    assert (summary.failed, job["status"], job["attempts"]) == (1, "failed", 1)


@each_way
def test_a_snooze_does_not_count(
    queue: Queue, clock: Clock, handler: Raise, caplog: pytest.LogCaptureFixture
) -> None:
    """However often; the error of the attempt before stays."""
    caplog.set_level(logging.INFO)
    job_id = queue.enqueue("x", {})
    queue.process_jobs({"x": plainly(ValueError("no"))}, backoff=lambda attempts: 0, limit=1)
    before = queue.get_job(job_id)
    assert before is not None
    for _ in range(5):
        summary = queue.process_jobs({"x": handler(Snooze("1min", "closed"))}, 2)
        assert (summary.retried, summary.failed) == (0, 0)
        job = queue.get_job(job_id)
        assert job is not None
        assert (job["status"], job["attempts"]) == ("pending", 1)
        assert job["run_at"] == int(clock.now) + 60
        assert job["error"] == before["error"]
        clock.now += 60
    assert f"snoozed x {job_id} until" in caplog.text
    assert queue.process_jobs({"x": bool}).completed == 1


@each_way
def test_a_discard_has_failed_for_good(queue: Queue, handler: Raise) -> None:
    """At the first attempt; a person may still retry it."""
    summary, job = run(queue, handler(Discard("bad address")))
    assert (summary.failed, summary.retried) == (1, 0)
    assert (job["status"], job["attempts"]) == ("failed", 1)
    assert job["error"].startswith("Discard: bad address")
    assert queue.retry_job(job["id"])


@pytest.mark.parametrize("wish", [Retry, Snooze])
@pytest.mark.parametrize("after", ["soon", -1, "11 years", float("nan"), [1], 10**9], ids=str)
def test_a_wrong_time_is_an_error_of_the_handler(
    queue: Queue, wish: Callable[[Any], BaseException], after: Any
) -> None:
    """Which the job's error names."""

    def handler(payload: Any) -> None:
        raise wish(after)

    _, job = run(queue, handler)
    assert (job["status"], job["attempts"]) == ("pending", 1)
    assert job["error"].startswith(f"ValueError: {getattr(wish, '__name__', '')}: ")


def test_a_snooze_of_no_time_is_refused() -> None:
    """A run that waits for it would never end."""
    with pytest.raises(ValueError, match="too short"):
        Snooze(0)


def test_a_wish_among_other_errors_is_one_of_them(queue: Queue) -> None:
    """A group of several has failed as any exception."""
    error = ExceptionGroup("tasks", [Discard("bad"), ValueError("no")])
    _, job = run(queue, plainly(error))
    assert job["status"] == "pending"
