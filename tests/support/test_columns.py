"""How many columns of a terminal a text takes."""

from __future__ import annotations

import pytest

from dbbasic_queue.support.columns import cut, fitted, width_of


@pytest.mark.parametrize(
    ("text", "width"),
    [
        ("plain", 5),
        ("Zoë", 3),
        ("数据", 4),
        ("ｗｉｄｅ", 8),
        ("e\u0301", 1),  # a combining acute
        ("\u1112\u1161\u11ab", 2),  # a syllable of Hangul, in letters that join
        ("a\u200bb", 2),  # a space of no width
        ("co\u00adop", 5),  # a soft hyphen, which terminals draw
        ("🎉", 2),
        ("שלום", 4),
    ],
    ids=["ascii", "latin", "han", "fullwidth", "mark", "jamo", "zero", "soft", "emoji", "hebrew"],
)
def test_a_text_takes_as_many_columns_as_a_terminal_gives_it(text: str, width: int) -> None:
    """Wide characters take two, marks that join the one before take none."""
    assert width_of(text) == width


@pytest.mark.parametrize("most", range(8))
def test_what_is_cut_fits(most: int) -> None:
    """A text that is cut is never wider than it may be, and what is fitted is just as wide."""
    for text in ("abcdef", "数据库数据", "e\u0301" * 6, "🎉x🎉y🎉"):
        assert width_of(cut(text, most)) <= most
        assert width_of(fitted(text, most)) == most
        assert width_of(fitted(text, most, right=True)) == most
