"""One part of a comparison on a server, in a process of its own: `ENGINE ACT URL COUNT FILE`.

Acts: `put` adds jobs one by one and prints the seconds that one took; `many` adds them at once;
`later` adds jobs for tomorrow; `work` runs a worker that writes into FILE when each handler began,
until it is killed or has run COUNT jobs; `pick` adds jobs now and then, with the time in them.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable
from typing import Any

NAME = "bench"
NOTE = "server_actor.note"  # RQ takes no function of a program's main module
EVERY = 0.02  # seconds between two jobs of `pick`


def note(payload: dict[str, Any]) -> None:
    """What every job does: write down when it began, and when it was added."""
    fd = int(os.environ["BENCH_FD"])
    os.write(fd, b"%.6f %.6f\n" % (time.time(), payload["at"]))


class Ours:
    """This library, on a server or on a file."""

    def __init__(self, url: str) -> None:
        from dbbasic_queue import Queue

        self.queue = Queue(url, os.environ["BENCH_DURABILITY"])

    def put(self, payload: dict[str, Any]) -> None:
        self.queue.enqueue("note", payload)

    def many(self, payloads: list[dict[str, Any]], run_at: float | None) -> None:
        self.queue.enqueue_many([("note", payload, run_at) for payload in payloads])

    def work(self) -> None:
        self.queue.process_jobs({"note": note}, linger=3600)


class PlainRq:
    """RQ as its documentation has it, with the worker that does not fork."""

    def __init__(self, url: str) -> None:
        import redis
        import rq

        self.connection = redis.Redis.from_url(url)
        self.queue = rq.Queue(NAME, connection=self.connection)

    def put(self, payload: dict[str, Any]) -> None:
        self.queue.enqueue(NOTE, payload)

    def many(self, payloads: list[dict[str, Any]], run_at: float | None) -> None:
        import rq

        data = [rq.Queue.prepare_data(NOTE, (payload,)) for payload in payloads]
        self.queue.enqueue_many(data)

    def work(self) -> None:
        import rq

        rq.SimpleWorker([self.queue], connection=self.connection).work(logging_level="ERROR")


class PlainCelery:
    """Celery with the solo pool, and jobs acknowledged when they have ended."""

    def __init__(self, url: str) -> None:
        from celery import Celery

        from dbbasic_queue.celery import register

        self.app = Celery(NAME, broker=url, backend=url)
        self.app.conf.update(worker_prefetch_multiplier=1, broker_connection_retry_on_startup=True)
        self.task = register(self.app, {"note": note})["note"]

    def put(self, payload: dict[str, Any]) -> None:
        self.task.delay(payload)

    def many(self, payloads: list[dict[str, Any]], run_at: float | None) -> None:
        for payload in payloads:
            self.put(payload)

    def work(self) -> None:
        options = ["--pool=solo", "--loglevel=ERROR", "--without-gossip", "--without-mingle"]
        self.app.worker_main(["worker", *options])


ENGINES: dict[str, Callable[[str], Any]] = {
    "file": Ours,
    "ours": Ours,
    "rq": PlainRq,
    "celery": PlainCelery,
}


def main(name: str, act: str, url: str, count: str) -> None:
    """Do one part."""
    logging.disable(logging.CRITICAL)
    engine, jobs = ENGINES[name](url), int(count)
    if act == "work":
        engine.work()
        return
    if act == "pick":
        for _ in range(jobs):
            engine.put({"at": time.time()})
            time.sleep(EVERY)
        return
    engine.put({"at": 0.0})  # connects
    began = time.perf_counter()
    if act == "put":
        for _ in range(jobs):
            engine.put({"at": 0.0})
    else:
        later = time.time() + 86400 if act == "later" else None
        engine.many([{"at": 0.0}] * jobs, later)
    print((time.perf_counter() - began) / jobs)


if __name__ == "__main__":
    main(*sys.argv[1:])
