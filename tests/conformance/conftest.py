"""Each engine in turn, by its address. A further engine is one line here."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from actors import Clock
from redis_server import RedisServer

from dbbasic_queue.engines import open_engine
from dbbasic_queue.engines.interface import Engine

_numbers = itertools.count(1)


def _on_server(request: pytest.FixtureRequest, folder: Path) -> str:
    server: RedisServer = request.getfixturevalue("server")
    return server.url(f"t{os.getpid()}-{next(_numbers)}")


ADDRESSES: dict[str, Callable[[pytest.FixtureRequest, Path], str]] = {
    "file": lambda request, folder: f"file:{folder}/queue.tsv",
    "redis": _on_server,
}


@pytest.fixture(params=ADDRESSES)
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a queue is that has no jobs yet."""
    return ADDRESSES[request.param](request, tmp_path)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def engine(address: str, clock: Clock) -> Engine:
    return open_engine(address, "normal", clock=clock)


@pytest.fixture(params=ADDRESSES)
def other_address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where another queue is that has no jobs yet, for jobs to be moved to."""
    folder = tmp_path / "other"
    folder.mkdir()
    return ADDRESSES[request.param](request, folder)
