"""Which jobs are meant: one set of filters for all that lists jobs or changes them."""

from __future__ import annotations

import fnmatch
import itertools
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple, Protocol, TypeAlias, TypedDict

from ..errors import InvalidJob
from ..job import PENDING, STATUSES, Job, check_time

Time: TypeAlias = "float | datetime"  # Unix seconds, or an aware datetime
_GLOB: Final = re.compile(r"[*?[]")
_FRAMES: Final = r"\n"  # what stands in an error before the lines after its first


class Filters(TypedDict, total=False):
    """What jobs are chosen by, beside their state and type. All that is given must hold.

    Attributes:
        ids: only these jobs, by their whole ids.
        error: a glob that the first line of the error matches, which is `Type: message`.
        since: changed then or later, in Unix seconds or as an aware datetime. A job that waits
            changed last when it was added, one that runs when it began, others when they ended.
        until: changed then or before.
        where: keys of the payload, with the values that they have.
    """

    ids: Collection[str]
    error: str
    since: Time
    until: Time
    where: Mapping[str, Any]


class Choice(NamedTuple):
    """Which jobs are meant. What is None chooses nothing out.

    Globs are those of a shell: `*`, `?`, `[abc]`. A type that looks like one is matched as it is,
    too.

    >>> choice = Choice(types=("mail.*",), error="Timeout*")
    >>> choice.takes(Job("a1", "mail.send", {}, "failed", 5, 9, 3, "TimeoutError: no answer"))
    True
    """

    ids: tuple[str, ...] | None = None
    statuses: tuple[str, ...] | None = None
    types: tuple[str, ...] | None = None  # globs
    error: str | None = None  # a glob, which a job without an error does not match
    since: float | None = None  # Unix seconds
    until: float | None = None
    # Keys, and the values that will do.
    where: tuple[tuple[str, tuple[Any, ...]], ...] | None = None
    limit: int | None = None

    def takes(self, job: Job) -> bool:
        """Say whether a job is one of them, but for the limit."""
        ids, statuses, types, error, since, until, where, _ = self
        return (
            (statuses is None or job.status in statuses)
            and (ids is None or job.id in ids)
            and (types is None or self.takes_type(job.type))
            and (error is None or (bool(job.error) and matches(first_line(job.error), error)))
            and (since is None or changed_at(job) >= since)
            and (until is None or changed_at(job) <= until)
            and (not where or _has(job.payload, where))
        )

    def takes_type(self, job_type: str) -> bool:
        """Say whether jobs of a type can be among them."""
        return self.types is None or any(matches(job_type, glob) for glob in self.types)

    def only_type(self) -> str | None:
        """Return the type that they have, if there is one and it is named without a glob."""
        if self.types is None or len(self.types) != 1 or _GLOB.search(self.types[0]):
            return None
        return self.types[0]

    def within(self, statuses: Collection[str]) -> Choice:
        """Return the choice of those that are in one of these states."""
        mine = statuses if self.statuses is None else set(self.statuses) & set(statuses)
        return self._replace(statuses=tuple(mine))


class _Looks(Protocol):
    """What an engine needs for jobs to be looked at."""

    def find(self, job_id: str) -> Job | None: ...
    def jobs(
        self, statuses: Collection[str] | None = None, job_type: str | None = None
    ) -> Iterator[Job]: ...


def chosen(engine: _Looks, choice: Choice) -> Iterator[Job]:
    """Yield the jobs that are meant, in the engine's order; by ids in the order of those."""
    if choice.ids is not None:
        found = (engine.find(job_id) for job_id in dict.fromkeys(choice.ids))
        jobs: Iterator[Job] = (job for job in found if job is not None)
    else:
        jobs = engine.jobs(choice.statuses, choice.only_type())
    yield from itertools.islice(filter(choice.takes, jobs), choice.limit)


def choose(
    status: str | Collection[str] | None = None,
    job_type: str | Collection[str] | None = None,
    limit: int | None = None,
    *,
    ids: Collection[str] | None = None,
    error: str | None = None,
    since: Time | None = None,
    until: Time | None = None,
    where: Mapping[str, Any] | None = None,
) -> Choice:
    """Return the choice that keyword arguments make: those of `Filters`.

    Raises `ValueError` for an unknown state, a negative limit, or a time that is not one.

    >>> choose("failed", "mail.*", limit=5).types
    ('mail.*',)
    """
    statuses = (status,) if isinstance(status, str) else status
    for name in statuses or ():
        if name not in STATUSES:
            raise ValueError(f"status {name!r}: must be one of {', '.join(STATUSES)}")
    if limit is not None and limit < 0:
        raise ValueError(f"limit {limit!r}: must be 0 or more")
    return Choice(
        _tuple((ids,) if isinstance(ids, str) else ids),
        _tuple(statuses),
        _tuple((job_type,) if isinstance(job_type, str) else job_type),
        error,
        _seconds("since", since),
        _seconds("until", until),
        tuple((key, (value,)) for key, value in where.items()) if where else None,
        limit,
    )


def _tuple(values: Collection[str] | None) -> tuple[str, ...] | None:
    return None if values is None else tuple(values)


def _seconds(name: str, time: Time | None) -> float | None:
    """The Unix seconds of a time; a fraction is kept."""
    if time is None or (isinstance(time, int | float) and not isinstance(time, bool)):
        return time
    try:
        whole = check_time(time, 0)  # which refuses a datetime without a zone
    except InvalidJob as error:
        raise ValueError(f"{name}: {error}") from None
    return time.timestamp() if isinstance(time, datetime) else whole


def changed_at(job: Job) -> int:
    """Return when a job changed last, in Unix seconds: of one that waits, when it was added."""
    return job.created_at if job.status == PENDING else job.run_at


def first_line(error: str | None) -> str:
    """Return `Type: message` of an error, without what stands in the lines after it.

    >>> first_line("KeyError: 'to'\\\\n  jobs.py:7 in send")
    "KeyError: 'to'"
    """
    return (error or "").partition(_FRAMES)[0]


def matches(text: str, glob: str) -> bool:
    """Say whether a text matches a glob, or is the same."""
    return text == glob or _pattern(glob)(text) is not None


_patterns: dict[str, Callable[[str], re.Match[str] | None]] = {}


def _pattern(glob: str) -> Callable[[str], re.Match[str] | None]:
    if glob not in _patterns:
        if len(_patterns) > 100:
            _patterns.clear()
        _patterns[glob] = re.compile(fnmatch.translate(glob)).match
    return _patterns[glob]


def _has(payload: Any, where: tuple[tuple[str, tuple[Any, ...]], ...]) -> bool:
    return isinstance(payload, dict) and all(
        key in payload and any(_same(payload[key], value) for value in values)
        for key, values in where
    )


def _same(one: Any, other: Any) -> bool:
    """Whether two values are one in JSON, where `true` is not 1."""
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)
