"""What a handler does to its process does not reach the next job, nor the worker."""

from __future__ import annotations

import asyncio
import contextvars
import decimal
import io
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from actors import script
from working import WORKER, run_one

from dbbasic_queue import Queue, current_job
from dbbasic_queue.worker import surroundings

# -- signals, masks, alarms ------------------------------------------------------------------------


def takes_over(number: int) -> Callable[[], Any]:
    return lambda: signal.signal(number, lambda *args: None)


async def serves() -> None:
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, lambda: None)
    await asyncio.sleep(0)


HABITS: dict[str, Callable[[], Any]] = {
    "TERM": takes_over(signal.SIGTERM),
    "INT": takes_over(signal.SIGINT),
    "HUP": takes_over(signal.SIGHUP),
    "USR1": takes_over(signal.SIGUSR1),
    "CHLD": takes_over(signal.SIGCHLD),
    "PIPE": lambda: signal.signal(signal.SIGPIPE, signal.SIG_DFL),
    "QUIT": takes_over(signal.SIGQUIT),
    "ignored": lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN),
    "default": lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL),
    "asyncio": lambda: asyncio.run(serves()),
    "blocked": lambda: signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGALRM]),
    "alarm": lambda: (takes_over(signal.SIGALRM)(), signal.alarm(60)),
    "wakeup": lambda: signal.set_wakeup_fd(-1),
}


def dispositions() -> list[Any]:
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGCHLD)
    return [
        *map(signal.getsignal, (*numbers, signal.SIGALRM, signal.SIGPIPE, signal.SIGQUIT)),
        signal.pthread_sigmask(signal.SIG_BLOCK, ()),
        signal.getitimer(signal.ITIMER_REAL),
    ]


@pytest.mark.parametrize("habit", HABITS)
def test_signals_are_for_the_next_job_what_they_were(queue: Queue, habit: str) -> None:
    """Taken over, ignored, blocked, or used for an alarm: as they were for the first."""
    seen: list[list[Any]] = []

    def handler(payload: Any) -> None:
        seen.append(dispositions())
        HABITS[habit]()

    queue.enqueue_many([("x", {})] * 2)
    assert queue.process_jobs({"x": handler}).completed == 2
    assert seen[0] == seen[1]


@pytest.mark.parametrize("habit", ["default", "asyncio", "blocked"])
def test_a_worker_stops_when_told_whatever_a_handler_did(queue: Queue, habit: str) -> None:
    """SIGTERM lets the job in hand finish, although the job before has taken it over."""
    habits = {
        "default": "signal.signal(signal.SIGTERM, signal.SIG_DFL)",
        "asyncio": "asyncio.run(serve())",
        "blocked": "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])",
    }
    code = WORKER + (
        "async def serve():\n"
        "    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, lambda: None)\n"
        f"def habit(payload): {habits[habit]}\n"
        "queue.process_jobs({'habit': habit, 'ask': ask})\n"
    )
    queue.enqueue("habit", {})
    job_id = queue.enqueue("ask", {})
    with script(code, queue.path) as worker:
        worker.hear("started")
        worker.signal(signal.SIGTERM)
        worker.say("the end")
        assert worker.end() == 0
    assert queue.get_job(job_id)["result"] == "the end"


def test_a_time_limit_holds_whatever_the_job_before_did(queue: Queue) -> None:
    """SIGALRM was blocked, and its handler taken over."""

    def habit(payload: Any) -> None:
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])

    queue.enqueue("habit", {})
    job_id = queue.enqueue("slow", {})
    handlers = {"habit": habit, "slow": lambda payload: time.sleep(30)}
    queue.process_jobs(handlers, 1, timeout={"slow": 0.05})
    assert queue.get_job(job_id)["error"].startswith("JobTimeout")


