"""A reading that is kept up is what a whole reading would be, for less."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from redis_server import RedisServer

from dbbasic_queue import Queue
from dbbasic_queue.health.advice import Advice
from dbbasic_queue.health.judge import check_health
from dbbasic_queue.views.following import WHOLE, Follower
from dbbasic_queue.views.reading import Reader


@pytest.fixture
def time() -> SimpleNamespace:
    """Times that a test moves: the clock of the follower, and what it has cost."""
    return SimpleNamespace(now=100.0, cost=0.0)


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    queue = Queue(tmp_path / "queue.tsv")
    queue.enqueue_many([("mail", {"n": n, "pad": "x" * 300}) for n in range(1000)])
    queue.enqueue_many([("report", {"n": n}) for n in range(5)])
    check = partial(check_health, queue.path)
    return Reader(queue, check=check, advice=Advice(["--file", str(queue.path)]))


def follower(reader: Reader, time: SimpleNamespace) -> Follower:
    return Follower(reader, lambda: time.now, lambda: time.cost)


def fail(payload: dict[str, int]) -> None:
    raise ValueError(f"no user {payload['n']}")


def test_what_is_kept_up_is_what_a_whole_reading_has(reader: Reader, time: SimpleNamespace) -> None:
    """After each change of the queue: what is counted, waits, failed and is paused, by type."""
    kept, queue = follower(reader, time), reader.queue
    ids = [job["id"] for job in queue.list_jobs()]

    def look() -> None:
        time.now += 1
        seen, whole = kept.look(), reader.read()
        for name in ("counts", "ready", "failures", "running", "waiting"):
            assert getattr(seen, name) == getattr(whole, name), name
        assert [each.type for each in seen.types] == [each.type for each in whole.types]
        assert [each.pending for each in seen.types] == [each.pending for each in whole.types]
        assert [each.failed for each in seen.types] == [each.failed for each in whole.types]

    look()
    queue.process_jobs({"mail": fail, "report": bool}, limit=3, max_attempts=1)
    look()
    queue.process_jobs({"mail": fail, "report": bool}, limit=3, max_attempts=2)
    look()
    queue.cancel_job(ids[500])
    look()
    queue.enqueue("other", {})
    look()
    queue.prune_jobs(0, ("failed",))
    look()
    queue.pause("mail")
    time.now += 1
    seen = kept.look()
    assert seen.paused == ("mail",)
    assert [each.type for each in seen.types if each.paused] == ["mail"]


def test_only_what_has_changed_is_read(reader: Reader, time: SimpleNamespace) -> None:
    """Nothing where nothing has changed; where one job has, the portion that it is in."""
    kept = follower(reader, time)
    kept.look()
    time.now += 1
    kept.look()
    all_of_it = kept.read
    assert all_of_it > 4
    time.now += 1
    kept.look()
    assert kept.read == all_of_it
    reader.queue.cancel_job([*reader.queue.list_jobs(limit=600)][-1]["id"])
    time.now += 1
    kept.look()
    assert kept.read == all_of_it + 1


def test_what_takes_long_is_done_less_often(reader: Reader, time: SimpleNamespace) -> None:
    """A look that took a second of the processor is not made again for a minute."""
    kept, queue = follower(reader, time), reader.queue
    kept.look()
    portions = queue.engine.portions

    def slow(statuses: object) -> object:
        time.cost += 1
        return portions(statuses)  # type: ignore[arg-type]

    queue.engine.portions = slow  # type: ignore[method-assign, assignment]
    time.now += 1
    queue.enqueue("mail", {})
    kept.look()
    read = kept.read
    queue.enqueue("mail", {})
    time.now += 30
    kept.look()
    assert kept.read == read
    kept.hurry()
    kept.look()
    assert kept.read > read


def test_the_first_look_puts_off_nothing(reader: Reader, time: SimpleNamespace) -> None:
    """It reads a large queue for seconds; the next one, a second later, what has changed since."""
    kept, queue = follower(reader, time), reader.queue
    portions = queue.engine.portions

    def slow(statuses: object) -> object:
        time.cost += 1 if kept.read == 0 else 0
        return portions(statuses)  # type: ignore[arg-type]

    queue.engine.portions = slow  # type: ignore[method-assign, assignment]
    kept.look()
    queue.enqueue("other", {})
    time.now += 1
    assert [each.type for each in kept.look().types] == ["mail", "other", "report"]


def test_what_a_server_counts_and_runs_is_told_at_each_look(
    server: RedisServer, time: SimpleNamespace
) -> None:
    """Though all of its jobs are read anew only now and then, as it does not say which changed."""
    queue = Queue(server.url("followed"), "normal")
    queue.enqueue_many([("mail", {"n": n}) for n in range(3)])
    check = partial(check_health, queue.engine.url, options={"durability": "normal"})
    kept = follower(Reader(queue, check=check, advice=Advice([])), time)
    portions = queue.engine.portions

    def slow(statuses: object) -> object:
        time.cost += 1
        return portions(statuses)  # type: ignore[arg-type]

    queue.engine.portions = slow  # type: ignore[method-assign, assignment]
    assert (kept.look().ready, kept.read) == (3, 1)
    seen = []

    def handler(payload: dict[str, int]) -> None:
        time.now += 1
        seen.append(kept.look())

    queue.process_jobs({"mail": handler}, limit=1)
    time.now += 1
    last = kept.look()
    assert [(len(each.running), each.ready) for each in (*seen, last)] == [(1, 2), (0, 2)]
    assert (last.counts["completed"], last.counts["pending"], kept.read) == (1, 2, 1)


def test_the_verdict_is_that_of_now_and_then(reader: Reader, time: SimpleNamespace) -> None:
    """The check is made anew after a while, and not at each look."""
    kept = follower(reader, time)
    first = kept.look().health
    time.now += 1
    assert kept.look().health is first
    time.now += WHOLE
    assert kept.look().health is not first


def test_a_queue_that_is_away_is_told_by_the_verdict(reader: Reader, time: SimpleNamespace) -> None:
    """The reading of a queue that is not there has the check's words, and nothing else."""
    reader.queue.path.unlink()
    reading = follower(reader, time).look()
    assert reading.health.snapshot is None
    assert reading.health.findings
