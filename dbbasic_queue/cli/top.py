"""The command `dbq top`: the queue on a screen, live, with keys to retry, cancel and pause."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from types import FrameType
from typing import Final, NoReturn

from .common import Command, UsageError


def _top(args: argparse.Namespace) -> int:
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("top needs a terminal; in a pipe there are dbq stats and dbq errors")
    import curses  # all of it before root becomes another user, who perhaps cannot read it

    from ..views.following import Follower
    from .live import Top
    from .put_back import put_back
    from .seeing import reader_of

    if not _can_be_drawn_on():
        name = os.environ.get("TERM") or "not set"
        raise UsageError(f"top needs a terminal whose cursor can be moved: $TERM is {name}")
    reader = reader_of(args)
    signal.signal(signal.SIGTERM, _end)
    closing = b"".join(filter(None, map(curses.tigetstr, ("sgr0", "rmcup", "cnorm"))))
    with put_back(sys.stdout.fileno(), closing):
        return curses.wrapper(lambda window: Top(window, reader.queue, Follower(reader)).run())


def _can_be_drawn_on() -> bool:
    """Whether the kind of terminal is known, and can move its cursor."""
    import curses

    try:
        curses.setupterm()
    except curses.error:
        return False
    return bool(curses.tigetstr("cup"))


def _end(number: int, frame: FrameType | None) -> NoReturn:
    """End as the signal would have it, with the terminal as it was."""
    raise SystemExit(128 + number)


TOP: Final = Command(
    "top",
    "show the queue on a screen, live: what runs, failed, waits; retry, cancel, pause by a key",
    _top,
    "dbq top\ndbq top --config /etc/myapp/dbq.toml",
)
