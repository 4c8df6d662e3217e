"""What the scheduled entries run, where and with which environment: the same for every target.

Every entry runs the worker's own interpreter (`[worker].python`), not a script from `$PATH`: so the
handlers' virtual environment is the one in use, and no entry depends on where pip put a script. It
names the package and a command, `PYTHON -P -m dbbasic_queue work`, and no module inside: crontabs
and units outlive the version that wrote them. With `-P` no file of the folder that an entry runs in
takes the place of a module of Python or of this library; the worker itself adds that folder, behind
Python's own modules, before it imports the handlers.

A package of the operating system keeps the library in a folder that no interpreter searches. That
folder then has a `__main__.py`, and `PYTHON -P FOLDER work` stands for `PYTHON -P -m dbbasic_queue
work`: any interpreter, a virtual environment's too, runs the system's library on the application's
handlers.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..config.sections import Config

WORK = "work"
PRUNE = "prune"
HEALTH = "health"
REPORT = "report"
ENQUEUE_RECURRING = "enqueue-recurring"
ENV = "env"


_HOME = Path(__file__).resolve().parents[2]


def private_folder() -> Path | None:
    """The folder of a library that no interpreter finds by itself; None for any other."""
    return _HOME if (_HOME / "__main__.py").is_file() else None


def command(python: str, *words: str) -> list[str]:
    """How this interpreter runs a command of the library, as exec(3) takes it.

    Example:
        command("/srv/myapp/venv/bin/python", "work")
        # ['/srv/myapp/venv/bin/python', '-P', '-m', 'dbbasic_queue', 'work']
    """
    folder = private_folder()
    return [python, "-P", *([str(folder)] if folder else ["-m", "dbbasic_queue"]), *words]


def argv(config: Config, verb: str, *arguments: str) -> list[str]:
    """The command of one entry, as exec(3) takes it; quoting is the target's business.

    Args:
        config: where the interpreter and the config's own path come from.
        verb: `WORK`, `PRUNE`, `HEALTH`, `REPORT` or `ENQUEUE_RECURRING`.
        arguments: what follows the verb, such as the recurring job's name.

    Example:
        argv(config, WORK)
        # ['/srv/myapp/venv/bin/python', '-P', '-m', 'dbbasic_queue',
        #  'work', '--config', '/etc/myapp/dbq.toml']
    """
    if verb == HEALTH:  # it reports to others by the schedule only, and is heard if all is not well
        arguments = ("--report", "--quiet", *arguments)
    if verb == REPORT:
        arguments = ("--scheduled", *arguments)
    return command(str(config.worker.python), verb, *arguments, "--config", str(config.path))


def scheduled_prune(config: Config) -> list[str]:
    """The command that prunes: on a server, where all machines run it, once for each time."""
    return argv(config, PRUNE, *(() if config.queue.file else ("--scheduled",)))


def metrics(config: Config) -> tuple[Path, ...]:
    """The files that the entries write for others, which grow stale once nothing is scheduled."""
    textfile = config.health.textfile if config.health else None
    page = config.report.file if config.report else None
    return tuple(file for file in (textfile, page) if file is not None)
