"""E: workers that die, freeze, or are cut off."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
from actors import AT_ONCE, Diary, die, in_child, start
from redis_server import RedisServer

from dbbasic_queue import Queue, Summary, current_job
from dbbasic_queue.engines import open_engine
from dbbasic_queue.job import Job

KILLS = int(os.environ.get("DBQ_KILLS", "200"))
LEASE = 2.0
WAIT = 120  # seconds until what has to happen has happened


def until(happened: Callable[[], Any]) -> Any:
    """Wait until something is so; what it is."""
    end = time.monotonic() + WAIT
    while time.monotonic() < end:
        found = happened()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError("it has not happened")


def queue_at(address: str, lease: float = 60) -> Queue:
    """A queue with such a lease."""
    queue = Queue(address, "normal")
    if queue.engine.path is None:
        queue.engine = open_engine(address, "normal", lease=lease)
    return queue


def work(address: str, diary: Diary, lease: float = 60, attempts: int = 1000) -> None:
    """Work until killed; each job writes when it begins and when it ends."""

    def run(payload: dict[str, Any]) -> str:
        job = current_job()
        diary.add("begin", job.id)
        end = time.monotonic() + payload.get("seconds", 0)
        while time.monotonic() < end:
            time.sleep(0.01)
        if payload.get("die"):
            os.kill(os.getpid(), signal.SIGKILL)
        diary.add("end", job.id)
        return f"by {os.getpid()}"

    queue_at(address, lease).process_jobs({"x": run}, attempts, linger=10**6, backoff=AT_ONCE)


@contextmanager
def workers(count: int, *args: Any) -> Iterator[list[BaseProcess]]:
    """Some workers, killed in the end."""
    processes = [start(work, *args) for _ in range(count)]
    try:
        yield processes
    finally:
        for process in processes:
            with suppress(ProcessLookupError):
                os.kill(process.pid or 0, signal.SIGCONT)
            process.kill()
            process.join()


def begun(diary: Diary, job_id: str) -> int:
    return diary.count()[f"begin {job_id}"]


def status(queue: Queue, job_id: str) -> str:
    job = queue.get_job(job_id)
    assert job is not None
    return str(job["status"])


def test_a_job_whose_worker_is_killed_runs_once_more(
    queue: Queue, address: str, tmp_path: Path
) -> None:
    """With its attempt counted: at once on the same host."""
    diary = Diary(tmp_path / "diary")
    job_id = queue.enqueue("x", {"seconds": 1})
    with workers(1, address, diary) as (first,):
        until(lambda: begun(diary, job_id))
        first.kill()
        first.join()
        with workers(1, address, diary):
            until(lambda: status(queue, job_id) == "completed")
    job = queue.get_job(job_id)
    assert job is not None
    assert (job["attempts"], begun(diary, job_id)) == (2, 2)


def test_a_job_that_kills_each_worker_ends_failed(
    queue: Queue, address: str, tmp_path: Path
) -> None:
    """After as many attempts as any other."""
    diary = Diary(tmp_path / "diary")
    job_id = queue.enqueue("x", {"die": True})
    for _ in range(4):
        if status(queue, job_id) == "failed":
            break
        process = start(work, address, diary, 60, 3)
        until(lambda process=process: not process.is_alive() or status(queue, job_id) == "failed")
        process.kill()
        process.join()
    job = queue.get_job(job_id)
    assert job is not None
    assert (job["status"], job["attempts"], begun(diary, job_id)) == ("failed", 3, 3)
    assert job["error"].startswith("WorkerDied: ")


class Told(dict[str, Any]):
    """Handlers that keep what they are told of jobs that ended with their workers."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.told: list[tuple[str, str, int, str]] = []

    def worker_died(self, job: Job) -> None:
        """Keep it, and fail."""
        self.told.append((job.id, job.status, job.attempts, (job.error or "").partition(":")[0]))
        raise ValueError("a receiver that fails does no harm")


def test_handlers_are_told_of_a_job_that_ended_with_its_worker(queue: Queue) -> None:
    """By the worker that takes it back: when no attempt follows, and once."""
    job_id = queue.enqueue("x", {})
    handlers = Told({"x": die})

    def work(limit: int | None = None) -> Summary:
        return queue.process_jobs(handlers, 2, limit=limit, backoff=AT_ONCE)

    for _ in range(2):
        assert handlers.told == []
        until(lambda: in_child(work) == -signal.SIGKILL)
        until(lambda: work(limit=0).rescued)
    work()
    assert handlers.told == [(job_id, "failed", 2, "WorkerDied")]


