"""`dbq run`: all that a config says, in one process; as process 1, too."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_app import dbq, queue_of, start, wait_for
from redis_server import RedisServer

from dbbasic_queue import Queue

CONFIG = """
name = "shop"
[queue]
file = "data/queue.tsv"
durability = "normal"
[worker]
handlers = "jobs:HANDLERS"
"""
SCHEDULED = """
[[recurring]]
name = "often"
type = "note"
schedule = "* * * * *"
[prune]
schedule = "* * * * *"
completed = "1s"
[health]
schedule = "* * * * *"
textfile = "data/shop.prom"
"""
JOBS = """
import os, subprocess, time
from pathlib import Path
from dbbasic_queue import current_job

HERE = Path(__file__).parent

def note(payload):
    with open(HERE / "noted", "a") as file:
        file.write(current_job().id + "\\n")

def slow(payload):
    (HERE / "running").touch()
    end = time.monotonic() + payload["seconds"]
    while time.monotonic() < end:
        time.sleep(0.01)
    return os.getpid()

def orphan(payload):
    subprocess.run(["sh", "-c", "sleep 0.3 & echo $! > orphan"], cwd=HERE)

def states(payload):
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = path.read_text()
        except OSError:
            continue
        found[path.parent.name] = text.rpartition(")")[2].split()[0]
    return found

def version(payload):
    return 1

HANDLERS = {"note": note, "slow": slow, "orphan": orphan, "states": states, "version": version}
"""
IN_A_NAMESPACE = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")


class Running:
    """A `dbq run` of its own, in a group of its own; what it prints is in a file."""

    def __init__(self, folder: Path, *options: str, within: tuple[str, ...] = ()) -> None:
        self.output = folder / f"output{len(list(folder.glob('output*')))}"
        words = [sys.executable, "-m", "dbbasic_queue", "run", "--config", "dbq.toml", *options]
        with self.output.open("w") as file:
            self.process = subprocess.Popen(
                [*within, *words],
                cwd=folder,
                stdout=file,
                stderr=file,
                env={k: v for k, v in os.environ.items() if not k.startswith("DBQ_")},
                start_new_session=True,
            )
        self.pid = self.process.pid
        if within:
            children = Path(f"/proc/{self.pid}/task/{self.pid}/children")
            wait_for(lambda: children.read_text().split())
            self.pid = int(children.read_text().split()[0])

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send it a signal when it hears them, and wait for its end; returns the exit code."""
        wait_for(self._hears_sigterm)
        os.kill(self.pid, number)
        return self.process.wait(60)

    def _hears_sigterm(self) -> bool:
        """Whether it has got as far as to end in order: proc_pid_status(5)."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        caught = int(status.partition("SigCgt:")[2].split()[0], 16)
        return bool(caught >> (signal.SIGTERM - 1) & 1)


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A folder with a config and handlers."""
    (tmp_path / "dbq.toml").write_text(CONFIG)
    (tmp_path / "jobs.py").write_text(JOBS)
    return tmp_path


@pytest.fixture
def runs(shop: Path) -> Iterator[list[Running]]:
    """What a test has started, ended in any case."""
    started: list[Running] = []
    yield started
    for each in started:
        if each.process.poll() is None:
            each.process.kill()
            each.process.wait()


def result_of(folder: Path, job_type: str) -> object:
    """What a new job of this type results in."""
    queue = queue_of(folder)
    job_id = queue.enqueue(job_type, {})
    wait_for(lambda: queue.get_job(job_id)["status"] == "completed")
    return queue.get_job(job_id)["result"]


