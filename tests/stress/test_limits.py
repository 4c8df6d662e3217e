"""A limit of two never has three, though workers are killed."""

from __future__ import annotations

import fcntl
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from actors import AT_ONCE, fork

from dbbasic_queue import Policy, Queue

WORKERS = 4
LIMIT = 2
JOBS = 150


@pytest.mark.parametrize("kills", [60])
def test_a_limit_of_two_never_has_three(tmp_path: Path, kills: int) -> None:
    """Each running job holds one of two locks of its own; one that finds none would be a third."""
    queue = Queue(tmp_path / "queue.tsv", "normal")
    queue.enqueue_many([("mail", {})] * JOBS + [("report", {})] * JOBS)

    def mail(payload: Any) -> None:
        for number in range(LIMIT):
            fd = os.open(tmp_path / f"place{number}", os.O_CREAT | os.O_RDWR)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(fd)
                continue
            time.sleep(0.005)
            os.close(fd)
            return
        (tmp_path / "three").touch()

    def work() -> None:
        Queue(tmp_path / "queue.tsv", "normal").process_jobs(
            {"mail": mail, "report": bool},
            10_000,
            backoff=AT_ONCE,
            linger=0.2,
            policies={"mail": Policy(concurrency=LIMIT, priority=1)},
        )

    chance = random.Random(7)
    workers = [fork.Process(target=work) for _ in range(WORKERS)]
    for worker in workers:
        worker.start()
    while any(queue.count_jobs()[state] for state in ("pending", "processing")):
        at = chance.randrange(WORKERS)
        if kills and workers[at].is_alive() and workers[at].pid:
            os.kill(workers[at].pid, signal.SIGKILL)
            kills -= 1
        for number, worker in enumerate(workers):
            if not worker.is_alive():
                worker.join()
                workers[number] = fork.Process(target=work)
                workers[number].start()
        time.sleep(0.02)
    for worker in workers:
        worker.join(60)
    assert not (tmp_path / "three").exists()
    assert queue.count_jobs()["completed"] == 2 * JOBS
