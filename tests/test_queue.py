"""The default queue, programs of 1.0.0, threads and forks."""

from __future__ import annotations

import asyncio
import copy
import gc
import inspect
import json
import os
import pickle
import subprocess
import sys
import threading
import time
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from actors import Clock, Diary, columns, in_child, join, start

import dbbasic_queue
from dbbasic_queue import (
    ConfigError,
    InvalidJob,
    Queue,
    QueueError,
    Summary,
    aenqueue,
    cancel_job,
    count_jobs,
    enqueue,
    enqueue_many,
    get_job,
    list_jobs,
    process_jobs,
    prune_jobs,
    retry_job,
)
from dbbasic_queue.config import search
from dbbasic_queue.engines.tsv import claims
from dbbasic_queue.table.line import HEADER

NOW = 1_700_000_000
ZERO = dict.fromkeys(("pending", "processing", "completed", "failed", "cancelled"), 0)


@pytest.fixture
def clock() -> Clock:
    return Clock(NOW)


@pytest.fixture
def queue(tmp_path: Path, clock: Clock) -> Queue:
    return Queue(tmp_path / "queue.tsv", "normal", clock=clock)


# -- by a config, and for coroutines --------------------------------------------------------------


def test_a_config_says_where_the_queue_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`from_config` takes file and durability from the config that the commands would find."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DBQ_CONFIG", raising=False)
    monkeypatch.setenv("DBQ_FILE", "elsewhere.tsv")  # which is not for this
    for name, durability in (("here", "normal"), ("there", "full")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "dbq.toml").write_text(
            f'[queue]\nfile = "{name}.tsv"\ndurability = "{durability}"\n'
            '[worker]\nhandlers = "jobs:HANDLERS"\n'
        )
    monkeypatch.setattr(search, "CONFIGS", ("dbq.toml", "etc/dbq.toml"))
    with pytest.raises(ConfigError, match=r"there is no config: tried dbq\.toml and etc/dbq"):
        Queue.from_config()
    monkeypatch.chdir(tmp_path / "here")
    queue = Queue.from_config()
    assert (queue.path, queue._options["durability"]) == (tmp_path / "here/here.tsv", "normal")
    monkeypatch.setenv("DBQ_CONFIG", str(tmp_path / "there/dbq.toml"))
    assert Queue.from_config().path == tmp_path / "there/there.tsv"
    assert Queue.from_config(tmp_path / "here/dbq.toml").path == tmp_path / "here/here.tsv"
    assert pickle.loads(pickle.dumps(queue)).path == queue.path
    with (tmp_path / "here/dbq.toml").open("a") as config:
        config.write('[types."mail.*"]\nmax_attempts = 1\nbackoff = "30s"\n')
    queue = Queue.from_config(tmp_path / "here/dbq.toml")
    queue.enqueue("mail.send", {})
    assert copy.copy(queue).process_jobs({"mail.send": lambda payload: 1 / 0}).failed == 1
    (tmp_path / "here/dbq.toml").write_text("[queue]\nfile = 1\n[worker]\n")
    with pytest.raises(ConfigError, match=r"dbq\.toml:2: \[queue\]\.file: "):
        Queue.from_config(tmp_path / "here/dbq.toml")


