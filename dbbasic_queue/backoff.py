"""When a failed job is tried again."""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Callable
from typing import Any, Final, NamedTuple

LONGEST: Final = 10 * 365 * 86400  # seconds; a schedule that says more means "never mind"

log = logging.getLogger("dbbasic_queue")


class Backoff(NamedTuple):
    """Exponential backoff: `base * factor ** attempts` seconds, at most `cap`.

    `jitter` is a share from 0 to 1: the wait is drawn evenly from that much less to that much
    more, so that jobs that failed together do not come back together. The default is the schedule
    of dbbasic-queue 1.0.0: 120 s after the first attempt, 240 s after the second, and so on.

    >>> Backoff()(1), Backoff(base=10, cap=60)(5)
    (120.0, 60)
    """

    base: float = 60
    factor: float = 2
    cap: float | None = None
    jitter: float = 0

    def __call__(self, attempts: int) -> float:
        """Seconds to wait after so many attempts."""
        return _exponential(self, attempts)


BackoffLike = Callable[[int], float] | Any


def seconds(backoff: BackoffLike, attempts: int) -> int:
    """Whole seconds to wait after so many attempts, from 0 to ten years.

    `backoff` is a callable from the attempts so far to seconds, or an object with `base`,
    `factor`, `cap` and `jitter`. One that raises or answers nonsense is logged and replaced by the
    default: a job is never lost over its schedule.

    >>> seconds(lambda attempts: 5, 1), seconds(Backoff(), 2)
    (5, 240)
    """
    try:
        delay = backoff(attempts) if callable(backoff) else _exponential(backoff, attempts)
        return _whole(delay)
    except Exception:
        log.exception("backoff=%r gave no number of seconds; the default is used", backoff)
        return _whole(Backoff()(attempts))


def _exponential(backoff: Any, attempts: int) -> float:
    try:
        delay = float(backoff.base) * float(backoff.factor) ** attempts
    except OverflowError:
        delay = LONGEST
    cap = backoff.cap if backoff.cap is not None else math.inf
    delay = min(delay, cap)
    if backoff.jitter:
        delay *= 1 + backoff.jitter * random.uniform(-1, 1)
    return min(delay, cap)


def _whole(delay: float) -> int:
    return math.ceil(min(max(delay, 0), LONGEST))  # which raises ValueError for NaN
