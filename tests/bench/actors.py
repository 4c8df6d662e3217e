"""Starts processes of an engine, lets them go at once, and says what a job cost them together."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
V1 = ROOT / ".cache" / "v1"
ACTOR = Path(__file__).parent / "actor.py"
HEAD_START = 0.02  # seconds from the word to the moment it names
PATIENCE = 60  # seconds beyond what a process was given


class ActorFailed(Exception):
    """A process of an engine ended with an error; holds the last line it wrote."""


@dataclass
class Cost:
    """What jobs cost, in seconds a job: of all processes together, by the clock."""

    seconds: float | None  # None: not one was done in the time given
    jobs: int
    repeats: int  # jobs that two workers have run
    peak: int  # bytes, of the largest process
    opening: float  # seconds from opening the queue to the first handler, the slowest


def environment(engine: str) -> dict[str, str]:
    """The environment of an engine's process: 1.0.0 comes first in its path."""
    path = {"PYTHONPATH": str(V1)} if engine == "released" else {}
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return {**kept, **path}


class Actor:
    """A running process of an engine."""

    def __init__(self, engine: str, operation: str, folder: Path, count: int, seconds: float):
        command = [sys.executable, str(ACTOR), engine, operation, str(folder)]
        self.seconds = seconds
        self.process = subprocess.Popen(
            [*command, str(count), str(seconds)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(engine),
        )

    def wait_until_ready(self) -> None:
        assert self.process.stdout is not None
        if self.process.stdout.readline() != "ready\n":
            raise self.failure(self.process.communicate()[1])

    def go(self, moment: float) -> None:
        """Let it begin at a moment of the clock that all processes share (CLOCK_MONOTONIC)."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{moment}\n")
        self.process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        out, err = self.process.communicate(timeout=self.seconds + PATIENCE)
        if self.process.returncode != 0:
            raise self.failure(err)
        found: dict[str, Any] = json.loads(out.splitlines()[-1])
        return found

    def failure(self, err: str) -> ActorFailed:
        lines = err.strip().splitlines() or [f"ended with {self.process.returncode}"]
        return ActorFailed(lines[-1])


def run_alone(engine: str, operation: str, folder: Path, count: int, seconds: float = 60) -> Any:
    """Run a process that waits for no word, and return its answer."""
    return Actor(engine, operation, folder, count, seconds).answer()


def run_together(actors: list[Actor]) -> list[dict[str, Any]]:
    """Let processes go when all are ready, and return their answers."""
    try:
        for actor in actors:
            actor.wait_until_ready()
        moment = time.perf_counter() + HEAD_START
        for actor in actors:
            actor.go(moment)
        return [actor.answer() for actor in actors]
    finally:
        for actor in actors:
            if actor.process.poll() is None:
                actor.process.kill()
                actor.process.wait()


def cost(
    engine: str, operation: str, folder: Path, processes: int, count: int, seconds: float
) -> Cost:
    """Have so many processes put or work on `count` jobs together; what a job cost.

    From the moment that all begin until the last has done its share.
    """
    share = max(count // processes, 1)
    answers = run_together(
        [Actor(engine, operation, folder, share, seconds) for _ in range(processes)]
    )
    moments = [moment for answer in answers for moment in answer["moments"]]
    jobs = len(moments)
    took = max(moments, default=0) - answers[0]["start"]
    numbers = Counter(number for answer in answers for number in answer.get("numbers", ()))
    return Cost(
        seconds=took / jobs if jobs else None,
        jobs=jobs,
        repeats=sum(times - 1 for times in numbers.values()),
        peak=max(answer["peak"] for answer in answers),
        opening=max(answer.get("opening", 0) for answer in answers),
    )
