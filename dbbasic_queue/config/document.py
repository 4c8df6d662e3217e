"""The text of a config as TOML has it, before any key is looked at."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from . import values
from .reader import KeyPath, lines


def read_document(text: str, path: str | Path) -> dict[str, Any]:
    """Return what TOML makes of the text of the file `path`; raises `ConfigError` with the line."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        said, _, place = str(error).rpartition(" (at ")
        at = re.match("line ([0-9]+)", place)
        # At the end of the text: what has no end has begun with the last key.
        line = int(at[1]) if at else max(lines(text).values(), default=1)
    except (ValueError, RecursionError) as error:
        said = str(error)  # of thousands of digits or brackets, so of the longest line
        rows = text.split("\n")
        line = max(range(len(rows)), key=lambda number: len(rows[number])) + 1
    raise ConfigError(f"{path}:{line}: not valid TOML: {said}")


def forbidden_characters(value: Any, path: KeyPath = ()) -> Iterator[tuple[KeyPath, str]]:
    """Yield the faults of all keys and strings that hold a character which none may hold."""
    children: Any = ()
    if isinstance(value, dict):
        children = value.items()
    elif isinstance(value, list):
        children = enumerate(value)
    elif isinstance(value, str) and (found := values.forbidden(value)):
        yield path, f"holds the character {found}; control characters are not allowed"
    for name, child in children:
        if isinstance(name, str) and (found := values.forbidden(name)):
            yield (*path, name), f"the key holds the character {found}"
        yield from forbidden_characters(child, (*path, name))
