"""Interrupts: the signals that end a worker's run, and the alarm that ends a job.

The first SIGTERM or SIGINT lets the job in hand finish and takes no more; the second breaks off
the job in hand (`PutBack`). Neither, nor the alarm (`JobTimeout`, and `JobCancelled` for a job that
a person has cancelled), breaks into code that holds the table's lock or into one another: then it
is tried again a moment later.
"""

from __future__ import annotations

import _thread
import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Final

from ..engines import interface
from ..errors import JobCancelled, JobTimeout
from ..job import Job
from ..support.threads import without_signals
from .surroundings import flush


class PutBack(BaseException):
    """Raised inside a handler by the second signal: break off, the job goes back."""


TRY_AGAIN: Final = 0.001  # seconds until the next attempt to break into a handler
GRACE: Final = 10.0  # seconds that a handler has to clean up before it is told again to stop


def _may_break(frame: FrameType | None) -> bool:
    """Whether an exception may be raised in the code that a signal has interrupted."""
    if any(guard(frame) for guard in interface.guards):
        return False  # the handler is enqueueing just now
    if frame is not None and frame.f_code in _LOCKS_A_LOG:
        return False
    while frame is not None:
        if frame.f_code in _UNBREAKABLE:
            return False
        frame = frame.f_back
    return True


class StopSignals:
    """SIGTERM and SIGINT while a worker works, in the main thread; elsewhere none are caught.

    A program's own handler is called at the end instead of at once; an ignored signal stays
    ignored.

    Args:
        tell: called by the first signal with the id of the job that it lets finish. It runs inside
            a signal handler, so it must not log.
    """

    def __init__(self, tell: Callable[[str], object] | None = None) -> None:
        self.received = 0
        self.job: Job | None = None  # whose handler is running, or ran last
        self._tell = tell
        self.interruptible = False  # a handler is running, which the second signal breaks off
        self.answer: Callable[[int], None] | None = None  # to the first one, in another thread
        self.outer: StopSignals | None = None  # of the worker whose handler runs this one
        self.status: Callable[[str], None] | None = None  # is told what runs: status.py
        self._before: dict[int, Any] = {}
        self._sending = False  # the second signal again, as it came at a bad moment
        self._called_off: tuple[Job, str] | None = None  # this job, with this note

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            self.activate()
            self.install()
        return self

    def activate(self) -> None:
        """Let a child that a handler forks know what to restore."""
        global _active
        self.outer, _active = _active, self

    def install(self) -> None:
        """Catch the signals that the program does not ignore."""
        for number in (signal.SIGTERM, signal.SIGINT):
            before = signal.getsignal(number)
            if before not in (signal.SIG_IGN, None):
                self._before[number] = before
                signal.signal(number, self.on_signal)
        self.catch_alarm()

    def catch_alarm(self) -> None:
        """Survive an alarm, or a profiler's timer, that a handler has set and forgotten."""
        for number in (signal.SIGPROF, signal.SIGVTALRM):
            if signal.getsignal(number) is signal.SIG_DFL:  # which would end the worker
                self._before[number] = signal.SIG_DFL
                signal.signal(number, _let_pass)
        before = signal.getsignal(signal.SIGALRM)  # the default would end the worker
        if before not in (signal.SIG_IGN, None):
            self._before[signal.SIGALRM] = before
            signal.signal(signal.SIGALRM, self.on_alarm)

    def on_alarm(self, number: int, frame: FrameType | None) -> None:
        """Break off the job that is called off; any other alarm is the program's own."""
        before = self._before[signal.SIGALRM]
        if not self.is_called_off(frame) and callable(before):
            before(number, frame)

    def is_called_off(self, frame: FrameType | None) -> bool:
        """Whether an alarm came from `call_off`; if it can be now, raise `JobCancelled`."""
        called_off = self._called_off
        if called_off is None:
            return False
        job, note = called_off
        if job is self.job and self.interruptible and _may_break(frame):
            self._called_off = None
            raise JobCancelled(note)
        return True

    def call_off(self, job: Job, note: str) -> bool:
        """Break off this job, if it is in hand still, with `JobCancelled`; whether that was.

        Called by another thread. Not while a handler has set the alarm for itself.
        """
        main = threading.main_thread().ident or 0
        called_off = self._called_off = job, note
        # More than once: see `_send`.
        while self._called_off is called_off and self.job is job and self.interruptible:
            if getattr(signal.getsignal(signal.SIGALRM), "__func__", None) not in _ALARMS:
                break
            signal.pthread_kill(main, signal.SIGALRM)
            time.sleep(TRY_AGAIN)
        done, self._called_off = self._called_off is not called_off, None
        return done

    def on_signal(self, number: int, frame: FrameType | None = None) -> None:
        """Stop taking jobs; the second time, break off the one in hand."""
        # Logs nothing here: logging's locks may be held by the code that this interrupts.
        if self.received:
            self.break_off(number, frame)
            return
        self.received = number
        if self.interruptible:
            if self._tell is not None:
                self._tell(self.job.id if self.job else "")
            elif self.answer is not None:
                with without_signals():
                    _thread.start_new_thread(self.answer, (number,))

    def break_off(self, number: int, frame: FrameType | None) -> None:
        """Break off the job in hand, if there is one; a moment later, if that cannot be now."""
        if not self.interruptible:
            return
        if _may_break(frame):
            self.interruptible = False
            raise PutBack
        if not self._sending:
            self._sending = True
            # Not threading.Thread, whose locks may be held by the code that this interrupts.
            with without_signals():
                _thread.start_new_thread(self._send, (number,))

    def _send(self, number: int) -> None:
        """Send the signal until the job is broken off, or has ended.

        Once is not enough: one that comes just before the handler begins to wait, in a read
        perhaps, is not seen before that ends.
        """
        main = threading.main_thread().ident or 0
        while self.interruptible:
            time.sleep(TRY_AGAIN)
            if self.interruptible:
                signal.pthread_kill(main, number)
        self._sending = False

    def stopping(self) -> bool:
        """Whether no more jobs are to be taken."""
        return self.received != 0

    def caught(self) -> list[int]:
        """The numbers of the signals that are caught."""
        return list(self._before)

    def restore(self) -> None:
        """Put back the program's own handlers; also in a child that a handler forks."""
        for number, before in self._before.items():
            signal.signal(number, before)

    def __exit__(self, *error: object) -> None:
        global _active
        self.restore()
        if _active is self:
            _active = self.outer

    def pass_on(self) -> None:
        """End the program as the signal asked, with exit code 0, or call its own handler."""
        if not self.received:
            return
        before = self._before[self.received]
        if before in (signal.SIG_DFL, signal.default_int_handler):
            raise SystemExit(0)
        before(self.received, None)


