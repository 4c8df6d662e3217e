"""Talk to a service manager: the system's, or one user's own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from ..errors import InstallError
from ..support.account import user_entry


@dataclass(frozen=True)
class Manager:
    """The service manager that units are installed for.

    Args:
        user: login name for that user's own manager, None for the system's. Only that user can
            talk to it.
    """

    user: str | None = None

    def run(self, *arguments: str, check: bool = True, offline: bool = False) -> str:
        """Run systemctl and return what it printed; `offline` changes files and asks no manager.

        Raises `InstallError` with what systemctl said if it cannot be run, or fails and `check`
        is set.
        """
        scope = [] if self.user is None else ["--user"]
        command = ["systemctl", *scope, "--no-pager", "--no-ask-password", *arguments]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, env=self._environment(offline)
            )
        except OSError as error:
            raise InstallError(f"cannot run systemctl: {error.strerror}") from error
        if check and done.returncode:
            said = (done.stderr or done.stdout).strip()
            raise InstallError(f"{' '.join(command)}: {said or f'exit {done.returncode}'}")
        return done.stdout

    @property
    def runtime(self) -> Path:
        """The folder that `%t` stands for in units, systemd.unit(5)."""
        if self.user is None:
            return Path("/run")
        return Path("/run/user", str(user_entry(self.user, InstallError).pw_uid))

    def unreachable(self) -> str | None:
        """Why nothing can be installed for this manager now, or None if it answers."""
        if self.user is None:
            # sd_booted(3)
            if not os.path.isdir("/run/systemd/system"):
                return (
                    "systemd does not run this machine, so nothing can be activated. "
                    "Use dbq-install-cron, or --root DIR to write the units of another machine"
                )
            return None
        if shutil.which("systemctl") is None:
            return "there is no systemctl command. Use dbq-install-cron"
        if user_entry(self.user, InstallError).pw_uid != os.geteuid():
            return (
                f"only {self.user} can talk to {self.user}'s service manager: run this as that user"
            )
        if not self._answers():
            return (
                f"{self.user} has no running service manager. Log in as {self.user}, or let it run "
                f"from boot on: loginctl enable-linger {self.user}"
            )
        return None

    def is_stopped(self) -> bool:
        """Whether this is our own manager, and does not run: so no unit of it does."""
        if self.user is None or user_entry(self.user, InstallError).pw_uid != os.geteuid():
            return False
        if os.path.lexists(self.runtime / "systemd/private"):  # where systemctl finds it
            return False
        return shutil.which("systemctl") is None or not self._answers()

    def _answers(self) -> bool:
        return bool(self.run("show", "--property=Version", check=False))

    def show(self, units: Sequence[str], *properties: str) -> dict[str, dict[str, str]]:
        """These properties of each unit, by unit name; of a unit that is not there as well."""
        wanted = ",".join(("Id", *properties))
        text = self.run("show", f"--property={wanted}", "--", *units) if units else ""
        found = {}
        for block in text.split("\n\n"):
            pairs = dict(line.partition("=")[::2] for line in block.splitlines())
            if "Id" in pairs:
                found[pairs["Id"]] = pairs
        return found

    def watched(self, units: Sequence[str]) -> dict[str, Path]:
        """The file that each of these path units looks at, by unit name, as systemd has it loaded.

        Args:
            units: names, or patterns such as `dbq-*-worker.path`, which match loaded units only.
        """
        paths = {unit: found.get("Paths", "") for unit, found in self.show(units, "Paths").items()}
        mark = " (PathChanged)"
        return {u: Path(p.removesuffix(mark)) for u, p in paths.items() if p.endswith(mark)}

    def timers(self, units: Sequence[str]) -> dict[str, tuple[datetime | None, datetime | None]]:
        """The next and the last run of these timers, by unit name."""
        if not units:
            return {}
        text = self.run("list-timers", "--all", "--output=json", "--", *units)
        rows: list[dict[str, Any]] = json.loads(text or "[]")
        return {row["unit"]: (_time(row["next"]), _time(row["last"])) for row in rows}

    def lingers(self) -> bool:
        """Whether the user's manager runs while the user is not logged in; see loginctl(1)."""
        return self.user is None or os.path.exists(f"/var/lib/systemd/linger/{self.user}")

    def _environment(self, offline: bool) -> dict[str, str]:
        """What leads systemctl to the right manager, also from sudo and cron; plain words."""
        environment = {**os.environ, "LC_ALL": "C.UTF-8", "SYSTEMD_COLORS": "0"}
        if offline:
            environment["SYSTEMD_OFFLINE"] = "1"
        if self.user is not None:
            environment["XDG_RUNTIME_DIR"] = str(self.runtime)
            environment.pop("DBUS_SESSION_BUS_ADDRESS", None)
        return environment


def _time(microseconds: int | None) -> datetime | None:
    """systemd's microseconds since 1970; 0, null and the largest number mean never."""
    if not microseconds or microseconds >= 2**63:
        return None
    return datetime.fromtimestamp(microseconds / 1_000_000).astimezone()
