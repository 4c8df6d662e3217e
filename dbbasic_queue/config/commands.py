"""`[commands]`: programs that jobs run, in place of handlers."""

# ruff: noqa: RUF009 - the calls do return dataclasses.field()

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..support.arguments import Arguments
from . import values
from .reader import Section, key, needed


@dataclass(frozen=True)
class CommandConfig:
    """One of `[commands]`: the program that a job of this type runs. `timeout` in seconds."""

    run: tuple[str, ...] = needed(
        values.words,
        about="the program and its arguments; {name} is the payload's value of that name",
        example=["tar", "--create", "--file={to}", "--", "{path}"],
        more="No shell reads it: a value stays one word, or a part of one. {{ and }} are braces. "
        "A value that begins with - is refused where a word begins with it, unless a word -- "
        "stands before.",
    )
    timeout: int | None = key(
        values.duration(1),
        about="how long the program may run, in place of [worker].timeout",
        example="1h",
        otherwise="as [worker].timeout says",
    )
    directory: Path | None = key(
        values.path,
        about="the folder that the program runs in",
        example="/srv",
        otherwise="that of the worker",
    )
    success: tuple[int, ...] = key(
        values.statuses, [0], about="the exit statuses of a program that has done its work"
    )
    options: tuple[str, ...] = key(
        values.words,
        about="placeholders whose value may begin with -",
        example=["path"],
        otherwise="none",
        value=(),
    )


def check_commands(top: Section, commands: Mapping[str, CommandConfig]) -> None:
    """Note what is wrong with an argument list as a whole."""
    for name, command in commands.items():
        if command.run is None:  # which was told
            continue
        for options, where in ((), "run"), (command.options, "options"):
            try:
                Arguments(command.run, options)
            except ValueError as error:
                top.fault(str(error), "commands", name, where)
                break
