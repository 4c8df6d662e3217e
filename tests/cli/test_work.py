"""The command `dbq work`: its options, its log, its signals, its processes."""

from __future__ import annotations

import json
import signal
import sys
import time
from pathlib import Path

import pytest
from cli_app import Terminal, dbq, queue_of, start, wait_for

from dbbasic_queue.job import error_lines

# -- work ----------------------------------------------------------------------------------------


def test_work_drains_and_exits(app: Path) -> None:
    """work runs all that is due, logs a line an event on standard error, and exits 0."""
    queue = queue_of(app)
    queue.enqueue("ok", {"n": 1}, job_id="good")
    queue.enqueue("bad", {}, job_id="worse")
    queue.enqueue("ok", {}, time.time() + 1000, job_id="later")
    done = dbq("work", "jobs:HANDLERS", cwd=app)
    assert (done.returncode, done.stdout) == (0, "")
    assert queue.get_job("good")["result"] == {"n": 1}
    assert error_lines(queue.get_job("worse")["error"])[0] == "ValueError: no such user"
    assert queue.get_job("later")["status"] == "pending"
    for words in ("started ok good", "completed ok good", "retried bad worse", "done: 1 completed"):
        assert words in done.stderr
    assert dbq("work", "jobs:HANDLERS", cwd=app).stderr == ""


def test_work_logs_json_to_a_file(app: Path) -> None:
    """--log-file and --log-format json: each line of the file is an event."""
    queue_of(app).enqueue("bad", {}, job_id="b1")
    args = ("--log-file", "w.log", "--log-format", "json", "--max-attempts", "1")
    done = dbq("work", "jobs:HANDLERS", *args, cwd=app)
    assert done.stderr == ""
    events = [json.loads(line) for line in (app / "w.log").read_text().splitlines()]
    assert [event["event"] for event in events] == ["started", "failed", "done"]
    assert events[1]["job_id"] == "b1"
    assert "ValueError: no such user" in events[1]["traceback"]


def test_work_takes_only_some(app: Path) -> None:
    """--types, --limit and --skip-unknown leave the rest to others."""
    queue = queue_of(app)
    for n in range(3):
        queue.enqueue("ok", {}, job_id=f"o{n}")
    queue.enqueue("bad", {}, job_id="b")
    queue.enqueue("none", {}, job_id="n")
    dbq("work", "jobs:HANDLERS", "--types", "ok", "--limit", "2", cwd=app)
    assert queue.count_jobs()["completed"] == 2
    dbq("work", "jobs:HANDLERS", "--skip-unknown", "--types", "ok,none", cwd=app)
    assert queue.count_jobs()["completed"] == 3
    assert queue.get_job("n")["attempts"] == queue.get_job("b")["attempts"] == 0


def test_work_lingers(app: Path) -> None:
    """A lingering worker takes what is enqueued after it has started."""
    worker = start("work", "jobs:HANDLERS", "--linger", "30s", "--limit", "2", cwd=app)
    wait_for(lambda: (app / "data" / "queue.claims").exists())
    queue = queue_of(app)
    ids = [queue.enqueue("ok", {})]
    wait_for(lambda: queue.get_job(ids[0])["status"] == "completed")
    ids.append(queue.enqueue("ok", {}))
    assert worker.wait(20) == 0
    assert queue.get_job(ids[1])["status"] == "completed"


def test_work_fails_what_takes_too_long(app: Path) -> None:
    """--timeout ends a handler with JobTimeout."""
    queue = queue_of(app)
    queue.enqueue("slow", {"seconds": 60}, job_id="s")
    dbq("work", "jobs:HANDLERS", "--timeout", "1s", "--max-attempts", "1", cwd=app)
    assert queue.get_job("s")["error"].startswith("JobTimeout: ")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("crew", [[], ["--concurrency", "2"]])
