"""How Debian's cron 3.0pl1 reads a crontab, after its sources: what the tests compare with.

Written from entry.c, env.c, misc.c and do_command.c, so that nothing here is shared with what it
checks. tests/e2e/test_real_cron.py shows that the real cron does the same.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

SPACE = b" \t\n\v\f\r"
LIMIT = 1000  # MAX_COMMAND and MAX_ENVSTR in cron.h, the final NUL included


@dataclass(frozen=True)
class Job:
    """One entry as cron would run it."""

    when: bytes
    user: bytes
    command: bytes
    environment: Mapping[bytes, bytes]


def read(text: bytes, *, user_column: bool) -> list[Job]:
    """The jobs of a crontab. Raises `ValueError` where cron would ignore the whole file."""
    if text and not text.endswith(b"\n"):
        raise ValueError("missing newline before EOF")
    jobs: list[Job] = []
    environment: dict[bytes, bytes] = {}
    for line in text.split(b"\n")[:-1]:
        line = line.lstrip(b" \t")
        if not line or line.startswith(b"#"):
            continue
        setting = load_env(line)
        if setting:
            environment[setting[0]] = setting[1]
        else:
            jobs.append(_load_entry(line, user_column, dict(environment)))
    return jobs


def _load_entry(line: bytes, user_column: bool, environment: dict[bytes, bytes]) -> Job:
    fields = 1 if line.startswith(b"@") else 5
    words = line.split(None, fields + user_column)
    if len(words) < fields + user_column + 1:
        raise ValueError(f"bad entry: {line!r}")
    command = words[-1]
    if len(command) >= LIMIT - 1:
        raise ValueError("command too long")
    user = words[fields] if user_column else b""
    return Job(b" ".join(words[:fields]), user, unescape(command), environment)


def unescape(command: bytes) -> bytes:
    """child_process(): the command ends at the first bare %, `\\%` and `\\\\` lose a backslash."""
    out = bytearray()
    escaped = False
    for byte in command:
        char = bytes([byte])
        out += char
        if escaped:
            if char in (b"%", b"\\"):
                out[-2:] = char
            escaped = False
        elif char == b"\\":
            escaped = True
        elif char == b"%":
            return bytes(out[:-1])
    return bytes(out)


def load_env(line: bytes) -> tuple[bytes, bytes] | None:
    """load_env(): the state machine, letter by letter."""
    line = line[: LIMIT - 2]
    states = ["NAMEI", "NAME", "EQ1", "EQ2", "VALUEI", "VALUE", "FINI", "ERROR"]
    state, quotechar, position = 0, b"", 0
    parts = {"name": bytearray(), "value": bytearray()}
    into = parts["name"]
    while states[state] != "ERROR" and position < len(line):
        char = line[position : position + 1]
        if states[state] in ("NAMEI", "VALUEI"):
            if char in b"'\"":
                quotechar = char
                position += 1
                char = line[position : position + 1]
                if not char:
                    state += 1
                    break
            state += 1
        if states[state] in ("NAME", "VALUE"):
            if quotechar:
                if char == quotechar:
                    state += 1
                    position += 1
                    continue
                if states[state] == "NAME" and char == b"=":
                    state = states.index("ERROR")
                    continue
            elif states[state] == "NAME":
                if char in SPACE:
                    position += 1
                    state += 1
                    continue
                if char == b"=":
                    state += 1
                    continue
            into += char
            position += 1
        elif states[state] == "EQ1":
            if char == b"=":
                state, into, quotechar = state + 1, parts["value"], b""
            elif char not in SPACE:
                state = states.index("ERROR")
            position += 1
        elif states[state] in ("EQ2", "FINI"):
            if char in SPACE:
                position += 1
            else:
                state += 1
    if states[state] != "FINI" and not (states[state] == "VALUE" and not quotechar):
        return None
    value = bytes(parts["value"]).rstrip(SPACE)
    if len(value) >= 2 and value[:1] in (b"'", b'"') and value[-1:] == value[:1]:
        value = value[1:-1]
    if len(parts["name"]) + 1 + len(value) >= LIMIT - 1:
        return None
    return bytes(parts["name"]), value


def run(job: Job, home: Path) -> subprocess.CompletedProcess[bytes]:
    """What cron does with a job when its time comes: environment, folder, shell."""
    environment = {b"HOME": bytes(home), b"PATH": b"/usr/bin:/bin", b"SHELL": b"/bin/sh"}
    environment |= dict(job.environment) | {b"LOGNAME": b"nobody"}
    shell = environment[b"SHELL"].decode()
    return subprocess.run(
        [shell, "-c", job.command], env=environment, cwd=home, capture_output=True, timeout=60
    )


def recorder_text(python: str) -> str:
    """A program that writes its arguments, environment and folder to the file $RECORD."""
    return f"""\
#!{python} -ISu
import os, sys
with open(os.environb[b"RECORD"], "ab") as record:
    words = [os.fsencode(word) for word in sys.argv[1:]]
    record.write(repr((words, dict(os.environb), os.getcwdb())).encode() + b"\\n")
"""


def recorder(path: Path) -> Path:
    """The recorder as an executable at this path."""
    path.write_text(recorder_text(sys.executable))
    path.chmod(0o755)
    return path


def recorded(path: Path) -> list[tuple[list[bytes], dict[bytes, bytes], bytes]]:
    """What recorders wrote."""
    lines: Sequence[str] = path.read_text().splitlines() if path.exists() else []
    return [ast.literal_eval(line) for line in lines]
