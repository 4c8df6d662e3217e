"""What a single value of the config may be: each check takes one and returns it converted.

All of them raise `ValueError` with a message that reads well after `[section].key: `. Each carries
a JSON Schema, which says the same as far as JSON Schema can.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar

from ..backoff import Backoff
from ..job import check_payload, check_type
from ..rate import Rate
from ..schedule.schedule import Schedule
from ..support.address import masked, scheme_of
from ..support.durations import parse_duration
from ..support.text import shown

T = TypeVar("T")

_NAME = "[a-z][a-z0-9-]{0,31}"
_VARIABLE = "[A-Za-z_][A-Za-z0-9_]*"
# Control characters and line separators could end a line of a crontab or a unit. A line with a
# noncharacter systemd ignores, as no UTF-8 (utf8_is_valid in its source).
_FORBIDDEN = re.compile(
    "[\\x00-\\x1f\\x7f-\\x9f\\u2028\\u2029\\ud800-\\udfff\\ufdd0-\\ufdef"
    + "".join(
        f"{chr(plane + 0xFFFE)}{chr(plane + 0xFFFF)}" for plane in range(0, 0x110000, 0x10000)
    )
    + "]"
)
_URL = r"https?://(?:[!-.0-;=?-~]+@)?[A-Za-z0-9.:\[\]-]+(?:[/?#][!-~]*)?"
# `svc@corp.example`, `CORP\svc` and `machine$` too: names that a directory service gives.
_USER = r"(?![0-9]+$)[A-Za-z0-9_][A-Za-z0-9_.@+\\-]{0,62}\$?"
# What Debian's cron takes for an address (safe_p in its do_command.c); no `-` at the start.
_ADDRESSES = r"(?:[A-Za-z0-9_@!:.,+][A-Za-z0-9_@!:.,+-]*)?"
_SIZES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_KINDS = {bool: "a boolean", int: "a whole number", float: "a number", str: "a string"}


class Check(Generic[T]):
    """Checks one value, which may be a path relative to `folder`, and converts it."""

    def __init__(self, convert: Callable[[object, Path], T], schema: Mapping[str, Any]) -> None:
        self._convert = convert
        self.schema = schema

    def __call__(self, value: object, folder: Path = Path("/")) -> T:
        return self._convert(value, folder)


class KeyFaults(ValueError):
    """What is wrong with the keys of a table, by key."""

    def __init__(self, faults: dict[str, str]) -> None:
        super().__init__(faults)
        self.faults = faults


def _check(**schema: Any) -> Callable[[Callable[[object], T]], Check[T]]:
    """Make a check of a function of the value alone."""
    return lambda function: Check(lambda value, folder: function(value), schema)


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


def forbidden_in_path(path: str) -> str | None:
    """Return what `forbidden` does; bytes that are not UTF-8 are allowed, as cron takes them."""
    return forbidden(os.fsencode(path).decode("utf-8", "replace"))


# --- strings, numbers, words ----------------------------------------------------------------------


@_check(type="string", minLength=1)
def string(value: object) -> str:
    """Take a string that is not empty."""
    if not isinstance(value, str):
        raise ValueError(f"must be a string, not {kind(value)}; put it in quotes")
    if not value.strip(" "):
        raise ValueError("must not be empty")
    return value


@_check(type="boolean")
def boolean(value: object) -> bool:
    """Take true or false."""
    if not isinstance(value, bool):
        raise ValueError(f"must be true or false, not {shown(value)}")
    return value


def number(lowest: int, highest: int = 1_000_000) -> Check[int]:
    """Take a whole number from `lowest` to `highest`."""

    @_check(type="integer", minimum=lowest, maximum=highest)
    def check(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError(f"must be a whole number, not {shown(value)}")
        if not lowest <= value <= highest:
            raise ValueError(f"must be from {lowest} to {highest}, not {shown(value)}")
        return value

    return check


def one_of(*words: str) -> Check[str]:
    """Take one of a few words."""

    @_check(enum=list(words))
    def check(value: object) -> str:
        if value not in words:
            raise ValueError(f"must be one of {', '.join(map(repr, words))}, not {shown(value)}")
        return str(value)

    return check


def duration(lowest: int = 0) -> Check[int]:
    """Take a duration of at least `lowest` seconds."""

    @_check(anyOf=[{"type": "integer", "minimum": lowest}, {"type": "string", "pattern": "[0-9]"}])
    def check(value: object) -> int:
        if not isinstance(value, str | int) or isinstance(value, bool):
            raise ValueError(f'must be a duration such as "10min", not {kind(value)}')
        seconds = parse_duration(value)
        if seconds < lowest:
            raise ValueError(f"must be at least {lowest} s, not {shown(value)}")
        return seconds

    return check


@_check(anyOf=[{"type": "integer", "minimum": 1}, {"type": "string", "pattern": "^[0-9]+[KMGT]?$"}])
def size(value: object) -> int:
    """Take a number of bytes, or one with K, M, G or T for 1024 bytes, KiB, MiB, GiB."""
    text = str(value) if not isinstance(value, bool) and isinstance(value, int | str) else ""
    match = re.fullmatch("([0-9]{1,15})([KMGT]?)", text)
    if match is None or not int(match[1]):
        raise ValueError(f'must be a size such as "500M" or "2G", not {shown(value)}')
    return int(match[1]) * _SIZES[match[2]]


@_check(type="string", pattern="^[0-9]{1,6}%$")
def percent(value: object) -> int:
    """Take a percentage of one processor, of at least 1 %."""
    match = re.fullmatch("([0-9]{1,6})%", value) if isinstance(value, str) else None
    if match is None or not int(match[1]):
        raise ValueError(f'must be a percentage such as "50%" or "200%", not {shown(value)}')
    return int(match[1])


@_check(type="string", pattern="^[0-7]{3,4}$")
def umask(value: object) -> int:
    """Take three or four octal digits in quotes: TOML's 0027 is not a number."""
    if not isinstance(value, str) or not re.fullmatch("0?[0-7]{3}", value):
        raise ValueError(f'must be three octal digits in quotes, such as "027", not {shown(value)}')
    return int(value, 8)