def test_a_signal_lets_the_job_in_hand_finish(app: Path, number: int, crew: list[str]) -> None:
    """SIGTERM and SIGINT: the job in hand ends, no more are taken, exit 0."""
    queue = queue_of(app)
    busy = [queue.enqueue("slow", {"seconds": 1}) for _ in range(2 if crew else 1)]
    worker = start("work", "jobs:HANDLERS", "--linger", "60s", *crew, cwd=app)
    wait_for(lambda: queue.count_jobs()["processing"] == len(busy))
    wait_for((app / "running").exists)
    worker.send_signal(number)
    queue.enqueue("ok", {}, job_id="next")
    assert worker.wait(20) == 0
    assert {queue.get_job(job_id)["status"] for job_id in busy} == {"completed"}
    assert queue.get_job("next")["status"] == "pending"


@pytest.mark.parametrize("crew", [[], ["--concurrency", "2"]])
def test_a_second_signal_puts_the_job_back(app: Path, crew: list[str]) -> None:
    """The second signal breaks the job off: pending again, the attempt refunded."""
    queue = queue_of(app)
    queue.enqueue("slow", {"seconds": 60}, job_id="s")
    worker = start("work", "jobs:HANDLERS", *crew, cwd=app)
    wait_for((app / "running").exists)
    worker.send_signal(signal.SIGTERM)
    assert worker.stderr is not None
    for line in worker.stderr:  # heard: the kernel would merge two that come at once
        if "a second signal breaks it off" in line:
            break
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(20) == 0
    assert (queue.get_job("s")["status"], queue.get_job("s")["attempts"]) == ("pending", 0)


@pytest.mark.parametrize(
    ("crew", "finishing"), [([], "s"), (["--concurrency", "2"], "the jobs in hand")]
)
def test_ctrl_c_answers(app: Path, crew: list[str], finishing: str) -> None:
    """On a terminal the first one says what it lets finish, and what a second one would do."""
    queue = queue_of(app)
    queue.enqueue("slow", {"seconds": 60}, job_id="s")
    terminal = Terminal("work", "jobs:HANDLERS", *crew, cwd=app)
    wait_for((app / "running").exists)
    terminal.process.send_signal(signal.SIGINT)
    terminal.wait_for(f"dbq: finishing {finishing}; once more to break it off\n")
    terminal.process.send_signal(signal.SIGINT)
    terminal.read()
    assert terminal.process.wait() == 0
    assert (queue.get_job("s")["status"], queue.get_job("s")["attempts"]) == ("pending", 0)


def test_a_module_that_ends_the_program_at_import_is_a_fault(app: Path) -> None:
    """`dbq work` exits 2 and says where, whatever code the module wanted."""
    (app / "leaving.py").write_text("import sys\nHANDLERS = {}\nsys.exit(0)\n")
    done = dbq("work", "leaving:HANDLERS", cwd=app)
    assert done.returncode == 2
    assert "cannot load leaving:HANDLERS: SystemExit: 0" in done.stderr
    assert "leaving.py, line 3" in done.stderr


def test_the_log_outlives_what_a_handler_does_to_standard_error(app: Path) -> None:
    """Closed by one job, the log of the next is on standard error all the same."""
    (app / "closing.py").write_text(
        "import os, sys\n"
        "def closes(payload): sys.stderr.close(); os.close(2)\n"
        "def bad(payload): raise ValueError('boom')\n"
        "HANDLERS = {'closes': closes, 'bad': bad}\n"
    )
    queue = queue_of(app)
    queue.enqueue("closes", {})
    queue.enqueue("bad", {})
    done = dbq("work", "closing:HANDLERS", "--max-attempts", "1", cwd=app)
    assert "failed bad" in done.stderr
    assert "ValueError: boom" in done.stderr


