"""The pictures of how cost grows with the queue, and with the table, as SVG."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

from .adapters import ENGINES

matplotlib.use("svg")
from matplotlib import pyplot  # after the choice of what draws

CLASSES = ((True, "synced each step"), (False, "not synced"))
OURS = {"color": "#c0392b", "linewidth": 2.6, "zorder": 5}
GROWTH = {
    "look_up": "look up any job",
    "new_key": "enqueue with a new key",
    "cold": "a cold worker's first job",
    "turn": "take + finish",
}
COLOURS = {
    "huey-full": "#1f77b4",
    "huey-off": "#1f77b4",
    "persist": "#2ca02c",
    "file-huey": "#9467bd",
    "lite": "#ff7f0e",
    "released": "#7f7f7f",
}


def draw(path: Path, results: dict[str, Any]) -> None:
    """Write to `path` the curves of enqueue + take + finish over the backlog, of each class, and
    those of what growth.py has measured over the rows of the table."""
    matplotlib.rcParams["svg.hashsalt"] = "dbbasic-queue"  # the same results, the same file
    points = points_of(results)
    picture, axes = pyplot.subplots(1, 3, figsize=(14, 5))
    axes[1].sharey(axes[0])
    for axis, (synced, title) in zip(axes[:2], CLASSES, strict=True):
        for engine, line in points.items():
            if ENGINES[engine].synced == synced:
                colour = COLOURS.get(engine)
                style: dict[str, Any] = {"color": colour} if colour else OURS
                axis.plot(*zip(*line, strict=True), marker="o", label=ENGINES[engine].name, **style)
        _dress(axis, title, "jobs in the queue", "µs a job: enqueue + take + finish")
    sizes = sorted(results["growth"], key=int)
    for operation, label in GROWTH.items():
        line = [results["growth"][size][operation]["median"] * 1e6 for size in sizes]
        axes[2].plot([int(size) for size in sizes], line, marker="o", label=label)
    _dress(axes[2], "ours, as the table grows", "rows in the table", "µs")
    picture.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.savefig(path, metadata={"Date": None, "Creator": None})
    pyplot.close(picture)
    path.write_text("\n".join(line.rstrip() for line in path.read_text().splitlines()) + "\n")


def _dress(axis: Any, title: str, across: str, up: str) -> None:
    axis.set(xscale="log", yscale="log", title=title, xlabel=across, ylabel=up)
    axis.grid(visible=True, which="major", alpha=0.3)
    axis.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncol=2)


def points_of(results: dict[str, Any]) -> dict[str, list[tuple[int, float]]]:
    """Engine -> (backlog, microseconds), of one producer and one worker."""
    sums: dict[tuple[str, int], list[float]] = {}
    for row in results["backlogs"]["costs"]:
        if row["processes"] == 1 and row["backlog"] and row["seconds"]:
            key = row["engine"], row["backlog"]
            sums.setdefault(key, []).append(row["seconds"]["median"] * 1e6)
    points: dict[str, list[tuple[int, float]]] = {}
    for (engine, backlog), both in sums.items():
        if len(both) == 2:
            points.setdefault(engine, []).append((backlog, sum(both)))
    return points
