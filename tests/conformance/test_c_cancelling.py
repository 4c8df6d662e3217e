"""C: a job that is cancelled while it runs."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from actors import AT_ONCE, die, in_child, script

from dbbasic_queue import JobCancelled, Queue, Summary, current_job
from dbbasic_queue.engines.calling_off import mark_of
from dbbasic_queue.worker import watch

CREW = """
import os, sys, time
from dbbasic_queue import Queue
from dbbasic_queue.worker.loop import work
from dbbasic_queue.worker.options import Options
from dbbasic_queue.worker.processes import WorkerProcesses
engine = Queue(sys.argv[1], "normal").engine

def slow(payload):
    os.write(1, b"started" + bytes([10]))  # in one write, as the other does
    time.sleep(60)

def run(number, signals):
    return work(engine, {"slow": slow}, Options(), signals, 2)

print("cancelled", WorkerProcesses(2, run).run()[0].cancelled, flush=True)
"""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Worker of this process look more often, so that no test takes seconds."""
    monkeypatch.setattr(watch, "LOOK_EVERY", 0.02)


def job_of(queue: Queue, job_id: str) -> dict[str, Any]:
    job = queue.get_job(job_id)
    assert job is not None
    return job


def cancel(queue: Queue) -> None:
    """Ask, in a handler, for the end of its job."""
    assert queue.cancel_job(current_job().id, running=True)


def test_a_running_job_is_broken_off_and_the_next_one_runs(queue: Queue) -> None:
    """Its handler can clean up; the job says who cancelled it, and is not tried again."""
    seen: list[str] = []

    def slow(payload: Any) -> None:
        cancel(queue)
        try:
            time.sleep(60)
        except JobCancelled as error:
            seen.append(str(error))
            raise
        finally:
            seen.append("cleaned")

    first, second = queue.enqueue("slow", {}), queue.enqueue("quick", {})
    handlers = {"slow": slow, "quick": lambda payload: "done"}
    assert queue.process_jobs(handlers) == Summary(completed=1, cancelled=1)
    job = job_of(queue, first)
    assert (job["status"], job["attempts"], job["result"]) == ("cancelled", 1, None)
    assert job["error"].startswith("Cancelled by ")
    assert job["error"].endswith(" while it ran")
    assert seen == [job["error"], "cleaned"]
    assert job_of(queue, second)["status"] == "completed"
    assert queue.retry_job(first)
    assert queue.process_jobs({"slow": bool}) == Summary(completed=1)


@pytest.mark.parametrize("timeout", [None, 60], ids=["free", "limited"])
def test_a_coroutine_is_broken_off(queue: Queue, timeout: float | None) -> None:
    """Under a time limit, too; and the next one runs."""
    cleaned: list[bool] = []

    async def slow(payload: Any) -> None:
        if payload:
            cancel(queue)
            try:
                await asyncio.sleep(60)
            finally:
                cleaned.append(True)

    first = queue.enqueue("slow", {"wait": True})
    queue.enqueue("slow", {})
    assert queue.process_jobs({"slow": slow}, timeout=timeout) == Summary(completed=1, cancelled=1)
    assert (job_of(queue, first)["status"], cleaned) == ("cancelled", [True])


def test_a_busy_group_of_tasks_is_broken_off(queue: Queue) -> None:
    """Wherever in it the end comes."""

    async def spin() -> None:
        while True:
            await asyncio.sleep(0)

    async def busy(payload: Any) -> None:
        cancel(queue)
        async with asyncio.TaskGroup() as group:
            group.create_task(spin())
            group.create_task(spin())

    queue.enqueue("busy", {})
    assert queue.process_jobs({"busy": busy}) == Summary(cancelled=1)


def test_without_running_a_job_in_hand_is_left_alone(queue: Queue) -> None:
    """It is not cancelled, and completes."""
    answers: list[bool] = []

    def handler(payload: Any) -> None:
        answers.append(queue.cancel_job(current_job().id))

    job_id = queue.enqueue("x", {})
    queue.process_jobs({"x": handler})
    assert (answers, job_of(queue, job_id)["status"]) == ([False], "completed")


def test_the_mark_names_the_time_and_the_user_and_stays(queue: Queue) -> None:
    """The job is processing meanwhile; to ask again changes nothing."""
    seen: list[dict[str, Any]] = []

    def handler(payload: Any) -> str:
        for _ in range(2):
            cancel(queue)
            seen.append(job_of(queue, current_job().id))
        return "done"

    queue.enqueue("x", {})
    queue.process_jobs({"x": handler})
    assert seen[0] == seen[1]
    assert seen[0]["status"] == "processing"
    mark, when, user = seen[0]["error"].split(" ")
    assert (mark, len(when), bool(user)) == ("CancelAsked:", 20, True)


def test_progress_leaves_the_mark(queue: Queue) -> None:
    """However little room there is in the row: of a job of many attempts, by a long name."""

    def handler(payload: Any) -> None:
        assert queue.engine.cancel(current_job().id, mark=mark_of(queue.now(), "z" * 32))
        current_job().progress(0.123456789012345, "page 4")
        raise ValueError("no")

    job_id = queue.enqueue("x", {})
    queue.process_jobs({"x": handler})
    assert job_of(queue, job_id)["status"] == "cancelled"


