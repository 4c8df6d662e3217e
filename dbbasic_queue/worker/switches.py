"""What a handler has switched on in its interpreter and left on: profilers, watchdogs, pinning.

Each of these slows the next job down, keeps it from switching on its own, or ends it: a program
that switches them off again does so only where nothing is raised in between. So does an event loop
that a handler has closed, or asyncio.run has taken away, and that the next one asks asyncio for.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from sys import modules
from typing import Any, Final

# Seconds between two looks at what takes longer to look at: 4 us in all.
LOOK: Final = 0.0005

_tracing: Final = sys.gettrace
_profiling: Final = sys.getprofile
_interval: Final = sys.getswitchinterval
_digits: Final = sys.get_int_max_str_digits
# Besides those that surroundings.py looks at after each job: by profilers' timers, by a terminal,
# and by limits of the processor's time and a file's size.
_SIGNALS: Final = tuple(
    map(
        int,
        (
            *(signal.SIGPROF, signal.SIGVTALRM, signal.SIGWINCH, signal.SIGTSTP, signal.SIGCONT),
            *(signal.SIGTTIN, signal.SIGTTOU, signal.SIGIO, signal.SIGURG),
            *(signal.SIGXCPU, signal.SIGXFSZ),
        ),
    )
)
_TIMERS: Final = signal.ITIMER_PROF, signal.ITIMER_VIRTUAL
_handler_of: Final[Any] = _signal.getsignal  # as in surroundings.py
# Since Python 3.12 cProfile is a tool of the interpreter, of which there can be one.
_monitoring: Final[Any] = getattr(sys, "monitoring", None)


class _CountingWatchdog:
    """What `faulthandler` sets its timer by, with the number of times that it was set."""

    def __init__(self, sets: Callable[..., None]) -> None:
        self.set = 0
        self.process = 0
        self._sets = sets

    def __call__(self, *args: Any, **options: Any) -> None:
        self.set += 1
        self.process = os.getpid()
        self._sets(*args, **options)


class Switches:
    """All of them as they were when this was made, in the main thread."""

    def __init__(self) -> None:
        self._looked = time.monotonic()
        self._process = os.getpid()
        self._watchdogs = _watchdog().set if "faulthandler" in modules else None
        self._functions = _tracing(), _profiling(), _interval()
        self._profiler = _profiler()
        self._collector = gc.get_threshold(), gc.get_debug()
        self._handlers = list(map(_handler_of, _SIGNALS))
        self._timers = [each for each in _TIMERS if signal.getitimer(each) == (0, 0)]
        self._of_threads = threading.gettrace(), threading.getprofile(), threading.stack_size()
        self._longest_number = _digits()
        self._cpus = os.sched_getaffinity(0)
        self._policy = os.sched_getscheduler(0), os.sched_getparam(0)
        self._method = _start_method()
        self._loops = _loop_policy()
        self._wakeup = signal.set_wakeup_fd(-1)
        signal.set_wakeup_fd(self._wakeup)

    def restore(self, now: float, thorough: bool) -> None:
        """Make them so again, at `now` of `time.monotonic`; the most after a job of some length."""
        if (_tracing(), _profiling(), _interval()) != self._functions:
            trace, profile, interval = self._functions
            sys.settrace(trace)
            sys.setprofile(profile)
            sys.setswitchinterval(interval)
        if "faulthandler" in modules:
            self._cancel_watchdog()
        if (events := modules.get("asyncio.events")) is not None and (
            thorough or getattr(events, "_event_loop_policy", None) is not self._loops
        ):
            self._restore_event_loop(events)
        if now - self._looked >= LOOK:
            self._looked = now
            self._restore_others()

    def _cancel_watchdog(self) -> None:
        """Cancel the timer of a handler, which would end the worker in the middle of another job.

        One that another process has set, before it forked this one, cannot be cancelled: Python
        would wait for a thread that is not there.
        """
        watchdog, before = _watchdog(), self._watchdogs
        if watchdog.set != before:
            self._watchdogs = watchdog.set
            # A handler that was the first to load the module did so before anything was counted.
            if os.getpid() == (self._process if before is None else watchdog.process):
                modules["faulthandler"].cancel_dump_traceback_later()

    def _restore_event_loop(self, events: Any) -> None:
        """Have asyncio make event loops as before, and one for a handler that asks for it."""
        policy = _loop_policy()
        if policy is not self._loops:
            # Not asked for by asyncio's own function, which makes one where there is none.
            if self._loops is None and type(policy).__module__ == "asyncio.unix_events":
                self._loops = policy  # Python's own, made when it was first asked for a loop
            else:
                events._event_loop_policy = self._loops
                policy = self._loops
        current = getattr(policy, "_local", None)  # of this thread
        if current is None:
            return
        loop, was_set = getattr(current, "_loop", None), getattr(current, "_set_called", False)
        if loop.is_closed() if loop is not None else was_set:
            current._loop, current._set_called = None, False

    def _restore_others(self) -> None:
        if _profiler() not in (None, self._profiler):
            _monitoring.set_events(_monitoring.PROFILER_ID, 0)
            _monitoring.free_tool_id(_monitoring.PROFILER_ID)
        if (gc.get_threshold(), gc.get_debug()) != self._collector:
            threshold, debug = self._collector
            gc.set_threshold(*threshold)
            gc.set_debug(debug)
        if list(map(_handler_of, _SIGNALS)) != self._handlers:
            self._restore_handlers()
        found = threading.gettrace(), threading.getprofile(), threading.stack_size()
        if found != self._of_threads:
            trace, profile, size = self._of_threads
            threading.settrace(trace)
            threading.setprofile(profile)
            threading.stack_size(size)
        if _digits() != self._longest_number:
            sys.set_int_max_str_digits(self._longest_number)
        if _start_method() != self._method:
            modules["multiprocessing"].set_start_method(self._method, force=True)
        with suppress(OSError):  # the processor is gone since, or it takes a privilege
            if os.sched_getaffinity(0) != self._cpus:
                os.sched_setaffinity(0, self._cpus)
        with suppress(OSError):
            if os.sched_getscheduler(0) != self._policy[0]:
                os.sched_setscheduler(0, *self._policy)
        with suppress(ValueError, OSError):  # that of the worker is closed
            signal.set_wakeup_fd(self._wakeup)

    def _restore_handlers(self) -> None:
        for timer in self._timers:  # first, as they are for handlers that go
            signal.setitimer(timer, 0)
        for number, handler in zip(_SIGNALS, self._handlers, strict=True):
            if handler is not None:  # it was not set from Python, and cannot be set from there
                signal.signal(number, handler)


def _watchdog() -> _CountingWatchdog:
    """What `faulthandler` sets its timer by; it counts from now on."""
    module: Any = modules["faulthandler"]
    counting = module.dump_traceback_later
    if not isinstance(counting, _CountingWatchdog):
        counting = module.dump_traceback_later = _CountingWatchdog(counting)
    return counting


def _profiler() -> object:
    """What profiles the interpreter in that way, if anything does."""
    return _monitoring.get_tool(_monitoring.PROFILER_ID) if _monitoring else None


def _loop_policy() -> Any:
    """What makes asyncio's event loops; None where no loop was asked for yet."""
    return getattr(modules.get("asyncio.events"), "_event_loop_policy", None)


def _start_method() -> Any:
    """How multiprocessing starts processes, if a program has chosen."""
    ask = getattr(modules.get("multiprocessing"), "get_start_method", None)
    return ask(allow_none=True) if ask is not None else None
