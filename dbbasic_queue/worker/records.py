"""What handlers log: each record with the job that it is of, also in the worker's own log.

Theory of operation
-------------------
An application sets up its logging as it likes, also while a handler runs, and may throw away what
it finds: a filter or a handler of ours at its loggers would not stay. So the job is noted where a
record leaves its logger, in `logging.Logger.callHandlers`: every record that no level or filter has
held back comes there, once. A turn in which nothing is logged costs nothing.

The application's own handlers get their records as ever, with two more attributes. The worker's log
gets a copy: a formatter keeps the text of a traceback in the record that it was given.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from .current import job_in_hand

OURS: Final = "dbbasic_queue"  # the logger whose records tell of jobs by themselves


class JobFields(logging.Filter):
    """Notes the job in hand on each record that a handler of jobs logs: `job_id` and `job_type`.

    For a program that runs a worker itself, at the handlers of its log; `dbq work` does that by
    itself. Keeps what a record has already; lets all records pass.

    >>> handler = logging.StreamHandler()
    >>> handler.addFilter(JobFields())
    >>> handler.setFormatter(logging.Formatter("%(job_id)s %(message)s", defaults={"job_id": "-"}))
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Note the job in hand on a record; returns True."""
        job = job_in_hand()
        if job is not None and record.name != OURS:
            record.__dict__.setdefault("job_id", job.id)
            record.__dict__.setdefault("job_type", job.type)
        return True


def keep(outlet: logging.Handler, *, unheard: bool = False) -> Callable[[], None]:
    """From now on, note the job on what handlers log, and give a copy to the worker's log.

    Args:
        outlet: of the worker's log, whose level holds for them, too.
        unheard: only what no handler of the application takes, as where both write to standard
            error. Python would print the text of a warning alone.

    Returns what ends it.
    """
    call, fields, log = logging.Logger.callHandlers, JobFields(), logging.getLogger(OURS)

    def call_handlers(logger: logging.Logger, record: logging.LogRecord) -> None:
        job = None if logger is log else job_in_hand()
        if job is None:
            call(logger, record)
            return
        fields.filter(record)
        heard = logger.hasHandlers()
        if record.levelno >= log.level and not (unheard and heard):
            from copy import copy  # here, as a run without a job to log should start fast

            own = copy(record)
            own.__dict__.update(job_id=job.id, job_type=job.type, exc_text=None)
            outlet.handle(own)
        if heard or not unheard:
            call(logger, record)

    def end() -> None:
        logging.Logger.callHandlers = call  # type: ignore[method-assign]

    logging.Logger.callHandlers = call_handlers  # type: ignore[assignment, method-assign]
    return end
