"""What a worker of `dbq` runs: the application's handlers, and the programs of [commands]."""

from __future__ import annotations

import os
from collections import ChainMap
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ..errors import ConfigError
from ..worker.commands import Command
from ..worker.handlers import Handlers, load_all

if TYPE_CHECKING:
    from ..config.sections import Config


def commands_of(config: Config) -> dict[str, Command]:
    """Return the handlers that are programs, by their job type."""
    return {
        job_type: Command(
            said.run,
            timeout=said.timeout,
            directory=said.directory or config.directory,
            success=said.success,
            options=said.options,
        )
        for job_type, said in config.commands.items()
    }


def handlers_of(names: Sequence[str], config: Config | None) -> Callable[[], Handlers] | None:
    """Return what loads the handlers; None where neither names nor config say any.

    Sets the variables of the config in this process's environment.

    Args:
        names: each is `MODULE:ATTRIBUTE` in the working directory, in place of the config's.
        config: whose commands are run besides.
    """
    folder = os.getcwd()
    commands = commands_of(config) if config is not None else {}
    if config is not None and not names:
        names, folder = config.worker.handlers or (), str(config.directory)
        for variable, value in config.environment_variables.items():
            os.environ.setdefault(variable, value)
    if not names:
        return (lambda: commands) if commands else None
    known = names
    return lambda: _together(load_all(known, folder), commands, " and ".join(known))


def _together(handlers: Handlers, commands: dict[str, Command], names: str) -> Handlers:
    """Return handlers and commands as one; raises `ConfigError` for a type that is both."""
    if not commands:
        return handlers
    for job_type in commands:
        if handlers.get(job_type) is not None:
            raise ConfigError(
                f"{job_type} is both in {names} and in [commands]: take it out of one of them"
            )
    return ChainMap(dict(commands), handlers)  # type: ignore[arg-type]  # which is only read
