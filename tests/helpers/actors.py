"""Who plays in the tests of the upper layers: a clock to turn, and processes of their own."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import subprocess
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from dbbasic_queue import Queue
from dbbasic_queue.engines import open_engine
from dbbasic_queue.engines.interface import Engine, Seat

fork = multiprocessing.get_context("fork")
AT_ONCE = lambda attempts: 0  # noqa: E731  # a backoff for tests that have no minute to wait


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self, now: float = 1_700_000_000) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


_taken: list[Seat] = []


def sit(engine: Engine, places: int | None = None) -> Seat:
    """A worker's place, which `leave_all` leaves: one at a server has a thread."""
    seat = engine.seat(places)
    assert seat is not None
    _taken.append(seat)
    return seat


def leave_all() -> None:
    """Leave the places that the test has taken; to do so twice does no harm."""
    while _taken:
        _taken.pop().leave()


def queue_by(clock: Callable[[], float], address: str) -> Queue:
    """A queue by a clock that the test sets; on a server too, where `Queue` takes none."""
    queue = Queue(address, "normal")
    queue.engine = open_engine(address, "normal", clock=clock)
    return queue


class Script:
    """A program of its own, run by this Python: `say` and `hear` a line, then `end`."""

    def __init__(self, code: str, *args: object, **options: Any) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, *map(str, args)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )
        self.pid = self.process.pid
        self.out = self.err = ""

    def hear(self, expected: str) -> str:
        """The next line of its standard output, which has to begin like that."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline().rstrip("\n")
        if not line.startswith(expected):
            self.process.kill()
            raise AssertionError(f"{line!r}, not {expected!r}: {self.process.communicate()[1]}")
        return line

    def say(self, line: str) -> None:
        """Write a line to its standard input."""
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def signal(self, number: int) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def end(self) -> int:
        """Wait for its end; its exit code. What it wrote is in `out` and `err` then.

        Its standard input stays open: the end of that would be an answer to a handler that asks.
        """
        stdin, self.process.stdin = self.process.stdin, None
        try:
            self.out, self.err = self.process.communicate(timeout=60)
        finally:
            self.process.stdin = stdin
        if stdin is not None:
            stdin.close()
        return self.process.returncode


@contextmanager
def script(code: str, *args: object, **options: Any) -> Iterator[Script]:
    """A `Script` that is killed in any case."""
    actor = Script(code, *args, **options)
    try:
        yield actor
    finally:
        if actor.process.poll() is None:
            actor.process.kill()
            with suppress(subprocess.TimeoutExpired):  # its children may hold the pipes
                actor.process.communicate(timeout=10)


def start(function: Callable[..., Any], *args: Any) -> BaseProcess:
    """Run a function in a forked process."""
    process = fork.Process(target=function, args=args, daemon=True)
    process.start()
    return process


def join(*processes: BaseProcess, code: int = 0) -> None:
    """Wait for processes, which have to end with this code."""
    for process in processes:
        process.join(60)
        if process.exitcode is None:
            process.kill()
        assert process.exitcode == code, f"{process.name} ended with {process.exitcode}"


def in_child(function: Callable[[], Any]) -> int:
    """Run a function in a bare forked process; its exit code, negative for a signal."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            function()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def die(*args: object) -> None:
    """Die as by `kill -9`."""
    os.kill(os.getpid(), signal.SIGKILL)


class Diary:
    """A file to which every process adds whole lines.

    A write that a kill broke off, which may end anywhere, is not a line: each is between two marks.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()

    def add(self, *words: object) -> None:
        """Add one line, or several at once, in one write."""
        fd = os.open(self.path, os.O_WRONLY | os.O_APPEND)
        os.write(fd, f"\x02{' '.join(map(str, words))}\x03\n".encode())
        os.close(fd)

    def lines(self) -> list[str]:
        """All lines so far."""
        whole = re.findall("\x02([^\x02\x03]*)\x03", self.path.read_text(errors="replace"))
        return [line for text in whole for line in text.split("\n")]

    def count(self) -> Counter[str]:
        """How often each line was written."""
        return Counter(self.lines())


def columns(queue: Queue) -> list[list[str]]:
    """The live rows of the file, as a naive reader splits them."""
    lines = queue.path.read_text().split("\n")
    assert lines[-1] == "", "the file does not end in a newline"
    rows = [line.rstrip(" ").split("\t") for line in lines[1:-1] if line and line[0] != " "]
    return [row + [""] * (9 - len(row)) for row in rows]
