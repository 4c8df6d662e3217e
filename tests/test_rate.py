"""How many jobs of a type are begun in a time: never more than the rate has for it."""

from __future__ import annotations

from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbbasic_queue import Rate
from dbbasic_queue.rate import MICROS


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("5/s", Rate(5, 1)),
        ("100/min", Rate(100, 60)),
        ("1/30s", Rate(1, 30)),
        ("1000/h, burst=50", Rate(1000, 3600, 50)),
        ("12 / 1h30min,burst = 12", Rate(12, 5400, 12)),
        ("7/w", Rate(7, 604_800)),
    ],
)
def test_a_rate_in_words(text: str, rate: Rate) -> None:
    """So many, and in which time; the word that it makes of itself says the same."""
    assert Rate.parse(text) == rate
    assert Rate.parse(str(rate)) == rate


@pytest.mark.parametrize(
    "text",
    ["", "5", "5/", "/s", "5/month", "0/s", "5/0s", "5/s, burst=6", "5/s burst=2", "-1/s", "5/s\n"],
)
def test_what_is_not_a_rate(text: str) -> None:
    """It is refused with an error that says what a rate is."""
    with pytest.raises(ValueError, match=r"must be|is not a duration"):
        Rate.parse(text)


RATES = st.builds(
    lambda jobs, seconds, burst: Rate(jobs, seconds, min(jobs, burst)),
    *(st.integers(1, 50), st.integers(1, 100), st.integers(1, 60)),
)


@given(RATES, st.lists(st.integers(0, 3 * MICROS), min_size=1, max_size=150))
def test_no_window_has_more_than_the_rate(rate: Rate, gaps: list[int]) -> None:
    """Between any two moments no more are begun than the rate has for that time, and a burst."""
    begun, until = [], 0
    for now in accumulate(gaps, initial=1_700_000_000 * MICROS):
        until, wait = rate.take(until, now)
        if not wait:
            begun.append(now)
    for first, start in enumerate(begun):
        for last, end in enumerate(begun[first:], first):
            most = (end - start) * rate.jobs / (rate.seconds * MICROS) + rate.burst
            assert last - first + 1 <= most


@given(RATES, st.integers(0, 10**17), st.integers(0, 10**10))
def test_one_is_begun_as_soon_as_there_is_one_again(rate: Rate, until: int, now: int) -> None:
    """After the wait that it was told and not sooner, whatever moment was kept before."""
    now += 1_700_000_000 * MICROS
    kept, wait = rate.take(until, now)
    assert wait <= rate.step
    if wait:
        assert rate.take(kept, now + wait - 1)[1] == 1
        assert rate.take(kept, now + wait)[1] == 0
