"""Config to /etc/logrotate.d: rotation of the log, and of nothing but the log."""

from __future__ import annotations

import grp
import re
import shlex
import subprocess
import tempfile
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InstallError
from ..support.account import Account, user_entry
from ..support.files import family
from .log_owner import is_roots, rotation_fault
from .site import Site, Wanted
from .target import Entry, EntryStatus, Installation, Target
from .templates import render

if TYPE_CHECKING:
    from ..config.sections import Config

LOGROTATE_D = Path("/etc/logrotate.d")
STATE = Path("/var/lib/logrotate/status")
_SECONDS = 60
# logrotate.conf(5): quotes and backslashes quote, the others are wildcards or begin the block.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_SPECIAL = re.compile(r"[\x00-\x1f\x7f-\x9f\"'\\*?\[\]{}~]")


class LogrotateTarget(Target):
    """The file /etc/logrotate.d/dbq-NAME, which rotates `[log].file` as `[worker].user`.

    logrotate runs once for the whole machine, so there is no target for one user.
    """

    kind = "logrotate"

    def __init__(self, site: Site, program: str = "logrotate") -> None:
        super().__init__(site)
        self._program = program

    def path(self, name: str) -> Path:
        """Where the rules of this config are."""
        return LOGROTATE_D / f"dbq-{name}"

    def render(self, config: Config) -> Installation:
        """See `Target.render`. Raises `InstallError` if there is no log or it cannot be named."""
        if config.log is None:
            raise InstallError(f"{config.path}: there is no [log] section, so nothing to rotate")
        user = config.worker.user
        if user is None:
            raise InstallError(
                f"{config.path}: [worker].user is missing: logrotate must know whose log it is"
            )
        log = config.log
        _refuse_unsafe(config, log.file)
        text = self.rules(config, self._owner(log.file.parent, user))
        file = Wanted(self.path(config.name), text)
        return Installation((file,), (Entry(str(log.file), log.frequency),), user)

    def rules(self, config: Config, owner: str | None) -> bytes:
        """The rules of a config.

        Args:
            config: has a `[log]`.
            owner: the user that logrotate becomes, "USER GROUP"; None: it stays root, and the
                folder is root's alone.
        """
        return render(
            "packaging/logrotate/logrotate.j2",
            name=config.name,
            config=shlex.quote(str(config.path)),
            log=config.log,
            owner=owner,
        )

    def _owner(self, folder: Path, user: str) -> str | None:
        """The user that logrotate becomes; in a folder of root's only root can rename the log."""
        if self.site.live and is_roots(folder):
            self._group(user)
            return None
        return f"{user} {self._group(user)}"

    def _group(self, user: str) -> str:
        """The user's main group; in an image its files are asked, not this machine."""
        if self.site.live:
            gid = str(user_entry(user, InstallError).pw_gid)
        else:
            try:
                gid = _field(self.site.below(Path("/etc/passwd")), 0, user, 3)
            except KeyError:
                return user  # made later, with a group of its own, as useradd does
        try:
            if self.site.live:
                return grp.getgrgid(int(gid)).gr_name
            return _field(self.site.below(Path("/etc/group")), 2, gid, 0)
        except KeyError:
            raise InstallError(
                f"the main group of {user}, {gid}, has no name here, and logrotate takes names "
                f"only; give it one: groupadd --gid {gid} NAME"
            ) from None

    def verify(self, wanted: Installation, config: Config) -> list[str]:
        """Ask the real `logrotate -d`, together with all other rules: a log named twice is skipped.

        In an image the users are not those of this machine, so `su` is left out there, and without
        a logrotate here nothing is asked.
        """
        (file,) = wanted.files
        text = file.text if self.site.live else self.rules(config, None)
        try:
            faults = self._faults(file.path, text, wanted.entries[0].label)
        except FileNotFoundError:
            missing = "there is no logrotate command: install the package logrotate"
            return [missing] if self.site.live else []
        account = Account.find(wanted.user) if self.site.live else None
        if account and config.log and (fault := rotation_fault(config.log.file, account)):
            faults.append(fault)
        return [f"{file.path}: {fault}" for fault in faults]

    def _faults(self, path: Path, text: bytes, log: str) -> list[str]:
        others = sorted(self.site.below(path).parent.glob("[!.]*"))
        rules = [str(other) for other in others if other.name != path.name]
        with tempfile.TemporaryDirectory() as folder:
            trial = Path(folder, path.name)
            trial.write_bytes(text)
            alone = self._dry_run(folder, [str(trial)])
            together = self._dry_run(folder, [*rules, str(trial)]) if rules else ""
        # Of a log that it would pass over for good, logrotate does not say "error".
        faults = re.findall(r"^(error:.*| *log .* is not allowed .*skipping.*)$", alone, re.M)
        faults = [fault.strip() for fault in faults]
        considered = re.findall(r"^considering log (.*)$", alone, re.MULTILINE)
        if considered != [log]:
            faults.append(f"logrotate would rotate {considered}, not {[log]}")
        if f"duplicate log entry for {log}\n" in together:
            faults.append(f"another file in {path.parent} rotates {log} already")
        return faults

    def _dry_run(self, folder: str, rules: Sequence[str]) -> str:
        command = [self._program, "--debug", "--state", f"{folder}/state", *rules]
        try:
            done = subprocess.run(command, capture_output=True, timeout=_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise InstallError(f"{self._program} --debug: {error}") from error
        return (done.stdout + done.stderr).decode("utf-8", "surrogateescape")

    def notes(self, config: Config) -> list[str]:
        """See `Target.notes`."""
        if config.log and config.log.frequency == "hourly":
            return [
                "most systems run logrotate once a day; hourly rotation needs it to run hourly "
                "(systemctl edit logrotate.timer, or /etc/cron.hourly)"
            ]
        return []

    def traces(self, name: str) -> list[Path]:
        """See `Target.traces`."""
        path = self.path(name)
        return [path] if self.store.read(path) else []

    def status(self, entries: Sequence[Entry], config: Config | None) -> list[EntryStatus]:
        """The log, its frequency and when logrotate last rotated it."""
        state = self.site.below(STATE)
        known = config is not None and config.log and config.worker.user
        faults = self.verify(self.render(config), config) if config and known else []
        note = "; ".join(faults)
        found = []
        for entry in entries:
            last = _last_rotation(state, entry.label)
            found.append(EntryStatus(entry.label, entry.schedule, None, last, note))
        return found


def _refuse_unsafe(config: Config, log: Path) -> None:
    """The log's name must mean one file to logrotate, and that file must not be the queue."""
    if found := _CONTROL.search(str(config.path)):
        raise InstallError(
            f"{str(config.path)!r} holds the control character {found[0]!r}, and a line of the "
            "rules would end there; rename it"
        )
    special = _SPECIAL.search(str(log))
    if special:
        raise InstallError(
            f"{config.path}: [log].file: logrotate gives {special[0]!r} a meaning of its own; "
            "take a path without it"
        )
    table = config.queue.file
    if table and log.resolve() in [member.resolve() for member in family(table)]:
        raise InstallError(f"{config.path}: [log].file is one of the queue's own files: {log}")


def _field(table: Path, key: int, value: str, wanted: int) -> str:
    """A field of the line of passwd(5) or group(5) whose field `key` has this value."""
    try:
        rows = [line.split(":") for line in table.read_text(errors="replace").splitlines()]
    except FileNotFoundError:
        raise KeyError(value) from None
    for row in rows:
        if len(row) > max(key, wanted) and row[key] == value:
            return row[wanted]
    raise KeyError(value)


def _last_rotation(state: Path, log: str) -> datetime | None:
    """When a log was last rotated, by logrotate's state file: `"LOG" YYYY-M-D-H:M:S` lines."""
    try:
        lines = state.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return None
    for line in lines:
        name, _, when = line.rpartition(" ")
        if name == f'"{log}"':
            try:
                return datetime.strptime(when, "%Y-%m-%d-%H:%M:%S").astimezone()
            except ValueError:
                return None
    return None
