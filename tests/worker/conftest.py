"""What the tests of the worker share."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from actors import Clock, Diary

from dbbasic_queue import Queue


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def queue(tmp_path: Path, clock: Clock) -> Queue:
    return Queue(tmp_path / "queue.tsv", "normal", clock=clock)


@pytest.fixture
def diary(tmp_path: Path) -> Diary:
    return Diary(tmp_path / "diary")


@pytest.fixture(autouse=True)
def _signals_are_left_alone() -> Iterator[None]:
    """No test may leave a signal handler or a timer behind: no run of a worker may."""
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGALRM)
    before = [signal.getsignal(number) for number in numbers]
    yield
    after = [signal.getsignal(number) for number in numbers]
    timer = signal.setitimer(signal.ITIMER_REAL, 0)
    assert after == before
    assert timer == (0, 0)


@pytest.fixture
def own_handler() -> Iterator[list[int]]:
    """A SIGTERM handler of the program's, so that a signal does not end the tests."""
    heard: list[int] = []

    def hear(number: int, frame: Any) -> None:
        heard.append(number)

    before = signal.signal(signal.SIGTERM, hear)
    yield heard
    signal.signal(signal.SIGTERM, before)
