"""A limit of two never has three, though workers are killed."""

from __future__ import annotations

import fcntl
import os
import random
import time
from pathlib import Path
from typing import Any

from actors import AT_ONCE, fork

from dbbasic_queue import Policy, Queue

WORKERS = 4
LIMIT = 2
KILLS = 200
JOBS = 40  # of a type, and as many more whenever they run short before the last kill


def test_a_limit_of_two_never_has_three(tmp_path: Path) -> None:
    """Each running job holds one of two locks of its own; one that finds none would be a third.

    Of a killed worker, the kernel drops these locks before that of its claim: traditional ones go
    as soon as a file is closed, those of an open file only after all are.
    """
    queue = Queue(tmp_path / "queue.tsv", "normal")
    places: list[int] = []

    def mail(payload: Any) -> None:
        for place in places:
            try:
                fcntl.lockf(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                continue
            time.sleep(0.005)
            fcntl.lockf(place, fcntl.LOCK_UN)
            return
        (tmp_path / "three").touch()

    def work() -> None:
        for number in range(LIMIT):
            places.append(os.open(tmp_path / f"place{number}", os.O_CREAT | os.O_RDWR))
        Queue(tmp_path / "queue.tsv", "normal").process_jobs(
            {"mail": mail, "report": bool},
            10_000,
            backoff=AT_ONCE,
            linger=1_000_000,
            policies={"mail": Policy(concurrency=LIMIT, priority=1)},
        )

    chance = random.Random(7)
    workers = [fork.Process(target=work) for _ in range(WORKERS)]
    for worker in workers:
        worker.start()
    added = 0
    for _ in range(KILLS):
        if queue.count_jobs()["pending"] < JOBS:
            queue.enqueue_many([("mail", {})] * JOBS + [("report", {})] * JOBS)
            added += 2 * JOBS
        time.sleep(0.01)
        at = chance.randrange(WORKERS)
        assert workers[at].exitcode is None, "a worker ended by itself"
        workers[at].kill()
        workers[at].join(60)
        workers[at] = fork.Process(target=work)
        workers[at].start()
    while any(queue.count_jobs()[state] for state in ("pending", "processing")):
        time.sleep(0.02)
    for worker in workers:
        worker.kill()
        worker.join(60)
    assert not (tmp_path / "three").exists()
    assert queue.count_jobs()["completed"] == added
    begun = sum(job["attempts"] for job in queue.list_jobs())
    print(f"{KILLS} kills, {begun - added} of a job in hand")
