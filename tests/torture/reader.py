"""A second reader of the table, written from the specification alone.

It shares no code with the engine, so that an error of the engine's reader cannot hide itself.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import NamedTuple

HEADER = b"id\ttype\tpayload\tstatus\tcreated_at\trun_at\tattempts\terror\tresult"
STATUSES = ("pending", "processing", "completed", "failed", "cancelled")
_ID = re.compile("[A-Za-z0-9_-]{1,64}")
FINISHED = ("completed", "failed", "cancelled")


class Seen(NamedTuple):
    """A job as a line of the table shows it."""

    status: str
    attempts: int
    run_at: int
    created_at: int
    type: str
    payload: str  # JSON, without the spaces around it
    error: str
    result: str


class View(NamedTuple):
    """What a table holds."""

    jobs: dict[str, Seen]  # of two lines of one id, the later one
    twice: list[str]  # ids of which an older line is alive that looks as if work were left
    malformed: list[bytes]
    torn: bytes  # a last line that was cut off; not yet seen to
    header: bool


def read(path: Path) -> View:
    """Read a table file; one that is missing or empty holds nothing."""
    try:
        return parse(path.read_bytes())
    except FileNotFoundError:
        return parse(b"")


def parse(data: bytes) -> View:
    """Read the bytes of a table."""
    lines = data.split(b"\n")
    rest = lines.pop()
    header = bool(lines) and lines[0] == HEADER
    jobs: dict[str, Seen] = {}
    twice: list[str] = []
    malformed: list[bytes] = []
    for line in lines[1:] if header else lines:
        if not line or line.startswith(b" "):
            continue
        found = _job(line)
        if found is None:
            malformed.append(line)
            continue
        if found[0] in jobs and jobs[found[0]].status not in FINISHED:
            twice.append(found[0])
        jobs[found[0]] = found[1]
    last = _job(rest)
    # A line without its newline counts when it can be read, but the new version of a moved row,
    # whose end may be missing, does not while its older line is alive.
    if last is not None and not (rest.split(b"\t")[2].startswith(b" ") and last[0] in jobs):
        if last[0] in jobs and jobs[last[0]].status not in FINISHED:
            twice.append(last[0])
        jobs[last[0]] = last[1]
        rest = b""
    return View(jobs, twice, malformed, rest, header)


def _job(line: bytes) -> tuple[str, Seen] | None:
    if line.startswith(b" "):
        return None
    try:
        fields = line.decode().split("\t")
        fields += [""] * (9 - len(fields))  # some editors cut empty fields off
        name, job_type, payload, status, created_at, run_at, attempts, error, result = fields
        if not (_ID.fullmatch(name) and job_type and status in STATUSES):
            return None
        json.loads(payload)
        if result.strip():
            json.loads(result)
        if "\0" in job_type or "\0" in error:
            return None
        return name, Seen(
            status,
            int(attempts),
            int(run_at),
            int(created_at),
            job_type,
            payload.strip(),
            error,
            result.strip(),
        )
    except ValueError:
        return None
