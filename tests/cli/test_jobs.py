"""The commands that add and change jobs, run as a person runs them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from actors import script
from cli_app import dbq, queue_of, wait_for

from dbbasic_queue.engines.interface import Outcome

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


@pytest.mark.parametrize(
    ("argument", "stdin"), [("-", '\ufeff{"name": "Zoë"}'), ('{"name": "Zoë"}', "")]
)
def test_a_payload_is_utf_8(app: Path, argument: str, stdin: str) -> None:
    """Where the locale cannot read it; on standard input always, a mark of the byte order, too."""
    env = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    done = subprocess.run(
        [sys.executable, "-m", "dbbasic_queue", "enqueue", "ok", argument],
        cwd=app,
        input=stdin.encode(),
        env={**os.environ, **env},
        capture_output=True,
    )
    assert done.stderr == b""
    assert queue_of(app).get_job(done.stdout.decode().strip())["payload"] == {"name": "Zoë"}


@pytest.mark.parametrize(
    ("text", "local"),
    [
        ("2027-03-28T02:30", "03:30:00"),  # skipped: as long after 02:00 as it says
        ("2027-03-28 01:59", "01:59:00"),
        ("2027-03-28 03:00", "03:00:00"),
        ("2027-10-31T02:30", "02:30:00"),  # there twice: the first
    ],
)
def test_a_time_on_the_night_of_the_change(app: Path, text: str, local: str) -> None:
    """--run-at is never earlier than it says, in a time that the clock skips either."""
    zone = {"TZ": "Europe/Berlin"}
    job_id = dbq("enqueue", "ok", "{}", "--run-at", text, cwd=app, env=zone).stdout.strip()
    due = queue_of(app).get_job(job_id)["run_at"]
    assert datetime.fromtimestamp(due, ZoneInfo("Europe/Berlin")).strftime("%H:%M:%S") == local
    assert datetime.fromtimestamp(due, ZoneInfo("Europe/Berlin")).fold == 0


def test_enqueue_twice_by_one_id_adds_one(app: Path) -> None:
    """--id is an idempotency key: again is fine, with another payload it is refused."""
    for _ in range(2):
        assert dbq("enqueue", "ok", "{}", "--id", "a1", cwd=app).stdout == "a1\n"
    refused = dbq("enqueue", "ok", '{"n": 2}', "--id", "a1", cwd=app)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "a1" in refused.stderr
    assert queue_of(app).count_jobs()["pending"] == 1


def test_enqueue_by_a_key_adds_one_for_a_while(app: Path) -> None:
    """--unique prints the id of the job that is there; --until says for how long."""
    first = dbq("enqueue", "ok", "{}", "--unique", "sync-42", cwd=app).stdout
    for until in ("end", "start", "10min"):
        again = dbq("enqueue", "ok", "{}", "--unique", "sync-42", "--until", until, cwd=app)
        assert (again.returncode, again.stdout) == (0, first)
    assert first.startswith("sync-42--")
    wrong = dbq("enqueue", "ok", "{}", "--unique", "sync-42", "--until", "never", cwd=app)
    assert (wrong.returncode, wrong.stdout) == (2, "")
    alone = dbq("enqueue", "ok", "{}", "--until", "end", cwd=app)
    assert (alone.returncode, alone.stdout) == (2, "")
    assert "--until goes with --unique KEY" in alone.stderr
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


def test_a_date_without_hyphens_is_not_taken_for_seconds(app: Path) -> None:
    """As Unix seconds 20300317 is a day in 1970, so that the job would run at once."""
    done = dbq("enqueue", "ok", "{}", "--run-at", "20300317", cwd=app)
    assert done.returncode == 2
    assert "--run-at 20300317: write a date with hyphens, as 2030-03-17" in done.stderr
    assert list(queue_of(app).list_jobs()) == []


# -- changing ------------------------------------------------------------------------------------


def test_cancel_and_retry_say_what_they_did(app: Path) -> None:
    """cancel takes pending jobs, retry failed or cancelled ones; the rest is exit 1 and why."""
    queue = queue_of(app)
    queue.enqueue("ok", {}, job_id="a1")
    queue.enqueue("ok", {}, job_id="a2")
    done = dbq("cancel", "a1", "nope", "a2", cwd=app)
    assert (done.returncode, done.stdout) == (1, "cancelled a1\ncancelled a2\n")
    assert "there is no job nope in " in done.stderr
    done = dbq("cancel", "a1", cwd=app)
    assert (done.returncode, "is cancelled, not pending" in done.stderr) == (1, True)
    assert dbq("retry", "a1", cwd=app).stdout == "pending a1\n"
    assert queue.get_job("a1")["status"] == "pending"


SLOW = """
import sys, time
from dbbasic_queue import Queue