_BACKOFF = r"exponential\(([a-z]+=[^,()=]+(?:, *[a-z]+=[^,()=]+)*)?\)"


@_check(anyOf=[{"type": "integer", "minimum": 0}, {"type": "string", "pattern": "[0-9(]"}])
def backoff(value: object) -> Backoff:
    """Take a duration, or `exponential(base=10s, factor=3, cap=1h, jitter=0.2)`."""
    match = re.fullmatch(_BACKOFF, value) if isinstance(value, str) else None
    if match is None:
        try:
            return Backoff(base=duration()(value), factor=1)
        except ValueError:
            raise ValueError(
                'must be a duration such as "30s", or such as "exponential(base=10s, factor=3,'
                f' cap=1h, jitter=0.2)", not {shown(value)}'
            ) from None
    given = dict(part.strip().split("=") for part in (match[1] or "").split(",") if part.strip())
    known = {"base": _seconds, "cap": _seconds, "factor": _factor, "jitter": _share}
    if unknown := sorted(given.keys() - known.keys()):
        raise ValueError(f"{unknown[0]} is not one of {', '.join(known)}")
    return Backoff(**{name: known[name](text) for name, text in given.items()})


def _seconds(text: str) -> float:
    return parse_duration(text)


def _factor(text: str) -> float:
    if not re.fullmatch(r"[0-9]{1,6}(?:\.[0-9]{1,6})?", text) or float(text) < 1:
        raise ValueError(f"factor {shown(text)}: must be a number of 1 or more")
    return float(text)


def _share(text: str) -> float:
    if not re.fullmatch(r"[0-9]{1,6}(?:\.[0-9]{1,6})?", text) or float(text) > 1:
        raise ValueError(f"jitter {shown(text)}: must be from 0 to 1")
    return float(text)


