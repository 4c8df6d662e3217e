"""Children of handlers are not workers."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from actors import Diary, fork, in_child
from working import run_one, twice

from dbbasic_queue import Queue


def test_children_of_a_handler_die_of_sigterm(queue: Queue) -> None:
    """They are not workers: multiprocessing's terminate() ends them, as it would anywhere."""

    def handler(payload: Any) -> list[int]:
        program = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        program.terminate()
        codes = [program.wait(20)]
        for _ in range(20):  # the signal comes when the child has hardly been born
            worker = fork.Process(target=time.sleep, args=(60,))
            worker.start()
            worker.terminate()
            worker.join(20)
            codes.append(worker.exitcode or 0)
        return codes

    assert run_one(queue, handler)["result"] == [-signal.SIGTERM] * 21


def test_children_of_a_run_within_a_run_die_of_sigterm(queue: Queue, tmp_path: Path) -> None:
    """Both runs' signal handlers are gone in the child."""
    other = Queue(tmp_path / "other.tsv", "normal")
    other.enqueue("y", {})

    def inner(payload: Any) -> int:
        return in_child(lambda: signal.raise_signal(signal.SIGTERM))

    def outer(payload: Any) -> int:
        other.process_jobs({"y": inner})
        after = in_child(lambda: signal.raise_signal(signal.SIGTERM))
        assert after == -signal.SIGTERM
        return next(iter(other.list_jobs()))["result"]

    assert run_one(queue, outer)["result"] == -signal.SIGTERM


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_pool_of_processes_works_inside_a_handler(queue: Queue, method: str) -> None:
    """multiprocessing's Pool, which ends its processes by SIGTERM."""

    def handler(payload: Any) -> list[int]:
        with multiprocessing.get_context(method).Pool(2) as pool:
            return pool.map(abs, [-1, -2, -3])

    assert run_one(queue, handler)["result"] == [1, 2, 3]


def test_children_of_a_handler_may_enqueue(queue: Queue) -> None:
    """The queue survives the fork; the parent's claim on its job does, too."""

    def handler(payload: Any) -> list[int]:
        return [in_child(lambda: queue.enqueue("child", {})) for _ in range(3)]

    job = run_one(queue, handler, types=["x"])
    assert (job["status"], job["result"]) == ("completed", [0, 0, 0])
    assert queue.count_jobs()["pending"] == 3


@pytest.mark.parametrize(
    ("ending", "code"),
    [
        (lambda: None, 0),
        (lambda: sys.exit(), 0),
        (lambda: sys.exit(3), 3),
        (lambda: sys.exit("a reason"), 1),
        (lambda: 1 / 0, 1),
        (lambda: signal.raise_signal(signal.SIGTERM), -signal.SIGTERM),
    ],
    ids=["return", "exit", "exit 3", "exit with words", "raise", "signal"],
)
@pytest.mark.parametrize("timeout", [None, 20])
def test_a_child_that_comes_back_from_the_handler_is_no_second_worker(
    queue: Queue, diary: Diary, ending: Callable[[], Any], code: int, timeout: float | None
) -> None:
    """It ends there, with the exit code that Python would have given it."""
    queue.enqueue_many([("x", {})] * 2)

    def handler(payload: Any) -> int:
        diary.add("start")
        pid = os.fork()
        if pid == 0:
            ending()
            return -1
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    assert queue.process_jobs({"x": handler}, timeout=timeout).completed == 2
    assert [job["result"] for job in queue.list_jobs()] == [code, code]
    assert diary.lines() == ["start"] * 2


def test_a_second_signal_at_a_fork_is_not_lost(queue: Queue, own_handler: list[int]) -> None:
    """Python drops what is raised in a hook of os.fork: the job is broken off right after it."""
    real = signal.pthread_sigmask
    calls: list[int] = []

    def interrupted(how: int, mask: Any) -> Any:
        calls.append(how)
        if how == signal.SIG_SETMASK:
            signal.pthread_sigmask = real
            result = real(how, mask)
            twice()
            return result
        return real(how, mask)

    def handler(payload: Any) -> None:
        signal.pthread_sigmask = interrupted
        in_child(lambda: None)
        time.sleep(30)

    try:
        job = run_one(queue, handler)
    finally:
        signal.pthread_sigmask = real
    assert (job["status"], job["attempts"]) == ("pending", 0)
    assert calls == [signal.SIG_BLOCK, signal.SIG_BLOCK, signal.SIG_SETMASK]
