"""Jobs that leave a file for another queue, or come from one."""

from __future__ import annotations

import contextlib
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from actors import Clock

from dbbasic_queue import Queue
from dbbasic_queue.engines import open_engine
from dbbasic_queue.engines.moving import MOVABLE, departed, is_moved, note_of
from dbbasic_queue.errors import StorageError, Unsupported
from dbbasic_queue.job import Job
from dbbasic_queue.table.table import Table


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
    """Slots are for engines with a server."""
    engine = open_engine(path)
    assert engine.server() is None
    assert engine.durability() is None
    for ask in (lambda: engine.claim_slot("a", 5, None), engine.slots):
        with pytest.raises(Unsupported, match="dbq enqueue-recurring"):
            ask()


def to(job: Job) -> str:
    return note_of(
        job, "redis://10.0.0.5/0?name=a-name-that-does-not-fit-into-the-reserve-of-a-row"
    )


def sure(job: Job) -> str:
    return note_of(job, "redis://10.0.0.5/0", sure=True)


@pytest.mark.parametrize("size", [1, 3000])
def test_a_note_holds_all_that_the_job_was(path: Path, size: int) -> None:
    """Whatever its length and its error's: the note is read back as the job, to the letter."""
    error = ("E: (was pending, 5); \tx" * size)[:size]
    job = Job("a1", "mail", {"n": 1}, "failed", 5, 6, 2, error.strip() or None, None)
    engine = open_engine(path, "normal")
    engine.adopt([job])
    kept = engine.find("a1")
    assert engine.withdraw(9, to, MOVABLE) == [kept]
    there = engine.find("a1")
    assert there is not None
    gone = departed(there)
    assert gone is not None
    assert (gone.job, gone.sure) == (kept, False)


def test_the_job_of_a_note_wakes_up_at_one_place_only(path: Path) -> None:
    """Neither `retry` nor a second `withdraw` takes it, and pruning leaves what is on its way."""
    queue = Queue(path, "normal")
    ids = queue.enqueue_many([("mail", {})] * 3)
    jobs = queue.engine.withdraw(9, to)
    assert queue.engine.withdraw(9, to, MOVABLE) == []
    assert not any(queue.retry_job(job_id) for job_id in ids)
    assert queue.prune_jobs(0, ["cancelled"]) == 0
    queue.engine.renote({job.id: sure(job) for job in jobs[:2]} | {"unknown": "x"})
    assert not any(queue.retry_job(job_id) for job_id in ids)
    assert queue.prune_jobs(0, ["cancelled"]) == 2
    assert queue.count_jobs()["cancelled"] == 1


def test_what_is_elsewhere_for_certain_can_be_forgotten(path: Path) -> None:
    """Nothing else goes: neither what the user cancelled nor what is on its way."""
    engine = open_engine(path, "normal")
    assert engine.forget_moved() == 0
    queue = Queue(path, "normal")
    ids = queue.enqueue_many([("mail", {})] * 4)
    queue.cancel_job(ids[3])
    jobs = engine.withdraw(9, to)
    engine.renote({job.id: sure(job) for job in jobs[:2]})
    assert engine.forget_moved() == 2
    assert {job["id"] for job in queue.list_jobs()} == set(ids[2:])


@pytest.mark.parametrize("payload", [{"n": 1}, {"n": 2}])
def test_a_job_that_comes_back_takes_the_place_of_its_note(path: Path, payload: Any) -> None:
    """Also when another one bears the id by now."""
    engine = open_engine(path, "normal")
    job = Job("a1", "mail", {"n": 1}, "pending", 5, 6, 0)
    engine.adopt([job, job._replace(id="a2")])
    engine.withdraw(9, to)
    back = job._replace(status="completed", run_at=9, attempts=1, payload=payload, result="fine")
    assert engine.adopt([back], is_moved) == 1
    assert engine.find("a1") == back
    assert engine.adopt([back._replace(run_at=10)], is_moved) == 0
    assert len(list(engine.jobs())) == 2


def test_a_closed_queue_takes_no_new_jobs(path: Path) -> None:
    """In whatever way they come, also from a process that has had it open; then it takes them."""
    queue, other = Queue(path, "normal"), Queue(path, "normal")
    queue.enqueue("mail", {}, job_id="a1")
    assert queue.engine.closed_for() == ""
    other.engine.close_for("redis://10.0.0.5/0")
    assert queue.engine.closed_for() == "redis://10.0.0.5/0"
    for add in (
        lambda: queue.enqueue("mail", {}),
        lambda: queue.enqueue("mail", {}, job_id="a2"),
        lambda: queue.enqueue("mail", {}, job_id="a1"),
        lambda: queue.enqueue_many([("mail", {})] * 2),
        lambda: Queue(path).enqueue("mail", {}),
    ):
        with pytest.raises(
            StorageError, match=r"moved to redis://10\.0\.0\.5/0; enqueue them there"
        ):
            add()
    assert queue.process_jobs({"mail": lambda payload: None}).completed == 1
    queue.engine.close_for("")
    assert queue.engine.closed_for() == ""
    queue.enqueue("mail", {})
    other.enqueue("mail", {})


def test_a_reader_that_looks_first_does_not_hide_it(path: Path) -> None:
    """Reader or writer, that looked at the folder last: the next job is refused, or taken."""
    queue = Queue(path, "normal")
    queue.enqueue("mail", {})
    for url in ("redis://10.0.0.5/0", "") * 2:
        open_engine(path).close_for(url)
        while queue.engine.table._watch.look() == (0, 0):  # too young to be trusted
            time.sleep(0.01)
        queue.count_jobs()
        assert queue.engine.table._watch.is_unchanged()
        if url:
            with pytest.raises(StorageError, match="moved to"):
                queue.enqueue("mail", {})
        else:
            queue.enqueue("mail", {})


def test_no_job_slips_in_while_the_queue_is_closed(path: Path) -> None:
    """What `add` has acknowledged is there when the queue is closed, and none comes after."""
    queue = Queue(path, "normal")
    added, closed = [], threading.Event()

    def produce() -> None:
        with contextlib.suppress(StorageError):
            while True:
                added.append(queue.enqueue("mail", {}))

    threads = [threading.Thread(target=produce) for _ in range(2)]
    for thread in threads:
        thread.start()
    while len(added) < 20:
        closed.wait(0.001)
    open_engine(path, "normal").close_for("redis://10.0.0.5/0")
    there = {job["id"] for job in Queue(path).list_jobs()}
    for thread in threads:
        thread.join()
    assert there == set(added) == {job["id"] for job in Queue(path).list_jobs()}


def test_a_queue_that_is_not_there_is_not_closed(tmp_path: Path) -> None:
    """Nor is it made by the question."""
    assert open_engine(tmp_path / "none" / "queue.tsv").closed_for() == ""
    assert not (tmp_path / "none").exists()


def test_what_moves_is_on_disk_at_both_ends(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job is taken out before it is put in: a power cut between the two loses none."""
    synced: list[Path] = []
    real = Table.sync

    def sync(table: Table) -> None:
        synced.append(table.data_file)
        real(table)

    Queue(path).enqueue("mail", {})
    monkeypatch.setattr(Table, "sync", sync)
    jobs = open_engine(path).withdraw(5, lambda job: "Moving to another queue (due 0, attempts 0)")
    assert synced == [path]
    target = tmp_path / "target.tsv"
    assert open_engine(target).adopt(jobs) == 1
    assert synced == [path, target]
