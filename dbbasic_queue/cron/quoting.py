"""Say a command or a variable so that cron hands on exactly these bytes.

Theory of operation
-------------------
Three readers stand between a crontab line and the program, each with its own rules (crontab(5),
and the sources of Debian's cron 3.0pl1: entry.c, env.c, do_command.c):

1. cron's parser takes the command up to the newline, 998 bytes at most. One byte more, and it
   ignores the *whole* file.
2. Before it runs the command, cron ends it at the first `%` that has no backslash before it, and
   makes one character of `\\%` and of `\\\\`. Other backslashes it leaves alone.
3. /bin/sh splits and unquotes what is left.

So a word is quoted for the shell first; then a backslash is never left before another backslash
or a `%` (the quotes are closed and opened again after it, which the shell does not see), so that
rule 2 has nothing to find; then each `%` gets its one backslash.

A variable's line is read by cron alone, with other rules: `env_line` knows them.
"""

from __future__ import annotations

import re
import shlex

MAX_COMMAND = 998
MAX_LINE = 998
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# cron sets LOGNAME itself whatever the file says, and would run every entry by another SHELL.
_CRONS_OWN = frozenset({"SHELL", "LOGNAME"})


def quote(word: str) -> str:
    """One word of a command, quoted for cron and the shell.

    Raises `ValueError` for a control character: a newline would begin another entry.

    Example:
        quote("100% of it's")  # "'100\\\\% of it'\\"'\\"'s'"
    """
    for character in word:
        if ord(character) < 0x20 or 0x7F <= ord(character) < 0xA0:
            raise ValueError(f"{word!r} holds a control character, which no crontab can")
    return shlex.quote(word).replace("\\", "\\''").replace("%", "\\%")


def as_run(command: bytes) -> bytes:
    """What cron hands to the shell for the command of an entry (rule 2)."""
    head = re.match(rb"(?:\\.|[^%\\]|\\\Z)*", command, re.DOTALL)
    return re.sub(rb"\\([%\\])", rb"\1", head[0] if head else b"")


def as_logged(command: bytes) -> bytes:
    """How cron writes a command into its log: printable ASCII only (mkprint in its misc.c)."""

    def one(byte: int) -> bytes:
        if byte < 0x20:
            return b"^%c" % (byte + 0x40)
        if byte < 0x7F:
            return b"%c" % byte
        return b"^?" if byte == 0x7F else b"\\%03o" % byte

    return b"".join(map(one, command))


def env_line(name: str, value: str) -> str | None:
    """The line that sets a variable to exactly this value, or None if cron has none.

    Between quotes of one kind all stands for itself, but cron takes trailing blanks off
    nevertheless, and a second pair of quotes inside the first.

    Example:
        env_line("GREETING", "hello %s")  # 'GREETING=hello %s'
        env_line("GREETING", " hello")    # 'GREETING=" hello"'
    """
    if name in _CRONS_OWN or not _VARIABLE.fullmatch(name) or value != value.rstrip():
        return None
    if value and value == value.lstrip() and value[0] not in "\"'":
        line = f"{name}={value}"
    else:
        twice = len(value) > 1 and value[0] in "\"'" and value[-1] == value[0]
        fitting = [mark for mark in "\"'" if mark not in value and not twice]
        if not fitting:
            return None
        line = f"{name}={fitting[0]}{value}{fitting[0]}"
    return line if len(line.encode("utf-8", "surrogateescape")) <= MAX_LINE else None
