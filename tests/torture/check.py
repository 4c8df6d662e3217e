"""The invariants: asked by a fresh process of what a run that was cut short has left.

* Each acknowledged job is there, exactly once, in a state it may be in; each other job is wholly
  there or not at all (history.py says which).
* The engine's readers see, before anybody has mended anything, what the independent reader sees
  when the first writer has.
* No process is blocked, nothing is malformed that was not so before; a batch is there whole or not.
* No key has two jobs that wait.
* What was paused is so still; it is resumed for what follows.
* Workers that were asked to begin anew know it. A copy of the queue is whole, and what a restored
  one has replaced is beside it.
* No job was begun that its type's rate does not count, unless the power was cut.
* What was set aside is in `queue.torn`; the marks, and what was installed, are as they were said to
  be, or as they became later. The history has each attempt that was added to it, once.
* Work goes on: whatever is unfinished runs exactly once more and ends; nothing finished runs, nor
  what was to be cancelled while it ran.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from dbbasic_queue import Queue, current_job
from dbbasic_queue.engines.calling_off import note_of
from dbbasic_queue.engines.tsv import hint
from dbbasic_queue.engines.unique import key_of
from dbbasic_queue.health import notify
from dbbasic_queue.table import ending

from . import child
from .history import History
from .reader import FINISHED, Seen, View, read
from .scenarios import BURST, HINTED, NOW, RATED, TABLE, used_up

LATER = NOW + 1_000_000


def check(
    root: Path, history: History, acks: int, floors: dict[str, int], *, power_cut: bool = False
) -> list[str]:
    """What is wrong with the table below `root`, found by a fresh process; [] if nothing."""

    def look(tell: Callable[[Any], None]) -> None:
        for problem in _look(root, history, acks, floors, power_cut):
            tell(problem)

    end = child.run(look)
    if end.blocked:
        return [*end.told, f"blocked: a fresh process did not end in {child.PATIENCE} s"]
    return [*end.told, *([f"a fresh process died of signal {end.signal}"] if end.signal else [])]


def _read(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


def _look(
    root: Path, history: History, acks: int, floors: dict[str, int], power_cut: bool
) -> Iterator[str]:
    path = root / TABLE
    hint.LEAST = HINTED  # type: ignore[misc]
    if power_cut:
        ending._boot = b"the kernel after the power cut"
    found = read(path)
    yield from history.problems(found, floors)
    queue = Queue(path, clock=lambda: LATER)
    seen = _Readers(queue, [*found.jobs])
    with queue.engine.table.writing():  # sees to what was left
        pass
    mended = read(path)
    yield from seen.compare(mended)
    yield from history.problems(mended, floors)
    yield from history.misplaced(lambda name: _read(root / name), acks, power_cut=power_cut)
    queue.engine.restart_mark()  # whatever is left of the file, it can be read
    notify.read(path.with_suffix(".notified"))
    counted = sum(hour.attempts for hour in queue.history())
    yield from history.miscounted(counted, acks, power_cut=power_cut)
    if mended.torn or not mended.header:
        yield f"not mended: torn {mended.torn!r}, header {mended.header}"
    if not power_cut:
        if mended.malformed != history.malformed:
            yield f"malformed lines: {mended.malformed}"
        for group in history.groups:
            there = [name for name in group if name in mended.jobs]
            if there and len(there) < len(group):
                yield f"of a batch of {len(group)} jobs there are {len(there)}"
    if not power_cut:  # in "normal" the beginning of one may be lost, and not what came after it
        yield from _two_of_a_key(mended)
        yield from _more_than_counted(mended, _read(path.with_suffix(".rates")) or b"")
    queue.resume()
    yield from _work_goes_on(queue, mended)


def _two_of_a_key(view: View) -> Iterator[str]:
    """Say which keys have two jobs that wait."""
    waiting = (name for name, seen in view.jobs.items() if seen.status == "pending")
    for key, count in Counter(key for name in waiting if (key := key_of(name))).items():
        if count > 1:
            yield f"{count} jobs with the key {key} wait"


def _more_than_counted(view: View, rates: bytes) -> Iterator[str]:
    """Say which types have begun more jobs than are counted for their rate, or than it allows."""
    counted = used_up(rates)
    begun: Counter[str] = Counter()
    for seen in view.jobs.values():
        if seen.type.startswith(RATED):
            begun[seen.type] += seen.attempts
    for job_type, count in begun.items():
        if count > min(BURST, counted.get(job_type, 0)):
            yield f"{count} jobs of {job_type} were begun, and {counted.get(job_type)} counted"


class _Readers:
    """What the engine's readers say."""

    def __init__(self, queue: Queue, names: list[str]) -> None:
        self._listed = [(job["id"], job["status"]) for job in queue.list_jobs()]
        self._counts = {status: count for status, count in queue.count_jobs().items() if count}
        self._jobs = {name: queue.get_job(name) for name in names}

    def compare(self, view: View) -> Iterator[str]:
        """Where that is not what stands in the file."""
        expected = {name: seen.status for name, seen in view.jobs.items()}
        if dict(self._listed) != expected or len(self._listed) != len(expected):
            yield f"list_jobs says {self._listed}, the file {expected}"
        if self._counts != dict(Counter(expected.values())):
            yield f"count_jobs says {self._counts}, the file {dict(Counter(expected.values()))}"
        for name, job in self._jobs.items():
            seen = view.jobs.get(name)
            told = job and (job["status"], job["attempts"])
            if told != (seen and (seen.status, seen.attempts)):
                yield f"get_job says {job}, the file {seen}"


