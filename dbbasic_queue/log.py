"""The library's log: one line an event, as text or as JSON; and what it has of one job.

Events are logged to the logger `dbbasic_queue`, each with the fields `event`, `job_id`,
`job_type` and what else it has as attributes of the record: enqueued, started, completed,
retried, failed, rescued, cancelled, pending (put back by a person), put back (broken off by a
signal), stopping (a first signal waits for the job in hand), stopped (by a signal), pruned, fenced,
result (it cannot be JSON, or is too long).

`dbq work` logs there also what the handlers of jobs log to loggers of their own, with the id of the
job (worker/records.py).
"""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import time
from importlib import import_module
from pathlib import Path
from typing import IO, Final

from .errors import StorageError
from .support.text import escape_control, escape_json

OURS: Final = "dbbasic_queue"
LONGEST: Final = 1 << 20  # bytes of a line that are read
TRIES: Final = 5  # to read a log while it is being rotated
COMPRESSED: Final = {".gz": "gzip", ".bz2": "bz2", ".xz": "lzma"}  # suffix -> module
# How logrotate names what it has renamed, by number or date, and compressed (logrotate.conf(5)). A
# "backup" is a log that a worker had made before logrotate could make the new one.
_ROTATED: Final = r"(?:[.-][0-9][0-9.-]*(?:\.backup)?)?(?:\.(?:gz|bz2|xz))?"

FIELDS: Final = (
    "event",
    "job_id",
    "job_type",
    "attempt",
    "seconds",
    "run_at",
    "count",
)


class JsonFormatter(logging.Formatter):
    """A line of JSON for each record: time (UTC), level, message, and the event's fields.

    >>> record = logging.LogRecord("dbbasic_queue", 20, "", 0, "started %s", ("mail",), None)
    >>> json.loads(JsonFormatter().format(record))["message"]
    'started mail'
    """

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line of JSON."""
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = {
            "time": f"{at}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            "pid": record.process,
        }
        line.update((name, getattr(record, name)) for name in FIELDS if hasattr(record, name))
        if record.name != OURS and "job_id" in line:  # it is of a handler
            line["logger"] = record.name
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return escape_json(json.dumps(line, ensure_ascii=False, default=str))


class TextFormatter(logging.Formatter):
    """A line for people: time, level, process, message; a traceback follows indented.

    Before the message of another logger than the library's stand its name and the job's id, where
    the record has one. What steers a terminal, or cannot be written as UTF-8, is escaped.
    """

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s [%(process)d] %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The line. The type of a job that was written by hand may hold anything."""
        job_id = None if record.name == OURS else getattr(record, "job_id", None)
        if job_id is None:
            return escape_control(super().formatMessage(record))
        message = record.message
        record.message = f"{record.name} {job_id}: {message}"
        line = escape_control(super().formatMessage(record))
        record.message = message  # which others read
        return line

    def formatException(self, ei: logging._SysExcInfoType) -> str:
        """The traceback, indented, so that a line that begins with a time is an event."""
        return _indented(super().formatException(ei))

    def formatStack(self, stack_info: str) -> str:
        """The stack that a record was logged with, in the same way."""
        return _indented(super().formatStack(stack_info))


def _indented(text: str) -> str:
    return "\n".join("    " + escape_control(line) for line in text.splitlines())


def read_log(file: str | Path, job_id: str) -> list[str]:
    """Return what a worker's log has of one job: each record that names its id, the oldest first.

    A record is a line, as text or as JSON; below it, in the same string, the lines of a traceback.
    What logrotate has renamed and compressed (gzip, bzip2, xz) is read, too.

    Args:
        file: the log, as `[log].file` of the config or `--log-file` names it.
        job_id: the whole id, such as `mh3k9x2a7d4c30qz`.

    Returns nothing where there is no log yet. Raises `StorageError` for one that cannot be read.

    >>> for record in read_log("/var/log/shop/dbq.log", "mh3k9x2a7d4c30qz"):
    ...     print(record)
    """
    file = Path(file)
    for _ in range(TRIES):
        try:
            return [record for part in _parts(file) for record in _read(part, job_id)]
        except FileNotFoundError:  # renamed since it was seen
            continue
        except StorageError:
            raise
        except OSError as error:
            said = f"cannot read the log {file}: {error.strerror or error}"
            raise StorageError(error.errno or errno.EIO, said) from error
    raise StorageError(errno.EAGAIN, f"the log {file} is renamed again and again: try once more")


def _parts(file: Path) -> list[Path]:
    """The files of a log, the oldest first. Raises `OSError`."""
    if not file.parent.is_dir():
        return []
    pattern = re.compile(re.escape(file.name) + _ROTATED)
    with os.scandir(file.parent) as entries:
        found = {
            entry.name: (entry.name == file.name, entry.stat(follow_symlinks=False).st_mtime_ns)
            for entry in entries
            if pattern.fullmatch(entry.name)
        }
    # While a file is being compressed, both are there.
    whole = [name for name in found if not (_plain(name) != name and _plain(name) in found)]
    return [file.parent / name for name in sorted(whole, key=lambda name: (found[name], name))]


def _plain(name: str) -> str:
    """The name of a file before it was compressed."""
    stem, suffix = os.path.splitext(name)
    return stem if suffix in COMPRESSED else name


def _read(file: Path, job_id: str) -> list[str]:
    """The records of a job in one file. Raises `OSError`."""
    from .support.opening import open_file

    compressed = COMPRESSED.get(file.suffix)
    with open(open_file(file, os.O_RDONLY), "rb") as stream:
        if compressed is None:
            return _records(stream, job_id)
        try:
            with import_module(compressed).open(stream) as plain:
                return _records(plain, job_id)
        except Exception as error:  # each of these modules has errors of its own
            said = f"{file} cannot be decompressed: {error}; remove it, or restore it"
            raise StorageError(errno.EIO, said) from error


def _records(stream: IO[bytes], job_id: str) -> list[str]:
    """The records of a stream that name the job's id as a whole word."""
    needle = job_id.encode()
    named = re.compile(rb"(?<![\w-])" + re.escape(needle) + rb"(?![\w-])")
    found: list[str] = []
    mine, begins = False, True
    while line := stream.readline(LONGEST):
        if begins:
            is_more = line.startswith(b" ")
            mine = mine if is_more else needle in line and named.search(line) is not None
            if mine:
                text = line.decode("utf-8", "replace").rstrip("\n")
                if is_more:
                    found[-1] += "\n" + text
                else:
                    found.append(text)
        begins = line.endswith(b"\n")  # else the rest of it is left out
    return found