def slow(payload):
    print("started", flush=True)
    time.sleep(600)

Queue(sys.argv[1]).process_jobs({"slow": slow})
"""


def cancel_running(*ids: str, patience: float, cwd: Path) -> subprocess.CompletedProcess[str]:
    """`dbq cancel --running`, which waits so many seconds to see what becomes of the jobs."""
    code = (
        "import sys; from dbbasic_queue.cli import cancelling, main;"
        f"cancelling.PATIENCE = {patience};"
        "sys.exit(main.main(['cancel', '--running', *sys.argv[1:]]))"
    )
    command = [sys.executable, "-c", code, *ids]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True)


def test_cancel_of_a_running_job_has_to_be_meant(app: Path) -> None:
    """Without --running it is refused, and the answer says how; with it, what became of it."""
    queue = queue_of(app)
    queue.enqueue("slow", {}, job_id="a1")
    queue.enqueue("slow", {}, job_id="a2")
    queue.enqueue("ok", {}, job_id="a3")
    queue.cancel_job("a3")
    with script(SLOW, queue.path) as worker:
        worker.hear("started")
        done = dbq("cancel", "a1", cwd=app)
        assert (done.returncode, done.stdout) == (1, "")
        how = "a1 is processing, not pending; to break it off: dbq cancel --running a1"
        assert how in done.stderr
        done = cancel_running("a1", "a3", "nope", patience=600, cwd=app)
        assert (done.returncode, done.stdout) == (1, "cancelled a1\n")
        assert "job a3 is cancelled, not pending or processing" in done.stderr
        assert "there is no job nope" in done.stderr
        worker.hear("started")
        assert cancel_running("a2", patience=600, cwd=app).stdout == "cancelled a2\n"
        assert worker.end() == 0
    assert "Cancelled by " in queue.get_job("a1")["error"]


def test_cancel_tells_of_a_job_that_ended_first_and_of_one_that_runs_on(app: Path) -> None:
    """The first is exit 1; of the second it says that its worker was asked."""
    queue = queue_of(app)
    for job_id in ("a1", "a2"):
        queue.enqueue("ok", {}, job_id=job_id)
    seat = queue.engine.seat()
    attempt = seat.turn()  # looked at by no worker
    answers = []
    thread = threading.Thread(
        target=lambda: answers.append(
            cancel_running("--status", "processing", patience=600, cwd=app)
        )
    )
    thread.start()
    wait_for(lambda: (queue.get_job("a1")["error"] or "").startswith("CancelAsked: "))
    attempt = seat.turn(Outcome(attempt, "completed", queue.now()))
    thread.join()
    assert answers[0].returncode == 1
    assert "job a1 is completed: it ended before it was broken off" in answers[0].stderr
    assert answers[0].stderr.endswith("dbq: 0 jobs cancelled\n")
    done = cancel_running("a2", patience=0, cwd=app)
    assert (done.returncode, done.stdout) == (0, "asked a2\n")
    assert "job a2 still runs" in done.stderr
    seat.turn(Outcome(attempt, "failed", queue.now(), "ValueError: no"), take=False)
    assert queue.get_job("a2")["status"] == "cancelled"


def test_cancel_of_many_tells_how_many_were_cancelled_and_asked(app: Path) -> None:
    """Of one that runs on, it shows no more than the config allows."""
    (app / "dbq.toml").write_text(
        '[queue]\nfile = "data/queue.tsv"\n[worker]\nhandlers = "jobs:HANDLERS"\n'
        '[types.ok]\nredact = ["token"]\n'
    )
    queue = queue_of(app)
    for job_id in ("a1", "a2"):
        queue.enqueue("ok", {"token": "hush"}, job_id=job_id)
    seat = queue.engine.seat()
    assert seat.turn() is not None
    done = cancel_running("--type", "ok", "--json", patience=0, cwd=app)
    assert [json.loads(line)["status"] for line in done.stdout.splitlines()] == [
        "cancelled",
        "processing",
    ]
    assert "hush" not in done.stdout
    assert done.stderr.endswith("dbq: 1 job cancelled, 1 asked\n")
    seat.leave()


def test_an_id_that_dbq_made_may_be_shortened(app: Path) -> None:
    """Four characters or more of such an id will do, if no other begins so."""
    queue = queue_of(app)
    for job_id in ("4f59aaaaaaaaaaaa", "4f59bbbbbbbbbbbb"):
        queue.enqueue("ok", {}, job_id=job_id)
    assert dbq("cancel", "4f59a", cwd=app).stdout == "cancelled 4f59aaaaaaaaaaaa\n"
    assert dbq("retry", "4f59aaaa", cwd=app).stdout == "pending 4f59aaaaaaaaaaaa\n"
    done = dbq("cancel", "4f59", cwd=app)
    assert (done.returncode, done.stdout) == (1, "")
    assert "2 ids begin with 4f59: 4f59aaaaaaaaaaaa, 4f59bbbbbbbbbbbb; give more" in done.stderr
    assert dbq("cancel", "4f5", cwd=app).returncode == 1


def test_an_id_that_dbq_made_may_be_named_by_its_end(app: Path) -> None:
    """Those of a batch begin alike: four characters at the end will do, or all that could be
    meant are listed and none is changed."""
    queue = queue_of(app)
    ids = ["mh3k9x2a0aaa77qz", "mh3k9x2a0bbb77qz", "mh3k9x2a0ccc0000", "order-77qz"]
    for job_id in ids:
        queue.enqueue("ok", {}, job_id=job_id)
    assert dbq("cancel", "a77qz", cwd=app).stdout == f"cancelled {ids[0]}\n"
    assert json.loads(dbq("show", "0000", "--json", cwd=app).stdout)["id"] == ids[2]
    for text, meant in (("77qz", ids[:2]), ("mh3k9x2a", ids[:3])):
        done = dbq("cancel", text, cwd=app)
        assert (done.returncode, done.stdout) == (1, "")
        assert f" with {text}: {', '.join(meant)}; give more of it" in done.stderr
    for text in ("7qz", "r-77qz"):
        assert dbq("cancel", text, cwd=app).returncode == 1


@pytest.mark.parametrize("text", ["nightly-rep", "nightly-", "shop_clean", "shop_clean_20240101"])
def test_an_id_of_a_programs_may_be_shortened(app: Path, text: str) -> None:
    """In the middle of a word, where the beginning is hardly an id of its own."""
    queue = queue_of(app)
    for job_id in ("nightly-report", "shop_clean_20240101T0000Z"):
        queue.enqueue("ok", {}, job_id=job_id)
    assert dbq("cancel", text, cwd=app).stdout.startswith(f"cancelled {text}")
    assert dbq("retry", text, cwd=app).stdout.startswith(f"pending {text}")


@pytest.mark.parametrize("text", ["order-1", "order", "beef", "bee", ""])
def test_an_id_of_a_programs_is_never_taken_for_another(app: Path, text: str) -> None:
    """With job order-1 gone, `cancel order-1` leaves order-10 alone."""
    queue = queue_of(app)
    for job_id in ("order-10", "beef-and-beer"):
        queue.enqueue("ok", {}, job_id=job_id)
    done = dbq("cancel", text, cwd=app)
    assert (done.returncode, done.stdout) == (1, "")
    assert ("did you mean" in done.stderr) is bool(text)
    assert queue.count_jobs()["cancelled"] == 0


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
    done = dbq("retry", "--failed", "--type", "bad", cwd=app)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.startswith("dbq: no failed jobs of the type bad, of 4 jobs in ")
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
    assert done.stdout == "removed 1 job\n"
    assert sum(queue.count_jobs().values()) == 0
    assert dbq("prune", "--older-than", "0", "--status", "pending", cwd=app).returncode == 2
