"""Median and spread, and how they are written."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import TypedDict


class Figure(TypedDict):
    """What several rounds have shown, in one unit."""

    median: float
    low: float
    high: float
    rounds: int


def figure(values: Sequence[float]) -> Figure:
    """Median, least and most of the rounds."""
    return Figure(
        median=statistics.median(values), low=min(values), high=max(values), rounds=len(values)
    )


def quantile(values: Sequence[float], share: float) -> float:
    """The value that this share of them does not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


def short(value: float) -> str:
    """Three digits that count: 0.123, 12.3, 1,230."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def spread(found: Figure) -> str:
    """ "12.3 (11.9–14.0)"."""
    return f"{short(found['median'])} ({short(found['low'])}–{short(found['high'])})"


def micro(found: Figure) -> Figure:
    """Seconds as microseconds."""
    return scaled(found, 1e6)


def milli(found: Figure) -> Figure:
    """Seconds as milliseconds."""
    return scaled(found, 1e3)


def scaled(found: Figure, factor: float) -> Figure:
    """In another unit."""
    return Figure(
        median=found["median"] * factor,
        low=found["low"] * factor,
        high=found["high"] * factor,
        rounds=found["rounds"],
    )
