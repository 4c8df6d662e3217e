"""A child process that dies with the one that started it."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final

_SET_PDEATHSIG: Final = 1  # PR_SET_PDEATHSIG of linux/prctl.h


def die_with_parent(number: int) -> Callable[[], None] | None:
    """Return what a child calls to get this signal when the thread that forked it dies, prctl(2).

    None where there is no such call. All of it is prepared in the parent: a child that was forked
    beside other threads should import nothing.
    """
    try:
        import ctypes

        prctl = ctypes.CDLL(None).prctl
    except (ImportError, OSError, AttributeError, MemoryError):  # not Linux; or no memory to run in
        return None
    parent, getppid, leave = os.getpid(), os.getppid, os._exit

    def bind() -> None:
        prctl(_SET_PDEATHSIG, number)
        if getppid() != parent:  # which died before
            leave(1)

    return bind
