"""A terminal that is put back as it was, also when the program that draws on it is killed."""

from __future__ import annotations

import os
import signal
import termios
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

LAST_WORD: Final = b"."
DEAF: Final = (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP, signal.SIGTTOU)


@contextmanager
def put_back(terminal: int, closing: bytes) -> Iterator[None]:
    """Have a child put the terminal back if this process ends within the block.

    Args:
        terminal: a descriptor of it.
        closing: what is written to it then, so that it leaves the state that the program needs.
    """
    before = termios.tcgetattr(terminal)
    listens, speaks = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(speaks)
            for number in DEAF:
                signal.signal(number, signal.SIG_IGN)
            if os.read(listens, 1) != LAST_WORD:
                with suppress(OSError, termios.error):  # the terminal is gone as well
                    os.write(terminal, closing)
                    termios.tcsetattr(terminal, termios.TCSANOW, before)
        finally:
            os._exit(0)
    os.close(listens)
    try:
        yield
    finally:
        with suppress(OSError):  # the child was killed
            os.write(speaks, LAST_WORD)
        os.close(speaks)
        os.waitpid(child, 0)
