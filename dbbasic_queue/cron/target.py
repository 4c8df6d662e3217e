"""Config to crontab: the system's file in /etc/cron.d, or a block in one user's crontab.

Both hold the same entries. The /etc/cron.d file is ours alone, so the environment stands in lines
of its own above them. A user's crontab is shared: a setting there would change what other entries
mean, so each entry of the block carries its environment along (`crontab_block.py`, on why).
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from crontab import CronTab

from ..errors import InstallError, ScheduleError
from ..install import entries as commands
from ..install.target import Entry, File, Folders, Plan, Site
from ..install.templates import render
from ..schedule.schedule import Schedule
from ..support.account import Account, no_user
from .block import markers, text_above
from .crontab import BlockStore, UserCrontab, block_path
from .log import last_runs
from .quoting import MAX_COMMAND, env_line, quote

if TYPE_CHECKING:
    from ..config.sections import Config

CRON_D = Path("/etc/cron.d")
AT_BOOT = "@reboot"


@dataclass(frozen=True)
class Line:
    """One entry: what it is for, its five fields (or `@reboot`), its command for cron and sh."""

    comment: str
    when: str
    command: str


# --- Config -> lines ----------------------------------------------------------------------------


def lines(config: Config, inline: dict[str, str]) -> list[Line]:
    """All entries of a config.

    Args:
        config: the whole config.
        inline: variables that each command sets for itself.

    Raises `ValueError` if something in the config cannot be said in a crontab.
    """

    def run(verb: str, *arguments: str) -> str:
        return _command(config, commands.argv(config, verb, *arguments), inline)

    work = run(commands.WORK, *(() if config.log else ("--quiet",)))
    found = [_line("Worker: runs the jobs that are due", config.worker.schedule, work)]
    for job in config.recurring:
        command = _unless_trouble(run(commands.ENQUEUE_RECURRING, job.name))
        found.append(_line(f"Recurring: enqueues {job.name}", job.schedule, command))
        if job.catch_up:
            note = f"Recurring: {job.name}, if a time was missed while the machine was off"
            found.append(Line(note, AT_BOOT, command))
    if config.prune:
        note = "Prune: deletes old jobs"
        command = _unless_trouble(run(commands.PRUNE))
        found.append(_line(note, config.prune.schedule, command))
    if config.health:
        note = "Health check: says nothing as long as all is well"
        command = _if_failed(run(commands.HEALTH))
        found.append(_line(note, config.health.schedule, command))
    return found


def _line(comment: str, schedule: Schedule, command: str) -> Line:
    return Line(f"{comment}; {schedule.describe()}", schedule.cron(), command)


def _command(config: Config, argv: Sequence[str], inline: dict[str, str]) -> str:
    """`cd FOLDER && exec [env NAME=VALUE ...] PROGRAM ...`, fit for cron and any POSIX shell."""
    words = list(argv)
    if config.worker.environment_file:
        file = str(config.worker.environment_file)
        words = commands.command(words[0], commands.ENV, file, *words)
    if inline:
        if "=" in words[0]:
            raise ValueError(
                f"{words[0]!r}: env(1) takes a program with = in its path for a variable"
            )
        words = ["/usr/bin/env", *(f"{name}={value}" for name, value in inline.items()), *words]
    folder = quote(str(config.directory))
    return f"cd {folder} && exec {' '.join(map(quote, words))}"


# cron mails whatever an entry prints. So a worker without a log of its own tells only what went
# wrong, and the others are heard only when there is something that a person should know.


def _unless_trouble(command: str) -> str:
    return f"{command} >/dev/null"


def _if_failed(command: str) -> str:
    return f"out=$({command}) || printf '\\%s\\n' \"$out\""


def _environment(config: Config) -> tuple[list[str], dict[str, str]]:
    """The lines that set the environment, and the variables that no line can set."""
    found: list[str] = ["SHELL=/bin/sh"]
    inline: dict[str, str] = {}
    for name, value in config.environment_variables.items():
        line = env_line(name, value)
        if line is None:
            inline[name] = value
        else:
            found.append(line)
    return found, inline


def _saying(config: Config, function: Callable[[], bytes]) -> bytes:
    """Name the config in what cannot be said in a crontab."""
    try:
        return function()
    except ValueError as error:
        raise InstallError(f"{config.path}: {error}") from error


# --- Both targets -------------------------------------------------------------------------------


def faults(text: bytes, *, user_column: bool) -> list[str]:
    """What cron would not accept or not run as meant, each with its line's number.

    Args:
        text: a whole /etc/cron.d file or a whole block.
        user_column: whether entries name the user that they run as.
    """
    problems = []
    entries = list(_entries(text, user_column))
    for number, when, user, command in entries:
        if len(command) > MAX_COMMAND:
            problems.append(
                f"line {number}: the command has {len(command)} bytes, cron takes {MAX_COMMAND}. "
                "Shorten it: move variables into an environment_file, or use shorter paths"
            )
        if when != AT_BOOT.encode():
            problems += _schedule_faults(number, when.decode())
        if user_column and Account.find(user.decode("utf-8", "replace")) is None:
            problems.append(f"line {number}: {no_user(user.decode('utf-8', 'replace'))}")
    return problems + _second_opinion(text, len(entries), user_column)


def _entries(text: bytes, user_column: bool) -> Iterator[tuple[int, bytes, bytes, bytes]]:
    """Line number, schedule, user and command of each entry that we wrote."""
    user = rb"(?P<user>\S+) " if user_column else rb"(?P<user>)"
    pattern = rb"(?P<when>@\w+|(?:[0-9*/,-]+ ){4}[0-9*/,-]+) " + user + rb"(?P<command>.+)"
    for number, line in enumerate(text.split(b"\n"), start=1):
        match = re.fullmatch(pattern, line)
        if match:
            yield number, match["when"], match["user"], match["command"]


def _schedule_faults(number: int, when: str) -> list[str]:
    try:
        Schedule.parse(when)
    except ScheduleError as error:
        return [f"line {number}: {error}"]
    return []


def _second_opinion(text: bytes, count: int, user_column: bool) -> list[str]:
    """python-crontab must find the same entries, all of them valid."""
    table = CronTab(tab=text.decode("utf-8", "replace"), user=False if user_column else None)
    valid = [job for job in table if job.is_valid()]
    if len(valid) == count:
        return []
    return [f"python-crontab reads {len(valid)} valid entries where {count} were written"]


def _daemon_notes() -> list[str]:
    """Whether a cron daemon runs: it keeps its process id in /run/crond.pid."""
    try:
        os.kill(int(Path("/run/crond.pid").read_text()), 0)
    except PermissionError:
        return []
    except (OSError, ValueError):
        return ["no cron daemon runs on this machine now; nothing starts until one does"]
    return []


def _status(text: bytes, user_column: bool, config: Config | None) -> list[Entry]:
    """The installed entries; an `@reboot` line belongs to the entry above it."""
    now = datetime.now().astimezone()
    entries = [e for e in _entries(text, user_column) if e[1] != AT_BOOT.encode()]
    logged = last_runs(command for _, _, _, command in entries)
    found = []
    for _, when, _, command in entries:
        label, schedule = _label(command), when.decode()
        next_run = next(iter(Schedule.parse(schedule).next_runs(now, 1)), None)
        known = [run for run in (logged.get(command), _traced(label, config)) if run]
        note = "" if known else "no record of a run"
        found.append(Entry(label, schedule, next_run, max(known, default=None), note))
    return found


def _traced(label: str, config: Config | None) -> datetime | None:
    """When the entry last ran, by what it leaves behind: cron itself keeps no record."""
    if config is None:
        return None
    traces = {"worker": config.queue.file.with_suffix(".claims")}
    if config.health and config.health.textfile:
        traces["health"] = config.health.textfile
    try:
        return datetime.fromtimestamp(traces[label].stat().st_mtime).astimezone()
    except (KeyError, OSError):
        return None


def _label(command: bytes) -> str:
    """What an entry is for, from the command that it runs."""
    match = re.search(
        rb" -P (?:-m )?\S*dbbasic[_-]queue (?:enqueue-recurring ([a-z0-9-]+)|(work|prune|health)) ",
        command,
    )
    if match is None:
        return "unknown"
    label = (match[1] or match[2]).decode()
    return "worker" if label == commands.WORK else label


# --- The targets --------------------------------------------------------------------------------


class CronTarget:
    """The file /etc/cron.d/dbq-NAME, whose entries run as `[worker].user`."""

    kind = "cron"

    def __init__(self, site: Site) -> None:
        self.site = site
        self.store = Folders(site)

    def path(self, name: str) -> Path:
        """No dot in the name: cron would not read the file (cron(8))."""
        return CRON_D / f"dbq-{name}"

    def render(self, config: Config) -> list[File]:
        """See `Target.render`. Raises `InstallError` for what cannot be said in a crontab."""
        if config.worker.user is None:
            raise InstallError(
                f"{config.path}: [worker].user is missing: entries in {CRON_D} need the user they "
                "run as. Add it, or install into your own crontab with --user"
            )
        text = _saying(config, lambda: self._text(config))
        return [File(self.path(config.name), text, 0o644)]

    def _text(self, config: Config) -> bytes:
        settings, inline = _environment(config)
        return render(
            "cron/cron.d.j2",
            name=config.name,
            config=shlex.quote(str(config.path)),
            user=config.worker.user,
            settings=settings,
            lines=lines(config, inline),
        )

    def verify(self, files: Sequence[File]) -> list[str]:
        """See `Target.verify`."""
        found = []
        for file in files:
            problems = faults(file.text, user_column=True)
            if not self.site.live:
                problems = [p for p in problems if "there is no user" not in p]
            found += [f"{file.path}: {problem}" for problem in problems]
        return found

    def notes(self, config: Config) -> list[str]:
        """See `Target.notes`."""
        return _daemon_notes() if self.site.live else []

    def inactive(self, files: Sequence[File]) -> list[str]:
        """cron sees a new file by itself, within the minute."""
        return []

    def deactivate(self, paths: Sequence[Path]) -> None:
        """Nothing to do: cron forgets the entries when the file is gone."""

    def activate(self, plan: Plan) -> None:
        """Nothing to do: cron looks at the folder every minute."""

    def traces(self, name: str) -> list[Path]:
        """See `Target.traces`."""
        path = self.path(name)
        return [path] if self.store.read(path) else []

    def status(self, name: str, config: Config | None) -> list[Entry]:
        """See `Target.status`."""
        found = self.store.read(self.path(name))
        return _status(found.text, True, config) if found else []


class CrontabTarget:
    """A block in one user's crontab, whose entries run as that user.

    The caller must be that user, or root.
    """

    kind = "cron-user"

    def __init__(self, site: Site, crontab: UserCrontab | None = None) -> None:
        if site.user is None:
            raise ValueError("a user's crontab needs a user")
        if not site.live:
            raise InstallError(
                "a user's crontab cannot be made below --root: the spool belongs to cron. "
                "Use --system there, with [worker].user in the config"
            )
        self.site = site
        self.user = site.user
        self.store = BlockStore(site, crontab or UserCrontab(site.user))

    def render(self, config: Config) -> list[File]:
        """See `Target.render`. Raises `InstallError` for what cannot be said in a crontab."""
        text = _saying(config, lambda: self._text(config))
        return [File(block_path(self.user, config.name), text, 0o600)]

    def _text(self, config: Config) -> bytes:
        begin, end = markers(config.name)
        return render(
            "cron/crontab.j2",
            name=config.name,
            config=shlex.quote(str(config.path)),
            begin=begin.decode(),
            end=end.decode(),
            lines=lines(config, config.environment_variables),
        )

    def verify(self, files: Sequence[File]) -> list[str]:
        """See `Target.verify`."""
        return [
            f"crontab of {self.user}: {problem}"
            for file in files
            for problem in faults(file.text, user_column=False)
        ]

    def notes(self, config: Config) -> list[str]:
        """See `Target.notes`."""
        found = _daemon_notes()
        if config.worker.user not in (None, self.user):
            found.append(
                f"the entries run as {self.user}, whose crontab this is, not as [worker].user "
                f"{config.worker.user}; use --system for that"
            )
        above = text_above(self.store.crontab.listing(), config.name)
        if re.search(rb"^[ \t]*[\"']?SHELL[\"']?[ \t]*=", above, re.MULTILINE):
            found.append(
                f"the crontab of {self.user} sets SHELL above the block, whose entries are written "
                "for /bin/sh; move the block to the top with crontab -e"
            )
        needed = {"config": config.path, "interpreter": Path(config.worker.python)}
        for what, path in needed.items():
            if not os.access(path, os.R_OK):
                found.append(f"{self.user} cannot read the {what} {path}")
        return found

    def inactive(self, files: Sequence[File]) -> list[str]:
        """crontab(1) tells cron by itself."""
        return []

    def deactivate(self, paths: Sequence[Path]) -> None:
        """Nothing to do: cron forgets the entries when the block is gone."""

    def activate(self, plan: Plan) -> None:
        """Nothing to do: crontab(1) has told cron."""

    def traces(self, name: str) -> list[Path]:
        """See `Target.traces`."""
        return [block_path(self.user, name)] if name in self.store.names() else []

    def status(self, name: str, config: Config | None) -> list[Entry]:
        """See `Target.status`."""
        found = self.store.read(block_path(self.user, name))
        return _status(found.text, False, config) if found else []
