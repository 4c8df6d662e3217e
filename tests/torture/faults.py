"""ENOSPC, EIO and EDQUOT from every write, sync and change of names.

Once; from then on, until the disk is mended; and as a disk does that has just become full: half of
a write succeeds, then nothing that needs space does. What must hold: the caller gets a clear error
of ours, or the operation is done; a failed sync is never reported as done; the table is unharmed;
the next call, in the same process, works, and the work that was in hand ends. Where there is no
space for a long error or result, a job may be recorded without.
"""

from __future__ import annotations

import errno
import traceback
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from dbbasic_queue import QueueError, current_job

from . import child, play
from .history import History
from .play import Case, Failure
from .reader import FINISHED, View, parse, read
from .scenarios import SCENARIOS, Stage
from .shim import SYNCS, Fail, Plan, Shim, Step, may_fail

PART = "faults"
ERRORS = ("ENOSPC", "EIO", "EDQUOT")


class Suffered(NamedTuple):
    """What a process told of an operation that was refused something."""

    hit: Step | None
    error: str  # "" when the operation returned
    is_ours: bool
    at_once: bytes  # the table then
    later: str  # what went wrong when the disk was mended, "" if nothing
    runs: dict[str, int]  # of the work thereafter


def scenarios() -> list[str]:
    """A name for each task: one scenario under one durability."""
    return [f"{name}/{durability}" for name in SCENARIOS for durability in ("full", "normal")]


def run(task: str, seed: int, stride: int = 1) -> tuple[int, list[Failure]]:
    """All cases of a task, or every `stride`-th: how many there were, and what failed."""
    base = Case.parse(task)
    history = play.record(base, seed)
    cases = list(_cases(base, history))[:: stride or 1]
    failures = [failure for case in cases if (failure := run_case(case, seed, history))]
    return len(cases), failures


def _cases(base: Case, history: History) -> Iterator[Case]:
    for step in history.steps:
        if may_fail(step):
            for error in ERRORS:
                # What is changed in place needs no space, so it is not cut short.
                short = ["short"] if step.length > 1 and step.offset < 0 else []
                for how in ("once", "on", *short):
                    yield base._replace(step=step.number, how=f"{error}-{how}")


def run_case(case: Case, seed: int, history: History | None = None) -> Failure | None:
    """One operation, refused one thing."""
    history = history or play.record(case, seed)
    with play.folder() as root:
        play.prepare(root, case, seed)
        end = child.run(lambda tell: _suffer(tell, root, case, seed))
        if end.signal:
            found = [f"{'blocked' if end.blocked else 'died'}: signal {end.signal}"]
        else:
            suffered: Suffered = end.told[-1]
            found = list(problems(suffered, history, len(end.told) - 1, case.durability))
            final = read(root / "data/queue.tsv")
            found += final_problems(parse(suffered.at_once), final, suffered, history)
    if not found:
        return None
    return Failure(PART, str(case), found, str(history.steps[case.step - 1]))


def _suffer(tell: Callable[[Any], None], root: Any, case: Case, seed: int) -> None:
    error, _, how = case.how.partition("-")
    plan = Fail(case.step, how, getattr(errno, error))
    stage = Stage(root, seed + 1, case.durability, tell)
    Shim(str(root), plan).install()
    tell(suffer(stage, case.scenario, plan)._replace(hit=plan.hit))


def suffer(stage: Stage, scenario: str, plan: Plan, *, go_on: bool = True) -> Suffered:
    """Do what a scenario does, whatever is refused, and go on when the disk is mended."""
    text, is_ours = "", True
    try:
        SCENARIOS[scenario].act(stage)
    except QueueError as refusal:
        text = f"{type(refusal).__name__}: {refusal}"
    except Exception:
        text, is_ours = traceback.format_exc(), False
    plan.lift()
    at_once = stage.path.read_bytes() if stage.path.exists() else b""
    runs: dict[str, int] = {}
    later = ""
    try:
        if go_on:
            _go_on(stage, runs)
    except Exception:
        later = traceback.format_exc()
    return Suffered(None, text, is_ours, at_once, later, runs)


def _go_on(stage: Stage, runs: dict[str, int]) -> None:
    """The next calls: a job, and the work, with the same queue object."""

    def handler(payload: Any) -> None:
        name = current_job().id
        runs[name] = runs.get(name, 0) + 1

    stage.queue.resume()
    stage.queue.enqueue("work", {"again": True}, job_id="again")
    types = {job["type"] for job in stage.queue.list_jobs()}
    stage.queue.process_jobs(dict.fromkeys(types, handler), 1000, backoff=lambda attempts: 0)


def problems(suffered: Suffered, history: History, acks: int, durability: str) -> Iterator[str]:
    """What is wrong with the answer to a refusal, and with the table then."""
    view = parse(suffered.at_once)
    yield from history.problems(view, history.floors(acks), without_result=True)
    if not suffered.is_ours:
        yield f"an error that is none of ours: {suffered.error}"
    if suffered.later:
        yield f"the next call failed: {suffered.later}"
    hit = suffered.hit
    # In "normal" a sync keeps two writes in order; when it fails, the job is recorded otherwise.
    promises = hit is not None and (hit.name == "fsync" or durability == "full")
    if hit is not None and hit.name in SYNCS and promises and not suffered.error:
        yield "a sync failed, and the operation was reported as done"


def final_problems(at_once: View, final: View, suffered: Suffered, history: History) -> list[str]:
    """What is wrong after the work went on."""
    found = []
    half: set[str] = set()  # jobs of batches that were set aside, as they were not whole
    for group in history.groups:
        there = {name for name in group if name in final.jobs}
        if there and len(there) < len(group):
            found.append(f"of a batch of {len(group)} jobs there are {len(there)}")
        if not there and not all(name in at_once.jobs for name in group):
            half.update(group)
    unfinished = {name for name, seen in at_once.jobs.items() if seen.status not in FINISHED}
    for name in at_once.jobs.keys() - half:
        seen = final.jobs.get(name)
        if seen is None or seen.status not in FINISHED:
            found.append(f"{name} was {at_once.jobs[name]}, and at the end is {seen}")
        elif name not in unfinished and name in suffered.runs:
            found.append(f"{name} was finished, and ran again")
    if suffered.runs.get("again") != 1:
        found.append(f"the next job ran {suffered.runs.get('again', 0)} times")
    if set(final.malformed) - set(at_once.malformed) or final.torn or not final.header:
        found.append(f"malformed at the end: {final.malformed}, torn {final.torn!r}")
    return found