@_check(type="string", pattern="^[0-9]+ ?/")
def rate(value: object) -> Rate:
    """Take so many in a time, such as `100/min` or `100/min, burst=20`."""
    return Rate.parse(string(value))


# --- names ----------------------------------------------------------------------------------------


@_check(type="string", minLength=1)
def schedule(value: object) -> Schedule:
    """Take a schedule in any of the forms of `Schedule.parse`."""
    return Schedule.parse(string(value))


@_check(type="string", pattern=f"^{_NAME}$")
def name(value: object) -> str:
    """Take a name that can stand in unit names, crontab markers and metric labels."""
    text = string(value)
    if not re.fullmatch(_NAME, text):
        raise ValueError(
            f"{shown(text)} is not a name; use 1 to 32 of a-z, 0-9 and -, the first of them a "
            "letter"
        )
    return text


@_check(type="string", pattern=f"^{_USER}$")
def user(value: object) -> str:
    """Take the name of a user (whether the machine has that user is for `dbq check` to see)."""
    text = string(value)
    if not re.fullmatch(_USER, text):
        raise ValueError(
            f"{shown(text)} is not a user name; use letters, digits, '_', '-', '.', '+', '@' and "
            r"'\', or '$' at the end"
        )
    return text


@_check(type="string", pattern=f"^{_ADDRESSES}$")
def addresses(value: object) -> str:
    """Take the addresses that cron mails to, with commas between them, or "" for no mail."""
    if not isinstance(value, str) or not re.fullmatch(_ADDRESSES, value):
        raise ValueError(
            f"{shown(value)} is not a mail address that cron takes; write it like "
            "'ops@example.com', several with commas and without blanks, or \"\" for no mail"
        )
    return value


_HANDLERS = {"type": "string", "pattern": r"^[^\s:]+:[^\s:]+$"}


@_check(anyOf=[_HANDLERS, {"type": "array", "items": _HANDLERS, "minItems": 1}])
def handlers(value: object) -> tuple[str, ...]:
    """Take `module:attribute`, or an array of them."""
    if not isinstance(value, list):
        return (_handlers(value),)
    if not value:
        raise ValueError("is empty; write it like ['myapp.jobs:HANDLERS']")
    names = tuple(map(_handlers, value))
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"names {shown(twice[0])} twice")
    return names


def _handlers(value: object) -> str:
    text = string(value)
    module, colon, attribute = text.partition(":")
    parts = [*module.split("."), *attribute.split(".")]
    if not colon or not all(part.isidentifier() for part in parts):
        raise ValueError(
            f"{shown(text)} is not module:attribute; write it like 'myapp.jobs:HANDLERS'"
        )
    return text


@_check(type="string", pattern="^https?://")
def url(value: object) -> str:
    """Take an http or https URL."""
    text = string(value)
    if not re.fullmatch(_URL, text):
        raise ValueError(f"{shown(text)} is not a URL; write it like 'https://hc.example/abc'")
    return text


@_check(type="string", pattern="^[a-z][a-z0-9+.-]*://")
def address(value: object) -> str:
    """Take the address of a queue on a server; which schemes there are, the engines know."""
    text = string(value)
    if scheme_of(text) is None or text != text.strip() or " " in text:
        said = masked(text) if scheme_of(text) else re.sub("(?s).*@", "***@", text)
        raise ValueError(
            f"{shown(said)} is not the address of a server; write it like 'redis://10.0.0.5/0'"
        )
    return text


@_check(type="string", minLength=1, maxLength=128)
def job_type(value: object) -> str:
    """Take a job's type, as the queue does."""
    return check_type(string(value))


# --- lists ----------------------------------------------------------------------------------------


@_check(type="array", items={"type": "string"})
def words(value: object) -> tuple[str, ...]:
    """Take a list of strings; one may be empty."""
    if not isinstance(value, list):
        raise ValueError(f'must be an array of words such as ["a", "b"], not {kind(value)}')
    for each in value:
        if not isinstance(each, str):
            raise ValueError(f"must hold strings only, not {shown(each)}; put it in quotes")
    return tuple(value)


