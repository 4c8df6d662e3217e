"""The command `dbq`, run as a person runs it: in a process of its own."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dbbasic_queue import Queue

JOBS = """
import os, sys, time

def ok(payload): return payload

def bad(payload): raise ValueError("no such user")

def slow(payload):
    open("running", "w").close()
    time.sleep(payload["seconds"])
    return "slept"

def die(payload): os.kill(os.getpid(), 9)

def pid(payload):
    time.sleep(0.05)
    return os.getpid()

HANDLERS = {"ok": ok, "bad": bad, "slow": slow, "die": die, "pid": pid}
NOT_A_DICT = 5
"""


@pytest.fixture
def app(tmp_path: Path) -> Path:
    (tmp_path / "jobs.py").write_text(JOBS)
    return tmp_path


def dbq(
    *args: str, cwd: Path, stdin: str = "", env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("DBQ_")}
    return subprocess.run(
        [sys.executable, "-m", "dbbasic_queue.cli", *args],
        cwd=cwd,
        input=stdin,
        env={**clean, **(env or {})},
        capture_output=True,
        text=True,
    )


def start(*args: str, cwd: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "dbbasic_queue.cli", *args],
        cwd=cwd,
        env={k: v for k, v in os.environ.items() if not k.startswith("DBQ_")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(condition, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def queue_of(app: Path) -> Queue:
    return Queue(app / "data" / "queue.tsv")


# -- enqueue -------------------------------------------------------------------------------------


def test_enqueue_prints_the_id_and_makes_the_queue(app: Path) -> None:
    """`dbq enqueue` prints the id of a job that is in the file then."""
    done = dbq("enqueue", "ok", '{"n": "Zoë"}', cwd=app)
    assert done.returncode == 0
    assert done.stderr == ""
    assert queue_of(app).get_job(done.stdout.strip())["payload"] == {"n": "Zoë"}


def test_enqueue_reads_the_payload_from_standard_input(app: Path) -> None:
    """A payload of - is read from standard input."""
    done = dbq("enqueue", "ok", "-", cwd=app, stdin='{"big": true}')
    assert queue_of(app).get_job(done.stdout.strip())["payload"] == {"big": True}


def test_enqueue_twice_by_one_id_adds_one(app: Path) -> None:
    """--id is an idempotency key: again is fine, with another payload it is refused."""
    for _ in range(2):
        assert dbq("enqueue", "ok", "{}", "--id", "a1", cwd=app).stdout == "a1\n"
    refused = dbq("enqueue", "ok", '{"n": 2}', "--id", "a1", cwd=app)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "a1" in refused.stderr
    assert queue_of(app).count_jobs()["pending"] == 1


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("--run-at", "1900000000", 1900000000),
        ("--run-at", "2030-03-17T17:46:40+00:00", 1900000000),
        ("--run-at", "2030-03-17T17:46:40Z", 1900000000),
    ],
)
def test_enqueue_takes_points_in_time(app: Path, option: str, value: str, expected: int) -> None:
    """--run-at takes Unix seconds and ISO 8601 with a zone."""
    done = dbq("enqueue", "ok", "{}", option, value, cwd=app)
    assert queue_of(app).get_job(done.stdout.strip())["run_at"] == expected


def test_enqueue_takes_local_time_and_delays(app: Path) -> None:
    """A bare ISO time is local; --in counts from now."""
    done = dbq(
        "enqueue", "ok", "{}", "--run-at", "2030-03-17T19:46:40", cwd=app, env={"TZ": "UTC-2"}
    )
    assert queue_of(app).get_job(done.stdout.strip())["run_at"] == 1900000000
    before = int(time.time())
    done = dbq("enqueue", "ok", "{}", "--in", "1h30min", cwd=app)
    due = queue_of(app).get_job(done.stdout.strip())["run_at"]
    assert before + 5400 <= due <= time.time() + 5400


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["enqueue", "ok", "{"], "no JSON"),
        (["enqueue", "ok", "[1]"], "must be a dict"),
        (["enqueue", "ok", '{"n": NaN}'], "no JSON number"),
        (["enqueue", "two words", "{}"], "job type"),
        (["enqueue", "ok", "{}", "--id", "ü"], "job id"),
        (["enqueue", "ok", "{}", "--run-at", "soon"], "soon"),
        (["enqueue", "ok", "{}", "--in", "7 parsecs"], "duration"),
        (["enqueue", "ok", "{}", "--in", "5s", "--run-at", "5"], "not allowed with"),
        (["enqueue"], "TYPE"),
        (["frobnicate"], "invalid choice"),
        (["list", "--status", "lost"], "invalid choice"),
        (["prune", "--older-than", "old", "--file", "jobs.py"], "not a queue table"),
        (["work", "jobs"], "MODULE:ATTRIBUTE"),
        (["work", "jobs:NOTHING"], "no attribute"),
        (["work", "jobs:NOT_A_DICT"], "not a dict"),
        (["work", "nojobs:H"], "No module named"),
        (["work", "jobs:HANDLERS", "--concurrency", "0"], "1 or more"),
        (["work", "jobs:HANDLERS", "--max-seconds", "-1"], "max_seconds"),
        (["work", "jobs:HANDLERS", "--timeout", "0"], "timeout"),
        (["retry"], "--failed"),
        (["retry", "x", "--failed"], "--failed"),
        (["retry", "x", "--type", "ok"], "--failed"),
    ],
)
def test_mistakes_are_told_in_one_line(app: Path, args: list[str], says: str) -> None:
    """A user's mistake: exit 2, what is wrong on standard error, no traceback, nothing written."""
    if args[0] == "prune":
        args[2] = "7d"
    done = dbq(*args, cwd=app)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    if args[0] == "enqueue":
        assert not (app / "data").exists()


