"""What the commands know of the terminal that they print on: its size, its colours, its pager."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING, Final, TextIO

from ..support.durations import OF_AGES
from .common import DONE, complain

if TYPE_CHECKING:
    from subprocess import Popen

# What git sets where the user has not: with it, less passes colours on, and leaves its last screen.
LESS: Final = "FRX"
LV: Final = "-c"


def is_coloured(stream: TextIO) -> bool:
    """Say whether a stream may have colours: a terminal that knows them, and no wish for none.

    See https://no-color.org for $NO_COLOR; TERM=dumb is a terminal without any such feature.
    """
    return (
        stream.isatty()
        and not os.environ.get("NO_COLOR")
        and os.environ.get("TERM", "dumb") != "dumb"
    )


def painted(text: str, colour: str | None) -> str:
    """Return a text in a colour, by the number that terminals know it by; in none if it is None.

    >>> painted("failed", "31")
    '\\x1b[31mfailed\\x1b[0m'
    """
    return f"\x1b[{colour}m{text}\x1b[0m" if colour else text


def width_of_terminal() -> int:
    """Return how many columns the terminal has."""
    import shutil  # here, as it imports much that a worker does not need

    return shutil.get_terminal_size().columns


def height_of_terminal() -> int:
    """Return how many lines the terminal has."""
    import shutil

    return shutil.get_terminal_size().lines


def rough(seconds: float) -> str:
    """Return a length of time for a glance: in its largest unit, rounded down.

    >>> rough(59), rough(5400), rough(3 * 86_400)
    ('59s', '1h', '3d')
    """
    whole = max(0, int(seconds))
    unit, length = next((each for each in OF_AGES if whole >= each[1]), OF_AGES[-1])
    return f"{whole // length}{unit}"


def relative(moment: float, now: float) -> str:
    """Return a time for a glance, beside the time of now; both in Unix seconds.

    >>> relative(100, 400), relative(400, 100)
    ('5min ago', 'in 5min')
    """
    return f"in {rough(moment - now)}" if moment > now else f"{rough(now - moment)} ago"


# -- a pager ---------------------------------------------------------------------------------------


def print_lines(lines: Iterable[str], *, paged: bool = True) -> None:
    """Print lines: on a terminal that they do not fit, in the user's pager, as git does it.

    The pager is $PAGER, or less. There is none where $PAGER is empty or `cat`.

    Raises `BrokenPipeError` when the pager was left before the last line.
    """
    lines = iter(lines)
    command = _pager() if paged and sys.stdout.isatty() else ""
    first = list(itertools.islice(lines, height_of_terminal())) if command else []
    if len(first) < height_of_terminal():  # one line is the prompt's
        command = ""
    with _paging(command) as stream:
        for line in itertools.chain(first, lines):
            print(line, file=stream)


def _pager() -> str:
    """The command of the pager; empty for none."""
    named = os.environ.get("PAGER")
    command = "less" if named is None else named.strip()
    if command in ("", "cat"):
        return ""
    import shutil

    # A command of several words is the shell's, which says what it does not find.
    if command.isalnum() and shutil.which(command) is None:
        if named is not None:
            complain(f"there is no pager {command} ($PAGER): printed without", DONE)
        return ""
    return command


@contextmanager
def _paging(command: str) -> Iterator[IO[str]]:
    """The standard input of a pager while it runs; standard output without one."""
    if not command:
        yield sys.stdout
        return
    import signal
    import subprocess

    sys.stdout.flush()
    defaults = {"LESS": LESS, "LV": LV}
    pager = subprocess.Popen(
        command,
        shell=True,  # the user's own command
        stdin=subprocess.PIPE,
        env={**defaults, **os.environ},
        text=True,
        encoding=sys.stdout.encoding,
        errors="backslashreplace",
    )
    assert pager.stdin is not None
    # Ctrl-C is the pager's, which stops a search by it; it ends us only by the pager's own end.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield pager.stdin
    finally:
        _end(pager)
        signal.signal(signal.SIGINT, before)


def _end(pager: Popen[str]) -> None:
    assert pager.stdin is not None
    with suppress(BrokenPipeError):
        pager.stdin.close()
    pager.wait()
