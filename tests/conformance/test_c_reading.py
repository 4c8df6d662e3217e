"""C: one reading tells all that there is to see of a queue, on each engine."""

from __future__ import annotations

import os
import shlex
from functools import partial
from typing import Any

from actors import sit

from dbbasic_queue import Queue, current_job
from dbbasic_queue.health.advice import Advice
from dbbasic_queue.health.judge import check_health
from dbbasic_queue.health.report import OK, UNKNOWN, WARNING
from dbbasic_queue.views.reading import HOURS, NEXT, Reader


def reader(queue: Queue, address: str, **options: Any) -> Reader:
    """What reads a queue that is named by its address."""
    place = queue.engine.path or address
    check = partial(check_health, place, queue="shop")
    return Reader(queue, check=check, advice=Advice(["--config", "a b.toml"]), **options)


def test_an_empty_queue_is_read(address: str, queue: Queue) -> None:
    """All is empty, and where there is no queue, the verdict says so."""
    read = reader(queue, address).read
    if queue.engine.path is not None:
        assert read().health.state == UNKNOWN
        assert (read().counts, read().failures, read().types, read().waited) == ({}, (), (), 0)
    sit(queue.engine)
    seen = read()
    assert (seen.queue, sum(seen.counts.values())) == ("shop", 0)
    assert seen.health.state in (OK, WARNING)  # a server for tests is not set up to be durable
    assert (seen.failures, seen.running, seen.waiting, seen.types) == ((), (), (), ())


def test_failures_are_told_with_what_retries_them(address: str, queue: Queue) -> None:
    """By type and error, most first, payloads only where they are wanted."""

    def bad(payload: dict[str, Any]) -> None:
        raise ValueError(f"no user {payload['n']}")

    for n in range(3):
        queue.enqueue("mail", {"n": n}, job_id=f"m{n}")
    queue.enqueue("-x", {"n": 7})
    queue.process_jobs({"mail": bad, "-x": bad}, max_attempts=1)
    first, second = reader(queue, address).read().failures
    assert (first.kind.type, first.kind.number, first.kind.error) == (
        *("mail", 3),
        "ValueError: no user …",
    )
    assert first.payload is None
    assert shlex.split(first.retry)[1:] == [
        *("retry", "--type", "mail", "--error", "ValueError: no user *"),
        *("--config", "a b.toml"),
    ]
    assert "--type=-x" in shlex.split(second.retry)
    shown = reader(queue, address, payloads=True).read().failures[1]
    assert shown.payload == {"n": 7}


def test_what_is_tried_again_is_among_the_failures(address: str, queue: Queue) -> None:
    """The command says which states, as only those that failed for good are retried by default."""

    def bad(payload: dict[str, Any]) -> None:
        raise OSError("gone")

    queue.enqueue("mail", {})
    queue.process_jobs({"mail": bad})
    (waiting,) = reader(queue, address).read().failures
    assert "--status pending --type mail" in waiting.retry
    queue.enqueue("mail", {})
    queue.process_jobs({"mail": bad}, max_attempts=1)
    (both,) = reader(queue, address).read().failures
    assert "--status failed --status pending --type mail" in both.retry


def test_a_job_that_runs_says_how_far_it_is(address: str, queue: Queue) -> None:
    """Since when, which attempt, whether its worker lives, and its progress."""
    seen = []

    def work(payload: dict[str, Any]) -> None:
        current_job().progress(0.25, "page 1")
        seen.append(reader(queue, address, payloads=True).read())

    job_id = queue.enqueue("print", {"pages": 4})
    queue.process_jobs({"print": work})
    (running,) = seen[0].running
    assert (running.id, running.type, running.attempt, running.alive) == (job_id, "print", 1, True)
    assert (running.share, running.words, running.payload) == (0.25, "page 1", {"pages": 4})
    assert seen[0].at - 60 < running.since <= seen[0].at
    (kind,) = seen[0].types
    assert (kind.type, kind.pending, kind.processing, kind.failed) == ("print", 0, 1, 0)
    assert seen[0].last_run == seen[0].at


def test_what_is_due_next_is_named_in_order(address: str, queue: Queue) -> None:
    """The first few only, whatever the order that they were added in."""
    now = queue.now()
    for n in (5, 3, 11, 1, 9, 2, 8, 12, 4, 7, 10, 6):
        queue.enqueue("mail", {}, run_at=now + 1000 * n, job_id=f"m{n}")
    queue.enqueue("sync", {})
    seen = reader(queue, address).read()
    assert [job.id for job in seen.waiting][1:] == [f"m{n}" for n in range(1, NEXT)]
    assert (seen.waiting[0].type, seen.ready, seen.counts["pending"]) == ("sync", 1, 13)
    assert [(kind.type, kind.pending) for kind in seen.types] == [("mail", 12), ("sync", 1)]


def test_what_is_secret_is_not_read(address: str, queue: Queue) -> None:
    """Neither in an error of a job that waits or failed, nor in a payload or in progress."""
    seen = []

    def bad(payload: dict[str, Any]) -> None:
        current_job().progress(0.5, "with s3cret")
        seen.append(reader(queue, address, payloads=True, **hiding).read())
        raise OSError("s3cret")

    hiding = {
        "hide": lambda job: {**job, "payload": "…", "result": {"progress": 0.5, "text": "…"}},
        "hide_error": lambda job: job._replace(error="OSError: 0"),
    }
    queue.enqueue("mail", {"token": "s3cret"})
    queue.process_jobs({"mail": bad})
    seen.append(reader(queue, address, payloads=True, **hiding).read())
    assert seen[1].waiting[0].error == "OSError: 0"
    assert all("s3cret" not in repr((each.running, each.failures, each.waiting)) for each in seen)


def test_that_something_changed_is_noticed(address: str, queue: Queue) -> None:
    """So that a screen need not read again what is as it was."""
    queue.enqueue("mail", {})
    it = reader(queue, address)
    if queue.engine.path is not None:  # a server is asked each time
        os.utime(queue.path, (1_800_000_000, 1_700_000_000))
        assert not it.has_changed(it.read())
    seen = it.read()
    queue.enqueue("mail", {})
    assert it.has_changed(seen)


def test_what_is_paused_is_told(address: str, queue: Queue) -> None:
    """The pauses as they were given, and each type that one of them holds."""
    for job_type in ("mail.send", "sync"):
        queue.enqueue(job_type, {})
    queue.pause("mail.*")
    seen = reader(queue, address).read()
    assert seen.paused == ("mail.*",)
    assert [(each.type, each.paused) for each in seen.types] == [
        ("mail.send", True),
        ("sync", False),
    ]


def test_what_workers_did_is_told(address: str, queue: Queue) -> None:
    """By the hour and outcome, and by type: how many ended, how long they waited and ran."""

    def bad(payload: dict[str, Any]) -> None:
        raise OSError("gone")

    queue.enqueue_many([("mail", {}), ("mail", {}), ("bad", {})])
    queue.process_jobs({"mail": bool, "bad": bad}, max_attempts=1)
    seen = reader(queue, address).read()
    assert len(seen.hours) == HOURS
    assert seen.hours[-1].start <= seen.at
    assert sum(hour.completed for hour in seen.hours[-2:]) == 2
    assert sum(hour.failed for hour in seen.hours[-2:]) == 1
    found = {each.type: each for each in seen.types}
    assert {name: each.ended for name, each in found.items()} == {"mail": 2, "bad": 1}
    spread = found["mail"].run
    assert spread is not None
    assert 0 <= spread.p50 <= spread.p95
