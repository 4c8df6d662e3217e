"""When a failed job is tried again: any schedule gives a wait, and a bad one loses no job."""

from __future__ import annotations

import logging
import math
from datetime import timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbbasic_queue import Backoff
from dbbasic_queue.backoff import LONGEST, seconds


def test_the_default_is_that_of_1_0_0() -> None:
    """120 s after the first attempt, then twice as long each time."""
    assert [seconds(Backoff(), attempts) for attempts in range(1, 6)] == [
        60 * 2**attempts for attempts in range(1, 6)
    ]


@pytest.mark.parametrize(
    ("backoff", "waits"),
    [
        (Backoff(base=10, factor=3), [30, 90, 270]),
        (Backoff(base=10, factor=1), [10, 10, 10]),
        (Backoff(base=0), [0, 0, 0]),
        (Backoff(base=60, cap=100), [100, 100, 100]),
        (Backoff(base=1, cap=0), [0, 0, 0]),
        (Backoff(base=0.1), [1, 1, 1]),  # never sooner than asked for
        (lambda attempts: attempts, [1, 2, 3]),
        (lambda attempts: 0.001, [1, 1, 1]),
        (lambda attempts: -5, [0, 0, 0]),
        (lambda attempts: Decimal("1.5"), [2, 2, 2]),
        (lambda attempts: True, [1, 1, 1]),
        ([5, 6, 7, 8].__getitem__, [6, 7, 8]),
        (SimpleNamespace(base=1, factor=10, cap=50, jitter=0), [10, 50, 50]),
        (lambda attempts: math.inf, [LONGEST] * 3),
        (lambda attempts: 10.0**300, [LONGEST] * 3),
        (lambda attempts: 10**400, [LONGEST] * 3),
        (Backoff(base=math.inf), [LONGEST] * 3),
        (Backoff(factor=1e300), [LONGEST] * 3),
    ],
    ids=range(18),
)
def test_schedules(backoff: Any, waits: list[int]) -> None:
    """A callable, or an object with the four attributes, gives whole seconds, rounded up."""
    given_waits = [seconds(backoff, attempts) for attempts in (1, 2, 3)]
    assert given_waits == waits
    assert all(type(wait) is int for wait in given_waits)


def test_very_many_attempts() -> None:
    """The ten-thousandth attempt is as far away as any wait may be, and no overflow."""
    assert seconds(Backoff(), 10_000) == LONGEST
    assert seconds(Backoff(cap=3600), 10_000) == 3600
    assert seconds(lambda attempts: 2**attempts, 10_000) == LONGEST


@pytest.mark.parametrize(
    "broken",
    [
        lambda attempts: 1 / 0,
        lambda attempts: None,
        lambda attempts: "5",
        lambda attempts: timedelta(5),
        lambda attempts: math.nan,
        lambda attempts: 1j,
        lambda: 5,
        Backoff,  # the class instead of an object of it
        5,
        None,
        "exponential",
        SimpleNamespace(base=1),
        Backoff(base="1m"),  # type: ignore[arg-type]
        Backoff(base=math.nan),
        Backoff(jitter="much"),  # type: ignore[arg-type]
        Backoff(cap="1h"),  # type: ignore[arg-type]
    ],
    ids=range(16),
)
def test_nonsense_is_logged_and_the_default_used(
    broken: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A schedule that raises, or gives no number, costs a line in the log and no job."""
    with caplog.at_level(logging.ERROR, logger="dbbasic_queue"):
        assert seconds(broken, 2) == 240
    assert "gave no number of seconds" in caplog.text


def test_what_ends_the_program_is_let_through() -> None:
    """Ctrl-C in a schedule is not a fault of the schedule."""

    def interrupted(attempts: int) -> float:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        seconds(interrupted, 1)


@given(
    st.builds(
        Backoff,
        base=st.floats(0, 1e6),
        factor=st.floats(0, 10),
        cap=st.none() | st.floats(0, 1e6),
        jitter=st.floats(0, 1),
    ),
    st.integers(1, 50),
)
def test_jitter_spreads_around_the_wait(backoff: Backoff, attempts: int) -> None:
    """The wait lies within the jitter's share of the wait without it, and within bounds."""
    plain = backoff._replace(jitter=0)(attempts)
    wait = seconds(backoff, attempts)
    low, high = plain * (1 - backoff.jitter), plain * (1 + backoff.jitter)
    assert 0 <= wait <= LONGEST
    assert min(math.floor(low), LONGEST) <= wait <= math.ceil(high) + 1


def test_jitter_differs() -> None:
    """Jobs that failed together do not all come back together."""
    assert len({seconds(Backoff(base=1e6, jitter=0.5), 1) for _ in range(50)}) > 40


def test_jitter_does_not_exceed_the_cap() -> None:
    """The cap bounds the wait whatever the jitter draws."""
    backoff = Backoff(base=100, factor=1, cap=100, jitter=1)
    assert max(backoff(1) for _ in range(200)) <= 100
