"""How many jobs of a type are begun in a time: a token bucket, kept as one moment."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from .support.durations import format_duration, parse_duration
from .support.text import shown

MOST: Final = 1_000_000  # jobs
LONGEST: Final = 366 * 86_400  # seconds
MICROS: Final = 1_000_000  # in a second

_TEXT: Final = r"([0-9]{1,7}) ?/ ?([0-9a-z ]+?)(?:, ?burst ?= ?([0-9]{1,7}))?"


class Rate(NamedTuple):
    """So many jobs in so many seconds, spread evenly: `Rate(100, 60)` begins one each 0.6 s.

    In no time are more begun than the rate has for it, and `burst`: those that may follow each
    other at once after a time without any. With a burst of 1, no minute of `Rate(100, 60)` has
    more than 100, wherever it begins.

    Each attempt counts. What was begun is kept as one moment, until which it has used up the rate:
    the generic cell rate algorithm, ITU-T I.371, annex A.

    Args:
        jobs: 1 to a million.
        seconds: 1 to 366 days.
        burst: 1 to `jobs`.

    >>> Rate.parse("100/min, burst=20")
    Rate(jobs=100, seconds=60, burst=20)
    """

    jobs: int
    seconds: int
    burst: int = 1

    @classmethod
    def parse(cls, text: str) -> Rate:
        """Return the rate that a text names: `5/s`, `100/min`, `1/30s`, `1000/h, burst=50`.

        Raises `ValueError`, whose message says what was expected.
        """
        match = re.fullmatch(_TEXT, text, re.ASCII)
        if match is None:
            raise ValueError(
                f'must be a rate such as "5/s", "100/min" or "1000/h, burst=50", not {shown(text)}'
            )
        per = match[2] if match[2][0].isdigit() else f"1{match[2]}"
        return cls(int(match[1]), parse_duration(per), int(match[3] or 1)).check()

    def check(self) -> Rate:
        """Return it; raises `ValueError` if it makes no sense.

        >>> Rate(1, 1, 2).check()
        Traceback (most recent call last):
            ...
        ValueError: a burst of 2: must be a whole number from 1 to 1, the jobs of the rate
        """
        for name, value, most in (
            ("jobs", self.jobs, MOST),
            ("seconds", self.seconds, LONGEST),
        ):
            if not _is_whole(value, most):
                raise ValueError(f"{value!r} {name}: must be a whole number from 1 to {most}")
        if not _is_whole(self.burst, self.jobs):
            said = f"must be a whole number from 1 to {self.jobs}, the jobs of the rate"
            raise ValueError(f"a burst of {self.burst!r}: {said}")
        return self

    def __str__(self) -> str:
        burst = f", burst={self.burst}" if self.burst > 1 else ""
        return f"{self.jobs}/{format_duration(self.seconds)}{burst}"

    # All moments below are Unix microseconds, whole ones: what is rounded makes a job wait longer.

    @property
    def step(self) -> int:
        """How long one job uses up the rate, in microseconds."""
        return -(-self.seconds * MICROS // self.jobs)

    def is_beyond(self, until: int, now: int) -> bool:
        """Whether that moment is later than this rate can have made it: the clock was put back
        since, or the rate was another."""
        return until > now + self.burst * self.step

    def opens(self, until: int, now: int) -> int:
        """When it has one left again, or had, if it is until then that it is used up.

        >>> Rate(60, 60, 2).opens(5 * MICROS, 4 * MICROS)
        4000000
        """
        return min(until, now + self.burst * self.step) - (self.burst - 1) * self.step

    def take(self, until: int, now: int) -> tuple[int, int]:
        """Begin a job, if the rate has one left.

        Args:
            until: when what was begun has used up the rate; 0 if nothing was.
            now: this moment.

        Returns the next `until`, to be kept, and for how long no job may be begun: 0 if this one
        may. A moment that is too late counts as if all of the burst had been begun just now.

        >>> rate, until, waits = Rate(60, 60, 2), 0, []
        >>> for now in (0, 0, 0, MICROS // 2, MICROS):
        ...     until, wait = rate.take(until, now)
        ...     waits.append(wait)
        >>> waits
        [0, 0, 1000000, 500000, 0]
        """
        step, burst = self.step, self.burst
        until = max(now, min(until, now + burst * step))
        wait = until - now - (burst - 1) * step
        return (until, wait) if wait > 0 else (until + step, 0)


def _is_whole(value: object, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most
