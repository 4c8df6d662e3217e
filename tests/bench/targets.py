"""Runs our own figures round by round, and holds each beside its target."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from . import machine, own
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
    ("least_enqueue", 0),
    ("least_normal", 0),
    ("least_full", 0),
    ("enqueue_many", 0),
)


class Targets:
    """All of our figures, round by round; other measurements may come in between."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        own.run("seed", folder / "100000", 100_000)
        own.run("seed", folder / "unchanged", 100_000)  # the other grows by what a round adds

    def play(self) -> None:
        """One round."""
        for rows in (0, 1_000):  # which what is added would make larger
            shutil.rmtree(self._folder / str(rows), ignore_errors=True)
            own.run("seed", self._folder / str(rows), rows)
        for operation, rows in ROUND:
            self._note(operation, rows, self._folder / str(rows))
        self._note("get_unknown", 100_000, self._folder / "unchanged")
        self._found["pace"]["seconds"].append(machine.pace())

    def _note(self, operation: str, rows: int, place: Path) -> None:
        for key, value in own.run(operation, place, rows).items():
            self._found[f"{operation}/{rows}"][key].append(value)

    def figures(self, starts: int, rows_of_memory: int) -> dict[str, Any]:
        """What the rounds have shown: {"enqueue_normal/0": {"seconds": Figure, …}, …}.

        With it the figures that need no rounds: of so many cold starts, of a table of so many rows.
        """
        found: dict[str, Any] = {
            name: {key: figure(values) for key, values in kinds.items()}
            for name, kinds in self._found.items()
        }
        found["cold"] = cold_start(self._folder / "cold", starts)
        found["memory"] = _memory(self._folder, rows_of_memory)
        return found


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
