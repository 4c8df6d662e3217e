"""Each engine in turn, by its address. A further engine is one line here.

`make test` runs what is quick (A to D); `make conformance` sets `$DBQ_CONFORMANCE` and runs all.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from actors import Clock, leave_all
from redis_server import RedisServer

from dbbasic_queue import Queue
from dbbasic_queue.engines import open_engine
from dbbasic_queue.engines.interface import Engine

collect_ignore_glob = [] if os.environ.get("DBQ_CONFORMANCE") else ["test_[e-z]_*.py"]

_numbers = itertools.count(1)
_figures: list[str] = []


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


@pytest.fixture(autouse=True)
def left() -> Iterator[None]:
    """Each place that `sit` has taken is left."""
    yield
    leave_all()


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


@pytest.fixture
def queue(address: str) -> Queue:
    """A queue by the true clock."""
    return Queue(address, "normal")


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Tell numbers, for the lines at the end."""

    def tell(**numbers: Any) -> None:
        text = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in numbers.items())
        _figures.append(f"{request.node.name}: {text}")

    return tell


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Write the numbers that the tests have told."""
    for line in _figures:
        terminalreporter.write_line(line)