@pytest.mark.parametrize(
    "command", ["list", "stats", "show x", "cancel x", "retry x", "fsck", "edit"]
)
def test_a_missing_queue_is_said_and_not_made(app: Path, command: str) -> None:
    """Looking at a queue that is not there is exit 2 and makes nothing."""
    done = dbq(*command.split(), cwd=app)
    assert done.returncode == 2
    assert "there is no queue" in done.stderr
    assert not (app / "data").exists()


@pytest.mark.parametrize(
    "content", [b"\x00\xff\x7fELF" * 9, b"name\tage\nzoe\t5\n", b"\xef\xbb\xbfid\t"]
)
def test_a_file_that_is_no_queue_is_refused(app: Path, content: bytes) -> None:
    """A binary file, another table: exit 2, the file as it was."""
    other = app / "other.tsv"
    other.write_bytes(content)
    for command in (
        ["list"],
        ["stats"],
        ["enqueue", "ok"],
        ["work", "jobs:HANDLERS"],
        ["fsck"],
        ["edit"],
    ):
        done = dbq(*command, "--file", "other.tsv", cwd=app)
        assert (done.returncode, "not a queue table" in done.stderr) == (2, True), command
        assert other.read_bytes() == content


def test_file_and_environment_name_the_queue(app: Path) -> None:
    """--file wins over $DBQ_FILE, which wins over data/queue.tsv."""
    dbq(
        "enqueue", "ok", "{}", "--id", "here", "--file", "a.tsv", cwd=app, env={"DBQ_FILE": "b.tsv"}
    )
    dbq("enqueue", "ok", "{}", "--id", "there", cwd=app, env={"DBQ_FILE": "b.tsv"})
    assert Queue(app / "a.tsv").get_job("here")
    assert Queue(app / "b.tsv").get_job("there")
    assert not (app / "data").exists()


# -- looking -------------------------------------------------------------------------------------


def test_list_filters_and_limits(app: Path) -> None:
    """--status, --type and --limit narrow the list; --json gives an object a line."""
    queue = queue_of(app)
    for n in range(3):
        queue.enqueue("ok", {"n": n}, job_id=f"o{n}")
    queue.enqueue("bad", {}, job_id="b")
    queue.cancel_job("o1")
    shown = [json.loads(line) for line in dbq("list", "--json", cwd=app).stdout.splitlines()]
    assert [job["id"] for job in shown] == ["o0", "o1", "o2", "b"]
    assert shown[0] == queue.get_job("o0")
    assert "o1" in dbq("list", "--status", "cancelled", cwd=app).stdout
    lines = dbq("list", "--type", "ok", "--status", "pending", cwd=app).stdout.splitlines()[1:]
    assert [line.split()[0] for line in lines] == ["o0", "o2"]
    assert len(dbq("list", "--limit", "2", cwd=app).stdout.splitlines()) == 3


def test_show_tells_all_of_a_job(app: Path) -> None:
    """show prints the nine columns; an unknown id is exit 1."""
    queue = queue_of(app)
    queue.enqueue("ok", {"n": 1}, job_id="a1")
    text = dbq("show", "a1", cwd=app).stdout
    assert [line.split()[0] for line in text.splitlines()] == list(queue.get_job("a1"))
    assert json.loads(dbq("show", "a1", "--json", cwd=app).stdout) == queue.get_job("a1")
    done = dbq("show", "nope", cwd=app)
    assert (done.returncode, done.stdout) == (1, "")


