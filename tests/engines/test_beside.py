"""The files beside a queue: each may be deleted without harm to a job."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from actors import AT_ONCE, die, in_child

from dbbasic_queue import Policy, Queue, Rate
from dbbasic_queue.engines.tsv import fsck, hint
from dbbasic_queue.health import notify
from dbbasic_queue.schedule import marks
from dbbasic_queue.support.files import BESIDE

# Those that are there after a while; the others have a queue that was moved, or older versions.
THERE = (
    *("lock", "claims", "torn", "wake", "restart", "paused", "recurring", "notified"),
    *("hint", "history", "rates"),
)
OTHERS = ("moved", "idx", "meta", "tmp")
RATED = {"rated": Policy(rate=Rate(100, 1, burst=50))}


@pytest.fixture
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Queue:
    """A queue with each of these files, jobs that have ended, and one of a dead worker."""
    monkeypatch.setattr(hint, "LEAST", 64)
    queue = Queue(tmp_path / "queue.tsv", "normal")
    queue.enqueue_many([("rated", {})] * 20)
    with queue.path.open("a") as table:
        table.write("not a job\n")
    fsck.repair(queue.engine)
    queue.process_jobs({"rated": bool}, policies=RATED)
    queue.enqueue("dies", {})
    in_child(lambda: queue.process_jobs({"dies": lambda payload: die()}))
    queue.pause("other")
    queue.enqueue("other", {})
    queue.restart_workers()
    queue.path.with_suffix(".wake").touch()
    with marks.locked(marks.marks_file(queue.path)) as held:
        held.all["shop", "nightly"] = marks.Mark(1_700_000_000, "0 2 * * *")
        held.save()
    notify.remember(queue.path.with_suffix(".notified"), {"command": notify.Said("OK", 5)})
    return queue


def test_all_of_them_are_there(queue: Queue) -> None:
    """What the tests below delete; a new one is to be added to them."""
    assert {*THERE, *OTHERS} == set(BESIDE)
    assert [each for each in THERE if not queue.path.with_suffix(f".{each}").exists()] == []


@pytest.mark.parametrize(
    ("ending", "at_work"),
    [(each, False) for each in THERE]
    + [(each, True) for each in THERE if each != "claims"],  # its text says not to
)
def test_each_may_be_deleted(queue: Queue, ending: str, at_work: bool) -> None:
    """All jobs run once and end: of a worker that starts then, and of one that is at work."""
    file = queue.path.with_suffix(f".{ending}")
    ran: list[str] = []

    def handler(payload: Any) -> None:
        ran.append(payload["name"])
        if payload["name"] == "a":
            file.unlink()

    for name in "abc":
        queue.enqueue("rated", {"name": name if at_work else name.upper()})
    if not at_work:
        file.unlink()
    done = Queue(queue.path, "normal").process_jobs(
        {"rated": handler, "dies": bool, "other": bool}, backoff=AT_ONCE, policies=RATED
    )
    assert (done.retried, done.failed, done.rescued) == (0, 0, 1)
    assert [name.upper() for name in ran] == ["A", "B", "C"]
    queue.resume()
    queue.process_jobs({"other": bool})  # unless it was resumed by what was deleted
    counts = queue.count_jobs()
    assert (counts["completed"], sum(counts.values())) == (25, 25)
    assert fsck.check(queue.engine) == []
