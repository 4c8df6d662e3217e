"""Handlers as tasks of Celery: a real worker, on a real broker."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis_server import RedisServer, program

from dbbasic_queue import ConfigError, Queue, StorageError
from dbbasic_queue.cli.main import main
from dbbasic_queue.engines.moving import departed
from dbbasic_queue.migrate.export import export

pytestmark = [
    pytest.mark.skipif(
        importlib.util.find_spec("celery") is None, reason="no celery: pip install 'celery>=5.6'"
    ),
    pytest.mark.skipif(
        program() is None, reason="no redis-server and no valkey-server to be Celery's broker"
    ),
]

SHOP = '''
import asyncio, os, sys
from celery import Celery
from dbbasic_queue import Discard, Retry, Snooze, current_job
from dbbasic_queue.celery import register

def note(payload):
    """Notes the job, and fails as often as it is told to."""
    job = current_job()
    with open("notes", "a") as notes:
        print(job.type, job.id, job.attempt, payload, file=notes)
    if job.attempt <= payload.get("fails", 0):
        raise ValueError("not yet")
    return {"attempt": job.attempt}

def wish(payload):
    """Snoozes, is tried again, and discards itself."""
    before = len([line for line in open("notes") if current_job().id in line])
    note({})
    raise (Snooze(1), Retry(0), Discard("bad address"))[min(before, 2)]

async def later(payload):
    await asyncio.sleep(0)
    return payload["n"] + 1

HANDLERS = {
    "note": note,
    "later": later,
    "wish": wish,
    "odd": lambda payload: {1, 2},
    "leave": lambda payload: sys.exit("no more"),
}
app = Celery("shop", broker=os.environ["BROKER"], backend=os.environ["BROKER"])
app.conf.broker_connection_retry_on_startup = True
register(app, HANDLERS, max_attempts=3, backoff=lambda attempts: 0)
'''


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with RedisServer(tmp_path_factory.mktemp("broker")) as server:
        yield f"redis://127.0.0.1:{server.port}/0"


@pytest.fixture(scope="module")
def shop(broker: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder in which a worker of Celery runs."""
    folder = tmp_path_factory.mktemp("shop")
    (folder / "shop.py").write_text(SHOP)
    (folder / "notes").touch()
    command = [sys.executable, "-m", "celery", "-A", "shop", "worker", "--pool", "solo"]
    with (folder / "log").open("wb") as log:
        worker = subprocess.Popen(
            [*command, "--without-gossip", "--without-mingle", "-l", "INFO"],
            cwd=folder,
            env={"PATH": "/usr/bin:/bin", "BROKER": broker, "PYTHONPATH": ":".join(sys.path)},
            stdout=log,
            stderr=log,
        )
    try:
        yield folder
    finally:
        worker.terminate()
        worker.wait(60)


def ask(broker: str, job_type: str, payload: Any) -> Any:
    """Send a task, and wait for what becomes of it."""
    from celery import Celery

    app = Celery("test", broker=broker, backend=broker, set_as_current=False)
    return app.send_task(job_type, [payload])


def noted(shop: Path, word: str, count: int) -> list[str]:
    """The notes with this word, when there are so many."""
    end = time.monotonic() + 120
    while True:
        found = [line for line in (shop / "notes").read_text().splitlines() if word in line]
        if len(found) >= count:
            return found
        assert time.monotonic() < end, (shop / "log").read_text()[-3000:]
        time.sleep(0.05)


def test_a_handler_is_a_task(shop: Path, broker: str) -> None:
    """Plain or a coroutine; what JSON cannot hold of a result does not undo the work."""
    assert ask(broker, "note", {}).get(timeout=120) == {"attempt": 1}
    assert ask(broker, "later", {"n": 4}).get(timeout=120) == 5
    assert ask(broker, "odd", {}).get(timeout=120) == "{1, 2}"


def test_it_is_tried_again_until_it_succeeds(shop: Path, broker: str) -> None:
    """And counted as our jobs are."""
    task = ask(broker, "note", {"fails": 2})
    assert task.get(timeout=120) == {"attempt": 3}
    assert [line.split()[2] for line in noted(shop, task.id, 3)] == ["1", "2", "3"]


