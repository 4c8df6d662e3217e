"""Install a config's units into systemd: the system's, or one user's own service manager.

Files are written by install/plan.py; what is done here is the talk with systemd around it. Timers
and the path are enabled and started, never a service: nothing runs before its time. A stop waits
for the job that is running. Where the queue is on a server, the target of the workers is one more
to be started, and is started anew when what its workers run has changed.

What is in force is asked of systemd, never read from the files: which wake file a path unit looks
at, whether a timer is persistent.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InstallError
from ..install.entries import metrics
from ..install.site import Site, Wanted
from ..install.target import Action, Entry, EntryStatus, Installation, Plan, Target
from ..install.zone import zone_fault
from ..schedule.clock import LOCAL_TIME, zone_of
from .manager import Manager
from .sandbox import refusals
from .units import start_mark, unit_pattern, wake_file, write_units
from .verify import unit_faults
from .wake import drop_wake, make_wake, wake_fault

if TYPE_CHECKING:
    from ..config.sections import Config

SYSTEM_UNITS = Path("/etc/systemd/system")
USER_UNITS = Path(".config/systemd/user")
USER_STAMPS = Path(".local/share/systemd/timers")
STARTERS = (".timer", ".path", ".target")

_OPEN_FILES = (
    "a user's manager cannot set up a sandbox: handlers may read and write what {user} may; "
    "system calls are restricted all the same"
)
_LINGER = (
    "the units run only while {user} is logged in. To have them run from boot on: "
    "loginctl enable-linger {user}"
)
_NO_TIMEOUT = (
    "[worker].timeout is not set: a stop waits for the running job however long it takes, "
    "at shutdown for half an hour at most"
)
_ROOT = "[worker].user is root: give the jobs a user of their own"
_OTHER_USER = "the units run as {user}, whose manager this is, not as [worker].user {other}"
_IDLE = "[worker].linger is not needed: an enqueued job starts the worker at once"
_RELEASE = (
    "the workers run all the time: after each release of the application, and each change of the "
    "config: systemctl{manager} restart dbq-{name}-workers.target"
)


class SystemdTarget(Target):
    """The units of one config; see install/target.py for what each member owes.

    Args:
        site: the live system or a root folder, of the whole machine or of one user, who then must
            be the one who runs this.

    Example:
        apply(SystemdTarget(Site()), config.load("/etc/myapp/dbq.toml"))
    """

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self.kind = "systemd" if site.user is None else "systemd-user"
        self._manager = Manager(site.user)
        # One apply plans several times, and to verify takes a while.
        self._sound: list[Installation] = []
        # The wake files of path units that are on their way out.
        self._leaving: set[Path] = set()

    @property
    def folder(self) -> Path:
        """Where the units are, without the root."""
        if self.site.user is None:
            return SYSTEM_UNITS
        return self.site.home_folder() / USER_UNITS

    # --- Before anything is written

    def render(self, config: Config) -> Installation:
        """See `Target.render`. Raises `InstallError` for what cannot be said in a unit file."""
        try:
            zone = zone_of(self.site.below(LOCAL_TIME))
            written = write_units(config, for_user=self.site.user is not None, zone=zone)
        except ValueError as error:
            raise InstallError(f"{config.path}: {error}") from error
        except OSError as error:
            raise InstallError(f"{LOCAL_TIME}: {error.strerror}") from error
        files = [Wanted(self.folder / name, text.encode()) for name, text in written.units.items()]
        user = self.site.user or config.worker.user
        entries = tuple(written.entries)
        return Installation(tuple(files), entries, user, wake_file(config), metrics(config))

    def verify(self, wanted: Installation, config: Config) -> list[str]:
        """See `Target.verify`."""
        if wanted in self._sound:
            return []
        texts = {file.path.name: file.text.decode() for file in wanted.files}
        for_user = self.site.user is not None
        faults = unit_faults(texts, config, for_user=for_user, live=self.site.live)
        if self.site.live and (zone := zone_fault("systemd")):
            faults.append(zone)
        self._sound += [] if faults else [wanted]
        return faults

    def refusal(self) -> str | None:
        """See `Target.refusal`."""
        if shutil.which("systemd-analyze") is None:
            return "systemd-analyze is missing, so the units cannot be verified"
        return self._manager.unreachable()

    def notes(self, config: Config) -> list[str]:
        """See `Target.notes`."""
        found = [*self._user_notes(config), *self._sandbox_notes(config)]
        if not config.worker.enabled:
            return found
        if config.worker.timeout is None:
            found.append(_NO_TIMEOUT)
        if config.worker.linger:
            found.append(_IDLE)
        if config.queue.file is None:
            manager = " --user" if self.site.user is not None else ""
            found.append(_RELEASE.format(manager=manager, name=config.name))
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
        log = [config.log.file.parent] if config.log else []
        queue = [config.queue.file.parent] if config.queue.file else []
        folders = [*queue, *log, *config.worker.writable]
        paths = " and ".join(dict.fromkeys(map(str, folders))) or "a /tmp of their own"
        user = self.site.user
        told = refusals(config.worker.hardening, paths, for_user=user is not None)
        return told if user is None else [_OPEN_FILES.format(user=user), *told]

    # --- In force or not

    def inactive(self, wanted: Installation) -> list[str]:
        """See `Target.inactive`. Where no service manager answers, only the files can be told."""
        if self._manager.unreachable():
            return []
        starters = _starters(wanted)
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
        fault = self._wake_fault(wanted)
        return [*found, fault] if fault else found

    def activate(self, plan: Plan) -> None:
        """See `Target.activate`."""
        if plan.wanted is None and self._manager.is_stopped():
            self._tidy()
            return
        updated = [change.path.name for change in plan.of(Action.UPDATE)]
        starters = _starters(plan.wanted)
        # Until the reload systemd says what it has loaded, not what was just written.
        self._note_wake_files(updated)
        self._forget_stamps(plan)
        self._manager.run("daemon-reload")
        self._wake_files(plan.wanted)
        if changed := [name for name in starters if _is_changed(name, updated)]:
            self._manager.run("stop", "--", *changed)
        if starters:
            self._manager.run("--quiet", "enable", "--now", "--", *starters)
        gone = [change.path.name for change in plan.of(Action.DELETE)]
        if gone:
            # A unit that failed is remembered without its file; this fails for all that did not.
            self._manager.run("reset-failed", "--", *gone, check=False)
            self._tidy()
        if plan.wanted is None:
            (self._manager.runtime / start_mark(plan.name)).unlink(missing_ok=True)

    def _tidy(self) -> None:
        """Take a user's unit folders away if they are empty; an install makes them again."""
        if self.site.user is not None:
            with contextlib.suppress(OSError):
                self.folder.rmdir()
                self.folder.parent.rmdir()

    def deactivate(self, paths: Sequence[Path]) -> None:
        """See `Target.deactivate`. Waits for the job that is running."""
        if self._manager.is_stopped():
            self._disable_files([path.name for path in paths if path.suffix in STARTERS])
            return
        if why := self._manager.unreachable():
            raise InstallError(why)
        starters = [path.name for path in paths if path.suffix in STARTERS]
        self._note_wake_files(starters)
        persistent = self._persistent(starters)
        if starters:
            self._manager.run("--quiet", "disable", "--now", "--", *starters)
        services = [path.name.replace("@.", "@*.") for path in paths if path.suffix == ".service"]
        if services:
            self._manager.run("stop", "--", *services)
        for name in persistent:
            self._manager.run("clean", "--what=state", "--", name)

    def _disable_files(self, starters: Sequence[str]) -> None:
        """Take a user's starters out of force while the manager does not run, so nothing else."""
        if shutil.which("systemctl") is not None:
            self._manager.run("--quiet", "disable", "--", *starters, offline=True)
        for name in starters:
            (self.site.home_folder() / USER_STAMPS / f"stamp-{name}").unlink(missing_ok=True)

    def _persistent(self, units: Sequence[str]) -> list[str]:
        """The timers that keep a stamp, among these units as systemd has them loaded."""
        timers = [unit for unit in units if unit.endswith(".timer")]
        found = self._manager.show(timers, "Persistent")
        return [timer for timer in timers if found.get(timer, {}).get("Persistent") == "yes"]

    def _forget_stamps(self, plan: Plan) -> None:
        """Clean the stamps of timers that were persistent and no longer are, while systemd still
        takes them for persistent: it cleans no others."""
        changed = [change.path.name for change in plan.of(Action.UPDATE)]
        wanted = plan.wanted.entries if plan.wanted else ()
        stays = {entry.known_as for entry in wanted if entry.persistent}
        for name in self._persistent([name for name in changed if name not in stays]):
            self._manager.run("stop", "--", name)
            self._manager.run("clean", "--what=state", "--", name)

    def _note_wake_files(self, units: Sequence[str]) -> None:
        """Keep in mind which wake files these path units look at, before that changes."""
        paths = [unit for unit in units if unit.endswith(".path")]
        self._leaving |= set(self._manager.watched(paths).values())

    def _wake_files(self, wanted: Installation | None) -> None:
        """Make the wake file; take away those that no path unit looks at any more."""
        if self._leaving:  # two configs may share a queue
            watched = set(self._manager.watched(["dbq-*-worker.path"]).values())
            watched |= {wanted.wake} if wanted and wanted.wake else set()
            for wake in self._leaving - watched:
                drop_wake(wake)
            self._leaving.clear()
        if wanted and wanted.wake and wanted.user and self._wake_fault(wanted):
            make_wake(wanted.wake, wanted.wake.with_suffix(".tsv"), wanted.user)

    def _wake_fault(self, wanted: Installation) -> str | None:
        if wanted.wake is None or wanted.user is None:
            return None
        return wake_fault(wanted.wake, wanted.wake.with_suffix(".tsv"), wanted.user)

    # --- What is there

    def traces(self, name: str) -> list[Path]:
        """See `Target.traces`."""
        pattern = unit_pattern(name)
        with contextlib.suppress(OSError):
            found = sorted(os.listdir(self.site.below(self.folder)))
            return [self.folder / each for each in found if pattern.fullmatch(each)]
        return []

    def status(self, entries: Sequence[Entry], config: Config | None) -> list[EntryStatus]:
        """See `Target.status`."""
        if not self.site.live:
            return [EntryStatus(entry.label, entry.schedule) for entry in entries]
        if self._manager.unreachable():
            note = "unknown: no service manager answers"
            return [EntryStatus(entry.label, entry.schedule, note=note) for entry in entries]
        units = [entry.known_as for entry in entries]
        runs = self._manager.timers([unit for unit in units if unit.endswith(".timer")])
        notes = self._states(units)
        found = []
        for entry in entries:
            next_run, last_run = runs.get(entry.known_as, (None, None))
            note = notes[entry.known_as]
            if entry.known_as.endswith(".target"):
                note = ", ".join(filter(None, (note, self._workers(entry.known_as))))
            found.append(EntryStatus(entry.label, entry.schedule, next_run, last_run, note))
        return found

    def _workers(self, target: str) -> str:
        """How many of the workers that a target wants are at work."""
        wants = self._manager.show([target], "Wants").get(target, {}).get("Wants", "").split()
        units = [unit for unit in wants if "-worker@" in unit]
        states = self._manager.show(units, "ActiveState").values()
        active = sum(state.get("ActiveState") == "active" for state in states)
        return f"{active} of {len(units)} running"

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


def _is_changed(starter: str, updated: Sequence[str]) -> bool:
    """Whether a starter, or what the workers of a target run, is another text now."""
    worker = starter.removesuffix("s.target") + "@.service"
    return starter in updated or (starter.endswith(".target") and worker in updated)


def _starters(wanted: Installation | None) -> list[str]:
    """The timers, the path and the target."""
    return sorted(entry.known_as for entry in wanted.entries) if wanted else []
