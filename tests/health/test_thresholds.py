"""Ranges mean what every other monitoring plugin takes them for."""

from __future__ import annotations

import math

import nagiosplugin
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbbasic_queue.health.thresholds import Range

GUIDELINES = ("10", "10:", "~:10", "10:20", "@10:20")
OTHERS = (
    "0",
    "0:",
    "0:0",
    ":10",
    ":",
    "~:",
    "@~:",
    "@0",
    "@10",
    "@10:",
    "@~:10",
    "~:0",
    "~:-1",
    "-5:5",
    "-10:-5",
    "@-5:-5",
    "1.5:2.5",
    "@.5:",
    "5.:",
    "-.5:0.0",
)
VALUES = (-math.inf, -11, -10, -5, -1, -0.5, 0, 0.5, 1.5, 2, 9.99, 10, 10.01, 15, 20, 21, math.inf)

numbers = st.one_of(
    st.integers(-1000, 1000).map(str),
    st.decimals(-1000, 1000, places=3).map(str),
)
ranges = st.builds(
    "".join,
    st.tuples(
        st.sampled_from(["", "@"]),
        st.one_of(st.sampled_from(["", "~:", ":"]), numbers.map("{}:".format)),
        st.one_of(st.just(""), numbers),
    ),
)


@pytest.mark.parametrize("text", GUIDELINES + OTHERS)
def test_each_form_alerts_as_nagiosplugin_says(text: str) -> None:
    """Every form of the guidelines alerts at the same numbers as the package nagiosplugin."""
    ours, theirs = Range.parse(text), nagiosplugin.Range(text)
    assert [ours.alerts(value) for value in VALUES] == [value not in theirs for value in VALUES]


@pytest.mark.parametrize(
    ("text", "alerting"),
    [
        ("10", [-1, 11, 20, 21]),
        ("10:", [-1, 0, 9]),
        ("~:10", [11, 20, 21]),
        ("10:20", [-1, 0, 9, 21]),
        ("@10:20", [10, 11, 20]),
    ],
)
def test_the_examples_of_the_guidelines(text: str, alerting: list[int]) -> None:
    """The guidelines' own table of examples holds, both ends included."""
    values = [-1, 0, 9, 10, 11, 20, 21]
    assert [value for value in values if Range.parse(text).alerts(value)] == alerting


@given(ranges, st.floats(allow_nan=False))
def test_any_range_means_what_nagiosplugin_takes_it_for(text: str, value: float) -> None:
    """What nagiosplugin reads, we read alike; what it refuses, and the empty text, we refuse."""
    try:
        theirs = nagiosplugin.Range(text)
    except ValueError:
        with pytest.raises(ValueError, match="not a range"):
            Range.parse(text)
        return
    if not text.strip("@"):
        with pytest.raises(ValueError, match="not a range"):
            Range.parse(text)
        return
    assert Range.parse(text).alerts(value) == (value not in theirs)


@given(ranges.filter(lambda text: text.strip("@")))
def test_what_is_printed_is_read_back(text: str) -> None:
    """The text of a range names the same range, to us and to nagiosplugin."""
    try:
        parsed = Range.parse(text)
    except ValueError:
        return
    assert Range.parse(str(parsed)) == parsed
    again = nagiosplugin.Range(str(parsed))
    assert (again.start, again.end, again.invert) == (parsed.start, parsed.end, parsed.inside)


NONSENSE = ("", "@", "a", "10:5", "~", "~10", ":~", "10:20:30", "1e3", "inf", "nan", " 10", "10 ")
MORE_NONSENSE = ("10\n", "１０", "--1", "1,5", "@@10", "10@", "9" * 400)


@pytest.mark.parametrize("text", NONSENSE + MORE_NONSENSE)
def test_what_is_no_range_is_refused(text: str) -> None:
    """Anything else is an error that shows how to write a range."""
    with pytest.raises(ValueError, match="is not a range"):
        Range.parse(text)
