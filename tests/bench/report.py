"""The README's table and the curve, from what was measured."""

from __future__ import annotations

import platform
import re
import sqlite3
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from .engines import ENGINES, SYNCED, UNSYNCED, Engine

Samples = dict[tuple[str, str, int], list[dict[str, float]]]

BEGIN = "<!-- bench:begin -->"
END = "<!-- bench:end -->"
CURVE = "docs/cost.svg"
SHOWN = (0, 10_000, 100_000)
PEERS = ("huey", "litequeue", "persist-queue")


def write(root: Path, text: str, samples: Samples) -> None:
    """Put the table into the README, and the curve beside it."""
    readme = root / "README.md"
    old = readme.read_text(encoding="utf-8")
    block = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
    if not block.search(old):
        raise SystemExit(f"README.md has no block {BEGIN} … {END}")
    new = block.sub(lambda match: f"{BEGIN}\n{text}\n{END}", old)
    readme.write_text(new, encoding="utf-8")
    draw(root / CURVE, samples)


def render(samples: Samples, rounds: int) -> str:
    """The block of the README."""
    disk = [sample["fdatasync"] for sample in samples["disk", "disk", 0]]
    parts = [
        f"{_machine()}. {rounds} round{'s' * (rounds != 1)}, interleaved; median, and the spread of"
        f" the rounds in parentheses. Microseconds a job. `fdatasync` alone took"
        f" {_spread(disk)} µs in the same run.",
        _table(samples, "synced each step", SYNCED),
        _table(samples, "not synced", UNSYNCED),
        _together(samples),
        _own(samples),
    ]
    return "\n\n".join(part for part in parts if part)


def _machine() -> str:
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    count = len(re.findall(r"(?m)^processor", Path("/proc/cpuinfo").read_text()))
    peers = ", ".join(f"{name} {version(name)}" for name in PEERS)
    return (
        f"{time.strftime('%Y-%m-%d')}, {count} cores ({cpu[1] if cpu else platform.machine()}),"
        f" Linux {platform.release()}, CPython {platform.python_version()},"
        f" SQLite {sqlite3.sqlite_version}; dbbasic-queue {version('dbbasic-queue')} and 1.0.0,"
        f" {peers}"
    )


def _costs(samples: Samples, engine: str, what: str, backlog: int) -> list[float]:
    return [sample["cost"] for sample in samples.get((engine, what, backlog), [])]


def _spread(values: list[float], scale: float = 1e6) -> str:
    """Median, and from the least to the most."""
    if not values:
        return "–"
    low, middle, high = (
        f"{value * scale:,.{0 if value * scale >= 20 else 1}f}"
        for value in (min(values), statistics.median(values), max(values))
    )
    return f"{middle} ({low}–{high})" if len(values) > 1 else middle


def _engines(durability: str) -> list[tuple[str, type[Engine]]]:
    found: list[tuple[str, type[Engine]]] = []
    for name, engine in ENGINES.items():
        assert isinstance(engine, type)
        if engine.durability == durability:
            found.append((name, engine))
    return found


