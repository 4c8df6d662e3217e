"""A call that is over when its time is over, whatever it waits for.

A signal handler or a thread cannot promise that: a process that waits for a dead network file
system or a broken disk hears no signal. So the call is made in a child process, and the parent
waits for it no longer than it has to.
"""

from __future__ import annotations

import os
import pickle
import select
import signal
import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, Final, NoReturn, TypeVar

T = TypeVar("T")

GRACE: Final = 0.5  # seconds of its time in which a child may tidy up
REAP: Final = 0.1  # seconds to wait for the end of a child that was killed


class ChildTimeout(Exception):
    """The call was not over in time."""


class ChildDied(Exception):
    """The process in which the call was made ended without an answer; the message says how."""


def call(function: Callable[[], T], seconds: float) -> T:
    """What `function` returns, or raises, when called in a child process.

    The child's standard output and error lead nowhere. What it returns or raises is pickled.

    Args:
        function: takes nothing; may be a closure.
        seconds: after which the child is killed. A moment before, `ChildTimeout` is raised in it,
            so that it can tidy up.

    Raises what `function` raises, `ChildTimeout`, or `ChildDied` (killed, out of memory).

    >>> call(lambda: 6 * 7, seconds=5)
    42
    """
    until = time.monotonic() + seconds
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        _answer(writer, function, max(seconds - GRACE, seconds / 2))
    os.close(writer)
    try:
        answer = _read(reader, until)
    finally:
        os.close(reader)
        status = _end(pid)
    value: T = _outcome(answer, status, over=time.monotonic() >= until)
    return value


def _read(reader: int, until: float) -> bytes:
    """All that the child writes until it ends or its time is over."""
    answer = b""
    while (left := until - time.monotonic()) > 0:
        if select.select([reader], [], [], left)[0]:
            piece = os.read(reader, 1 << 16)
            if not piece:
                break
            answer += piece
    return answer


def _end(pid: int) -> int | None:
    """Kill the child if it still runs; its exit code, or None.

    Not waited for without end: one that waits for a dead disk cannot even be killed.
    """
    until = time.monotonic() + REAP
    try:
        while time.monotonic() < until:
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status)
            os.kill(pid, signal.SIGKILL)
            time.sleep(0.001)
    except ChildProcessError:  # the program ignores SIGCHLD: the kernel has seen to it
        pass
    return None


def _outcome(answer: bytes, status: int | None, *, over: bool) -> Any:
    try:
        error, value = pickle.loads(answer)
    except (EOFError, pickle.UnpicklingError):
        if over:
            raise ChildTimeout from None
        raise ChildDied(_how(status)) from None
    if error is not None:
        raise error
    return value


def _how(status: int | None) -> str:
    if status is None:
        return "ended"
    if status >= 0:
        return f"ended with exit code {status}"
    return f"was killed by signal {-status} ({signal.Signals(-status).name})"


def _answer(writer: int, function: Callable[[], Any], seconds: float) -> NoReturn:
    """In the child: call, write the outcome, end."""
    try:
        _be_silent()
        signal.signal(signal.SIGALRM, _ring)
        signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.001))
        outcome: tuple[BaseException | None, Any]
        try:
            outcome = None, function()
        except BaseException as error:  # handed on to the parent, whatever it is
            outcome = error, None
        signal.setitimer(signal.ITIMER_REAL, 0)
        with os.fdopen(writer, "wb") as pipe:
            pipe.write(_pickled(outcome))
    finally:
        os._exit(0)


def _be_silent() -> None:
    """Nobody must wait for this process because it has their pipe open."""
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    sys.stdin, sys.stdout, sys.stderr = sys.__stdin__, sys.__stdout__, sys.__stderr__


def _ring(number: int, frame: FrameType | None) -> NoReturn:
    raise ChildTimeout


def _pickled(outcome: tuple[BaseException | None, Any]) -> bytes:
    try:
        answer = pickle.dumps(outcome)
        pickle.loads(answer)
    except Exception as fault:  # an exception with arguments of its own: its text will do
        error = outcome[0] or fault
        answer = pickle.dumps((RuntimeError(f"{type(error).__name__}: {error}"), None))
    return answer
