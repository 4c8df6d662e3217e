"""Many processes at once: every job runs exactly once, and the file stays whole."""

from __future__ import annotations

import logging
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
from actors import AT_ONCE, Diary, columns, die, fork, in_child, join, start

from dbbasic_queue import Queue, Summary, current_job

COMPLETED = {"completed"}


@pytest.fixture
def diary(tmp_path: Path) -> Diary:
    return Diary(tmp_path / "diary")


@pytest.fixture
def queue(tmp_path: Path) -> Queue:
    return Queue(tmp_path / "queue.tsv", "normal")


class WorkerProcesses:
    """Producers and workers on one file, each a process with a queue object of its own."""

    def __init__(self, path: Path, durability: str, diary: Diary) -> None:
        self.path = path
        self.durability = durability
        self.diary = diary
        self.stop = fork.Event()

    def queue(self) -> Queue:
        return Queue(self.path, self.durability)

    def produce(self, name: str, jobs: int) -> None:
        """Add jobs in every way there is: singly, with a key, in batches; small and large."""
        queue = self.queue()
        dice = random.Random(name)
        for number in range(0, jobs, 10):
            batch = [self.payload(f"{name}-{number + n}", dice) for n in range(10)]
            if number % 20:
                queue.enqueue_many([("job", payload) for payload in batch])
                continue
            for n, payload in enumerate(batch):
                key = f"{name}-{number + n}" if n % 3 == 0 else None
                queue.enqueue("job", payload, job_id=key)

    @staticmethod
    def payload(name: str, dice: random.Random) -> dict[str, Any]:
        size = dice.choice([0, 10, 100, 200, 600])
        return {
            "name": name,
            "fill": "ä" * size,
            "result": dice.choice([0, 5, 20, 20, 20, 20, 20, 300]),
        }

    def handler(self, payload: dict[str, Any]) -> str:
        """Every tenth job fails the first time; results of all sizes."""
        attempt = current_job().attempt
        self.diary.add(payload["name"], attempt)
        if payload["name"].endswith("7") and attempt == 1:
            raise ValueError("x" * payload["result"])
        return "r" * payload["result"]

    def work(self) -> None:
        """Work until a signal says that it is enough."""
        logging.disable()
        self.queue().process_jobs({"job": self.handler}, backoff=AT_ONCE, linger=1000)
        raise AssertionError("this worker was not stopped")

    def run(self, producers: int, jobs: int, workers: int, *others: Callable[[], None]) -> None:
        """Let all of them loose; returns when all is done and all have ended well."""
        crew = [start(self.work) for _ in range(workers)]
        beside = [start(each) for each in others]
        join(*[start(self.produce, f"p{number}", jobs) for number in range(producers)])
        wait_for(self.diary, sum(self.expected(producers, jobs).values()), crew)
        for worker in crew:
            os.kill(worker.pid or 0, signal.SIGTERM)
        join(*crew)
        self.stop.set()
        join(*beside)

    def expected(self, producers: int, jobs: int) -> Counter[str]:
        """What the diary has to say: each attempt once."""
        names = [f"p{number}-{n}" for number in range(producers) for n in range(jobs)]
        again = [f"{name} 2" for name in names if name.endswith("7")]
        return Counter([f"{name} 1" for name in names] + again)


def wait_for(diary: Diary, lines: int, processes: Sequence[BaseProcess] = ()) -> None:
    """Wait until the diary has so many lines, as long as no process dies over it."""
    while len(diary.lines()) < lines:
        assert all(process.is_alive() for process in processes), "a process has died"
        time.sleep(0.005)


