"""The commands' own argparse parsers: what man pages and completions are made of.

A page or a completion that is made from the parser cannot lack an option. Ours are read from the
entry points that pyproject.toml names, each stopped at the moment when it parses its arguments.
"""

from __future__ import annotations

import argparse
import importlib
import os
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

SOURCE = Path(__file__).resolve().parents[2]
_HEADING = re.compile(r"(examples|exit codes|exit status)[^\n]*:")
WIDE = "1000"  # so many columns, in which no usage line is broken


def project() -> dict[str, Any]:
    """The table [project] of pyproject.toml."""
    table: dict[str, Any] = tomllib.loads((SOURCE / "pyproject.toml").read_text())["project"]
    return table


class _Parsed(BaseException):
    """Carries a parser out of a program that handles every other exception."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self.parser = parser


def parsers() -> dict[str, argparse.ArgumentParser]:
    """The parser of each command of the project, by the command's name."""
    return {name: parser_of(entry) for name, entry in sorted(project()["scripts"].items())}


def parser_of(entry: str) -> argparse.ArgumentParser:
    """The parser with which the entry point `MODULE:FUNCTION` reads its arguments."""

    def stop(self: argparse.ArgumentParser, *_: object) -> None:
        raise _Parsed(self)

    module, _, function = entry.partition(":")
    main = getattr(importlib.import_module(module), function)
    with mock.patch.object(argparse.ArgumentParser, "parse_args", stop):
        try:
            main([])
        except _Parsed as parsed:
            return parsed.parser
    raise ValueError(f"{entry} parses no arguments")


def subcommands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The parsers of a command's own commands, in their order; none for most."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


@dataclass(frozen=True)
class Option:
    """An option, or an argument (which has no flags).

    `value` is what stands for its value in the usage, None if it takes none.
    """

    flags: tuple[str, ...]
    value: str | None
    choices: tuple[str, ...]
    help: str
    repeated: bool
    optional: bool


def options(parser: argparse.ArgumentParser) -> Iterator[Option]:
    """What a command takes, arguments and options, in the order of its --help."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            continue
        choices = tuple(map(str, action.choices or ()))
        takes = action.nargs != 0
        shown = action.metavar or (f"{{{','.join(choices)}}}" if choices else action.dest.upper())
        yield Option(
            flags=tuple(action.option_strings),
            value=str(shown) if takes else None,
            choices=choices,
            help=_help(action),
            repeated=action.nargs in ("*", "+") or "append" in type(action).__name__.lower(),
            optional=action.nargs in ("*", "?"),
        )


def _help(action: argparse.Action) -> str:
    return (action.help or "").replace("%%", "%")


def groups(parser: argparse.ArgumentParser) -> Iterator[tuple[str, list[str]]]:
    """The titles of a parser's groups of options, each with the first flags of its options."""
    for group in parser._action_groups:
        flags = [a.option_strings[0] for a in group._group_actions if a.option_strings]
        if flags:
            yield group.title or "", flags


def usage(parser: argparse.ArgumentParser) -> str:
    """The usage on one line, without `usage:`."""
    with mock.patch.dict(os.environ, {"COLUMNS": WIDE}):
        return " ".join(parser.format_usage().removeprefix("usage:").split())


def epilog(parser: argparse.ArgumentParser) -> dict[str, str]:
    """The parts of an epilog by their headings; what stands before the first is under ""."""
    parts: dict[str, list[str]] = {"": []}
    heading = ""
    for line in (parser.epilog or "").splitlines():
        if found := _HEADING.fullmatch(line):
            heading = "exit status" if "exit" in found[1] else found[1]
            parts[heading] = []
            continue
        parts[heading].append(line)
    return {name: "\n".join(lines).strip("\n") for name, lines in parts.items()}
