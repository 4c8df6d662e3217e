"""Looks once a second whether the job in hand is to be broken off: `dbq cancel --running`.

One thread for a run, which sleeps: it costs a job that is over within a second nothing. It also
tells a service manager, if there is one, which job runs, and does what else is to be done now and
then while a job runs.
"""

from __future__ import annotations

import _thread
import logging
import threading
import time
from collections.abc import Callable
from typing import Final

from ..engines.interface import Seat
from ..errors import StorageError
from ..support.threads import without_signals
from . import signals as interrupts
from . import status
from .signals import StopSignals

log = logging.getLogger("dbbasic_queue")

LOOK_EVERY: Final = 1.0  # seconds


class Watch:
    """Watches the jobs of one run, from `start` to `stop`, and calls `also` each second."""

    def __init__(self, seat: Seat, signals: StopSignals, also: Callable[[], object]) -> None:
        self._seat = seat
        self._also = also
        self._signals = signals
        self._looks = True
        self._over = _thread.allocate_lock()  # held until the run is over
        self._began = False  # by the thread
        self._gone = _thread.allocate_lock()  # held until the thread is gone
        self._gone.acquire()

    def start(self) -> None:
        """Begin to look; not at the jobs of a thread, which no signal can break off."""
        self._looks = threading.current_thread() is threading.main_thread()
        self._over.acquire()
        with without_signals():
            _thread.start_new_thread(self._run, ())

    def stop(self) -> None:
        """Look no more; the thread is gone when this returns.

        Not waited for is one that has not begun, and will then look at nothing: perhaps there is
        none, as a signal handler has raised an exception, or there can be no more threads.
        """
        if self._over.locked():
            self._over.release()
            if self._began:
                self._gone.acquire()
            if self._looks and self._signals.status is not None:
                self._signals.status(status.IDLE)

    def _run(self) -> None:
        signals = self._signals
        job, told = None, 0.0
        self._began = True
        try:
            while not self._over.acquire(timeout=LOOK_EVERY):
                self._also()
                if not self._looks:
                    continue
                if signals.status is not None:
                    signals.status(status.line(signals.job if signals.interruptible else None))
                if signals.job is not job:  # begun since the last look
                    job, told = signals.job, 0.0
                elif job is not None and signals.interruptible:
                    # Again after a while: the handler has perhaps caught it, and goes on.
                    if told and time.monotonic() - told < interrupts.GRACE:
                        continue
                    note = self._asked()
                    if note and signals.job is job and signals.call_off(job, note):
                        told = time.monotonic()
        finally:
            self._gone.release()

    def _asked(self) -> str:
        try:
            return self._seat.asked()
        except StorageError as error:
            log.warning("cannot see whether the job in hand is cancelled: %s", error)
            return ""
