"""The application that the commands are tried on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_app import JOBS
from redis_server import RedisServer, program


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """A folder with handlers in `jobs.py`, in which `dbq` is run."""
    (tmp_path / "jobs.py").write_text(JOBS)
    return tmp_path


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A server that keeps jobs as safely as it can, and asks for a password."""
    if program() is None:
        pytest.skip("no redis-server and no valkey-server: install the package redis-server")
    folder = tmp_path_factory.mktemp("redis")
    with RedisServer(folder, appendfsync="always", requirepass="secret") as started:
        yield started
