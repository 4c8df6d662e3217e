"""A terminal as a person has it: a shell in tmux, keys sent to it, its screen looked at."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

needs_tmux = pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")
PROMPT = "$ "
PATIENCE = 40  # seconds, after which what was waited for does not come


class Screen:
    """A shell in a terminal of its own.

    Args:
        folder: in which the shell is.
        columns: of the terminal.
        rows: of the terminal.
        env: variables beside those that a shell needs.
    """

    def __init__(
        self, folder: Path, columns: int = 80, rows: int = 24, env: dict[str, str] | None = None
    ) -> None:
        self._sockets = tempfile.mkdtemp(prefix="dbq-tmux-")  # a socket's path is short
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "LANG": "C.UTF-8",
            "TERM": "xterm-256color",
            "TZ": "UTC",
            # Where the tests are of a copy: the mutants.
            **{name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ},
            **(env or {}),
        }
        size = ("-x", str(columns), "-y", str(rows))
        shell = f"exec env PS1='{PROMPT}' bash --norc --noprofile"
        self._tmux("new-session", "-d", *size, "-c", str(folder), shell)

    def __enter__(self) -> Screen:
        try:
            self.wait_for(re.escape(PROMPT.strip()))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self._tmux("kill-server")
        shutil.rmtree(self._sockets)

    def _tmux(self, *words: str) -> str:
        command = ["tmux", "-u", "-f", "/dev/null", "-S", f"{self._sockets}/s", *words]
        done = subprocess.run(command, env=self._environment, capture_output=True, timeout=PATIENCE)
        assert done.returncode == 0, (words, done.stderr)
        return done.stdout.decode()

    def type(self, text: str) -> None:
        """Type a text, without the Enter key."""
        self._tmux("send-keys", "-l", text)

    def press(self, *keys: str) -> None:
        """Press keys by tmux's names, such as Enter, C-c, Down."""
        self._tmux("send-keys", *keys)

    def run(self, command: str) -> None:
        """Type a command and Enter."""
        self.type(command)
        self.press("Enter")

    def resize(self, columns: int, rows: int) -> None:
        """Give the terminal another size."""
        self._tmux("resize-window", "-x", str(columns), "-y", str(rows))

    def lines(self, *, colours: bool = False) -> list[str]:
        """What the screen shows, a line each."""
        return self._tmux("capture-pane", "-p", *(["-e"] if colours else [])).splitlines()

    def cursor(self) -> tuple[int, int]:
        """The column and the row of the cursor, from 0."""
        column, row = self._tmux("display-message", "-p", "#{cursor_x} #{cursor_y}").split()
        return int(column), int(row)

    def shows_cursor(self) -> bool:
        """Whether the cursor is to be seen."""
        return self._tmux("display-message", "-p", "#{cursor_flag}").strip() == "1"

    def region(self) -> tuple[int, int]:
        """The first and the last row that scroll, from 0."""
        first, last = self._tmux(
            "display-message", "-p", "#{scroll_region_upper} #{scroll_region_lower}"
        ).split()
        return int(first), int(last)

    def wait_for(self, pattern: str, *, row: int | None = None, gone: bool = False) -> list[str]:
        """Wait until a pattern is on the screen, or on one of its rows; returns the lines.

        Args:
            pattern: a regular expression, searched in each line.
            row: of the line, from 0; negative ones from below.
            gone: wait until it is not there.
        """
        lines: list[str] = []

        def seen() -> bool:
            lines[:] = self.lines()
            looked = lines if row is None else lines[row:][:1]
            return any(re.search(pattern, line) for line in looked) != gone

        self.until(seen, lambda: (pattern, lines))
        return lines

    def until(self, condition: Callable[[], bool], why: Callable[[], object] | None = None) -> None:
        """Wait until something is so."""
        end = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < end, why() if why else self.lines()
            time.sleep(0.02)
