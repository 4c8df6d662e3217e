"""A rate is never exceeded in any time, though workers are killed and others take over."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path
from typing import Any

from actors import AT_ONCE, fork

from dbbasic_queue import Policy, Queue, Rate, current_job

WORKERS = 4
JOBS = 110
KILLS = 200
START = 1_700_000_000
RATE = Rate(3, 6, burst=3)


def test_no_window_has_more_than_the_rate(tmp_path: Path) -> None:
    """Counted by what each handler reads of its own row: the second in which it was begun.

    The clock of all of them is set under the table's lock only, so each turn has one time.
    """
    time_now = fork.Value("l", START, lock=False)  # a lock would go with a killed worker
    log = os.open(tmp_path / "log", os.O_CREAT | os.O_RDWR | os.O_APPEND)

    def queue() -> Queue:
        return Queue(tmp_path / "queue.tsv", "normal", clock=lambda: time_now.value)

    def mail(payload: Any) -> None:
        job = current_job()
        assert job is not None
        os.write(log, b"%d\n" % queue().get_job(job.id)["run_at"])
        time.sleep(0.01)

    def work() -> None:
        while True:
            queue().process_jobs(
                {"mail": mail, "report": bool},
                10_000,
                backoff=AT_ONCE,
                policies={"mail": Policy(rate=RATE)},
            )
            time.sleep(0.002)

    own = queue()
    own.enqueue_many([("mail", {})] * JOBS + [("report", {})] * JOBS)
    chance = random.Random(7)
    workers = [fork.Process(target=work) for _ in range(WORKERS)]
    for worker in workers:
        worker.start()
    kills = 0
    while any(own.count_jobs()[state] for state in ("pending", "processing")):
        with own.engine.table.writing():
            time_now.value += 1
        time.sleep(chance.uniform(0, 0.02))
        at = chance.randrange(WORKERS)
        if kills < KILLS:
            workers[at].kill()
            workers[at].join(60)
            kills += 1
            workers[at] = fork.Process(target=work)
            workers[at].start()
    for worker in workers:
        worker.kill()
        worker.join(60)
    assert own.count_jobs()["completed"] == 2 * JOBS
    assert kills == KILLS
    begun = sorted(map(int, (tmp_path / "log").read_bytes().split()))
    os.close(log)
    assert len(begun) >= JOBS
    begun_again = sum(job["attempts"] - 1 for job in own.list_jobs())
    print(f"{kills} kills, {begun_again} of a job in hand")
    for first, start in enumerate(begun):
        for last, end in enumerate(begun[first:], first):
            most = (end - start) * RATE.jobs / RATE.seconds + RATE.burst
            assert last - first + 1 <= most, (start, end)
