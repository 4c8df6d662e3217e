"""What `dbq run` runs: the workers of a config and what it schedules, and when they begin anew."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ..config.environment_file import read_environment_file
from ..install import entries
from .one_process import Program

if TYPE_CHECKING:
    from ..config.sections import Config

PASSED_OVER: Final = {"node_modules", "__pycache__"}


def programs_of(config: Config, options: tuple[str, ...]) -> Iterator[Program]:
    """Yield the programs of a config: its workers, and what the clock starts.

    Args:
        config: a worker process for each of its `concurrency`.
        options: of `dbq work`, about its log.
    """
    count = config.worker.concurrency if config.worker.enabled else 0
    words = entries.argv(config, entries.WORK, "--forever", "--places", str(count), *options)
    for number in range(1, count + 1):
        yield Program("worker" if count == 1 else f"worker {number}", words)
    for job in (each for each in config.recurring if each.enabled):
        enqueue = entries.argv(config, entries.ENQUEUE_RECURRING, job.name)
        yield Program(job.name, enqueue, job.schedule, heard=False)
    if config.prune and config.prune.enabled:
        prune = entries.scheduled_prune(config)
        yield Program("prune", prune, config.prune.schedule, heard=False)
    if config.health and config.health.enabled:
        yield Program("health", entries.argv(config, entries.HEALTH), config.health.schedule)
    if config.report and config.report.enabled:
        yield Program("report", entries.argv(config, entries.REPORT), config.report.schedule)


def variables_of(config: Config) -> Callable[[], Mapping[str, str]]:
    """Return what makes the variables of a program.

    This process's own win, as they are what a container was started with.
    """

    def variables() -> dict[str, str]:
        file = config.worker.environment_file
        secrets = read_environment_file(file) if file is not None else {}
        return {**config.environment_variables, **secrets, **os.environ}

    return variables


class Changes:
    """Changes of the `.py` files below a folder; what is hidden, or a virtual environment, is not
    looked at."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known = self._look()

    def seen(self) -> bool:
        """Whether a file has changed, come or gone since this was last asked."""
        before, self._known = self._known, self._look()
        return before != self._known

    def _look(self) -> dict[str, tuple[int, int]]:
        found = {}
        for folder, folders, files in os.walk(self._folder):
            folders[:] = [
                each
                for each in folders
                if not (each.startswith(".") or each in PASSED_OVER)
                and not os.path.exists(os.path.join(folder, each, "pyvenv.cfg"))
            ]
            for file in files:
                if file.endswith(".py"):
                    path = os.path.join(folder, file)
                    try:
                        status = os.stat(path)
                    except OSError:  # gone meanwhile, or a link that leads nowhere
                        continue
                    found[path] = status.st_mtime_ns, status.st_size
        return found
