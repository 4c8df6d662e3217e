"""The benchmark: measure, keep what was seen as JSON, write it into docs/performance.md."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Callable
from typing import Any

from . import curve, growth, machine, peers, policies, report, targets
from .actors import ROOT, V1

CACHE = ROOT / ".cache" / "bench"
RESULTS = CACHE / "results.json"
EXAMPLES = """examples:
  python -m tests.bench            all of it
  python -m tests.bench --quick    fewer rounds, smaller tables; writes no page
  python -m tests.bench --report   the page from the last run, without a new one"""

WHOLE = peers.Plan(rounds=5, backlogs=(0, 10_000, 100_000), curve=(1_000, 1_000_000))
QUICK = peers.Plan(
    rounds=1,
    backlogs=(0, 10_000),
    curve=(),
    synced_jobs=100,
    jobs=400,
    limit=0.5,
    picked=8,
    pick_seconds=1,
)


def main() -> int:
    """Run what was asked for; 2 when something is missing."""
    arguments = _parser().parse_args()
    if not (V1 / "dbbasic_queue" / "queue.py").exists():
        print(f"{V1} holds no dbbasic-queue 1.0.0: use `make bench`", file=sys.stderr)
        return 2
    if not arguments.report:
        plan = QUICK if arguments.quick else WHOLE
        plan.rounds = arguments.rounds or plan.rounds
        results = measure(plan, quick=arguments.quick)
        CACHE.mkdir(parents=True, exist_ok=True)
        place = CACHE / "quick.json" if arguments.quick else RESULTS
        place.write_text(json.dumps(results, indent=1, ensure_ascii=False))
        say(f"kept in {place.relative_to(ROOT)}")
    elif RESULTS.exists():
        results = json.loads(RESULTS.read_text())
    else:
        print(f"{RESULTS} does not exist: run without --report first", file=sys.stderr)
        return 2
    print(report.text(results))
    if not arguments.quick:
        report.write(ROOT / "docs" / "performance.md", results)
        curve.draw(ROOT / "docs" / "cost-curve.svg", results)
        say("written: docs/performance.md, docs/cost-curve.svg")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench",
        description="What the queue costs, beside what people use instead.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    either = parser.add_mutually_exclusive_group()
    either.add_argument("--quick", action="store_true", help="under a minute, to see that it works")
    either.add_argument("--report", action="store_true", help="write the page anew, no new run")
    parser.add_argument("--rounds", type=int, metavar="N", help="so many (5; quick: 1)")
    return parser


def measure(plan: peers.Plan, *, quick: bool) -> dict[str, Any]:
    """All that is measured, in one run."""
    began = time.monotonic()
    folder = CACHE / "work"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    own = targets.Targets(folder / "own")
    own.play()
    # Its other rounds come between the rest: a disturbance of the machine spoils a few of them.
    between = _nothing if quick else own.play
    starts, rows = (4, 100_000) if quick else (10, 1_000_000)
    parts: dict[str, Callable[[], Any]] = {
        "small": lambda: peers.measure_small(folder / "small", plan, max(plan.backlogs)),
        "pick_up": lambda: peers.measure_pick_up(folder / "pick", plan),
        "backlogs": lambda: peers.measure_backlogs(folder / "backlogs", plan, say, between),
        "targets": lambda: own.figures(starts, rows),
        "growth": lambda: growth.measure(
            folder / "growth", growth.ROWS[:2] if quick else growth.ROWS, plan.rounds
        ),
        "control": lambda: policies.measure(plan.rounds),
    }
    results: dict[str, Any] = {"machine": machine.describe(folder), "rounds": plan.rounds}
    for name, part in parts.items():
        start = time.monotonic()
        results[name] = part()
        say(f"{name}: {time.monotonic() - start:.0f} s")
    results["seconds"] = time.monotonic() - began
    shutil.rmtree(folder)
    return results


def _nothing() -> None:
    pass


def say(line: str) -> None:
    """How far it is, on standard error."""
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
