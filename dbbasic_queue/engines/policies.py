"""Policies: how the jobs of a type are treated, where that differs from all others."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import Any, Final, NamedTuple

from ..backoff import LONGEST, BackoffLike
from ..rate import Rate
from ..support.durations import format_duration
from ..support.text import printable

log = logging.getLogger("dbbasic_queue")

KNOWN: Final = 1000  # types whose policy is remembered


class Policy(NamedTuple):
    """What holds for the jobs of a type. What is None is as it is for all types.

    Args:
        max_attempts: attempts in total before a job counts as `failed`.
        timeout: seconds that a handler may run.
        backoff: from the attempts so far to seconds until the next, as `Queue.process_jobs` takes
            it.
        priority: jobs of the highest are begun first, among those that are due; 0 if None.
        concurrency: how many jobs of a type run at once, in all workers together.
        expires: seconds. A job that no worker has begun so long after it was due is cancelled.
        rate: how many are begun in a time, in all workers together.

    >>> Policy(max_attempts=8, timeout=30).is_plain
    True
    """

    max_attempts: int | None = None
    timeout: float | None = None
    backoff: BackoffLike | None = None
    priority: int | None = None
    expires: float | None = None
    concurrency: int | None = None
    rate: Rate | None = None

    @property
    def is_plain(self) -> bool:
        """Whether a job may be begun without a closer look at it."""
        return self.expires is None and self.concurrency is None and self.rate is None


NOTHING: Final = Policy()


class Policies:
    """The policies of all types.

    Where several names match a type, what the most exact one says counts: the type itself, then
    the glob with the most characters that are not wildcards. What that does not say, the next says.

    Args:
        said: policies by type, or by a glob such as `mail.*`.

    Raises `ValueError` for a value that makes no sense.

    >>> policies = Policies({"mail.*": Policy(max_attempts=8, timeout=30), "mail.a": Policy(5)})
    >>> policies.of("mail.a")[:2], policies.of("mail.b")[:2], policies.of("report") == NOTHING
    ((5, 30), (8, 30), True)
    """

    def __init__(self, said: Mapping[str, Policy] | None = None) -> None:
        said = said or {}
        for name, policy in said.items():
            _check(name, policy)
        self._by_name = dict(said)
        self._said = sorted(said.items(), key=lambda item: (-_exactness(item[0]), item[0]))
        self._known: dict[str, Policy] = {}

    def of(self, job_type: str) -> Policy:
        """What holds for a type."""
        if not self._said:
            return NOTHING
        policy = self._known.get(job_type)
        if policy is None:
            if len(self._known) >= KNOWN:
                self._known.clear()
            policy = self._known[job_type] = self._found(job_type)
        return policy

    def over(self, others: Mapping[str, Policy]) -> Policies:
        """These, and what others say where these say nothing, name by name.

        >>> Policies({"mail": Policy(timeout=30)}).over({"mail": Policy(5, 10)}).of("mail")[:2]
        (5, 30)
        """
        if not others:
            return self
        said = {**others, **self._by_name}
        for name in others.keys() & self._by_name.keys():
            pairs: Any = zip(self._by_name[name], others[name], strict=True)
            said[name] = Policy(*(other if own is None else own for own, other in pairs))
        return Policies(said)

    def _found(self, job_type: str) -> Policy:
        own = [policy for name, policy in self._said if name == job_type]
        own += [policy for name, policy in self._said if fnmatchcase(job_type, name)]
        said = (
            (value for value in values if value is not None) for values in zip(*own, strict=True)
        )
        return Policy(*(next(values, None) for values in said))

    def trying(
        self, job_type: str, max_attempts: int, backoff: BackoffLike
    ) -> tuple[int, BackoffLike]:
        """How often a type is tried, and when again, where others have these two."""
        own = self.of(job_type)
        return own.max_attempts or max_attempts, backoff if own.backoff is None else own.backoff

    def any(self, says: Callable[[Policy], object]) -> bool:
        """Whether one of the policies says something: `any(lambda policy: policy.timeout)`."""
        return any(says(policy) is not None for _, policy in self._said)


NONE: Final = Policies()


def expired(after: float) -> str:
    """The error of a job that was cancelled as no worker had begun it in time."""
    return f"Expired: not begun within {format_duration(int(after))}"


def tell_expired(job_type: str, job_id: str, error: str) -> None:
    """Log that a job was cancelled like that."""
    log.warning(
        "cancelled %s %s: %s",
        printable(job_type),
        job_id,
        error,
        extra={"event": "expired", "job_id": job_id, "job_type": job_type},
    )


def _exactness(name: str) -> int:
    return sum(character not in "*?[]" for character in name)


def _check(name: str, policy: Any) -> None:
    if not isinstance(policy, Policy):
        raise ValueError(f"policies[{name!r}]: must be a Policy, not {type(policy).__name__}")
    most = policy.max_attempts
    if most is not None and (isinstance(most, bool) or not isinstance(most, int) or most < 1):
        raise ValueError(f"policies[{name!r}]: max_attempts {most!r}: must be 1 or more")
    most = policy.concurrency
    if most is not None and (
        isinstance(most, bool) or not isinstance(most, int) or not 1 <= most <= 1000
    ):
        raise ValueError(f"policies[{name!r}]: concurrency {most!r}: must be from 1 to 1000")
    priority = policy.priority
    if priority is not None and (isinstance(priority, bool) or not isinstance(priority, int)):
        raise ValueError(f"policies[{name!r}]: priority {priority!r}: must be a whole number")
    _check_rate(name, policy.rate)
    for key in ("timeout", "expires"):
        value = getattr(policy, key)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if value is not None and not (is_number and 0 < value <= LONGEST):
            raise ValueError(
                f"policies[{name!r}]: {key} {value!r}: must be above 0 s, up to ten years"
            )


def _check_rate(name: str, rate: Any) -> None:
    if rate is None:
        return
    if not isinstance(rate, Rate):
        said = f'must be a Rate, such as Rate.parse("100/min"), not {type(rate).__name__}'
        raise ValueError(f"policies[{name!r}]: rate {rate!r}: {said}")
    try:
        rate.check()
    except ValueError as error:
        raise ValueError(f"policies[{name!r}]: rate {error}") from None
