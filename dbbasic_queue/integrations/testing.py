"""A queue for the tests of an application: the pytest fixture `dbq`.

Each test has a default queue of its own in a temporary folder, whose clock stands still until the
test moves it. So `enqueue()` anywhere in the application reaches it, no worker but `dbq.run` takes
a job, and a retry in two minutes needs no waiting.
"""

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from .. import queue as face
from ..job import Job
from ..queue import Queue
from ..worker.handlers import Handlers
from ..worker.loop import Summary
from ..worker.wishes import seconds_of


class TestingQueue:
    """The default queue of a test, and what the test does with it. `queue` is that `Queue`."""

    __test__ = False  # for pytest, which takes its name for that of a class of tests

    def __init__(self, file: Path) -> None:
        self._now = int(time.time())
        self.queue = Queue(file, "normal", clock=self.now)

    def now(self) -> int:
        """The time in Unix seconds, by the clock of this queue: it stands still."""
        return self._now

    def advance(self, span: str | float | timedelta) -> None:
        """Move the clock on, by seconds, a text such as "2min", or a `timedelta`.

        Raises `ValueError` for what is not a length of time.
        """
        self._now += seconds_of("advance", span)

    def run(self, handlers: Handlers, **options: Any) -> Summary:
        """Run the jobs that are due, and those that they add, as a worker does.

        Args:
            handlers: type -> function, or the `Tasks` of the application.
            options: of `Queue.process_jobs`, such as `max_attempts=1`.

        Returns what was done: `assert dbq.run(HANDLERS).failed == 0`. What a handler raised is in
        the job's `error` and in the log.
        """
        return self.queue.process_jobs(handlers, **options)

    def enqueued(self, job_type: str | None = None, /, **payload: Any) -> list[Job]:
        """The jobs of this type, whatever became of them, whose payload has at least these values.

        In the order in which they were added; all jobs without arguments.

        >>> def test_a_signup_is_welcomed(dbq):
        ...     sign_up("zoe")
        ...     assert dbq.enqueued("mail", to="zoe")
        """
        return [
            job
            for job in self.queue.engine.jobs()
            if job_type in (None, job.type) and _has(job.payload, payload)
        ]


def _has(payload: Any, wanted: dict[str, Any]) -> bool:
    """Whether a payload has these values under these keys."""
    missing = object()
    return isinstance(payload, dict) and all(
        payload.get(key, missing) == value for key, value in wanted.items()
    )


@pytest.fixture
def dbq(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TestingQueue:
    """Give a test a default queue of its own, in a temporary folder."""
    file = tmp_path / "dbq" / "queue.tsv"
    testing = TestingQueue(file)
    for name in ("DBQ_URL", "DBQ_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DBQ_FILE", str(file))
    monkeypatch.setattr(face, "QUEUE_FILE", face.DEFAULT_FILE)
    monkeypatch.setattr(face, "_default", (str(file), testing.queue))
    return testing
