"""Config to the lines of a crontab: schedule and command of each entry, and the environment.

cron mails whatever an entry prints. So a worker without a log of its own tells only what went
wrong, and the other entries are heard only when there is something that a person should know.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..install import entries
from ..install.target import Entry
from ..support.text import shown
from .quoting import env_line, quote

if TYPE_CHECKING:
    from ..config.sections import Config
    from ..schedule.schedule import Schedule

AT_BOOT = "@reboot"
# For a worker of a server, which wakes it at once: until just before the next one starts.
LINGER = ("--linger", "55s")
EVERY_MINUTE = "* * * * *"


@dataclass(frozen=True)
class Line:
    """One entry: what it is for, in a word and in a sentence, when it runs, its command for cron
    and sh."""

    label: str
    comment: str
    when: str  # five fields, or @reboot
    command: str

    @property
    def entry(self) -> Entry:
        """The entry as an installation keeps it."""
        return Entry(self.label, self.when, self.command)


def lines(config: Config, inline: Mapping[str, str]) -> list[Line]:
    """All entries of a config.

    Args:
        config: the whole config.
        inline: variables that each command sets for itself.

    Raises `ValueError` if something in the config cannot be said in a crontab.
    """

    def command(argv: Sequence[str]) -> str:
        return _command(config, argv, inline)

    def run(verb: str, *arguments: str) -> str:
        return command(entries.argv(config, verb, *arguments))

    def line(label: str, comment: str, schedule: Schedule, command: str) -> Line:
        return Line(label, f"{comment}; {schedule.describe()}", schedule.cron(), command)

    found = []
    if config.worker.enabled:
        work = run(entries.WORK, *_waiting(config), *(() if config.log else ("--quiet",)))
        comment = "Worker: runs the jobs that are due"
        found.append(line("worker", comment, config.worker.schedule, work))
    for job in config.recurring:
        enqueue = run(entries.ENQUEUE_RECURRING, job.name) + " >/dev/null"
        found.append(line(job.name, f"Recurring: enqueues {job.name}", job.schedule, enqueue))
        if job.catch_up:
            comment = f"Recurring: {job.name}, if a time was missed while the machine was off"
            found.append(Line(job.name, comment, AT_BOOT, enqueue))
    if config.prune:
        prune = command(entries.scheduled_prune(config)) + " >/dev/null"
        found.append(line("prune", "Prune: deletes old jobs", config.prune.schedule, prune))
    if config.health:
        comment = "Health check: says nothing as long as all is well"
        # The command is the subject of cron's mail: it begins with what the mail is about.
        check = f": dbq {config.name} health check; {run(entries.HEALTH)}"
        found.append(line("health", comment, config.health.schedule, check))
    if config.report:
        page = run(entries.REPORT) + " >/dev/null"
        comment = "Report: writes the page that shows the queue"
        found.append(line("report", comment, config.report.schedule, page))
    return found


def _waiting(config: Config) -> Sequence[str]:
    """What lets a worker of a server wait for jobs, where the config does not say how long."""
    server, worker = config.queue.file is None, config.worker
    return LINGER if server and not worker.linger and worker.schedule.cron() == EVERY_MINUTE else ()


def _command(config: Config, argv: Sequence[str], inline: Mapping[str, str]) -> str:
    """`cd FOLDER && exec [env NAME=VALUE ...] PROGRAM ...`, fit for cron and any POSIX shell."""
    words = list(argv)
    if config.worker.environment_file:
        file = str(config.worker.environment_file)
        words = entries.command(words[0], entries.ENV, file, *words)
    if inline:
        if "=" in words[0]:
            raise ValueError(
                f"{words[0]!r}: env(1) takes a program with = in its path for a variable"
            )
        words = ["/usr/bin/env", *(f"{name}={value}" for name, value in inline.items()), *words]
    if config.worker.nice is not None:
        words = ["/usr/bin/nice", "-n", str(config.worker.nice), *words]
    umask = "" if config.worker.umask is None else f"umask {config.worker.umask:04o} && "
    return f"cd {quote(str(config.directory))} && {umask}exec {' '.join(map(quote, words))}"


def settings(config: Config) -> tuple[list[str], dict[str, str]]:
    """The lines that set the environment, and the variables that no line can set."""
    found = ["SHELL=/bin/sh"]
    inline = {}
    for name, value in config.environment_variables.items():
        line = env_line(name, value)
        if line is None:
            inline[name] = value
        else:
            found.append(line)
    if config.cron is not None and config.cron.mailto is not None:
        mailto = env_line("MAILTO", config.cron.mailto)
        if mailto is None:
            raise ValueError(f"[cron].mailto: no crontab can hold {shown(config.cron.mailto)}")
        found.append(mailto)
    return found, inline
