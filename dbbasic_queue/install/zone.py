"""Whether the scheduler goes by the machine's time zone.

cron and systemd go by `$TZ`, if they were started with it, as is usual in containers, and hand it
to no entry. What an entry does then, by `/etc/localtime`, is hours too early, too late, or nothing.
No entry can find out: the environment of a process of root's is root's to read. So it is looked at
when entries are made, and by `dbq check`. A container may be started anew with another `$TZ`: then
`dbq enqueue-recurring` says that it was started hours late, and the health check that a job is.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final

from ..schedule.clock import LOCAL_TIME
from ..support.child import ChildDied, ChildTimeout, call

PROC: Final = Path("/proc")
CRON_PID: Final = Path("/run/crond.pid")
DAEMONS: Final = {"cron": ("cron", "crond"), "systemd": ("systemd",)}
WEEKS: Final = 110  # two years, so that all changes of the clock are in them
ZONES: Final = "/usr/share/zoneinfo"


def zone_fault(scheduler: str) -> str | None:
    """Return what is wrong if `scheduler` goes by another time zone than the machine.

    Args:
        scheduler: `cron` or `systemd`. Where cron does not run yet, as while a container is
            started, it is taken to be started with this process's `$TZ`.

    Only root sees it; for other users the answer is None.
    """
    daemon = _cron() if scheduler == "cron" else 1
    if daemon is not None and _name(daemon) not in DAEMONS[scheduler]:
        return None
    if daemon is None and os.geteuid() != 0:
        return None
    zone = os.environ.get("TZ") if daemon is None else _variable(daemon, "TZ")
    if zone is None or _is_the_machines(zone):
        return None
    named = zone.removeprefix(":")
    where = named if named.startswith("/") else f"{ZONES}/{named}"
    started = f"{scheduler} was started" if daemon else f"{scheduler} would be started"
    return (
        f"{started} with TZ={zone!r}, which is not the time zone of {LOCAL_TIME}: entries would "
        f"run at other times than they should. Make it the machine's: ln -sf {where} {LOCAL_TIME}; "
        f"or start {scheduler} without TZ"
    )


def _cron() -> int | None:
    """The process id of the cron daemon, if one runs."""
    try:
        daemon = int(CRON_PID.read_text())
        if _name(daemon) in DAEMONS["cron"]:
            return daemon
    except (OSError, ValueError):
        pass
    processes = (int(each.name) for each in PROC.iterdir() if each.name.isdecimal())
    ours = (each for each in processes if _name(each) in DAEMONS["cron"] and _is_here(each))
    return min(ours, default=None)


def _is_here(process: int) -> bool:
    """Whether a process has our root folder: one of a container's starts no entries of ours."""
    try:
        return os.path.samefile(PROC / str(process) / "root", "/")
    except PermissionError:
        return True  # as far as a user can see who is not root
    except OSError:
        return False


def _name(process: int) -> str:
    try:
        return (PROC / str(process) / "comm").read_text().strip()
    except OSError:
        return ""


def _variable(process: int, name: str) -> str | None:
    """The value that a variable had when the process was started, None if it is not to be seen."""
    try:
        environment = (PROC / str(process) / "environ").read_bytes()
    except OSError:
        return None
    for each in environment.split(b"\0"):
        key, equals, value = each.partition(b"=")
        if equals and key == name.encode():
            return value.decode("utf-8", "surrogateescape")
    return None


def _is_the_machines(zone: str) -> bool:
    """Whether the C library tells the same local times with `TZ=zone` as without."""
    try:
        return call(lambda: _offsets(zone) == _offsets(None), 5)
    except (ChildTimeout, ChildDied):
        return True  # not known, and nothing to refuse an installation for


def _offsets(zone: str | None) -> list[int]:
    """How far local time is from UTC, once a week. Changes the process's time zone."""
    os.environ.pop("TZ", None)
    if zone is not None:
        os.environ["TZ"] = zone
    time.tzset()
    begin = int(time.time())
    return [time.localtime(begin + week * 604_800).tm_gmtoff for week in range(WEEKS)]
