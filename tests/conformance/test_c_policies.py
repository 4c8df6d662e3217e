"""C: how the jobs of a type are treated, where that differs from all others."""

from __future__ import annotations

import time
from typing import Any

import pytest
from actors import AT_ONCE, die, in_child

from dbbasic_queue import Backoff, Policy, Queue
from dbbasic_queue.engines import open_engine


def fail(payload: Any) -> None:
    raise ValueError("no such user")


def attempts(queue: Queue) -> dict[str, tuple[str, int]]:
    """State and attempts of the one job of each type."""
    return {job["type"]: (job["status"], job["attempts"]) for job in queue.list_jobs()}


def test_attempts_and_backoff_by_type(queue: Queue) -> None:
    """A type's own count, those of the run for all others; what it does not say, too."""
    queue.enqueue_many([("mail", {}), ("mail.slow", {}), ("report", {})])
    policies = {
        "mail": Policy(max_attempts=2),
        "mail.*": Policy(max_attempts=3, backoff=AT_ONCE),
        "*": Policy(max_attempts=1),
    }
    handlers = dict.fromkeys(("mail", "mail.slow", "report"), fail)
    for _ in range(4):
        queue.process_jobs(handlers, 1, backoff=AT_ONCE, policies=policies)
    assert attempts(queue) == {
        "mail": ("failed", 2),
        "mail.slow": ("failed", 3),
        "report": ("failed", 1),
    }


def test_a_backoff_by_type(queue: Queue) -> None:
    """The next attempt is when the type's own backoff says."""
    queue.enqueue_many([("mail", {}), ("report", {})])
    before = queue.now()
    policies = {"mail": Policy(backoff=Backoff(base=1000, factor=3))}
    queue.process_jobs({"mail": fail, "report": fail}, policies=policies)
    mail, report = sorted(queue.list_jobs(), key=lambda job: job["type"])
    assert 3000 <= mail["run_at"] - before <= 3060
    assert 120 <= report["run_at"] - before <= 180


def test_a_dead_worker_s_job_goes_by_its_type(address: str, queue: Queue) -> None:
    """It is failed when it has had the attempts of its type, and waits for its type's backoff."""
    queue.enqueue_many([("mail", {}), ("report", {})])

    def begin_and_die() -> None:
        seat = open_engine(address, "normal").seat()
        assert seat is not None
        seat.turn()
        die()

    for _ in range(2):
        assert in_child(begin_and_die) < 0
    policies = {"mail": Policy(max_attempts=1), "report": Policy(backoff=Backoff(1000))}
    before = queue.now()
    assert queue.process_jobs({}, types=[], policies=policies).rescued == 2
    mail, report = sorted(queue.list_jobs(), key=lambda job: job["type"])
    assert (mail["status"], report["status"]) == ("failed", "pending")
    assert 2000 <= report["run_at"] - before <= 2060


def test_a_timeout_by_type(queue: Queue) -> None:
    """A type has its own time, in place of that of the run."""
    queue.enqueue_many([("quick", {}), ("long", {})])
    handlers = {"quick": lambda payload: time.sleep(60), "long": lambda payload: time.sleep(1.2)}
    policies = {"quick": Policy(timeout=0.2), "long": Policy(timeout=60)}
    assert queue.process_jobs(handlers, timeout=1, policies=policies).completed == 1
    (job,) = queue.list_jobs("pending")
    assert job["type"] == "quick"
    assert job["error"].startswith("JobTimeout: ")


@pytest.mark.parametrize(
    "policy",
    [Policy(max_attempts=0), Policy(timeout=0), Policy(timeout=True), {"max_attempts": 5}],
    ids=["attempts", "timeout", "bool", "dict"],
)
def test_a_policy_that_makes_no_sense(queue: Queue, policy: Any) -> None:
    """It is refused before a job is begun."""
    queue.enqueue("mail", {})
    with pytest.raises(ValueError, match="mail"):
        queue.process_jobs({"mail": bool}, policies={"mail": policy})
    assert queue.count_jobs()["pending"] == 1
