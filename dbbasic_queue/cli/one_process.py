"""Programs kept running and started at their times, by one process in the foreground: `dbq run`.

Theory of operation
-------------------
This process runs no job and imports no handler. It starts the commands that cron or a timer would
start, in a session of their own, so that a Ctrl-C at the terminal comes here only and is passed on
once. A child that this process leaves behind by dying gets SIGTERM from the kernel.

All signals are blocked and waited for, so that none can come at a bad moment. As process 1 of a
container it also takes in the children of others that have ended.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from ..schedule.clock import machine_zone
from ..schedule.schedule import Schedule
from ..support.bound import die_with_parent

log = logging.getLogger("dbbasic_queue")

LOOK: Final = 1.0  # seconds between two looks at the clock, which may be set meanwhile
QUICK: Final = 1.0  # seconds; a program that ends sooner is started again after a pause
LONGEST: Final = 30.0  # seconds of that pause
_STOP: Final = (signal.SIGTERM, signal.SIGINT)
_WAITED: Final = frozenset((*_STOP, signal.SIGHUP, signal.SIGCHLD))


@dataclass
class Program:
    """A program to run: all the time, or at the times of its schedule.

    `name` is for the log, `heard` says whether what it prints on standard output is shown.
    """

    name: str
    words: Sequence[str]
    schedule: Schedule | None = None
    heard: bool = True
    next: float = 0  # Unix seconds of its next start
    pid: int = 0  # 0: it does not run
    began: float = field(default=0, init=False)  # time.monotonic()
    pause: float = field(default=0, init=False)


class OneProcess:
    """Runs programs until a signal ends it.

    Args:
        programs: those without a schedule run all the time.
        directory: where they run.
        environment: makes their variables anew at each start.
        grace: seconds from the first signal to the second one for what runs all the time; None:
            as long as it takes.
        changed: asked each second; whether what runs all the time is to be started anew.
        outdated: asked each second; whether all of it is to end, so that this process begins anew.
    """

    def __init__(
        self,
        programs: Sequence[Program],
        directory: str,
        environment: Callable[[], Mapping[str, str]],
        grace: float | None = None,
        changed: Callable[[], bool] | None = None,
        outdated: Callable[[], bool] | None = None,
    ) -> None:
        self._programs = list(programs)
        self._directory = directory
        self._environment = environment
        self._grace = grace
        self._changed = changed
        self._outdated = outdated
        self._mask: set[int] = set()
        self._stopping = False  # nothing is started any more
        self._heard: float | None = None  # time.monotonic() of the first signal
        self._broken_off = False

    def run(self) -> int:
        """Run until SIGTERM or SIGINT, and until what runs then has ended; returns its number.

        Returns 0 if it is to begin anew.
        """
        before = {each: signal.signal(each, _pass) for each in _WAITED}
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, _WAITED)
        try:
            return self._loop()
        finally:
            for each in self._programs:
                _send(each.pid, signal.SIGTERM)
            signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
            for number, handler in before.items():
                signal.signal(number, handler)

    def _loop(self) -> int:
        number = 0
        now = time.time()
        for each in self._programs:
            each.next = _next(each, now) if each.schedule else now
        while True:
            if not self._stopping:
                self._start_due()
            elif self._work_ended():
                return number
            found = signal.sigtimedwait(_WAITED, self._wait())
            self._reap()
            if found is not None and found.si_signo in _STOP:
                number = number or found.si_signo
                self._stop(found.si_signo)
            elif found is not None and found.si_signo == signal.SIGHUP:
                self._start_anew("SIGHUP")
            elif self._changed is not None and not self._stopping and self._changed():
                self._start_anew("a file has changed")
            elif self._outdated is not None and not self._stopping and self._outdated():
                self._end()

    def _wait(self) -> float:
        """Seconds until there is something to do, if no signal comes."""
        if self._stopping:
            return LOOK
        following = [each.next for each in self._programs if not each.pid]
        return min([LOOK, *(max(0.01, at - time.time()) for at in following)])

    # -- starting ----------------------------------------------------------------------------------

    def _start_due(self) -> None:
        now = time.time()
        for each in self._programs:
            if each.schedule is not None and each.next - now > each.schedule.longest_gap():
                each.next = _next(each, now)  # the clock was put back
            if each.next > now:
                continue
            if each.schedule is not None:
                each.next = _next(each, now)
            if not each.pid:  # as a timer does: what still runs is not started a second time
                self._start(each)

    def _start(self, program: Program) -> None:
        bind, mask = die_with_parent(signal.SIGTERM), self._mask

        def prepare() -> None:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            if bind is not None:
                bind()

        program.began = time.monotonic()
        try:
            process = subprocess.Popen(
                program.words,
                stdin=subprocess.DEVNULL,
                stdout=None if program.heard else subprocess.DEVNULL,
                stderr=1,  # the log is on standard output, that of the workers, too
                cwd=self._directory,
                env=self._environment(),
                start_new_session=True,
                preexec_fn=prepare,
            )
        except (OSError, ValueError) as error:
            log.error("cannot start %s: %s", program.name, error)
            self._put_off(program)
            return
        program.pid = process.pid
        process.returncode = 0  # it is waited for here, together with all others

    def _put_off(self, program: Program) -> None:
        """Start it again after a pause, a longer one each time."""
        program.pause = min(LONGEST, 2 * program.pause or QUICK)
        if program.schedule is None:
            program.next = time.time() + program.pause

    # -- ending ------------------------------------------------------------------------------------

    def _reap(self) -> None:
        """Take in all children that have ended, also those of others that came to process 1."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            for each in self._programs:
                if each.pid == pid:
                    each.pid = 0
                    self._ended(each, os.waitstatus_to_exitcode(status))

    def _ended(self, program: Program, code: int) -> None:
        if program.schedule is not None:
            if code and not program.heard and not self._stopping:
                log.error("%s ended with exit status %d", program.name, code)
            return
        if code and not self._stopping:
            log.error("%s ended with exit status %d: it is started again", program.name, code)
        if code or time.monotonic() - program.began < QUICK:
            self._put_off(program)
        else:
            program.pause, program.next = 0, 0

    def _stop(self, number: int) -> None:
        """Pass a signal on: the first lets a job in hand finish, the second breaks it off."""
        self._broken_off = self._heard is not None
        if not self._broken_off:
            self._heard = time.monotonic()
            log.info("signal %d: ends when the jobs in hand have", number, extra={"event": "end"})
        self._end()

    def _end(self) -> None:
        """Pass SIGTERM on to what runs all the time, and start nothing any more."""
        self._stopping = True
        for each in self._programs:
            if each.schedule is None:
                _send(each.pid, signal.SIGTERM)

    def _work_ended(self) -> bool:
        """Whether all has ended that has to be waited for; ends what has not to be."""
        grace, since = self._grace, self._heard
        late = grace and since and time.monotonic() - since >= grace
        if late:
            self._broken_off = True
        if self._broken_off:  # once more: of two that come at once the kernel gives only one
            self._end()
        if not any(each.pid for each in self._programs if each.schedule is None):
            for each in self._programs:  # safe at any moment, and done again at the next start
                _send(each.pid, signal.SIGTERM)
        return not any(each.pid for each in self._programs)

    def _start_anew(self, why: str) -> None:
        log.info("%s: the workers are started anew", why, extra={"event": "restart"})
        for each in self._programs:
            if each.schedule is None:
                each.pause, each.next = 0, 0
                _send(each.pid, signal.SIGTERM)


def _next(program: Program, now: float) -> float:
    assert program.schedule is not None
    (following,) = program.schedule.next_runs(datetime.fromtimestamp(now, machine_zone()), 1)
    return following.timestamp()


def _send(pid: int, number: int) -> None:
    if pid:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def _pass(number: int, frame: object) -> None:
    """Stand for a signal that is waited for: process 1 gets none that is left to the kernel."""
