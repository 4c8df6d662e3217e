"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
import sqlite3
import sysconfig
import time
from datetime import date
from pathlib import Path

from .adapters import versions


def describe(folder: Path) -> dict[str, str]:
    """The machine, the file system below `folder`, the interpreter and the versions of all."""
    packages = ", ".join(f"{name} {version}" for name, version in versions().items())
    return {
        "date": date.today().isoformat(),
        "cores": str(os.cpu_count()),
        "processor": _processor(),
        "kernel": f"{platform.system()} {platform.release().split('-')[0]}",
        "file system": file_system(folder),
        "Python": f"{platform.python_version()}, {build()}",
        "SQLite": sqlite3.sqlite_version,
        "packages": f"{packages}, dbbasic-queue 1.0.0",
        "load": " ".join(f"{value:.2f}" for value in os.getloadavg()),
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def file_system(folder: Path) -> str:
    """The type of the file system that holds `folder`, from /proc/mounts (proc_mounts(5))."""
    there = str(folder.resolve())
    best, kind = "", "unknown"
    for line in Path("/proc/mounts").read_text().splitlines():
        _, point, found = line.split()[:3]
        inside = there == point or there.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, kind = point, found
    return kind


def pace() -> float:
    """Seconds that a loop of Python takes: the same each time on a machine left in peace."""
    start = time.perf_counter()
    for _ in range(1_000_000):
        pass
    return time.perf_counter() - start


def build() -> str:
    """How the interpreter was built: optimised ones are a fifth faster or so."""
    arguments = sysconfig.get_config_var("CONFIG_ARGS") or ""
    pgo = "--enable-optimizations" in arguments
    lto = "--with-lto" in arguments
    if pgo and lto:
        return "built with PGO and LTO"
    if pgo or lto:
        return f"built with {'PGO' if pgo else 'LTO'}, without {'LTO' if pgo else 'PGO'}"
    # Debian's says nothing of it, whatever its rules for building a package do.
    return "whose build options name neither PGO nor LTO"
