"""C: what a handler may ask of its own job, and say of its progress, whatever keeps the jobs."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest
from actors import AT_ONCE, die, in_child
from working import take, where

from dbbasic_queue import Job, Queue, current_job, enqueue
from dbbasic_queue import queue as queue_module
from dbbasic_queue.cli.main import main
from dbbasic_queue.engines.interface import Outcome
from dbbasic_queue.engines.progress import Progress
from dbbasic_queue.worker import current


def job_of(queue: Queue, job_id: str) -> dict[str, Any]:
    job = queue.get_job(job_id)
    assert job is not None
    return job


def test_a_handler_knows_its_job(queue: Queue) -> None:
    """All that a `Job` says, the most attempts, when it was added, and the queue."""
    seen: list[Any] = []

    def handler(payload: Any) -> None:
        job = current_job()
        assert isinstance(job, Job)
        seen.append((job.id, job.type, job.attempt, job.max_attempts, job.payload))
        assert job.enqueued_at == job.created_at
        assert job.queue is queue
        raise ValueError("once more")

    job_id = queue.enqueue("x", {"n": 1})
    queue.process_jobs({"x": handler}, 2, backoff=AT_ONCE)
    assert seen == [(job_id, "x", attempt, 2, {"n": 1}) for attempt in (1, 2)]
    with pytest.raises(LookupError, match="for handlers"):
        current_job()


def test_a_handler_enqueues_into_its_own_queue(
    queue: Queue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the plain functions and by its job, in a coroutine and in a thread, wherever it stands."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DBQ_FILE", raising=False)
    monkeypatch.delenv("DBQ_URL", raising=False)

    def plain(payload: Any) -> None:
        enqueue("child", {}, job_id="by-function")
        current_job().queue.enqueue("child", {}, job_id="by-job")
        thread = threading.Thread(target=lambda: enqueue("child", {}, job_id="by-thread"))
        thread.start()
        thread.join()

    async def coroutine(payload: Any) -> None:
        await asyncio.sleep(0)
        enqueue("child", {}, job_id="by-coroutine")

    queue.enqueue_many([("plain", {}), ("coroutine", {})])
    queue.process_jobs({"plain": plain, "coroutine": coroutine}, types=["plain", "coroutine"])
    children = {job["id"] for job in queue.list_jobs(job_type="child")}
    assert children == {"by-function", "by-job", "by-thread", "by-coroutine"}
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("how", ["DBQ_FILE", "QUEUE_FILE"])
def test_a_path_that_is_named_counts(
    queue: Queue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """In a handler, too: a program that says where its jobs go is believed."""
    named = tmp_path / "named" / "queue.tsv"
    monkeypatch.delenv("DBQ_URL", raising=False)
    if how == "DBQ_FILE":
        monkeypatch.setenv("DBQ_FILE", str(named))
    else:
        monkeypatch.setattr(queue_module, "QUEUE_FILE", str(named))
    queue.enqueue("x", {})
    queue.process_jobs({"x": lambda payload: enqueue("child", {}, job_id="c")})
    assert queue.get_job("c") is None
    assert job_of(Queue(named), "c")["status"] == "pending"


# -- progress --------------------------------------------------------------------------------------


def test_progress_is_seen_while_it_runs_and_gone_after(
    queue: Queue, address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """By `list` and `show`; then the result is what the handler returned."""
    told: list[str] = []

    def handler(payload: Any) -> str:
        job = current_job()
        job.progress(0.4, "page 4")
        assert job_of(queue, job.id)["result"] == {"progress": 0.4, "text": "page 4"}
        for verb in (["list"], ["show", job.id]):
            assert main([*verb, *where(address)]) == 0
            told.append(capsys.readouterr().out)
        return "done"

    job_id = queue.enqueue("x", {})
    assert queue.process_jobs({"x": handler}).completed == 1
    assert all("40 %, page 4" in text for text in told)
    assert "{" not in told[0]
    assert (job_of(queue, job_id)["status"], job_of(queue, job_id)["result"]) == (
        "completed",
        "done",
    )


def test_progress_is_written_once_a_second(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often it is told; the first time at once, for each job."""
    monkeypatch.setattr(current, "EVERY", 1000.0)
    seen = []

    def handler(payload: Any) -> None:
        for number in range(5):
            current_job().progress(number / 10)
        seen.append(job_of(queue, current_job().id)["result"])

    queue.enqueue_many([("x", {}), ("x", {})])
    queue.process_jobs({"x": handler})
    assert seen == [{"progress": 0.0}, {"progress": 0.0}]


def test_progress_in_every_second_that_comes(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each takes the place of the one before, and the failure that of the last."""
    monkeypatch.setattr(current, "EVERY", 0.0)

    def handler(payload: Any) -> None:
        for number in range(5):
            current_job().progress(number / 10, f"step {number}")
            seen = job_of(queue, current_job().id)["result"]
            assert seen == {"progress": number / 10, "text": f"step {number}"}
        raise ValueError("no")

    job_id = queue.enqueue("x", {})
    assert queue.process_jobs({"x": handler}, 2, backoff=AT_ONCE).failed == 1
    job = job_of(queue, job_id)
    assert (job["result"], job["attempts"]) == (None, 2)
    assert job["error"].startswith("ValueError: no")


@pytest.mark.parametrize("share", [-0.1, 1.1, "half", None, True, float("nan")], ids=str)
def test_a_share_is_a_number_from_0_to_1(queue: Queue, share: Any) -> None:
    """Anything else is an error of the handler's."""
    job_id = queue.enqueue("x", {})
    queue.process_jobs({"x": lambda payload: current_job().progress(share)}, 1)
    assert job_of(queue, job_id)["error"].startswith("ValueError: progress")


def test_a_long_text_is_cut_to_the_room_there_is(queue: Queue) -> None:
    """And what cannot stand in a line is escaped."""
    seen = []

    def handler(payload: Any) -> None:
        current_job().progress(0.123456, "ä\n\t" * 1000)
        seen.append(job_of(queue, current_job().id)["result"])

    queue.enqueue("x", {})
    assert queue.process_jobs({"x": handler}).completed == 1
    assert seen[0]["progress"] == 0.1235
    assert seen[0]["text"].startswith("ä\n\tä\n")
    assert seen[0]["text"].endswith("…")


def test_progress_of_one_that_is_not_in_hand_is_not_written(queue: Queue) -> None:
    """As a thread may tell that outlives its handler."""
    job_id = queue.enqueue("x", {})
    seat, attempt = take(queue)
    assert seat.note(attempt, Progress(0.5, ""))
    seat.turn(Outcome(attempt, "completed", queue.now(), result='{"n": 1}'))
    assert not seat.note(attempt, Progress(0.6, ""))
    assert job_of(queue, job_id)["result"] == {"n": 1}
    seat.leave()


def test_progress_of_a_dead_worker_goes_with_it(queue: Queue) -> None:
    """The next attempt begins without it."""
    job_id = queue.enqueue("x", {})

    def begin_and_die() -> None:
        queue.process_jobs({"x": lambda payload: current_job().progress(0.5) or die()})

    assert in_child(begin_and_die) < 0
    assert job_of(queue, job_id)["result"] == {"progress": 0.5}
    seen = []
    look = lambda payload: seen.append(job_of(queue, job_id)["result"])  # noqa: E731
    queue.process_jobs({"x": look}, backoff=AT_ONCE, limit=1)
    assert seen == [None]
    assert job_of(queue, job_id)["result"] is None
