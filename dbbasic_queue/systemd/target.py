"""Install a config's units into systemd: the system's, or one user's own service manager.

Files are written by `install.py`; what is done here is the talk with systemd around it. Timers and
the path are enabled and started, never a service: nothing runs before its time. A stop waits for
the job in hand.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from ..install.target import Action, Entry, File, Folders, InstallError, Plan, Site
from .manager import Manager
from .syntax import literal, parse
from .units import unit_pattern, units
from .verify import unit_faults
from .wake import drop_wake, make_wake, wake_fault

if TYPE_CHECKING:
    from ..config.sections import Config

SYSTEM_UNITS = Path("/etc/systemd/system")
USER_UNITS = Path(".config/systemd/user")
STARTERS = (".timer", ".path")

_NO_NETWORK = "[worker].hardening = isolated: handlers have no network"
_NO_WRITING = (
    "[worker].hardening = {profile}: handlers may write in {folders} only (ReadWritePaths= in a "
    "drop-in adds to it), see nothing in /home, and have a /tmp of their own"
)
_NO_CODE = (
    "[worker].hardening = {profile}: programs that make machine code as they run fail "
    "(PyPy, numba, node, java)"
)
_NO_SUDO = "handlers cannot become another user: sudo, su and setuid programs do not work"
_OPEN_FILES = (
    "a user's manager cannot set up a sandbox: handlers may read and write what {user} may; "
    "system calls are restricted all the same"
)
_LINGER = (
    "the units run only while {user} is logged in. To have them run from boot on: "
    "loginctl enable-linger {user}"
)
_NO_TIMEOUT = (
    "[worker].timeout is not set: a stop waits for the job in hand however long it takes, "
    "at shutdown for half an hour at most"
)
_ROOT = "[worker].user is root: give the jobs a user of their own"
_OTHER_USER = "the units run as {user}, whose manager this is, not as [worker].user {other}"
_IDLE = "[worker].linger is not needed: an enqueued job starts the worker at once"


class SystemdTarget:
    """The units of one config; see `install.Target` for what each member owes.

    Args:
        site: the live system or a root folder, of the whole machine or of one user, who then must
            be the one who runs this.

    Example:
        apply(SystemdTarget(Site()), config.load("/etc/myapp/dbq.toml"))
    """

    def __init__(self, site: Site) -> None:
        self.site = site
        self.store = Folders(site)
        self.kind = "systemd" if site.user is None else "systemd-user"
        self._manager = Manager(site.user)
        # One apply plans several times, and to verify takes a while.
        self._sound: list[Sequence[File]] = []

    @property
    def folder(self) -> Path:
        """Where the units are, without the root."""
        if self.site.user is None:
            return SYSTEM_UNITS
        return self.site.home_folder() / USER_UNITS

    # --- Before anything is written

    def render(self, config: Config) -> list[File]:
        """See `Target.render`. Raises `InstallError` for what cannot be said in a unit file."""
        try:
            texts = units(config, for_user=self.site.user is not None)
        except ValueError as error:
            raise InstallError(f"{config.path}: {error}") from error
        return [File(self.folder / name, text.encode()) for name, text in texts.items()]

    def verify(self, files: Sequence[File]) -> list[str]:
        """See `Target.verify`."""
        if self.site.live and (why := self._manager.unreachable()):
            return [why]
        if files in self._sound:
            return []
        texts = {file.path.name: file.text.decode() for file in files}
        faults = unit_faults(texts, for_user=self.site.user is not None, live=self.site.live)
        self._sound += [] if faults else [files]
        return faults

    def notes(self, config: Config) -> list[str]:
        """See `Target.notes`."""
        found = [*self._user_notes(config), *self._sandbox_notes(config)]
        if config.worker.timeout is None:
            found.append(_NO_TIMEOUT)
        if config.worker.linger:
            found.append(_IDLE)
        return found

    def _user_notes(self, config: Config) -> list[str]:
        user, other = self.site.user, config.worker.user
        if user is None:
            return [_ROOT] if other == "root" else []
        found = []
        if other not in (None, user):
            found.append(_OTHER_USER.format(user=user, other=other))
        if self.site.live and not self._manager.lingers():
            found.append(_LINGER.format(user=user))
        return found

    def _sandbox_notes(self, config: Config) -> list[str]:
        profile = config.worker.hardening
        found = [_NO_NETWORK] if profile == "isolated" else []
        if self.site.user is not None:
            found.append(_OPEN_FILES.format(user=self.site.user))
        elif profile != "compat":
            log = [config.log.file] if config.log else []
            paths = dict.fromkeys(str(file.parent) for file in [config.queue.file, *log])
            found.append(_NO_WRITING.format(profile=profile, folders=" and ".join(paths)))
        if profile != "compat":
            found.append(_NO_CODE.format(profile=profile))
        return [*found, _NO_SUDO]

    # --- In force or not

    def inactive(self, files: Sequence[File]) -> list[str]:
        """See `Target.inactive`."""
        starters = [file.path.name for file in files if file.path.suffix in STARTERS]
        states = self._manager.show(starters, "UnitFileState", "ActiveState", "NeedDaemonReload")
        found = []
        for name in starters:
            state = states.get(name, {})
            if state.get("UnitFileState") != "enabled":
                found.append(f"{name}: is not enabled")
            elif state.get("ActiveState") != "active":
                found.append(f"{name}: is {state.get('ActiveState', 'unknown')}")
            elif state.get("NeedDaemonReload") == "yes":
                found.append(f"{name}: systemd has not read the file that is there now")
        for file in files:
            if wake := _wake_of(file.text):
                fault = wake_fault(wake, _queue_of(wake), self._worker_user(files))
                found += [fault] if fault else []
        return found

    def activate(self, plan: Plan) -> None:
        """See `Target.activate`."""
        self._forget_stamps(plan)
        self._manager.run("daemon-reload")
        files = [change.after for change in plan.changes if change.after]
        self._wake_files(plan, files)
        starters = [file.path.name for file in files if file.path.suffix in STARTERS]
        updated = [change.path.name for change in plan.of(Action.UPDATE)]
        if changed := [name for name in starters if name in updated]:
            self._manager.run("stop", "--", *changed)
        if starters:
            self._manager.run("--quiet", "enable", "--now", "--", *starters)
        gone = [change.path.name for change in plan.of(Action.DELETE)]
        if gone:
            # A unit that failed is remembered without its file; this fails for all that did not.
            self._manager.run("reset-failed", "--", *gone, check=False)
            self._tidy()

    def _tidy(self) -> None:
        """Take a user's unit folders away if they are empty; an install makes them again."""
        if self.site.user is not None:
            with contextlib.suppress(OSError):
                self.folder.rmdir()
                self.folder.parent.rmdir()

    def deactivate(self, paths: Sequence[Path]) -> None:
        """See `Target.deactivate`. Waits for the job in hand."""
        if why := self._manager.unreachable():
            raise InstallError(why)
        starters = [path for path in paths if path.suffix in STARTERS]
        if starters:
            names = [path.name for path in starters]
            self._manager.run("--quiet", "disable", "--now", "--", *names)
        services = [path.name.replace("@.", "@*.") for path in paths if path.suffix == ".service"]
        if services:
            self._manager.run("stop", "--", *services)
        for path in starters:
            found = self.store.read(path)
            if found and _is_persistent(found.text):
                self._manager.run("clean", "--what=state", "--", path.name)

    def _forget_stamps(self, plan: Plan) -> None:
        """Clean the stamps of timers that were persistent and are no more, while systemd still
        takes them for persistent: it cleans no others."""
        for change in plan.of(Action.UPDATE):
            texts = [each.text for each in (change.before, change.after) if each]
            if change.path.suffix == ".timer" and [*map(_is_persistent, texts)] == [True, False]:
                self._manager.run("stop", "--", change.path.name)
                self._manager.run("clean", "--what=state", "--", change.path.name)

    def _wake_files(self, plan: Plan, files: Sequence[File]) -> None:
        """Make the wake file, take away one that no path unit looks at any more."""
        wanted = [wake for file in files if (wake := _wake_of(file.text))]
        before = [change.before.text for change in plan.changes if change.before]
        for wake in (wake for text in before if (wake := _wake_of(text))):
            if wake not in self._wakes():
                drop_wake(wake)
        for wake in wanted:
            user = self._worker_user(files)
            if wake_fault(wake, _queue_of(wake), user):
                make_wake(wake, _queue_of(wake), user)

    def _wakes(self) -> set[Path]:
        """All wake files that installed path units look at: two configs may share a queue."""
        found = set()
        for path in self.site.below(self.folder).glob("dbq-*-worker.path"):
            if path.is_file() and (wake := _wake_of(path.read_bytes())):
                found.add(wake)
        return found

    def _worker_user(self, files: Sequence[File]) -> str:
        if self.site.user is not None:
            return self.site.user
        settings = (each for file in files for each in parse(file.text.decode()))
        return next(each.value for each in settings if each.key == "User")

    # --- What is there

    def traces(self, name: str) -> list[Path]:
        """See `Target.traces`."""
        pattern = unit_pattern(name)
        with contextlib.suppress(OSError):
            found = sorted(os.listdir(self.site.below(self.folder)))
            return [self.folder / each for each in found if pattern.fullmatch(each)]
        return []

    def status(self, name: str, config: Config | None) -> list[Entry]:
        """See `Target.status`."""
        found = {}
        for path in self.traces(name):
            file = self.store.read(path)
            if file and path.suffix in STARTERS:
                found[path.name] = file.text
        if not self.site.live:
            return [_entry(name, unit, text, (None, None), "") for unit, text in found.items()]
        runs = self._manager.timers([unit for unit in found if unit.endswith(".timer")])
        notes = self._states(list(found))
        never = (None, None)
        return [
            _entry(name, unit, text, runs.get(unit, never), notes[unit])
            for unit, text in found.items()
        ]

    def _states(self, starters: Sequence[str]) -> dict[str, str]:
        """For each timer or path what is not as usual with it, or with the service it starts."""
        wanted = ("ActiveState", "UnitFileState", "Triggers", "Result")
        states = self._manager.show(starters, *wanted)
        services = [state["Triggers"] for state in states.values() if state.get("Triggers")]
        results = self._manager.show(services, "ActiveState", "Result")
        notes = {}
        for unit in starters:
            state = states.get(unit, {})
            service = results.get(state.get("Triggers", ""), {})
            remarks = []
            if state.get("UnitFileState") != "enabled":
                remarks.append("not enabled")
            if state.get("ActiveState") != "active":
                remarks.append(state.get("ActiveState", "unknown"))
            if service.get("ActiveState") in ("active", "activating"):
                remarks.append("running now")
            if service.get("Result", "success") != "success":
                remarks.append(f"last run failed: {service['Result']}")
            notes[unit] = ", ".join(remarks)
        return notes


def _entry(
    name: str,
    unit: str,
    text: bytes,
    runs: tuple[datetime | None, datetime | None],
    note: str,
) -> Entry:
    label = unit.removeprefix(f"dbq-{name}-").rpartition(".")[0].removeprefix("recurring@")
    settings = parse(text.decode("utf-8", "replace"))
    schedule = ", ".join(each.value for each in settings if each.key == "OnCalendar")
    if unit.endswith(".path"):
        label, schedule = f"{label} (wake)", "when a job is enqueued"
    return Entry(label, schedule, *runs, note)


def _is_persistent(text: bytes) -> bool:
    return b"\nPersistent=yes\n" in text


def _wake_of(text: bytes) -> Path | None:
    """The wake file that a path unit looks at; None for any other unit."""
    for setting in parse(text.decode("utf-8", "replace")):
        if setting.key == "PathChanged":
            return Path(literal(setting.value))
    return None


def _queue_of(wake: Path) -> Path:
    return wake.with_suffix(".tsv")
