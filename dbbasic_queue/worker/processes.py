"""Several worker processes as one: started, stopped and waited for together.

Signals come to the parent only, which passes them on by other numbers: SIGTERM from systemd and
Ctrl-C from a terminal reach every process of a group at once, and a child that heard both the
parent and the terminal would take one stop for two. A child whose parent is gone stops by itself.
"""

from __future__ import annotations

import json
import logging
import os
import signal
from collections.abc import Callable, Iterator
from functools import partial
from mmap import mmap
from types import FrameType
from typing import Any, Final

from ..errors import ConfigError, StorageError
from .loop import Summary
from .signals import StopSignals
from .status import SLOT, of_several
from .surroundings import end_in_time, flush

log = logging.getLogger("dbbasic_queue")

STOP: Final = signal.SIGUSR1
BREAK_OFF: Final = signal.SIGUSR2
REPORT: Final = 4096  # bytes, which is more than a report has
RESEND: Final = 1.0  # seconds; a child hears a signal late that comes just before it sleeps
FAULT: Final = 600  # characters of what is wrong with the config; JSON makes six bytes of one
_HEARD: Final = (signal.SIGTERM, signal.SIGINT)
_ALL: Final = (*_HEARD, STOP, BREAK_OFF, signal.SIGCHLD)

Work = Callable[[int, StopSignals], Summary]


class ChildSignals(StopSignals):
    """The signals of one child: what the parent passes on."""

    def __init__(self, parent: int, before: dict[int, Any]) -> None:
        super().__init__()
        self._parent = parent
        self._own = before

    def install(self) -> None:
        """Listen to the parent; be deaf to what the whole group gets."""
        for number in _HEARD:
            # A function, not SIG_IGN, which the programs that a handler starts would inherit.
            signal.signal(number, _ignore)
        signal.signal(STOP, self.on_signal)
        signal.signal(BREAK_OFF, self._on_break_off)
        self._before = {**self._own, STOP: signal.SIG_DFL, BREAK_OFF: signal.SIG_DFL}
        self.catch_alarm()
        self.activate()

    def __enter__(self) -> StopSignals:
        return self

    def __exit__(self, *error: object) -> None:
        pass  # installed for the life of the child

    def _on_break_off(self, number: int, frame: FrameType | None) -> None:
        self.received = self.received or number
        self.break_off(number, frame)

    def stopping(self) -> bool:
        """Whether the parent said so, or is gone."""
        return self.received != 0 or os.getppid() != self._parent


def _ignore(number: int, frame: FrameType | None) -> None:
    pass