@pytest.mark.parametrize("options", [(), ("--concurrency", "2"), ("--log-file", "worker.log")])
def test_a_handler_that_closes_every_descriptor_silences_nothing(
    app: Path, options: tuple[str, ...]
) -> None:
    """The log goes on where it was, no other file gets its lines, and the exit code is 0."""
    (app / "closing.py").write_text(
        "import os\n"
        "kept = []\n"
        "def closes(payload):\n"
        "    os.closerange(3, 65536)\n"
        "    kept.extend(open(f'kept{n}', 'w') for n in range(12))\n"
        "def bad(payload): raise ValueError('boom')\n"
        "HANDLERS = {'closes': closes, 'bad': bad}\n"
    )
    queue = queue_of(app)
    queue.enqueue_many([("closes", {}), ("bad", {}), ("closes", {}), ("bad", {})])
    done = dbq("work", "closing:HANDLERS", "--max-attempts", "1", *options, cwd=app)
    log = app / "worker.log"
    said = log.read_text() if log.exists() else done.stderr
    assert done.returncode == 0, done.stderr
    assert said.count("ValueError: boom") >= 2
    assert not any(file.read_bytes() for file in app.glob("kept*"))


# -- several processes ---------------------------------------------------------------------------


def test_a_crew_shares_the_work(app: Path) -> None:
    """--concurrency N runs N processes; each job runs once."""
    queue = queue_of(app)
    ids = queue.enqueue_many([("pid", {}) for _ in range(30)])
    done = dbq("work", "jobs:HANDLERS", "--concurrency", "3", cwd=app)
    assert done.returncode == 0
    jobs = [queue.get_job(job_id) for job_id in ids]
    assert {(job["status"], job["attempts"]) for job in jobs} == {("completed", 1)}
    assert len({job["result"] for job in jobs}) == 3
    assert "done: 30 completed" in done.stderr


def test_a_limit_is_shared_out(app: Path) -> None:
    """--limit is that of the whole crew."""
    queue = queue_of(app)
    queue.enqueue_many([("pid", {}) for _ in range(9)])
    dbq("work", "jobs:HANDLERS", "--concurrency", "2", "--limit", "5", cwd=app)
    assert queue.count_jobs()["completed"] == 5


LOADED = """
import atexit, os
from concurrent.futures import ThreadPoolExecutor
pool = ThreadPoolExecutor(1)
pool.submit(os.getpid).result()  # a thread that a fork would lose
loaded = os.getpid()

def note(text):
    with open("notes", "a") as file:
        file.write(f"{text} {os.getpid()}\\n")

note("loaded")
atexit.register(note, "ended")

def where(payload):
    print("not flushed", end="")
    return [loaded, os.getpid(), pool.submit(os.getpid).result(timeout=60)]

HANDLERS = {"where": where}
"""


@pytest.mark.parametrize("crew", ["1", "2"])
def test_handlers_are_loaded_where_they_run(app: Path, crew: str) -> None:
    """Each process loads the handlers itself, never before a fork, and ends as a program does."""
    (app / "loaded.py").write_text(LOADED)
    queue = queue_of(app)
    for _ in range(6):
        queue.enqueue("where", {})
    done = dbq("work", "loaded:HANDLERS", "--concurrency", crew, cwd=app)
    assert done.returncode == 0, done.stderr
    results = [job["result"] for job in queue.list_jobs(job_type="where")]
    assert all(len(set(pids)) == 1 for pids in results)
    notes = (app / "notes").read_text().splitlines()
    assert len(notes) == 2 * int(crew)
    began = {note.split()[1] for note in notes if note.startswith("loaded")}
    assert began == {note.split()[1] for note in notes if note.startswith("ended")}
    assert {str(pids[0]) for pids in results} <= began
    assert done.stdout == "not flushed" * 6


