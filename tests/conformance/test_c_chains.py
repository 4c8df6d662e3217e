"""C: the recipe for chains in docs/control.md: a handler enqueues what comes next, once."""

from __future__ import annotations

from typing import Any

import pytest

from dbbasic_queue import Queue, current_job


class Chain:
    """Three steps; each enqueues the next into the queue that is being worked."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.fails = {"fetch"}  # at its end, once: the next step is there already then
        self.handlers = {"fetch": self.fetch, "convert": self.convert, "publish": self.publish}

    def fetch(self, payload: Any) -> None:
        self._step("fetch", "convert")

    def convert(self, payload: Any) -> None:
        self._step("convert", "publish")

    def publish(self, payload: Any) -> None:
        self.ran.append("publish")

    def _step(self, name: str, following: str) -> None:
        job = current_job()
        self.ran.append(name)
        job.queue.enqueue(following, {"of": job.id}, job_id=f"{job.id}-{following}")
        if name in self.fails:
            self.fails.remove(name)
            raise ConnectionError("gone at the last moment")


def test_each_step_adds_the_next_once(
    queue: Queue, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though a step runs again; and whatever the working directory, into this queue."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    chain = Chain()
    first = queue.enqueue("fetch", {}, job_id="report-7")
    queue.process_jobs(chain.handlers, backoff=lambda attempts: 0)
    assert sorted(chain.ran) == ["convert", "fetch", "fetch", "publish"]
    assert chain.ran.index("convert") < chain.ran.index("publish")
    assert sorted(job["id"] for job in queue.list_jobs(status="completed")) == [
        first,
        "report-7-convert",
        "report-7-convert-publish",
    ]
    assert not list((tmp_path / "elsewhere").iterdir())
