"""What `dbq work` shows on a terminal beside its log: a line that stays at the foot of it.

    12,304 done (3 failed), 87,696 to do, 1,240 a second, 1min10s left; running send_mail 3s

Theory of operation
-------------------
The line is the terminal's last row. All other output, of the log, of handlers and of the programs
that they start, goes to a scrolling region above it (DECSTBM, as apt has it), so that nothing needs
to be caught and written anew, and nothing breaks the line.

A process of its own draws it: the keeper. The worker's turn costs nothing for it, and a worker that
is killed leaves no terminal behind whose last row cannot be used: the keeper holds a descriptor of
the worker's process, and puts the terminal back when that ends, however it ends. The keeper is not
a child of the worker, as a handler may wait for all children of its process. Where both are killed
at once, as by `kill -9` of a process group, the keeper's guard puts the terminal back: a child of
its own, in a session that such a kill does not reach.

What the keeper is told comes through a pipe, from a handler of the log: the worker's loop knows
nothing of all this. How much there is to do it reads from the queue, the less often the longer that
takes: it is at work for one part in `SHARE` of the time at most.

The line is drawn while the worker is in the foreground of the terminal that controls it, and has
run for a moment. Where a signal stops it (Ctrl-Z), or it goes to the background, the line is taken
down first, and comes again with it.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Final

from ..engines.interface import Engine
from ..errors import QueueError
from ..job import PENDING
from ..log import TextFormatter
from ..support.columns import cut
from ..support.durations import format_duration
from ..support.text import escape_control
from .log_file import encoding_of
from .terminal import painted, rough

MOMENT: Final = 0.5  # seconds that a worker runs before it has a line
PAUSE: Final = 0.1  # seconds between two drawings
SHARE: Final = 25
WINDOW: Final = 10.0  # seconds, over which it is counted how many are done a second
LEAST_ROWS: Final = 4
LAST_WORD: Final = b"end\n"
KEPT: Final = b"."  # the keeper's, when the terminal is as it was
UP, DOWN = b"1", b"0"  # to its guard: whether the line is there

SAVE, RESTORE = "\x1b7", "\x1b8"  # the cursor, DECSC and DECRC
ROOM: Final = "\x1bD\x1b[A"  # a row below the cursor, IND and CUU
ALL_ROWS: Final = "\x1b[r"
NOTHING_BELOW: Final = "\x1b[J"
TAKEN_DOWN: Final = f"{SAVE}{ALL_ROWS}{RESTORE}{NOTHING_BELOW}"
LAST_ROW: Final = "\x1b[999;1H"  # CUP, which no terminal lets leave the screen
NO_WRAP, WRAP = "\x1b[?7l", "\x1b[?7h"  # DECAWM

COLOURS: Final = {"completed": "32", "started": "2"}  # of the log's lines, by their event
WORSE: Final = ((logging.ERROR, "31"), (logging.WARNING, "33"))
ENDED: Final = frozenset({"completed", "failed", "cancelled", "retried"})
LEFT: Final = frozenset({"snoozed", "put back"})  # no longer in hand, and not done


class ColourFormatter(TextFormatter):
    """A line for people, in a colour by what it tells."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The line, escaped, in its colour."""
        event = getattr(record, "event", "")
        colour = next((each for level, each in WORSE if record.levelno >= level), None)
        return painted(super().formatMessage(record), colour or COLOURS.get(event))


# -- in the worker ---------------------------------------------------------------------------------


