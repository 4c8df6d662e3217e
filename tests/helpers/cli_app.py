"""`dbq` as a person runs it: in a process of its own, in a folder with handlers in it."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path

import warm

from dbbasic_queue import Queue

JOBS = """
import os, sys, time

def ok(payload): return payload

def bad(payload): raise ValueError("no such user")

def slow(payload):
    open("running", "w").close()
    end = time.monotonic() + payload["seconds"]
    while time.monotonic() < end and not os.path.exists("enough"):
        time.sleep(0.01)  # a signal that comes just before one long sleep would be heard after it
    return "slept"

def die(payload): os.kill(os.getpid(), 9)

def pid(payload):
    time.sleep(0.05)
    return os.getpid()

HANDLERS = {"ok": ok, "bad": bad, "slow": slow, "die": die, "pid": pid}
NOT_A_DICT = 5
"""


def dbq(
    *args: str, cwd: Path, stdin: str = "", env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("DBQ_")}
    return warm.run([*args], cwd=cwd, stdin=stdin, env={**clean, **(env or {})})


def start(*args: str, cwd: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "dbbasic_queue.cli", *args],
        cwd=cwd,
        env={k: v for k, v in os.environ.items() if not k.startswith("DBQ_")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(condition: Callable[[], object], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def queue_of(app: Path) -> Queue:
    return Queue(app / "data" / "queue.tsv")


class Terminal:
    """`dbq` on a terminal of its own, of 24 lines."""

    def __init__(
        self, *args: str, cwd: Path, columns: int = 80, env: dict[str, str] | None = None
    ) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 24, columns, 0, 0))
        clean = {
            k: v
            for k, v in os.environ.items()
            if k not in ("COLUMNS", "LINES", "NO_COLOR", "PAGER")
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "dbbasic_queue", *args],
            cwd=cwd,
            env={
                **{k: v for k, v in clean.items() if not k.startswith("DBQ_")},
                "TERM": "xterm",
                **(env or {}),
            },
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)
        self.shown = ""

    def read(self) -> str:
        """All that is shown until the program ends."""
        while self._more():
            pass
        os.close(self._ours)
        return self.shown

    def type(self, text: str) -> None:
        """Type at the keyboard."""
        os.write(self._ours, text.encode())

    def wait_for(self, text: str) -> None:
        """Wait until this text is shown."""
        while text not in self.shown:
            assert self._more(), f"{text!r} is not in {self.shown!r}"

    def _more(self) -> bool:
        try:
            piece = os.read(self._ours, 65536)
        except OSError:  # Linux says so when the last program has closed its side
            return False
        self.shown += piece.decode(errors="replace").replace("\r\n", "\n")
        return bool(piece)


def on_a_terminal(
    *args: str, cwd: Path, columns: int = 80, env: dict[str, str] | None = None
) -> tuple[int, str]:
    """Run `dbq` on a terminal of its own; returns the exit code and all that it shows."""
    terminal = Terminal(*args, cwd=cwd, columns=columns, env=env)
    shown = terminal.read()
    return terminal.process.wait(), shown
