"""Reading a TOML table by a dataclass whose fields are its keys; every fault with its line.

Theory of operation
-------------------
A key of the config is said once, as a field of a dataclass (`sections.py`): its check, its default,
what it is for. `Section.read` makes the dataclass of a table. What `dbq init` writes, the packaged
config, the man page and the JSON Schema are made of the same fields (`starter.py`, `schema.py`).

`tomllib` gives the values but not their lines. `lines` finds those by looking at how lines begin:
as a header, or as `key =`, outside of comments and of strings over several lines. A key that stands
otherwise (in an inline table, or with an escape in its name) is told at the line of what it is in.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import MISSING, field, fields
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from ..support.text import shown
from .values import Check, KeyFaults, kind

T = TypeVar("T")
KeyPath = tuple[str | int, ...]


class Key(NamedTuple):
    """All that is said about a key of the config.

    `default` and `example` are as in the file, not converted; None is none. `otherwise` says what
    holds where the key is not given, if a default cannot say it. `live`: samples set it. `hidden`:
    they leave it out, as it suits no queue in a file.
    """

    check: Check[Any]
    about: str
    default: Any
    example: Any
    otherwise: str
    more: str
    live: bool
    needed: bool
    hidden: bool = False


class Part(NamedTuple):
    """All that is said about a section: the dataclass of its keys, and what it is for.

    `one_of`: the keys of which exactly one must be given. `named`: what each of its tables, of
    which there may be many, can be called; samples show `example`.
    """

    keys: type[Any]
    about: str
    many: bool
    live: bool
    needed: bool
    one_of: tuple[str, ...] = ()
    named: Check[str] | None = None
    example: str = ""


def key(
    check: Check[Any],
    default: Any = None,
    *,
    about: str,
    example: Any = None,
    otherwise: str = "",
    more: str = "",
    live: bool = False,
    hidden: bool = False,
    value: Any = None,
) -> Any:
    """Return the field of a key that may be left out.

    Args:
        check: what its value may be.
        default: what holds where it is not given, as one would write it in the file.
        about: what it is for: a sentence without its capital and its full stop.
        example: what samples show, where that is not the default.
        otherwise: what holds where it is not given, in words, for a key without a default.
        more: further sentences for the man page.
        live: whether samples set it; otherwise they show it in a comment.
        hidden: whether samples leave it out.
        value: the converted default, where it depends on the machine.
    """
    said = Key(check, about, default, example, otherwise, more, live, False, hidden)
    converted = value if default is None else check(default)
    if isinstance(converted, dict):
        return field(default_factory=dict, metadata={"key": said})
    return field(default=converted, metadata={"key": said})


def needed(check: Check[Any], *, about: str, example: Any, more: str = "") -> Any:
    """Return the field of a key that must be given."""
    said = Key(check, about, None, example, "", more, True, True)
    return field(metadata={"key": said})


def part(
    keys: type[Any],
    about: str,
    *,
    live: bool = True,
    needed: bool = False,
    one_of: tuple[str, ...] = (),
) -> Any:
    """Return the field of a section whose keys are the fields of the dataclass `keys`."""
    said = Part(keys, about, False, live, needed, one_of)
    return field(default=MISSING if needed else None, metadata={"part": said})


def parts(keys: type[Any], about: str) -> Any:
    """Return the field of an array of sections."""
    return field(default=(), metadata={"part": Part(keys, about, True, False, False)})


def named_parts(keys: type[Any], name: Check[str], about: str, *, example: str) -> Any:
    """Return the field of a section that holds tables by a name, such as `[commands.backup]`."""
    said = Part(keys, about, False, False, False, named=name, example=example)
    return field(default_factory=dict, metadata={"part": said})


class Section:
    """A table of the file that is being read: notes in `faults` what is wrong, by its path."""

    def __init__(
        self, content: Any, path: KeyPath, folder: Path, faults: dict[KeyPath, str]
    ) -> None:
        self.path = path
        self.faults = faults
        self._folder = folder  # that paths are relative to
        self.content: dict[str, Any] = content if isinstance(content, dict) else {}
        self._is_table = isinstance(content, dict)
        if not self._is_table:
            self.fault(f"must be a table, not {kind(content)}")

    def fault(self, said: str, *path: str | int) -> None:
        """Note the first thing that is wrong with a key of this table, or with the table."""
        self.faults.setdefault((*self.path, *path), said)

    def read(self, keys: type[T]) -> T:
        """Return the dataclass `keys` with the checked values; its default where one is wrong."""
        found = {each.name: self.value(each.name, each.metadata["key"]) for each in fields(keys)}  # type: ignore[arg-type]
        self.refuse_others(found)
        return keys(**{name: value for name, value in found.items() if value is not MISSING})

    def value(self, name: str, said: Key) -> Any:
        """The checked value of a key; MISSING where its default holds, None where it lacks."""
        if name not in self.content:
            if said.needed and self._is_table:
                self.fault("is missing", name)
            return None if said.needed else MISSING
        if (*self.path, name) not in self.faults:
            try:
                return said.check(self.content[name], self._folder)
            except KeyFaults as error:
                for inner, what in error.faults.items():
                    self.fault(what, name, inner)
            except ValueError as error:
                self.fault(str(error), name)
        return None if said.needed else MISSING

    def section(self, name: str) -> Section:
        """The table `name`; an empty one where it is missing."""
        return Section(self.content.get(name, {}), (*self.path, name), self._folder, self.faults)

    def array(self, name: str) -> list[Section]:
        """The tables of the array of tables `name`."""
        content = self.content.get(name, [])
        if not isinstance(content, list):
            self.fault(f"must be an array of tables; write [[{name}]]", name)
            return []
        path = (*self.path, name)
        return [
            Section(item, (*path, number), self._folder, self.faults)
            for number, item in enumerate(content)
        ]

    def tables(self, name: str, check: Check[str]) -> dict[str, Section]:
        """The tables of the table `name`, by their names, which `check` takes."""
        found = {}
        for each, content in self.section(name).content.items():
            path = (*self.path, name, each)
            try:
                check(each)
            except ValueError as error:
                self.faults.setdefault(path, str(error))
            found[each] = Section(content, path, self._folder, self.faults)
        return found

    def refuse_others(self, known: Iterable[str]) -> None:
        """Note the keys that are not known."""
        names = list(known)
        for unknown in self.content.keys() - set(names):
            import difflib  # here, because a worker that starts every minute does not need it

            near = difflib.get_close_matches(unknown, names, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(names)}"
            self.fault(f"is an unknown key; {hint}", unknown)


def where(path: KeyPath, document: dict[str, Any]) -> str:
    """Return how a message names the key `path` of `document`.

    >>> where(("recurring", 0, "jitter"), {}), where(("name",), {"name": 1})
    ('[recurring].jitter', 'name')
    """
    top, *rest = path
    if not rest and not isinstance(document.get(str(top)), dict | list):
        return _bare(top)
    if rest and isinstance(rest[0], int):
        del rest[0]
    keys = (f"[{each}]" if isinstance(each, int) else f".{_bare(each)}" for each in rest)
    return f"[{_bare(top)}]" + "".join(keys)


def _bare(name: str | int) -> str:
    return str(name) if re.fullmatch("[A-Za-z0-9_-]{1,60}", str(name)) else shown(name)


# --- lines ----------------------------------------------------------------------------------------

# What hides the start of a line: a string over several lines, ended or not; and, so that none of
# these is found inside of another, comments and strings on one line.
_HIDDEN = re.compile(
    r'"""(?:\\.|[^\\])*?(?:"""|\Z)|' + r"'''.*?(?:'''|\Z)|"
    r'#[^\n]*|"(?:\\.|[^"\\\n])*"|' + r"'[^'\n]*'",
    re.DOTALL,
)
_ONE = r"""(?:[\w-]+|"[^"\n]*"|'[^'\n]*')"""
_DOTTED = rf"{_ONE}(?:[ \t]*\.[ \t]*{_ONE})*"
_HEADER = re.compile(rf"[ \t]*(\[\[?)[ \t]*({_DOTTED})[ \t]*\]\]?[ \t\r]*\Z")
_ASSIGNED = re.compile(rf"[ \t]*({_DOTTED})[ \t]*=")


def lines(text: str) -> dict[KeyPath, int]:
    """Return the first line (from 1) of each table and key in the TOML text `text`.

    A path names tables and keys from the outside in, with an index for each array element.

    >>> lines('[queue]\\nfile = "a.tsv"')
    {('queue',): 1, ('queue', 'file'): 2}
    """
    found: dict[KeyPath, int] = {}
    table: KeyPath = ()
    last: dict[KeyPath, int] = {}
    for number, line in enumerate(_HIDDEN.sub(_unhidden, text).split("\n"), start=1):
        if header := _HEADER.match(line):
            table = ()
            *outer, inner = _parts(header[2])
            for name in outer:
                table = (*table, name)
                found.setdefault(table, number)
                table += (last[table],) if table in last else ()
            table = (*table, inner)
            if header[1] == "[[":
                last[table] = last.get(table, -1) + 1
                found.setdefault(table, number)
                table = (*table, last[table])
            found.setdefault(table, number)
        elif assigned := _ASSIGNED.match(line):
            path = table
            for name in _parts(assigned[1]):
                path = (*path, name)
                found.setdefault(path, number)
    return found


def line_of(found: dict[KeyPath, int], path: KeyPath) -> int:
    """Return the line of `path`, or of the innermost table around it that has one, or 1."""
    while path and path not in found:
        path = path[:-1]
    return found.get(path, 1)


def _unhidden(match: re.Match[str]) -> str:
    """Keep what a line needs to be recognised: a string on one line, which may be a key."""
    hidden = match[0]
    if hidden[0] == "#":
        return ""
    return "\n" * hidden.count("\n") if hidden[:3] in ('"""', "'''") else hidden


def _parts(dotted: str) -> list[str]:
    return [name.strip("\"'") for name in re.findall(_ONE, dotted)]
