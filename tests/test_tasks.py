"""Typed tasks: what is enqueued, what runs, and what type checkers say."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import sys
from collections import ChainMap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from actors import AT_ONCE

import dbbasic_queue
from dbbasic_queue import InvalidJob, Policy, Queue
from dbbasic_queue.integrations.wrapping import Around
from dbbasic_queue.tasks import Task, Tasks
from dbbasic_queue.worker.handlers import load

# Each line that a type checker is to refuse ends so.
WRONG = "# wrong"
TYPED = """
from dbbasic_queue import Queue
from dbbasic_queue.tasks import Tasks

tasks = Tasks(Queue("queue.tsv"))


@tasks.task(max_attempts=5, unique="greet-{name}")
def greet(name: str, times: int = 1) -> str:
    return f"Hello {name}! " * times


@tasks.task
async def fetch(url: str, *, retries: int) -> bytes:
    return b""


job_id: str = greet.enqueue("Zoë", times=2)
text: str = greet("Zoë")
greet.options(run_at=2_000_000_000).enqueue(name="Zoë")


async def later() -> bytes:
    other: str = await greet.aenqueue("Zoë")
    await fetch.options(job_id=other).aenqueue("https://a.example", retries=3)
    return await fetch("https://a.example", retries=3)


Queue("queue.tsv").process_jobs(tasks)
greet.enqueue(17)  # wrong
greet.enqueue("Zoë", time=2)  # wrong
greet.enqueue()  # wrong
greet("Zoë", times="2")  # wrong
greet.options(run_at=0).enqueue(17)  # wrong
fetch.enqueue("https://a.example", 3)  # wrong
number: int = greet("Zoë")  # wrong


async def wrong() -> None:
    await fetch.aenqueue(url=1, retries=3)  # wrong
