"""A terminal of its own for a program that root starts as another user.

A program whose terminal is root's can push characters into its input (TIOCSTI, ioctl_tty(2)), which
root's shell reads and runs when the program has ended. So a program of another user gets a terminal
of its own, as sudo's `use_pty` gives it: this process stays behind as root and hands on what is
typed and what is shown, byte by byte, and the signals that it gets.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import traceback
from types import FrameType
from typing import Any, Final

STREAMS: Final = (0, 1, 2)
HANDED_ON: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
PIECE: Final = 65536  # bytes


def enter() -> None:
    """Go on in a child that has a terminal of its own; without a terminal, do nothing.

    The parent hands on, and ends with the child's exit code. Standard streams that are not a
    terminal stay what they are.
    """
    terminals = [fd for fd in STREAMS if os.isatty(fd)]
    if not terminals:
        return
    import pty  # here, as a cron job has no terminal

    saved = {fd: os.dup(fd) for fd in STREAMS if fd not in terminals}
    child, ours = pty.fork()
    if child == 0:
        for fd, copy in saved.items():
            os.dup2(copy, fd)
            os.close(copy)
        return
    for copy in saved.values():
        os.close(copy)
    code = 1
    try:
        code = _hand_on(child, ours, terminals)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _hand_on(child: int, ours: int, terminals: list[int]) -> int:
    """The whole life of the parent; returns the child's exit code."""
    import termios
    import tty

    screen = terminals[-1]
    keyboard = 0 if 0 in terminals and _is_in_front() else None

    def resize(number: int = 0, frame: FrameType | None = None) -> None:
        with contextlib.suppress(OSError):
            size = fcntl.ioctl(screen, termios.TIOCGWINSZ, bytes(8))
            fcntl.ioctl(ours, termios.TIOCSWINSZ, size)

    def pass_on(number: int, frame: FrameType | None) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, number)

    for number in HANDED_ON:
        signal.signal(number, pass_on)
    signal.signal(signal.SIGWINCH, resize)
    resize()
    before: list[Any] | None = None
    if keyboard is not None:
        before = termios.tcgetattr(keyboard)
        tty.setraw(keyboard)
    try:
        _copy(ours, keyboard, screen)
    finally:
        if keyboard is not None and before is not None:
            termios.tcsetattr(keyboard, termios.TCSAFLUSH, before)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _is_in_front() -> bool:
    """Whether what is typed is for us: not where the shell has started this in the background."""
    try:
        return os.tcgetpgrp(0) == os.getpgrp()
    except OSError:  # not the terminal of this session, so no shell shares it
        return True


def _copy(ours: int, keyboard: int | None, screen: int) -> None:
    """Hand on until the child's side is closed."""
    sources = [ours] if keyboard is None else [ours, keyboard]
    while True:
        ready, _, _ = select.select(sources, (), ())
        if keyboard in ready and keyboard is not None:
            typed = os.read(keyboard, PIECE)
            if typed:
                _write(ours, typed)
            else:
                sources.remove(keyboard)
        if ours in ready:
            try:
                shown = os.read(ours, PIECE)
            except OSError:  # Linux says so when the last program has closed its side
                return
            if not shown:
                return
            _write(screen, shown)


def _write(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]