def is_gone(pid: int) -> bool:
    """Whether there is no such process; a zombie counts as gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes a namespace of processes")
def test_as_process_1_beside_another_one(shop: Path, runs: list[Running]) -> None:
    """Jobs, recurring, prune and health happen, once; orphans are reaped; TERM ends it in order.

    In a namespace of processes of its own, where it is process 1, as in a container.
    """
    (shop / "dbq.toml").write_text(CONFIG + SCHEDULED)
    old = queue_of(shop).enqueue("version", {})
    runs.append(Running(shop, within=IN_A_NAMESPACE))
    queue = queue_of(shop)
    wait_for(lambda: queue.get_job(old)["status"] == "completed")
    result_of(shop, "orphan")
    orphan = (shop / "orphan").read_text().strip()
    wait_for(lambda: orphan not in result_of(shop, "states"))
    states = result_of(shop, "states")
    assert "1" in states
    assert "Z" not in states.values()
    runs.append(Running(shop))  # in the machine's own namespace
    wait_for(lambda: queue.get_job(old) is None, seconds=130)
    wait_for((shop / "data/shop.prom").exists, seconds=130)
    wait_for((shop / "noted").exists, seconds=130)
    noted = (shop / "noted").read_text().split()
    assert sorted(set(noted)) == sorted(noted)
    assert runs[1].end() == 0
    job_id = queue.enqueue("slow", {"seconds": 1})
    wait_for((shop / "running").exists)
    assert runs[0].end() == 0
    assert queue.get_job(job_id)["status"] == "completed"
    assert "Traceback" not in runs[0].output.read_text() + runs[1].output.read_text()


def test_two_at_once_keep_to_the_places(shop: Path, runs: list[Running]) -> None:
    """A second one waits for a place, and has it when the first has ended."""
    runs.append(Running(shop))
    first = result_of(shop, "states")
    runs.append(Running(shop))
    wait_for(lambda: "this one waits for a place" in runs[1].output.read_text())
    queue = queue_of(shop)
    job_id = queue.enqueue("slow", {"seconds": 0.5})
    wait_for((shop / "running").exists)
    assert runs[0].end() == 0
    assert queue.get_job(job_id)["status"] == "completed"
    assert result_of(shop, "version") == 1
    assert runs[1].end() == 0
    assert first


def test_the_second_signal_and_the_grace(shop: Path, runs: list[Running]) -> None:
    """Each puts the job in hand back, its attempt refunded."""
    queue = queue_of(shop)
    job_id = queue.enqueue("slow", {"seconds": 600})
    for options in (("--grace", "1s"), ()):
        (shop / "running").unlink(missing_ok=True)
        runs.append(Running(shop, *options))
        wait_for((shop / "running").exists)
        if not options:
            os.kill(runs[-1].pid, signal.SIGINT)
            wait_for(lambda: "ends when the jobs in hand have" in runs[-1].output.read_text())
        assert runs[-1].end() == 0
        job = queue.get_job(job_id)
        assert (job["status"], job["attempts"]) == ("pending", 0)


def test_two_signals_at_once_are_two(shop: Path, runs: list[Running]) -> None:
    """The kernel gives a process one of two that are alike; the worker hears of both."""
    queue = queue_of(shop)
    job_id = queue.enqueue("slow", {"seconds": 600})
    runs.append(Running(shop))
    wait_for((shop / "running").exists)
    os.kill(runs[0].pid, signal.SIGINT)
    assert runs[0].end() == 0
    assert queue.get_job(job_id)["status"] == "pending"


def test_ctrl_c_reaches_it_alone(shop: Path, runs: list[Running]) -> None:
    """The terminal's signal to the whole group is one signal for the job in hand."""
    queue = queue_of(shop)
    job_id = queue.enqueue("slow", {"seconds": 1})
    runs.append(Running(shop))
    wait_for((shop / "running").exists)
    os.killpg(runs[0].pid, signal.SIGINT)
    assert runs[0].process.wait(60) == 0
    assert queue.get_job(job_id)["status"] == "completed"


def test_new_code_is_loaded(shop: Path, runs: list[Running]) -> None:
    """--reload: after a change of a .py file the next job runs the new code; so does SIGHUP."""
    runs.append(Running(shop, "--reload"))
    assert result_of(shop, "version") == 1
    (shop / "jobs.py").write_text(JOBS.replace("return 1", "return 22"))
    wait_for(lambda: "a file has changed: the workers are started anew" in said(runs[0]))
    wait_for(lambda: result_of(shop, "version") == 22)
    before = result_of_slow(shop)
    os.kill(runs[0].pid, signal.SIGHUP)
    wait_for(lambda: result_of_slow(shop) != before)
    assert runs[0].end() == 0


def said(run: Running) -> str:
    return run.output.read_text()


def result_of_slow(shop: Path) -> object:
    """The process id of the worker."""
    queue = queue_of(shop)
    job_id = queue.enqueue("slow", {"seconds": 0})
    wait_for(lambda: queue.get_job(job_id)["status"] == "completed")
    return queue.get_job(job_id)["result"]


def test_dbq_restart_begins_all_of_it_anew(shop: Path, runs: list[Running]) -> None:
    """By one process, which stays: new code, a new config; --wait returns when that is so."""
    runs.append(Running(shop))
    before = result_of_slow(shop)
    job_id = queue_of(shop).enqueue("slow", {"seconds": 1})
    wait_for(lambda: queue_of(shop).get_job(job_id)["status"] == "processing")
    (shop / "other.py").write_text(JOBS.replace("return 1", "return 22"))
    (shop / "dbq.toml").write_text(CONFIG.replace("jobs:", "other:"))
    done = dbq("restart", "--wait", "--timeout", "60s", cwd=shop)
    assert (done.returncode, done.stdout) == (0, "no worker is left that began before\n")
    assert queue_of(shop).get_job(job_id)["result"] == before
    assert result_of(shop, "version") == 22
    wait_for(lambda: said(runs[0]).count("runs shop: worker") == 2)
    assert runs[0].end() == 0


