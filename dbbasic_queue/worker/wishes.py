"""What a handler raises to say what is to become of its job: `Retry`, `Snooze`, `Discard`.

A message of one's own is kept in the job's error; without one, that of the exception that was being
handled, if there was one.
"""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Final

from ..backoff import LONGEST
from ..errors import QueueError
from ..job import error_text
from ..support.durations import parse_duration
from ..support.text import shown

Delay = str | float | timedelta

LEAST: Final = 1  # seconds of a snooze: one that is due at once would never let a run end
DEEPEST: Final = 100  # groups in groups that are looked into


class Wish(QueueError):
    """Base of what a handler raises about its own job; not raised itself."""

    def __init__(self, why: str = "") -> None:
        super().__init__(why)
        self.why = why

    def __str__(self) -> str:
        cause = self.__cause__ or (None if self.__suppress_context__ else self.__context__)
        return self.why or (error_text(cause) if isinstance(cause, Exception) else "")


class Retry(Wish):
    """Raise it in a handler: this attempt has failed, try again later.

    Args:
        after: seconds, a text such as "10min" or a `timedelta`; the job's own backoff if None.
        why: for the job's error.

    The attempt counts: after the last one the job is `failed`. Raises `ValueError` for what is not
    a length of time, or is above ten years.

    >>> def handler(payload):
    ...     raise Retry(after="10min", why="the printer is off")
    """

    def __init__(self, after: Delay | None = None, why: str = "") -> None:
        super().__init__(why)
        self.seconds = None if after is None else seconds_of("Retry", after)


class Snooze(Wish):
    """Raise it in a handler: not now. The job is tried again later; this attempt does not count.

    Args:
        after: seconds, a text such as "1min" or a `timedelta`; one second at least.
        why: for the log.

    Raises `ValueError` for what is not such a length of time, or is above ten years.

    >>> Snooze("1min").seconds
    60
    """

    def __init__(self, after: Delay, why: str = "") -> None:
        super().__init__(why)
        self.seconds = seconds_of("Snooze", after)
        if self.seconds < LEAST:
            raise ValueError(f"Snooze: {shown(after)} is too short; 1 s is the least")


class Discard(Wish):
    """Raise it in a handler: the job has failed for good, and is not tried again.

    >>> def handler(payload):
    ...     raise Discard("bad address")
    """


def seconds_of(name: str, delay: Delay) -> int:
    """Whole seconds of a delay, rounded up; raises `ValueError`, whose message begins with `name`.

    >>> seconds_of("Retry", "10min"), seconds_of("Retry", 0.5)
    (600, 1)
    """
    if isinstance(delay, timedelta):
        delay = delay.total_seconds()
    if isinstance(delay, float) and math.isfinite(delay):
        delay = math.ceil(delay)
    if not isinstance(delay, str | int):
        raise ValueError(f"{name}: {shown(delay)} is not a length of time")
    try:
        found = parse_duration(delay)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    if found > LONGEST:
        raise ValueError(f"{name}: {shown(delay)} is longer than ten years")
    return found


def wish_in(error: BaseException) -> Wish | None:
    """The wish that an exception is, or that is alone in a group, as a coroutine's tasks raise it.

    >>> wish_in(ExceptionGroup("tasks", [Discard("bad address")])).why
    'bad address'
    """
    for _ in range(DEEPEST):
        if isinstance(error, Wish):
            return error
        if not isinstance(error, BaseExceptionGroup) or len(error.exceptions) != 1:
            break
        error = error.exceptions[0]
    return None
