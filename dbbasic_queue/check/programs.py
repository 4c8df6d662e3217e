"""Whether the worker's user can start the programs that the config names. None is started."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from ..config.environment_file import read_environment_file
from ..config.sections import Config
from .finding import Problem, fault


def program_problems(config: Config, name: str) -> Iterator[Problem]:
    """Find programs that the user `name`, who is the one that this process runs as, cannot start.

    A program without a slash is looked for along the PATH that every entry is given.
    """
    search = config.environment_variables["PATH"]
    if config.worker.environment_file is not None:
        with suppress(OSError, ValueError):  # told as a fault of the file itself
            search = read_environment_file(config.worker.environment_file).get("PATH", search)
    for job_type, command in config.commands.items():
        folder = command.directory or config.directory
        program = command.run[0].replace("{{", "{").replace("}}", "}")
        yield from _problems(f"[commands].{job_type}", "run", program, folder, name, search)
    if config.notify and config.notify.command:
        words, folder = config.notify.command, config.directory
        yield from _problems("[notify]", "command", words[0], folder, name, search)


def _problems(
    where: str, key: str, program: str, folder: Path, name: str, search: str
) -> Iterator[Problem]:
    if not folder.is_dir():
        yield fault(f"{where}.directory", f"{folder} is not a directory")
        return
    if not os.access(folder, os.X_OK):
        yield fault(f"{where}.directory", f"{name} cannot enter {folder}")
        return
    if "/" in program:
        path = Path(folder, program)
        if not (path.is_file() and os.access(path, os.X_OK)):
            yield fault(f"{where}.{key}", f"{name} cannot run {path}: it is not an executable file")
    elif shutil.which(program, path=search) is None:
        said = f"{name} finds no program {program} along the PATH {search}"
        yield fault(
            f"{where}.{key}", f"{said}: write its path, or set PATH in [worker].environment"
        )
