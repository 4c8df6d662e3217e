"""The engine on a server beside plain RQ and plain Celery on the same server, which is started.

    python -m tests.bench.servers           # in docs/machines.md, too
    python -m tests.bench.servers --quick   # printed only

The engines take turns, round by round. Each part is a process of its own. What a worker costs is
told from when its handlers began: from the first to the last, divided by their number.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from .figures import figure, micro, quantile, short, spread

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "machines.md"
BEGIN, END = "<!-- servers:begin -->", "<!-- servers:end -->"
NAMES = {
    "file": "the file",
    "ours": "dbbasic-queue on a server",
    "rq": "RQ, SimpleWorker",
    "celery": "Celery, solo, acks_late",
}
SYNCS = {"always": "full", "everysec": "normal"}
LATER = 100_000  # jobs for tomorrow, in the way of a take
PATIENCE = 120  # seconds for one part


def measure(rounds: int, jobs: int, picked: int, later: int) -> dict[str, Any]:
    """All figures: {"always": {"ours put": Figure in seconds, ...}, "software": "Redis 7"}."""
    sys.path.insert(0, str(ROOT / "tests" / "helpers"))
    from redis_server import RedisServer

    found: dict[str, Any] = {}
    for sync in SYNCS:
        times: dict[str, list[float]] = defaultdict(list)
        with tempfile.TemporaryDirectory(prefix="dbq-bench-") as folder:
            for number in range(rounds):
                for name in NAMES:
                    place = Path(folder) / f"{name}{number}"
                    with RedisServer(place, appendfsync=sync) as server:
                        url = f"redis://127.0.0.1:{server.port}/0"
                        url = str(place / "queue.tsv") if name == "file" else url
                        part = Part(name, url, sync, Path(folder))
                        part.play(times, jobs, picked)
                        if name == "ours" and number == 0 and later:
                            part.play_behind(times, jobs, later)
                        found["software"] = _software(server.port)
            with RedisServer(Path(folder) / "pairs", appendfsync=sync) as server:
                url = f"redis://127.0.0.1:{server.port}/0"
                pairs = Part("ours", url, sync, Path(folder)).pairs(10 * rounds)
        found[sync] = {key: figure(values) for key, values in times.items()}
        found[sync]["pairs"] = {act: figure(values) for act, values in pairs.items()}
        picks = {name: sorted(times[f"{name} pick"]) for name in NAMES}
        found[sync]["picks"] = {
            name: [quantile(values, 0.5), quantile(values, 0.99)] for name, values in picks.items()
        }
    return found


class Part:
    """One engine on one server."""

    def __init__(self, name: str, url: str, sync: str, folder: Path) -> None:
        self._name = name
        self._url = url
        self._durability = SYNCS[sync]
        self._notes = folder / "notes"

    def play(self, times: dict[str, list[float]], jobs: int, picked: int) -> None:
        """One round: jobs are put, worked off, and then picked up while the worker waits."""
        name = self._name
        times[f"{name} put"].append(self._put("put", jobs))
        began, worker = self._work(jobs + 1)
        times[f"{name} work"].append((began[-1][0] - began[0][0]) / (len(began) - 1))
        self._run("pick", picked)
        began = self._wait(jobs + 1 + picked)[-picked:]
        _stop(worker)
        times[f"{name} pick"] += [start - added for start, added in began]
        times[f"{name} many"].append(self._put("many", 10 * jobs))

    def play_behind(self, times: dict[str, list[float]], jobs: int, later: int) -> None:
        """The same take with many jobs for tomorrow in the way."""
        self._put("later", later)
        began, worker = self._work(10 * jobs + 2)  # what `many` has left, too
        _stop(worker)
        span = began[-1][0] - began[0][0]
        times[f"{self._name} behind"].append(span / (len(began) - 1))

    def pairs(self, rounds: int) -> dict[str, list[float]]:
        """What this library costs by what RQ does, in turns: see pairs.py."""
        done = subprocess.run(
            [sys.executable, str(ROOT / "tests" / "bench" / "pairs.py"), self._url, str(rounds)],
            env=self._environment(-1),
            stdout=subprocess.PIPE,
            check=True,
            timeout=600,
        )
        ratios: dict[str, list[float]] = json.loads(done.stdout)
        return ratios

    def _command(self, act: str, count: int) -> list[str]:
        actor = str(ROOT / "tests" / "bench" / "server_actor.py")
        return [sys.executable, actor, self._name, act, self._url, str(count)]

    def _environment(self, fd: int) -> dict[str, str]:
        own = {"BENCH_FD": str(fd), "BENCH_DURABILITY": self._durability}
        path = os.pathsep.join((str(ROOT), str(ROOT / "tests" / "bench")))
        return {**os.environ, **own, "PYTHONPATH": path}

    def _run(self, act: str, count: int) -> str:
        done = subprocess.run(
            self._command(act, count),
            env=self._environment(-1),
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            timeout=600,
        )
        return done.stdout

    def _put(self, act: str, count: int) -> float:
        return float(self._run(act, count).split()[-1])

    def _work(self, count: int) -> tuple[list[tuple[float, float]], subprocess.Popen[bytes]]:
        """Start a worker, and wait until it has run so many jobs."""
        self._notes.write_text("")
        fd = os.open(self._notes, os.O_WRONLY | os.O_APPEND)
        worker = subprocess.Popen(
            self._command("work", count),
            env=self._environment(fd),
            pass_fds=(fd,),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(fd)
        return self._wait(count), worker

    def _wait(self, count: int) -> list[tuple[float, float]]:
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            lines = self._notes.read_text().splitlines()
            if len(lines) >= count:
                return [(float(a), float(b)) for a, b in (line.split() for line in lines)]
            time.sleep(0.05)
        raise RuntimeError(f"{self._name}: {len(lines)} of {count} jobs in {PATIENCE} s")


def _stop(worker: subprocess.Popen[bytes]) -> None:
    worker.send_signal(signal.SIGKILL)
    worker.wait()


def _software(port: int) -> str:
    import redis

    info = redis.Redis(port=port).info("server")
    name = "Valkey" if "valkey_version" in info else "Redis"
    return f"{name} {info.get('valkey_version') or info['redis_version']}"


def text(found: dict[str, Any]) -> str:
    """The table, in Markdown."""
    lines = ["| µs a job | enqueue | many at once | take and finish | picked up after, ms |"]
    lines.append("|---|---|---|---|---|")
    for sync, name in itertools.product(SYNCS, NAMES):
        figures = found[sync]
        cells = [spread(micro(figures[f"{name} {act}"])) for act in ("put", "many", "work")]
        half, most = figures["picks"][name]
        cells.append(f"{half * 1000:.1f}, 99 % within {most * 1000:.0f}")
        kept = f'"{SYNCS[sync]}"' if name == "file" else f"`{sync}`"
        lines.append(f"| {NAMES[name]}, {kept} | {' | '.join(cells)} |")
    behind = [
        f"{short(micro(found[sync]['ours behind'])['median'])} µs (`{sync}`)"
        for sync in SYNCS
        if "ours behind" in found[sync]
    ]
    turns = [
        f"{figures['put']['median']:.2f} and {figures['work']['median']:.2f} (`{sync}`)"
        for sync in SYNCS
        for figures in [found[sync]["pairs"]]
    ]
    said = f"Median (least–most) of {found['rounds']} rounds of {found['jobs']} jobs, each on a"
    said += f" {found['software']} of its own on the same machine; one producer, one worker. Load"
    said += f" before: {found['load']:.1f} on {os.cpu_count()} cores."
    times = ", ".join(
        f"{_by_the_file(found, act)} {what}"
        for act, what in (
            ("put", "for an enqueue"),
            ("many", "for many at once"),
            ("work", "for a job taken and finished"),
        )
    )
    said += f" A server costs so many times as much as the file: {times}."
    if behind:
        said += f" With {LATER:,} jobs for tomorrow in the way, a job is taken and finished in"
        said += f" {' and '.join(behind)}."
    said += " In turns with RQ on one server, which a busy machine does not falsify, an enqueue and"
    said += f" a job taken and finished take so much of its time: {', '.join(turns)}."
    return "\n".join([*lines, "", said])


def _by_the_file(found: dict[str, Any], act: str) -> str:
    """What this library costs on a server by what it costs on the file, over both durabilities."""
    times = [
        found[sync][f"ours {act}"]["median"] / found[sync][f"file {act}"]["median"]
        for sync in SYNCS
    ]
    least, most = (f"{value:.1f}" if value < 5 else f"{value:.0f}" for value in sorted(times))
    return f"{least} to {most}"


def write(found: dict[str, Any]) -> None:
    """Put the table into the page; raises `ValueError` when its marks are not there."""
    page = PAGE.read_text()
    block = f"{BEGIN}\n{text(found)}\n{END}"
    pattern = f"{re.escape(BEGIN)}.*?{re.escape(END)}"
    page, count = re.subn(pattern, lambda match: block, page, flags=re.DOTALL)
    if count != 1:
        raise ValueError(f"{PAGE}: must have {BEGIN} and {END} once each, has {count} pairs")
    PAGE.write_text(page)


def main() -> int:
    """Measure, print, and write the page; returns the exit code."""
    sys.path.insert(0, str(ROOT / "tests" / "helpers"))
    from redis_server import program

    if program() is None:
        print("servers: no redis-server and no valkey-server, so nothing is measured on one")
        return 0
    quick = "--quick" in sys.argv[1:]
    rounds, jobs, picked, later = (1, 200, 20, 0) if quick else (3, 400, 100, LATER)
    found: dict[str, Any] = {"rounds": rounds, "jobs": jobs, "load": os.getloadavg()[0]}
    found |= measure(rounds, jobs, picked, later)
    cache = ROOT / ".cache" / "bench"
    cache.mkdir(parents=True, exist_ok=True)
    (cache / "servers.json").write_text(json.dumps(found, indent=1))
    print(text(found))
    if not quick:
        write(found)
        print("written: docs/machines.md", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