"""
CHECKERS = {
    "mypy": ["--strict", "--no-incremental", "--cache-dir=/dev/null", "--no-error-summary"],
    "pyright": [],
}


@pytest.fixture
def tasks(queue: Queue) -> Tasks:
    return Tasks(queue)


@pytest.mark.parametrize("checker", sorted(CHECKERS))
def test_a_wrong_argument_is_found_before_it_runs(checker: str, tmp_path: Path) -> None:
    """mypy --strict and pyright refuse each wrong call, and nothing else."""
    program = Path(sys.executable).with_name(checker)
    if not program.exists() or (checker == "pyright" and shutil.which("npm") is None):
        pytest.skip(f"{checker} is not installed")
    (tmp_path / "typed.py").write_text(TYPED)
    (tmp_path / "dbbasic_queue").symlink_to(Path(dbbasic_queue.__file__).parent)
    (tmp_path / "pyrightconfig.json").write_text('{"typeCheckingMode": "strict"}')
    command = [str(program), *CHECKERS[checker], "typed.py"]
    if checker == "pyright":
        command[1:1] = ["--pythonpath", sys.executable]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    found = {int(n) for n in re.findall(r"typed\.py:(\d+)(?::\d+)?(?: -)?:? error", done.stdout)}
    wanted = {n for n, line in enumerate(TYPED.split("\n"), 1) if line.endswith(WRONG)}
    assert found == wanted, done.stdout + done.stderr


def test_a_payload_has_each_argument_by_its_name(queue: Queue, tasks: Tasks) -> None:
    """However an argument is given, it is in the payload under its name; defaults are not."""

    @tasks.task
    def greet(name: str, times: int = 1) -> str:
        return f"Hello {name}!" * times

    ids = [greet.enqueue("Zoë", times=2), greet.enqueue(name="Ben")]
    payloads = [job["payload"] for job in queue.list_jobs()]
    assert payloads == [{"name": "Zoë", "times": 2}, {"name": "Ben"}]
    assert queue.process_jobs(tasks).completed == 2
    assert queue.get_job(ids[0])["result"] == "Hello Zoë!Hello Zoë!"
    assert greet("Zoë") == "Hello Zoë!"


def test_arguments_of_every_kind_come_back_as_they_were(queue: Queue, tasks: Tasks) -> None:
    """Positional-only ones, `*args` and `**kwargs` are handed over as they were given."""
    seen: list[Any] = []

    @tasks.task
    def take(first: int, /, second: int, *rest: int, key: int = 4, **more: int) -> None:
        seen.append((first, second, rest, key, more))

    take.enqueue(1, 2, 3, 3, key=5, other=6)
    take.enqueue(1, second=2)
    queue.enqueue("take", {"first": 1, "second": 2, "third": 3})
    queue.enqueue("take", {"second": 2})
    assert queue.process_jobs(tasks, 1).failed == 2
    assert seen == [(1, 2, (3, 3), 5, {"other": 6}), (1, 2, (), 4, {})]
    errors = [str(job["error"]) for job in queue.list_jobs(status="failed")]
    assert errors[0].startswith("TypeError: take() has no argument 'third'")
    assert "TypeError: " in errors[1]


def test_arguments_are_refused_where_they_are_given(queue: Queue, tasks: Tasks) -> None:
    """What the function does not take, or JSON cannot hold, is not enqueued."""

    @tasks.task(unique=True)
    def greet(name: Any) -> None:
        pass

    with pytest.raises(TypeError, match="missing a required argument: 'name'"):
        greet.enqueue()  # type: ignore[call-arg]
    with pytest.raises(InvalidJob):
        greet.enqueue(object())
    assert not list(queue.list_jobs())


def test_coroutine_functions_are_tasks(queue: Queue, tasks: Tasks) -> None:
    """A coroutine function is run to its end, and can be enqueued by a coroutine."""

    @tasks.task
    async def double(number: int) -> int:
        await asyncio.sleep(0)
        return 2 * number

    job_id = asyncio.run(double.aenqueue(21))
    other = asyncio.run(double.options(job_id="other").aenqueue(4))
    assert queue.process_jobs(tasks).completed == 2
    assert queue.get_job(job_id)["result"] == 42
    assert (other, queue.get_job("other")["result"]) == ("other", 8)


def test_one_job_for_the_same_arguments(queue: Queue, tasks: Tasks) -> None:
    """`unique=True` adds one job for the same arguments; another one after it has ended."""

    @tasks.task(unique=True)
    def sync(customer: int, deep: bool = False) -> None:
        pass

    @tasks.task(unique=True, name="sync-2")
    def sync_again(customer: int, deep: bool = False) -> None:
        pass

    first = sync.enqueue(17)
    assert sync.enqueue(customer=17) == first
    others = {sync.enqueue(18), sync.enqueue(17, deep=True), sync_again.enqueue(17)}
    assert len(others | {first}) == 4
    queue.process_jobs(tasks)
    assert sync.enqueue(17) != first


def test_one_job_for_a_text_of_arguments(queue: Queue, tasks: Tasks) -> None:
    """`unique="sync-{customer}"` counts the arguments that it names, with their defaults."""

    @tasks.task(unique="sync-{customer}-{region}", unique_until="start")
    def sync(customer: int | str, region: str = "eu", deep: bool = False) -> None:
        pass

    first = sync.enqueue(17)
    assert sync.enqueue(17, "eu", deep=True) == first
    assert sync.enqueue(17, "us") != first
    assert sync.enqueue("Zoë & Ben's") == sync.enqueue("Zoë & Ben's") != sync.enqueue("Zoë + Ben's")
    assert sync.enqueue("x" * 99) == sync.enqueue("x" * 99) != sync.enqueue("x" * 98)
    assert sync.options(unique="mine").enqueue(17) not in (first, None)
    assert sync.options(job_id="own").enqueue(17) == "own"


def test_options_are_those_of_enqueue(queue: Queue, tasks: Tasks) -> None:
    """A time and an id are given for one call, and stay with it."""

    @tasks.task
    def greet(name: str) -> None:
        pass

    greet.options(run_at=2_000_000_000, job_id="later").enqueue("Zoë")
    greet.enqueue("Ben")
    job = queue.get_job("later")
    assert (job["run_at"], job["payload"]) == (2_000_000_000, {"name": "Zoë"})
    assert queue.process_jobs(tasks).completed == 1


def test_a_type_is_one_task(tasks: Tasks) -> None:
    """A second task of a type is refused, and so are names and options that make no sense."""

    @tasks.task
    def greet(name: str) -> None:
        pass

    with pytest.raises(ValueError, match="is the task greet already"):
        tasks.task(name="greet")(lambda: None)
    with pytest.raises(InvalidJob):
        tasks.task(name="two words")(lambda: None)
    with pytest.raises(ValueError, match="max_attempts 0: must be 1 or more"):
        tasks.task(max_attempts=0)
    with pytest.raises(ValueError, match=r"\{nme\} is not an argument; there are: name"):
        tasks.task(unique="greet-{nme}", name="other")(greet.function)
    assert list(tasks) == ["greet"]


def test_tasks_are_handlers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`MODULE:tasks` is what a worker takes, as a dict of functions is."""
    (tmp_path / "typed_jobs.py").write_text(
        "from dbbasic_queue.tasks import Tasks\n"
        "tasks = Tasks()\n"
        "@tasks.task\n"
        "def greet(name: str) -> str:\n"
        '    "Greets."\n'
        '    return f"Hello {name}"\n'
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    handlers = load("typed_jobs:tasks", str(tmp_path))
    assert handlers["greet"]({"name": "Zoë"}) == "Hello Zoë"
    greet = sys.modules["typed_jobs"].greet
    assert isinstance(greet, Task)
    assert (greet.__name__, greet.__doc__, repr(greet)) == ("greet", "Greets.", "<task greet>")
    queue = Queue("data/queue.tsv")
    greet.enqueue("Zoë")  # of no queue in particular: the default one
    assert queue.process_jobs(handlers, backoff=AT_ONCE).completed == 1


def test_a_task_says_how_often_it_is_tried(queue: Queue, tasks: Tasks) -> None:
    """In the code, for a worker of any kind; what the worker is told of that type comes first."""

    @tasks.task(max_attempts=1, backoff=lambda attempts: 0)
    def once() -> None:
        raise ConnectionError

    @tasks.task
    def often() -> None:
        raise ConnectionError

    @tasks.task(max_attempts=2, backoff=lambda attempts: 0)
    def twice() -> None:
        raise ConnectionError

    for job_type in ("once", "often", "twice", "twice"):
        queue.enqueue(job_type, {})
    together = ChainMap({"other": print}, tasks)  # as several modules are
    assert queue.process_jobs(OneByOne(together), backoff=AT_ONCE).failed == 4
    assert [job["attempts"] for job in queue.list_jobs()] == [1, 3, 2, 2]
    queue.enqueue("twice", {})
    policies = {"twice": Policy(max_attempts=4), "o*": Policy(max_attempts=5)}
    assert queue.process_jobs(tasks, policies=policies).failed == 1
    assert [job["attempts"] for job in queue.list_jobs()][-1] == 4


class OneByOne(Around):
    """A wrapper that does nothing."""

    @contextmanager
    def around(self, job_type: str, payload: Any) -> Iterator[Any]:
        """Nothing."""
        yield payload


def test_a_task_that_kills_its_worker_is_tried_as_often_as_it_says(tmp_path: Path) -> None:
    """Where one of several processes dies, the jobs that it leaves go by their own policy."""
    (tmp_path / "deadly.py").write_text(
        "import os\n"
        "from dbbasic_queue.tasks import Tasks\n"
        "tasks = Tasks()\n"
        "@tasks.task(max_attempts=1)\n"
        "def die() -> None:\n"
        "    os._exit(3)\n"
    )
    queue = Queue(tmp_path / "data" / "queue.tsv")
    job_id = queue.enqueue("die", {})
    words = ["work", "deadly:tasks", "--concurrency", "2", "--file", str(queue.path)]
    done = subprocess.run(
        [sys.executable, "-m", "dbbasic_queue", *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2, done.stderr
    job = queue.find_job(job_id)
    assert job is not None
    assert (job.status, job.attempts) == ("failed", 1)
