"""The signals that end a run, and those that break a job off."""

from __future__ import annotations

import fcntl
import logging
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from actors import AT_ONCE, script
from working import RUN, TELL, WORKER, Trap, a_lock_is_free, run_one, twice, works_in_a_thread

from dbbasic_queue import Queue, current_job
from dbbasic_queue.job import error_lines
from dbbasic_queue.table import lock
from dbbasic_queue.worker import watch


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["TERM", "INT"])
def test_a_signal_lets_the_job_in_hand_finish(queue: Queue, number: int) -> None:
    """The first SIGTERM or SIGINT: it is finished and written, no more are taken, exit code 0."""
    first, second = queue.enqueue("ask", {}), queue.enqueue("ask", {})
    with script(RUN, queue.path) as worker:
        worker.hear("started")
        worker.signal(number)
        worker.say("the answer")
        assert worker.end() == 0
        assert worker.out == "finished\n"
    assert queue.get_job(first)["result"] == "the answer"
    assert (queue.get_job(second)["status"], queue.get_job(second)["attempts"]) == ("pending", 0)
    assert f"signal {number}: took no more jobs" in worker.err


@pytest.mark.parametrize("job_type", ["ask", "sleep", "enqueue"])
def test_a_second_signal_puts_the_job_back(queue: Queue, job_type: str) -> None:
    """It is pending again with its attempt refunded, whatever the handler was doing."""
    job_id = queue.enqueue(job_type, {})
    with script(RUN, queue.path) as worker:
        worker.hear("started 1")
        worker.signal(signal.SIGINT)
        worker.signal(signal.SIGTERM)
        assert worker.end() == 0
    job = queue.get_job(job_id)
    assert (job["status"], job["attempts"], job["error"]) == ("pending", 0, None)
    assert f"put back {job_type} {job_id}" in worker.err
    with script(RUN, queue.path) as worker:
        worker.hear("started 1")


def test_the_same_signal_twice_puts_the_job_back(queue: Queue) -> None:
    """Ctrl-C and Ctrl-C again, as an impatient person does."""
    code = WORKER + (
        "from dbbasic_queue.worker import signals\n"
        "def wait(payload):\n"
        "    tell('started')\n"
        "    while not signals._active.received: time.sleep(0.001)\n"
        "    tell('stopping')\n"
        "    time.sleep(60)\n"
        "queue.process_jobs({'wait': wait})\n"
    )
    job_id = queue.enqueue("wait", {})
    with script(code, queue.path) as worker:
        for word in ("started", "stopping"):
            worker.hear(word)
            worker.signal(signal.SIGINT)
        assert worker.end() == 0
    assert (queue.get_job(job_id)["status"], queue.get_job(job_id)["attempts"]) == ("pending", 0)


def test_a_lingering_worker_ends_at_a_signal(queue: Queue) -> None:
    """With nothing in hand it just ends, with exit code 0."""
    code = WORKER + "\ntell('here')\nqueue.process_jobs({'ask': ask}, linger=1000)\n"
    queue.enqueue("ask", {})
    with script(code, queue.path) as worker:
        worker.hear("here")
        worker.hear("started")
        worker.say("answer")
        worker.hear("finished")
        worker.signal(signal.SIGTERM)
        assert worker.end() == 0
    assert queue.count_jobs()["completed"] == 1


def test_a_programs_own_handler_is_called(queue: Queue) -> None:
    """After the job in hand is finished and written; if it returns, the program goes on."""
    code = TELL + (
        "summary = queue.process_jobs({'ask': ask})\n"
        "tell('summary', summary.completed, summary.stopped)\n"
        "tell(signal.getsignal(signal.SIGTERM).__name__)\n"
    )
    queue.enqueue_many([("ask", {})] * 2)
    with script(code, queue.path) as worker:
        worker.hear("started")
        worker.signal(signal.SIGTERM)
        worker.say("answer")
        assert worker.end() == 0
        assert worker.out == "finished\nheard 15 None\nsummary 1 15\n<lambda>\n"
    assert queue.count_jobs() == {**dict.fromkeys(queue.count_jobs(), 0), "completed": 1,
                                  "pending": 1}  # fmt: skip


def test_a_programs_own_handler_may_end_it(queue: Queue) -> None:
    """The usual `signal(SIGTERM, lambda *_: sys.exit(7))` ends the program with its own code."""
    code = WORKER + (
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))\nqueue.process_jobs({'ask': ask})\n"
    )
    queue.enqueue("ask", {})
    with script(code, queue.path) as worker:
        worker.hear("started")
        worker.signal(signal.SIGTERM)
        worker.say("answer")
        assert worker.end() == 7
    assert queue.count_jobs()["completed"] == 1


def test_an_ignored_signal_stays_ignored(queue: Queue) -> None:
    """Under nohup, or as a shell's background job, SIGINT means nothing."""
    code = WORKER + (
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\nqueue.process_jobs({'ask': ask})\n"
    )
    queue.enqueue_many([("ask", {})] * 2)
    with script(code, queue.path) as worker:
        for _ in range(2):
            worker.hear("started")
            worker.signal(signal.SIGINT)
            worker.signal(signal.SIGINT)
            worker.say("answer")
            worker.hear("finished")
        assert worker.end() == 0
    assert queue.count_jobs()["completed"] == 2


