"""A reading: what it tells of a queue, and what it leaves out."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from dbbasic_queue import Queue
from dbbasic_queue.health.advice import Advice
from dbbasic_queue.health.judge import check_health
from dbbasic_queue.views.reading import Reader


@pytest.fixture
def queue(tmp_path: Path) -> Queue:
    return Queue(tmp_path / "queue.tsv", "normal")


def reader(queue: Queue, **options: Any) -> Reader:
    return Reader(queue, check=partial(check_health, queue.path), advice=Advice([]), **options)


def fail(payload: dict[str, Any]) -> None:
    raise ValueError(f"no user {payload['n']}")


def test_a_reading_has_payloads_only_where_they_are_wanted(queue: Queue) -> None:
    """Of jobs that have failed and of those that run."""
    seen = []

    def look(payload: dict[str, Any]) -> None:
        seen.extend((reader(queue).read(), reader(queue, payloads=True).read()))

    queue.enqueue("mail", {"n": 1})
    queue.process_jobs({"mail": fail}, max_attempts=1)
    queue.enqueue("report", {"n": 2})
    queue.process_jobs({"report": look})
    without, whole = seen
    assert [each.payload for each in (*without.failures, *without.running)] == [None, None]
    assert [each.payload for each in (*whole.failures, *whole.running)] == [{"n": 1}, {"n": 2}]


def test_the_command_puts_back_what_is_of_the_kind(queue: Queue) -> None:
    """Jobs that wait for another attempt are named only where the kind has some."""
    said = []
    for attempts in (1, 2):  # the second job is tried again
        queue.enqueue("mail", {"n": attempts})
        queue.process_jobs({"mail": fail}, max_attempts=attempts)
        (kind,) = reader(queue).read().failures
        said.append(kind.retry)
    assert said == [
        "dbq retry --type mail --error 'ValueError: no user *'",
        "dbq retry --status failed --status pending --type mail --error 'ValueError: no user *'",
    ]
