"""What the installed commands take, as their own parsers have it.

Completions and man pages are made of this, so that neither lacks an option.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

TYPES = ("--type", "--types")


def parsers() -> dict[str, argparse.ArgumentParser]:
    """The parser of each command that is installed, by the command's name."""
    from . import health, install, main  # the commands themselves, one of which imports this

    found = {"dbq": main._parser(), "dbq-health": health._parser(), "check_dbq": health._parser()}
    found |= {tool.name: install._parser(tool) for tool in install.TOOLS}
    return dict(sorted(found.items()))


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

    @property
    def words(self) -> str:
        """What of the queue its value is: `ids`, `types`, or nothing."""
        if self.value == "ID":
            return "ids"
        return "types" if self.value == "TYPE" or set(self.flags) & set(TYPES) else ""


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
            help=(action.help or "").replace("%%", "%"),
            repeated=action.nargs in ("*", "+") or "append" in type(action).__name__.lower(),
            optional=action.nargs in ("*", "?"),
        )