def test_job_data_cannot_command_the_terminal(app: Path) -> None:
    """Control characters in payload, error and type never reach the terminal."""
    queue = queue_of(app)
    queue.enqueue("ok", {"x": "\x1b[2J\x9b31m\x07\u2028"}, job_id="evil")
    table = queue.path
    raw = b"evil2\tok\t{}\tfailed\t5\t5\t3\tE: \x1b]0;title\x07 \xc2\x9b31m\t\n"
    table.write_bytes(table.read_bytes() + raw)
    for command in ("list", "list --json", "show evil", "show evil2", "show evil2 --json", "fsck"):
        out = dbq(*command.split(), cwd=app).stdout
        assert "evil" in out or command == "fsck"
        assert not any((ord(c) < 32 and c != "\n") or 127 <= ord(c) < 160 for c in out), command


def test_colours_only_on_a_terminal(app: Path) -> None:
    """A pipe gets no escape sequence; a terminal does, unless NO_COLOR is set."""
    queue_of(app).enqueue("ok", {}, job_id="a1")
    queue_of(app).cancel_job("a1")
    assert "\x1b" not in dbq("list", cwd=app).stdout

    def on_a_terminal(env: dict[str, str]) -> bytes:
        ours, theirs = pty.openpty()
        subprocess.run(
            [sys.executable, "-m", "dbbasic_queue.cli", "list"],
            cwd=app, stdout=theirs, check=True, env={**os.environ, **env},
        )  # fmt: skip
        os.close(theirs)
        with open(ours, "rb", buffering=0) as screen:
            return screen.read(4096)

    assert b"\x1b[" in on_a_terminal({})
    assert b"\x1b[" not in on_a_terminal({"NO_COLOR": "1"})


def test_stats_counts(app: Path) -> None:
    """stats counts by state, what is ready and since when, and when a worker last ran."""
    queue = queue_of(app)
    now = int(time.time())
    queue.enqueue("ok", {}, now - 100)
    queue.enqueue("ok", {}, now + 100)
    stats = json.loads(dbq("stats", "--json", cwd=app).stdout)
    assert stats["jobs"]["pending"] == 2
    assert stats["ready"] == 1
    assert 100 <= stats["latency"] <= 130
    assert stats["last_run"] is None
    assert stats["size"] == queue.path.stat().st_size
    assert "never" in dbq("stats", cwd=app).stdout
    dbq("work", "jobs:HANDLERS", cwd=app)
    assert json.loads(dbq("stats", "--json", cwd=app).stdout)["last_run"] >= now


def test_a_closed_pipe_is_no_error(app: Path) -> None:
    """`dbq list | head -1` ends quietly."""
    queue_of(app).enqueue_many([("ok", {"n": n, "pad": "x" * 50}) for n in range(5000)])
    command = f"{sys.executable} -m dbbasic_queue.cli list | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], cwd=app, capture_output=True, text=True)
    assert done.stderr == ""
    assert done.stdout.endswith("\n0\n")


# -- changing ------------------------------------------------------------------------------------


def test_cancel_and_retry_say_what_they_did(app: Path) -> None:
    """cancel takes pending jobs, retry failed or cancelled ones; the rest is exit 1 and why."""
    queue = queue_of(app)
    queue.enqueue("ok", {}, job_id="a1")
    queue.enqueue("ok", {}, job_id="a2")
    done = dbq("cancel", "a1", "nope", "a2", cwd=app)
    assert (done.returncode, done.stdout) == (1, "cancelled a1\ncancelled a2\n")
    assert "nope does not exist" in done.stderr
    done = dbq("cancel", "a1", cwd=app)
    assert (done.returncode, "is cancelled, not pending" in done.stderr) == (1, True)
    assert dbq("retry", "a1", cwd=app).stdout == "pending a1\n"
    assert queue.get_job("a1")["status"] == "pending"


def test_retry_all_that_failed(app: Path) -> None:
    """retry --failed takes every failed job, --type only those of a type."""
    queue = queue_of(app)
    for n in range(2):
        queue.enqueue("bad", {}, job_id=f"b{n}")
        queue.enqueue("none", {}, job_id=f"n{n}")
    dbq("work", "jobs:HANDLERS", "--max-attempts", "1", cwd=app)
    assert queue.count_jobs()["failed"] == 4
    assert dbq("retry", "--failed", "--type", "bad", cwd=app).stdout == "pending b0\npending b1\n"
    assert dbq("retry", "--failed", cwd=app).stdout == "pending n0\npending n1\n"
    assert dbq("retry", "--failed", cwd=app).stdout == ""
    assert {job["attempts"] for job in queue.list_jobs()} == {0}