def _table(samples: Samples, title: str, durability: str) -> str:
    rows = [
        f"| {title} | enqueue: empty | 10,000 waiting | 100,000 | take + finish: empty"
        " | 10,000 waiting | 100,000 | bytes a job |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, engine in _engines(durability):
        cells = [
            _spread(_costs(samples, name, what, backlog))
            for what in ("enqueue", "work")
            for backlog in SHOWN
        ]
        sizes = _costs(samples, name, "bytes", SHOWN[-1]) or _costs(
            samples, name, "bytes", SHOWN[1]
        )
        cells.append(f"{statistics.median(sizes):,.0f}" if sizes else "–")
        label = f"**{engine.name}**" if name.startswith("ours") else engine.name
        rows.append(f"| {label} | {' | '.join(cells)} |")
    return "\n".join(rows)


def _together(samples: Samples) -> str:
    rows = [
        "| microseconds a job, all processes together | enqueue by 1 | by 4 | take + finish by 1"
        " (10,000 waiting) | by 4 |",
        "|---|---|---|---|---|",
    ]
    for durability in (SYNCED, UNSYNCED):
        for name, engine in _engines(durability):
            cells = [
                _spread(_costs(samples, name, "enqueue", 0)),
                _spread(_costs(samples, name, "enqueue by 4", 0)),
                _spread(_costs(samples, name, "work", 10_000)),
                _spread(_costs(samples, name, "work by 4", 0)),
            ]
            if not engine.processes:
                cells[1] = cells[3] = "loses jobs"
            label = f"**{engine.name}**" if name.startswith("ours") else engine.name
            rows.append(f"| {label}, {durability} | {' | '.join(cells)} |")
    return "\n".join(rows)


def _values(samples: Samples, engine: str, what: str, backlog: int, key: str) -> list[float]:
    return [sample[key] for sample in samples.get((engine, what, backlog), [])]


def _own(samples: Samples) -> str:
    """The figures that this queue is to reach, and what it reached."""
    get: Callable[[str, str, int, str], list[float]] = lambda *key: _values(samples, *key)  # noqa: E731
    floor = _spread(get("disk", "disk", 0, "floor"))
    sync = _spread(get("disk", "disk", 0, "fdatasync"))
    rows = [
        ("enqueue, normal: empty", "≤ 15 µs", _cost(samples, "ours-normal", "enqueue", 0)),
        ("… 100,000 rows", "the same", _cost(samples, "ours-normal", "enqueue", 100_000)),
        (
            "enqueue, full: empty",
            f"≤ 1.4 × lock + append + fdatasync ({floor})",
            _cost(samples, "ours-full", "enqueue", 0),
        ),
        ("finish and claim, normal: 1,000", "≤ 40 µs", _cost(samples, "ours-normal", "work", 1000)),
        ("… 100,000", "≤ 1.3 × that", _cost(samples, "ours-normal", "work", 100_000)),
        ("… 1,000,000", "flat", _cost(samples, "ours-normal", "work", 1_000_000)),
        (
            "finish and claim, full: 1,000",
            f"≤ 1.5 × fdatasync ({sync})",
            _cost(samples, "ours-full", "work", 1000),
        ),
        ("… 100,000", "", _cost(samples, "ours-full", "work", 100_000)),
        (
            "enqueue_many, jobs a second",
            "≥ 150,000",
            _spread(get("ours-full", "batch", 0, "rate"), 1),
        ),
        (
            "get_job of 100,000, unknown id (worst)",
            "≤ 8 ms",
            _spread(get("ours-full", "lookup", 100_000, "unknown"), 1e3) + " ms",
        ),
        (
            "get_job of 100,000, some id",
            "",
            _spread(get("ours-full", "lookup", 100_000, "known"), 1e3) + " ms",
        ),
        (
            "cold `dbq work`, empty queue",
            '≤ 100 ms, ≤ 2.5 × `python -c "import dbbasic.tsv"` '
            f"({_spread(_costs(samples, 'ours-full', 'import', 0), 1e3)} ms)",
            _spread(_costs(samples, "ours-full", "dbq work", 0), 1e3) + " ms",
        ),
        (
            "first job of a cold worker: 100,000 waiting",
            "",
            _spread(get("ours-normal", "work", 100_000, "first"), 1e3) + " ms",
        ),
        ("memory of a worker", "≤ 250 bytes a waiting job", _memory(samples)),
        *(
            (f"pick-up by a waiting worker, {name}: p50, p99", "", _latency(samples, engine))
            for engine, name in (
                ("ours-full", "full"),
                ("ours-normal", "normal"),
                ("huey", "SqliteHuey's consumer"),
            )
        ),
    ]
    lines = ["| dbbasic-queue 2 | to be | is |", "|---|---|---|"]
    return "\n".join(lines + [f"| {' | '.join(row)} |" for row in rows])


def _cost(samples: Samples, engine: str, what: str, backlog: int) -> str:
    return _spread(_costs(samples, engine, what, backlog)) + " µs"


def _memory(samples: Samples) -> str:
    found = samples.get(("ours-normal", "memory", 0), [])
    if not found:
        return "–"
    sample = found[0]
    each = (sample["resident"] - sample["base"]) / sample["jobs"]
    return f"{each:,.0f} bytes a job at {sample['jobs']:,.0f}, above {sample['base'] / 1e6:.0f} MB"


def _latency(samples: Samples, engine: str) -> str:
    p50 = _spread(_values(samples, engine, "latency", 0, "p50"), 1e3)
    p99 = _spread(_values(samples, engine, "latency", 0, "p99"), 1e3)
    return f"{p50} ms, {p99} ms"


def draw(path: Path, samples: Samples) -> None:
    """Cost a job over the length of the queue."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "dbbasic-queue"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4.5), layout="constrained")
    for durability, style in ((SYNCED, "-"), (UNSYNCED, "--")):
        for name, engine in _engines(durability):
            points = [
                (backlog, statistics.median(costs) * 1e6)
                for backlog in (1_000, 10_000, 100_000, 1_000_000)
                if (costs := _costs(samples, name, "work", backlog))
            ]
            ours = name.startswith("ours")
            axes.plot(
                *zip(*points, strict=True),
                style,
                marker="o",
                markersize=4,
                linewidth=2.5 if ours else 1.2,
                color="black" if ours else None,
                label=f"{engine.name}, {durability}",
            )
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="jobs waiting",
        ylabel="microseconds to take and finish a job",
    )
    axes.grid(which="major", alpha=0.3)
    figure.legend(loc="outside right upper", fontsize=8)
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
