"""Ours and the peers', round by round: one engine after the other, then the next round."""

from __future__ import annotations

import os
import shutil
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .actors import Actor, ActorFailed, Cost, cost, run_alone, run_together
from .adapters import ENGINES
from .figures import figure, quantile

Say = Callable[[str], None]


@dataclass
class Plan:
    """How much is measured."""

    rounds: int
    backlogs: tuple[int, ...]  # with one and with four processes
    curve: tuple[int, ...]  # more of them, with one process, for the curve
    synced_jobs: int = 400
    jobs: int = 1600
    limit: float = 0.6  # seconds that a measurement may take
    seeding: float = 30  # seconds that a backlog may take to build
    too_slow: float = 0.25  # seconds a job, beyond which no larger backlog is tried
    picked: int = 20  # jobs of a round of pick-up
    pick_seconds: float = 2


class Field:
    """The engines at one backlog: their folders, and what they have shown."""

    def __init__(self, folder: Path, plan: Plan, backlog: int) -> None:
        self.folder = folder / str(backlog)
        self.plan = plan
        self.backlog = backlog
        self.costs: dict[tuple[str, str, int], list[Cost]] = defaultdict(list)
        self.notes: dict[str, str] = {}
        self.seeded: dict[str, float] = {}
        self.sizes: dict[str, float] = {}

    def prepare(self, engine: str) -> None:
        """An empty folder with the backlog in it."""
        place = self.folder / engine
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        if not self.backlog:
            return
        start = time.perf_counter()
        run_alone(engine, "seed", place, self.backlog, 10 * self.plan.seeding)
        self.seeded[engine] = time.perf_counter() - start
        self.sizes[engine] = size_on_disk(place) / self.backlog

    def play(self, engine: str, processes: int) -> None:
        """One round of an engine: as many jobs put as are worked on after."""
        if self.backlog == 0:
            self.prepare(engine)
        place, plan = self.folder / engine, self.plan
        jobs = plan.synced_jobs if ENGINES[engine].synced else plan.jobs
        put = cost(engine, "put", place, processes, jobs, plan.limit)
        self.costs[engine, "put", processes].append(put)
        if processes > 1 and ENGINES[engine].one_worker:
            return
        share = min(jobs, put.jobs)  # what is there now, when there is no backlog
        work = cost(engine, "work", place, processes, share, plan.limit)
        self.costs[engine, "work", processes].append(work)

    def slowest(self, engine: str) -> float:
        """Seconds a job of what an engine was slowest at; endless when it did none."""
        values = [
            each.seconds if each.seconds is not None else float("inf")
            for (name, _, processes), costs in self.costs.items()
            for each in costs
            if name == engine and processes == 1
        ]
        return max(values, default=float("inf"))

    def close(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def size_on_disk(folder: Path) -> int:
    """Bytes that the files of a folder occupy."""
    return sum(
        os.stat(os.path.join(place, name)).st_blocks * 512
        for place, _, names in os.walk(folder)
        for name in names
    )


def measure_backlogs(
    folder: Path, plan: Plan, say: Say, between: Callable[[], None]
) -> dict[str, Any]:
    """Enqueue and take + finish at every backlog; {"costs": [...], "notes": [...], …}.

    `between` is called before each of them.
    """
    found: dict[str, Any] = {"costs": [], "notes": [], "sizes": {}, "seeded": {}}
    before: Field | None = None
    out: set[str] = set()
    for backlog in sorted({*plan.backlogs, *plan.curve}):
        between()
        field = Field(folder, plan, backlog)
        processes = (1, 4) if backlog in plan.backlogs else (1,)
        engines = [engine for engine in ENGINES if engine not in out]
        for engine in engines:
            note = _cannot_bear(engine, before, backlog)
            if not note and backlog:
                field.prepare(engine)
            if note:
                out.add(engine)
                found["notes"].append({"engine": engine, "backlog": backlog, "note": note})
        say(f"backlog {backlog:,}: {len(ENGINES) - len(out)} engines, {plan.rounds} rounds")
        _play(field, [engine for engine in engines if engine not in out], processes)
        found["costs"] += list(_costs(field))
        found["notes"] += [
            {"engine": engine, "backlog": backlog, "note": note}
            for engine, note in field.notes.items()
        ]
        found["sizes"][str(backlog)] = field.sizes
        found["seeded"][str(backlog)] = field.seeded
        field.close()
        before = field
    return found


def _cannot_bear(engine: str, before: Field | None, backlog: int) -> str:
    """Why an engine is left out at this backlog, from what it took at the one before."""
    if before is None or engine.startswith("ours"):
        return ""
    if before.slowest(engine) > before.plan.too_slow:
        took = before.slowest(engine)
        if took == float("inf"):
            return f"not one job in {before.plan.limit:g} s at {before.backlog:,}"
        return f"{took * 1e3:,.0f} ms a job at {before.backlog:,}"
    if before.backlog:
        expected = before.seeded[engine] * backlog / before.backlog
        if expected > before.plan.seeding:
            return f"building it would take {expected:,.0f} s"
    return ""


def _play(field: Field, engines: list[str], processes: tuple[int, ...]) -> None:
    for _ in range(field.plan.rounds):
        for count in processes:
            for engine in engines:
                if engine in field.notes:
                    continue
                try:
                    field.play(engine, count)
                except ActorFailed as error:
                    field.notes[engine] = f"failed with {count} processes: {error}"


def _costs(field: Field) -> Iterator[dict[str, Any]]:
    for (engine, operation, processes), costs in field.costs.items():
        known = [each.seconds for each in costs if each.seconds is not None]
        yield {
            "engine": engine,
            "operation": operation,
            "backlog": field.backlog,
            "processes": processes,
            "seconds": figure(known) if known else None,
            "repeats": sum(each.repeats for each in costs),
            "peak": max(each.peak for each in costs),
            "opening": statistics.median(each.opening for each in costs),
        }


def measure_pick_up(folder: Path, plan: Plan) -> dict[str, Any]:
    """Seconds from enqueue to the start of the handler, of workers that wait; p50 and p99."""
    engines = ("ours-full", "huey-full")  # the polling of huey's others is the same
    late: dict[str, list[float]] = defaultdict(list)
    for number in range(plan.rounds):
        for engine in engines:
            place = folder / f"pick-{engine}-{number}"
            place.mkdir(parents=True)
            seconds = plan.pick_seconds
            answers = run_together(
                [
                    Actor(engine, "listen", place, 0, seconds + 1.5),
                    Actor(engine, "speak", place, plan.picked, seconds),
                ]
            )
            late[engine] += answers[0]["late"]
            shutil.rmtree(place)
    return {
        engine: {
            "p50": quantile(values, 0.5),
            "p99": quantile(values, 0.99),
            "worst": max(values),
            "jobs": len(values),
            "sent": plan.rounds * plan.picked,
        }
        for engine, values in late.items()
        if values
    }


def measure_small(folder: Path, plan: Plan, rows: int) -> dict[str, Any]:
    """Looking a job up among `rows`, and a worker's cold start on an empty queue."""
    finders = [name for name, engine in ENGINES.items() if engine.finds and name != "ours-full"]
    for engine in finders:
        (folder / f"find-{engine}").mkdir(parents=True)
        run_alone(engine, "seed", folder / f"find-{engine}", rows)
    found: dict[str, list[float]] = defaultdict(list)
    cold: dict[str, list[float]] = defaultdict(list)
    peaks: dict[str, list[float]] = defaultdict(list)
    for number in range(plan.rounds):
        for engine in finders:
            took = run_alone(engine, "find", folder / f"find-{engine}", 5)["took"]
            found[engine].append(statistics.median(took))
        for engine in ENGINES:
            place = folder / f"cold-{engine}-{number}"
            place.mkdir(parents=True)
            start = time.perf_counter()
            peaks[engine].append(run_alone(engine, "cold", place, 0)["peak"])
            cold[engine].append(time.perf_counter() - start)
    return {
        "rows": rows,
        "find": {engine: figure(values) for engine, values in found.items()},
        "cold": {engine: figure(values) for engine, values in cold.items()},
        "peak": {engine: figure(values) for engine, values in peaks.items()},
    }
