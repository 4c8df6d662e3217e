"""`[types]`: how the jobs of a type are treated."""

from __future__ import annotations

from dataclasses import dataclass

from ..backoff import Backoff
from ..rate import Rate
from . import values
from .reader import key


@dataclass(frozen=True)
class TypeConfig:
    """One of `[types]`: of a type, or of all that a glob such as `mail.*` matches."""

    max_attempts: int | None = key(
        values.number(1),
        about="attempts in total, in place of [worker].max_attempts",
        example=8,
        otherwise="as [worker].max_attempts says",
    )
    timeout: int | None = key(
        values.duration(1),
        about="how long one job may run, in place of [worker].timeout",
        example="30s",
        otherwise="as [worker].timeout says",
    )
    backoff: Backoff | None = key(  # noqa: RUF009 - a field, as those above
        values.backoff,
        about="how long to wait before the next attempt, longer each time, or always as long",
        example="exponential(base=10s, factor=3, cap=1h, jitter=0.2)",
        more="The first wait is base x factor. jitter is a share: so much less or more, by chance. "
        "A time such as 30s is always that.",
        otherwise="exponential(base=1min)",
    )
    priority: int | None = key(
        values.number(-1_000_000),
        about="jobs of the highest are begun first, among those that are due",
        example=10,
        otherwise="0",
    )
    concurrency: int | None = key(
        values.number(1, 1000),
        about="how many jobs of a type run at once, in all workers together",
        example=2,
        otherwise="as many as there are workers",
    )
    rate: Rate | None = key(  # noqa: RUF009 - a field, as those above
        values.rate,
        about="how many jobs of a type are begun in a time, in all workers together",
        example="100/min",
        more="They are spread evenly; 100/min, burst=20 begins up to 20 at once after a time "
        "without any.",
        otherwise="as many as come",
    )
    expires: int | None = key(
        values.duration(1),
        about="a job that was not begun so long after it was due is cancelled",
        example="1d",
        otherwise="never",
    )
    redact: tuple[str, ...] = key(
        values.words,
        about="keys of the payload whose values no command prints, unless by --reveal",
        example=["token"],
        otherwise="none",
        value=(),
    )