def test_a_coroutine_enqueues_while_others_go_on(
    queue: Queue, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`aenqueue` leaves the event loop free, and is `enqueue` in all else."""
    free = threading.Event()
    lock = Queue._log_added

    def slow(self: Queue, job_id: str, order: Any) -> str:
        assert free.wait(30)
        return lock(self, job_id, order)

    async def both() -> str:
        adding = asyncio.create_task(queue.aenqueue("x", {}, unique="one", unique_until=60))
        await asyncio.sleep(0)
        free.set()  # which no one would do if the event loop stood still
        return await adding

    monkeypatch.setattr(Queue, "_log_added", slow)
    job_id = asyncio.run(both())
    assert queue.get_job(job_id)["status"] == "pending"
    assert asyncio.run(queue.aenqueue("x", {}, unique="one", unique_until=60)) == job_id
    assert asyncio.run(queue.aenqueue("x", {}, NOW + 5, job_id="mine")) == "mine"
    assert queue.get_job("mine")["run_at"] == NOW + 5
    with pytest.raises(InvalidJob):
        asyncio.run(queue.aenqueue("x", {}, job_id="not an id"))
    assert asyncio.run(aenqueue("x", {}, job_id="of-the-default-queue"))
    assert get_job("of-the-default-queue")["type"] == "x"


# -- the default queue ---------------------------------------------------------------------------


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory of its own, without $DBQ_FILE."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DBQ_FILE", raising=False)
    return tmp_path


def test_the_default_file_is_below_the_working_directory(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`data/queue.tsv`, made with its folder by the first job; a chdir leads to another one."""
    job_id = enqueue("x", {})
    assert Queue(here / "data" / "queue.tsv").get_job(job_id) == get_job(job_id)
    (here / "other").mkdir()
    monkeypatch.chdir(here / "other")
    assert get_job(job_id) is None
    enqueue("y", {})
    assert (here / "other" / "data" / "queue.tsv").exists()


def test_the_environment_overrides_the_default_file(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """$DBQ_FILE, looked at anew each time; empty counts as not set."""
    monkeypatch.setenv("DBQ_FILE", str(here / "env.tsv"))
    enqueue("x", {})
    assert count_jobs()["pending"] == 1
    assert (here / "env.tsv").exists()
    monkeypatch.setenv("DBQ_FILE", "")
    assert count_jobs()["pending"] == 0
    enqueue("x", {})
    assert (here / "data" / "queue.tsv").exists()


@pytest.mark.parametrize("env", [None, "env.tsv"])
@pytest.mark.parametrize("kind", [str, Path])
def test_a_program_may_assign_queue_file(
    here: Path, monkeypatch: pytest.MonkeyPatch, env: str | None, kind: Any
) -> None:
    """As programs for 1.0.0 do; what the program says goes before the environment."""
    if env:
        monkeypatch.setenv("DBQ_FILE", env)
    monkeypatch.setattr(dbbasic_queue.queue, "QUEUE_FILE", kind("mine/q.tsv"))
    job_id = enqueue("x", {})
    assert [path.name for path in here.iterdir()] == ["mine"]
    assert process_jobs({"x": bool}).completed == 1
    assert get_job(job_id)["status"] == "completed"


def test_the_rows_as_1_0_0_gave_them(here: Path) -> None:
    """dbbasic-email 1.0.0 asks for them; all nine columns are texts."""
    enqueue("send_email", {"to": "zoe"}, 5, job_id="a1")
    enqueue("bad", {}, 5, job_id="a2")
    process_jobs({"send_email": lambda payload: {"ok": payload["to"]}, "bad": dict.popitem})
    done, failed = dbbasic_queue._read_tsv()
    assert done[:4] == ["a1", "send_email", '{"to": "zoe"}', "completed"]
    assert [*map(type, done)] == [str] * 9
    assert (done[6], done[7], done[8]) == ("1", "", '{"ok": "zoe"}')
    assert failed[7].startswith("KeyError")
    assert failed[8] == ""


def test_every_function_works_on_the_default_queue(here: Path) -> None:
    """The functions are the methods of the same names."""
    ids = enqueue_many([("x", {"n": 1}), ("y", {"n": 2}, time.time() + 100)])
    assert enqueue("x", {"n": 3}, job_id="key") == "key"
    assert cancel_job(ids[1])
    assert process_jobs({"x": lambda payload: payload["n"]}) == Summary(completed=2)
    assert get_job("key")["result"] == 3
    assert [job["id"] for job in list_jobs("completed")] == [ids[0], "key"]
    assert count_jobs() == {**ZERO, "completed": 2, "cancelled": 1}
    assert retry_job(ids[1])
    assert prune_jobs(timedelta(0), ["completed"]) == 2
    assert [job["id"] for job in list_jobs()] == [ids[1]]


@pytest.mark.parametrize(
    "name",
    [
        "enqueue",
        "enqueue_many",
        "process_jobs",
        "get_job",
        "cancel_job",
        "retry_job",
        "list_jobs",
        "count_jobs",
    ],
)
def test_function_and_method_take_the_same_arguments(name: str) -> None:
    """Names, order, defaults and kinds."""
    function = inspect.signature(getattr(dbbasic_queue, name)).parameters
    method = inspect.signature(getattr(Queue, name)).parameters
    assert list(function.values()) == list(method.values())[1:]


def test_the_public_names_are_there() -> None:
    """`__all__` is complete and true; the version is the distribution's."""
    names = dbbasic_queue.__all__
    assert names == sorted(names, key=lambda name: (name.islower(), name))
    assert all(hasattr(dbbasic_queue, name) for name in names)
    errors = [getattr(dbbasic_queue, name) for name in names]
    for error in errors:
        if inspect.isclass(error) and issubclass(error, Exception):
            assert issubclass(error, QueueError)
    assert dbbasic_queue.__version__.startswith("2.")


# -- programs written for 1.0.0 ------------------------------------------------------------------


def test_the_functions_of_1_0_0_keep_their_signatures() -> None:
    """Every call that 1.0.0 took is taken, by position and by name."""
    parameters = {
        name: [
            each.name
            for each in inspect.signature(getattr(dbbasic_queue.queue, name)).parameters.values()
            if each.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
        ]
        for name in ("enqueue", "process_jobs", "get_job", "cancel_job")
    }
    assert parameters == {
        "enqueue": ["job_type", "payload", "run_at"],
        "process_jobs": ["handlers", "max_attempts"],
        "get_job": ["job_id"],
        "cancel_job": ["job_id"],
    }
    defaults = inspect.signature(process_jobs).parameters["max_attempts"].default
    assert defaults == dbbasic_queue.queue.MAX_ATTEMPTS == 3


# In the manner of the example in the README of 1.0.0: a program that enqueues, a worker for cron.
PRODUCER = """
from dbbasic_queue import enqueue

job_id = enqueue('send_email', {
    'to': 'user@example.com',
    'subject': 'Welcome',
    'body': 'Thanks for signing up!'
})
print(job_id)
"""
WORKER = """
import time
from dbbasic_queue import process_jobs

def send_email_handler(payload):
    return {'sent_at': time.time(), 'to': payload['to']}

if __name__ == '__main__':
    handlers = {
        'send_email': send_email_handler,
    }
    process_jobs(handlers, max_attempts=3)
"""
LOOKING = """
import sys, time
import dbbasic_queue.queue
from dbbasic_queue.queue import enqueue, process_jobs, get_job, cancel_job

dbbasic_queue.queue.QUEUE_FILE = 'data/queue.tsv'
job = get_job(sys.argv[1])
assert job['status'] == 'completed' and job['attempts'] == 1, job
assert job['result']['to'] == 'user@example.com' and job['error'] is None, job
later = enqueue('send_email', {}, run_at=int(time.time()) + 3600)
assert cancel_job(later) is True and cancel_job(later) is False
assert get_job(later)['error'] == 'Cancelled by user'
bad = enqueue('no_such_type', {})
process_jobs({})
job = get_job(bad)
assert job['status'] == 'pending' and 'No handler for no_such_type' in job['error'], job
assert job['run_at'] - int(time.time()) in range(110, 121), job
assert get_job('unknown') is None
"""


def test_programs_written_for_1_0_0_run_unchanged(here: Path) -> None:
    """A producer, a worker started by cron, and one that looks: each a process of its own."""

    def run(code: str, *args: str) -> str:
        return subprocess.run(
            [sys.executable, "-W", "error", "-c", code, *args],
            check=True,
            capture_output=True,
            text=True,
        ).stdout

    run(WORKER)  # cron comes before the first job
    job_id = run(PRODUCER).strip()
    run(WORKER)
    run(LOOKING, job_id)
    assert Queue("data/queue.tsv").count_jobs() == {
        **ZERO,
        "pending": 1,
        "completed": 1,
        "cancelled": 1,
    }


def test_a_file_of_1_0_0_is_worked(queue: Queue) -> None:
    """Rows without reserve, results as bare JSON, errors in its words, all five states."""
    queue.path.write_text(
        HEADER.decode()
        + "a1\tx\t{}\tpending\t5\t5\t0\t\t\n"
        + 'b2\tx\t{"n": "Zo\\u00eb"}\tpending\t5\t5\t2\tno such user\t\n'
        + 'c3\tx\t{}\tcompleted\t5\t5\t1\t\t"ok"\n'
        + "d4\tx\t{}\tcancelled\t5\t5\t0\tCancelled by user\t\n"
        + "e5\tx\t{}\tprocessing\t5\t5\t0\t\t\n"
    )
    assert queue.get_job("c3")["result"] == "ok"
    summary = queue.process_jobs({"x": lambda payload: payload.get("n", "r" * 300)})
    assert summary == Summary(completed=2, rescued=1)
    assert queue.get_job("b2")["result"] == "Zoë"
    assert queue.get_job("a1")["result"] == "r" * 300
    assert queue.get_job("e5")["error"].startswith("WorkerDied")
    assert {row[0] for row in columns(queue)} == {"a1", "b2", "c3", "d4", "e5"}


# -- an address ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "again", [copy.copy, copy.deepcopy, lambda queue: pickle.loads(pickle.dumps(queue))]
)
def test_a_queue_can_be_copied_and_pickled(tmp_path: Path, again: Any) -> None:
    """As an address: the same file and options, in another process, too."""
    queue = Queue(tmp_path / "queue.tsv", "normal", max_payload=50)
    job_id = queue.enqueue("x", {})
    other = again(queue)
    assert other is not queue
    assert other.path == queue.path
    assert other.get_job(job_id) == queue.get_job(job_id)
    with pytest.raises(InvalidJob, match="limit of 50"):
        other.enqueue("x", {"text": "x" * 50})


def test_a_queue_shows_users_their_verbs_only() -> None:
    """What keeps the jobs is behind `engine`."""
    assert {name for name in dir(Queue) if not name.startswith("_")} == {
        *("enqueue", "enqueue_many", "process_jobs", "get_job", "find_job", "list_jobs"),
        *("pause", "resume", "paused"),
        *("count_jobs", "cancel_job", "retry_job", "retry_failed", "prune_jobs", "prune_by_age"),
        *(
            "cancel_jobs",
            "retry_jobs",
            "defer_job",
            "defer_jobs",
            "list_errors",
            "wait",
            "backup",
            "restore",
            "restart_workers",
        ),
        *("stats", "now", "path", "aenqueue", "from_config", "history"),
    }


# -- threads and forks ---------------------------------------------------------------------------


def run_threads(*functions: Any) -> None:
    """Run functions at the same time, each in a thread; raise what one of them raised."""
    barrier = threading.Barrier(len(functions))
    errors: list[BaseException] = []

    def run(function: Any) -> None:
        barrier.wait()
        try:
            function()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(each,), daemon=True) for each in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "a thread hangs"
    if errors:
        raise errors[0]


