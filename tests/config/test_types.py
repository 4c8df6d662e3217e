"""`[types]`: how the jobs of a type are treated."""

from __future__ import annotations

from pathlib import Path

import pytest

from dbbasic_queue import Backoff, ConfigError, Rate
from dbbasic_queue.config.sections import Config, load

CONFIG = """
name = "shop"
[queue]
file = "queue.tsv"
[worker]
handlers = "jobs:HANDLERS"
timeout = "1min"
[types."mail.*"]
{}
"""


def loaded(folder: Path, said: str) -> Config:
    (folder / "dbq.toml").write_text(CONFIG.format(said))
    return load(folder / "dbq.toml")


@pytest.mark.parametrize(
    ("said", "backoff"),
    [
        ('"exponential(base=10s, factor=3, cap=1h, jitter=0.2)"', Backoff(10, 3, 3600, 0.2)),
        ('"exponential(base=10s)"', Backoff(10)),
        ('"exponential()"', Backoff()),
        ('"30s"', Backoff(30, 1)),
        ("30", Backoff(30, 1)),
    ],
)
def test_a_backoff(tmp_path: Path, said: str, backoff: Backoff) -> None:
    """It is what `Backoff` in Python is, or always the same time."""
    assert loaded(tmp_path, f"backoff = {said}").types["mail.*"].backoff == backoff


@pytest.mark.parametrize(
    "said",
    [
        '"exponential"',
        '"exponential(base=10s, base=)"',
        '"exponential(10s)"',
        '"exponential(base=soon)"',
        '"exponential(start=10s)"',
        '"exponential(factor=0.5)"',
        '"exponential(jitter=1.5)"',
        '"soon"',
        "[]",
        "true",
    ],
)
def test_what_is_not_a_backoff(tmp_path: Path, said: str) -> None:
    """It is a fault of its key."""
    with pytest.raises(ConfigError, match="backoff"):
        loaded(tmp_path, f"backoff = {said}")


def test_the_longest_timeout(tmp_path: Path) -> None:
    """A stop waits for the job that may run the longest, whatever its type."""
    assert loaded(tmp_path, 'timeout = "1h"').longest_timeout == 3600
    assert loaded(tmp_path, 'timeout = "1s"').longest_timeout == 60


def test_a_rate(tmp_path: Path) -> None:
    """It is what `Rate` in Python is."""
    assert loaded(tmp_path, 'rate = "100/min"').types["mail.*"].rate == Rate(100, 60)
    said = 'rate = "1000/h, burst=50"'
    assert loaded(tmp_path, said).types["mail.*"].rate == Rate(1000, 3600, 50)


@pytest.mark.parametrize("said", ['"100"', "100", '"100/moon"', '"5/s, burst=6"', '"0/s"', "true"])
def test_what_is_not_a_rate(tmp_path: Path, said: str) -> None:
    """It is a fault of its key."""
    with pytest.raises(ConfigError, match="rate"):
        loaded(tmp_path, f"rate = {said}")
