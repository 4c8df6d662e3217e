"""What an attacker may put in the place of a file, beside a victim that a link leads to."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path


def _socket(path: Path, victim: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


OBSTACLES: dict[str, Callable[[Path, Path], object]] = {
    "a link": lambda path, victim: path.symlink_to(victim),
    "a dangling link": lambda path, victim: path.symlink_to(victim.with_name("made-by-root")),
    "a looping link": lambda path, victim: path.symlink_to(path.name),
    "a pipe": lambda path, victim: os.mkfifo(path),
    "a socket": _socket,
    "a device": lambda path, victim: os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 3)),
    "a folder": lambda path, victim: path.mkdir(),
    "a hard link": lambda path, victim: os.link(victim, path),
}