@_check(type="array", items={"type": "integer", "minimum": 0, "maximum": 255}, minItems=1)
def statuses(value: object) -> tuple[int, ...]:
    """Take a list of exit statuses, 0 to 255."""
    if not isinstance(value, list) or not value:
        raise ValueError(f"must be an array of exit statuses such as [0, 24], not {shown(value)}")
    for each in value:
        if isinstance(each, bool) or not isinstance(each, int) or not 0 <= each <= 255:
            raise ValueError(f"must hold whole numbers from 0 to 255, not {shown(each)}")
    return tuple(value)


# --- tables ---------------------------------------------------------------------------------------


@_check(
    type="object",
    propertyNames={"pattern": f"^{_VARIABLE}$"},
    additionalProperties={"type": "string"},
)
def environment(value: object) -> dict[str, str]:
    """Take a table of environment variables; their values may be empty."""
    if not isinstance(value, dict):
        raise ValueError(f"must be a table, not {kind(value)}")
    faults = {}
    for variable, text in value.items():
        if not re.fullmatch(_VARIABLE, variable):
            faults[variable] = (
                "is not the name of a variable; use letters, digits and '_', no digit first"
            )
        elif not isinstance(text, str):
            faults[variable] = f"must be a string, not {kind(text)}; put it in quotes"
    if faults:
        raise KeyFaults(faults)
    return value


@_check(type="object")
def payload(value: object) -> dict[str, Any]:
    """Take a table that can be a job's payload: JSON can hold it, and it is not too big."""
    if not isinstance(value, dict):
        raise ValueError(f"must be a table, not {kind(value)}")
    check_payload(value)
    return value


# --- paths ----------------------------------------------------------------------------------------

_PATH = {"type": "string", "minLength": 1}


def _path(value: object, folder: Path) -> Path:
    """A path, absolute or relative to `folder`; returned absolute, without `.` and `..`."""
    text = string(value)
    if text.startswith("~"):
        raise ValueError(f"{shown(text)}: '~' is not expanded here; write the whole path")
    if any(len(os.fsencode(part)) > 255 for part in text.split("/")):
        raise ValueError(f"{shown(text)} has a part longer than 255 bytes")
    path = os.path.normpath(folder / text)
    if len(os.fsencode(path)) > 4095:
        raise ValueError(f"{shown(text)} is longer than 4095 bytes")
    return Path(path)


path = Check(_path, _PATH)


def file(suffix: str = "") -> Check[Path]:
    """Take the path of a file, whose name ends in `suffix`."""

    def convert(value: object, folder: Path) -> Path:
        found = _path(value, folder)
        if str(value).endswith("/") or not found.name:
            raise ValueError(f"{shown(value)} is a folder's path; name the file")
        if suffix and (found.suffix != suffix or found.name == suffix):
            raise ValueError(f"{shown(value)} must be a file name that ends in {suffix}")
        return found

    return Check(convert, {**_PATH, "pattern": f"{re.escape(suffix)}$"} if suffix else _PATH)


def _folders(value: object, folder: Path) -> tuple[Path, ...]:
    if not isinstance(value, list):
        raise ValueError(f'must be an array of paths such as ["uploads"], not {kind(value)}')
    return tuple(dict.fromkeys(_path(each, folder) for each in value))


folders = Check(_folders, {"type": "array", "items": _PATH})


def _interpreter(value: object, folder: Path) -> str:
    """The path of a Python interpreter; a bare command is refused, for cron has its own PATH."""
    if "/" not in string(value):
        raise ValueError(
            f"{shown(value)} is a command, not a path; write the interpreter's path, such as "
            "'/usr/bin/python3' or 'venv/bin/python' (relative to this file)"
        )
    return str(file()(value, folder))


interpreter = Check(_interpreter, {**_PATH, "pattern": "/"})
