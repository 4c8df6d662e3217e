"""What a person may do with jobs: each verb says which it takes, and what becomes of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from ..job import CANCELLED, FAILED, PENDING, PROCESSING, Job, require
from .calling_off import note_of
from .moving import is_moved


class Verb(NamedTuple):
    """What is done with jobs by hand."""

    takes: tuple[str, ...]  # the states of those that it can be done to
    apply: Callable[[Job, int], Job | None]  # what a job becomes at a time; None: it cannot be done


def done_to(verb: Verb, job: Job, now: int) -> Job | None:
    """What becomes of a job; None if that cannot be done to it. Raises `IllegalTransition`."""
    new = verb.apply(job, now) if job.status in verb.takes else None
    if new is not None and new.status != job.status:
        require(job.id.encode(), job.status, new.status)
    return new


def _retried(job: Job, now: int) -> Job | None:
    if job.status == PENDING:
        waits_again = job.attempts > 0 and job.run_at > now
        return job._replace(run_at=now) if waits_again else None
    if is_moved(job):
        return None
    return job._replace(status=PENDING, run_at=now, attempts=0, error=None, result=None)


# A failed or cancelled job is due now, with no attempts counted; so is one that waits for its next
# attempt, but its attempts are kept.
RETRY: Final = Verb((FAILED, CANCELLED, PENDING), _retried)


def cancel(note: str, mark: str = "") -> Verb:
    """A pending job will not be run; `note` is its error.

    With a `mark` (calling_off.py), one that is running gets it, and stays what it is until its
    worker has seen it.

    >>> done_to(cancel("no more"), Job("a1", "mail", {}, "pending", 5, 5, 0), 9).error
    'no more'
    """

    def apply(job: Job, now: int) -> Job:
        if job.status == PENDING:
            return job._replace(status=CANCELLED, run_at=now, error=note or None)
        return job if note_of(job.error) else job._replace(error=mark)

    return Verb((PENDING, PROCESSING) if mark else (PENDING,), apply)


def defer(due: int) -> Verb:
    """A pending job is due at another time, in Unix seconds.

    >>> done_to(defer(100), Job("a1", "mail", {}, "pending", 5, 5, 0), 9).run_at
    100
    """
    return Verb((PENDING,), lambda job, now: job._replace(run_at=due))
