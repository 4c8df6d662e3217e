"""What a handler finds around it is what the one before it found.

A handler may take a signal over, block it, set an alarm, switch a logger off, close or exchange
standard error or its descriptor, go to another folder, change the umask, the environment or a
resource limit (settings.py), leave a thread behind, or files open until there can be no more: as a
habit of its own program, or of a library that it calls. None of that reaches the next job, nor the
worker, which has to hear SIGTERM, to log, and to write down how the job ended.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import atexit
import errno
import fcntl
import logging
import os
import signal
import stat
import sys
import threading
import time
from contextlib import suppress
from typing import Any, Final

from ..support.opening import set_apart

log = logging.getLogger("dbbasic_queue")

SPARE: Final = 8  # descriptors, for the table, its folder and the files beside it
GRACE: Final = 60.0  # seconds that threads of handlers have to end when the work is done
TELL_AFTER: Final = 1.0  # seconds until it is said that they are waited for

# Seconds that a job takes at least to make a pipe and put it in the place of standard output (7 us
# where this was measured, 2 us for one that does nothing).
SWAP: Final = 3e-6
# Seconds from one thorough look to the next, where jobs are shorter. It costs 1.5 us.
LOOK: Final = 0.0005

_WATCHED: Final = tuple(
    map(
        int,
        (
            *(signal.SIGTERM, signal.SIGINT, signal.SIGHUP),
            *(signal.SIGCHLD, signal.SIGALRM, signal.SIGUSR1, signal.SIGUSR2),
            *(signal.SIGPIPE, signal.SIGQUIT),
        ),
    )
)
# What `signal` wraps, without the detour that makes an enum of each answer: 8 microseconds a job.
_handler_of: Final[Any] = _signal.getsignal
_change_mask: Final[Any] = _signal.pthread_sigmask
_fcntl: Final = fcntl.fcntl
_GETFL: Final = fcntl.F_GETFL
_BLOCK: Final = int(signal.SIG_BLOCK)


class Descriptors:
    """The descriptors of the standard streams as they were; one that was closed stays so."""

    def __init__(self) -> None:
        self._flags = _flags()
        self._copies: dict[int, tuple[int, os.stat_result]] = {}
        for fd, flags in enumerate(self._flags):
            if flags is not None:
                copy = set_apart(os.dup(fd))
                self._copies[fd] = copy, os.fstat(copy)
        self._all = [(fd, status) for fd, (_, status) in self._copies.items()]
        self._plain = [each for each in self._all if stat.S_ISREG(each[1].st_mode)]

    def __del__(self) -> None:
        for copy, status in (
            self._copies.values() if os is not None and not sys.is_finalizing() else ()
        ):
            if _leads_to(copy, status):
                os.close(copy)

    def restore(self, thorough: bool) -> None:
        """Make them so again, where a handler has closed one or put another file in its place.

        Another file in the place of one that is a file is always noticed, which costs 0.5 us for
        each. Another pipe in the place of a pipe has the same flags: it takes a thorough look.
        """
        try:  # `_flags` in short, as this is done after each job
            same = [_fcntl(0, _GETFL), _fcntl(1, _GETFL), _fcntl(2, _GETFL)] == self._flags
        except OSError:
            same = _flags() == self._flags
        looked_at = self._all if thorough else self._plain
        if same and (not looked_at or all(_leads_to(fd, then) for fd, then in looked_at)):
            return
        self._put_back()

    def _put_back(self) -> None:
        for fd, (copy, status) in self._copies.items():
            if _leads_to(copy, status):
                if not _leads_to(fd, status):
                    os.dup2(copy, fd)
                # asyncio makes a pipe that it writes to one that is full at times.
                with suppress(OSError):
                    fcntl.fcntl(fd, fcntl.F_SETFL, self._flags[fd] or 0)
                continue
            if _leads_to(fd, status):
                continue
            # That is closed as well. What a library prints would go into the file that is opened
            # next, unless the descriptor is held.
            with open(os.devnull, "r+b", buffering=0) as null:
                os.dup2(null.fileno(), fd)
        self._flags = _flags()


class Place:
    """The working folder and the umask as they were. To set them costs less than to look.

    Where the worker is root, its user and groups as well: files are opened with their rights.
    """

    def __init__(self) -> None:
        self._is_root = os.geteuid() == 0
        self._groups = os.getegid(), os.getgroups()
        self._umask = os.umask(0o077)
        os.umask(self._umask)
        self._fd = -1
        with suppress(OSError):  # it is gone, or closed to this user
            flags = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC
            self._fd = set_apart(os.open(".", flags))
            self._status = os.fstat(self._fd)

    def __del__(self) -> None:
        if (
            self._fd >= 0
            and os is not None
            and not sys.is_finalizing()
            and _leads_to(self._fd, self._status)
        ):
            os.close(self._fd)

    def restore(self) -> None:
        """Go back there, and take on the umask again."""
        os.umask(self._umask)
        if self._is_root and (os.geteuid() != 0 or os.getegid() != self._groups[0]):
            self._become_root()
        try:  # noqa: SIM105 - `suppress` is written in Python, and this is done after each job
            os.fchdir(self._fd)
        except (OSError, ValueError):  # a handler has closed it; or there was none
            pass

    def _become_root(self) -> None:
        group, groups = self._groups
        with suppress(OSError):  # a handler has given it up for good
            os.seteuid(0)
            os.setegid(group)
            os.setgroups(groups)


class Room:
    """Descriptors in reserve: a handler may leave none of those that its process may have."""

    def __init__(self) -> None:
        self._most = os.sysconf("SC_OPEN_MAX") - SPARE
        self._fds: list[tuple[int, os.stat_result]] = []
        with suppress(OSError):
            for _ in range(SPARE):
                fd = set_apart(os.open("/", getattr(os, "O_PATH", os.O_RDONLY) | os.O_CLOEXEC))
                self._fds.append((fd, os.fstat(fd)))

    def __del__(self) -> None:
        if os is not None and not sys.is_finalizing():
            self._give()

    def is_enough(self) -> bool:
        """Whether there are descriptors; where few are left, the worker is given the reserve."""
        try:
            fd = _fcntl(self._fds[0][0], fcntl.F_DUPFD_CLOEXEC, 3)
        except OSError as error:
            if error.errno != errno.EMFILE:  # a handler has closed it, as all others
                return True
        except IndexError:  # there were too few at the start
            return True
        else:
            os.close(fd)
            if fd < self._most:
                return True
        self._give()
        log.warning(
            "handlers have left open nearly as many files as a process may have (RLIMIT_NOFILE):"
            " this process takes no more jobs, and the next one to start goes on",
            extra={"event": "limits"},
        )
        return False

    def _give(self) -> None:
        fds, self._fds = self._fds, []
        for fd, status in fds:
            if _leads_to(fd, status):  # no handler has closed it
                os.close(fd)


def _flags() -> list[int | None]:
    return [_flags_of(fd) for fd in (0, 1, 2)]


def _flags_of(fd: int) -> int | None:
    try:
        return fcntl.fcntl(fd, fcntl.F_GETFL)
    except OSError:
        return None


def _leads_to(fd: int, status: os.stat_result) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), status)
    except OSError:
        return False


class Surroundings:
    """The process as it was when it was noted: signals, alarm, streams, log and settings.

    Once something cannot be put back it is `spoiled`: this process is to take no more jobs.
    """

    def __init__(self) -> None:
        self.spoiled = False
        self._room = Room()
        self._looked = time.monotonic()
        self._main = threading.current_thread() is threading.main_thread()
        if self._main:
            self._handlers = list(map(_handler_of, _WATCHED))
            self._mask = _change_mask(_BLOCK, ())
            self._alarm = signal.getitimer(signal.ITIMER_REAL) != (0, 0)
        self._streams = sys.stdout, sys.stderr
        self._descriptors = Descriptors() if self._main else None
        self._place = Place() if self._main else None
        # Here, as most runs of the timer's find no job.
        from .settings import Settings
        from .switches import Switches

        self._settings = Settings() if self._main else None
        self._switches = Switches() if self._main else None
        self._manager = log.manager
        self._disabled = log.disabled, self._manager.disable
        self._outlets = list(log.handlers), list(log.filters)

    def restore(self, began: float) -> None:
        """Make them so again after a job that began then, by `time.monotonic`.

        What takes a thorough look is put back after each job that takes longer than `SWAP`, and
        after some of the shorter ones.
        """
        now = time.monotonic()
        if thorough := now - began >= SWAP or now - self._looked >= LOOK:
            self._looked = now
            self.spoiled = self.spoiled or not self._room.is_enough()
        disabled, level = self._disabled
        if log.disabled is not disabled or self._manager.disable != level:
            log.disabled, self._manager.disable = self._disabled
        if log.handlers != self._outlets[0] or log.filters != self._outlets[1]:
            log.handlers[:], log.filters[:] = self._outlets
        if self._descriptors is not None and self._place is not None:
            self._descriptors.restore(thorough)
            self._place.restore()
        out, err = self._streams
        try:
            closed = getattr(out, "closed", False) or getattr(err, "closed", False)
        except ValueError:  # it is detached from its buffer
            closed = True
        if closed or sys.stdout is not out or sys.stderr is not err:
            sys.stdout, sys.stderr = _opened(out, 1), _opened(err, 2)
            self._streams = sys.stdout, sys.stderr
            if self._descriptors is not None:
                # One that a handler has made of the same descriptor has closed it by its end.
                self._descriptors.restore(thorough=True)
        if self._settings is None or self._switches is None:
            return
        self._switches.restore(now, thorough)
        if not self._settings.restore():
            self.spoiled = True
        if list(map(_handler_of, _WATCHED)) != self._handlers:
            self._restore_handlers()
        if _change_mask(_BLOCK, ()) != self._mask:
            signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)

    def _restore_handlers(self) -> None:
        if not self._alarm:  # one that rings now was for a handler that has ended
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in zip(_WATCHED, self._handlers, strict=True):
            if handler is not None:  # it was not set from Python, and cannot be set from there
                signal.signal(number, handler)


def _opened(stream: Any, fd: int) -> Any:
    """A standard stream, or one in its place if a handler has closed or detached it."""
    try:
        if not getattr(stream, "closed", False):
            return stream
    except ValueError:  # detached
        pass
    try:
        return open(fd, "w", buffering=1, errors="backslashreplace", closefd=False)
    except OSError:  # its descriptor is closed as well
        return None  # as Python has it for a program that was started without


def end_in_time(code: int, grace: float = GRACE) -> None:
    """See that the program ends, with `code`, although threads of handlers may go on.

    Call it when the work is done, before the program ends as usual: Python then waits for threads
    that are not daemons, for ever. Does nothing when there are none.
    """
    if _threads_left():
        threading.Thread(target=_end_in_time, args=(code, grace), daemon=True).start()


def _threads_left() -> list[str]:
    own = (threading.main_thread(), threading.current_thread())
    return [each.name for each in threading.enumerate() if not (each.daemon or each in own)]


def _end_in_time(code: int, grace: float) -> None:
    time.sleep(min(TELL_AFTER, grace))
    if names := _threads_left():
        log.warning(
            "waiting up to %g s for threads that handlers have left behind: %s",
            grace,
            ", ".join(names),
        )
    time.sleep(max(0, grace - TELL_AFTER))
    if names := _threads_left():
        log.error("ended, although threads of handlers still ran: %s", ", ".join(names))
        atexit._run_exitfuncs()
        flush()
        os._exit(code)


def flush() -> None:
    """Write out what the program has printed."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):  # closed, None, a full disk, whatever a handler has put there
            stream.flush()
