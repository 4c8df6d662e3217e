"""G: two want the same thing at once."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from actors import AT_ONCE, Diary, join, start
from redis_server import RedisServer

from dbbasic_queue import Queue, StorageError
from dbbasic_queue.engines.interface import Order

RACES = 1000
LOOKS = 5  # of RQ's tools


def test_a_cancelled_job_never_runs(queue: Queue, address: str, tmp_path: Path) -> None:
    """A worker takes jobs while they are cancelled: each has one of the two fates."""
    diary, noted = Diary(tmp_path / "ran"), Diary(tmp_path / "cancelled")
    ids = queue.enqueue_many([("x", {"n": n}) for n in range(RACES)])

    def cancel() -> None:
        for job_id in reversed(ids):
            if queue.cancel_job(job_id):
                noted.add(job_id)

    def run() -> None:
        own = Queue(address, "normal")
        own.process_jobs({"x": lambda payload: diary.add(ids[payload["n"]])})

    join(*[start(run) for _ in range(2)], start(cancel))
    ran, cancelled = diary.count(), noted.count()
    assert not ran.keys() & cancelled.keys()
    assert len(ran) + len(cancelled) == RACES
    assert max(ran.values()) == 1
    counts = queue.count_jobs()
    assert (counts["completed"], counts["cancelled"]) == (len(ran), len(cancelled))


def test_jobs_that_fall_due_at_once_begin_once(queue: Queue, address: str, tmp_path: Path) -> None:
    """Of many workers that wait for the moment, each job is begun by one."""
    diary, moment = Diary(tmp_path / "ran"), int(queue.now()) + 2
    ids = queue.enqueue_many([("x", {"n": n}, moment) for n in range(200)])

    def run(linger: float = 0) -> None:
        own = Queue(address, "normal")
        own.process_jobs({"x": lambda payload: diary.add(ids[payload["n"]])}, linger=linger)

    join(*[start(run, 4) for _ in range(4)])
    while queue.now() < moment:  # the workers had no time to see them fall due
        time.sleep(0.1)
    run()
    assert diary.count() == dict.fromkeys(ids, 1)
    assert queue.count_jobs()["completed"] == len(ids)
    assert {job["attempts"] for job in queue.list_jobs("completed")} == {1}


def test_eight_producers_of_one_key_make_one_job(queue: Queue, address: str) -> None:
    """Whichever process is first."""

    def produce() -> None:
        own = Queue(address, "normal")
        for number in range(100):
            own.enqueue("x", {"n": number}, job_id=f"key-{number}")

    join(*[start(produce) for _ in range(8)])
    assert queue.count_jobs()["pending"] == 100


def test_what_is_put_back_is_not_pruned(queue: Queue, address: str) -> None:
    """And what was pruned is not put back."""
    ids = [f"a{number}" for number in range(300)]
    for job_id in ids:
        queue.enqueue("x", {}, job_id=job_id)
        queue.cancel_job(job_id)
    back: list[str] = []
    thread = threading.Thread(
        target=lambda: back.extend(job_id for job_id in reversed(ids) if queue.retry_job(job_id))
    )
    thread.start()
    pruned = Queue(address, "normal").prune_jobs(0, "cancelled")
    thread.join()
    counts = queue.count_jobs()
    assert counts["pending"] == len(back)
    assert counts["cancelled"] == 0 or pruned + len(back) == len(ids) - counts["cancelled"]
    assert {job["id"] for job in queue.list_jobs("pending")} == set(back)


def test_a_job_is_rescued_once(queue: Queue, address: str) -> None:
    """Of many that look for dead workers, one takes it back."""
    queue.engine.add([Order(f"a{n}", "x", "{}", 5, False) for n in range(50)], 5)

    def begin_and_die() -> None:
        seat = queue.engine.seat()
        assert seat is not None
        for _ in range(50):
            seat.turn()
        os._exit(0)

    join(start(begin_and_die))
    seats = [Queue(address, "normal").engine.seat() for _ in range(4)]
    rescued: list[str] = []

    def rescue(seat: Any) -> None:
        rescued.extend(each.job.id for each in seat.rescue(3, AT_ONCE))

    threads = [threading.Thread(target=rescue, args=(seat,)) for seat in seats]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(rescued) == len(set(rescued)) == 50
    assert {job["attempts"] for job in queue.list_jobs("pending")} == {1}


def test_rqs_own_tools_beside_everything(
    server: RedisServer, tmp_path: Path, figure: Callable[..., None]
) -> None:
    """`rq info` all the time, and `rq worker` on another queue: no job is lost, none runs twice."""
    address = server.url(f"g{os.getpid()}")
    diary, over = Diary(tmp_path / "ran"), threading.Event()
    looks = [0]

    def look() -> None:
        rq = Path(sys.executable).with_name("rq")
        url = f"redis://127.0.0.1:{server.port}/0"
        while not over.is_set():
            for command in (["info"], ["worker", "--burst", "--quiet", "other"]):
                # Into no pipe: the workers that are forked meanwhile would keep it open.
                subprocess.run(
                    [rq, *command[:1], "--url", url, *command[1:]],
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
            looks[0] += 1

    thread = threading.Thread(target=look)
    thread.start()

    def run() -> None:
        Queue(address, "normal").process_jobs(
            {"x": lambda payload: diary.add(payload["n"])}, linger=1000
        )

    workers = [start(run) for _ in range(2)]
    queue = Queue(address, "normal")
    jobs, end = 0, time.monotonic() + 120
    while jobs < RACES or (looks[0] < LOOKS and time.monotonic() < end):
        queue.enqueue("x", {"n": jobs})
        jobs += 1
        time.sleep(0.005)
    end = time.monotonic() + 60
    while queue.count_jobs()["completed"] < jobs and time.monotonic() < end:
        time.sleep(0.1)
    for worker in workers:
        worker.kill()
        worker.join()
    over.set()
    thread.join()
    figure(jobs=jobs, looks=looks[0], lost=jobs - len(diary.count()))
    assert diary.count() == {str(number): 1 for number in range(jobs)}
    assert queue.count_jobs()["completed"] == jobs


def test_a_queue_that_is_closed_under_load_loses_no_job(
    server: RedisServer, tmp_path: Path
) -> None:
    """Each enqueue is either acknowledged and there, or refused and not there."""
    address = server.url(f"c{os.getpid()}")
    queue, acks = Queue(address, "normal"), Diary(tmp_path / "acks")

    def produce() -> None:
        own = Queue(address, "normal")
        while True:
            try:
                acks.add(own.enqueue("x", {}))
            except StorageError:
                return

    producers = [start(produce) for _ in range(3)]
    while len(acks.lines()) < 300:
        pass
    queue.engine.close_for("redis://new/0")
    join(*producers)
    assert {job["id"] for job in queue.list_jobs()} == set(acks.lines())
