"""Jobs that leave a file for another queue, or come from one."""

from __future__ import annotations

from pathlib import Path

import pytest
from actors import Clock

from dbbasic_queue import Queue
from dbbasic_queue.engines import open_engine
from dbbasic_queue.errors import Unsupported
from dbbasic_queue.job import Job


@pytest.mark.parametrize("count", [1, 30])
def test_what_is_withdrawn_is_cancelled_with_a_note(path: Path, count: int) -> None:
    """The jobs are handed over as they were; one row or many, the rows say where they went."""
    queue = Queue(path, "normal")
    ids = queue.enqueue_many([("mail", {"n": n}, 2_000_000_000 + n) for n in range(count)])
    before = [queue.find_job(job_id) for job_id in ids]
    note = "Moving to redis://10.0.0.5/0?name=a-long-name-for-a-queue (due {}, attempts 0)"
    moved = queue.engine.withdraw(1000, lambda job: note.format(job.run_at))
    assert moved == before
    after = [queue.find_job(job_id) for job_id in ids]
    assert [job and job.status for job in after] == ["cancelled"] * count
    assert [job and job.error for job in after] == [
        note.format(2_000_000_000 + n) for n in range(count)
    ]
    assert queue.engine.withdraw(1000, lambda job: "again") == []


def test_no_more_are_withdrawn_than_asked_for(path: Path) -> None:
    """And of a queue that is not there, none: it is not made."""
    assert open_engine(path).withdraw(5, lambda job: "x") == []
    assert not path.exists()
    queue = Queue(path, "normal")
    queue.enqueue_many([("mail", {})] * 30)
    assert len(queue.engine.withdraw(20, lambda job: "x")) == 20
    assert queue.count_jobs()["pending"] == 10


def test_jobs_are_adopted_with_all_that_is_known_of_them(path: Path, tmp_path: Path) -> None:
    """Whatever their state; one that is known already is left alone."""
    clock = Clock()
    source = Queue(tmp_path / "source.tsv", "normal", clock=clock)
    handlers = {"ok": lambda payload: "fine", "bad": lambda payload: {}["x"]}
    source.enqueue_many([("ok", {"n": 1}), ("bad", {}), ("ok", {}, 2_000_000_000), ("no", {})])
    source.process_jobs(handlers, 1, unknown="skip")
    jobs = list(source.engine.jobs())
    target = open_engine(path, "normal")
    assert target.adopt(jobs) == 4
    assert list(target.jobs()) == jobs
    assert target.adopt([*jobs, jobs[0]._replace(id="new"), jobs[0]._replace(id="new")]) == 1


def test_a_tombstone_is_replaced_where_the_caller_says_so(path: Path) -> None:
    """A job that has not ended never is."""
    job = Job("a1", "mail", {"n": 1}, "pending", 5, 6, 2, "E: x", None)
    engine = open_engine(path, "normal")
    engine.adopt([job])
    other = job._replace(attempts=0)
    assert engine.adopt([other], lambda there: True) == 0
    engine.withdraw(1, lambda job: "Moving")
    assert engine.adopt([other], lambda there: there.error == "No") == 0
    assert engine.adopt([other], lambda there: there.error == "Moving") == 1
    assert list(engine.jobs()) == [other]


def test_a_job_that_runs_is_not_adopted(path: Path) -> None:
    """No worker of this queue is at it."""
    job = Job("a1", "mail", {}, "processing", 5, 6, 1)
    with pytest.raises(ValueError, match="a1 is processing"):
        open_engine(path).adopt([job])


def test_what_a_file_cannot_do_says_what_to_do_instead(path: Path) -> None:
    """Slots and closing are for engines with a server."""
    engine = open_engine(path)
    assert engine.server() is None
    assert engine.durability() is None
    for ask in (lambda: engine.claim_slot("a", 5, None), engine.slots):
        with pytest.raises(Unsupported, match="dbq enqueue-recurring"):
            ask()
    with pytest.raises(Unsupported, match="point its producers to redis://h/0"):
        engine.close_for("redis://h/0")
