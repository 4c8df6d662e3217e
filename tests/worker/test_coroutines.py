"""Coroutine functions, and the job in hand."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from actors import AT_ONCE, Diary, script
from working import WORKER, failing, run_one, works_in_a_thread

from dbbasic_queue import JobTimeout, Queue, Summary, current_job
from dbbasic_queue.job import error_lines
from dbbasic_queue.worker import coroutines


def test_handlers_may_be_coroutine_functions(queue: Queue) -> None:
    """Beside plain ones, and as callable objects; tasks and threads of theirs work."""

    async def double(payload: dict[str, int]) -> int:
        one, other = await asyncio.gather(
            asyncio.sleep(0, payload["n"]), asyncio.to_thread(lambda: payload["n"])
        )
        return one + other

    class Called:
        async def __call__(self, payload: dict[str, int]) -> int:
            return await double(payload) + 1

    queue.enqueue("a", {"n": 1})
    queue.enqueue("b", {"n": 2})
    queue.enqueue("c", {"n": 3})
    handlers = {"a": double, "b": lambda payload: payload["n"], "c": Called()}
    assert queue.process_jobs(handlers).completed == 3
    assert [job["result"] for job in queue.list_jobs()] == [2, 2, 7]


@pytest.mark.parametrize("ending", ["return", "raise", "exit"])
def test_tasks_left_behind_end_with_their_job(queue: Queue, ending: str) -> None:
    """As with asyncio.run: nothing of a job runs on while the next one does."""
    ticks: list[str] = []
    cancelled: list[str] = []

    async def tick() -> None:
        try:
            while True:
                ticks.append(current_job().id)
                await asyncio.sleep(0)
        except asyncio.CancelledError:
            cancelled.append(current_job().id)
            raise

    async def leave(payload: Any) -> None:
        task = asyncio.create_task(tick())
        await asyncio.sleep(0)
        assert not task.done()
        if ending == "raise":
            raise ValueError
        if ending == "exit":
            sys.exit(1)

    async def clean(payload: Any) -> int:
        before = len(ticks)
        await asyncio.sleep(0.01)
        return len(ticks) - before

    first = queue.enqueue("leave", {})
    second = queue.enqueue("clean", {})
    queue.process_jobs({"leave": leave, "clean": clean})
    assert queue.get_job(second)["result"] == 0
    assert set(ticks) == set(cancelled) == {first}


def test_a_child_that_comes_back_from_a_coroutine_leaves_its_parents_loop_alone(
    queue: Queue, diary: Diary
) -> None:
    """The event loop's descriptors are shared: the parent goes on waiting for its threads."""

    async def handler(payload: Any) -> int:
        pid = os.fork()
        if pid == 0:
            diary.add("child")
            return -1
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        return await asyncio.to_thread(lambda: code)

    queue.enqueue_many([("x", {})] * 2)
    assert queue.process_jobs({"x": handler}, 1, timeout=20).completed == 2
    assert [job["result"] for job in queue.list_jobs()] == [0, 0]
    assert diary.lines() == ["child"] * 2


