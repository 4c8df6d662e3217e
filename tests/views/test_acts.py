"""What a click does to the queue, and which clicks there are."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from dbbasic_queue import Queue
from dbbasic_queue.views.acts import acts_of, perform


@pytest.fixture
def queue(tmp_path: Path) -> Queue:
    """One in which two jobs have failed, each in its way, and one waits for another attempt."""

    def fail(payload: dict[str, Any]) -> None:
        raise ValueError(payload["why"])

    queue = Queue(tmp_path / "queue.tsv", "normal")
    for name, why, attempts in (("a", "gone", 1), ("b", "late", 1), ("c", "gone", 2)):
        queue.enqueue("mail", {"why": why}, job_id=name)
        queue.process_jobs({"mail": fail}, max_attempts=attempts)
    return queue


def test_who_cannot_write_the_queue_has_no_acts(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So the page has no buttons, and does nothing that a form asks for."""
    assert "cancel" in acts_of(queue)
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK)
    assert acts_of(queue) == {}


@pytest.mark.parametrize(("waiting", "put_back"), [("0", "a"), ("1", "ac")])
def test_a_retry_is_of_what_the_page_showed(waiting: str, put_back: str, queue: Queue) -> None:
    """Jobs that failed in this way; those that wait only where the kind has some."""
    before = {job["id"]: job["run_at"] for job in queue.list_jobs("pending")}
    form = {"act": "retry-kind", "type": "mail", "error": "ValueError: gone", "waiting": waiting}
    assert perform(acts_of(queue), form).startswith(f"{len(put_back)} job")
    now = {job["id"]: job["run_at"] for job in queue.list_jobs("pending")}
    assert "".join(name for name in sorted(now) if now[name] != before.get(name)) == put_back