def test_a_link_that_leads_to_a_new_release(tmp_path: Path, runs: list[Running]) -> None:
    """After a deployment the next job runs the new code, without a word to the workers."""
    for number in ("1", "2"):
        folder = tmp_path / number
        folder.mkdir()
        config = CONFIG.replace("data/queue.tsv", str(tmp_path / "data/queue.tsv"))
        (folder / "dbq.toml").write_text(config)
        (folder / "jobs.py").write_text(JOBS.replace("return 1", f"return {number}"))
    link = tmp_path / "current"
    link.symlink_to("1")
    worker = start("work", "--config", str(link / "dbq.toml"), "--linger", "10min", cwd=tmp_path)
    assert result_of(tmp_path, "version") == 1
    (tmp_path / "next").symlink_to("2")
    (tmp_path / "next").rename(link)
    assert worker.wait(60) == 0
    assert f"/dbq.toml leads to {tmp_path}/2/dbq.toml now" in worker.communicate()[1]
    runs.append(Running(link))
    assert result_of(tmp_path, "version") == 2


def test_a_process_is_recycled(shop: Path, runs: list[Running]) -> None:
    """[worker].max_jobs and max_age are for workers that run all the time."""
    (shop / "dbq.toml").write_text(CONFIG + "max_jobs = 1\n")
    queue = queue_of(shop)
    ids = queue.enqueue_many([("slow", {"seconds": 0})] * 3)
    dbq("work", cwd=shop)
    assert len({queue.get_job(each)["result"] for each in ids}) == 1
    runs.append(Running(shop))
    assert result_of_slow(shop) != result_of_slow(shop)
    assert runs[0].end() == 0
    (shop / "dbq.toml").write_text(CONFIG + 'max_age = "1s"\n')
    runs.append(Running(shop))
    first = result_of_slow(shop)
    wait_for(lambda: result_of_slow(shop) != first)


def test_restart_says_how_it_stands(shop: Path) -> None:
    """Without --wait it asks and returns; a wait that takes too long ends with 3."""
    queue = queue_of(shop)
    assert dbq("restart", cwd=shop).returncode == 2
    queue.enqueue("slow", {"seconds": 3})
    assert dbq("restart", cwd=shop).stdout == "no worker is left that began before\n"
    worker = start("work", "--linger", "10min", cwd=shop)
    wait_for((shop / "running").exists)
    assert dbq("restart", cwd=shop).stdout == "workers that are at work end between two jobs\n"
    done = dbq("restart", "--wait", "--timeout", "0s", cwd=shop)
    assert (done.returncode, done.stdout) == (3, "")
    assert dbq("restart", "--timeout", "1s", cwd=shop).returncode == 2
    assert worker.wait(60) == 0


def test_a_worker_that_is_killed_is_started_again(shop: Path, runs: list[Running]) -> None:
    """And when `dbq run` itself is killed, its worker ends, too."""
    runs.append(Running(shop))
    worker = int(str(result_of_slow(shop)))
    os.kill(worker, signal.SIGKILL)
    again = int(str(result_of_slow(shop)))
    assert again != worker
    assert "worker ended with exit status -9: it is started again" in said(runs[0])
    runs[0].process.kill()
    wait_for(lambda: is_gone(again))


def test_the_log_is_on_standard_output(shop: Path, runs: list[Running]) -> None:
    """Also that of the workers, whatever the config's [log] says; as JSON if asked for."""
    (shop / "dbq.toml").write_text(CONFIG + '[log]\nfile = "data/own.log"\n')
    runs.append(Running(shop, "--log-format", "json"))
    result_of(shop, "version")
    wait_for(lambda: '"event": "completed"' in said(runs[0]))
    assert runs[0].end() == 0
    assert not (shop / "data/own.log").exists()


def test_a_config_that_has_all_off_is_told(shop: Path, runs: list[Running]) -> None:
    """It runs on, as a container that ends is started again and again."""
    (shop / "dbq.toml").write_text(
        'name = "shop"\n[queue]\nfile = "data/queue.tsv"\n'
        '[worker]\nhandlers = "jobs:HANDLERS"\nenabled = false\n'
    )
    runs.append(Running(shop))
    wait_for(lambda: "runs shop: nothing, as the config has all of it off" in said(runs[0]))
    assert runs[0].end() == 0


def test_on_a_server(shop: Path, runs: list[Running], server: RedisServer) -> None:
    """The same where the queue is on a server."""
    url = server.url(f"run{os.getpid()}", "secret")
    config = CONFIG.replace('file = "data/queue.tsv"', f'url = "{url}"')
    (shop / "dbq.toml").write_text(config)
    runs.append(Running(shop))
    queue = Queue(url)
    job_id = queue.enqueue("slow", {"seconds": 0.5})
    wait_for((shop / "running").exists)
    assert runs[0].end() == 0
    assert queue.get_job(job_id)["status"] == "completed"


def test_a_fault_in_the_config_ends_it(shop: Path) -> None:
    """With 2, before anything is started."""
    (shop / "dbq.toml").write_text("name = 5\n")
    done = subprocess.run(
        [sys.executable, "-m", "dbbasic_queue", "run"],
        cwd=shop,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "[queue].file: is missing" in done.stderr
