"""`kill -9`, again and again, at moments of chance."""

from __future__ import annotations

import logging
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
from actors import AT_ONCE, Diary, columns, die, fork, in_child, start

from dbbasic_queue import Queue, Summary, current_job

ENDLESS = 1_000_000  # attempts: here every failure is a kill's


@pytest.fixture
def diary(tmp_path: Path) -> Diary:
    return Diary(tmp_path / "diary")


class Field:
    """Producers, workers and janitors on one file, of whom one after the other is killed."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.path = folder / "data" / "queue.tsv"
        self.dice = random.Random(seed)
        self.acknowledged = Diary(folder / "acknowledged")
        self.begun = Diary(folder / "begun")
        self.ended = Diary(folder / "ended")
        self.kills: Counter[str] = Counter()

    def queue(self) -> Queue:
        return Queue(self.path, "normal")

    # -- the roles ------------------------------------------------------------------------------

    def produce(self) -> None:
        """Add jobs without end; note each one that was acknowledged."""
        queue = self.queue()
        dice = random.Random(os.getpid())
        for number in range(1_000_000):
            fill = {"fill": "ä" * dice.choice([0, 50, 150, 600]), "n": number}
            kind = dice.randrange(4)
            if kind == 0:
                many = [("job", fill)] * dice.choice([3, 30])
                self.acknowledged.add("\n".join(queue.enqueue_many(many)))
            elif kind == 1:
                key = f"{os.getpid()}-{number}"
                self.acknowledged.add(queue.enqueue("job", fill, job_id=key))
            else:
                self.acknowledged.add(queue.enqueue("job", fill))
            time.sleep(0.02)

    def handle(self, payload: dict[str, Any]) -> str | None:
        job = current_job()
        self.begun.add(job.id, job.attempt)
        if payload["n"] % 10 == 0:
            time.sleep(0.02)
        self.ended.add(job.id)
        return "r" * (payload["n"] * 37 % 500) or None

    def work(self) -> None:
        logging.disable()
        self.queue().process_jobs({"job": self.handle}, ENDLESS, backoff=AT_ONCE, linger=1_000_000)

    def tidy(self) -> None:
        """Write the table anew without end, as pruning and compaction do."""
        queue = self.queue()
        while True:
            with queue.engine.table.writing():
                queue.engine.table.rewrite()
            time.sleep(0.05)

    # -- the killing ----------------------------------------------------------------------------

    def fight(self, kills: int) -> None:
        """Kill one after the other, each time another takes its place; in the end kill all."""
        roles = [self.work, self.work, self.work, self.produce, self.produce, self.tidy]
        actors: list[tuple[Callable[[], None], BaseProcess]] = [
            (role, start(role)) for role in roles
        ]
        for _ in range(kills):
            time.sleep(self.dice.uniform(0.001, 0.02))
            role, victim = actors.pop(self.dice.randrange(len(actors)))
            self.kill(role, victim)
            actors.append((role, start(role)))
        for role, victim in actors:
            self.kill(role, victim)

    def kill(self, role: Callable[[], None], victim: BaseProcess) -> None:
        assert victim.exitcode is None, f"{role.__name__} ended by itself: {victim.exitcode}"
        victim.kill()
        victim.join(60)
        self.kills[role.__name__] += 1


@pytest.mark.parametrize("round_", [1, 2])
def test_no_kill_loses_a_job_or_runs_one_twice(tmp_path: Path, round_: int) -> None:
    """All that was acknowledged is there and ends; attempts are as many as kills explain."""
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    field = Field(tmp_path, seed)
    field.fight(60)
    queue = field.queue()
    acknowledged = field.acknowledged.lines()
    assert len(acknowledged) == len(set(acknowledged)) > 0
    listed = {job["id"] for job in queue.list_jobs()}
    assert set(acknowledged) <= listed, "an acknowledged job is lost"

    rescued = queue.count_jobs()["processing"]
    assert rescued <= 3, "three workers cannot have more jobs in hand"
    summary = queue.process_jobs({"job": field.handle}, ENDLESS, backoff=AT_ONCE)
    assert summary.rescued == rescued

    jobs = {job["id"]: job for job in queue.list_jobs()}
    assert set(jobs) == listed
    assert {job["status"] for job in jobs.values()} == {"completed"}
    for job in jobs.values():
        assert (job["result"] or "") == "r" * (job["payload"]["n"] * 37 % 500)
    # Each attempt is on file before its handler begins: none begins twice under one number.
    begun = field.begun.count()
    assert max(begun.values()) == 1
    tries = Counter(line.split()[0] for line in field.begun.lines())
    assert all(tries[job_id] <= job["attempts"] for job_id, job in jobs.items())
    # A kill costs one attempt at most, and only a worker's.
    extra = sum(job["attempts"] - 1 for job in jobs.values())
    assert extra <= field.kills["work"]
    # A handler that came to its end ran again only if its worker was killed before that was noted.
    ends = field.ended.count()
    assert set(ends) == set(jobs)
    assert sum(ends.values()) - len(ends) <= field.kills["work"]
    rows = columns(queue)
    assert sorted(row[0] for row in rows) == sorted(jobs)
    assert all(len(row) == 9 for row in rows)


def test_a_job_that_kills_its_worker_each_time_ends_failed(tmp_path: Path, diary: Diary) -> None:
    """After max_attempts, while the jobs around it are done as ever."""
    queue = Queue(tmp_path / "queue.tsv", "normal")
    ids = [queue.enqueue("job", {"n": number}) for number in range(20)]

    def handle(payload: dict[str, int]) -> None:
        diary.add(payload["n"])
        if payload["n"] == 7:
            die()

    def work() -> None:
        logging.disable()
        Queue(queue.path, "normal").process_jobs({"job": handle}, 3, backoff=AT_ONCE)

    codes = [in_child(work) for _ in range(4)]
    assert codes == [-signal.SIGKILL] * 3 + [0]
    job = queue.get_job(ids[7])
    assert (job["status"], job["attempts"]) == ("failed", 3)
    assert "WorkerDied" in job["error"]
    assert queue.count_jobs() == {
        "pending": 0,
        "processing": 0,
        "completed": 19,
        "failed": 1,
        "cancelled": 0,
    }
    assert diary.count() == Counter({**{str(n): 1 for n in range(20)}, "7": 3})


def test_a_batch_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    """Producers of large batches are killed while others look: none ever sees a part of one."""
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    dice = random.Random(seed)
    queue = Queue(tmp_path / "queue.tsv", "normal")
    size = 1000
    acknowledged = fork.Value("i", 0)

    def produce() -> None:
        mine = Queue(queue.path, "normal")
        while True:
            mine.enqueue_many([("job", {"fill": "x" * 300})] * size)
            acknowledged.value += 1

    cut = 0
    for later in range(12):
        producer = start(produce)
        time.sleep(dice.uniform(0.01, 0.05))
        producer.kill()
        producer.join(60)
        written = queue.path.stat().st_size if queue.path.exists() else 0
        seen = Queue(queue.path, "normal").count_jobs()["pending"] - later
        assert seen % size == 0
        assert seen // size - acknowledged.value in (0, 1)
        queue.enqueue("later", {}, 4e9)  # the next writer sets aside what is cut off
        cut += queue.path.stat().st_size < written
        acknowledged.value = seen // size
    assert len(columns(queue)) == acknowledged.value * size + 12
    print(f"{cut} of 12 kills cut a batch")


def test_what_a_killed_prune_leaves_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The half of a new file that will not be renamed any more does not fill the disk for ever."""
    queue = Queue(tmp_path / "queue.tsv", "normal")
    queue.enqueue_many([("job", {})] * 100)
    queue.process_jobs({"job": bool}, limit=50)

    def prune() -> None:
        monkeypatch.setattr(os, "fsync", die)
        Queue(queue.path, "normal").prune_jobs(0)

    def leftovers() -> list[str]:
        return [name for name in os.listdir(tmp_path) if ".tmp" in name]

    for _ in range(3):
        assert in_child(prune) == -signal.SIGKILL
        assert len(leftovers()) == 1
    (tmp_path / ".queue.tsv.0123456789ab.tmp").touch()  # as 2.0.0 leaves it
    foreign = [".queue.tsv.mine.tmp~", ".other.tsv.0123456789ab.tmp", "queue.tsv.tmp"]
    for name in foreign:
        (tmp_path / name).touch()
    assert queue.prune_jobs(0) == 50
    assert sorted(leftovers()) == sorted(foreign)
    assert queue.count_jobs()["pending"] == 50


