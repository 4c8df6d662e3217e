"""The library's log: one line an event, as text or as JSON.

Events are logged to the logger `dbbasic_queue`, each with the fields `event`, `job_id`,
`job_type` and what else it has as attributes of the record: enqueued, started, completed,
retried, failed, rescued, cancelled, pending (put back by a person), put back (broken off by a
signal), stopping (a first signal waits for the job in hand), stopped (by a signal), pruned, fenced,
result (it cannot be JSON, or is too long).
"""

from __future__ import annotations

import json
import logging
import time
from typing import Final

from .support.text import escape_control, escape_json

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
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return escape_json(json.dumps(line, ensure_ascii=False, default=str))


class TextFormatter(logging.Formatter):
    """A line for people: time, level, process, message; a traceback follows indented.

    What steers a terminal, or cannot be written as UTF-8, is escaped.
    """

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s [%(process)d] %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The line. The type of a job that was written by hand may hold anything."""
        return escape_control(super().formatMessage(record))

    def formatException(self, ei: logging._SysExcInfoType) -> str:
        """The traceback, indented, so that a line that begins with a time is an event."""
        lines = super().formatException(ei).splitlines()
        return "\n".join("    " + escape_control(line) for line in lines)
