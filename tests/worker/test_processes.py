"""Several worker processes: each behaves as one does."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
from actors import script

from dbbasic_queue import Queue

PROCESSES = """
import atexit, logging, multiprocessing, os, signal, sys, time
from dbbasic_queue import ConfigError, Queue, Summary
from dbbasic_queue.worker import loop, options
from dbbasic_queue.worker.processes import WorkerProcesses
logging.basicConfig(stream=sys.stderr, level=logging.INFO)
before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)]

def tell(*words):
    print(*words, flush=True)

def end(processes, answer):
    after = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)]
    assert after == before
    tell("end", answer[0].completed, answer[0].failed, answer[1], processes.lost)

def run(work, count=2):
    processes = WorkerProcesses(count, work)
    end(processes, processes.run())
"""


def lines_of(code: str, *args: object) -> list[str]:
    """The lines of a program with several workers; it has to end well."""
    with script(PROCESSES + code, *args) as program:
        assert program.end() == 0, program.err
    return [*program.out.splitlines(), *program.err.splitlines()]


def test_summaries_are_added_up() -> None:
    """What the children did is one summary, and none failed."""
    code = "run(lambda number, signals: Summary(completed=number, failed=1), 3)"
    assert lines_of(code) == ["end 3 3 0 0"]


def test_a_child_that_raises_is_counted_and_logged() -> None:
    """An exception in a child is one failure; the others' work counts."""
    said = lines_of(
        "def work(number, signals):\n"
        "    if number == 0: raise OSError('disk full')\n"
        "    return Summary(completed=1)\n"
        "run(work)\n"
    )
    assert said[0] == "end 1 0 1 0"
    assert "OSError: disk full" in said


@pytest.mark.parametrize(
    ("end", "numbers", "words"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "end 1 0 1 1", "was killed by signal 9"),
        ("os._exit(3)", "end 1 0 1 1", "with exit code 3: did a handler call os._exit?"),
        ("os._exit(0)", "end 1 0 1 1", "with exit code 0: did a handler call os._exit?"),
    ],
)
def test_a_child_that_ends_without_a_word_is_noticed(end: str, numbers: str, words: str) -> None:
    """Killed, or ended by a handler: it is said, and its job may have to be taken back."""
    said = lines_of(
        "def work(number, signals):\n"
        f"    if number == 0: {end}\n"
        "    return Summary(completed=1)\n"
        "run(work)\n"
    )
    assert said[0] == numbers
    assert words in said[1]


def test_a_fault_of_the_config_is_told_once() -> None:
    """As when the handlers cannot be loaded, which each process does for itself."""
    said = lines_of(
        "def work(number, signals): raise ConfigError('jobs: no such module')\n"
        "try: run(work)\n"
        "except ConfigError as error: tell(error)\n"
    )
    assert said == ["jobs: no such module"]


def test_a_child_ends_as_a_program_ends() -> None:
    """Exit functions are run, output is written, daemons of `multiprocessing` are ended."""
    said = lines_of(
        "def work(number, signals):\n"
        "    atexit.register(print, 'at exit')\n"
        "    daemon = multiprocessing.Process(target=time.sleep, args=(600,), daemon=True)\n"
        "    daemon.start()\n"
        "    print('daemon', daemon.pid)\n"
        "    return Summary()\n"
        "run(work, 1)\n"
    )
    daemon = int(next(line for line in said if line.startswith("daemon")).split()[1])
    assert "at exit" in said
    assert not Path(f"/proc/{daemon}").exists()


def test_programs_of_a_handler_die_of_sigterm() -> None:
    """What a handler starts does not inherit the deafness of its worker."""
    said = lines_of(
        "def work(number, signals):\n"
        "    child = os.fork()\n"
        "    if child == 0: os.execvp('sleep', ['sleep', '60'])\n"
        "    os.kill(child, signal.SIGTERM)\n"
        "    return Summary(completed=os.WTERMSIG(os.waitpid(child, 0)[1]))\n"
        "run(work, 1)\n"
    )
    assert said == [f"end {int(signal.SIGTERM)} 0 0 0"]


def test_what_a_handler_forks_holds_nothing_up() -> None:
    """A daemon of a handler inherits the pipe of the child; the others end all the same."""
    said = lines_of(
        "daemons, out = os.pipe()\n"
        "def work(number, signals):\n"
        "    daemon = os.fork()\n"
        "    if daemon == 0:\n"
        "        os.close(1); os.close(2)\n"
        "        signal.pause()\n"
        "    os.write(out, b'%d' % daemon)\n"
        "    return Summary(completed=1)\n"
        "run(work, 1)\n"
        "os.kill(int(os.read(daemons, 100)), signal.SIGKILL)\n"
    )
    assert said == ["end 1 0 0 0"]


def test_signals_come_to_children_that_are_there(queue: Queue) -> None:
    """A signal that comes when a child has just ended goes to no process that is not ours."""
    said = lines_of(
        "kill, waitpid = os.kill, os.waitpid\n"
        "gone = set()\n"
        "def killing(pid, number):\n"
        "    assert pid not in gone, 'a signal for a process that was taken note of'\n"
        "    kill(pid, number)\n"
        "def waiting(pid, options):\n"
        "    answer = waitpid(pid, options)\n"
        "    if answer[0]:\n"
        "        gone.add(pid)\n"
        "        kill(os.getpid(), signal.SIGTERM)\n"
        "    return answer\n"
        "os.kill, os.waitpid = killing, waiting\n"
        "run(lambda number, signals: Summary(completed=1), 3)\n"
    )
    assert said == ["end 3 0 0 0"]


WAITING = """
queue = Queue(sys.argv[1], "normal")
def wait(payload):
    tell("started")
    while True: time.sleep(0.01)
def child(number, signals):
    chosen = options.Options(linger=600)
    return loop.work(queue.engine, {"wait": wait}, chosen, signals, 2)
run(child)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["TERM", "INT"])
def test_a_second_signal_puts_the_job_back(queue: Queue, number: int) -> None:
    """The children say what they finish; a second signal breaks it off, the attempt refunded."""
    job_id = queue.enqueue("wait", {})
    with script(PROCESSES + WAITING, queue.path) as program:
        program.hear("started")
        program.signal(number)
        assert program.process.stderr is not None
        for line in program.process.stderr:
            if f"finishing wait {job_id} first; a second signal breaks it off" in line:
                break
        program.signal(number)
        assert program.end() == 0
    job: dict[str, Any] = queue.get_job(job_id)
    assert (job["status"], job["attempts"]) == ("pending", 0)
    assert f"put back wait {job_id}" in program.err


def test_a_job_whose_process_was_ended_by_its_handler_is_not_lost(queue: Queue) -> None:
    """Each process loads what it needs by itself; what one leaves behind is taken back."""
    job_id = queue.enqueue("die", {})
    said = lines_of(
        "queue = Queue(sys.argv[1], 'normal')\n"
        "def child(number, signals):\n"
        "    handlers = {'die': lambda payload: os._exit(1)}\n"
        "    return loop.work(queue.engine, handlers, options.Options(1), signals, 2)\n"
        "run(child)\n"
        "loop.rescue(queue.engine, {}, options.Options(1))\n",
        queue.path,
    )
    assert said[0].endswith(" 1 1")  # its process has failed, and may have left a job behind
    assert queue.get_job(job_id)["status"] == "failed"
    assert [row.failed for row in queue.history()] == [1]
