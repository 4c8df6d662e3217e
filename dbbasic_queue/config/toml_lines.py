"""Where in a TOML text each key stands; `tomllib` gives the values but not their lines.

Theory of operation: no second TOML parser that could disagree with the first. The text is cut into
statements (a table header, or a key with its value): a statement is the shortest run of lines that
`tomllib` accepts by itself. No shorter run can pass for one, because TOML is read from left to
right: up to there the reader is still inside a string or an array. So a key's name inside a string
or a comment never counts, and every spelling of a key (quoted, dotted) is `tomllib`'s to read.
"""

from __future__ import annotations

import contextlib
import tomllib
from collections.abc import Iterator
from typing import Any

KeyPath = tuple[str | int, ...]


def key_lines(text: str) -> dict[KeyPath, int]:
    """Return the first line (counted from 1) of each table and key in `text`, a valid TOML text.

    A path names tables and keys from the outside in, with an index for each array element:
    `("recurring", 0, "schedule")`. Everything within one value stands on the line of its key,
    except the elements of an array that is spread over several lines.

    >>> key_lines('[queue]\\nfile = "a.tsv"')
    {('queue',): 1, ('queue', 'file'): 2}
    """
    lines: dict[KeyPath, int] = {}
    table: KeyPath = ()
    last_index: dict[KeyPath, int] = {}
    for number, statement, parsed in _statements(text):
        if statement.lstrip().startswith("["):
            table = _enter(parsed, last_index, is_array=statement.lstrip().startswith("[["))
            _note(lines, table, number)
        else:
            for path, offset in _paths(parsed, statement):
                _note(lines, (*table, *path), number + offset)
    return lines


def line_of(lines: dict[KeyPath, int], path: KeyPath) -> int:
    """Return the line of `path`, or of the innermost table around it that has one, or 1."""
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path, 1)


def unread_line(text: str) -> int:
    """Return the line of the first statement in `text` that cannot be read by itself.

    That is where a string or an array begins that does not end, or a value that Python refuses.
    """
    line = 1
    with contextlib.suppress(ValueError, RecursionError):  # such as a number of 5,000 digits
        for number, statement, _ in _statements(text):
            line = number + statement.count("\n") + 1
    lines = _lines(text)
    for rest in lines[line - 1 :]:
        if rest.strip() and not rest.lstrip().startswith("#"):
            break
        line += 1
    return min(line, len(lines))


def _lines(text: str) -> list[str]:
    """TOML's lines; no other character ends one."""
    return text.replace("\r\n", "\n").split("\n")


def _statements(text: str) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """Each statement: its first line's number, its text, what it means by itself."""
    begun: list[str] = []
    for number, line in enumerate(_lines(text), start=1):
        begun.append(line)
        try:
            parsed = tomllib.loads("\n".join(begun))
        except tomllib.TOMLDecodeError:
            continue
        if parsed:
            yield number - len(begun) + 1, "\n".join(begun), parsed
        begun = []


def _enter(header: dict[str, Any], last_index: dict[KeyPath, int], *, is_array: bool) -> KeyPath:
    """The path of the table that a header opens; counts the elements of arrays of tables."""
    path: KeyPath = ()
    value: Any = header
    while value and isinstance(value, dict):
        ((key, value),) = value.items()
        path = (*path, key)
        if isinstance(value, list):
            break
        if path in last_index:
            path = (*path, last_index[path])
    if is_array:
        last_index[path] = last_index.get(path, -1) + 1
        path = (*path, last_index[path])
    return path


def _note(lines: dict[KeyPath, int], path: KeyPath, number: int) -> None:
    for length in range(1, len(path) + 1):
        lines.setdefault(path[:length], number)


def _paths(value: Any, statement: str) -> Iterator[tuple[KeyPath, int]]:
    """Every path within a key's value, with its line counted from the statement's first."""
    starts = _element_lines(statement)
    for path in _walk(value):
        indices = [part for part in path if isinstance(part, int)]
        offset = starts[indices[0]] if indices and indices[0] < len(starts) else 0
        yield path, offset


def _walk(value: Any) -> Iterator[KeyPath]:
    children: Any = ()
    if isinstance(value, dict):
        children = value.items()
    elif isinstance(value, list):
        children = enumerate(value)
    for key, child in children:
        yield (key,)
        for path in _walk(child):
            yield (key, *path)


def _element_lines(statement: str) -> list[int]:
    """The line, from 0, that each element of the array ends on, where the value is an array.

    An array that is cut after any of its lines and closed there holds the elements so far.
    """
    lines = statement.split("\n")
    found: list[int] = []
    for number in range(len(lines) - 1):
        try:
            value: Any = tomllib.loads("\n".join(lines[: number + 1]) + "\n]")
        except tomllib.TOMLDecodeError:
            continue
        while isinstance(value, dict) and len(value) == 1:
            (value,) = value.values()
        if isinstance(value, list):
            found += [number] * (len(value) - len(found))
    return found