def test_prune_removes_only_what_it_says(app: Path) -> None:
    """prune takes completed and cancelled jobs, or the states named; --dry-run takes nothing."""
    queue = queue_of(app)
    for job_type in ("ok", "bad", "ok"):
        queue.enqueue(job_type, {})
    dbq("work", "jobs:HANDLERS", "--max-attempts", "1", cwd=app)
    assert "0 jobs" in dbq("prune", "--older-than", "1h", cwd=app).stdout
    assert "would remove 2" in dbq("prune", "--older-than", "0", "--dry-run", cwd=app).stdout
    assert queue.count_jobs()["completed"] == 2
    assert "removed 2" in dbq("prune", "--older-than", "0", cwd=app).stdout
    done = dbq("prune", "--older-than", "0", "--status", "failed", cwd=app)
    assert "removed 1" in done.stdout
    assert sum(queue.count_jobs().values()) == 0
    assert dbq("prune", "--older-than", "0", "--status", "pending", cwd=app).returncode == 2


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
    assert queue.get_job("worse")["error"] == "ValueError: no such user"
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
    time.sleep(0.2)  # so that the two are not merged into one by the kernel
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(20) == 0
    assert (queue.get_job("s")["status"], queue.get_job("s")["attempts"]) == ("pending", 0)


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


def test_concurrency_bounds_all_runs_together(app: Path) -> None:
    """A run that finds all worker slots taken exits 0 and takes nothing."""
    queue = queue_of(app)
    queue.enqueue("slow", {"seconds": 1.5}, job_id="s")
    first = start("work", "jobs:HANDLERS", "--concurrency", "1", cwd=app)
    wait_for((app / "running").exists)
    queue.enqueue("ok", {}, job_id="next")
    second = dbq("work", "jobs:HANDLERS", "--concurrency", "1", cwd=app)
    assert second.returncode == 0
    assert "at work already" in second.stderr
    assert queue.get_job("next")["status"] == "pending"
    assert first.wait(20) == 0
    assert queue.get_job("next")["status"] == "completed"


def test_a_killed_member_of_a_crew_is_noticed(app: Path) -> None:
    """A job that kills its worker is taken back when the crew ends, its attempt counted."""
    queue = queue_of(app)
    queue.enqueue("die", {}, job_id="d")
    done = dbq("work", "jobs:HANDLERS", "--concurrency", "2", "--max-attempts", "1", cwd=app)
    assert "killed by signal 9" in done.stderr
    job = queue.get_job("d")
    assert (job["status"], job["attempts"]) == ("failed", 1)
    assert job["error"].startswith("WorkerDied: ")


def test_a_crew_without_its_parent_stops(app: Path) -> None:
    """When the parent is killed, its children finish the job in hand and take no more."""
    queue = queue_of(app)
    queue.enqueue("slow", {"seconds": 0.5}, job_id="s")
    worker = start("work", "jobs:HANDLERS", "--concurrency", "2", "--linger", "60s", cwd=app)
    wait_for((app / "running").exists)
    worker.kill()
    worker.wait()
    queue.enqueue("ok", {}, job_id="next")
    wait_for(lambda: queue.get_job("s")["status"] == "completed")
    slots = [queue.engine.claims.take_slot(2)]
    wait_for(lambda: slots.append(queue.engine.claims.take_slot(2)) or {0, 1} <= set(slots))
    assert queue.get_job("next")["status"] == "pending"


# -- editing -------------------------------------------------------------------------------------


def test_edit_does_what_the_editor_did(app: Path) -> None:
    """edit counts what was changed, removed and added; without a change it says so."""
    queue = queue_of(app)
    for n in range(3):
        queue.enqueue("ok", {"n": n}, job_id=f"o{n}")
    sed = """sed -i -e 's/"n": 1/"n": 11/' -e '/^o2/d' -e '1a o9\\tok\\t{}\\tpending\\t5\\t5\\t0'"""
    there = sorted(os.listdir(app / "data"))
    done = dbq("edit", cwd=app, env={"VISUAL": sed, "EDITOR": "false"})
    assert (done.returncode, done.stdout, done.stderr) == (
        0,
        "changed 1, removed 1, added 1 lines\n",
        "",
    )
    assert [job["id"] for job in queue.list_jobs()] == ["o0", "o1", "o9"]
    assert queue.get_job("o1")["payload"] == {"n": 11}
    done = dbq("edit", cwd=app, env={"VISUAL": "", "EDITOR": "true"})
    assert (done.returncode, done.stdout, done.stderr) == (0, "nothing changed\n", "")
    assert sorted(os.listdir(app / "data")) == there


