"""Everything at once: producers, workers, failures, timeouts, kills, pruning, compaction, people.

Each process notes what it does in a notebook of its own; at the end the notes have to explain the
table. A job that was acknowledged is in the table in a state that its notes allow, or it was
pruned, which only finished ones are. A job that started again did so because its worker was killed,
its attempt failed, or a person put it back.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from dbbasic_queue import JsonFormatter, Queue, current_job
from dbbasic_queue.table import renewing as store

from .kills import note_rescues, wait_for_the_end
from .processes import Event, Notes, Troupe, complaints, events
from .reader import Seen, read

SECONDS = 600
MAX_ATTEMPTS = 4
TIMEOUT = 0.2
BACKLOG = 400
ROTATE_EVERY = 5
LONG = 60  # seconds in which something is pruned, however busy the machine is
CAST = (*["worker"] * 3, *["producer"] * 2, "person", "janitor", "editor")
KINDS = ("quick", "quick", "quick", "long", "shaky", "hopeless", "sleepy", "async", "deadly")


class Report(NamedTuple):
    """What the run came to."""

    text: str
    problems: list[str]


class _Play:
    """The roles, on one table."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._folder = folder
        self._path = folder / "queue.tsv"
        self._seed = seed

    def roles(self) -> dict[str, Callable[[Notes], None]]:
        """Each role by its name."""
        return {
            "producer": self.produce,
            "worker": self.work,
            "person": self.meddle,
            "janitor": self.clean,
            "editor": self.edit,
        }

    def _chance(self) -> random.Random:
        return random.Random(f"{self._seed} {time.monotonic_ns()}")

    def produce(self, notes: Notes) -> None:
        """Add jobs of all kinds: singly, in batches, for later, twice with one key."""
        chance = self._chance()
        queue = Queue(self._path, chance.choice(["full", "normal"]))
        for turn in range(10**9):
            kind = chance.choice(KINDS)
            payload = {"edit": 0, "pad": "x" * chance.randint(0, 600)}
            way = chance.random()
            if way < 0.1:
                for job in queue.enqueue_many([(kind, payload)] * 10):
                    notes.note("added", job, kind)
            elif way < 0.2:
                key = f"key-{os.getpid()}-{turn}"
                payload = {"key": key}  # not edited, so that the second time it is the same
                for _ in range(2):
                    notes.note("added", queue.enqueue(kind, payload, job_id=key), kind)
            else:
                run_at = time.time() + chance.randint(1, 3) if way < 0.3 else None
                notes.note("added", queue.enqueue(kind, payload, run_at), kind)
            if turn % 20 == 0:
                while queue.count_jobs()["pending"] > BACKLOG:
                    time.sleep(0.2)
            time.sleep(chance.random() * 0.02)

    def work(self, notes: Notes) -> None:
        """A run of the worker, as cron starts one: its log is opened by name."""
        chance = self._chance()
        note_rescues(notes)
        log = logging.getLogger("dbbasic_queue")
        file = logging.FileHandler(self._folder / "dbq.log", encoding="utf-8")
        file.setFormatter(JsonFormatter())
        log.addHandler(file)
        log.setLevel(logging.INFO)
        queue = Queue(self._path, chance.choice(["full", "normal"]))
        queue.process_jobs(
            _Handlers(notes, chance).by_type(),
            MAX_ATTEMPTS,
            backoff=lambda attempts: 0,
            linger=chance.randint(1, 4),
            max_seconds=8,
            timeout={"sleepy": TIMEOUT},
        )

    def meddle(self, notes: Notes) -> None:
        """A person cancels and retries, in the library and through the command."""
        chance = self._chance()
        queue = Queue(self._path)
        while True:
            jobs = list(queue.list_jobs(limit=2000))
            for job in chance.sample(jobs, min(5, len(jobs))):
                name = job["id"]
                if job["status"] == "pending":
                    notes.note("cancelling", name)
                    if queue.cancel_job(name):
                        notes.note("cancelled", name)
                elif job["status"] in ("failed", "cancelled"):
                    notes.note("retrying", name)
                    if queue.retry_job(name):
                        notes.note("retried", name)
            time.sleep(chance.random())
            self._dbq(notes, chance)

    def _dbq(self, notes: Notes, chance: random.Random) -> None:
        """A call of the command, each of which takes the table's lock."""
        word = chance.choice(["enqueue", "stats", "list", "fsck", "prune"])
        arguments = {
            "enqueue": ["quick", '{"edit": 0}'],
            "prune": ["--older-than", "3s"],
            "list": ["--limit", "5", "--json"],
        }.get(word, [])
        # fsck says 1 when it finds something: here orphans that no worker has taken back yet.
        done = self._call(word, *arguments, codes=(0, 1) if word == "fsck" else (0,))
        if word == "enqueue":
            notes.note("added", done.stdout.strip(), "quick")
        if "malformed" in done.stdout and word == "fsck":
            raise RuntimeError(f"dbq fsck: {done.stdout}")

    def _call(
        self, word: str, *arguments: str, codes: tuple[int, ...], **environment: str
    ) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "dbbasic_queue.cli", word, "--file", str(self._path)]
        done = subprocess.run(
            [*command, *arguments],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode not in codes:
            raise RuntimeError(f"dbq {word}: exit code {done.returncode}: {done.stderr}")
        return done

    def clean(self, notes: Notes) -> None:
        """Prune what was finished a while ago; compact much more often than needed."""
        store.WORTH_COMPACTING = 1 << 12  # type: ignore[misc]
        queue = Queue(self._path)
        for second in range(1, 10**9):
            time.sleep(1)
            notes.note("compacted", rest=str(int(queue.engine.table.compact())))
            if second % 3 == 0:  # as most janitors are killed before long
                notes.note("pruned", rest=str(queue.prune_jobs(1)))

    def edit(self, notes: Notes) -> None:
        """A person edits jobs with `dbq edit`, in an editor that hand.py is, until told to stop."""
        hand, told = Path(__file__).with_name("hand.py"), self._folder / "hand.told"
        stops: list[int] = []
        signal.signal(signal.SIGTERM, lambda number, frame: stops.append(number))
        for number in itertools.takewhile(lambda _: not stops, itertools.count(1)):
            told.unlink(missing_ok=True)
            words = [sys.executable, str(hand), str(told), str(number)]
            done = self._call("edit", codes=(0, 1), VISUAL=shlex.join(words))
            if done.returncode == 0:
                for line in told.read_text().splitlines():
                    kind, job, *rest = line.split()
                    notes.note(kind, job, "quick" if kind == "added" else "".join(rest))
                notes.note("edited")
            else:
                self._note_refusal(notes, done.stderr)
            time.sleep(0.3)

    def _note_refusal(self, notes: Notes, said: str) -> None:
        """The only reason to refuse this editor is that a job is not what it was."""
        *reasons, nothing, kept = said.splitlines()
        if not reasons or not all(" meanwhile: it " in reason for reason in reasons):
            raise RuntimeError(f"dbq edit: {said}")
        if nothing != "dbq: nothing was changed":
            raise RuntimeError(f"dbq edit: {said}")
        Path(kept.removeprefix("dbq: the edited text is kept for a week in ")).unlink()
        notes.note("refused")


class _Handlers:
    """What the jobs do."""

    def __init__(self, notes: Notes, chance: random.Random) -> None:
        self._notes = notes
        self._chance = chance

    def by_type(self) -> dict[str, Callable[[Any], Any]]:
        """A handler for each kind of job."""
        return {
            "quick": self._wrap(lambda attempt: None),
            "long": self._wrap(lambda attempt: "r" * self._chance.randint(0, 2000)),
            "shaky": self._wrap(self._fail_at_first),
            "hopeless": self._wrap(self._fail),
            "sleepy": self._wrap(lambda attempt: time.sleep(TIMEOUT * 3 if attempt == 1 else 0)),
            "async": self._wrap_async(),
            "deadly": self._wrap(self._die),
        }

    def _wrap(self, work: Callable[[int], Any]) -> Callable[[Any], Any]:
        def handler(payload: Any) -> Any:
            job = current_job()
            self._notes.note("start", job.id, str(job.attempts))
            try:
                result = work(job.attempts)
            except BaseException as error:
                self._notes.note("raised", job.id, type(error).__name__)
                raise
            self._notes.note("end", job.id)
            return result

        return handler

    def _wrap_async(self) -> Callable[[Any], Any]:
        async def handler(payload: Any) -> str:
            import asyncio

            job = current_job()
            self._notes.note("start", job.id, str(job.attempts))
            await asyncio.sleep(0.001)
            self._notes.note("end", job.id)
            return "awaited"

        return handler

    def _fail_at_first(self, attempt: int) -> None:
        if attempt < 3:
            raise OSError("e" * self._chance.randint(0, 500))

    def _fail(self, attempt: int) -> None:
        raise ValueError("always\tfails\n")

    def _die(self, attempt: int) -> None:
        if attempt == 1 and self._chance.random() < 0.3:
            os.kill(os.getpid(), signal.SIGKILL)


def run(seed: int, seconds: float = SECONDS) -> Report:
    """Let them play, let the work end, and hold the notes against the table."""
    folder = Path(tempfile.mkdtemp(prefix="dbq-soak-"))
    began = time.monotonic()
    chance = random.Random(seed)
    with Troupe(folder, _Play(folder, seed).roles()) as troupe:
        Queue(folder / "queue.tsv").enqueue("quick", {})
        for role in CAST:
            troupe.start(role)
        rotations = 0
        while time.monotonic() - began < seconds:
            time.sleep(chance.random() * 2)
            troupe.replace_ended()
            troupe.kill(chance.choice(troupe.running("worker", "producer", "janitor")))
            if time.monotonic() - began > ROTATE_EVERY * (rotations + 1):
                rotations += 1
                _rotate(folder / "dbq.log", rotations)
        troupe.stop("editor")  # between two edits, so that what it has noted is all it has done
        for process in troupe.running("producer", "person", "janitor"):
            troupe.kill(process, replace=False)
        blocked = wait_while(troupe, folder / "queue.tsv")
        troupe.stop("worker")
    report = _Judge(folder, troupe, rotations, time.monotonic() - began).report()
    problems = blocked + report.problems
    if problems:
        problems.append(f"the files are kept in {folder}")
    else:
        shutil.rmtree(folder)
    return report._replace(problems=problems)


def wait_while(troupe: Troupe, path: Path) -> list[str]:
    """Wait for the work to end, starting workers as cron does."""
    for _ in range(60):
        troupe.replace_ended()
        if not wait_for_the_end(path, patience=1):
            return []
    return wait_for_the_end(path, patience=1)


def _rotate(log: Path, number: int) -> None:
    """As logrotate does with delaycompress: who has it open writes on into the old one."""
    if log.exists():
        log.rename(log.with_name(f"dbq.log.{number}"))


class _Judge:
    """Holds the notes against the table and the log."""

    def __init__(self, folder: Path, troupe: Troupe, rotations: int, seconds: float) -> None:
        self._folder = folder
        self._troupe = troupe
        self._rotations = rotations
        self._seconds = seconds
        self._noted = events(folder)
        self._view = read(folder / "queue.tsv")
        self._of: dict[str, list[Event]] = defaultdict(list)
        for event in self._noted:
            self._of[event.job].append(event)

    def report(self) -> Report:
        """Everything that is wrong, and the numbers."""
        view = self._view
        problems = [*self._troupe.errors, *complaints(self._folder)]
        if view.malformed or view.torn or view.twice or not view.header:
            problems.append(f"table: {view.malformed[:3]} {view.torn!r} {view.twice} {view.header}")
        kinds = {event.job: event.rest for event in self._noted if event.kind == "added"}
        lost = [job for job, kind in kinds.items() if not self._is_explained(job, kind)]
        problems += [f"{job} ({kinds[job]}): {self._story(job)}" for job in lost[:10]]
        problems += self._misedited()[:10]
        repeats, unexplained = self._repeats()
        problems += unexplained[:10]
        logged, faults = self._log()
        problems += faults
        numbers = Counter(event.kind for event in self._noted)
        pruned = sum(int(event.rest) for event in self._noted if event.kind == "pruned")
        if not pruned and self._seconds > LONG:
            problems.append("nothing was pruned")
        compacted = sum(int(event.rest) for event in self._noted if event.kind == "compacted")
        text = (
            f"{len(kinds)} jobs, {len(self._troupe.killed)} kills, {numbers['rescued']} rescues,"
            f" {repeats} repeats ({repeats - len(unexplained)} explained), {len(lost)} losses;"
            f" {pruned} pruned, {compacted} compactions, {numbers['edited']} edits by hand,"
            f" {numbers['refused']} refused,"
            f" {numbers['cancelled']} cancelled, {numbers['retried']} put back,"
            f" {self._rotations} log rotations, {logged} events logged; took {self._seconds:.0f} s"
        )
        return Report(text, problems)

    def _is_explained(self, job: str, kind: str) -> bool:
        """Whether what became of an acknowledged job is what should have."""
        seen = self._view.jobs.get(job)
        noted = Counter(event.kind for event in self._of[job])
        if seen is None:  # pruned, as only completed and cancelled jobs are
            return numbers_allow(noted, "completed") or numbers_allow(noted, "cancelled")
        return numbers_allow(noted, seen.status) and _fits(kind, seen)

    def _misedited(self) -> list[str]:
        """Jobs that were changed or removed in the editor, and are not so."""
        wrong = []
        for job, noted in self._of.items():
            seen = self._view.jobs.get(job)
            edits = [event for event in noted if event.kind in ("changed", "removed")]
            if edits and seen is not None:
                last = edits[-1]
                if last.kind == "removed" or json.loads(seen.payload)["edit"] != int(last.rest):
                    wrong.append(f"{job} was {last.kind} {last.rest}: {self._story(job)}")
        return wrong

    def _story(self, job: str) -> str:
        seen = self._view.jobs.get(job)
        began = self._noted[0].time
        story = [f"{e.time - began:.3f} {e.kind} {e.rest} in {e.process}" for e in self._of[job]]
        return f"is {seen}; its story: {'; '.join(story)}"

    def _repeats(self) -> tuple[int, list[str]]:
        repeats, unexplained = 0, []
        for job, noted in self._of.items():
            last: Event | None = None
            reason = False  # for another start
            for event in noted:
                if event.kind == "start":
                    if last is not None:
                        repeats += 1
                        if not reason and last.process not in self._troupe.killed:
                            unexplained.append(f"{job} started again: {self._story(job)}")
                    last, reason = event, False
                elif event.kind in ("raised", "retrying"):
                    reason = True
        return repeats, unexplained

    def _log(self) -> tuple[int, list[str]]:
        """The log, rotated as it was, is whole: each line, and an event for each attempt."""
        lines = [
            line for path in self._folder.glob("dbq.log*") for line in path.read_text().splitlines()
        ]
        faults = []
        started: Counter[str] = Counter()
        for line in lines:
            try:
                record = json.loads(line)
            except ValueError:
                faults.append(f"the log has a broken line: {line[:200]!r}")
                continue
            if record.get("event") == "started":
                started[record["job_id"]] += 1
        ran = Counter(event.job for event in self._noted if event.kind == "start")
        missing = [job for job in ran if started[job] < ran[job]]
        if missing:
            faults.append(f"the log lacks the start of {len(missing)} jobs, such as {missing[0]}")
        return len(lines), faults[:10]


def numbers_allow(noted: Counter[str], status: str) -> bool:
    """Whether a job of which this was noted may have come to this state."""
    if status == "completed":
        return noted["end"] > 0
    if status == "cancelled":
        return noted["cancelling"] > 0
    return status == "failed"


def _fits(kind: str, seen: Seen) -> bool:
    if seen.status == "failed":  # only these fail, or whatever was killed too often
        return (
            kind == "hopeless"
            or seen.error.startswith("WorkerDied")
            or seen.attempts >= MAX_ATTEMPTS
        )
    return not (kind == "hopeless" and seen.status == "completed")
