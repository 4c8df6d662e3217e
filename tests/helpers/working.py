"""Runs of a worker, in this process and as a program that a test talks to."""

from __future__ import annotations

import fcntl
import os
import signal
import threading
from collections.abc import Callable
from typing import Any

from dbbasic_queue import Queue
from dbbasic_queue.engines.interface import Attempt, Seat

WORKER = """
import asyncio, logging, os, signal, sys, time
from dbbasic_queue import Queue, current_job
logging.basicConfig(stream=sys.stderr, level=logging.INFO)
queue = Queue(sys.argv[1], "normal")

def tell(*words):
    print(*words, flush=True)

def ask(payload):
    tell("started", current_job().attempt)
    answer = sys.stdin.readline().strip()
    tell("finished")
    return answer

async def sleep(payload):
    tell("started", current_job().attempt)
    try:
        await asyncio.sleep(60)
    finally:
        tell("cleaned")

def enqueue(payload):
    tell("started", current_job().attempt)
    while True:
        queue.enqueue("child", {})
"""
RUN = WORKER + "\nqueue.process_jobs({'ask': ask, 'sleep': sleep, 'enqueue': enqueue})\n"
TELL = WORKER + "\nsignal.signal(signal.SIGTERM, lambda *args: tell('heard', *args))\n"


def run_one(queue: Queue, handler: Callable[[Any], Any], **options: Any) -> dict[str, Any]:
    """The job that this handler was run for, once."""
    job_id = queue.enqueue("x", {})
    queue.process_jobs({"x": handler}, **options)
    job = queue.get_job(job_id)
    assert job is not None
    return job


def a_lock_is_free(queue: Queue) -> bool:
    """Whether another process could take the table's lock now."""
    fd = os.open(queue.path.with_suffix(".lock"), os.O_RDWR)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(fd)
    return True


def works_in_a_thread(action: Callable[[], Any]) -> bool:
    """Whether another thread of this process gets it done."""
    thread = threading.Thread(target=action, daemon=True)
    thread.start()
    thread.join(20)
    return not thread.is_alive()


def failing(payload: Any) -> None:
    raise ValueError("no such user")


def twice(payload: Any = None) -> None:
    signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGTERM)


class Trap:
    """The module fcntl, with a signal that comes in the middle of a call of flock."""

    def __init__(self, operation: int, *numbers: int) -> None:
        self.operation = operation
        self.numbers = numbers
        self.armed = False

    def __getattr__(self, name: str) -> Any:
        return getattr(fcntl, name)

    def flock(self, fd: int, operation: int) -> None:
        fcntl.flock(fd, operation)
        if self.armed and operation & ~fcntl.LOCK_NB == self.operation:
            self.armed = False
            for number in self.numbers:
                signal.raise_signal(number)


def take(queue: Queue) -> tuple[Seat, Attempt]:
    """Begin the next job by hand, as a worker does."""
    seat = queue.engine.seat()
    attempt = seat.turn()
    assert attempt is not None
    return seat, attempt


def job_in(queue: Queue, status: str) -> str:
    """The id of a job in that state, with one attempt behind it unless none was begun."""

    def fail(payload: Any) -> None:
        raise ValueError("no")

    job_id = queue.enqueue("x", {})
    if status == "processing":
        take(queue)
    elif status == "completed":
        queue.process_jobs({"x": bool})
    elif status == "failed":
        queue.process_jobs({"x": fail}, 1)
    elif status == "cancelled":
        queue.cancel_job(job_id)
    assert queue.get_job(job_id)["status"] == status
    return job_id


def edit(queue: Queue, old: bytes, new: bytes) -> None:
    """Change the file as an editor does: a new file in place of the old one."""
    text = queue.path.read_bytes()
    assert old in text
    temporary = queue.path.with_suffix(".new")
    temporary.write_bytes(text.replace(old, new))
    temporary.rename(queue.path)


def where(address: str) -> list[str]:
    """The options of `dbq` that name a queue."""
    if address.startswith("file:"):
        return ["--file", address.removeprefix("file:")]
    return ["--url", address]