def test_concurrency_bounds_all_runs_together(app: Path) -> None:
    """A run that finds all worker slots taken exits 0 and takes nothing."""
    queue = queue_of(app)
    queue.enqueue("slow", {"seconds": 60}, job_id="s")
    first = start("work", "jobs:HANDLERS", "--concurrency", "1", cwd=app)
    wait_for((app / "running").exists)
    queue.enqueue("ok", {}, job_id="next")
    second = dbq("work", "jobs:HANDLERS", "--concurrency", "1", cwd=app)
    assert second.returncode == 0
    assert "at work already" in second.stderr
    assert queue.get_job("next")["status"] == "pending"
    (app / "enough").touch()
    assert first.wait(20) == 0
    assert queue.get_job("next")["status"] == "completed"


def test_a_killed_member_of_a_crew_is_noticed(app: Path) -> None:
    """A job that kills its worker is taken back when the crew ends, its attempt counted."""
    queue = queue_of(app)
    queue.enqueue("die", {}, job_id="d")
    done = dbq("work", "jobs:HANDLERS", "--concurrency", "2", "--max-attempts", "1", cwd=app)
    assert "killed by signal 9" in done.stderr
    assert done.returncode == 2
    job = queue.get_job("d")
    assert (job["status"], job["attempts"]) == ("failed", 1)
    assert job["error"].startswith("WorkerDied: ")


def test_a_crew_without_its_parent_stops(app: Path) -> None:
    """When the parent is killed, its children finish the job in hand and take no more."""
    queue = queue_of(app)
    queue.enqueue("slow", {"seconds": 60}, job_id="s")
    worker = start("work", "jobs:HANDLERS", "--concurrency", "2", "--linger", "60s", cwd=app)
    wait_for((app / "running").exists)
    worker.kill()
    worker.wait()
    slots = [queue.engine.claims.take_slot(2)]
    # The idle one is gone before the next job comes: it may be about to look for one just now.
    wait_for(lambda: slots.append(queue.engine.claims.take_slot(2)) or set(slots) & {0, 1})
    queue.enqueue("ok", {}, job_id="next")
    (app / "enough").touch()
    wait_for(lambda: queue.get_job("s")["status"] == "completed")
    wait_for(lambda: slots.append(queue.engine.claims.take_slot(2)) or {0, 1} <= set(slots))
    assert queue.get_job("next")["status"] == "pending"


@pytest.mark.parametrize(
    ("folder", "key", "wanted"),
    [(0o750, "", 0o640), (0o700, "", 0o600), (0o755, "", 0o644), (0o755, 'umask = "077"', 0o600)],
)
def test_new_files_of_jobs_follow_the_queues_folder(
    app: Path, folder: int, key: str, wanted: int
) -> None:
    """Who may look into the folder may read what jobs write there, unless the config says else."""
    (app / "queue").mkdir()
    (app / "queue").chmod(folder)
    (app / "files.py").write_text(
        "HANDLERS = {'make': lambda p: open('queue/made', 'w').close()}\n"
    )
    python = f'python = "{sys.executable}"\n'
    text = f'[queue]\nfile = "queue/q.tsv"\n[worker]\nhandlers = "files:HANDLERS"\n{python}{key}\n'
    (app / "dbq.toml").write_text(text)
    assert dbq("enqueue", "make", cwd=app).returncode == 0
    assert dbq("work", "--config", "dbq.toml", cwd=app).returncode == 0
    assert (app / "queue" / "made").stat().st_mode & 0o777 == wanted


def test_the_folder_of_a_log_is_made(app: Path) -> None:
    """A fresh config works at once: the log's folder is made as the queue's is."""
    python = f'python = "{sys.executable}"\n'
    text = f'[queue]\nfile = "q.tsv"\n[worker]\nhandlers = "jobs:HANDLERS"\n{python}'
    (app / "dbq.toml").write_text(text + '[log]\nfile = "log/of/dbq.log"\n')
    assert dbq("enqueue", "ok", cwd=app).returncode == 0
    done = dbq("work", "--config", "dbq.toml", cwd=app)
    assert (done.returncode, done.stderr) == (0, "")
    assert "completed" in (app / "log/of/dbq.log").read_text()