class WorkerProcesses:
    """`count` processes that each run `work(number, signals)`, numbered from 0.

    Each is a program of its own: what `work` imports, opens and starts is not shared, and a child
    ends as a program ends, with its exit functions run and its output written. So `run` comes back
    in the parent only; in a child it raises `SystemExit`, which the caller has to let pass.

    `tell` is called by the first signal, inside a signal handler, with what it lets finish. Once a
    second `status` is called, with what the processes are at.
    """

    def __init__(
        self,
        count: int,
        work: Work,
        tell: Callable[[str], object] | None = None,
        status: Callable[[str], object] | None = None,
    ) -> None:
        self._tell = tell
        self._status = status
        self._count = count
        self._work = work
        # Process id -> memory for its report. Not a pipe, which a handler could close.
        self._children: dict[int, mmap] = {}
        self._parent = os.getpid()
        self._received = 0
        self._broken_off = False
        self.lost = 0  # children that ended without a word, and perhaps left a job behind

    def run(self) -> tuple[Summary, int]:
        """Start the processes and wait for all; returns what they did, and how many failed.

        A child that fails has logged why. Raises `ConfigError` if a child did. Call it in the main
        thread.
        """
        before: dict[int, Any] = {each: signal.getsignal(each) for each in _HEARD}
        ended = signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ignored, it would hide how they end
        # Blocked and waited for: a function that is called at a signal would be called only later
        # if that came just before the wait for a child.
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, _ALL)
        try:
            for number in range(self._count):
                self._start(number, before)
            return self._wait()
        finally:
            if os.getpid() == self._parent:
                while _next_signal(0) is not None:
                    pass  # of those that came when all was done
                signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
                signal.signal(signal.SIGCHLD, ended)

    def _start(self, number: int, before: dict[int, Any]) -> None:
        flush()
        report = mmap(-1, REPORT + SLOT)
        child = os.fork()
        if child == 0:
            signals = ChildSignals(self._parent, before)
            if self._status is not None:
                signals.status = partial(_note, report)
            signals.install()
            raise SystemExit(self._live(number, signals, report))
        self._children[child] = report

    def _live(self, number: int, signals: ChildSignals, shared: mmap) -> int:
        """Work in a child, and report; returns its exit code."""
        code = 0
        try:
            signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
            report: dict[str, Any] = dict(self._work(number, signals).as_dict())
        except ConfigError as error:
            code, report = 2, {"fault": str(error)[:FAULT]}
        except StorageError as error:  # a server that is away, a full disk: the text says all
            log.error("worker process %d failed: %s", os.getpid(), error.strerror or error)
            code, report = 1, {}
        except BaseException:
            log.exception("worker process %d failed", os.getpid())
            code, report = 1, {}
        shared.write(json.dumps(report).encode())
        signals.restore()
        end_in_time(code)
        return code

    def _wait(self) -> tuple[Summary, int]:
        total, failed, faults = Summary(), 0, []
        while self._children:
            number = _next_signal(RESEND if self._broken_off or self._status else None)
            if number != signal.SIGCHLD and (number is not None or self._broken_off):
                self._pass_on(number)
            for child, report, status in self._ended():
                if report is None:
                    self.lost += 1
                    failed += 1
                    _log_loss(child, status)
                elif "fault" in report:
                    faults.append(report["fault"])
                elif report:
                    total.add(Summary(**report))
                else:
                    failed += 1
            if self._status is not None:
                self._status(of_several(map(_noted, self._children.values())))
        if faults:
            raise ConfigError(faults[0])
        total.stopped = self._received
        return total, failed

    def _pass_on(self, number: int | None) -> None:
        """Pass a signal on to the children that are there; None: the last one once more."""
        if number is not None:
            if self._tell is not None and not self._received:
                self._tell("the jobs in hand")
            self._broken_off = self._received != 0
            self._received = self._received or number
        for child in self._children:
            os.kill(child, BREAK_OFF if self._broken_off else STOP)

    def _ended(self) -> Iterator[tuple[int, dict[str, Any] | None, int]]:
        """Take note of the children that have ended: process id, report, status."""
        for child in list(self._children):
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:  # its number may be that of another process from now on
                yield child, _read(self._children.pop(child)), status


def _next_signal(seconds: float | None) -> int | None:
    """The next signal to the parent; None when none came in so many seconds."""
    watched = {*_HEARD, signal.SIGCHLD}
    if seconds is None or not hasattr(signal, "sigtimedwait"):
        return int(signal.sigwait(watched))
    found = signal.sigtimedwait(watched, seconds)
    return None if found is None else found.si_signo


def _read(shared: mmap) -> dict[str, Any] | None:
    """The report of a child that has ended; None if it made none."""
    text = shared[:REPORT].rstrip(b"\0")
    shared.close()
    if not text:
        return None
    report: dict[str, Any] = json.loads(text)
    return report


def _note(shared: mmap, text: str) -> None:
    """Write down what a child is at, for the parent to tell."""
    shared[REPORT:] = text.encode()[:SLOT].ljust(SLOT, b"\0")


def _noted(shared: mmap) -> str:
    return shared[REPORT:].rstrip(b"\0").decode("utf-8", "replace")


def _log_loss(child: int, status: int) -> None:
    if os.WIFSIGNALED(status):
        log.error("worker process %d was killed by signal %d", child, os.WTERMSIG(status))
    else:
        log.error(
            "worker process %d ended in the middle of its work, with exit code %d: did a handler"
            " call os._exit?",
            child,
            os.WEXITSTATUS(status),
        )
