"""What the scheduled entries run, where and with which environment: the same for every target.

Every entry runs the worker's own interpreter (`[worker].python`) with `-m`, not a script from
`$PATH`: so the handlers' virtual environment is the one in use, and no entry depends on where pip
put a script.

A package of the operating system keeps the library in a folder that no interpreter searches. That
folder then has a `__main__.py`, and `PYTHON FOLDER MODULE` stands for `PYTHON -m MODULE`: so any
interpreter, a virtual environment's too, runs the system's library on the application's handlers.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..config.sections import Config

WORK = "work"
PRUNE = "prune"
HEALTH = "health"
ENQUEUE_RECURRING = "enqueue-recurring"


_HOME = Path(__file__).resolve().parents[2]


def private_folder() -> Path | None:
    """The folder of a library that no interpreter finds by itself; None for any other."""
    return _HOME if (_HOME / "__main__.py").is_file() else None


def module(python: str, name: str) -> list[str]:
    """How this interpreter runs a module of the library, as exec(3) takes it.

    Example:
        module("/srv/myapp/venv/bin/python", "dbbasic_queue.cli")
        # ['/srv/myapp/venv/bin/python', '-m', 'dbbasic_queue.cli']
    """
    return [python, str(private_folder() or "-m"), name]


def argv(config: Config, verb: str, *arguments: str) -> list[str]:
    """The command of one entry, as exec(3) takes it; quoting is the target's business.

    Args:
        config: where the interpreter and the config's own path come from.
        verb: `WORK`, `PRUNE`, `HEALTH` or `ENQUEUE_RECURRING`.
        arguments: what follows the verb, such as the recurring job's name.

    Example:
        argv(config, WORK)
        # ['/srv/myapp/venv/bin/python', '-m', 'dbbasic_queue.cli',
        #  'work', '--config', '/etc/myapp/dbq.toml']
    """
    python = str(config.worker.python)
    where = ["--config", str(config.path)]
    if verb == HEALTH:
        return [*module(python, "dbbasic_queue.cli_health"), *arguments, *where]
    return [*module(python, "dbbasic_queue.cli"), verb, *arguments, *where]