class Teller(logging.Handler):
    """Tells the keeper what the log says of jobs: how many have ended in a process, and which runs.

    Each process tells its own numbers from its beginning, so a word that is lost is made up for by
    the next. It never waits for the keeper.
    """

    def __init__(self, pipe: int) -> None:
        super().__init__()
        self._pipe: int | None = pipe
        self._file = os.fstat(pipe).st_ino
        self._done = self._failed = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Tell of a record, if it is of a job that began or ended."""
        event = getattr(record, "event", "")
        if event not in ENDED and event not in LEFT and event != "started":
            return
        self._done += event in ENDED
        self._failed += event == "failed"
        running = escape_control(record.__dict__["job_type"]) if event == "started" else ""
        self._tell(f"{os.getpid()}\t{self._done}\t{self._failed}\t{running}\n".encode())

    def _tell(self, line: bytes) -> None:
        try:
            if self._pipe is not None and os.fstat(self._pipe).st_ino == self._file:
                os.write(self._pipe, line[: select.PIPE_BUF])
        except BlockingIOError:  # the keeper is behind: the next word has all of it
            pass
        except OSError:  # the keeper is gone, or a handler has closed what it did not open
            self._pipe = None


@contextmanager
def line_at_the_foot(
    engine: Engine, types: Collection[str] | None, coloured: bool
) -> Iterator[None]:
    """Keep a line at the foot of the terminal, on standard error, while this block runs.

    Args:
        engine: the queue.
        types: those of the jobs that are to be done; None for all.
        coloured: whether the line is in reverse video.
    """
    pipes = _start(engine, types, coloured) if _in_foreground(2) else None
    if pipes is None:
        yield
        return
    us, (told, kept) = os.getpid(), pipes
    teller = Teller(told)
    log = logging.getLogger("dbbasic_queue")
    log.addHandler(teller)
    try:
        yield
    finally:
        if os.getpid() == us:  # in a process that it has forked, the line is not at its end
            log.removeHandler(teller)
            _end(told, kept)


def _start(engine: Engine, types: Collection[str] | None, coloured: bool) -> tuple[int, int] | None:
    """Start the keeper; returns what it is told through, and what it tells its end through.

    None where it cannot be started, such as by a kernel that has no pidfd_open(2): the jobs do not
    depend on it.
    """
    heard, told = os.pipe()
    kept, keeps = os.pipe()
    os.set_blocking(told, False)
    ours = [heard, keeps]
    try:
        worker = os.pidfd_open(os.getpid())
        ours.append(worker)
        child = os.fork()
    except OSError:
        for fd in (*ours, told, kept):
            os.close(fd)
        return None
    if child == 0:  # ends at once, so that the worker's children are its own
        code = 1
        try:
            if os.fork() == 0:
                for fd in (told, kept):
                    os.close(fd)
                code = Keeper(heard, worker, keeps, engine, types, coloured).keep()
            else:
                code = 0
        finally:
            os._exit(code)
    for fd in ours:
        os.close(fd)
    os.waitpid(child, 0)
    return told, kept


def _end(told: int, kept: int) -> None:
    """Have the keeper end, and put the terminal back where it could not."""
    word = b""
    try:
        os.set_blocking(told, True)
        os.write(told, LAST_WORD)
        if select.select([kept], [], [], 5)[0]:
            word = os.read(kept, 1)
    except OSError:  # the keeper is gone, or a handler has closed what it did not open
        pass
    for fd in (told, kept):
        with suppress(OSError):
            os.close(fd)
    if word != KEPT:
        with suppress(OSError):  # so is the terminal
            os.write(2, TAKEN_DOWN.encode())


def _in_foreground(terminal: int) -> bool:
    """Whether this process is in the foreground of the terminal, which controls it."""
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False


# -- the keeper ------------------------------------------------------------------------------------


class Keeper:
    """The process that draws the line."""

    def __init__(
        self,
        heard: int,
        worker: int,
        keeps: int,
        engine: Engine,
        types: Collection[str] | None,
        coloured: bool,
    ) -> None:
        self._heard = heard
        self._worker = worker
        self._keeps = keeps
        self._terminal = os.dup(2)
        self._numbers = Numbers(engine, types)
        self._coloured = coloured
        self._row = 0  # where the line is; 0: it is not there
        self._guard = -1  # what the guard is told through

    def keep(self) -> int:
        """Draw the line until the worker ends; returns the exit code."""
        nowhere = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):  # a pipe of the worker's ends with the worker
            os.dup2(nowhere, fd)
        for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGTTOU):
            signal.signal(number, signal.SIG_IGN)
        with suppress(OSError):  # no process can be started: there is a line all the same
            self._start_guard()
        signal.signal(signal.SIGTSTP, self._on_stop)
        signal.signal(signal.SIGWINCH, self._on_resize)
        try:
            self._draw_until_the_end()
        except Exception as error:
            self._take_down()
            why = escape_control(f"{type(error).__name__}: {error}")
            self._write(f"dbq: the line at the foot has ended: {why}\n")
        self._take_down()
        os.write(self._keeps, KEPT)
        return 0

    def _start_guard(self) -> None:
        """Start what takes the line down if the keeper ends while it is there."""
        heard, told = os.pipe()
        if os.fork() == 0:
            try:
                os.setsid()
                os.close(told)
                last = DOWN
                while word := os.read(heard, 1):
                    last = word
                if last == UP:
                    os.write(self._terminal, TAKEN_DOWN.encode())
            finally:
                os._exit(0)
        os.close(heard)
        self._guard = told

    def _tell_guard(self, word: bytes) -> None:
        with suppress(OSError):  # there is none, or it was killed
            os.write(self._guard, word)

    def _draw_until_the_end(self) -> None:
        pause = MOMENT
        while not self._ended(pause):
            pause = PAUSE
            if not _in_foreground(self._terminal):
                self._take_down()
                continue
            self._numbers.look()
            self._draw()

    def _ended(self, seconds: float) -> bool:
        """Listen for so long; whether the worker has ended."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            readable, _, _ = select.select([self._heard, self._worker], [], [], left)
            if self._heard in readable:
                words = os.read(self._heard, 65536)
                if not words or words.endswith(LAST_WORD):
                    return True
                self._numbers.hear(words)
            elif self._worker in readable:
                return True
        return False

    # -- on the terminal -----------------------------------------------------------------------

    def _draw(self) -> None:
        columns, rows = os.get_terminal_size(self._terminal)
        before = ""
        if rows < LEAST_ROWS:
            self._take_down()
            return
        if rows != self._row:
            self._take_down()
            self._tell_guard(UP)
            before = f"{ROOM}{SAVE}\x1b[1;{rows - 1}r{RESTORE}"
            self._row = rows
        text = cut(self._numbers.line(), columns)
        text = painted(text, "7" if self._coloured else None)
        # The terminal may have another size by now than it had when it was asked: on its last row,
        # whichever that is, and not wrapped.
        text = f"{LAST_ROW}\x1b[2K{NO_WRAP}{text}{WRAP}"
        self._write(f"{before}{SAVE}{text}{RESTORE}")

    def _take_down(self) -> None:
        if self._row:
            self._row = 0
            # In a terminal that was resized, the row has perhaps moved: it is below the cursor.
            self._write(TAKEN_DOWN)
            self._tell_guard(DOWN)

    def _write(self, text: str) -> None:
        # In one call, so that what others write does not come between.
        with suppress(OSError):  # the terminal is gone
            encoding = encoding_of(self._terminal)
            os.write(self._terminal, text.encode(encoding, "backslashreplace"))

    def _on_stop(self, number: int, frame: FrameType | None) -> None:
        self._take_down()
        os.kill(os.getpid(), signal.SIGSTOP)

    def _on_resize(self, number: int, frame: FrameType | None) -> None:
        self._take_down()


