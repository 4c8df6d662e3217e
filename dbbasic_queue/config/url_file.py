"""The file that holds the address of a queue with its password: of one user, for no other."""

from __future__ import annotations

import os
import shlex
import stat
from pathlib import Path
from typing import Final

from ..errors import ConfigError
from ..support.address import scheme_of
from ..support.opening import ROOT, open_file, user_name

LARGEST: Final = 1 << 16  # bytes


def read_url_file(path: Path) -> str:
    """Return the address that is in a file, on a line of its own; lines that begin with # are left.

    Raises `ConfigError` for a file that cannot be read, that is not this user's or root's, that
    other users can read, or that holds no address.
    """
    try:
        fd = open_file(path, os.O_RDONLY)
        with open(fd, "rb") as stream:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise ConfigError(f"url_file {path}: it is not a regular file")
            _require_secret(path, status)
            text = stream.read(LARGEST).decode("utf-8-sig")
    except OSError as error:
        raise ConfigError(f"url_file {path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"url_file {path}: not UTF-8 text") from None
    lines = [line.strip() for line in text.splitlines()]
    found = [line for line in lines if line and not line.startswith("#")]
    if len(found) != 1 or scheme_of(found[0]) is None or not found[0].isprintable():
        raise ConfigError(
            f"url_file {path}: must hold one line, the address of a server such as"
            " redis://:PASSWORD@10.0.0.5/0"
        )
    return found[0]


def _require_secret(path: Path, status: os.stat_result) -> None:
    """Raise `ConfigError` unless the file is the user's own or root's, and no other can read it."""
    word = shlex.quote(str(path))
    if status.st_uid not in (ROOT, os.geteuid()):
        raise ConfigError(
            f"url_file {path}: it belongs to {user_name(status.st_uid)}, who could have the jobs "
            f"taken elsewhere: chown {user_name(os.geteuid())} {word}"
        )
    if status.st_mode & 0o077:
        raise ConfigError(f"url_file {path}: other users have rights to it: chmod 0600 {word}")
