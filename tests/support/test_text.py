"""Text on one line: JSON, escapes, and values as messages show them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsons import FORBIDDEN, hostile, values, wire

from dbbasic_queue.support.text import SHOWN, dump_json, escape_control, escape_json, shown


@given(values)
def test_json_round_trips_on_one_clean_line(value: Any) -> None:
    """Any value comes back as it was, from text without a control character, in UTF-8."""
    written = dump_json(value)
    assert not FORBIDDEN & set(written)
    assert json.loads(written.encode()) == wire(value)


@given(st.text(st.characters(exclude_categories=["C", "Zl", "Zp"])))
def test_json_is_readable(value: str) -> None:
    """What a person can read is written as it is."""
    assert json.dumps(value, ensure_ascii=False) == dump_json(value)


@given(hostile)
def test_control_characters_are_escaped(message: str) -> None:
    """Escaped text is one line of UTF-8, the same where it was clean before."""
    clean = escape_control(message)
    assert not FORBIDDEN & set(clean)
    assert clean.encode().decode() == clean
    if not FORBIDDEN & set(message) and not any("\ud800" <= char <= "\udfff" for char in message):
        assert clean == message


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("inf"), b"x", {1, 2}, object(), 10**5000],
    ids=["nan", "inf", "bytes", "set", "object", "long"],
)
def test_what_json_cannot_hold_is_refused(value: Any) -> None:
    """Nothing is written as JSON that is not."""
    with pytest.raises((TypeError, ValueError)):
        dump_json({"a": [value]})


@given(values)
def test_json_of_others_is_made_clean(value: Any) -> None:
    """What `json` wrote with all characters as they are is clean afterwards, and the same value."""
    clean = escape_json(json.dumps(value, ensure_ascii=False))
    assert not FORBIDDEN & set(clean)
    assert json.loads(clean.encode()) == wire(value)


class _Named:
    """A value whose repr is what a test says."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


@given(hostile)
def test_a_value_in_a_message_is_one_short_line(text: str) -> None:
    """Whatever a value's repr says, a message shows it on one line of bounded length."""
    for value in (text, _Named(text), [_Named(text)], {"a": text.encode(errors="replace")}):
        written = shown(value)
        assert not FORBIDDEN & set(written)
        assert len(written) <= SHOWN
        written.encode()


def test_a_value_without_a_repr_is_named_by_its_type() -> None:
    """A repr that raises is not the message's end."""

    class Broken:
        def __repr__(self) -> str:
            raise RuntimeError("no")

    assert shown(Broken()) == "(Broken, whose repr raised RuntimeError)"
    assert shown(10**5000) == "(int, whose repr raised ValueError)"
