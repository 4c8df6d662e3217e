"""Each engine in turn, by its address. A further engine is one line here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from actors import Clock

from dbbasic_queue.engines import open_engine
from dbbasic_queue.engines.interface import Engine

ADDRESSES: dict[str, Callable[[Path], str]] = {
    "file": lambda folder: f"file:{folder}/queue.tsv",
}


@pytest.fixture(params=ADDRESSES)
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a queue is that has no jobs yet."""
    return ADDRESSES[request.param](tmp_path)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def engine(address: str, clock: Clock) -> Engine:
    return open_engine(address, "normal", clock=clock)