def test_what_a_coroutine_has_opened_outlives_the_failure_of_another(queue: Queue) -> None:
    """A job that raises, or takes too long, leaves the loop to the others' connections."""
    loops: list[Any] = []

    async def handler(payload: Any) -> None:
        loops.append(asyncio.get_running_loop())
        if payload["ends"] == "raises":
            raise ValueError("only this job")
        await asyncio.sleep(payload["seconds"])

    for ends, seconds in (("well", 0), ("raises", 0), ("late", 30), ("well", 0)):
        queue.enqueue("x", {"ends": ends, "seconds": seconds})
    queue.process_jobs({"x": handler}, 1, timeout=0.2)
    assert queue.count_jobs()["failed"] == 2
    assert len(loops) == 4
    assert len(set(loops)) == 1


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
def test_a_loop_that_cannot_be_made_fails_its_job_only(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker goes on, and ends as ever: the loop that was never made is not closed."""

    class Refusing(asyncio.DefaultEventLoopPolicy):
        def new_event_loop(self) -> Any:
            raise RuntimeError("no loops here")

    async def handler(payload: Any) -> None:
        raise AssertionError("it cannot run")

    before = asyncio.events._event_loop_policy  # type: ignore[attr-defined]
    asyncio.set_event_loop_policy(Refusing())
    try:
        job = run_one(queue, handler, max_attempts=1)
    finally:
        asyncio.set_event_loop_policy(before)
    assert error_lines(job["error"])[0] == "RuntimeError: no loops here"


def test_tasks_that_are_given_up_are_told_of_once(queue: Queue) -> None:
    """Without asyncio's word on tasks of ours; that on a handler's own names it."""
    code = f"""{WORKER}
from dbbasic_queue.worker import coroutines
coroutines.PATIENCE = 0.1

async def stubborn():
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            pass

async def leaves(payload):
    task = asyncio.create_task(stubborn())
    await asyncio.sleep(0)

async def closes(payload):
    os.closerange(3, 256)
    await asyncio.sleep(0)

async def waits(payload): await stubborn()
async def works(payload): await asyncio.sleep(0)
handlers = {{"leaves": leaves, "waits": waits, "closes": closes, "works": works}}
queue.process_jobs(handlers, max_attempts=1, timeout={{"waits": 0.1}})
"""
    jobs = ("leaves", "works", "waits", "works", "closes", "works")
    ids = queue.enqueue_many([(each, {}) for each in jobs])
    with script(code, queue.path) as worker:
        assert worker.end() == 0, worker.err
    destroyed = [line for line in worker.err.splitlines() if line.startswith("task: ")]
    assert ["stubborn" in line for line in destroyed] == [True], worker.err
    assert "Exception ignored" not in worker.err
    found = [queue.get_job(each) for each in ids]
    assert [job and job["status"] for job in found] == [
        *("completed", "completed", "failed", "completed", "failed", "completed")
    ]


def test_coroutines_run_where_a_loop_is_running(queue: Queue) -> None:
    """`process_jobs` inside a coroutine: the handlers' coroutines run in a thread meanwhile."""
    seen: list[Any] = []

    async def handler(payload: Any) -> str:
        await asyncio.sleep(0)
        seen.append(current_job().id)
        return "done"

    async def program() -> dict[str, Any]:
        return run_one(queue, handler)

    async def slow(payload: Any) -> None:
        try:
            await asyncio.sleep(30)
        finally:
            await asyncio.sleep(0.1)
            seen.append("cleaned")

    async def another() -> dict[str, Any]:
        return run_one(queue, slow, timeout=0.1)

    job = asyncio.run(program())
    assert (job["status"], job["result"], job["attempts"]) == ("completed", "done", 1)
    assert asyncio.run(another())["error"].startswith("JobTimeout")
    assert seen == [job["id"], "cleaned"]


def test_a_coroutine_is_broken_off_before_it_began(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal that comes before its thread runs it is not lost: it never begins."""
    began: list[bool] = []
    ended: list[bool] = []

    late: list[threading.Thread] = []

    class Late(threading.Thread):
        def start(self) -> None:
            if self.name == "dbbasic_queue coroutine":
                late.append(self)
            else:
                super().start()

    class End(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            if timeout is None:
                raise JobTimeout("now")
            threading.Thread.start(late[0])
            ended.append(super().wait(timeout))
            return ended[0]

    async def slow(payload: Any) -> None:
        began.append(True)
        await asyncio.sleep(30)

    async def program() -> dict[str, Any]:
        return run_one(queue, slow)

    monkeypatch.setattr(coroutines, "threading", SimpleNamespace(Thread=Late, Event=End))
    assert error_lines(asyncio.run(program())["error"])[0] == "JobTimeout: now"
    assert (began, ended) == ([], [True])


def test_coroutines_work_off_the_main_thread(queue: Queue) -> None:
    """A worker in a thread runs coroutine functions, too."""

    async def handler(payload: Any) -> str:
        await asyncio.sleep(0)
        return "done"

    queue.enqueue("x", {})
    assert works_in_a_thread(lambda: queue.process_jobs({"x": handler}))
    assert [job["result"] for job in queue.list_jobs()] == ["done"]


def test_a_handler_can_ask_for_its_job(queue: Queue) -> None:
    """Id, type and attempt, without a change of its signature, and in the functions it calls."""

    def deep() -> tuple[str, str, int]:
        job = current_job()
        return job.id, job.type, job.attempt

    seen: list[tuple[str, str, int]] = []

    def handler(payload: Any) -> None:
        seen.append(deep())
        raise ValueError

    job_id = queue.enqueue("x", {})
    queue.process_jobs({"x": handler}, backoff=AT_ONCE)
    assert seen == [(job_id, "x", 1), (job_id, "x", 2), (job_id, "x", 3)]


def test_a_coroutine_can_ask_for_its_job(queue: Queue) -> None:
    """Also after an await, in a task of its own, and in a thread that asyncio started."""

    async def handler(payload: Any) -> list[str]:
        await asyncio.sleep(0)
        here = current_job().id

        async def inner() -> str:
            return current_job().id

        return [here, await asyncio.create_task(inner()), await asyncio.to_thread(lambda: here)]

    job = run_one(queue, handler)
    assert job["result"] == [job["id"]] * 3


def test_outside_a_handler_there_is_no_current_job(queue: Queue) -> None:
    """A clear LookupError before and after a run, and also after a handler has failed."""
    with pytest.raises(LookupError, match="for handlers: no job is running here"):
        current_job()
    run_one(queue, failing)
    with pytest.raises(LookupError, match="for handlers: no job is running here"):
        current_job()


def test_a_handler_may_run_a_worker_itself(queue: Queue, tmp_path: Path) -> None:
    """On another queue or on its own; its own job is then not taken a second time."""
    other = Queue(tmp_path / "other.tsv", "normal")
    other.enqueue("y", {})
    seen: list[str] = []

    def handler(payload: Any) -> str:
        mine = current_job().id
        other.process_jobs({"y": lambda payload: seen.append(current_job().id)})
        assert queue.process_jobs({"x": failing}) == Summary()
        return "same" if current_job().id == mine else "another"

    assert run_one(queue, handler)["result"] == "same"
    assert seen == [next(iter(other.list_jobs()))["id"]]