@pytest.mark.parametrize(("durability", "jobs"), [("normal", 2000), ("full", 300)])
def test_every_job_runs_exactly_once(
    tmp_path: Path, diary: Diary, durability: str, jobs: int
) -> None:
    """Two producers, four workers: each attempt ran once, each job is one line, completed."""
    crew = WorkerProcesses(tmp_path / "queue.tsv", durability, diary)
    crew.run(2, jobs, 4)
    assert diary.count() == crew.expected(2, jobs)
    rows = columns(crew.queue())
    assert len(rows) == len({row[0] for row in rows}) == 2 * jobs
    assert {row[3] for row in rows} == COMPLETED
    assert Counter(row[6] for row in rows) == {"1": 2 * jobs * 9 // 10, "2": 2 * jobs // 10}
    assert not crew.path.with_suffix(".torn").exists()
    for job in crew.queue().list_jobs():
        assert (job["result"] or "") == "r" * job["payload"]["result"]


def test_every_job_runs_exactly_once_while_the_file_is_written_anew(
    tmp_path: Path, diary: Diary
) -> None:
    """The same while one process prunes and another compacts the file all the time."""
    crew = WorkerProcesses(tmp_path / "queue.tsv", "normal", diary)
    pruned = fork.Value("i", 0)
    rewritten = fork.Value("i", 0)

    def prune() -> None:
        queue = crew.queue()
        while not crew.stop.wait(0.02):
            pruned.value += queue.prune_jobs(0)

    def rewrite() -> None:
        queue = crew.queue()
        while not crew.stop.wait(0.02):
            with queue.engine.table.writing():
                queue.engine.table.rewrite()
            rewritten.value += 1

    crew.run(2, 700, 4, prune, rewrite)
    assert diary.count() == crew.expected(2, 700)
    rows = columns(crew.queue())
    assert len(rows) == len({row[0] for row in rows}) == 1400 - pruned.value
    assert {row[3] for row in rows} <= COMPLETED
    assert pruned.value > 0
    assert rewritten.value > 0


def test_readers_see_each_job_once_at_every_moment(tmp_path: Path, diary: Diary) -> None:
    """`list_jobs`, `count_jobs` and `get_job` while jobs are added, move, and end."""
    crew = WorkerProcesses(tmp_path / "queue.tsv", "normal", diary)
    later = crew.queue().enqueue("later", {"text": "ä" * 400}, 4e9)

    def read() -> None:
        queue = crew.queue()
        least = 0
        while not crew.stop.is_set():
            ids = [job["id"] for job in queue.list_jobs()]
            assert len(ids) == len(set(ids))
            assert len(ids) >= least, "list_jobs has overlooked a job"
            least = len(ids)
            assert sum(queue.count_jobs().values()) >= least, "count_jobs has overlooked one"
            assert queue.get_job(ids[-1])["id"] == ids[-1]
            assert queue.get_job(later)["status"] == "pending"

    crew.run(2, 500, 2, read)
    assert sum(crew.queue().count_jobs().values()) == 1001


def test_two_processes_at_once_add_an_id_once(queue: Queue) -> None:
    """Both return the id; there is one line of it."""
    barrier = fork.Barrier(2)
    keys = [f"key-{number}" for number in range(100)]

    def produce() -> None:
        mine = Queue(queue.path, "normal")
        for key in keys:
            barrier.wait(30)
            assert mine.enqueue("x", {"key": key}, job_id=key) == key

    join(start(produce), start(produce))
    assert [row[0] for row in columns(queue)] == keys


def test_two_processes_at_once_add_a_batch_of_ids_once(queue: Queue) -> None:
    """Also where one batch holds what another process is just adding."""
    barrier = fork.Barrier(3)

    def produce(first: int) -> None:
        mine = Queue(queue.path, "normal")
        for turn in range(20):
            jobs = [
                {"job_type": "x", "payload": {"n": n}, "job_id": f"key-{turn}-{n}"}
                for n in range(first, first + 10)
            ]
            barrier.wait(30)
            mine.enqueue_many(jobs)

    join(*[start(produce, first) for first in (0, 5, 10)])
    ids = [row[0] for row in columns(queue)]
    assert len(ids) == len(set(ids)) == 20 * 20


@pytest.fixture
def slow(queue: Queue, diary: Diary) -> Iterator[Callable[[], None]]:
    """A job in the hands of another process, which ends it when told to."""
    go = fork.Event()

    def handler(payload: Any) -> str:
        diary.add("begin", current_job().attempt)
        for name in os.listdir(queue.path.parent):  # a backup that reads and closes every file
            (queue.path.parent / name).read_bytes()
        go.wait(60)
        diary.add("end")
        return "slow"

    queue.enqueue("slow", {}, job_id="slow")
    worker = start(lambda: Queue(queue.path, "normal").process_jobs({"slow": handler}))
    wait_for(diary, 1)

    def finish() -> None:
        go.set()
        join(worker)

    yield finish
    worker.kill()
    worker.join()


def test_a_slow_job_is_never_taken_by_another_worker(
    queue: Queue, diary: Diary, slow: Callable[[], None]
) -> None:
    """However many look, prune, compact and retry meanwhile, in this process and in others."""

    def meddle() -> None:
        for n in range(30):
            mine = Queue(queue.path, "normal", clock=lambda n=n: time.time() + n * 1e7)
            mine.enqueue("other", {}, 1)
            summary = mine.process_jobs({"slow": die, "other": bool}, backoff=AT_ONCE)
            assert summary.rescued == 0
            mine.prune_jobs(0)
            with mine.engine.table.writing():
                mine.engine.table.rewrite()
            assert not mine.retry_job("slow")
            assert not mine.cancel_job("slow")

    meddlers = [start(meddle) for _ in range(2)]
    meddle()
    join(*meddlers)
    job = queue.get_job("slow")
    assert (job["status"], job["attempts"]) == ("processing", 1)
    slow()
    assert diary.lines() == ["begin 1", "end"]
    job = queue.get_job("slow")
    assert (job["status"], job["attempts"], job["result"]) == ("completed", 1, "slow")


def test_a_stopped_worker_keeps_its_job(queue: Queue, diary: Diary) -> None:
    """A process that is stopped (SIGSTOP, a frozen container) is not dead: no other takes over."""

    def handler(payload: Any) -> None:
        diary.add("begin")
        os.kill(os.getpid(), signal.SIGSTOP)

    queue.enqueue("x", {})
    worker = start(lambda: Queue(queue.path, "normal").process_jobs({"x": handler}))
    wait_for(diary, 1)
    os.waitid(os.P_PID, worker.pid, os.WSTOPPED | os.WNOWAIT)
    assert queue.process_jobs({"x": handler}) == Summary()
    os.kill(worker.pid, signal.SIGCONT)
    join(worker)
    assert queue.count_jobs()["completed"] == 1
    assert diary.lines() == ["begin"]


@pytest.mark.parametrize("death", ["SIGKILL", "os._exit"])
def test_a_dead_workers_job_is_rescued_by_the_next_run_at_once(
    queue: Queue, diary: Diary, death: str
) -> None:
    """No lease has to run out, no clock is asked: the very next run has it."""

    def handler(payload: Any) -> None:
        diary.add("begin", current_job().attempt)
        if current_job().attempt == 1:
            die() if death == "SIGKILL" else os._exit(0)

    queue.enqueue("x", {})
    code = in_child(lambda: Queue(queue.path, "normal").process_jobs({"x": handler}))
    assert code == (-signal.SIGKILL if death == "SIGKILL" else 0)
    assert queue.process_jobs({"x": handler}, backoff=AT_ONCE) == Summary(completed=1, rescued=1)
    assert diary.lines() == ["begin 1", "begin 2"]


def test_a_dead_worker_is_noticed_although_its_children_live(queue: Queue, diary: Diary) -> None:
    """A process that its handler forked holds no claim: the job is rescued at once."""
    go = fork.Event()

    def handler(payload: Any) -> None:
        if current_job().attempt == 1:
            if os.fork() == 0:
                diary.add("child")
                go.wait(60)
                os._exit(0)
            wait_for(diary, 1)
            die()

    queue.enqueue("x", {})
    code = in_child(lambda: Queue(queue.path, "normal").process_jobs({"x": handler}))
    assert code == -signal.SIGKILL
    try:
        summary = queue.process_jobs({"x": handler}, backoff=AT_ONCE)
    finally:
        go.set()
    assert summary == Summary(completed=1, rescued=1)


def test_only_one_of_many_workers_rescues_an_orphan(queue: Queue, diary: Diary) -> None:
    """They all see it at the same time; it goes back once and is run once."""
    ids = queue.enqueue_many([("x", {})] * 20)
    for _ in ids:
        in_child(lambda: queue.process_jobs({"x": die}, limit=1, backoff=lambda attempts: 3600))
    assert queue.count_jobs()["processing"] == 1  # the last; those before were rescued, for later
    barrier = fork.Barrier(4)
    rescued = fork.Value("i", 0)

    def work() -> None:
        mine = Queue(queue.path, "normal")
        barrier.wait(30)
        summary = mine.process_jobs(
            {"x": lambda payload: diary.add(current_job().id, current_job().attempt)},
            backoff=AT_ONCE,
        )
        with rescued:
            rescued.value += summary.rescued

    join(*[start(work) for _ in range(4)])
    assert rescued.value == 1
    assert len(diary.lines()) == 1
    assert diary.lines()[0].endswith(" 2")


def test_jobs_that_run_at_the_same_time_do_so(queue: Queue, diary: Diary) -> None:
    """Four workers have four jobs in hand at once: a running handler holds no other up."""
    barrier = fork.Barrier(4)

    def handler(payload: Any) -> int:
        return barrier.wait(30)

    queue.enqueue_many([("x", {})] * 4)
    workers = [
        start(lambda: Queue(queue.path, "normal").process_jobs({"x": handler}, limit=1))
        for _ in range(4)
    ]
    join(*workers)
    assert sorted(job["result"] for job in queue.list_jobs()) == [0, 1, 2, 3]


def test_cancelling_and_taking_exclude_each_other(queue: Queue, diary: Diary) -> None:
    """Of two processes that want the same job, one to run it, one to cancel it, one succeeds."""
    ids = queue.enqueue_many([("x", {})] * 500)
    cancelled = fork.Value("i", 0)

    def cancel() -> None:
        mine = Queue(queue.path, "normal")
        for job_id in reversed(ids):
            cancelled.value += mine.cancel_job(job_id)

    def work() -> None:
        Queue(queue.path, "normal").process_jobs({"x": lambda payload: diary.add("ran")})

    join(start(work), start(cancel))
    counts = queue.count_jobs()
    assert counts["cancelled"] == cancelled.value
    assert counts["completed"] == len(diary.lines()) == 500 - cancelled.value
