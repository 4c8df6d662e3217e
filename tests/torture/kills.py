"""Producers and workers under load, killed at random moments a thousand times.

At the end every acknowledged job has run to its end and is in the table once; no job ran a second
time but after a kill of the process that ran it; a batch is there whole or not at all. No key ever
has two unfinished jobs.
"""

from __future__ import annotations

import itertools
import logging
import random
import shutil
import statistics
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any, NamedTuple

from dbbasic_queue import Queue, current_job
from dbbasic_queue.engines.unique import key_of

from .processes import Event, Notes, Troupe, complaints, events
from .reader import View, read

KILLS = 1000
PAUSE = 0.06  # seconds between two kills, on average
BATCH = 20
BACKLOG = 300  # jobs; producers wait while more are unfinished


class Report(NamedTuple):
    """What the run came to."""

    jobs: int
    kills: int
    rescues: int
    repeats: int
    unexplained: int
    losses: int
    waits: list[float]  # seconds from a kill to the job's next start
    seconds: float
    problems: list[str]

    def __str__(self) -> str:
        waits = sorted(self.waits) or [0.0]
        return (
            f"{self.jobs} jobs, {self.kills} kills, {self.rescues} rescues, {self.repeats} repeats"
            f" ({self.repeats - self.unexplained} explained by a kill), {self.losses} losses;"
            f" seconds from kill to next start: median {statistics.median(waits):.2f},"
            f" longest {waits[-1]:.2f}; took {self.seconds:.0f} s"
        )


class _NoteRescues(logging.Handler):
    def __init__(self, notes: Notes) -> None:
        super().__init__()
        self._notes = notes

    def emit(self, record: logging.LogRecord) -> None:
        if getattr(record, "event", "") == "rescued":
            self._notes.note("rescued", record.job_id)  # type: ignore[attr-defined]


def note_rescues(notes: Notes) -> None:
    """Note each rescue that the library logs in this process."""
    log = logging.getLogger("dbbasic_queue")
    log.addHandler(_NoteRescues(notes))
    log.propagate = False


class _Play:
    """The roles, on one table."""

    def __init__(self, path: Path, seed: int) -> None:
        self._path = path
        self._seed = seed

    def _queue(self, number: int) -> tuple[Queue, random.Random]:
        chance = random.Random(f"{self._seed} {number} {time.monotonic_ns()}")
        return Queue(self._path, chance.choice(["full", "normal"])), chance

    def produce(self, notes: Notes) -> None:
        """Add jobs one by one and in batches for as long as it lives."""
        queue, chance = self._queue(1)
        while True:
            if chance.random() < 0.1:
                name = f"{time.monotonic_ns():x}"
                jobs = [("work", {"batch": name, "pad": "x" * chance.randint(0, 400)})] * BATCH
                notes.note("batch", name)
                for job in queue.enqueue_many(jobs):
                    notes.note("added", job, name)
            elif chance.random() < 0.3:
                key = f"key-{chance.randrange(5)}"
                notes.note("added", queue.enqueue("work", {"pad": "x"}, unique=key))
            else:
                pad = "x" * chance.choice((chance.randint(0, 300), chance.randint(0, 3000)))
                notes.note("added", queue.enqueue("work", {"pad": pad}))
            if chance.random() < 0.1:
                counts = queue.count_jobs()
                while counts["pending"] + counts["processing"] > BACKLOG:
                    time.sleep(0.05)
                    counts = queue.count_jobs()

    def watch(self, notes: Notes) -> None:
        """Look for keys that have two unfinished jobs, for as long as it lives."""
        table = self._queue(3)[0].engine.table
        while True:
            with table.reading():
                keys = [key_of(row.id.decode()) for row in table.rows(["pending", "processing"])]
            for key, count in Counter(keys).items():
                if key and count > 1:
                    notes.note("twice", key)
            time.sleep(0.01)

    def work(self, notes: Notes) -> None:
        """Run jobs for as long as it lives."""
        queue, chance = self._queue(2)
        note_rescues(notes)

        def handler(payload: Any) -> str:
            job = current_job()
            notes.note("start", job.id, str(job.attempts))
            if chance.random() < 0.3:
                time.sleep(chance.random() * 0.02)
            notes.note("end", job.id, str(job.attempts))
            return "r" * chance.choice((0, 5, 200))

        queue.process_jobs({"work": handler}, 10**6, backoff=lambda attempts: 0, linger=10**6)


