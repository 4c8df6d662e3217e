"""The benchmark: every measurement in a process of its own, the engines by turns."""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from . import report
from .engines import ENGINES, Engine

ROOT = Path(__file__).resolve().parents[2]
BACKLOGS = (0, 1_000, 10_000, 100_000, 1_000_000)
SHARES = 4  # processes at once
SHARED_BACKLOG = 10_000
BACKED_OFF = 0.02  # seconds a job; an engine that takes longer is not asked for a larger backlog

EXAMPLES = """examples:
  python -m tests.bench                   all of it (about 12 minutes), README and curve rewritten
  python -m tests.bench --quick           one short round, nothing written
  python -m tests.bench --folder /mnt/x   on another disk"""

Samples = dict[tuple[str, str, int], list[dict[str, float]]]  # engine, what, backlog


class Bench:
    """One run."""

    def __init__(self, folder: Path, rounds: int, backlogs: tuple[int, ...]) -> None:
        self._folder = folder
        self._rounds = rounds
        self._backlogs = backlogs
        self.samples: Samples = defaultdict(list)
        self._slow: set[str] = set()

    def run(self) -> None:
        """Round after round, the engines in another order each time."""
        for number in range(self._rounds):
            self._say(f"round {number + 1} of {self._rounds}")
            for backlog in self._backlogs:
                for engine in random.sample(list(ENGINES), len(ENGINES)):
                    if self._bears(engine, backlog):
                        self._one(engine, backlog)
                self._disk()
            self._ours(number)
        for engine in ENGINES:
            shutil.rmtree(self._folder / engine, ignore_errors=True)

    def _say(self, text: str) -> None:
        print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)

    def _bears(self, engine: str, backlog: int) -> bool:
        limit: type[Engine] = ENGINES[engine]  # type: ignore[assignment]
        return backlog <= limit.largest and (engine not in self._slow or backlog == 0)

    def _one(self, engine: str, backlog: int) -> None:
        """Enqueue and take + finish with a backlog; that leaves it about as it was."""
        folder = self._folder / engine / str(backlog)
        if backlog == 0:
            shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            filled = self._measure("fill", engine, folder, "--count", str(backlog))
            if backlog:
                size = filled["bytes"] / backlog
                self.samples[engine, "bytes", backlog].append({"cost": size})
        # What is added should not be many more than there are.
        limit = "5000" if backlog >= 10_000 else "1000"
        added = self._measure("enqueue", engine, folder, "--limit", limit)
        self.samples[engine, "enqueue", backlog].append(added)
        taken = self._measure("work", engine, folder, "--limit", limit)
        self.samples[engine, "work", backlog].append(taken)
        if taken["cost"] > BACKED_OFF and backlog >= 100_000:
            self._slow.add(engine)

    def _disk(self) -> None:
        self._figure("disk", "disk", 0)

    def _figure(self, what: str, engine: str, backlog: int, *arguments: str) -> None:
        folder = Path(tempfile.mkdtemp(dir=self._folder))
        try:
            answer = self._ask("tests.bench.figures", what, str(folder), *arguments)
        finally:
            shutil.rmtree(folder)
        self.samples[engine, what, backlog].append(answer)

    def _ours(self, number: int) -> None:
        """What is not asked at each backlog."""
        for engine in random.sample(list(ENGINES), len(ENGINES)):
            if ENGINES[engine].processes:  # type: ignore[attr-defined]
                for role in ("enqueue", "work"):
                    self._share(engine, role)
        self._figure("batch", "ours-full", 0)
        self._figure("lookup", "ours-full", 100_000)
        for engine in ("ours-full", "ours-normal", "huey"):
            self._figure("latency", engine, 0, engine)
        self._cold_start()
        largest = self._folder / "ours-normal" / str(max(self._backlogs))
        if number == 0:
            answer = self._ask("tests.bench.figures", "memory", str(largest))
            self.samples["ours-normal", "memory", 0].append(answer)

    def _share(self, engine: str, role: str) -> None:
        """Several processes at once."""
        folder = Path(tempfile.mkdtemp(dir=self._folder))
        filled = SHARED_BACKLOG * 4 if role == "work" and "file" not in engine else SHARED_BACKLOG
        self._measure("fill", engine, folder, "--count", str(filled if role == "work" else 0))
        begin = time.time() + 1.5
        command = self._command("tests.bench.measure", "share", engine, str(folder))
        command += ["--role", role, "--begin", str(begin), "--seconds", "1"]
        running = [
            subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
            for _ in range(SHARES)
        ]
        answers = [json.loads(process.communicate()[0] or "{}") for process in running]
        shutil.rmtree(folder)
        if all(answers):
            rate = sum(answer["count"] / answer["seconds"] for answer in answers)
            self.samples[engine, f"{role} by {SHARES}", 0].append({"cost": 1 / rate})

    def _cold_start(self) -> None:
        """A worker on an empty queue, beside the import of what it stands on."""
        with tempfile.TemporaryDirectory(dir=self._folder) as folder:
            (Path(folder) / "nothing.py").write_text("HANDLERS = {}\n")
            dbq = str(Path(sys.executable).with_name("dbq"))
            for what, command in (
                ("dbq work", [dbq, "work", "nothing:HANDLERS", "--file", "queue.tsv"]),
                ("import", [sys.executable, "-c", "import dbbasic.tsv"]),
            ):
                times = []
                for _ in range(5):
                    began = time.perf_counter()
                    subprocess.run(command, cwd=folder, check=True, capture_output=True)
                    times.append(time.perf_counter() - began)
                answer = {"cost": statistics.median(times)}
                self.samples["ours-full", what, 0].append(answer)

    def _measure(self, what: str, engine: str, folder: Path, *more: str) -> dict[str, float]:
        return self._ask("tests.bench.measure", what, engine, str(folder), *more)

    def _command(self, module: str, *arguments: str) -> list[str]:
        return [sys.executable, "-m", module, *arguments]

    def _ask(self, module: str, *arguments: str) -> dict[str, Any]:
        done = subprocess.run(
            self._command(module, *arguments), capture_output=True, text=True, cwd=ROOT, check=False
        )
        if done.returncode:
            raise SystemExit(f"{' '.join(arguments)}: {done.stderr}")
        answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return answer


def main() -> None:
    """Measure, and write the table."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench",
        description="Compare this queue with its peers.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="one short round, nothing written")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where the queues are laid out")
    arguments = parser.parse_args()
    if not os.environ.get("BENCH_OLD"):
        parser.error(
            "$BENCH_OLD: the folder with dbbasic-queue 1.0.0; make bench sets it, or: "
            "pip install --no-deps --target FOLDER dbbasic-queue==1.0.0"
        )
    folder = Path(tempfile.mkdtemp(prefix="dbq-bench-", dir=arguments.folder))
    try:
        if arguments.quick:
            bench = Bench(folder, 1, BACKLOGS[:3])
        else:
            bench = Bench(folder, arguments.rounds, BACKLOGS)
        bench.run()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    text = report.render(bench.samples, arguments.rounds if not arguments.quick else 1)
    print(text)
    if not arguments.quick:
        report.write(ROOT, text, bench.samples)


if __name__ == "__main__":
    main()
