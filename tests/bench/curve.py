"""The picture of how cost grows with the queue, as SVG."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

from .adapters import ENGINES

matplotlib.use("svg")
from matplotlib import pyplot  # after the choice of what draws

CLASSES = ((True, "synced each step"), (False, "not synced"))
OURS = {"color": "#c0392b", "linewidth": 2.6, "zorder": 5}
COLOURS = {
    "huey-full": "#1f77b4",
    "huey-off": "#1f77b4",
    "persist": "#2ca02c",
    "file-huey": "#9467bd",
    "lite": "#ff7f0e",
    "released": "#7f7f7f",
}


def draw(path: Path, results: dict[str, Any]) -> None:
    """Write the curve of enqueue + take + finish over the backlog to `path`."""
    matplotlib.rcParams["svg.hashsalt"] = "dbbasic-queue"  # the same results, the same file
    points = points_of(results)
    picture, axes = pyplot.subplots(1, 2, figsize=(10, 4.8), sharey=True)
    for axis, (synced, title) in zip(axes, CLASSES, strict=True):
        for engine, line in points.items():
            if ENGINES[engine].synced == synced:
                colour = COLOURS.get(engine)
                style: dict[str, Any] = {"color": colour} if colour else OURS
                axis.plot(*zip(*line, strict=True), marker="o", label=ENGINES[engine].name, **style)
        axis.set(xscale="log", yscale="log", title=title, xlabel="jobs in the queue")
        axis.grid(visible=True, which="major", alpha=0.3)
        axis.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncol=2)
    axes[0].set_ylabel("µs a job: enqueue + take + finish")
    picture.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.savefig(path, metadata={"Date": None, "Creator": None})
    pyplot.close(picture)
    path.write_text("\n".join(line.rstrip() for line in path.read_text().splitlines()) + "\n")


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
