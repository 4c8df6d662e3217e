"""F: the server is killed, or the power is cut."""

from __future__ import annotations

import os
import re
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from actors import Diary, start
from redis_server import RedisServer

from dbbasic_queue import Queue, QueueError

SECONDS = 3.0


class Producer(threading.Thread):
    """Enqueues until an error; notes what was acknowledged."""

    def __init__(self, queue: Queue) -> None:
        super().__init__(daemon=True)
        self._queue = queue
        self.acked: list[str] = []
        self.batches: list[list[str]] = []
        self.tried: list[list[str]] = []
        self.fault: Exception | None = None

    def run(self) -> None:
        number = 0
        while self.fault is None:
            number += 1
            try:
                if number % 20 == 0:
                    ids = [f"b{number}-{place}" for place in range(50)]
                    self.tried.append(ids)
                    self._queue.enqueue_many(
                        {"job_type": "x", "payload": {}, "job_id": job_id} for job_id in ids
                    )
                    self.batches.append(ids)
                else:
                    self.acked.append(self._queue.enqueue("x", {"n": number}))
            except QueueError as error:
                self.fault = error


def lost(producer: Producer, queue: Queue) -> int:
    """How many acknowledged jobs are not there; a half batch is an error."""
    there = {job["id"] for job in queue.list_jobs()}
    for ids in producer.tried:
        assert len(there & set(ids)) in (0, len(ids))
    promised = {*producer.acked, *(job_id for ids in producer.batches for job_id in ids)}
    return len(promised - there)


@pytest.mark.parametrize("fsync", ["always", "everysec"])
def test_a_server_that_is_killed_loses_nothing(
    server: RedisServer, tmp_path: Path, fsync: str, figure: Callable[..., None]
) -> None:
    """`kill -9` under load: what was acknowledged is there when it is back; no batch is half."""
    asked = "full" if fsync == "always" else "normal"
    with RedisServer(tmp_path / "redis", appendfsync=fsync) as own:
        queue = Queue(own.url(), asked, lock_timeout=0.3)
        producer = Producer(queue)
        producer.start()
        time.sleep(SECONDS)
        own.kill()
        producer.join(60)
        own.start()
        gone = lost(producer, Queue(own.url(), asked))
        figure(acknowledged=len(producer.acked) + 50 * len(producer.batches), lost=gone)
        assert gone == 0
        assert producer.acked


def synced_size(trace: Path) -> tuple[int, int]:
    """Of what strace saw: bytes of the append-only file that were synced, and bytes written."""
    size = done = 0
    began: dict[str, int] = {}
    for line in trace.read_text(errors="replace").splitlines():
        thread = line.split()[0]
        wrote = "write(" in line and ".incr.aof" in line and re.search(r"= (\d+)$", line)
        if wrote:
            size += int(wrote[1])
        elif re.search(r"f(data)?sync\(", line) and ".incr.aof" in line:
            if line.endswith("= 0"):
                done = max(done, size)
            else:
                began[thread] = size
        elif re.search(r"f(data)?sync resumed", line) and line.endswith("= 0") and thread in began:
            done = max(done, began.pop(thread))
    return done, size


def test_a_power_cut_loses_nothing_that_was_synced(
    server: RedisServer, tmp_path: Path, figure: Callable[..., None]
) -> None:
    """The append-only file is cut back to what the last finished sync covers."""
    if shutil.which("strace") is None:
        pytest.skip("strace is missing: install it")
    trace = tmp_path / "trace"
    strace = ("strace", "-f", "-y", "-e", "trace=write,fdatasync,fsync", "-o", str(trace))
    own = RedisServer(tmp_path / "redis", strace, appendfsync="always").start()
    queue = Queue(own.url(), "full", lock_timeout=0.3)
    producer = Producer(queue)
    producer.start()
    time.sleep(SECONDS)
    own.kill()
    producer.join(60)
    done, size = synced_size(trace)
    (log,) = (tmp_path / "redis" / "appendonlydir").glob("*.incr.aof")
    assert 0 < done <= log.stat().st_size
    os.truncate(log, done)
    own.prefix = ()
    with own:
        gone = lost(producer, Queue(own.url(), "full"))
    figure(
        acknowledged=len(producer.acked) + 50 * len(producer.batches),
        lost=gone,
        bytes_cut_off=size - done,
    )
    assert gone == 0
    assert producer.acked


def test_a_worker_keeps_its_outcome_while_the_server_is_away(
    server: RedisServer, tmp_path: Path
) -> None:
    """The handler's work is not done twice; the worker goes on with the next job."""
    diary = Diary(tmp_path / "diary")
    with RedisServer(tmp_path / "redis", appendfsync="always") as own:
        queue = Queue(own.url(), "full", lock_timeout=1)
        first, second = queue.enqueue_many([("x", {"n": 1}), ("x", {"n": 2})])

        def run(payload: dict[str, int]) -> int:
            diary.add("begin", payload["n"])
            while payload["n"] == 1 and "away" not in diary.count():
                time.sleep(0.01)
            return payload["n"]

        worker = start(lambda: queue.process_jobs({"x": run}, linger=1))
        while "begin 1" not in diary.count():
            time.sleep(0.01)
        own.kill()
        diary.add("away")
        time.sleep(2.5)
        own.start()
        worker.join(60)
        assert worker.exitcode == 0
        for job_id, result in ((first, 1), (second, 2)):
            job = Queue(own.url()).get_job(job_id)
            assert job is not None
            assert (job["status"], job["result"], job["attempts"]) == ("completed", result, 1)
    assert diary.count() == {"begin 1": 1, "away": 1, "begin 2": 1}
