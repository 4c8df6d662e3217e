"""Fixtures that more than one test file needs."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from hypothesis import settings
from redis_server import RedisServer, program
from tables import TESTS

from dbbasic_queue import Queue
from dbbasic_queue.engines import interface
from dbbasic_queue.table.table import Table

# The same examples on every run: a red run is red again. `--hypothesis-profile=search` looks for
# new ones.
settings.register_profile("quick", deadline=None, derandomize=True, max_examples=60)
settings.register_profile("search", deadline=None, max_examples=2000)
settings.load_profile("quick")

# A shell that runs the tests in the background has SIGINT ignored, and so has what they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _is_measuring(frame: FrameType | None) -> bool:
    """Whether a signal has come amid coverage's own code, which holds a lock there."""
    while frame is not None:
        if frame.f_globals.get("__name__") == "coverage.collector":
            return True
        frame = frame.f_back
    return False


# The exception of a time limit must not break into it: the lock would be held for ever.
if "coverage.collector" in sys.modules:
    interface.guards.append(_is_measuring)


def pytest_configure(config: pytest.Config) -> None:
    """Give each run a folder of its own: pytest's is shared, and shut again by the next run."""
    if config.option.basetemp is None:
        config.option.basetemp = tempfile.mkdtemp(prefix=TESTS)
        config.add_cleanup(lambda: _remove_unless_failed(config))


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Note whether the folder is of use to a person who looks for a fault."""
    session.config.stash[_FAILED] = exitstatus != 0


_FAILED = pytest.StashKey[bool]()


def _remove_unless_failed(config: pytest.Config) -> None:
    if not config.stash.get(_FAILED, False):
        shutil.rmtree(config.option.basetemp, ignore_errors=True)


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, Any, Any]:
    """Send what a test has logged to the process that prints it, whatever characters it has."""
    return _encodable((yield))


def _encodable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {_encodable(key): _encodable(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_encodable, value))
    return value


@pytest.fixture
def unsynced(monkeypatch: pytest.MonkeyPatch) -> None:
    """No waiting for the disk, where a test makes hundreds of files and none of it matters."""
    monkeypatch.setattr(os, "fsync", lambda fd: None)
    monkeypatch.setattr(os, "fdatasync", lambda fd: None)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a table may be made; neither it nor its folder is there yet."""
    return tmp_path / "data" / "queue.tsv"


@pytest.fixture
def table(path: Path) -> Table:
    """A table that is not there yet."""
    return Table(path, "normal")


@pytest.fixture
def queue(path: Path) -> Queue:
    """A queue whose file is not there yet."""
    return Queue(path, "normal")


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Redis or Valkey server for all tests of this process."""
    pytest.importorskip("rq", reason="the extra `redis` is not installed")
    if program() is None:
        pytest.skip("no redis-server and no valkey-server: install the package redis-server")
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server