def test_a_forgotten_alarm_does_not_end_the_worker(queue: Queue) -> None:
    """`signal.alarm` without a handler ends a process, which would be the job's own fault only."""

    def forgets(payload: Any) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0.05)

    def waits(payload: Any) -> None:
        time.sleep(0.2)

    queue.enqueue("forgets", {})
    queue.enqueue("waits", {})
    assert queue.process_jobs({"forgets": forgets, "waits": waits}).completed == 2


# -- the log ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ITIMER_PROF", "ITIMER_VIRTUAL"])
def test_a_forgotten_timer_of_a_profiler_does_not_end_the_worker(queue: Queue, name: str) -> None:
    """It counts the time of the processor, so that it goes off in a job that works."""

    def forgets(payload: Any) -> None:
        signal.setitimer(getattr(signal, name), 0.02)

    def works(payload: Any) -> None:
        end = time.process_time() + 0.2
        while time.process_time() < end:
            pass

    queue.enqueue_many([("forgets", {}), ("works", {})])
    assert queue.process_jobs({"forgets": forgets, "works": works}).completed == 2


@pytest.mark.parametrize("habit", ["handlers", "filter"])
def test_the_log_keeps_its_outlets(queue: Queue, habit: str) -> None:
    """As programs take the handlers off all loggers that there are, to have their own instead."""
    log, told = logging.getLogger("dbbasic_queue"), io.StringIO()
    outlet = logging.StreamHandler(told)

    def handler(payload: Any) -> None:
        if habit == "handlers":
            log.handlers = []
        else:
            log.addFilter(lambda record: False)
        raise ValueError("boom")

    before = list(log.handlers)
    log.addHandler(outlet)
    try:
        run_one(queue, handler)
        assert (log.handlers, log.filters) == ([*before, outlet], [])
    finally:
        log.removeHandler(outlet)
    assert "ValueError: boom" in told.getvalue()


@pytest.mark.parametrize("habit", ["disabled", "all"])
def test_the_worker_goes_on_logging(
    queue: Queue, habit: str, caplog: pytest.LogCaptureFixture
) -> None:
    """As `logging.config` switches off all loggers that are there, or a handler does it."""

    def handler(payload: Any) -> None:
        if habit == "disabled":
            logging.getLogger("dbbasic_queue").disabled = True
        else:
            logging.disable()
        raise ValueError("boom")

    run_one(queue, handler)
    assert "ValueError: boom" in caplog.text


# -- contexts --------------------------------------------------------------------------------------


def test_context_variables_do_not_leak(queue: Queue) -> None:
    """What a handler sets in its context, the next does not find, nor does the program."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("tenant", default="none")
    seen: list[str] = []

    def handler(payload: Any) -> None:
        seen.append(variable.get())
        variable.set("mine")

    queue.enqueue_many([("x", {})] * 2)
    queue.process_jobs({"x": handler})
    assert [*seen, variable.get()] == ["none"] * 3


def test_decimal_contexts_do_not_leak(queue: Queue) -> None:
    """Also when the context is changed in place, as programs do."""
    decimal.getcontext().prec = 28
    seen: list[int] = []

    def handler(payload: Any) -> None:
        seen.append(decimal.getcontext().prec)
        decimal.getcontext().prec = 3

    queue.enqueue_many([("x", {})] * 2)
    queue.process_jobs({"x": handler})
    assert [*seen, decimal.getcontext().prec] == [28] * 3


# -- threads ---------------------------------------------------------------------------------------


def test_threads_of_a_handler_can_ask_for_the_job(queue: Queue) -> None:
    """`current_job` in a thread that the handler has started, with no context handed over."""
    seen: list[str] = []

    def handler(payload: Any) -> None:
        thread = threading.Thread(target=lambda: seen.append(current_job().id))
        thread.start()
        thread.join()

    assert [run_one(queue, handler)["id"]] == seen


LEAVES_A_THREAD = """
import sys, threading, time, logging
from dbbasic_queue import Queue
from dbbasic_queue.worker import loop, options, surroundings
logging.basicConfig(stream=sys.stderr)
surroundings.TELL_AFTER = 0.05
queue = Queue(sys.argv[1], "normal")
def leaves(payload): threading.Thread(target=time.sleep, args=(600,), name="left").start()
def pools(payload):
    import atexit
    from concurrent.futures import ThreadPoolExecutor
    global pool
    pool = ThreadPoolExecutor(1)
    pool.submit(print, "pooled", flush=True).result()
    atexit.register(print, "at exit", flush=True)
