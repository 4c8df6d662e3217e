"""What a person may do with jobs: each verb says which it takes, and what becomes of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from ..errors import InvalidJob
from ..job import CANCELLED, FAILED, PENDING, PROCESSING, Job, check_payload, require
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


def retry_with(changes: Mapping[str, Any], limit: int) -> Verb:
    """Return `RETRY` with other values for some keys of the payload, of `limit` bytes at most.

    Its `apply` raises `InvalidJob` for a payload that is not an object, or does not fit then.

    >>> job = Job("a1", "mail", {"to": "zoe", "n": 1}, "failed", 5, 5, 3, "E: no")
    >>> done_to(retry_with({"to": "ben"}, 1000), job, 9).payload
    {'to': 'ben', 'n': 1}
    """

    def apply(job: Job, now: int) -> Job | None:
        new = _retried(job, now)
        if new is None:
            return None
        payload = {**job.payload, **changes} if isinstance(job.payload, dict) else job.payload
        try:
            check_payload(payload, limit)
        except InvalidJob as error:
            raise InvalidJob(f"job {job.id}: {error}") from None
        return new._replace(payload=payload, error=None)  # which is that of the former payload

    return Verb(RETRY.takes, apply)


def cancel(note: str, mark: str = "") -> Verb:
    """Return what cancels a pending job, with `note` as its error.

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
    """Return what has a pending job wait until another time, in Unix seconds.

    >>> done_to(defer(100), Job("a1", "mail", {}, "pending", 5, 5, 0), 9).run_at
    100
    """
    return Verb((PENDING,), lambda job, now: job._replace(run_at=due))