def test_one_queue_may_be_used_by_many_threads(queue: Queue) -> None:
    """Adding, looking, cancelling, pruning and working at once: nothing is lost or run twice."""
    ran: list[int] = []
    added: list[str] = []

    def produce(base: int) -> None:
        for number in range(base, base + 100):
            added.append(queue.enqueue("x", {"n": number}))
        added.extend(queue.enqueue_many([("x", {"n": base + 100 + n}) for n in range(100)]))

    def consume() -> None:
        while len(ran) < 600:
            queue.process_jobs({"x": lambda payload: ran.append(payload["n"])})

    def look() -> None:
        while len(ran) < 600:
            queue.count_jobs()
            queue.prune_jobs(0, ("cancelled",))
            assert all(queue.get_job(job_id) for job_id in added[-3:])

    run_threads(*(lambda n=n: produce(n * 1000) for n in range(3)), consume, consume, consume, look)
    assert sorted(ran) == [base * 1000 + n for base in range(3) for n in range(200)]
    assert queue.count_jobs() == {**ZERO, "completed": 600}
    assert sorted(row[0] for row in columns(queue)) == sorted(added)


def test_the_same_id_from_many_threads_is_added_once(queue: Queue) -> None:
    """An idempotency key holds between threads, too."""
    for number in range(20):
        run_threads(*[lambda n=number: queue.enqueue("x", {"n": n}, job_id=f"key-{n}")] * 4)
    assert queue.count_jobs()["pending"] == 20


