"""What the scheduled entries run: one place for cron and systemd alike.

Every entry runs the worker's own interpreter (`[worker].python`) with `-m`, not a script from
`$PATH`: so the handlers' virtual environment is the one in use, and no entry depends on where pip
put a script.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dbbasic_queue.config import Config

WORK = "work"
PRUNE = "prune"
HEALTH = "health"
ENQUEUE_RECURRING = "enqueue-recurring"


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
        return [python, "-m", "dbbasic_queue.cli_health", *arguments, *where]
    return [python, "-m", "dbbasic_queue.cli", verb, *arguments, *where]
