"""Several worker processes as one: started, stopped and waited for together.

StopSignals come to the parent only, which passes them on by other numbers: SIGTERM from systemd and
Ctrl-C from a terminal reach every process of a group at once, and a child that heard both the
parent and the terminal would take one stop for two. A child whose parent is gone stops by itself.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, Final

from .loop import Summary
from .signals import StopSignals

log = logging.getLogger("dbbasic_queue")

STOP: Final = signal.SIGUSR1
BREAK_OFF: Final = signal.SIGUSR2
REPORT: Final = 4096  # bytes, which is more than a summary has and less than a pipe takes at once
_HEARD: Final = (signal.SIGTERM, signal.SIGINT)
_ALL: Final = (*_HEARD, STOP, BREAK_OFF)

Work = Callable[[int, StopSignals], Summary]


class CrewSignals(StopSignals):
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

    `tell` is called by the first signal, inside a signal handler, with what it lets finish.
    """

    def __init__(self, count: int, work: Work, tell: Callable[[str], object] | None = None) -> None:
        self._tell = tell
        self._count = count
        self._work = work
        self._children: dict[int, int] = {}  # process id -> pipe on which its summary comes
        self._received = 0
        self.killed = 0  # children that a signal ended

    def run(self) -> tuple[Summary, int]:
        """Start the processes and wait for all; returns what they did, and how many failed.

        A child that fails has logged why.
        """
        before: dict[int, Any] = {each: signal.getsignal(each) for each in _HEARD}
        signal.pthread_sigmask(signal.SIG_BLOCK, _ALL)
        try:
            for number in range(self._count):
                self._start(number, before)
            for heard in _HEARD:
                signal.signal(heard, self._pass_on)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _ALL)
        try:
            return self._wait()
        finally:
            for own, handler in before.items():
                signal.signal(own, handler)

    def _start(self, number: int, before: dict[int, Any]) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        parent = os.getpid()
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            signals = CrewSignals(parent, before)
            signals.install()
            os._exit(self._live(number, signals, writing))
        os.close(writing)
        self._children[child] = reading

    def _live(self, number: int, signals: StopSignals, pipe: int) -> int:
        """The whole life of a child; returns its exit code."""
        try:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _ALL)
            summary = self._work(number, signals)
            os.write(pipe, json.dumps(summary.as_dict()).encode())
        except BaseException:
            log.exception("worker process %d failed", os.getpid())
            return 1
        finally:
            logging.shutdown()
        return 0

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        passed_on = BREAK_OFF if self._received else STOP
        if self._tell is not None and not self._received:
            self._tell("the jobs in hand")
        self._received = self._received or number
        for child in self._children:
            os.kill(child, passed_on)

    def _wait(self) -> tuple[Summary, int]:
        total, failed = Summary(), 0
        for child, pipe in list(self._children.items()):
            _, status = os.waitpid(child, 0)
            # Now, not until the end of the pipe: what a handler forked may hold it open for ever.
            os.set_blocking(pipe, False)
            with open(pipe, "rb", buffering=0) as report:
                text = report.read(REPORT) or b""
            del self._children[child]
            if text:
                total.add(Summary(**json.loads(text)))
            elif os.WIFSIGNALED(status):
                self.killed += 1
                log.error("worker process %d was killed by signal %d", child, os.WTERMSIG(status))
            else:
                failed += 1
        total.stopped = self._received
        return total, failed