handlers = {"leaves": leaves, "pools": pools}
print(loop.work(queue.engine, handlers, options.Options(), places=1).completed, flush=True)
surroundings.end_in_time(5, grace=float(sys.argv[2]))
sys.exit(5)
"""


def test_a_thread_left_behind_keeps_no_place_and_does_not_keep_the_program(queue: Queue) -> None:
    """The worker's place is free when its work is done, and the program ends in time."""
    queue.enqueue("pools", {})
    queue.enqueue("leaves", {})
    with script(LEAVES_A_THREAD, queue.path, 2) as worker:
        worker.hear("pooled")
        worker.hear("2")
        seat = queue.engine.seat(places=1)
        assert seat is not None
        seat.leave()
        assert worker.end() == 5
    assert "waiting up to 2 s for threads that handlers have left behind: left" in worker.err
    assert "at exit" in worker.out


def test_a_pool_of_threads_ends_with_the_program(queue: Queue) -> None:
    """Threads that end when they are told, as those of a pool do, are not waited for."""
    queue.enqueue("pools", {})
    with script(LEAVES_A_THREAD, queue.path, 60) as worker:
        worker.hear("pooled")
        worker.hear("1")
        assert worker.end() == 5
    assert "left behind" not in worker.err


# -- standard streams ------------------------------------------------------------------------------


def test_what_a_forked_child_prints_is_printed_once(queue: Queue, tmp_path: Path) -> None:
    """A child that comes back from the handler has its output written, and not its parent's."""
    code = WORKER + (
        "sys.stdout = open(sys.argv[2], 'w')\n"
        "def forks(payload):\n"
        "    print('parent')\n"
        "    if os.fork() == 0:\n"
        "        print('child'); return\n"
        "    os.wait()\n"
        "queue.process_jobs({'forks': forks})\n"
    )
    queue.enqueue("forks", {})
    with script(code, queue.path, tmp_path / "out") as worker:
        assert worker.end() == 0
    assert (tmp_path / "out").read_text().split() == ["parent", "child"]


CLOSES = {
    "closed": "sys.stderr.close(); sys.stdout.close()",
    "descriptors-closed": "os.close(1); os.close(2)",
    "all-closed": "os.closerange(0, 3)",
    "used-for-a-file": "os.close(1); os.close(2); KEPT.extend(open(os.devnull, 'w') for _ in '12')",
    "led-elsewhere": "os.dup2(NULL, 1); os.dup2(NULL, 2)",
    "exchanged": "sys.stderr = sys.stdout = open(os.devnull, 'w')",
    "detached": "sys.stderr.detach(); sys.stdout.detach()",
    "wrapped-anew": "sys.stdout, sys.stderr = (WRAP(f.detach()) for f in (sys.stdout, sys.stderr))",
    "opened-anew": "sys.stdout, sys.stderr = os.fdopen(1, 'w'), os.fdopen(2, 'w')",
}


@pytest.mark.parametrize("habit", CLOSES)
def test_what_a_handler_does_to_its_streams_ends_with_it(queue: Queue, habit: str) -> None:
    """Closed or exchanged: the next job prints as the first did, and the run goes on."""
    code = WORKER + (
        "from io import TextIOWrapper as WRAP\n"
        "KEPT, NULL = [], os.open(os.devnull, os.O_RDWR)\n"
        f"def habit(payload): {CLOSES[habit]}\n"
        "def prints(payload): print('out'); print('err', file=sys.stderr); return 'printed'\n"
        "queue.process_jobs({'habit': habit, 'prints': prints})\n"
    )
    queue.enqueue("habit", {})
    job_id = queue.enqueue("prints", {})
    with script(code.replace("logging.basicConfig", "dict"), queue.path) as worker:
        worker.end()
    assert queue.get_job(job_id)["status"] == "completed"
    assert worker.out == "out\n"
    assert "err\n" in worker.err


