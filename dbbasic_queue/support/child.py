"""A call in a child process: within a time limit, as another user, or both.

A signal handler or a thread cannot keep a time limit: a process that waits for a dead network file
system or a broken disk hears no signal. A change of user cannot be taken back, and must not be. So
the call is made in a child process, and the parent waits for it no longer than the limit.
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

from .account import Account

T = TypeVar("T")

GRACE: Final = 0.5  # seconds of its time that the child has for tidying up
REAP: Final = 0.1  # seconds to wait for the end of a child that was killed


class ChildTimeout(Exception):
    """The call was not over in time."""


class ChildDied(Exception):
    """The process in which the call was made ended without an answer; the message says how."""


def call(function: Callable[[], T], seconds: float, *, user: Account | None = None) -> T:
    """Return what `function` returns when it is called in a child process.

    The child's standard streams lead to /dev/null. What it returns or raises is pickled. A child
    that has changed its user is safe from other processes of that user, which could otherwise
    choose what is pickled: the kernel lets none of them trace it (ptrace(2), PR_SET_DUMPABLE).

    Args:
        function: takes no argument; may be a closure.
        seconds: after which the child is killed. Shortly before, `ChildTimeout` is raised in the
            child, so that it can tidy up.
        user: the user that the child becomes for good before it calls, with all groups. Only root
            can become another user.

    Raises what `function` raises, `ChildTimeout`, `ChildDied` (killed, out of memory), or
    `PermissionError` when this process cannot become that user.

    >>> call(lambda: 6 * 7, seconds=5)
    42
    """
    until = time.monotonic() + seconds
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        _answer(writer, function, max(seconds - GRACE, seconds / 2), user)
    os.close(writer)
    try:
        answer = _read(reader, until)
    finally:
        os.close(reader)
        status = _end(pid)
    value: T = _outcome(answer, status, over=time.monotonic() >= until)
    return value


def _read(reader: int, until: float) -> bytes:
    """Return all that the child writes until it ends or its time is over."""
    answer = b""
    while (left := until - time.monotonic()) > 0:
        if select.select([reader], [], [], left)[0]:
            piece = os.read(reader, 1 << 16)
            if not piece:
                break
            answer += piece
    return answer


def _end(pid: int) -> int | None:
    """Kill the child if it still runs; return its exit code, or None if it is not known.

    The wait has an end, as a child that waits for a dead disk cannot even be killed.
    """
    until = time.monotonic() + REAP
    try:
        while time.monotonic() < until:
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status)
            os.kill(pid, signal.SIGKILL)
            time.sleep(0.001)
    except ChildProcessError:  # the program ignores SIGCHLD, so the kernel took the child away
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


def _answer(
    writer: int, function: Callable[[], Any], seconds: float, user: Account | None
) -> NoReturn:
    """Call, write the outcome and end: the whole life of the child."""
    try:
        # No process may have to wait for this one because it holds the other end of a pipe.
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        sys.stdin, sys.stdout, sys.stderr = sys.__stdin__, sys.__stdout__, sys.__stderr__
        signal.signal(signal.SIGALRM, _ring)
        signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.001))
        outcome: tuple[BaseException | None, Any]
        try:
            if user is not None and not user.is_me:
                _become(user)
            outcome = None, function()
        except BaseException as error:  # for the parent to raise, whatever it is
            outcome = error, None
        signal.setitimer(signal.ITIMER_REAL, 0)
        with os.fdopen(writer, "wb") as pipe:
            pipe.write(_pickled(outcome))
    finally:
        os._exit(0)


def _become(user: Account) -> None:
    os.setgroups(user.groups)
    os.setresgid(user.gid, user.gid, user.gid)
    os.setresuid(user.uid, user.uid, user.uid)


def _ring(number: int, frame: FrameType | None) -> NoReturn:
    raise ChildTimeout


def _pickled(outcome: tuple[BaseException | None, Any]) -> bytes:
    try:
        answer = pickle.dumps(outcome)
        pickle.loads(answer)
    except Exception as fault:  # pickle cannot bring it back; its type and text can be told
        error = outcome[0] or fault
        answer = pickle.dumps((RuntimeError(f"{type(error).__name__}: {error}"), None))
    return answer