class Numbers:
    """What the line says: how much is done and to do."""

    def __init__(
        self,
        engine: Engine,
        types: Collection[str] | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._types = types
        self._clock = clock
        self._ended: dict[int, tuple[int, int]] = {}  # process -> jobs that ended, and that failed
        self._running: dict[int, tuple[str, float]] = {}  # process -> type, since when
        self._samples: deque[tuple[float, int]] = deque()
        self._rest = b""
        self._to_do: int | None = None  # when `look` looked
        self._done_then = 0
        self._next = 0.0

    def hear(self, words: bytes) -> None:
        """Take in what the processes of the worker tell."""
        *lines, self._rest = (self._rest + words).split(b"\n")
        for line in lines:
            process, done, failed, running = line.decode(errors="replace").split("\t")
            self._ended[int(process)] = int(done), int(failed)
            if running:
                self._running[int(process)] = running, self._clock()
            else:
                self._running.pop(int(process), None)

    def look(self) -> None:
        """Read how much there is to do, when it is time."""
        began = self._clock()
        if began < self._next:
            return
        try:
            self._to_do = self._read()
        except (QueueError, OSError):  # the worker meets it, too, and says so
            self._to_do = None
        self._done_then = self._done()
        ended = self._clock()
        self._next = ended + max(1.0, SHARE * (ended - began))

    def _read(self) -> int:
        if self._types is None:
            return self._engine.stats().ready
        now = self._engine.now()
        jobs = self._engine.jobs([PENDING])
        return sum(job.type in self._types and job.run_at <= now for job in jobs)

    def _done(self) -> int:
        return sum(done for done, _ in self._ended.values())

    def line(self) -> str:
        """Return what the line says."""
        now, done = self._clock(), self._done()
        failed = sum(failed for _, failed in self._ended.values())
        parts = [f"{done:,} done" + (f" ({failed:,} failed)" if failed else "")]
        rate = self._rate(now, done)
        if self._to_do is not None:
            to_do = max(0, self._to_do - (done - self._done_then))
            parts.append(f"{to_do:,} to do")
            if rate:
                parts += [_a_second(rate), f"{format_duration(int(to_do / rate))} left"]
        elif rate:
            parts.append(_a_second(rate))
        return ", ".join(parts) + self._hands()

    def _hands(self) -> str:
        """What is in hand, the longest first: of each type how often, and for how long."""
        now, types = self._clock(), Counter(name for name, _ in self._running.values())
        since = {
            name: min(began for each, began in self._running.values() if each == name)
            for name in types
        }
        names = (
            f"{f'{types[name]} ' if types[name] > 1 else ''}{name} {rough(now - since[name])}"
            for name in sorted(types, key=lambda name: since[name])
        )
        return f"; running {', '.join(names)}" if types else ""

    def _rate(self, now: float, done: int) -> float:
        """How many have ended a second, of late."""
        self._samples.append((now, done))
        while now - self._samples[0][0] > WINDOW:
            self._samples.popleft()
        then, before = self._samples[0]
        return (done - before) / (now - then) if now > then else 0.0


def _a_second(rate: float) -> str:
    return f"{rate:,.0f} a second" if rate >= 10 else f"{rate:.2g} a second"
