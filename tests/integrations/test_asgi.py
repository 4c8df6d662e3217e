"""A worker beside a web server: uvicorn with two processes, and what becomes of them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dbbasic_queue import Queue
from dbbasic_queue.integrations.asgi import lifespan

APPLICATION = """
import os
import time
from dbbasic_queue import Queue, current_job
from dbbasic_queue.integrations.asgi import lifespan

queue = Queue("queue.tsv")
beside = lifespan("app:HANDLERS", file="queue.tsv", workers=1, patience=PATIENCE)


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        async with beside(app):
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    await queue.aenqueue("process", {})
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(os.getpid()).encode()})


def process(payload):
    return os.getpid()


def sleep(payload):
    open("begun", "w").close()
    time.sleep(payload["seconds"])
    return "slept"


HANDLERS = {"process": process, "sleep": sleep}
"""
LONG = 90  # seconds until a test gives up


def until(condition: Any, what: str) -> None:
    """Wait for something that another process does."""
    end = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < end, f"not in {LONG} s: {what}"
        time.sleep(0.05)


@contextlib.contextmanager
def served(folder: Path, *options: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Uvicorn, with the application in `folder`; yields it and its port."""
    pytest.importorskip("uvicorn", reason="uvicorn is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [sys.executable, "-m", "uvicorn", "app:app", "--port", str(port), *options]
    with (folder / "log").open("wb") as out:
        server = subprocess.Popen(words, cwd=folder, stdout=out, stderr=out)
    try:
        yield server, port
    finally:
        server.terminate()
        server.wait(LONG)


def answers(port: int) -> bool:
    """Whether the server takes a request, which enqueues a job."""
    try:
        with socket.create_connection(("127.0.0.1", port), 10) as line:
            line.sendall(b"GET / HTTP/1.0\r\n\r\n")
            return b" 200 " in line.recv(100)
    except OSError:
        return False


@pytest.fixture
def queue(tmp_path: Path) -> Queue:
    (tmp_path / "app.py").write_text(APPLICATION.replace("PATIENCE", "30"))
    return Queue(tmp_path / "queue.tsv")


def results(queue: Queue) -> list[Any]:
    return [job["result"] for job in queue.list_jobs(status="completed")]


def is_there(process: int) -> bool:
    """Whether a process runs."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_two_servers_have_one_worker(queue: Queue) -> None:
    """With two processes of uvicorn one worker works, and ends with them when they end."""
    with served(queue.path.parent, "--workers", "2") as (_, port):
        until(lambda: answers(port), "the server answers")
        for _ in range(5):
            assert answers(port)
        until(lambda: queue.count_jobs()["completed"] >= 6, "all jobs are done")
        (worker,) = set(results(queue))
        assert is_there(worker)
    until(lambda: not is_there(worker), "the worker ends")


def test_another_worker_takes_the_place_of_one_that_died(queue: Queue) -> None:
    """A worker that is killed is begun anew, or another process's takes its place."""
    with served(queue.path.parent, "--workers", "2") as (_, port):
        until(lambda: answers(port) and results(queue), "a job is done")
        first = results(queue)[0]
        os.kill(first, signal.SIGKILL)
        until(lambda: answers(port) and len(set(results(queue))) == 2, "another worker works")


def test_a_worker_dies_with_its_server(queue: Queue) -> None:
    """Also when the server is killed, and has no time to say anything."""
    with served(queue.path.parent) as (server, port):
        until(lambda: answers(port) and results(queue), "a job is done")
        server.kill()
        until(lambda: not is_there(results(queue)[0]), "the worker ends")


@pytest.mark.parametrize("patience", [30, 0])
def test_a_server_that_stops_waits_for_the_job_in_hand(queue: Queue, patience: int) -> None:
    """A job may finish within the patience; after that it is put back, its attempt refunded."""
    folder = queue.path.parent
    (folder / "app.py").write_text(APPLICATION.replace("PATIENCE", str(patience)))
    job_id = queue.enqueue("sleep", {"seconds": 2 if patience else 600})
    with served(folder):
        until((folder / "begun").exists, "the job begins")
    job = queue.find_job(job_id)
    assert job is not None
    assert (job.status, job.attempts) == (("completed", 1) if patience else ("pending", 0))


def test_a_number_of_workers_that_makes_no_sense_is_refused() -> None:
    """There is at least one worker, or else no need for this."""
    with pytest.raises(ValueError, match="workers 0: must be 1 or more"):
        lifespan("app:HANDLERS", workers=0)


def test_a_program_without_a_server_may_have_a_worker(queue: Queue) -> None:
    """`async with` runs a worker for as long as the block lasts."""
    job_id = queue.enqueue("process", {})

    async def main() -> None:
        beside = lifespan(file=queue.path, config=queue.path.parent / "dbq.toml")
        async with beside(None):
            for _ in range(20 * LONG):
                if queue.count_jobs()["completed"]:
                    return
                await asyncio.sleep(0.05)

    (queue.path.parent / "dbq.toml").write_text(
        '[queue]\nfile = "queue.tsv"\n[worker]\nhandlers = "app:HANDLERS"\n'
    )
    asyncio.run(main())
    assert queue.find_job(job_id).status == "completed"  # type: ignore[union-attr]
