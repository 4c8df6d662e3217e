"""A TOML table that is being read: it hands out checked values and collects all that is wrong."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

from ..support.text import shown
from .toml_lines import KeyPath
from .values import kind

T = TypeVar("T")


class Table:
    """A TOML table that is being read: hands out checked values and notes what is wrong."""

    def __init__(self, content: Any, path: KeyPath, faults: dict[KeyPath, str]) -> None:
        self.path = path
        self.faults = faults
        self.known: list[str] = []
        self.content: dict[str, Any] = content if isinstance(content, dict) else {}
        if not isinstance(content, dict):
            self.fault(path, f"must be a table, not {kind(content)}")

    def fault(self, path: KeyPath, said: str) -> None:
        """Note the first thing that is wrong with the key `path`."""
        self.faults.setdefault(path, said)

    def get(self, key: str, check: Callable[[object], T], default: T) -> T:
        """The checked value of `key`; `default` where it is missing or wrong."""
        self.known.append(key)
        path = (*self.path, key)
        if key not in self.content or path in self.faults:
            return default
        try:
            return check(self.content[key])
        except ValueError as error:
            self.fault(path, str(error))
            return default

    def need(self, key: str, check: Callable[[object], T], stand_in: T) -> T:
        """As `get`, for a key that must be there."""
        if key not in self.content and self.path not in self.faults:
            self.fault((*self.path, key), "is missing")
        return self.get(key, check, stand_in)

    def section(self, key: str) -> Table | None:
        """The table `key`, None where it is missing."""
        self.known.append(key)
        if key not in self.content:
            return None
        return Table(self.content[key], (*self.path, key), self.faults)

    def needed_section(self, key: str) -> Table:
        """The table `key`, an empty one where it is missing (its keys then are)."""
        return self.section(key) or Table({}, (*self.path, key), self.faults)

    def array(self, key: str) -> list[Table]:
        """The tables of the array of tables `key`."""
        self.known.append(key)
        content = self.content.get(key, [])
        path = (*self.path, key)
        if not isinstance(content, list):
            self.fault(path, f"must be an array of tables; write [[{key}]]")
            return []
        return [Table(item, (*path, number), self.faults) for number, item in enumerate(content)]

    def finish(self) -> None:
        """Note the keys that nobody asked for."""
        for key in self.content.keys() - self.known:
            self.fault((*self.path, key), f"is an unknown key; {_nearest(key, self.known)}")


def where(path: KeyPath, document: dict[str, Any]) -> str:
    """Return how a message names the key `path` of `document`.

    >>> where(("recurring", 0, "jitter"), {}), where(("name",), {"name": 1})
    ('[recurring].jitter', 'name')
    """
    top, *rest = path
    if not rest and not isinstance(document.get(str(top)), dict | list):
        return _key(top)
    if rest and isinstance(rest[0], int):
        del rest[0]
    keys = (f"[{part}]" if isinstance(part, int) else f".{_key(part)}" for part in rest)
    return f"[{_key(top)}]" + "".join(keys)


def _key(key: str | int) -> str:
    bare = re.fullmatch("[A-Za-z0-9_-]{1,60}", str(key))
    return str(key) if bare else shown(key)


def _nearest(key: str, known: list[str]) -> str:
    import difflib  # here, because a worker that starts every minute has no need of it

    near = difflib.get_close_matches(key, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(known)}"
