"""Forked children: the victims, and the fresh processes that look at what they left."""

from __future__ import annotations

import logging
import os
import pickle
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Any, NamedTuple

PATIENCE = 30  # seconds; a child that takes longer is blocked


class End(NamedTuple):
    """How a child ended."""

    signal: int  # that killed it, or 0
    told: list[Any]  # what it has told, in order

    @property
    def blocked(self) -> bool:
        """Whether it was still waiting for something when its time was up."""
        return self.signal == signal.SIGALRM


def run(function: Callable[[Callable[[Any], None]], None]) -> End:
    """Run `function(tell)` in a child; what it tells arrives even if it is killed thereafter.

    An exception that it raises ends the harness: nothing here may raise unnoticed.
    """
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        _in_child(function, os.fdopen(writer, "wb", buffering=0))
    os.close(writer)
    told = []
    with os.fdopen(reader, "rb") as pipe:
        while True:
            try:
                told.append(pickle.load(pipe))
            except (EOFError, pickle.UnpicklingError):
                break
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        return End(os.WTERMSIG(status), told)
    if os.WEXITSTATUS(status):
        raise RuntimeError(f"the harness failed in a child:\n{told[-1] if told else '(no word)'}")
    return End(0, told)


def _in_child(function: Callable[[Callable[[Any], None]], None], pipe: Any) -> None:
    logging.disable(logging.CRITICAL)
    write = pipe.write  # taken before a shim takes its place

    def tell(what: Any) -> None:
        write(pickle.dumps(what))

    code = 1
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(PATIENCE)
        function(tell)
        code = 0
    except BaseException:
        tell(traceback.format_exc())
    finally:
        sys.stdout.flush()
        os._exit(code)