def test_it_fails_when_its_attempts_are_used_up(shop: Path, broker: str) -> None:
    """Also one that would end the worker."""
    task = ask(broker, "note", {"fails": 9})
    with pytest.raises(ValueError, match="not yet"):
        task.get(timeout=120)
    assert len(noted(shop, task.id, 3)) == 3
    with pytest.raises(RuntimeError, match="SystemExit: no more"):
        ask(broker, "leave", {}).get(timeout=120)
    assert ask(broker, "note", {}).get(timeout=120) == {"attempt": 1}


def test_it_may_say_what_becomes_of_it(shop: Path, broker: str) -> None:
    """A snooze is not counted, a retry is, and a discard is the end."""
    task = ask(broker, "wish", {})
    with pytest.raises(Exception, match="bad address"):
        task.get(timeout=120)
    assert [line.split()[2] for line in noted(shop, task.id, 3)] == ["1", "1", "2"]


def test_pending_jobs_are_handed_over(shop: Path, broker: str, tmp_path: Path) -> None:
    """With id, payload, time and the attempts they have had; what has ended stays."""
    queue = Queue(tmp_path / "queue.tsv", "normal")
    queue.enqueue("leave", {}, job_id="failed")
    queue.process_jobs({"leave": lambda payload: {}["x"]}, 1)
    queue.enqueue("note", {"fails": 9}, job_id="tried-once")
    queue.process_jobs({"note": lambda payload: {}["x"]}, 2, limit=1, backoff=lambda attempts: 0)
    queue.enqueue("note", {"n": 1}, job_id="due")
    queue.enqueue("note", {"n": 2}, time.time() + 2, job_id="soon")
    told: list[int] = []
    assert export(queue.engine, f"celery+{broker}", told.append) == 3 == sum(told)
    assert export(queue.engine, f"celery+{broker}") == 0
    assert queue.count_jobs()["pending"] == 0
    assert not queue.retry_job("due")
    for job_id in ("due", "soon"):
        (line,) = noted(shop, f" {job_id} ", 1)
        assert line.startswith(f"note {job_id} ")
    tries = [line.split()[2] for line in noted(shop, " tried-once ", 2)]
    assert tries == ["2", "3"]
    assert queue.count_jobs()["failed"] == 1


def test_a_broker_that_is_away_gets_nothing(tmp_path: Path) -> None:
    """The jobs say that they are perhaps there, and the next run sends them."""
    queue = Queue(tmp_path / "queue.tsv", "normal")
    queue.enqueue("note", {}, job_id="a")
    with pytest.raises(StorageError, match="cannot send jobs to celery"):
        export(queue.engine, "celery+redis://:secret@127.0.0.1:1/0")
    job = queue.find_job("a")
    assert job is not None
    gone = departed(job)
    assert gone is not None
    assert (gone.sure, gone.to) == (False, "celery+redis://127.0.0.1:1/0")


def test_the_command_says_what_it_does(
    broker: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Counted first, and no password shown; a broker can neither be followed nor closed for."""
    queue = Queue(tmp_path / "queue.tsv", "normal")
    queue.enqueue("note", {}, job_id="by-the-command")
    words = ["migrate", str(queue.path), f"celery+{broker}"]
    assert main([*words, "--dry-run"]) == 1
    assert main(words) == 0
    out = capsys.readouterr().out.splitlines()
    assert out == [
        f"would send to celery+{broker}: 1 pending job",
        f"1 job sent to celery+{broker}; there is no way back",
    ]
    assert main([*words, "--finish"]) == 2
    assert "--follow and --finish are for a move" in capsys.readouterr().err


def test_without_celery_the_message_names_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """And nothing is changed."""
    monkeypatch.setitem(sys.modules, "celery", None)
    queue = Queue(tmp_path / "queue.tsv", "normal")
    queue.enqueue("note", {})
    with pytest.raises(ConfigError, match=r"pip install 'dbbasic-queue\[celery\]'"):
        export(queue.engine, "celery+redis://127.0.0.1/0")
    assert queue.count_jobs()["pending"] == 1
