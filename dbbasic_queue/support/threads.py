"""Threads of ours: no signal is given to them."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_signals() -> Iterator[None]:
    """Block all signals in the threads that are started in this block.

    The kernel gives a signal of the process to any thread that does not block it (signal(7)): to
    another than the main thread when that has one to see to already. Python runs its handlers in
    the main thread, which would not hear of the signal while it waits in a read.

    >>> import threading
    >>> masks = []
    >>> thread = threading.Thread(target=lambda: masks.append(signal.pthread_sigmask(0, ())))
    >>> with without_signals():
    ...     thread.start()
    >>> thread.join(); signal.SIGTERM in masks[0], signal.SIGTERM in signal.pthread_sigmask(0, ())
    (True, False)
    """
    # Asked for first: the call that blocks them may end with what a signal's handler raises.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