def test_edit_says_why_not_and_where_the_text_is(app: Path) -> None:
    """A refused edit is exit 1: each reason in a line, FILE:LINE first, and the text in FILE."""
    queue = queue_of(app)
    for n in range(2):
        queue.enqueue("ok", {"n": n}, job_id=f"o{n}")
    content = queue.path.read_bytes()
    done = dbq("edit", cwd=app, env={"VISUAL": "sed -i s/pending/\x1b[2Jdone/"})
    assert (done.returncode, done.stdout) == (1, "")
    *reasons, nothing, kept = done.stderr.splitlines()
    file = kept.removeprefix("dbq: the edited text is kept in ")
    assert [reason.partition(" status ")[0] for reason in reasons] == [
        f"dbq: {file}:2:",
        f"dbq: {file}:3:",
    ]
    assert nothing == "dbq: nothing was changed"
    assert "\x1b" not in done.stderr
    assert Path(file).stat().st_mode & 0o777 == 0o600
    assert Path(file).read_bytes().count(b"[2Jdone") == 2
    assert queue.path.read_bytes() == content


def test_edit_refuses_what_a_worker_took(app: Path) -> None:
    """A job that was run while the editor was open: exit 1, and the worker's word stands."""
    queue = queue_of(app)
    queue.enqueue("ok", {"n": 1}, job_id="o1")
    command = f"{sys.executable} -m dbbasic_queue.cli work jobs:HANDLERS"
    sed = "sed -i s/pending/cancelled/"
    done = dbq("edit", cwd=app, env={"VISUAL": f"""sh -c '{command} && {sed} "$1"' sh"""})
    assert done.returncode == 1
    assert "dbq: job o1 changed meanwhile: it is completed now\n" in done.stderr
    assert queue.get_job("o1")["status"] == "completed"


@pytest.mark.parametrize(
    ("env", "code", "says"),
    [
        ({"VISUAL": "no-such-editor"}, 2, "$VISUAL: there is no program no-such-editor"),
        ({"VISUAL": "sed '"}, 2, "No closing quotation"),
        ({"VISUAL": "", "EDITOR": "", "PATH": ""}, 2, "set $VISUAL or $EDITOR"),
        ({"VISUAL": "false"}, 1, "false ended with exit code 1"),
        ({"VISUAL": "sed -i 1d"}, 1, "it has to be the header"),
    ],
)
def test_edit_without_a_good_editor(app: Path, env: dict[str, str], code: int, says: str) -> None:
    """No editor is wrong usage; one that fails is a refusal. No traceback, nothing is changed."""
    queue = queue_of(app)
    queue.enqueue("ok", {}, job_id="o1")
    content = queue.path.read_bytes()
    done = dbq("edit", cwd=app, env=env)
    assert (done.returncode, done.stdout) == (code, "")
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert queue.path.read_bytes() == content


def test_keys_are_the_editors(app: Path) -> None:
    """Ctrl-C in the editor ends neither `dbq edit` nor the edit; the editor itself gets it."""
    queue = queue_of(app)
    queue.enqueue("ok", {"n": 1}, job_id="o1")
    editor = "sh -c 'kill -INT $PPID; sed -i s/pending/cancelled/ $1' sh"
    done = dbq("edit", cwd=app, env={"VISUAL": editor})
    assert (done.returncode, done.stderr) == (0, "")
    assert queue.get_job("o1")["status"] == "cancelled"
    done = dbq("edit", cwd=app, env={"VISUAL": "sh -c 'kill -INT $$' sh"})
    assert (done.returncode, "was killed by signal 2" in done.stderr) == (1, True)


# -- the help --------------------------------------------------------------------------------------


def test_every_help_has_examples_and_exit_codes(app: Path) -> None:
    """--help of dbq and of each command shows examples and the exit codes."""
    top = dbq("--help", cwd=app).stdout
    commands = ["enqueue", "list", "show", "cancel", "retry", "prune", "stats", "work", "fsck"]
    commands.append("edit")
    for text in [top, *(dbq(command, "--help", cwd=app).stdout for command in commands)]:
        assert "examples:" in text
        assert "exit codes:" in text
    assert all(f"    {command} " in top for command in commands)


def test_version(app: Path) -> None:
    """--version names the version of the package."""
    assert dbq("--version", cwd=app).stdout == "dbq 2.0.0\n"
