"""Processes under load that may be killed at any moment, and what they noted until then.

Each process notes events in a file of its own, one line an event, with one write: what a process
has noted before it is killed is there. The harness forks them while it has no queue open, so they
are as separate as if each had been started by itself.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple


class Event(NamedTuple):
    """What a process noted."""

    time: float  # time.monotonic() of the machine
    process: int  # serial number
    kind: str
    job: str
    rest: str


class Notes:
    """The notebook of one process."""

    def __init__(self, folder: Path, process: int) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        self._fd = os.open(folder / f"{process}.events", flags)

    def note(self, kind: str, job: str = "-", rest: str = "") -> None:
        """Note an event: on record even if the process is killed right after."""
        os.write(self._fd, f"{time.monotonic():.6f}\t{kind}\t{job}\t{rest}\n".encode())


def events(folder: Path) -> list[Event]:
    """All events of all processes, in the order of time."""
    return sorted(event for path in folder.glob("*.events") for event in _read(path))


def _read(path: Path) -> Iterator[Event]:
    number = int(path.stem)
    for line in path.read_text().splitlines():
        at, kind, job, rest = line.split("\t")
        yield Event(float(at), number, kind, job, rest)


class Process:
    """A forked process with a serial number."""

    def __init__(self, number: int, role: str, pid: int) -> None:
        self.number = number
        self.role = role
        self.pid = pid


Role = Callable[[Notes], None]


class Troupe:
    """Processes in roles; who is gone is replaced."""

    def __init__(self, folder: Path, roles: dict[str, Role]) -> None:
        self._folder = folder
        self._roles = roles
        self._running: list[Process] = []
        self._started = 0
        self.killed: dict[int, float] = {}  # serial number -> when
        self.errors: list[str] = []  # of processes that ended otherwise than they should

    def __enter__(self) -> Troupe:
        return self

    def __exit__(self, *error: object) -> None:
        """No process plays on when the harness ends, however it ends."""
        for process in self.running():
            os.kill(process.pid, signal.SIGKILL)
            os.waitpid(process.pid, 0)

    def start(self, role: str) -> None:
        """Start one process."""
        self._started += 1
        number = self._started
        pid = os.fork()
        if pid == 0:
            _play(self._roles[role], self._folder, number)
        self._running.append(Process(number, role, pid))

    def running(self, *roles: str) -> list[Process]:
        """Who is running, in these roles or in any."""
        return [process for process in self._running if not roles or process.role in roles]

    def kill(self, process: Process, *, replace: bool = True) -> None:
        """Kill without warning, and start another in the same role."""
        self.killed[process.number] = time.monotonic()
        os.kill(process.pid, signal.SIGKILL)
        os.waitpid(process.pid, 0)
        self._running.remove(process)
        if replace:
            self.start(process.role)

    def replace_ended(self) -> None:
        """Start those anew who have ended by themselves."""
        for process in list(self._running):
            pid, status = os.waitpid(process.pid, os.WNOHANG)
            if pid:
                self._running.remove(process)
                self._note_end(process, status)
                self.start(process.role)

    def _note_end(self, process: Process, status: int) -> None:
        if os.WIFSIGNALED(status):  # by its own job, or before it could be asked to end
            self.killed[process.number] = time.monotonic()
        elif status:
            self.errors.append(f"{process.role} {process.number} ended with status {status}")

    def stop(self, *roles: str, patience: float = 30) -> None:
        """Ask processes to end, and wait for them."""
        for process in self.running(*roles):
            os.kill(process.pid, signal.SIGTERM)
        deadline = time.monotonic() + patience
        for process in self.running(*roles):
            while True:
                pid, status = os.waitpid(process.pid, os.WNOHANG)
                if pid:
                    break
                if time.monotonic() > deadline:
                    os.kill(process.pid, signal.SIGKILL)
                    _, status = os.waitpid(process.pid, 0)
                    self.errors.append(f"{process.role} {process.number} did not end: blocked")
                    break
                time.sleep(0.01)
            self._running.remove(process)
            self._note_end(process, status)


def _play(role: Role, folder: Path, number: int) -> None:
    code = 1
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        role(Notes(folder, number))
        code = 0
    except SystemExit as ending:
        code = int(ending.code or 0)
    except BaseException:
        import traceback

        (folder / f"{number}.error").write_text(traceback.format_exc())
    finally:
        os._exit(code)


def complaints(folder: Path) -> list[str]:
    """The tracebacks of processes that failed."""
    return [path.read_text() for path in sorted(folder.glob("*.error"))]