def test_a_worker_killed_while_it_moves_a_row_leaves_one_job(tmp_path: Path) -> None:
    """Killed between writing the new version of a row and striking out the old: one of them is."""
    queue = Queue(tmp_path / "queue.tsv", "normal")

    def killed_at(call: int) -> int:
        def killing(fd: int, data: bytes, offset: int) -> int:
            nonlocal call
            call -= 1
            if call == 0:
                die()
            return write(fd, data, offset)

        write, os.pwrite = os.pwrite, killing  # type: ignore[assignment]
        queue.process_jobs({"job": lambda payload: "r" * 2000})
        return call

    for call in range(1, 10):
        job_id = queue.enqueue("job", {"fill": "x" * 700})
        code = in_child(lambda call=call: killed_at(call))
        assert [job["id"] for job in queue.list_jobs()].count(job_id) == 1
        assert sum(queue.count_jobs().values()) == call
        queue.process_jobs({"job": lambda payload: "again"}, backoff=AT_ONCE)
        job = queue.get_job(job_id)
        assert job["status"] == "completed"
        assert job["result"] in ("again", "r" * 2000)
        assert len(columns(queue)) == call
        if code == 0:
            break
    assert code == 0, "not all writes of a move were tried"


def test_a_killed_holder_of_the_lock_holds_up_nobody(tmp_path: Path) -> None:
    """The kernel gives the table's lock back at once."""
    queue = Queue(tmp_path / "queue.tsv", "normal")
    queue.enqueue("job", {})

    def hold() -> None:
        with Queue(queue.path, "normal").engine.table.writing():
            die()

    assert in_child(hold) == -signal.SIGKILL
    assert queue.process_jobs({"job": bool}) == Summary(completed=1)
