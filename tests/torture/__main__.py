"""The torture: all of it, a part, or one case again."""

from __future__ import annotations

import argparse
import os
import random
import re
import signal
import sys
import time
from concurrent.futures import ProcessPoolExecutor

from . import cuts, faults, kills, soak, steps, traced
from .play import Case, Failure

EXAMPLES = """examples:
  python -m tests.torture                       everything (about 15 minutes on two cores)
  python -m tests.torture steps cuts            two parts of it
  python -m tests.torture kills --kills 200     fewer kills
  python -m tests.torture soak --seconds 60     a shorter soak
  python -m tests.torture steps --seed 7 --case enqueue/full/13/torn-441
                                                one case again, as a failure has printed it"""
SHOWN = 20  # failures
STEPWISE = {"steps": steps, "cuts": cuts, "faults": faults, "traced": traced}
PARTS = [*STEPWISE, "kills", "soak"]
ABOUT = {
    "steps": "kills before, in and after each system call",
    "cuts": "states of the disk after a power cut",
    "faults": "errors from writes, syncs and changes of names",
    "traced": "kills and errors by strace, a full tmpfs",
}


def main() -> int:
    """Run what was asked for; 1 when something was wrong."""
    parser = _parser()
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"there is no part {', '.join(unknown)}: it may be {', '.join(PARTS)}")
    seed = arguments.seed if arguments.seed is not None else random.randrange(10**6)
    if arguments.case:
        return _run_one(arguments.parts[0] if arguments.parts else "", arguments.case, seed)
    parts = arguments.parts or PARTS
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    print(f"seed {seed}, {os.cpu_count()} cores, Python {sys.version.split()[0]}", flush=True)
    began = time.monotonic()
    bad = 0
    for part in parts:
        if part in STEPWISE:
            bad += _run_stepwise(part, seed, arguments.stride)
        elif part == "kills":
            report = kills.run(seed, arguments.kills)
            bad += _show(part, str(report), report.problems, seed)
        else:
            soaked = soak.run(seed, arguments.seconds)
            bad += _show(part, soaked.text, soaked.problems, seed)
    print(f"{'FAILED' if bad else 'all well'}, {time.monotonic() - began:.0f} s", flush=True)
    return 1 if bad else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.torture",
        description="Kill, cut the power, refuse: and look whether the queue keeps its promises.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all")
    parser.add_argument("--seed", type=int, help="for payloads, places and moments")
    parser.add_argument("--case", help="only this one")
    parser.add_argument("--stride", type=int, default=1, help="only one case in so many")
    parser.add_argument("--kills", type=int, default=kills.KILLS, help="how many")
    parser.add_argument("--seconds", type=float, default=soak.SECONDS, help="of the soak")
    return parser


def _run_stepwise(part: str, seed: int, stride: int) -> int:
    """All tasks of a part, on all cores; returns how many cases failed."""
    began = time.monotonic()
    module = STEPWISE[part]
    count = 0
    failures: list[Failure] = []
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        runs = [pool.submit(_run_task, part, task, seed, stride) for task in module.scenarios()]
        for run in runs:
            some, failed = run.result()
            count += some
            failures += failed
    words = f"{count} {ABOUT[part]}: {len(failures)} failed"
    print(f"{part}: {words}; took {time.monotonic() - began:.0f} s", flush=True)
    for failure in failures[:SHOWN]:
        _show_failure(failure, seed)
    return len(failures)


def _run_task(part: str, task: str, seed: int, stride: int) -> tuple[int, list[Failure]]:
    return STEPWISE[part].run(task, seed, stride)


def _run_one(part: str, case: str, seed: int) -> int:
    if part not in STEPWISE:
        print(f"--case goes with one of the parts {', '.join(STEPWISE)}", file=sys.stderr)
        return 2
    if part == "traced" and case.count("/") == 1:
        failures = traced.run(case, seed, stride=10**9)[1]
    else:
        failure = STEPWISE[part].run_case(Case.parse(case), seed)
        failures = [failure] if failure else []
    for failure in failures:
        _show_failure(failure, seed)
    print("FAILED" if failures else "all well")
    return 1 if failures else 0


def _show_failure(failure: Failure, seed: int) -> None:
    print(f"  {failure.case} ({failure.where})")
    for problem in failure.problems[:5]:
        print(f"    {_shortened(problem)}")
    print(f"    again: python -m tests.torture {failure.part} --seed {seed} --case {failure.case}")
    sys.stdout.flush()


def _show(part: str, text: str, problems: list[str], seed: int) -> int:
    print(f"{part}: {text}", flush=True)
    for problem in problems[:SHOWN]:
        print(f"    {_shortened(problem)}")
    if problems:
        print(f"    again: python -m tests.torture {part} --seed {seed}", flush=True)
    return len(problems)


def _shortened(text: str) -> str:
    """A problem in words, without the paddings that tables are full of."""
    return re.sub(r"(.)\1{15,}", r"\1\1\1…", text)[:2000]


if __name__ == "__main__":
    sys.exit(main())