def test_another_file_in_the_place_of_a_plain_one_is_noticed(queue: Queue, tmp_path: Path) -> None:
    """As with `>> worker.log` in a crontab: a file of the handler gets nothing that is printed."""
    code = WORKER + (
        "from dbbasic_queue.worker import surroundings\n"
        "KEPT = []\n"
        "surroundings.LOOK = surroundings.SWAP = 3600  # a plain file needs no thorough look\n"
        "def habit(payload):\n"
        "    os.close(1); KEPT.append(os.open('mine', os.O_WRONLY | os.O_APPEND | os.O_CREAT))\n"
        "    os.set_inheritable(1, True)\n"
        "def prints(payload): print('out', flush=True)\n"
        "queue.process_jobs({'habit': habit, 'prints': prints})\n"
    )
    queue.enqueue("habit", {})
    queue.enqueue("prints", {})
    with (tmp_path / "worker.log").open("a") as log:
        command = [sys.executable, "-c", code, str(queue.path)]
        subprocess.run(command, cwd=tmp_path, stdout=log, stdin=log, check=True)
    assert (tmp_path / "worker.log").read_text() == "out\n"
    assert (tmp_path / "mine").read_text() == ""


def test_another_pipe_in_the_place_of_a_pipe_is_noticed(queue: Queue) -> None:
    """What catches a job's output catches nothing of the next job's, however short the job was."""
    code = WORKER + (
        "from dbbasic_queue.worker import surroundings\n"
        "KEPT, surroundings.LOOK = [], 3600  # it is noticed by the job's own duration\n"
        "def habit(payload):\n"
        "    KEPT.extend(os.pipe()); os.dup2(KEPT[1], 1)\n"
        "def prints(payload): print('out', flush=True)\n"
        "queue.process_jobs({'habit': habit, 'prints': prints})\n"
    )
    queue.enqueue("habit", {})
    queue.enqueue("prints", {})
    with script(code, queue.path) as worker:
        worker.end()
    assert worker.out == "out\n"


def test_a_pipe_is_written_to_as_before(queue: Queue) -> None:
    """What asyncio does to a pipe (O_NONBLOCK) makes no error of the next job's print."""
    code = WORKER + (
        "def habit(payload): os.set_blocking(1, False)\n"
        "def looks(payload): return os.get_blocking(1)\n"
        "queue.process_jobs({'habit': habit, 'looks': looks})\n"
    )
    queue.enqueue("habit", {})
    job_id = queue.enqueue("looks", {})
    with script(code, queue.path) as worker:
        worker.end()
    assert queue.get_job(job_id)["result"] is True


def test_the_next_job_runs_in_the_folder_and_with_the_umask_of_the_first(
    queue: Queue, tmp_path: Path
) -> None:
    """A handler that goes elsewhere, or lets others write its files, does so for itself."""
    code = WORKER + (
        "def habit(payload): os.chdir('/'); os.umask(0)\n"
        "def looks(payload): return [os.getcwd(), os.umask(0o22)]\n"
        "os.umask(0o27)\n"
        "queue.process_jobs({'habit': habit, 'looks': looks})\n"
    )
    queue.enqueue("habit", {})
    job_id = queue.enqueue("looks", {})
    with script(f"import os; os.chdir({str(tmp_path)!r})\n{code}", queue.path) as worker:
        worker.end()
    assert queue.get_job(job_id)["result"] == [str(tmp_path), 0o27]


