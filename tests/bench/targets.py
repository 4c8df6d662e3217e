"""Runs our own figures round by round, and holds each beside its target."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from . import own
from .figures import Figure, figure

HANDLERS = "def job(payload):\n    return None\n\n\nHANDLERS = {'job': job}\n"
ROUND = (  # operation, rows of the table
    ("enqueue_normal", 0),
    ("enqueue_normal", 100_000),
    ("enqueue_full", 0),
    ("enqueue_full", 100_000),
    ("take_normal", 1_000),
    ("take_normal", 100_000),
    ("take_full", 1_000),
    ("take_full", 100_000),
    ("least_normal", 0),
    ("least_full", 0),
    ("enqueue_many", 0),
)


def measure(folder: Path, rounds: int, rows_of_memory: int) -> dict[str, Any]:
    """All of our figures: {"enqueue_normal/0": {"seconds": Figure, …}, …}."""
    own.run("seed", folder / "100000", 100_000)
    own.run("seed", folder / "unchanged", 100_000)  # the other grows by what a round adds
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for _ in range(rounds):
        for rows in (0, 1_000):  # which what is added would make larger
            shutil.rmtree(folder / str(rows), ignore_errors=True)
            own.run("seed", folder / str(rows), rows)
        for operation, rows in ROUND:
            for key, value in own.run(operation, folder / str(rows), rows).items():
                found[f"{operation}/{rows}"][key].append(value)
        for key, value in own.run("get_unknown", folder / "unchanged", 100_000).items():
            found["get_unknown/100000"][key].append(value)
    figures: dict[str, dict[str, Figure]] = {
        name: {key: figure(values) for key, values in kinds.items()}
        for name, kinds in found.items()
    }
    figures["cold"] = cold_start(folder / "cold", 10 if rounds >= 5 else 4)
    return {**figures, "memory": _memory(folder, rows_of_memory)}


def cold_start(folder: Path, times: int) -> dict[str, Figure]:
    """Seconds of wall time: `dbq work` with nothing to do, and importing dbbasic.tsv alone."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "handlers.py").write_text(HANDLERS)
    dbq = str(Path(sys.executable).with_name("dbq"))
    commands = {
        "worker": [dbq, "work", "handlers:HANDLERS"],
        "tsv": [sys.executable, "-c", "import dbbasic.tsv"],
        "python": [sys.executable, "-c", "pass"],
    }
    took: dict[str, list[float]] = {name: [] for name in commands}
    for number in range(times + 1):
        for name, command in commands.items():
            start = time.perf_counter()
            subprocess.run(command, cwd=folder, check=True, capture_output=True)
            if number:  # the first fills caches
                took[name].append(time.perf_counter() - start)
    return {name: figure(values) for name, values in took.items()}


def _memory(folder: Path, rows: int) -> dict[str, Any]:
    own.run("seed", folder / "large", rows)
    own.run("seed", folder / "small", 1)
    base = own.run("memory", folder / "small", 1)["peak"]
    peak = own.run("memory", folder / "large", rows)["peak"]
    shutil.rmtree(folder / "large")
    return {"rows": rows, "base": base, "peak": peak, "a_job": (peak - base) / rows}
