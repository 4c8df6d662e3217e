"""The job whose handler is running: what `current_job()` answers in it, and in its threads."""

from __future__ import annotations

import threading
import time
from contextvars import ContextVar
from typing import Any, Final, Protocol

from ..engines.interface import Attempt, Progress
from ..job import Job

EVERY: Final = 1.0  # seconds at least between two notes of a job's progress


class Runner(Protocol):
    """What runs handlers, as far as a handler may ask it (handlers.py)."""

    queue: Any
    attempt: Attempt  # in hand, or the last one

    @property
    def is_running(self) -> bool:
        """Whether a handler is running."""

    def max_attempts_of(self, job_type: str) -> int:
        """Attempts in total before a job of this type counts as `failed`."""

    def note(self, attempt: Attempt, progress: Progress) -> None:
        """Write how far a job is."""


# Set for each handler. Without a runner, a program of another kind has the job, such as Celery.
current: ContextVar[tuple[Runner | None, Attempt]] = ContextVar("dbbasic_queue_job")
at_work: Final[list[Runner]] = []  # of this process: each knows its job in hand


class CurrentJob(Job):
    """The job in hand, as its handler sees it: a `Job`, and what else there is to ask and to say.

    `attempt` is the number of this attempt, from 1. `error` is that of the attempt before, or None.
    """

    _runner: Runner | None
    _attempt: Attempt

    @property
    def max_attempts(self) -> int | None:
        """Attempts in total before the job counts as `failed`.

        None where no worker of ours runs it.
        """
        return None if self._runner is None else self._runner.max_attempts_of(self.type)

    @property
    def enqueued_at(self) -> int:
        """When the job was added, in Unix seconds."""
        return self.created_at

    @property
    def queue(self) -> Any:
        """The `Queue` that is being worked: for a follow-up, wherever the working directory is.

        Raises `LookupError` where no worker of ours runs the job, as under Celery.

        >>> def handler(payload):
        ...     job = current_job()
        ...     job.queue.enqueue("report", {"of": job.id}, job_id=f"{job.id}-report")
        """
        found = None if self._runner is None else self._runner.queue
        if found is None:
            raise LookupError("current_job().queue: this job is not run from a queue of ours")
        return found

    def progress(self, share: float, text: str = "") -> None:
        """Say how far the job is: a share from 0 to 1, and words, which `dbq list` and `show` tell.

        May be called as often as you like: it is written at most once a second, in the row's own
        room, without a sync; a text that is too long for that is cut. A write that fails is logged
        and does not harm the job.

        Raises `ValueError` for another number.

        >>> def handler(payload):
        ...     for number, page in enumerate(payload["pages"]):
        ...         current_job().progress(number / len(payload["pages"]), page)
        """
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
            raise ValueError(f"progress {share!r}: must be a number from 0 to 1")
        if self._runner is not None:
            self._runner.note(self._attempt, Progress(round(share, 4), str(text)))


def current_job() -> CurrentJob:
    """The job whose handler is running, in that handler: its id, type, attempt number, and more.

    Also in the threads that the handler starts. Where several workers of this process are at work,
    each in a thread, call this in the handler and pass the job on to its threads.

    Raises `LookupError` outside a handler.

    >>> def handler(payload):
    ...     job = current_job()
    ...     return f"attempt {job.attempt} of {job.max_attempts} of {job.id}"
    """
    found = _in_hand()
    if found is None:
        raise LookupError("current_job() is for handlers: no job is running here")
    runner, attempt = found
    job = CurrentJob(*attempt.job)
    job._runner, job._attempt = runner, attempt
    return job


def queue_in_hand() -> Any:
    """The `Queue` whose job's handler is running; None outside a handler."""
    found = _in_hand()
    return None if found is None or found[0] is None else found[0].queue


def job_in_hand() -> Job | None:
    """The job whose handler is running, as `current_job` knows it; None outside a handler."""
    found = _in_hand()
    return None if found is None else found[1].job


def _in_hand() -> tuple[Runner | None, Attempt] | None:
    found = current.get(None)
    if found is None and at_work and threading.current_thread() is not threading.main_thread():
        running = [(each, each.attempt) for each in at_work if each.is_running]
        if len(running) == 1:
            (found,) = running
    return found


class Pace:
    """When a job's progress was last written, so that it is not written too often."""

    def __init__(self) -> None:
        self._attempt: Attempt | None = None
        self._from = 0.0

    def allows(self, attempt: Attempt) -> bool:
        """Whether it may be written now; if so, the next time is in a second."""
        now = time.monotonic()
        if attempt is self._attempt and now < self._from:
            return False
        self._attempt, self._from = attempt, now + EVERY
        return True
