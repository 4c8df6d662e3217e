"""What the tests of the engines share."""

from __future__ import annotations

from pathlib import Path

import pytest
from actors import Clock

from dbbasic_queue import Queue


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def queue(tmp_path: Path, clock: Clock) -> Queue:
    return Queue(tmp_path / "queue.tsv", "normal", clock=clock)