def test_what_is_put_back_keeps_the_error_of_the_attempt_before(
    queue: Queue, own_handler: list[int]
) -> None:
    """The attempt that was broken off leaves no trace in the job."""

    def handler(payload: Any) -> None:
        if current_job().attempt == 1:
            raise ValueError("the first")
        twice()

    job = run_one(queue, handler, backoff=AT_ONCE)
    assert (job["status"], job["attempts"]) == ("pending", 1)
    assert error_lines(job["error"])[0] == "ValueError: the first"
    assert own_handler == [signal.SIGTERM]


def test_a_handler_can_clean_up_when_it_is_broken_off(queue: Queue, own_handler: list[int]) -> None:
    """Its `finally` blocks run, and further signals do not break into them."""
    cleaned: list[int] = []

    def handler(payload: Any) -> None:
        try:
            twice()
        finally:
            twice()
            cleaned.append(1)

    job = run_one(queue, handler)
    assert (job["status"], job["attempts"]) == ("pending", 0)
    assert cleaned == [1]


def test_a_second_signal_never_leaves_the_table_locked(
    queue: Queue, own_handler: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes while the handler enqueues: the job is broken off a moment later."""
    trap = Trap(fcntl.LOCK_UN, signal.SIGTERM, signal.SIGTERM)
    monkeypatch.setattr(lock, "fcntl", trap)

    def handler(payload: Any) -> None:
        trap.armed = True
        queue.enqueue("child", {})
        time.sleep(30)

    job = run_one(queue, handler, types=["x"])
    assert (job["status"], job["attempts"]) == ("pending", 0)
    assert a_lock_is_free(queue)
    assert works_in_a_thread(lambda: queue.enqueue("after", {}))


def test_a_signal_between_two_jobs_breaks_nothing_off(
    queue: Queue, own_handler: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Signals that come while the worker writes how a job ended do not disturb that."""
    trap = Trap(fcntl.LOCK_EX, signal.SIGTERM, signal.SIGTERM, signal.SIGTERM)
    monkeypatch.setattr(lock, "fcntl", trap)
    queue.enqueue_many([("x", {})] * 2)

    def handler(payload: Any) -> str:
        trap.armed = True
        return "done"

    summary = queue.process_jobs({"x": handler})
    # The signal came before the next job was taken, or after.
    assert summary.completed in (1, 2)
    assert queue.count_jobs()["processing"] == 0
    assert queue.count_jobs()["completed"] == summary.completed
    assert a_lock_is_free(queue)


def test_a_signal_logs_nothing_while_it_interrupts(queue: Queue, own_handler: list[int]) -> None:
    """logging's handlers may hold locks that are not re-entrant: none is called from a signal."""

    class Strict(logging.Handler):
        def __init__(self) -> None:
            super().__init__()
            self.busy = False
            self.broken = False

        def emit(self, record: logging.LogRecord) -> None:
            self.broken = self.broken or self.busy
            self.busy = True
            if record.getMessage() == "in hand":
                signal.raise_signal(signal.SIGTERM)
            self.busy = False

    strict = Strict()
    root = logging.getLogger()
    level = root.level
    root.addHandler(strict)
    root.setLevel(logging.INFO)
    try:
        run_one(queue, lambda payload: logging.getLogger("app").info("in hand"))
    finally:
        root.removeHandler(strict)
        root.setLevel(level)
    assert own_handler == [signal.SIGTERM]
    assert not strict.broken


def test_signals_of_a_run_within_a_run_end_both(
    queue: Queue, tmp_path: Path, own_handler: list[int]
) -> None:
    """A handler that runs a worker itself: one SIGTERM stops the inner one, then the outer one."""
    other = Queue(tmp_path / "other.tsv", "normal")
    other.enqueue_many([("y", {})] * 2)
    queue.enqueue_many([("x", {})] * 2)

    def inner(payload: Any) -> None:
        signal.raise_signal(signal.SIGTERM)

    def outer(payload: Any) -> int:
        summary = other.process_jobs({"y": inner})
        assert own_handler == []
        return summary.completed

    assert queue.process_jobs({"x": outer}).completed == 1
    assert next(iter(queue.list_jobs("completed")))["result"] == 1
    assert own_handler == [signal.SIGTERM]


def test_off_the_main_thread_signals_are_left_alone(queue: Queue) -> None:
    """A worker in a thread neither sets nor needs a signal handler."""
    seen: list[Any] = []
    queue.enqueue("x", {})
    before = signal.getsignal(signal.SIGTERM)
    handlers = {"x": lambda payload: seen.append(signal.getsignal(signal.SIGTERM))}
    assert works_in_a_thread(lambda: queue.process_jobs(handlers))
    assert seen == [before]


def test_an_exception_before_the_watch_began_does_not_hold_the_run_up(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Out of a handler of the program's own signal, or as there can be no more threads."""

    def broken() -> Any:
        raise RuntimeError("can't start new thread")

    def run() -> None:
        with pytest.raises(RuntimeError, match="start new thread"):
            queue.process_jobs({"x": bool})

    queue.enqueue("x", {})
    monkeypatch.setattr(watch, "without_signals", broken)
    assert works_in_a_thread(run)


def test_handlers_of_signals_are_restored_after_an_error(queue: Queue) -> None:
    """Also when the run ends in an exception (the fixture of these tests compares)."""
    queue.enqueue("x", {})

    def handler(payload: Any) -> None:
        queue.path.write_text("no table\n")

    with pytest.raises(Exception, match="not a queue table"):
        queue.process_jobs({"x": handler})
