"""A kill before, after and in the middle of every system call of every operation.

In the middle: a kernel stops a write for a SIGKILL between two pages of memory only. Here appends
are cut at other bytes, too, and changes in place between two sectors, both of which is more than
happens.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator

from . import play
from .check import check
from .history import History
from .play import Case, Failure
from .scenarios import SCENARIOS
from .shim import Kill, Step

PART = "steps"
SECTOR = 512


def scenarios() -> list[str]:
    """A name for each task: one scenario under one durability."""
    return [f"{name}/{durability}" for name in SCENARIOS for durability in ("full", "normal")]


def run(task: str, seed: int, stride: int = 1) -> tuple[int, list[Failure]]:
    """All cases of a task, or every `stride`-th: how many there were, and what failed."""
    base = Case.parse(task)
    history = play.record(base, seed)
    cases = [case for step in history.steps for case in _cases(base, step)][:: stride or 1]
    failures = [failure for case in cases if (failure := run_case(case, seed, history))]
    return len(cases), failures


def _cases(base: Case, step: Step) -> Iterator[Case]:
    yield base._replace(step=step.number, how="before")
    for length in _cuts(step):
        yield base._replace(step=step.number, how=f"torn-{length}")
    yield base._replace(step=step.number, how="after")


def _cuts(step: Step) -> list[int]:
    """The lengths at which a write is cut off."""
    end = step.length
    if step.offset < 0:
        cuts = {1, end // 2, end - 1, *range(4096, end, 4096)}
    else:
        cuts = set(range(SECTOR - step.offset % SECTOR, end, SECTOR))
    return sorted(length for length in cuts if 0 < length < end)


def run_case(case: Case, seed: int, history: History | None = None) -> Failure | None:
    """One kill, and what a fresh process finds then."""
    history = history or play.record(case, seed)
    with play.folder() as root:
        play.prepare(root, case, seed)
        end = play.act(root, case, seed, Kill(history.steps, case.step, case.how))
        problems = check(root, history, len(end.told), history.floors(len(end.told)))
    if end.signal not in (0, signal.SIGKILL):
        problems.append(f"died of signal {end.signal}")
    if not problems:
        return None
    return Failure(PART, str(case), problems, str(history.steps[case.step - 1]))
