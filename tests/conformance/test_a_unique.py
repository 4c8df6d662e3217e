"""A: a job that is there once, for a while."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from actors import AT_ONCE, Clock, die, in_child, join, start

from dbbasic_queue import InvalidJob, JobCancelled, Queue, Snooze, current_job
from dbbasic_queue.engines.unique import key_of


def add(queue: Queue, until: Any = "end", key: str = "sync-42", **payload: Any) -> str:
    return queue.enqueue("sync", payload, unique=key, unique_until=until)


def status(queue: Queue, job_id: str) -> str:
    job = queue.get_job(job_id)
    assert job is not None
    return str(job["status"])


def fail(payload: Any) -> None:
    raise ValueError("no")


def test_a_job_that_waits_is_not_added_again(queue: Queue) -> None:
    """Whatever the type and payload are; its id is the key and eight hex digits."""
    first = add(queue)
    assert (key_of(first), len(first)) == ("sync-42", 17)
    for until in ("end", "start", 60, timedelta(seconds=60)):
        assert queue.enqueue("other", {"n": 1}, unique="sync-42", unique_until=until) == first
    assert queue.count_jobs()["pending"] == 1


@pytest.mark.parametrize("other", ["sync-4", "sync-422", "sync-42--5f2c9b1e", "sync"])
def test_a_key_is_matched_exactly(queue: Queue, other: str) -> None:
    """One that begins like it, or ends like an id, is another."""
    first, second = add(queue), add(queue, key=other)
    assert key_of(second) == other
    assert (add(queue), add(queue, key=other)) == (first, second)
    assert queue.count_jobs()["pending"] == 2


@pytest.mark.parametrize(("until", "again"), [("end", False), ("start", True), (60, False)])
def test_what_counts_while_the_job_runs(queue: Queue, until: Any, again: bool) -> None:
    """By its start, another is added; by its end or for a time, none is."""
    seen: list[str] = []

    def handler(payload: Any) -> None:
        seen.append(add(queue, until, more=True))

    first = add(queue, until)
    queue.process_jobs({"sync": handler}, limit=1)
    assert (seen[0] != first) == again


@pytest.mark.parametrize(("until", "again"), [("end", True), ("start", True), (60, False)])
@pytest.mark.parametrize("end", ["completed", "failed", "cancelled"])
def test_what_counts_when_the_job_has_ended(
    queue: Queue, until: Any, again: bool, end: str
) -> None:
    """Only within the time since it was added."""
    first = add(queue, until)
    if end == "cancelled":
        queue.cancel_job(first)
    else:
        queue.process_jobs({"sync": bool if end == "completed" else fail}, 1)
    assert status(queue, first) == end
    assert (add(queue, until) != first) == again


def test_a_time_ends(tmp_path: Any) -> None:
    """It counts from when the job was added; one that still waits counts after it, too."""
    clock = Clock()
    queue = Queue(tmp_path / "queue.tsv", "normal", clock=clock)
    first = add(queue, 60)
    clock.now += 61
    assert add(queue, 60) == first
    queue.process_jobs({"sync": bool})
    assert (second := add(queue, 60)) != first
    queue.process_jobs({"sync": bool})
    clock.now += 60
    assert add(queue, 60) == second
    clock.now += 1
    assert add(queue, 60) != second


@pytest.mark.parametrize("waits", [True, False], ids=["waits", "runs"])
def test_a_retry_by_hand_makes_no_second_one(queue: Queue, waits: bool) -> None:
    """It is refused, alone and among others, while another of the key is unfinished."""
    first = add(queue)
    queue.process_jobs({"sync": fail}, 1)
    other, second = queue.enqueue("other", {}), add(queue)
    queue.process_jobs({"other": fail}, 1, types=["other"])
    answers: list[Any] = []

    def ask(payload: Any = None) -> None:
        answers.append(queue.retry_job(first))
        answers.append(queue.retry_jobs(dry_run=True))
        answers.append(queue.retry_jobs())
        answers.append(queue.retry_jobs(ids=[first]))

    if waits:
        ask()
    else:
        queue.process_jobs({"sync": ask}, types=["sync"], limit=1)
    assert answers == [False, [other], [other], []]
    queue.process_jobs({"sync": bool, "other": bool})
    assert (status(queue, second), status(queue, first)) == ("completed", "failed")
    assert queue.retry_job(first)


def test_of_many_that_failed_one_of_each_key_is_put_back(queue: Queue) -> None:
    """However many keys there are."""
    for number in range(50):
        add(queue, key=f"key-{number % 25}")
        queue.process_jobs({"sync": fail}, 1)
    tried = queue.retry_jobs(dry_run=True)
    done = queue.retry_jobs()
    assert tried == done
    assert sorted(map(key_of, done)) == sorted(f"key-{number}" for number in range(25))
    assert queue.count_jobs()["pending"] == 25


@pytest.mark.parametrize("how", ["fails", "snoozes", "dies"])
def test_an_attempt_is_the_last_while_another_waits(queue: Queue, how: str) -> None:
    """That does the same work, and so there are never two that wait."""
    seen: list[str] = []

    def handler(payload: Any) -> None:
        if not payload:
            seen.append(add(queue, "start", second=True))
            if how == "dies":
                die()
            raise ValueError("no") if how == "fails" else Snooze(1)

    first = add(queue, "start")
    run = lambda: queue.process_jobs({"sync": handler}, backoff=AT_ONCE)  # noqa: E731
    if how == "dies":
        assert in_child(run) == -9
        assert queue.process_jobs({"sync": bool}, backoff=AT_ONCE).rescued == 1
    else:
        run()
    job = queue.get_job(first)
    assert job is not None
    assert job["status"] == ("cancelled" if how == "snoozes" else "failed")
    assert "waits" in job["error"]
    assert queue.count_jobs()["completed"] == 1


def test_an_attempt_that_fails_alone_is_tried_again(queue: Queue) -> None:
    """As any other; and it counts meanwhile."""
    first = add(queue)
    queue.process_jobs({"sync": fail})
    assert (status(queue, first), add(queue)) == ("pending", first)


def test_two_producers_at_once_add_one_job(queue: Queue) -> None:
    """The one that comes first adds it; the others get its id."""

    def produce() -> None:
        for number in range(20):
            add(queue, key=f"key-{number}")

    join(*[start(produce) for _ in range(3)])
    ids = [job["id"] for job in queue.list_jobs()]
    assert sorted(map(key_of, ids)) == sorted(f"key-{number}" for number in range(20))


def test_one_that_was_removed_is_forgotten(queue: Queue) -> None:
    """As the time of its key ends with it."""
    first = add(queue, 3600)
    queue.process_jobs({"sync": bool})
    assert queue.prune_jobs(0) == 1
    assert add(queue, 3600) != first


def test_long_tables_are_searched(queue: Queue) -> None:
    """The row may stand anywhere, and may have moved while it was worked."""
    first = add(queue)
    queue.enqueue_many([("work", {"pad": "x" * 2000})] * 800)
    assert add(queue) == first
    queue.process_jobs({"sync": lambda payload: "r" * 5000}, types=["sync"])
    assert add(queue, 3600) == first
    assert (second := add(queue)) != first
    assert add(queue) == second


@pytest.mark.parametrize(
    ("key", "until"),
    [
        *[("", "end"), ("a b", "end"), ("x" * 55, "end"), (7, "end")],
        *[("a", "never"), ("a", 0), ("a", -1), ("a", True), ("a", None), ("a", float("nan"))],
    ],
    ids=str,
)
def test_what_is_not_a_key_or_a_time_is_refused(queue: Queue, key: Any, until: Any) -> None:
    """Nothing is added."""
    with pytest.raises(InvalidJob):
        queue.enqueue("sync", {}, unique=key, unique_until=until)
    assert sum(queue.count_jobs().values()) == 0


def test_no_other_id_looks_like_that_of_a_key(queue: Queue) -> None:
    """Alone, in a batch, and beside a key."""
    with pytest.raises(InvalidJob, match="unique="):
        queue.enqueue("sync", {}, job_id="sync-42--5f2c9b1e")
    with pytest.raises(InvalidJob, match="unique="):
        queue.enqueue_many([{"job_type": "sync", "payload": {}, "job_id": "a--00000000"}])
    with pytest.raises(InvalidJob, match="one of them"):
        queue.enqueue("sync", {}, job_id="a1", unique="sync-42")
    assert queue.enqueue("sync", {}, job_id="sync-42--5f2c9b1g")


def test_a_key_works_with_cancelling(queue: Queue) -> None:
    """One that is cancelled while it runs is not there any more."""

    def handler(payload: Any) -> None:
        queue.cancel_job(current_job().id, running=True)
        raise JobCancelled("by me")

    first = add(queue)
    queue.process_jobs({"sync": handler})
    assert (status(queue, first), add(queue) == first) == ("cancelled", False)