def _work_goes_on(queue: Queue, before: View) -> Iterator[str]:
    runs: Counter[str] = Counter()

    def handler(payload: Any) -> str:
        runs[current_job().id] += 1
        return "drained"

    new = queue.enqueue("work", {"new": True})
    types = {seen.type for seen in before.jobs.values()} | {"work"}
    queue.process_jobs(dict.fromkeys(types, handler), 1000, backoff=lambda attempts: 0)
    after = read(queue.path)
    ends = _rescued_to_their_end(before)
    unfinished = {name for name, seen in before.jobs.items() if seen.status not in FINISHED}
    unfinished -= ends.keys()
    if runs != Counter(dict.fromkeys(unfinished | {new}, 1)):
        yield f"unfinished were {sorted(unfinished)}, run were {dict(runs)}"
    for name, seen in before.jobs.items():
        expected = _drained(seen) if name in unfinished else ends.get(name, seen)
        if after.jobs.get(name) != expected:
            yield f"{name} was {seen}, and after the work is {after.jobs.get(name)}"
    if after.jobs.keys() != before.jobs.keys() | {new}:
        yield f"jobs after the work: {sorted(after.jobs)}, before: {sorted(before.jobs)}, {new}"
    if Counter(after.malformed) != Counter(before.malformed):
        yield f"malformed lines were {before.malformed}, and are {after.malformed}"
    if after.twice or after.torn or not after.header:
        yield f"after the work: two lines of {after.twice}, torn {after.torn!r}"


def _rescued_to_their_end(before: View) -> dict[str, Seen]:
    """Those of dead workers that are not run again, and what becomes of them."""
    ends = {}
    waiting = {key_of(name): name for name, seen in before.jobs.items() if seen.status == "pending"}
    for name, seen in before.jobs.items():
        end = seen._replace(run_at=LATER, result="")
        if seen.status == "processing" and (note := note_of(seen.error)):
            ends[name] = end._replace(status="cancelled", error=note)
        elif seen.status == "processing" and key_of(name):
            other = waiting.setdefault(key_of(name), name)  # the first of them waits again
            if other == name:
                continue
            died = f"WorkerDied: the worker died while it ran this job (attempt {seen.attempts})"
            error = f"{died} (not tried again: {other} waits)"
            ends[name] = end._replace(status="failed", error=error)
    return ends


def _drained(seen: Seen) -> Seen:
    """The state of an unfinished job after its next attempt."""
    return seen._replace(
        status="completed",
        attempts=seen.attempts + 1,
        run_at=LATER,
        error="",
        result='"drained"',
    )