def produce(address: str, diary: Diary) -> None:
    """Enqueue until killed; each acknowledged job is written down, and each batch as a whole."""
    queue, number = Queue(address, "normal"), 0
    while True:
        number += 1
        if number % 20 == 0:
            ids = queue.enqueue_many([("x", {"n": n}) for n in range(20)])
            diary.add(*[f"acked {job_id}" for job_id in ids])
        elif number % 5 == 0:
            key = f"key-{os.getpid()}-{number}"
            queue.enqueue("x", {"n": number}, job_id=key)
            queue.enqueue("x", {"n": number}, job_id=key)
            diary.add("acked", key)
        else:
            diary.add("acked", queue.enqueue("x", {"n": number}))
        time.sleep(0.005)


def test_random_kills_lose_no_job_and_repeat_at_most_one_each(
    queue: Queue, address: str, tmp_path: Path, figure: Callable[..., None]
) -> None:
    """Of four workers and a producer, one is killed every now and then."""
    diary, acks, random_ = Diary(tmp_path / "diary"), Diary(tmp_path / "acks"), random.Random(15)
    people = [start(work, address, diary) for _ in range(4)] + [start(produce, address, acks)]
    kills = 0
    try:
        while kills < KILLS:
            time.sleep(random_.uniform(0.05, 0.3))
            place = random_.randrange(5)
            people[place].kill()
            people[place].join()
            people[place] = (
                start(work, address, diary) if place < 4 else start(produce, address, acks)
            )
            kills += place < 4
        people[4].kill()
        people[4].join()
        until(lambda: sum(queue.count_jobs()[state] for state in ("pending", "processing")) == 0)
    finally:
        for process in people:
            process.kill()
            process.join()
    acked = {word for word in " ".join(acks.lines()).split() if word != "acked"}
    counts = diary.count()
    begins = {line[6:]: n for line, n in counts.items() if line.startswith("begin ")}
    ends = {line[4:]: n for line, n in counts.items() if line.startswith("end ")}
    never, twice = acked - ends.keys(), sum(n - 1 for n in begins.values())
    figure(
        kills=kills,
        jobs=len(begins),
        never_run=len(never),
        begun_again=twice,
        ended_twice=sum(n - 1 for n in ends.values()),
    )
    assert not never
    assert twice <= kills
    assert queue.count_jobs()["completed"] == len(begins)
    assert len(acked) > kills


# -- on a server only ------------------------------------------------------------------------------


@pytest.fixture
def on_server(server: RedisServer, request: pytest.FixtureRequest) -> str:
    """A queue on a server."""
    return server.url(f"e{os.getpid()}-{abs(hash(request.node.name)) % 10**6}")


def test_a_frozen_worker_is_overtaken_and_fenced(on_server: str, tmp_path: Path) -> None:
    """Its job is begun by another once its lease is over; it goes on when it is let."""
    queue, diary = Queue(on_server, "normal"), Diary(tmp_path / "diary")
    job_id = queue.enqueue("x", {"seconds": 1})
    with workers(1, on_server, diary, LEASE) as (first,):
        until(lambda: begun(diary, job_id))
        os.kill(first.pid or 0, signal.SIGSTOP)
        with workers(1, on_server, diary, LEASE) as (second,):
            until(lambda: status(queue, job_id) == "completed")
            os.kill(first.pid or 0, signal.SIGCONT)
            until(lambda: diary.count()[f"end {job_id}"] == 2)
            second.kill()
            second.join()
            other = queue.enqueue("x", {})
            until(lambda: status(queue, other) == "completed")
            job = queue.get_job(job_id)
    assert job is not None
    assert (job["attempts"], job["result"]) == (2, f"by {second.pid}")


def test_a_job_longer_than_the_lease_is_not_overtaken(on_server: str, tmp_path: Path) -> None:
    """While its worker renews it."""
    queue, diary = Queue(on_server, "normal"), Diary(tmp_path / "diary")
    job_id = queue.enqueue("x", {"seconds": 10 * LEASE})
    with workers(3, on_server, diary, 4 * LEASE):
        until(lambda: status(queue, job_id) == "completed")
    assert begun(diary, job_id) == 1


ELSEWHERE = """
import os, sys, time
from pathlib import Path
from dbbasic_queue.engines import open_engine
seat = open_engine(sys.argv[1], "normal", lease=float(sys.argv[2])).seat()
while seat.turn() is None:
    seat.wait(0.1)
print("begun", flush=True)
time.sleep(600)
"""


