"""What a single value of the config may be: each function checks one and returns it converted.

All of them raise `ValueError` with a message that reads well after `[section].key: `.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..job import check_payload, check_type
from ..schedule.schedule import Schedule
from ..support.durations import parse_duration
from ..support.text import shown

NAME = re.compile("[a-z][a-z0-9-]{0,31}")
_VARIABLE = re.compile("[A-Za-z_][A-Za-z0-9_]*")
# Control characters and line separators could end a line of a crontab or a unit. A line with a
# noncharacter systemd ignores, as no UTF-8 (utf8_is_valid in its source).
_FORBIDDEN = re.compile(
    "[\\x00-\\x1f\\x7f-\\x9f\\u2028\\u2029\\ud800-\\udfff\\ufdd0-\\ufdef"
    + "".join(
        f"{chr(plane + 0xFFFE)}{chr(plane + 0xFFFF)}" for plane in range(0, 0x110000, 0x10000)
    )
    + "]"
)
_URL = re.compile(r"https?://(?:[!-.0-;=?-~]+@)?[A-Za-z0-9.:\[\]-]+(?:[/?#][!-~]*)?")
_USER = re.compile("[A-Za-z_][A-Za-z0-9_.-]{0,31}")
_KINDS = {bool: "a boolean", int: "a whole number", float: "a number", str: "a string"}


def kind(value: object) -> str:
    """Return TOML's word for what `value` is."""
    if isinstance(value, list):
        return "an array"
    if isinstance(value, dict):
        return "a table"
    return _KINDS.get(type(value), "a date or time")


def forbidden(text: str) -> str | None:
    """Return the first character of `text` that no config may hold, as `U+000A`, or None."""
    match = _FORBIDDEN.search(text)
    return f"U+{ord(match[0]):04X}" if match else None


def string(value: object) -> str:
    """A string that is not empty."""
    if not isinstance(value, str):
        raise ValueError(f"must be a string, not {kind(value)}; put it in quotes")
    if not value.strip(" "):
        raise ValueError("must not be empty")
    return value


def boolean(value: object) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise ValueError(f"must be true or false, not {shown(value)}")
    return value


def at_least(lowest: int, highest: int = 1_000_000) -> Callable[[object], int]:
    """A whole number from `lowest` to `highest`."""

    def check(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError(f"must be a whole number, not {shown(value)}")
        if not lowest <= value <= highest:
            raise ValueError(f"must be from {lowest} to {highest}, not {shown(value)}")
        return value

    return check


def one_of(*words: str) -> Callable[[object], str]:
    """One of a few words."""

    def check(value: object) -> str:
        if value not in words:
            raise ValueError(f"must be one of {', '.join(map(repr, words))}, not {shown(value)}")
        return str(value)

    return check


def duration(lowest: int = 0) -> Callable[[object], int]:
    """A duration of at least `lowest` seconds."""

    def check(value: object) -> int:
        if not isinstance(value, str | int) or isinstance(value, bool):
            raise ValueError(f'must be a duration such as "10min", not {kind(value)}')
        seconds = parse_duration(value)
        if seconds < lowest:
            raise ValueError(f"must be at least {lowest} s, not {shown(value)}")
        return seconds

    return check


def schedule(value: object) -> Schedule:
    """A schedule in any of the forms of `Schedule.parse`."""
    return Schedule.parse(string(value))


def name(value: object) -> str:
    """A name that can stand in unit names, crontab markers and metric labels."""
    text = string(value)
    if not NAME.fullmatch(text):
        raise ValueError(
            f"{shown(text)} is no name; take 1 to 32 of a-z, 0-9 and -, the first of them a letter"
        )
    return text


def user(value: object) -> str:
    """The name of a user of this machine (whether there is one is for `dbq check` to see)."""
    text = string(value)
    if not _USER.fullmatch(text):
        raise ValueError(f"{shown(text)} is no user name; take letters, digits, '_', '-' and '.'")
    return text


def handlers(value: object) -> str:
    """`module:attribute`."""
    text = string(value)
    module, colon, attribute = text.partition(":")
    parts = [*module.split("."), *attribute.split(".")]
    if not colon or not all(part.isidentifier() for part in parts):
        raise ValueError(
            f"{shown(text)} is no module:attribute; write it like 'myapp.jobs:HANDLERS'"
        )
    return text


def path_from(folder: Path) -> Callable[[object], Path]:
    """A path, absolute or relative to `folder`; returned absolute, without `.` and `..`."""

    def check(value: object) -> Path:
        text = string(value)
        if text.startswith("~"):
            raise ValueError(f"{shown(text)}: '~' is not expanded here; write the whole path")
        if any(len(os.fsencode(part)) > 255 for part in text.split("/")):
            raise ValueError(f"{shown(text)} has a part longer than 255 bytes")
        path = os.path.normpath(folder / text)
        if len(os.fsencode(path)) > 4095:
            raise ValueError(f"{shown(text)} is longer than 4095 bytes")
        return Path(path)

    return check


def file_from(folder: Path, suffix: str = "") -> Callable[[object], Path]:
    """The path of a file, whose name ends in `suffix`."""
    path_of = path_from(folder)

    def check(value: object) -> Path:
        path = path_of(value)
        if str(value).endswith("/") or not path.name:
            raise ValueError(f"{shown(value)} is a folder's path; name the file")
        if suffix and (path.suffix != suffix or path.name == suffix):
            raise ValueError(f"{shown(value)} must be a file name that ends in {suffix}")
        return path

    return check


def interpreter_from(folder: Path) -> Callable[[object], str]:
    """The path of a Python interpreter; a bare command is refused, for cron has its own PATH."""
    path_of = file_from(folder)

    def check(value: object) -> str:
        if "/" not in string(value):
            raise ValueError(
                f"{shown(value)} is a command, not a path; write the interpreter's path, such as "
                "'/usr/bin/python3' or 'venv/bin/python' (relative to this file)"
            )
        return str(path_of(value))

    return check


def url(value: object) -> str:
    """An http or https URL."""
    text = string(value)
    if not _URL.fullmatch(text):
        raise ValueError(f"{shown(text)} is no URL; write it like 'https://hc.example/abc'")
    return text


def environment_name(text: str) -> None:
    """The name of an environment variable."""
    if not _VARIABLE.fullmatch(text):
        raise ValueError("is no variable name; take letters, digits and '_', no digit first")


def environment_value(value: object) -> str:
    """What an environment variable is set to; it may be empty."""
    if not isinstance(value, str):
        raise ValueError(f"must be a string, not {kind(value)}; put it in quotes")
    return value


def job_type(value: object) -> str:
    """A job's type, as the queue takes it."""
    return check_type(string(value))


def payload(value: object) -> dict[str, Any]:
    """A table that the queue takes as a job's payload: JSON can hold it, and it is not too big."""
    if not isinstance(value, dict):
        raise ValueError(f"must be a table, not {kind(value)}")
    check_payload(value)
    return value
