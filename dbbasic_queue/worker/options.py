"""How a worker works: its options, checked before it begins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ..backoff import LONGEST, Backoff, BackoffLike
from ..engines.interface import NONE, Policies, Policy

Timeout = float | Mapping[str, float] | None


class Options(NamedTuple):
    """How a worker works; what each means is said at `Queue.process_jobs`."""

    max_attempts: int = 3
    types: Sequence[str] | None = None
    limit: int | None = None
    max_seconds: float | None = None
    linger: float = 0
    timeout: Timeout = None
    backoff: BackoffLike = Backoff()
    unknown: str = "fail"
    policies: Policies = NONE

    def check(self) -> Options:
        """These options; raises `ValueError` when one of them makes no sense."""
        _require_count("max_attempts", self.max_attempts, at_least=1)
        if self.limit is not None:
            _require_count("limit", self.limit, at_least=0)
        for name in ("max_seconds", "linger"):
            _require_seconds(name, getattr(self, name))
        timeouts = self.timeout.values() if isinstance(self.timeout, Mapping) else [self.timeout]
        for value in timeouts:
            _require_seconds("timeout", value)
            if value is not None and not 0 < value <= LONGEST:
                raise ValueError(f"timeout {value}: must be above 0 s, up to ten years, or None")
        if self.unknown not in ("fail", "skip"):
            raise ValueError(f'unknown {self.unknown!r}: must be "fail" or "skip"')
        if isinstance(self.types, str):
            raise ValueError(f"types {self.types!r}: must be a list of types")
        return self

    def share(self, number: int, count: int) -> Options:
        """The options of one of `count` workers, numbered from 0: the limit is shared out."""
        if self.limit is None:
            return self
        limit = self.limit // count + (number < self.limit % count)
        return self._replace(limit=limit)

    def with_own(self, policies: Mapping[str, Policy]) -> Options:
        """These options, with what handlers say of their types where the options say nothing."""
        return self._replace(policies=self.policies.over(policies)) if policies else self

    def timeout_of(self, job_type: str) -> float | None:
        """Seconds that a job of this type may run; None: without a limit."""
        own = self.policies.of(job_type).timeout
        if own is not None:
            return own
        if self.timeout is None or isinstance(self.timeout, int | float):
            return self.timeout
        return self.timeout.get(job_type)

    @property
    def is_timed(self) -> bool:
        """Whether there are jobs that may run only so long."""
        return bool(self.timeout) or self.policies.any(lambda policy: policy.timeout)

    def max_attempts_of(self, job_type: str) -> int:
        """Attempts in total before a job of this type counts as `failed`."""
        return self.policies.of(job_type).max_attempts or self.max_attempts

    def backoff_of(self, job_type: str) -> BackoffLike:
        """When a job of this type is tried again."""
        own = self.policies.of(job_type).backoff
        return self.backoff if own is None else own


def _require_count(name: str, value: Any, *, at_least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < at_least:
        raise ValueError(f"{name} {value!r}: must be a whole number of {at_least} or more")


def _require_seconds(name: str, value: Any) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        raise ValueError(f"{name} {value!r}: must be 0 or more seconds")
