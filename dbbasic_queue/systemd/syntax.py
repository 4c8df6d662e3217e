"""The syntax of unit files: what a value must look like so that systemd reads it back unchanged.

Sources: systemd.syntax(7) for lines and quotes, systemd.unit(5) SPECIFIERS for `%`,
systemd.service(5) COMMAND LINES for commands, systemd.exec(5) for `EnvironmentFile=`.

Three kinds of values, three functions that write them. All of them double `%`, and refuse what no
unit file can hold; `parse` and `words` read what they wrote.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..config.values import forbidden
from ..support.text import shown

_BARE = re.compile(r"[A-Za-z0-9_@%+=:,./-]+")
_GLOB = re.compile(r"([*?[])")
_WORD = re.compile(r'(?:"(?P<quoted>(?:\\.|[^"\\])*)"|(?P<bare>[^\s"]+))(?:\s+|\Z)')


@dataclass(frozen=True)
class Setting:
    """One assignment of a unit file: `key=value` in `[section]`."""

    section: str
    key: str
    value: str


def word(text: str) -> str:
    """One word of a list, such as an argument of `ExecStart=` or a path of `ReadWritePaths=`.

    Raises `ValueError` for a character that no unit file can hold.

    >>> word('50% of "all"')
    '"50%% of \\\\"all\\\\""'
    """
    _refuse_characters(text)
    escaped = text.replace("%", "%%")
    if _BARE.fullmatch(escaped):
        return escaped
    return '"' + escaped.replace("\\", "\\\\").replace('"', '\\"') + '"'


def line(text: str) -> str:
    """A value that takes the whole line, such as `WorkingDirectory=`; quotes mean nothing there.

    Raises `ValueError` for what such a line cannot end in, as well as for a forbidden character.
    """
    _refuse_characters(text)
    if text != text.strip(" ") or text.endswith("\\"):
        raise ValueError(
            f"{shown(text)} begins or ends with a blank, or ends with a backslash, "
            "and systemd would not read it so; rename it"
        )
    return text.replace("%", "%%")


def file_pattern(path: str) -> str:
    """The path of one file where systemd takes a pattern of glob(7): `EnvironmentFile=`."""
    return line(_GLOB.sub(r"[\1]", path.replace("\\", "\\\\")))


def command(argv: Sequence[str], verbatim: Sequence[str] = ()) -> str:
    """A command line for `ExecStart=` whose process gets exactly `argv`.

    Args:
        argv: an absolute path and its arguments.
        verbatim: arguments such as `%i` in which systemd is to replace something.

    Raises `ValueError` for a program whose path systemd refuses, as well as for a forbidden
    character.

    >>> command(["/usr/bin/env", "a b", "$HOME"])
    ':/usr/bin/env "a b" "$HOME"'
    """
    if re.search(r"[\"'\\]", argv[0]):
        raise ValueError(
            f"{shown(argv[0])}: systemd runs no program whose path holds a quotation mark or "
            "a backslash; rename it"
        )
    # The colon switches the replacement of $VARIABLES off.
    colon = ":" if any("$" in each for each in argv if each not in verbatim) else ""
    arguments = [each if each in verbatim else word(each) for each in argv[1:]]
    return " ".join([word(colon + argv[0]), *arguments])


def parse(text: str) -> list[Setting]:
    """The settings of a unit file that this module's functions filled."""
    return list(_settings(text))


def words(value: str) -> list[str]:
    """The words of a value that `word` wrote, without their quotes; specifiers stay as they are.

    Raises `ValueError` if `word` cannot have written it.
    """
    found = []
    position = 0
    while position < len(value):
        match = _WORD.match(value, position)
        if match is None:
            raise ValueError(f"{shown(value[position:])} is not quoted well")
        quoted = match["quoted"]
        found.append(match["bare"] if quoted is None else re.sub(r"\\(.)", r"\1", quoted))
        position = match.end()
    return found


def literal(value: str) -> str:
    """What a value stands for that holds no specifier: `%%` is one `%`."""
    return value.replace("%%", "%")


def _settings(text: str) -> Iterator[Setting]:
    section = ""
    for each in text.split("\n"):
        if each.startswith("["):
            section = each.strip("[]")
        elif each and not each.startswith("#"):
            key, _, value = each.partition("=")
            yield Setting(section, key, value)


def _refuse_characters(text: str) -> None:
    if found := forbidden(text):
        raise ValueError(f"{shown(text)} holds {found}, which a unit file cannot; rename it")