def test_the_mark_is_that_of_the_first_who_asked(queue: Queue) -> None:
    """Another who asks later changes nothing."""
    seen: list[bool] = []

    def handler(payload: Any) -> None:
        job_id = current_job().id
        for user in ("zoe", "adam"):
            seen.append(queue.engine.cancel(job_id, mark=mark_of(queue.now(), user)))
        raise ValueError("no")

    job_id = queue.enqueue("x", {})
    queue.process_jobs({"x": handler})
    assert (seen, job_of(queue, job_id)["error"]) == ([True, True], "Cancelled by zoe while it ran")


@pytest.mark.parametrize("slow", [False, True], ids=["at once", "caught"])
def test_a_job_that_completed_stays_completed(queue: Queue, slow: bool) -> None:
    """Because it ended first, or because its handler caught the end and came to its own."""

    def handler(payload: Any) -> str:
        cancel(queue)
        try:
            if slow:
                time.sleep(60)
        except JobCancelled:
            pass
        return "done"

    job_id = queue.enqueue("x", {})
    assert queue.process_jobs({"x": handler}) == Summary(completed=1)
    job = job_of(queue, job_id)
    assert (job["status"], job["result"], job["error"]) == ("completed", "done", None)
    assert not queue.cancel_job(job_id, running=True)


def test_a_job_that_failed_meanwhile_is_cancelled_and_not_tried_again(queue: Queue) -> None:
    """Whatever it raised."""

    def handler(payload: Any) -> None:
        cancel(queue)
        raise ValueError("no")

    job_id = queue.enqueue("x", {})
    queue.process_jobs({"x": handler}, backoff=AT_ONCE)
    job = job_of(queue, job_id)
    assert (job["status"], job["attempts"]) == ("cancelled", 1)
    assert job["error"].startswith("Cancelled by ")


def test_the_job_of_a_dead_worker_is_cancelled_not_run_again(queue: Queue) -> None:
    """When the next run takes it back."""
    job_id = queue.enqueue("x", {})

    def handler(payload: Any) -> None:
        cancel(queue)
        die()

    assert in_child(lambda: queue.process_jobs({"x": handler})) == -9
    assert job_of(queue, job_id)["status"] == "processing"
    assert queue.process_jobs({"x": bool}, backoff=AT_ONCE).rescued == 1
    job = job_of(queue, job_id)
    assert (job["status"], job["attempts"]) == ("cancelled", 1)
    assert job["error"].startswith("Cancelled by ")


def test_a_pending_job_is_cancelled_as_ever(queue: Queue) -> None:
    """With running or without it; an unknown job is not."""
    job_id = queue.enqueue("x", {})
    assert queue.cancel_job(job_id, running=True)
    assert (job_of(queue, job_id)["status"], queue.process_jobs({"x": bool})) == (
        "cancelled",
        Summary(),
    )
    assert not queue.cancel_job(job_id, running=True)
    assert not queue.cancel_job("nobody", running=True)


def test_a_handler_that_goes_on_is_told_again(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a while, until it ends."""
    monkeypatch.setattr("dbbasic_queue.worker.signals.GRACE", 0.1)
    told: list[int] = []

    def stubborn(payload: Any) -> None:
        cancel(queue)
        for _ in range(2):
            try:
                time.sleep(60)
            except JobCancelled:
                told.append(1)
        raise ValueError("at last")

    job_id = queue.enqueue("x", {})
    queue.process_jobs({"x": stubborn})
    assert (len(told), job_of(queue, job_id)["status"]) == (2, "cancelled")


def test_a_worker_in_a_thread_honours_the_mark_when_its_job_ends(queue: Queue) -> None:
    """No signal can break into it."""
    job_id = queue.enqueue("x", {})

    def handler(payload: Any) -> None:
        cancel(queue)
        raise ValueError("no")

    thread = threading.Thread(target=queue.process_jobs, args=({"x": handler},))
    thread.start()
    thread.join(60)
    assert job_of(queue, job_id)["status"] == "cancelled"


def test_each_of_several_processes_looks_at_its_own_job(queue: Queue, address: str) -> None:
    """One of two jobs is cancelled, then the other."""
    ids = [queue.enqueue("slow", {}), queue.enqueue("slow", {})]
    with script(CREW, address) as crew:
        crew.hear("started")
        crew.hear("started")
        for job_id in ids:
            assert queue.cancel_job(job_id, running=True)
        crew.hear("cancelled 2")
        assert crew.end() == 0, crew.err
    assert {job_of(queue, job_id)["status"] for job_id in ids} == {"cancelled"}


Change = Callable[[Queue], Any]


@pytest.mark.parametrize("changes", ["renewed", "moved"])
def test_the_row_is_found_where_it_stands_now(queue: Queue, changes: str) -> None:
    """Also when finished jobs are removed, or the mark does not fit, while the job runs."""
    old = [queue.enqueue("quick", {"n": number}) for number in range(3)]
    queue.process_jobs({"quick": bool})
    job_id = queue.enqueue("slow", {})

    def slow(payload: Any) -> None:
        if changes == "renewed":
            assert queue.prune_jobs(0) == len(old)
        elif queue.engine.path is not None:  # without its reserve the row has to move
            text = queue.engine.path.read_bytes()
            queue.engine.path.write_bytes(
                b"\n".join(line.rstrip(b" ") for line in text.split(b"\n"))
            )
        cancel(queue)
        time.sleep(60)

    assert queue.process_jobs({"slow": slow}) == Summary(cancelled=1)
    assert job_of(queue, job_id)["status"] == "cancelled"