@pytest.mark.parametrize("files", [0, 12], ids=["closed", "taken-by-files"])
@pytest.mark.parametrize("end", [256, 65536])
def test_a_handler_that_closes_every_descriptor_harms_no_job(
    queue: Queue, tmp_path: Path, files: int, end: int
) -> None:
    """As a daemon does: the run goes on, and no file that the handler opens is written into."""
    code = WORKER + (
        "KEPT = []\n"
        "def habit(payload):\n"
        f"    os.closerange(3, {end})\n"
        f"    KEPT.extend(open(f'kept{{n}}', 'w') for n in range({files}))\n"
        "def fails(payload): raise ValueError('boom')\n"
        "done = queue.process_jobs({'habit': habit, 'fails': fails}, max_attempts=1)\n"
        "os.write(1, b'%d %d' % (done.completed, done.failed))\n"
    )
    queue.enqueue("habit", {})
    queue.enqueue("fails", {})
    with script(f"import os; os.chdir({str(tmp_path)!r})\n{code}", queue.path) as worker:
        worker.end()
    assert worker.out.endswith("1 1")
    assert [job["status"] for job in queue.list_jobs()] == ["completed", "failed"]
    assert not any(file.read_bytes() for file in tmp_path.glob("kept*"))


@pytest.mark.parametrize("left", [0, 1, 2, 3])
def test_a_job_that_leaves_no_descriptor_free_is_done_once(queue: Queue, left: int) -> None:
    """Its end is written, with whatever has to be opened for it; the next start goes on."""
    code = WORKER + (
        "import resource\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))\n"
        "KEPT = []\n"
        "def leaks(payload):\n"
        "    queue.path.parent.joinpath('another').touch()  # so the folder is looked at again\n"
        "    try:\n"
        "        while True: KEPT.append(os.open('/dev/null', os.O_RDONLY))\n"
        "    except OSError:\n"
        "        for _ in range(payload['left']): os.close(KEPT.pop())\n"
        "done = queue.process_jobs({'leaks': leaks})\n"
        "os.write(1, b'%d' % done.completed)\n"
    )
    for job_id in ("one", "two"):
        queue.enqueue("leaks", {"left": left}, job_id=job_id)
    for status in ("pending", "completed"):
        with script(code, queue.path) as worker:
            worker.end()
        assert worker.out == "1", worker.err
        assert "takes no more jobs" in worker.err
        assert [job["status"] for job in queue.list_jobs()] == ["completed", status]


@pytest.mark.parametrize("files", [0, 12], ids=["closed", "taken-by-files"])
def test_a_coroutine_gets_a_loop_after_every_descriptor_was_closed(
    queue: Queue, tmp_path: Path, files: int
) -> None:
    """The event loop waits by descriptors, too: the next job has a loop that works."""
    code = WORKER + (
        "import asyncio\n"
        "KEPT = []\n"
        "def habit(payload):\n"
        "    os.closerange(3, 256)\n"
        f"    KEPT.extend(open(f'kept{{n}}', 'w') for n in range({files}))\n"
        "async def sleeps(payload): await asyncio.sleep(0.01)\n"
        "handlers = {'habit': habit, 'sleeps': sleeps}\n"
        "print(queue.process_jobs(handlers, max_attempts=1).completed)\n"
        "for file in KEPT: file.write('mine'); file.close()\n"
    )
    queue.enqueue_many([("sleeps", {}), ("habit", {}), ("sleeps", {})])
    with script(f"import os; os.chdir({str(tmp_path)!r})\n{code}", queue.path) as worker:
        assert worker.end() == 0
    assert worker.out == "3\n"
    assert [file.read_text() for file in tmp_path.glob("kept*")] == ["mine"] * files


def test_closed_streams_are_no_trouble() -> None:
    """Whatever a handler has put in the place of standard output."""
    before, sys.stdout = sys.stdout, None
    try:
        surroundings.flush()
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - closed here
        sys.stdout.close()
        surroundings.flush()
    finally:
        sys.stdout = before
