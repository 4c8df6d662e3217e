"""Text on one line: JSON, escapes, and values as messages show them."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable
from json import JSONDecoder, JSONEncoder, encoder
from typing import Any, Final, NoReturn

SHOWN: Final = 60  # characters of a value in a message

_readable: Final = JSONEncoder(ensure_ascii=False, allow_nan=False).encode


def _fast_encoder() -> Callable[[Any, int], tuple[str, ...]] | None:
    """Make once what `_readable` makes anew for each value; None where Python has none in C.

    Looks for no circular reference: what it cannot encode is left to `_readable` to explain.
    """
    try:
        return encoder.c_make_encoder(  # type: ignore[no-any-return, attr-defined]
            None, _no_default, encoder.encode_basestring, None, ": ", ", ", False, False, False
        )
    except (AttributeError, TypeError):
        return None


def _no_default(value: Any) -> Any:
    raise TypeError


_encode_fast: Final = _fast_encoder()


def counted(number: int, thing: str) -> str:
    """Return a number with its noun.

    >>> counted(1, "job"), counted(1200, "job")
    ('1 job', '1,200 jobs')
    """
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def dump_json(value: Any) -> str:
    """Return `value` as JSON that a person can read, without a control character.

    Raises what `json.JSONEncoder` raises: `TypeError`, `ValueError` (NaN, a circular reference, an
    integer too long), `RecursionError`.

    >>> dump_json({"name": "Zoë", "bell": "\\x07"})
    '{"name": "Zoë", "bell": "\\\\u0007"}'
    """
    try:
        text = "".join(_encode_fast(value, 0)) if _encode_fast else _readable(value)
    except (TypeError, ValueError, RecursionError):
        text = _readable(value)
    if text.isascii():
        return text.replace("\x7f", "\\u007f") if "\x7f" in text else text
    return escape_json(text)


def _finite(number: str) -> float:
    value = float(number)
    if math.isinf(value):
        raise ValueError(f"{number} is larger than a number can be")
    return value


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


# Reads what `dump_json` can write again, as RFC 8259 has it: Python's own takes NaN, and makes an
# infinity of 1e999. Another program may have written such a payload.
STRICT_JSON: Final = JSONDecoder(parse_float=_finite, parse_constant=_no_number)


@functools.cache  # compiled when it is wanted: a worker without work starts faster
def _unsafe() -> re.Pattern[str]:
    """What steers a terminal, ends a line somewhere, or cannot be written as UTF-8."""
    return re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


@functools.cache
def _unsafe_in_json() -> re.Pattern[str]:
    """What `_unsafe` finds, less what JSON escapes by itself."""
    return re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def escape_json(text: str) -> str:
    """Return JSON with escapes for what `json` leaves as it is, but `escape_control` would not.

    >>> escape_json('"\\x9b31m"')
    '"\\\\u009b31m"'
    """
    return _unsafe_in_json().sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def escape_control(text: str) -> str:
    """Return `text` with control characters, line separators and lone surrogates as escapes.

    >>> escape_control("two\\nlines\\t")
    'two\\\\nlines\\\\t'
    """
    return _unsafe().sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def printable(text: str) -> str:
    """Return a text that another user may have chosen, such as a job's type, for a log's line.

    >>> printable("mail"), printable("mail\\x1b[2J")
    ('mail', 'mail\\\\x1b[2J')
    """
    return text if text.isprintable() else escape_control(text)


def shown(value: object) -> str:
    """Return `value` for a message: on one line, at most `SHOWN` characters, whatever its `repr`.

    >>> shown("two\\nlines"), shown("x" * 100)[-3:]
    ("'two\\\\nlines'", 'xx…')
    """
    try:
        text = escape_control(repr(value))
    except Exception as error:  # an int too long to be written, a broken __repr__
        return f"({type(value).__name__}, whose repr raised {type(error).__name__})"
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"
