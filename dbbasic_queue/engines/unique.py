"""A key under which a queue has one job for a while: `enqueue(..., unique="sync-42")`.

The job's id is the key, two hyphens and eight hex digits, such as `sync-42--5f2c9b1e`; no other id
may look like that. So the rows themselves say which jobs have a key, and nothing is kept beside
them. The producer says which of those that are there count: `Unique.counts`. A job that waits
counts always, so that a key never has two.

That holds when a job would wait again: a retry by hand is refused while another of the key is
unfinished, and an attempt that failed is the last one while another of the key waits, which does
the same work.
"""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any, Final, NamedTuple

from ..errors import InvalidJob
from ..job import CANCELLED, ERROR_LIMIT, FAILED, PENDING, PROCESSING, check_id
from ..support.text import shown

LONGEST: Final = 54  # characters of a key: an id has 64
_DIGITS: Final = frozenset("0123456789abcdef")


def key_of(job_id: str) -> str:
    """The key of a job with this id; empty for one without a key.

    >>> key_of("sync-42--5f2c9b1e"), key_of("sync-42"), key_of("a--b--00000000")
    ('sync-42', '', 'a--b')
    """
    if job_id[-10:-8] != "--" or not _DIGITS.issuperset(job_id[-8:]):
        return ""
    return job_id[:-10]


def check_own_id(job_id: Any) -> str:
    """An id that a program chooses for a job, as `check_id` has it, but not one with a key.

    Raises `InvalidJob`.
    """
    if key_of(check_id(job_id)):
        raise InvalidJob(
            f"job id {shown(job_id)}: two hyphens and eight hex digits at the end are for jobs that"
            " are enqueued with unique="
        )
    return str(job_id)


class Unique(NamedTuple):
    """A key, and which jobs with it count as there."""

    key: str
    until: str  # "end": until it has ended; "start": until it is begun; "time": see `since`
    since: float = 0  # Unix seconds: created then or later

    @classmethod
    def check(cls, key: Any, until: Any, now: float) -> Unique:
        """A key and `unique_until`, as `enqueue` takes them. Raises `InvalidJob`.

        >>> Unique.check("sync-42", 60, 1700000000)
        Unique(key='sync-42', until='time', since=1699999940)
        """
        if len(check_id(key)) > LONGEST:
            raise InvalidJob(f"unique {shown(key)}: must be at most {LONGEST} characters")
        if until in ("start", "end"):
            return cls(key, until)
        age = until.total_seconds() if isinstance(until, timedelta) else until
        if isinstance(age, bool) or not isinstance(age, int | float) or not age > 0:
            raise InvalidJob(
                f'unique_until {shown(until)}: must be "start", "end" or a number of seconds'
            )
        return cls(key, "time", now - age)

    def counts(self, status: str, created_at: int) -> bool:
        """Whether a job in this state, created then, is there, so that none is added."""
        if status == PENDING or (status == PROCESSING and self.until == "end"):
            return True
        return self.until == "time" and created_at >= self.since


def new_id(key: str) -> str:
    """The id of a new job with this key."""
    return f"{key}--{os.urandom(4).hex()}"


def rank(status: str) -> int:
    """Which of several jobs that count is named first: one that waits, then one that runs."""
    return (PENDING, PROCESSING).index(status) if status in (PENDING, PROCESSING) else 2


def instead(error: str, refund: bool, other: str) -> tuple[str, str]:
    """The state and the error of a job that would wait again, where `other` waits already.

    >>> instead("ValueError: no", False, "sync-42--5f2c9b1e")
    ('failed', 'ValueError: no (not tried again: sync-42--5f2c9b1e waits)')
    """
    if refund:
        return CANCELLED, f"Cancelled: {other} waits, and does the same"
    first, frames, rest = error.partition("\\n")
    text = f" (not tried again: {other} waits){frames}{rest}"
    return FAILED, (first[: ERROR_LIMIT // 2] + text)[:ERROR_LIMIT]
