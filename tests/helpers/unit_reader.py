"""What systemd reads out of a unit file, by its man pages."""

from __future__ import annotations

import re

from hypothesis import strategies as st

from dbbasic_queue.config.values import forbidden

NASTY = " %$\\\"';#=*?[]{}()@:!+-|&<>~`naxuUs0é\u00a0\u2003😀"


texts = st.one_of(st.text(NASTY, max_size=30), st.text(max_size=30)).filter(
    lambda text: forbidden(text) is None
)


_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


_ESCAPES |= {"\\": "\\", '"': '"', "'": "'", "s": " "}


_NUMBERS = re.compile(r"x([0-9a-f]{2})|u([0-9a-f]{4})|U([0-9a-f]{8})|([0-7]{3})", re.I)


def read_words(value: str) -> list[str]:
    """The words that systemd takes from a value: quotes, then escapes, then specifiers.

    Written from systemd.syntax(7), systemd.service(5) and systemd.unit(5), not from the module.
    """
    found: list[str] = []
    current: list[str] = []
    quote, in_word, position = "", False, 0
    while position < len(value):
        character = value[position]
        position += 1
        if character == "\\":
            escaped, position = _read_escape(value, position)
            current.append(escaped)
            in_word = True
        elif quote:
            quote = "" if character == quote else quote
            current.append(character if quote else "")
        elif character in "\"'":
            quote, in_word = character, True
        elif character in " \t\n\r":
            found += ["".join(current)] if in_word else []
            current, in_word = [], False
        else:
            current.append(character)
            in_word = True
    assert not quote, "unbalanced quotes"
    found += ["".join(current)] if in_word else []
    return [read_specifiers(each) for each in found]


def _read_escape(value: str, position: int) -> tuple[str, int]:
    assert position < len(value), "a backslash at the end"
    if value[position] in _ESCAPES:
        return _ESCAPES[value[position]], position + 1
    match = _NUMBERS.match(value, position)
    assert match, "an unknown escape"
    digits, base = (match[4], 8) if match[4] else (match[0][1:], 16)
    return chr(int(digits, base)), match.end()


def read_specifiers(text: str) -> str:
    """`%%` becomes `%`; any other `%` would be replaced by something else."""
    assert not re.search(r"%(?!%)", text.replace("%%", "")), "a specifier"
    return text.replace("%%", "%")
