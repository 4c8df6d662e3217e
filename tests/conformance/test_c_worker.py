"""C: what a run of the worker does, whatever keeps the jobs."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest
from actors import AT_ONCE, Clock, queue_by

from dbbasic_queue import Queue, current_job
from dbbasic_queue.job import error_lines

NOW = 1_700_000_000


@pytest.fixture
def queue(address: str, clock: Clock) -> Queue:
    """A queue whose clock the test sets."""
    return queue_by(clock, address)


def job_of(queue: Queue, job_id: str) -> dict[str, Any]:
    job = queue.get_job(job_id)
    assert job is not None
    return job


def fail(payload: dict[str, Any]) -> None:
    raise ValueError("no\nway")


@pytest.mark.parametrize("ago", [0.0, 0.25, 3.75])
def test_a_job_for_now_is_due_now(queue: Queue, clock: Clock, ago: float) -> None:
    """Not in the second that begins next, although times are kept in whole ones."""
    clock.now = NOW + 0.5
    queue.enqueue("x", {}, run_at=clock.now - ago)
    queue.enqueue("x", {}, run_at=clock.now + 0.25)
    assert queue.process_jobs({"x": lambda payload: None}).completed == 1


def test_jobs_of_a_type_run_in_their_order(queue: Queue) -> None:
    """Each once, with its payload."""
    ran: list[int] = []
    queue.enqueue_many([("x", {"n": n}) for n in range(30)])
    for number in range(30, 40):
        queue.enqueue("x", {"n": number})
    assert queue.process_jobs({"x": lambda payload: ran.append(payload["n"])}).completed == 40
    assert ran == list(range(40))


def test_only_what_is_due_runs(queue: Queue, clock: Clock) -> None:
    """The rest when its time has come."""
    queue.enqueue("x", {}, NOW + 60)
    queue.enqueue("x", {}, NOW)
    assert queue.process_jobs({"x": bool}).completed == 1
    clock.now += 59
    assert queue.process_jobs({"x": bool}).completed == 0
    clock.now += 1
    assert queue.process_jobs({"x": bool}).completed == 1


def test_a_failed_attempt_waits_and_the_last_one_is_failed(queue: Queue, clock: Clock) -> None:
    """120 and 240 seconds; each attempt is counted, and the error is one line."""
    job_id = queue.enqueue("x", {})
    for attempt, pause in ((1, 120), (2, 240)):
        assert queue.process_jobs({"x": fail}).retried == 1
        job = job_of(queue, job_id)
        assert (job["status"], job["attempts"]) == ("pending", attempt)
        assert job["run_at"] == int(clock.now) + pause
        clock.now += pause
    assert queue.process_jobs({"x": fail}).failed == 1
    job = job_of(queue, job_id)
    assert (job["status"], job["attempts"]) == ("failed", 3)
    assert error_lines(job["error"])[0] == "ValueError: no\\nway"


def test_a_run_drains_the_retries_that_fall_due_in_it(queue: Queue) -> None:
    """With a backoff of nothing, until the attempts are used up."""
    queue.enqueue("x", {})
    summary = queue.process_jobs({"x": fail}, 4, backoff=AT_ONCE)
    assert (summary.retried, summary.failed) == (3, 1)


def test_the_limit_of_attempts_is_that_of_the_run(queue: Queue) -> None:
    """Lowered between two runs, it holds at once; raised, it gives more."""
    job_id = queue.enqueue("x", {})
    queue.process_jobs({"x": fail}, 5, backoff=AT_ONCE, limit=2)
    assert job_of(queue, job_id)["attempts"] == 2
    assert queue.process_jobs({"x": fail}, 2).failed == 1
    assert queue.retry_job(job_id)
    assert queue.process_jobs({"x": fail}, 1).failed == 1
    assert job_of(queue, job_id)["attempts"] == 1


def test_a_type_without_a_handler_fails_or_is_left(queue: Queue) -> None:
    """As `unknown` says."""
    job_id = queue.enqueue("y", {})
    assert queue.process_jobs({"x": bool}, unknown="skip").attempts == 0
    assert job_of(queue, job_id)["status"] == "pending"
    assert queue.process_jobs({"x": bool}, 1).failed == 1
    assert job_of(queue, job_id)["error"].startswith("LookupError: No handler for y")


def test_a_run_takes_the_types_and_the_number_it_was_told(queue: Queue) -> None:
    """`types` and `limit`."""
    queue.enqueue_many([("x", {}), ("y", {}), ("y", {}), ("x", {})])
    handlers = {"x": bool, "y": bool}
    assert queue.process_jobs(handlers, types=["y"], limit=1).completed == 1
    assert queue.process_jobs(handlers, types=["y"]).completed == 1
    assert queue.process_jobs(handlers, types=["z"]).completed == 0
    assert queue.process_jobs(handlers, max_seconds=0).completed == 0
    assert queue.process_jobs(handlers).completed == 2


def test_a_lingering_run_takes_what_comes(queue: Queue, address: str) -> None:
    """Of a type that was not there before, too."""
    other = queue_by(queue.engine.now, address)

    def later() -> None:
        time.sleep(0.2)
        other.enqueue("x", {})
        other.enqueue("new", {})

    thread = threading.Thread(target=later)
    thread.start()
    assert queue.process_jobs({"x": bool, "new": bool}, linger=60, limit=2).completed == 2
    thread.join()


def test_a_handler_that_runs_too_long_is_told_so(queue: Queue) -> None:
    """`JobTimeout` in it; the attempt has failed."""
    job_id = queue.enqueue("x", {})
    queue.process_jobs({"x": lambda payload: time.sleep(60)}, 1, timeout=0.05)
    assert job_of(queue, job_id)["error"].startswith("JobTimeout: ran for longer than 0.05 s")


def test_results_come_back_as_they_went(queue: Queue) -> None:
    """Whatever JSON can hold; None, and what it cannot."""
    results = [None, "text", ' "quoted"', 0, False, "", [], {"a": [2**70, "ü\x00"]}, 1.5]
    ids = [queue.enqueue("x", {"n": number}) for number in range(len(results))]
    queue.process_jobs({"x": lambda payload: results[payload["n"]]})
    assert [job_of(queue, job_id)["result"] for job_id in ids] == results
    odd = queue.enqueue("y", {})
    queue.process_jobs({"y": lambda payload: {1, 2}}, 1)
    assert job_of(queue, odd)["status"] in {"completed", "failed"}


def test_payloads_come_as_they_were_sent(queue: Queue) -> None:
    """Text of any kind, and numbers of any size."""
    sent = {"text": 'tab\t, line\n, "quote", ü, 🎈, \x00', "n": [2**70, -0.5, None, True]}
    got: list[Any] = []
    queue.enqueue("x", sent)
    queue.process_jobs({"x": got.append})
    assert got == [sent]
    assert next(queue.list_jobs())["payload"] == sent


def test_a_coroutine_and_the_current_job(queue: Queue) -> None:
    """A handler may be one, and may ask which job it runs."""

    async def run(payload: dict[str, Any]) -> str:
        await asyncio.sleep(0)
        job = current_job()
        assert job is not None
        return f"{job.id} {job.attempt}"

    job_id = queue.enqueue("x", {})
    queue.process_jobs({"x": run})
    assert job_of(queue, job_id)["result"] == f"{job_id} 1"


def test_a_handler_may_enqueue(queue: Queue) -> None:
    """And the run takes what it enqueued."""
    queue.enqueue("x", {})
    handlers = {"x": lambda payload: queue.enqueue("y", {}), "y": bool}
    assert queue.process_jobs(handlers).completed == 2


def test_a_handler_that_exits_has_failed(queue: Queue) -> None:
    """`SystemExit` does not end the worker."""

    def leave(payload: dict[str, Any]) -> None:
        raise SystemExit(3)

    ids = [queue.enqueue("x", {}), queue.enqueue("y", {})]
    queue.process_jobs({"x": leave, "y": bool}, 1)
    assert [job_of(queue, job_id)["status"] for job_id in ids] == ["failed", "completed"]