def test_threads_that_start_at_once_share_one_claims_file(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two descriptors would be two owners of locks: a claim could not be given back."""
    opened: list[int] = []
    real = claims.open_beside

    def slowly(path: Path, table: Path) -> int:
        time.sleep(0.02)
        opened.append(real(path, table))
        return opened[-1]

    monkeypatch.setattr(claims, "open_beside", slowly)
    run_threads(*[lambda: queue.process_jobs({})] * 4)
    assert len(opened) == 1


def test_a_queue_survives_a_fork(queue: Queue, diary: Diary) -> None:
    """Parent and children use the same object, also while a thread of the parent's has the lock."""
    queue.enqueue("x", {})
    stop = threading.Event()

    def busy() -> None:
        while not stop.is_set():
            queue.enqueue("parent", {})

    thread = threading.Thread(target=busy, daemon=True)
    thread.start()

    def child(number: int) -> None:
        for _ in range(20):
            queue.enqueue("child", {"n": number})
        queue.process_jobs({"x": lambda payload: diary.add("ran")}, types=["x"])
        assert queue.count_jobs()["pending"] >= 20

    children = [start(child, number) for number in range(5)]
    join(*children)
    stop.set()
    thread.join(60)
    assert diary.lines() == ["ran"]
    counts = Counter(row[1] for row in columns(queue))
    assert (counts["child"], counts["x"]) == (100, 1)
    assert counts["parent"] == queue.count_jobs()["pending"] - 100


@pytest.fixture
def diary(tmp_path: Path) -> Diary:
    return Diary(tmp_path / "diary")


def test_a_child_that_looked_first_can_work_then(queue: Queue) -> None:
    """A process that has only asked for claims so far opens the file anew to take one."""
    queue.process_jobs({})
    queue.enqueue("x", {})

    def child() -> None:
        assert not queue.engine.claims.is_held(b"a1")
        assert queue.process_jobs({"x": bool}).completed == 1

    assert in_child(child) == 0


def test_a_claim_stays_with_the_parent(queue: Queue) -> None:
    """A forked child neither holds its parent's claims nor drops them when it ends."""
    queue.enqueue("x", {})

    def handler(payload: Any) -> list[int]:
        def child() -> None:
            assert queue.process_jobs({"x": bool}) == Summary()

        return [in_child(child) for _ in range(3)]

    assert queue.process_jobs({"x": handler}) == Summary(completed=1)
    assert json.loads(columns(queue)[0][8]) == [0, 0, 0]


def test_a_queue_is_cheap_to_make(tmp_path: Path) -> None:
    """Making one opens and creates nothing, and what is gone leaves no descriptor behind."""
    gc.collect()  # what earlier tests have left
    before = len(os.listdir("/proc/self/fd"))
    queues = [Queue(tmp_path / "queue.tsv") for _ in range(1000)]
    assert list(tmp_path.iterdir()) == []
    assert len(os.listdir("/proc/self/fd")) == before
    for queue in queues[:100]:
        queue.enqueue("x", {})
        queue.process_jobs({"x": bool})
    del queue, queues
    assert len(os.listdir("/proc/self/fd")) <= before + 1


def test_a_queue_that_outlives_its_program_ends_quietly(path: Path) -> None:
    """Held by what Python clears last, it is not closed with what is cleared already."""
    code = (
        "import os, sys; from dbbasic_queue import Queue; queue = Queue(sys.argv[1], 'normal');"
        " queue.enqueue('x', {}); queue.process_jobs({'x': bool}); os.kept = lambda: queue"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