def run(seed: int, kills: int = KILLS) -> Report:
    """Kill until it was often enough, let the work end, and look at it."""
    folder = Path(tempfile.mkdtemp(prefix="dbq-kills-"))
    began = time.monotonic()
    chance = random.Random(seed)
    play = _Play(folder / "queue.tsv", seed)
    roles = {"producer": play.produce, "worker": play.work, "watcher": play.watch}
    with Troupe(folder, roles) as troupe:
        for role in ("producer", "worker", "worker", "producer", "worker", "watcher"):
            troupe.start(role)
        while len(troupe.killed) < kills:
            time.sleep(chance.expovariate(1 / PAUSE))
            troupe.replace_ended()
            troupe.kill(chance.choice([*troupe.running("producer"), *troupe.running("worker")]))
        for process in troupe.running("producer"):
            troupe.kill(process, replace=False)
        blocked = wait_for_the_end(folder / "queue.tsv", patience=120)
        troupe.stop("worker")
        for process in troupe.running("watcher"):
            troupe.kill(process, replace=False)
    report = _judge(folder, troupe, kills, time.monotonic() - began)
    report = report._replace(problems=blocked + report.problems)
    if report.problems:
        report.problems.append(f"the files are kept in {folder}")
    else:
        shutil.rmtree(folder)
    return report


def wait_for_the_end(path: Path, patience: float) -> list[str]:
    """Wait until nothing is unfinished; what is wrong when that takes too long."""
    deadline = time.monotonic() + patience
    queue = Queue(path)
    while True:
        counts = queue.count_jobs()
        left = counts["pending"] + counts["processing"]
        if not left:
            return []
        if time.monotonic() > deadline:
            return [f"{left} jobs are unfinished {patience:.0f} s after the last kill"]
        time.sleep(0.1)


def _judge(folder: Path, troupe: Troupe, kills: int, seconds: float) -> Report:
    noted = events(folder)
    view = read(folder / "queue.tsv")
    added = {event.job for event in noted if event.kind == "added"}
    lost = [job for job in added if job not in view.jobs]
    problems = [f"{job} was acknowledged and is gone" for job in lost[:10]]
    problems += _table_problems(view)
    problems += _batch_problems(view, noted)
    repeats, unexplained, waits = explain_repeats(noted, troupe.killed)
    problems += unexplained
    twice = {event.job for event in noted if event.kind == "twice"}
    problems += [f"the key {key} had two unfinished jobs" for key in sorted(twice)]
    started = {event.job for event in noted if event.kind == "start"}
    problems += [f"{job} is completed, and never ran" for job in view.jobs if job not in started]
    problems += troupe.errors + complaints(folder)
    return Report(
        len(view.jobs),
        kills,
        sum(event.kind == "rescued" for event in noted),
        repeats,
        len(unexplained),
        len(lost),
        waits,
        seconds,
        problems,
    )


def _table_problems(view: View) -> list[str]:
    found = [
        f"{job} is {seen.status}" for job, seen in view.jobs.items() if seen.status != "completed"
    ]
    if view.malformed or view.torn or not view.header:
        found.append(f"malformed: {view.malformed[:3]}, torn: {view.torn!r}, header: {view.header}")
    if view.twice:
        found.append(f"two lines of one job: {view.twice[:5]}")
    return found[:10]


def _batch_problems(view: View, noted: list[Event]) -> list[str]:
    sizes = Counter(
        seen.payload.split('"')[3]
        for seen in view.jobs.values()
        if seen.payload.startswith('{"batch"')
    )
    begun = {event.job for event in noted if event.kind == "batch"}
    return [
        f"of the batch {name} there are {sizes[name]} of {BATCH} jobs"
        for name in begun | sizes.keys()
        if sizes[name] not in (0, BATCH)
    ]


def explain_repeats(
    noted: list[Event], killed: dict[int, float]
) -> tuple[int, list[str], list[float]]:
    """How many starts were not a job's first, those that no kill explains, and the waits."""
    starts: dict[str, list[Event]] = defaultdict(list)
    for event in noted:
        if event.kind == "start":
            starts[event.job].append(event)
    repeats, unexplained, waits = 0, [], []
    for job, runs in starts.items():
        for before, after in itertools.pairwise(runs):
            repeats += 1
            when = killed.get(before.process)
            if when is None or before.process == after.process or after.time < when:
                unexplained.append(
                    f"{job} ran in process {before.process}, then in {after.process}"
                )
            else:
                waits.append(after.time - when)
    return repeats, unexplained, waits
