"""Durations as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbbasic_queue.support.durations import LONGEST, format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("50s", 50),
        ("10min", 600),
        ("1h30min", 5400),
        ("1h 30min", 5400),
        (" 7d ", 604_800),
        ("10 min", 600),
        ("2w", 1_209_600),
        ("1w2d3h4min5s", 788_645),
        ("90", 90),
        (90, 90),
        ("0", 0),
        ("0s", 0),
        (f"{LONGEST}", LONGEST),
    ],
)
def test_durations(text: str | int, seconds: int) -> None:
    """Numbers with units, largest first, and plain seconds are understood."""
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    ["", " ", "s", "5m", "1.5h", "-1", "30min1h", "1h1h", "1h  30min", "５s", "5s\n",
     "\t5s", "9" * 40, "9" * 40 + "s", -1, True, "1e3", "1M", "10 minutes", "1ms"],
)  # fmt: skip
def test_no_durations(text: str | int) -> None:
    """Anything else is refused with an example of what is right."""
    with pytest.raises(ValueError, match=r"is not a duration; use .*1h30min"):
        parse_duration(text)


@pytest.mark.parametrize("text", [f"{LONGEST + 1}", LONGEST + 1, "5300w", "1" + "0" * 17 + "w"])
def test_too_long(text: str | int) -> None:
    """No clock of a system can be asked for more than a hundred years."""
    with pytest.raises(ValueError, match="longer than a hundred years"):
        parse_duration(text)


def test_message_is_short_and_printable() -> None:
    """A hostile text is shown escaped and cut."""
    with pytest.raises(ValueError, match="is not a duration") as caught:
        parse_duration("\n" * 10_000)
    assert len(str(caught.value)) < 250
    assert "\n" not in str(caught.value)


@given(st.integers(0, LONGEST))
def test_round_trip(seconds: int) -> None:
    """What is written by `format_duration` is read back as the same."""
    assert parse_duration(format_duration(seconds)) == seconds


def test_format() -> None:
    """Durations are told in the largest units that fit, weeks as days."""
    told = [format_duration(seconds) for seconds in (0, 59, 60, 3661, 604_800, 90_000)]
    assert told == ["0s", "59s", "1min", "1h1min1s", "7d", "1d1h"]
