"""Jobs that have failed, together with those that failed in the same way."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from ..job import FAILED, PENDING, Job
from .choice import first_line

SHOWN: Final = "…"  # what stands where a number, an id or a quoted word was

# A quoted word, or a word with a digit in it: numbers, ids, times, addresses. Each word is tried
# from its beginning only, or a long one would cost the square of its length.
_DIFFERS: Final = re.compile(
    r"""(?<!\w)'[^']*'(?!\w)|(?<!\w)"[^"]*"(?!\w)|(?<!\w)\w*\d\w*(?:[.:,-]\w*\d\w*)*"""
)
_TYPE: Final = re.compile(r"[\w.]+(?:: |$)")


class Failures(NamedTuple):
    """The jobs of one type that have failed in one way. Times in Unix seconds."""

    type: str
    error: str  # `Type: message`, with … for what differs
    glob: str  # which the errors of these jobs match
    number: int
    waiting: int  # of these: pending, and tried again
    first: int | None  # when the first of those that have failed for good did; None: none of them
    last: int | None
    next: int | None  # when the first of those that are waiting is due
    example: str  # the id of the last of them


def group(jobs: Iterable[Job]) -> list[Failures]:
    """Return the failed jobs among these by type and error, most first.

    Pending jobs count that have failed before, and will be tried again.

    >>> jobs = [Job(f"a{n}", "mail", {}, "failed", 5, n, 3, f"E: no user {n}") for n in (7, 8)]
    >>> found = group(jobs)[0]
    >>> found.number, found.error, found.glob, found.example
    (2, 'E: no user …', 'E: no user *', 'a8')
    """
    found: dict[tuple[str, str], _Group] = {}
    for job in jobs:
        if job.error and job.status in (FAILED, PENDING):
            glob = glob_of(first_line(job.error))
            key = job.type, glob
            if key not in found:
                found[key] = _Group(job)
            found[key].add(job)
    groups = [each.told(*key) for key, each in found.items()]
    return sorted(groups, key=_most_first)


def merge(groups: Iterable[Failures]) -> list[Failures]:
    """Return the groups of several portions of jobs as `group` returns those of all the jobs.

    >>> jobs = [Job(f"a{n}", "mail", {}, "failed", 5, n, 3, f"E: no user {n}") for n in (7, 8)]
    >>> merge(group([job])[0] for job in jobs) == group(jobs)
    True
    """
    found: dict[tuple[str, str], Failures] = {}
    for each in groups:
        key = each.type, each.glob
        known = found.get(key)
        found[key] = each if known is None else _together(known, each)
    return sorted(found.values(), key=_most_first)


def _together(one: Failures, other: Failures) -> Failures:
    newer = other if (other.last or 0) >= (one.last or 0) else one
    return newer._replace(
        number=one.number + other.number,
        waiting=one.waiting + other.waiting,
        first=min((at for at in (one.first, other.first) if at is not None), default=None),
        next=min((at for at in (one.next, other.next) if at is not None), default=None),
    )


def _most_first(each: Failures) -> tuple[Any, ...]:
    return -each.number, -(each.last or 0), each.type, each.glob


def glob_of(error: str) -> str:
    """Return a glob for errors that differ in numbers, ids and quoted words only.

    >>> glob_of("KeyError: 'to'"), glob_of("OSError: [Errno 13] Permission denied: '/a'")
    ('KeyError: *', 'OSError: [[]Errno *] Permission denied: *')
    """
    head = _TYPE.match(error)
    start = head.end() if head else 0
    parts = [_escaped(error[:start])]
    for found in _DIFFERS.finditer(error, start):
        parts += [_escaped(error[start : found.start()]), "*"]
        start = found.end()
    return re.sub(r"\*{2,}", "*", "".join([*parts, _escaped(error[start:])]))


def _escaped(text: str) -> str:
    """A text as a glob that matches nothing else."""
    return re.sub(r"[*?[]", r"[\g<0>]", text)


class _Group:
    """What is counted of one kind."""

    def __init__(self, job: Job) -> None:
        self.count = self.waiting = 0
        self.example = job
        self.ended: tuple[int, int] | None = None
        self.due: int | None = None

    def add(self, job: Job) -> None:
        self.count += 1
        if job.status == PENDING:
            self.waiting += 1
            self.due = job.run_at if self.due is None else min(self.due, job.run_at)
        else:
            first, last = self.ended or (job.run_at, job.run_at)
            self.ended = min(first, job.run_at), max(last, job.run_at)
        if _rank(job) >= _rank(self.example):
            self.example = job

    def told(self, job_type: str, glob: str) -> Failures:
        first, last = self.ended or (None, None)
        return Failures(
            job_type,
            re.sub(r"\[([*?[])\]|\*", lambda match: match[1] or SHOWN, glob),
            glob,
            self.count,
            self.waiting,
            first,
            last,
            self.due,
            self.example.id,
        )


def _rank(job: Job) -> tuple[Any, ...]:
    return job.status == FAILED, job.run_at