def test_a_worker_that_dies_elsewhere_is_noticed_by_its_lease(
    on_server: str, tmp_path: Path
) -> None:
    """In another container, whose processes cannot be asked about."""
    if os.geteuid():
        pytest.skip("another pid namespace takes root")
    queue, diary = Queue(on_server, "normal"), Diary(tmp_path / "diary")
    job_id = queue.enqueue("x", {})
    command = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", sys.executable]
    with subprocess.Popen(
        [*command, "-c", ELSEWHERE, on_server, str(2 * LEASE)], stdout=subprocess.PIPE
    ) as far:
        assert far.stdout is not None
        assert far.stdout.readline() == b"begun\n"
        (running,) = queue.engine.running()
        assert (running.alive, running.process) == (True, None)
        far.kill()
    seat = queue.engine.seat()
    assert seat is not None
    assert seat.rescue(3, AT_ONCE) == []  # not known to be dead
    seat.leave()
    with workers(1, on_server, diary):
        until(lambda: status(queue, job_id) == "completed")
    job = queue.get_job(job_id)
    assert job is not None
    assert job["attempts"] == 2


# -- another host ----------------------------------------------------------------------------------


class Host:
    """A host of its own, as far as the network goes: a namespace with a wire to this one."""

    def __init__(self) -> None:
        self.name = f"dbq{os.getpid()}"
        self.here, self.there = f"10.231.{os.getpid() % 250}.1", f"10.231.{os.getpid() % 250}.2"

    def __enter__(self) -> Host:
        near, far = f"{self.name}a", f"{self.name}b"
        for command in (
            f"ip netns add {self.name}",
            f"ip link add {near} type veth peer name {far} netns {self.name}",
            f"ip addr add {self.here}/30 dev {near}",
            f"ip link set {near} up",
            f"ip -n {self.name} addr add {self.there}/30 dev {far}",
            f"ip -n {self.name} link set {far} up",
        ):
            subprocess.run(command.split(), check=True, capture_output=True)
        return self

    def wire(self, state: str) -> None:
        """Cut the wire (`down`) or mend it (`up`): nothing is said to either end."""
        subprocess.run(["ip", "link", "set", f"{self.name}a", state], check=True)

    def __exit__(self, *error: object) -> None:
        subprocess.run(["ip", "netns", "del", self.name], check=False)


FAR_WORKER = """
import logging, sys
from dbbasic_queue import Queue
from dbbasic_queue.engines import open_engine
logging.basicConfig(stream=sys.stderr, level=logging.INFO)
queue = Queue(sys.argv[1], "normal")
queue.engine = open_engine(sys.argv[1], "normal", lease=2, lock_timeout=2)

def ask(payload):
    print("begun", payload["n"], flush=True)
    return sys.stdin.readline().strip()

queue.process_jobs({"x": ask}, linger=1000, limit=2)
"""


def test_a_worker_that_is_cut_off_is_overtaken_fenced_and_goes_on(
    server: RedisServer, tmp_path: Path
) -> None:
    """The packets of its host are lost, and come through again later."""
    if os.geteuid() or shutil.which("ip") is None:
        pytest.skip("a host of its own takes root and the command ip")
    diary = Diary(tmp_path / "diary")
    with (
        Host() as host,
        RedisServer(tmp_path / "redis", bind=f"127.0.0.1 {host.here}", protected_mode="no") as own,
    ):
        queue = Queue(own.url(), "normal")
        far = own.url().replace("127.0.0.1", host.here)
        first = queue.enqueue("x", {"n": 1})
        enter = ["ip", "netns", "exec", host.name, sys.executable, "-c", FAR_WORKER, far]
        said = tmp_path / "said"
        with (
            said.open("w") as err,
            subprocess.Popen(
                enter, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=err, text=True
            ) as worker,
        ):
            assert worker.stdin is not None
            assert worker.stdout is not None
            assert worker.stdout.readline() == "begun 1\n"
            host.wire("down")
            with workers(1, own.url(), diary, 2.0):
                until(lambda: status(queue, first) == "completed")
            worker.stdin.write("late\n")
            worker.stdin.flush()
            until(lambda: f"the outcome of {first} is kept" in said.read_text())
            second = queue.enqueue("x", {"n": 2})
            host.wire("up")
            assert worker.stdout.readline() == "begun 2\n"
            worker.communicate("in time\n", 60)
        for job_id, attempts in ((first, 2), (second, 1)):
            job = queue.get_job(job_id)
            assert job is not None
            assert (job["status"], job["attempts"]) == ("completed", attempts)
        assert job["result"] == "in time"
        assert f"not recorded: x {first} is completed now" in said.read_text()
