"""The two targets of cron: the system's file in /etc/cron.d, or a block in one user's crontab.

Both hold the same entries. The /etc/cron.d file is ours alone, so the environment stands in lines
of its own above them. A user's crontab is shared: a setting there would change what other entries
mean, so each entry of the block carries its environment along (block.py says why).

cron keeps no record of runs: it logs `(USER) CMD (COMMAND)` when it starts one (cron(8), -L). So
the last run of an entry is what the journal tells, or what the entry leaves behind.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from crontab import CronTab

from ..errors import InstallError
from ..install.entries import metrics
from ..install.site import Site, Wanted
from ..install.target import Entry, EntryStatus, Installation, Target
from ..install.templates import render
from ..install.zone import zone_fault
from ..schedule.schedule import Schedule
from ..support.account import Account, no_user
from .block import markers, text_above
from .crontab import CrontabBlocks, UserCrontab, block_path
from .lines import AT_BOOT, Line, lines, settings
from .quoting import MAX_COMMAND, as_logged, as_run

if TYPE_CHECKING:
    from ..config.sections import Config

CRON_D = Path("/etc/cron.d")
GENERATORS = [
    Path(top, "systemd/system-generators/systemd-crontab-generator")
    for top in ("/usr/lib", "/lib", "/etc")
]
_SECONDS = 20
_JOURNAL = (
    *("journalctl", "--quiet", "--no-pager", "--identifier=CRON", "--output=json"),
    *("--output-fields=MESSAGE", "--since=-8d", "--reverse", "--lines=20000"),
)


class CronTarget(Target):
    """The file /etc/cron.d/dbq-NAME, whose entries run as `[worker].user`."""

    kind = "cron"

    def path(self, name: str) -> Path:
        """Return the file of a name: without a dot, or cron would not read it (cron(8))."""
        return CRON_D / f"dbq-{name}"

    def render(self, config: Config) -> Installation:
        """See `Target.render`. Raises `InstallError` for what cannot be said in a crontab."""
        if config.worker.user is None:
            raise InstallError(
                f"{config.path}: [worker].user is missing: entries in {CRON_D} need the user they "
                "run as. Add it, or install into your own crontab with --user"
            )
        found, inline = settings(config)
        wanted = _lines(config, inline)
        text = render(
            "cron/cron.d.j2",
            name=config.name,
            config=_quoted_path(config),
            user=config.worker.user,
            settings=found,
            lines=wanted,
        )
        file = Wanted(self.path(config.name), text, 0o644)
        return _installation(file, wanted, config.worker.user, config)

    def verify(self, wanted: Installation, config: Config) -> list[str]:
        """See `Target.verify`."""
        problems = entry_faults(wanted, user_column=True)
        if self.site.live and Account.find(wanted.user) is None:
            problems.append(f"{no_user(str(wanted.user))} ([worker].user)")
        found = [f"{wanted.files[0].path}: {problem}" for problem in problems]
        zone = zone_fault("cron") if self.site.live else None
        return [*found, zone] if zone else found

    def notes(self, config: Config) -> list[str]:
        """See `Target.notes`."""
        daemon = _daemon_notes() if self.site.live else []
        return [*daemon, *_limit_notes(config, config.worker.user)]

    def traces(self, name: str) -> list[Path]:
        """See `Target.traces`."""
        path = self.path(name)
        return [path] if self.store.read(path) else []

    def status(self, entries: Sequence[Entry], config: Config | None) -> list[EntryStatus]:
        """See `Target.status`."""
        return _status(entries, config)


class CrontabTarget(Target):
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
        self.user = site.user
        self.crontab = crontab or UserCrontab(site.user)
        self.blocks = CrontabBlocks(site, self.crontab)
        super().__init__(site, self.blocks)

    def render(self, config: Config) -> Installation:
        """See `Target.render`. Raises `InstallError` for what cannot be said in a crontab."""
        begin, end = markers(config.name)
        wanted = _lines(config, config.environment_variables)
        text = render(
            "cron/crontab.j2",
            name=config.name,
            config=_quoted_path(config),
            begin=begin.decode(),
            end=end.decode(),
            lines=wanted,
        )
        file = Wanted(block_path(self.user, config.name), text, 0o600)
        return _installation(file, wanted, self.user, config)

    def verify(self, wanted: Installation, config: Config) -> list[str]:
        """See `Target.verify`."""
        problems = entry_faults(wanted, user_column=False)
        found = [f"crontab of {self.user}: {problem}" for problem in problems]
        zone = zone_fault("cron")
        return [*found, zone] if zone else found

    def notes(self, config: Config) -> list[str]:
        """See `Target.notes`."""
        found = [*_daemon_notes(), *_limit_notes(config, self.user)]
        if config.cron and config.cron.mailto is not None:
            found.append(
                "[cron].mailto holds for --system only: in your crontab, MAILTO= would be that of "
                "other entries too"
            )
        if config.worker.user not in (None, self.user):
            found.append(
                f"the entries run as {self.user}, whose crontab this is, not as [worker].user "
                f"{config.worker.user}; use --system for that"
            )
        above = text_above(self.crontab.listing(), config.name)
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

    def traces(self, name: str) -> list[Path]:
        """See `Target.traces`."""
        return [block_path(self.user, name)] if name in self.blocks.names() else []

    def status(self, entries: Sequence[Entry], config: Config | None) -> list[EntryStatus]:
        """See `Target.status`."""
        return _status(entries, config)


# --- What both have -----------------------------------------------------------------------------


def _lines(config: Config, inline: dict[str, str]) -> list[Line]:
    """The lines; names the config in what cannot be said in a crontab."""
    try:
        return lines(config, inline)
    except ValueError as error:
        raise InstallError(f"{config.path}: {error}") from error


def _installation(
    file: Wanted, wanted: Sequence[Line], user: str | None, config: Config
) -> Installation:
    entries = tuple(line.entry for line in wanted)
    return Installation((file,), entries, user, leaves=metrics(config))


def _quoted_path(config: Config) -> str:
    """The config's path as a word for the shell, in the comment that says what to type."""
    return shlex.quote(str(config.path))


