"""The environment of the scheduled entries, the same under cron and under systemd.

`environment_file` is written for systemd's `EnvironmentFile=`, which is not a shell script: `$` is
not expanded, blanks need no quotes. So it is not sourced under cron but read here, by systemd's
rules (systemd.exec(5)), and one file means the same to both.
"""

from __future__ import annotations

import codecs
import re
from pathlib import Path
from typing import Final

from ..support.files import read_regular

LARGEST: Final = 4 << 20  # bytes
_START = re.compile(
    r"[ \t\n\r]*(?:(?P<comment>[#;][^\n\r]*)|(?P<key>[^\n\r][^=\n\r]*)(?P<equals>=?)|\Z)"
)
_SINGLE = re.compile(r"[ \t]*'(?P<inner>[^']*)(?:'|\Z)")
_DOUBLE = re.compile(r'[ \t]*"(?P<inner>(?:\\.|[^"\\])*)(?:"|\\?\Z)', re.DOTALL)
_BARE = re.compile(r"[ \t]*(?P<inner>(?:\\.|[^\\\n\r])*?)(?:[ \t]*(?=[\n\r]|\Z)|\\\Z)", re.DOTALL)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def read_environment_file(path: str | Path) -> dict[str, str]:
    """Return the variables that the file says; raises `OSError`, and what the parsing raises."""
    return parse_environment_file(read_regular(path, LARGEST))


def parse_environment_file(content: bytes) -> dict[str, str]:
    """The variables that systemd would take from an `EnvironmentFile=` of this content.

    Lines without `=` are skipped, and so are names such as `export A`, as systemd does.

    Raises:
        ValueError: for bytes that are not UTF-8, for a byte order mark, which systemd takes for a
            part of the first name, and for a comment that ends in a backslash, which systemd
            before version 254 continues on the next line and later ones do not.

    Example:
        parse_environment_file(b'A="x y"  # not a comment\\nB=$HOME\\n')
        # {'A': 'x y# not a comment', 'B': '$HOME'}
    """
    text = _decode(content)
    variables: dict[str, str] = {}
    position = 0
    while position < len(text):
        start = _START.match(text, position)
        assert start is not None, "matches whatever begins a line"
        position = start.end()
        if (start["comment"] or "").endswith("\\"):
            line = text.count("\n", 0, position) + 1
            raise ValueError(f"line {line}: a comment must not end in a backslash")
        if start["equals"]:
            value, position = _value(text, position)
            name = start["key"].rstrip(" \t")
            if _VARIABLE.fullmatch(name):
                variables[name] = value
    return variables


def _decode(content: bytes) -> str:
    if content.startswith(codecs.BOM_UTF8):
        raise ValueError("line 1: begins with a byte order mark; save it as UTF-8 without one")
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(f"line {line}: not UTF-8 text") from None
    if "\0" in text:
        raise ValueError(f"line {text[: text.index(chr(0))].count(chr(10)) + 1}: a NUL character")
    return text


def _value(text: str, position: int) -> tuple[str, int]:
    """Quoted parts, if any, then the rest of the line, in which quotes mean nothing."""
    parts = []
    while quoted := _SINGLE.match(text, position) or _DOUBLE.match(text, position):
        inner = quoted["inner"]
        parts.append(_unescape(inner) if quoted.re is _DOUBLE else inner)
        position = quoted.end()
    bare = _BARE.match(text, position)
    assert bare is not None, "matches the empty rest of a line"
    parts.append(
        re.sub(r"\\(.)", lambda m: "" if m[1] in "\n\r" else m[1], bare["inner"], flags=re.S)
    )
    return "".join(parts), bare.end()


def _unescape(inner: str) -> str:
    """Take out the backslashes that escape, as in a shell's double quotes; others are kept."""

    def one(match: re.Match[str]) -> str:
        if match[1] == "\n":
            return ""
        return match[1] if match[1] in '"\\`$' else match[0]

    return re.sub(r"\\(.)", one, inner, flags=re.DOTALL)
