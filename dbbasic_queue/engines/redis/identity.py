"""A worker's name, by which another process of its host can tell for certain that it is dead.

Theory of operation
-------------------
    dbq.BOOT.NAMESPACE.PID.START.NUMBER

The id of the machine's boot, the pid namespace, the process, when it was started (in ticks since
the boot), and which of its seats. In the same boot and namespace /proc says whether that very
process is there: its number alone may be another's by now. Of a worker elsewhere (another host,
another container) nothing is claimed; there the lease decides.

A service that cannot read the boot id in /proc (`ProcSubset=pid`) gets it as `$DBQ_BOOT_ID`.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
from pathlib import Path
from typing import Final, NamedTuple

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_PARTS: Final = 6
_numbers = itertools.count(1)


class Place(NamedTuple):
    """Where processes can be asked about: one boot of one machine, one pid namespace."""

    boot: str
    namespace: str


@functools.cache
def here() -> Place:
    """The place of this process; empty where it cannot be told, so that it is like no other."""
    boot = os.environ.get("DBQ_BOOT_ID", "").replace("-", "")
    with contextlib.suppress(OSError):
        boot = _BOOT_ID.read_text().strip().replace("-", "")
    try:
        return Place(boot, str(os.stat("/proc/self/ns/pid").st_ino))
    except OSError:
        return Place("", "")


def new_name() -> str:
    """A name for one more worker of this process."""
    process = os.getpid()
    parts = (*here(), process, _started(process) or 0, next(_numbers))
    return "dbq." + ".".join(map(str, parts))


def is_here(name: str) -> bool:
    """Say whether this process can tell if the worker of that name lives."""
    parts = name.split(".")
    return len(parts) == _PARTS and Place(*parts[1:3]) == here() and all(here())


def is_dead(name: str) -> bool:
    """Say whether the worker of that name is dead for certain."""
    if not is_here(name):
        return False
    process, started = name.split(".")[3:5]
    return _started(process) != started


def process_of(name: str) -> int | None:
    """The process id of a worker of this host; None for others."""
    return int(name.split(".")[3]) if is_here(name) else None


def _started(process: int | str) -> str | None:
    """When a process was started, in ticks since the boot; None when there is no such process."""
    try:
        text = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else fields[19]
