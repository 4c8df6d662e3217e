"""A: what workers did is kept by the hour and type."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from actors import AT_ONCE, die, in_child, join, script, start

from dbbasic_queue import JobCancelled, Queue, Snooze, StorageError, current_job
from dbbasic_queue.engines.history import BEFORE, HOUR
from dbbasic_queue.engines.interface import Ended
from dbbasic_queue.worker import tally

NOON = 1_700_000_000 // HOUR * HOUR

WORKER = """
import sys
from dbbasic_queue import Queue
from dbbasic_queue.worker import tally, watch
tally.SAVE_EVERY = 0.0
watch.LOOK_EVERY = 0.01
queue = Queue(sys.argv[1], "normal")

def handler(payload):
    if payload["asks"]:
        print("started", flush=True)
        sys.stdin.readline()

queue.process_jobs({"mail": handler}, limit=2)
"""


def done(hour: int, job_type: str = "mail", seconds: float = 0.2, waited: int = 2) -> Ended:
    """An attempt that has ended in such an hour."""
    begun = NOON + hour * HOUR
    return job_type, "completed", begun, begun - waited, seconds


def add(queue: Queue, *noted: Ended, call: str = "") -> None:
    queue.engine.add_history(noted, call or repr(noted))


def numbers(queue: Queue) -> dict[str, tuple[int, ...]]:
    """Completed, retried, failed and cancelled, by type."""
    return {hour.type: hour[2:6] for hour in queue.history().by_type()}


def wait_for(there: Callable[[], bool]) -> None:
    """Wait until something is so, which needs another process."""
    until = time.monotonic() + 60
    while not there():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_a_run_adds_what_it_did(queue: Queue) -> None:
    """Attempts by type and outcome; not what was put back."""

    def handler(payload: Any) -> None:
        what = payload["what"]
        if what == "fails":
            raise ValueError("no")
        if what == "snoozes":
            raise Snooze(60)
        if what == "cancelled":
            queue.cancel_job(current_job().id, running=True)
            raise JobCancelled("by me")

    for what in ("works", "works", "fails", "snoozes", "cancelled"):
        queue.enqueue("mail", {"what": what})
    queue.enqueue("report", {"what": "works"})
    queue.process_jobs({"mail": handler, "report": handler}, 3, backoff=AT_ONCE)
    assert numbers(queue) == {"mail": (2, 2, 1, 1), "report": (1, 0, 0, 0)}
    queue.enqueue("report", {"what": "works"})
    queue.process_jobs({"report": handler})
    assert numbers(queue)["report"] == (2, 0, 0, 0)


def test_how_long_jobs_waited_and_ran(queue: Queue) -> None:
    """From when they were due: the sum, the longest, and how many in each range."""
    now = queue.now()
    queue.enqueue("mail", {}, now - 100)
    queue.process_jobs({"mail": lambda payload: time.sleep(0.15)})
    (hour,) = queue.history()
    assert 100 <= hour.waited.total == hour.waited.most
    assert 0.15 <= hour.ran.total == pytest.approx(hour.ran.most)
    assert hour.waited.number == hour.ran.number == 1
    assert hour.ran.within[:5] == (0,) * 5
    assert hour.start % HOUR == 0
    assert hour.start <= queue.now()


def test_each_attempt_waits_from_when_it_was_due(queue: Queue) -> None:
    """Not from when its job was enqueued."""
    queue.enqueue("mail", {}, queue.now() - 5000)
    queue.process_jobs({"mail": lambda payload: 1 / 0}, 2, backoff=AT_ONCE)
    (hour,) = queue.history().by_type()
    assert hour.waited.number == 2
    assert 5000 <= hour.waited.total < 10_000


def test_a_worker_adds_while_a_job_runs(queue: Queue, address: str) -> None:
    """So one that is killed loses a minute at most; what it had added counts once."""
    queue.enqueue("mail", {"asks": False}, queue.now() - 60)
    queue.enqueue("mail", {"asks": True})
    with script(WORKER, address) as worker:
        worker.hear("started")
        wait_for(lambda: numbers(queue) == {"mail": (1, 0, 0, 0)})
        worker.process.kill()
        worker.process.wait()
    assert numbers(queue) == {"mail": (1, 0, 0, 0)}


def test_the_job_of_a_killed_worker_counts_as_tried_again(queue: Queue) -> None:
    """By the worker that takes it back; how long it ran is not known."""
    queue.enqueue("mail", {})
    assert in_child(lambda: queue.process_jobs({"mail": die})) == -9
    assert numbers(queue) == {}

    def work() -> bool:
        queue.process_jobs({"mail": bool}, backoff=AT_ONCE)
        return numbers(queue) == {"mail": (1, 1, 0, 0)}

    wait_for(work)
    (hour,) = queue.history()
    assert hour.ran.number == 1


def test_types_without_a_handler_are_one(queue: Queue) -> None:
    """As a producer could make up any number of them."""
    for number in range(5):
        queue.enqueue(f"made-up-{number}", {})
    queue.enqueue("mail", {})
    queue.process_jobs({"mail": bool}, 1)
    assert numbers(queue) == {"mail": (1, 0, 0, 0), "other": (0, 0, 5, 0)}


def test_a_repeated_addition_counts_once(queue: Queue) -> None:
    """On a server, where the answer to the first may be lost; to a file there is none to lose."""
    if queue.engine.path is not None:
        pytest.skip("a file that was written to has been written to")
    for _ in range(2):
        add(queue, done(0), done(1), call="one")
    assert numbers(queue) == {"mail": (2, 0, 0, 0)}


def test_several_processes_add_to_one_history(queue: Queue) -> None:
    """None overwrites what another has added."""

    def work(name: str) -> None:
        for number in range(10):
            add(queue, done(number % 2), call=f"{name}-{number}")

    join(*[start(lambda name=name: work(name)) for name in "abc"])  # type: ignore[misc]
    assert numbers(queue) == {"mail": (30, 0, 0, 0)}


def test_what_is_old_is_added_up(queue: Queue) -> None:
    """To one hour a type, so that totals stay; the rest is left by the hour."""
    add(queue, *[done(hour) for hour in range(5)], done(1, "report", 7.0))
    before = numbers(queue)
    queue.engine.fold_history(NOON + 3 * HOUR)
    add(queue, done(2))
    queue.engine.fold_history(NOON + 3 * HOUR)
    history = queue.history("mail")
    assert [hour.start for hour in history] == [BEFORE, NOON + 3 * HOUR, NOON + 4 * HOUR]
    assert (history[0].completed, history[0].waited.total) == (4, 8)
    assert numbers(queue) == {**before, "mail": (6, 0, 0, 0)}
    assert queue.history("report")[0].ran.most == 7.0


def test_history_is_chosen_by_type_and_time(queue: Queue) -> None:
    """Types may be globs; an hour counts until its end."""
    add(queue, done(0), done(1), done(1, "mail.fast"), done(2, "report"))
    assert len(queue.history()) == 4
    assert [hour.type for hour in queue.history("mail*")] == ["mail", "mail", "mail.fast"]
    assert len(queue.history(["mail", "report"], NOON + HOUR + 1)) == 2


def test_hours_are_added_up(queue: Queue) -> None:
    """By type, and by hour, also those in which nothing ended."""
    add(queue, done(0), done(1), done(1, "report", 3.0), done(3))
    assert numbers(queue) == {"mail": (3, 0, 0, 0), "report": (1, 0, 0, 0)}
    hours = queue.history().by_hour(NOON + 3 * HOUR + 17, 5)
    assert [hour.start - NOON for hour in hours] == [-HOUR, 0, HOUR, 2 * HOUR, 3 * HOUR]
    assert [hour.completed for hour in hours] == [0, 1, 2, 0, 1]
    assert hours[2].ran.most == 3.0


def test_a_history_that_cannot_be_written_harms_no_job(
    queue: Queue, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is said once, and what was noted is added when it can be: once."""
    calls: list[str] = []
    handed = queue.engine.add_history

    def refuse(noted: Sequence[Ended], call: str) -> None:
        calls.append(call)
        if len(calls) <= 3:
            raise StorageError(28, "no space left on device")
        handed(noted, call)

    monkeypatch.setattr(queue.engine, "add_history", refuse)
    counts = tally.Tally(queue.engine, ["mail"])
    for number in range(5):
        counts.noted.append(done(number))
        counts.save()
    assert numbers(queue) == {"mail": (5, 0, 0, 0)}
    assert caplog.text.count("the history is not written") == 1
    assert len(set(calls[:4])) == 1


def test_a_run_whose_history_is_refused_goes_on(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its jobs are worked off, and it ends as any other."""

    def refuse(noted: Sequence[Ended], call: str) -> None:
        raise StorageError(28, "no space left on device")

    monkeypatch.setattr(queue.engine, "add_history", refuse)
    queue.enqueue("mail", {})
    assert queue.process_jobs({"mail": bool}).completed == 1