def _let_pass(number: int, frame: FrameType | None) -> None:
    pass


_active: StopSignals | None = None


class _Fork(threading.local):
    """A fork by a handler, whose child is not a worker: it dies of a signal like any process.

    Also of one that comes before the child could say so: it is held back until then.
    """

    mask: set[int] | None = None

    def before(self) -> None:
        if _active is not None:
            flush()  # else the child would print it, too
            self.mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())  # see without_signals
            signal.pthread_sigmask(signal.SIG_BLOCK, _active.caught())

    def in_parent(self) -> None:
        if self.mask is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, self.mask)
            self.mask = None

    def in_child(self) -> None:
        signals = _active
        while signals is not None:
            signals.restore()
            signals = signals.outer
        self.in_parent()


_fork = _Fork()
os.register_at_fork(
    before=_fork.before, after_in_parent=_fork.in_parent, after_in_child=_fork.in_child
)


class TimeLimit:
    """Raises `JobTimeout` in the main thread after some seconds, and again after `GRACE`.

    Again, as a handler may catch the first one and go on; not at once, as it may clean up. There
    is one such timer in a process; what the program itself has set on it is put off until the
    handler is done.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._armed = False
        self._rang = False

    def __enter__(self) -> None:
        self._began = time.monotonic()
        self._before = signal.signal(signal.SIGALRM, self._ring)
        self._armed = True
        self._own_timer = signal.setitimer(signal.ITIMER_REAL, self._seconds, GRACE)

    def _ring(self, number: int, frame: FrameType | None) -> None:
        if not self._armed or (_active is not None and _active.is_called_off(frame)):
            return
        if not _may_break(frame):
            signal.setitimer(signal.ITIMER_REAL, TRY_AGAIN, GRACE)
            return
        self._rang = True
        raise self._error()

    def _error(self) -> JobTimeout:
        return JobTimeout(f"ran for longer than {self._seconds:g} s")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._armed = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        if self._before is not None:  # it was not set from Python
            signal.signal(signal.SIGALRM, self._before)
        left, interval = self._own_timer
        if left:
            left = max(left - (time.monotonic() - self._began), TRY_AGAIN)
            signal.setitimer(signal.ITIMER_REAL, left, interval)
        if self._rang and not isinstance(error, JobTimeout | PutBack | JobCancelled):
            raise self._error() from error  # the handler has caught it


_ALARMS: Final = (StopSignals.on_alarm, TimeLimit._ring)

# Between taking a log's lock and the `try` that gives it back: all other threads would wait for it
# for ever. What a log does in between, perhaps over a network, may be broken off.
_LOCKS_A_LOG: Final = frozenset(
    function.__code__
    for function in (logging.Handler.handle, logging.Handler.acquire, logging.Handler.release)
)

# Nor may one signal's exception break into what is done about another.
_UNBREAKABLE: Final = frozenset(
    function.__code__
    for function in (
        TimeLimit.__enter__,
        TimeLimit.__exit__,
        TimeLimit._ring,
        StopSignals.on_signal,
        StopSignals.break_off,
        StopSignals.on_alarm,
        StopSignals.is_called_off,
        _Fork.before,
        _Fork.in_parent,
        _Fork.in_child,
    )
)