def entry_faults(wanted: Installation, *, user_column: bool) -> list[str]:
    """What cron would not accept or not run as meant.

    Args:
        wanted: a whole /etc/cron.d file or a whole block.
        user_column: whether entries name the user that they run as.
    """
    problems = []
    for entry in wanted.entries:
        length = len(_bytes(entry.known_as))
        if length > MAX_COMMAND:
            problems.append(
                f"{entry.label}: the command has {length} bytes, cron takes {MAX_COMMAND}. "
                "Shorten it: move variables into an environment_file, or use shorter paths"
            )
    text = wanted.files[0].text.decode("utf-8", "replace")
    # A second opinion: python-crontab must find the same entries, all of them valid.
    table = CronTab(tab=text, user=False if user_column else None)
    valid = sum(1 for job in table if job.is_valid())
    if valid != len(wanted.entries):
        problems.append(
            f"python-crontab reads {valid} valid entries where {len(wanted.entries)} were written"
        )
    return problems


def _bytes(command: str) -> bytes:
    """A command as it stands in the crontab; a path in it may hold any bytes."""
    return command.encode("utf-8", "surrogateescape")


def _daemon_notes() -> list[str]:
    """Whether a cron daemon runs: it keeps its process id in /run/crond.pid.

    systemd-cron has no daemon: its generator makes timers of the crontabs.
    """
    if Path("/run/systemd/system").is_dir() and any(path.exists() for path in GENERATORS):
        return []
    try:
        os.kill(int(Path("/run/crond.pid").read_text()), 0)
    except PermissionError:
        return []
    except (OSError, ValueError):
        return ["no cron daemon runs on this machine now; nothing starts until one does"]
    return []


def _limit_notes(config: Config, user: str | None) -> list[str]:
    """Keys of [worker] that cron can do nothing about, for entries that run as this user."""
    given = {
        "memory_max": config.worker.memory_max,
        "cpu_quota": config.worker.cpu_quota,
        "writable": config.worker.writable or None,
    }
    found = [
        f"[worker].{key} holds under systemd only; cron sets no limits and no sandbox"
        for key, value in given.items()
        if value is not None
    ]
    nice = config.worker.nice
    if nice is not None and nice < 0 and user != "root":
        found.append(
            f"[worker].nice below 0 needs a limit under cron, or nice(1) complains at each run and "
            f"cron mails it: {user} - nice {nice} in /etc/security/limits.d/dbq.conf"
        )
    return found


def _status(entries: Sequence[Entry], config: Config | None) -> list[EntryStatus]:
    """Each entry once: what runs at boot is another line of an entry that has a schedule."""
    now = datetime.now().astimezone()
    scheduled = [entry for entry in entries if entry.schedule != AT_BOOT]
    logged = last_runs(_bytes(entry.known_as) for entry in scheduled)
    found = []
    for entry in scheduled:
        next_run = next(iter(Schedule.parse(entry.schedule).next_runs(now, 1)), None)
        runs = (logged.get(_bytes(entry.known_as)), _traced(entry.label, config))
        known = [run for run in runs if run]
        note = "" if known else "no record of a run"
        last_run = max(known, default=None)
        found.append(EntryStatus(entry.label, entry.schedule, next_run, last_run, note))
    return found


def _traced(label: str, config: Config | None) -> datetime | None:
    """When the entry last ran, by what it leaves behind."""
    if config is None:
        return None
    traces = {}
    if config.queue.file:
        traces["worker"] = config.queue.file.with_suffix(".claims")
    if config.health and config.health.textfile:
        traces["health"] = config.health.textfile
    if config.report:
        traces["report"] = config.report.file
    try:
        return datetime.fromtimestamp(traces[label].stat().st_mtime).astimezone()
    except (KeyError, OSError):
        return None


# --- The journal --------------------------------------------------------------------------------


def last_runs(commands: Iterable[bytes]) -> dict[bytes, datetime]:
    """The last start of each command, given as it stands in the crontab; those unknown are absent.

    Empty where there is no journal, or none that the caller has permission to read. That is not
    told apart from a command that did not run in eight days.
    """
    wanted = {as_logged(as_run(command)): command for command in commands}
    found: dict[bytes, datetime] = {}
    for message, when in _messages():
        match = re.fullmatch(rb"\([^)]*\) CMD \((.*)\)", message, re.DOTALL)
        command = wanted.get(match[1]) if match else None
        if command is not None:
            found.setdefault(command, when)
        if len(found) == len(wanted):
            break
    return found


def _messages() -> Iterator[tuple[bytes, datetime]]:
    """cron's messages, the newest first (systemd.journal-fields(7))."""
    try:
        done = subprocess.run(_JOURNAL, capture_output=True, timeout=_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return
    for line in done.stdout.splitlines():
        try:
            record = json.loads(line)
            microseconds = int(record["__REALTIME_TIMESTAMP"])
        except (ValueError, KeyError, TypeError):
            continue
        message = record.get("MESSAGE")
        if isinstance(message, str):
            yield message.encode(), datetime.fromtimestamp(microseconds / 1e6, UTC).astimezone()
