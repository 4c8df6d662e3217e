"""Commands as handlers: a program is started with the payload's values in its argument list.

Theory of operation
-------------------
No shell is ever involved: what a value may do is said in support/arguments.py. The program gets a
session of its own, so that a Ctrl-C at the worker's terminal is not meant for it; it and all that
it starts are one process group. Whatever breaks the job off (a timeout, a cancel, the second
signal) is an exception in the thread that waits here, and ends the whole group: SIGTERM, and
SIGKILL after `GRACE`. That exception cannot come between the start of the program and the moment
when it is known here, nor into the ending of the group: see `_holds_a_program`.

A worker that is killed can end nothing. So the kernel does: the program gets SIGKILL when the
thread that started it dies (prctl(2), PR_SET_PDEATHSIG). Else the next worker would start the job
beside it.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Final

from ..engines import interface
from ..errors import CommandFailed, JobTimeout
from ..support.arguments import Arguments
from ..support.bound import die_with_parent
from .wishes import Discard

if TYPE_CHECKING:
    import subprocess

TAIL: Final = 2000  # characters of output that are kept
GRACE: Final = 5.0  # seconds from SIGTERM to SIGKILL
LOOK: Final = 0.1  # seconds between two looks whether a silent program has ended
_BYTES: Final = 4 * TAIL + 4  # which hold so many characters of UTF-8 in any case
_PIPE: Final = 1 << 20  # bytes that may stand in a pipe when the program has ended


class Command:
    """A handler that starts a program, without a shell, and waits for its end.

    The job's payload is an object that has a string, a number, true or false for each placeholder,
    and nothing else. Standard input is /dev/null. The result has the exit status and the last 2,000
    characters of what the program has printed: `{"exit": 0, "output": "..."}`.

    Args:
        run: the argument list. `{name}` stands for the payload's value of that name, and stays one
            word, or a part of one; `{{` and `}}` stand for braces.
        timeout: seconds that the program may run, in place of the worker's own; None: as that says.
        directory: where the program runs; the worker's own if None.
        success: the exit statuses of a program that has done its work.
        options: placeholders whose value may begin with `-` where a word begins with them and no
            `--` stands before.

    The program gets the variables `DBQ_JOB_ID`, `DBQ_JOB_TYPE` and `DBQ_ATTEMPT` besides those of
    the worker. Raises `ValueError` for an argument list that cannot be one.

    As a handler it raises `Discard` for a payload that does not fit, which names the key: no later
    attempt would do better. It raises `CommandFailed` for a program that cannot be started, ends
    with another status, or is ended by a signal, and `JobTimeout`.

    >>> Command(["echo", "--", "{to}"])({"to": "$(reboot) ; -n"})
    {'exit': 0, 'output': '-- $(reboot) ; -n\\n'}
    """

    def __init__(
        self,
        run: Sequence[str],
        *,
        timeout: float | None = None,
        directory: str | os.PathLike[str] | None = None,
        success: Collection[int] = (0,),
        options: Collection[str] = (),
    ) -> None:
        if isinstance(run, str):
            raise ValueError(f"run {run!r}: must be a list of words: no shell splits it")
        self.arguments = Arguments(run, options)
        if timeout is not None and not timeout > 0:
            raise ValueError(f"timeout {timeout}: must be more than 0 seconds, or None")
        self.timeout = timeout
        self.keeps_time = timeout is not None  # so that the worker's own timeout does not count
        self.directory = None if directory is None else Path(directory)
        self.success = frozenset(success)

    def __call__(self, payload: Any) -> dict[str, Any]:
        """Run the program for a job with this payload; returns its exit status and output."""
        words = self.arguments_for(payload)
        with _Program(words, self.directory) as program:
            program.start()
            status = program.follow(self.timeout)
            output = program.output()
        if status in self.success:
            return {"exit": status, "output": output}
        ended = f"exit status {status}"
        if status < 0:
            ended = f"ended by signal {-status} ({_signal_name(-status)})"
        said = output.strip()
        raise CommandFailed(f"{self.arguments.program}: {ended}{f': {said}' if said else ''}")

    def arguments_for(self, payload: Any) -> list[bytes]:
        """Return the argument list for a payload; raises `Discard`, which names the key."""
        program = self.arguments.program
        if not isinstance(payload, Mapping):
            raise Discard(f"{program}: the payload must be an object, not {payload!r:.60}")
        try:
            return self.arguments.fill({key: _text(key, each) for key, each in payload.items()})
        except ValueError as error:
            raise Discard(f"{program}: {error}") from None


def _text(key: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    kind = "null" if value is None else "an array" if isinstance(value, list) else "an object"
    raise ValueError(f"{key}: must be a string, a number, true or false, not {kind}")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return "a real-time signal"


class _Program:
    """One run of a program. Left by an exception, it ends the program's process group."""

    def __init__(self, words: list[bytes], directory: Path | None) -> None:
        self._words = words
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        self._reader = -1
        self._tail = b""

    def __enter__(self) -> _Program:
        return self

    def start(self) -> None:
        """Start the program."""
        import subprocess  # slow to import, and most handlers are functions

        if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:  # which would hide the exit status
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        try:
            self._process = subprocess.Popen(
                self._words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                bufsize=0,
                cwd=self._directory,
                env={**os.environ, **_job_variables()},
                start_new_session=True,
                preexec_fn=die_with_parent(signal.SIGKILL),
            )
        except OSError as error:
            what = os.fsdecode(self._words[0])
            if self._directory is not None and os.fspath(error.filename) == str(self._directory):
                what = f"{what} in {self._directory}"
            raise CommandFailed(f"cannot start {what}: {error.strerror}") from None
        assert self._process.stdout is not None
        self._reader = self._process.stdout.fileno()
        os.set_blocking(self._reader, False)

    def follow(self, seconds: float | None) -> int:
        """Read what the program prints until it ends; returns its exit status.

        Raises `JobTimeout` after so many seconds. What the program leaves behind in the background
        is not waited for, although it may hold the same standard output.
        """
        until = None if seconds is None else time.monotonic() + seconds
        import select  # here, as a worker that starts no program need not load it

        poll = select.poll()
        poll.register(self._reader, select.POLLIN)
        while (status := self._status()) is None:
            wait = LOOK if until is None else min(LOOK, max(0, until - time.monotonic()))
            if not poll.poll(wait * 1000):
                pass
            elif not self._read():  # it has closed its output, and goes on
                time.sleep(min(wait, 0.01))
            if until is not None and time.monotonic() >= until:
                raise JobTimeout(f"ran for longer than {seconds:g} s")
        left = _PIPE
        while left > 0 and (piece := self._read()):
            left -= piece
        return status

    def _status(self) -> int | None:
        """Return the exit status, None while the program runs.

        Not to be broken off: `subprocess` would keep its lock, and `wait` would never end.
        """
        assert self._process is not None
        return self._process.poll()

    def _read(self) -> int:
        """Read what is there; returns how many bytes, 0 at the end or when there is nothing."""
        try:
            piece = os.read(self._reader, 1 << 16)
        except BlockingIOError:
            return 0
        self._tail = (self._tail + piece)[-_BYTES:]
        return len(piece)

    def output(self) -> str:
        """Return the last of what the program has printed."""
        return self._tail.decode("utf-8", "replace")[-TAIL:]

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        process = self._process
        if process is None:
            return
        if error is not None:
            _end_group(process)
        assert process.stdout is not None
        process.stdout.close()


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """End a program and all of its process group: asked to, and then by force."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except (ProcessLookupError, PermissionError):  # it is gone; or is another user's by now
            break
        until = time.monotonic() + GRACE
        while time.monotonic() < until and _is_there(process):
            time.sleep(0.01)
    if process.poll() is None:  # a program that has become another user's
        process.kill()
        process.wait()


def _is_there(process: subprocess.Popen[bytes]) -> bool:
    """Whether anything of a process group still runs."""
    process.poll()
    try:
        os.killpg(process.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it has become another user's, and is there
        pass
    return True


def _job_variables() -> dict[str, str]:
    """What tells the program which job it runs for; nothing outside of a worker."""
    from .current import current_job

    try:
        job = current_job()
    except LookupError:
        return {}
    return {
        "DBQ_JOB_ID": job.id,
        "DBQ_JOB_TYPE": job.type,
        "DBQ_ATTEMPT": str(job.attempt),
    }


_UNBREAKABLE: Final = frozenset(
    function.__code__
    for function in (_Program.start, _Program._status, _Program.__exit__, _end_group)
)


def _holds_a_program(frame: FrameType | None) -> bool:
    """Whether a program is being started or ended: an exception there would leave it behind."""
    while frame is not None:
        if frame.f_code in _UNBREAKABLE:
            return True
        frame = frame.f_back
    return False


interface.guards.append(_holds_a_program)
