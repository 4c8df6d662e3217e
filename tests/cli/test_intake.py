"""Jobs in and out: payloads from files, many jobs at once, and other payloads for a retry."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from cli_app import dbq, queue_of

from dbbasic_queue import Queue


def test_a_payload_is_read_from_a_file(app: Path) -> None:
    """As UTF-8 in any locale; a file that is not there is said."""
    (app / "payload.json").write_text('{"name": "Zoë"}', encoding="utf-8")
    job_id = dbq("enqueue", "ok", "@payload.json", cwd=app, env={"LC_ALL": "C"}).stdout.strip()
    job = queue_of(app).get_job(job_id)
    assert job is not None
    assert job["payload"] == {"name": "Zoë"}
    done = dbq("enqueue", "ok", "@none.json", cwd=app)
    assert (done.returncode, "none.json: No such file" in done.stderr) == (2, True)


def test_what_is_listed_is_enqueued_elsewhere(app: Path) -> None:
    """With its ids, types, payloads and times; again adds none twice."""
    queue = queue_of(app)
    queue.enqueue("ok", {"n": 1}, 2_000_000_000, job_id="later-1")
    before = Queue(queue.path, clock=lambda: time.time() - 1000)
    before.enqueue("bad", {"n": 2}, job_id="bad-1")
    before.process_jobs({"bad": lambda payload: 1 // 0}, max_attempts=1)
    listed = dbq("list", "--json", cwd=app).stdout
    for _ in range(2):
        done = dbq("enqueue", "--from", "-", "--file", "other.tsv", cwd=app, stdin=listed)
        assert (done.returncode, done.stdout) == (0, "later-1\nbad-1\n")
        assert done.stderr == "dbq: 2 jobs enqueued, or there by that id before\n"
    later, bad = Queue(app / "other.tsv").list_jobs()
    assert (later["run_at"], later["payload"], later["type"]) == (2_000_000_000, {"n": 1}, "ok")
    assert (bad["status"], bad["attempts"], bad["error"]) == ("pending", 0, None)
    assert bad["run_at"] == bad["created_at"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "jobs.jsonl: line 3: not JSON"),
        ("[]", "jobs.jsonl: line 3: not a JSON object; none was added"),
        ('{"tipe": "x"}', "line 3: there is no key tipe; write type, payload, run_at, id; none"),
        ('{"payload": {}}', "job 1: job type None: must be a string"),
        ('{"type": "x", "payload": 5}', "job 1: payload: must be a dict"),
        ('{"type": "x", "id": "no id"}', "job 1: job id"),
    ],
)
def test_all_jobs_of_a_file_or_none(app: Path, line: str, said: str) -> None:
    """A line that is not a job is named, and nothing is added: exit code 2."""
    (app / "jobs.jsonl").write_text(f'{{"type": "ok", "payload": {{"n": 1}}}}\n\n{line}\n')
    done = dbq("enqueue", "--from", "jobs.jsonl", cwd=app)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert sum(queue_of(app).count_jobs().values()) == 0


def test_what_lines_say_is_not_said_beside_them(app: Path) -> None:
    """--from excludes TYPE, --id, the times and a key: exit code 2."""
    for words in (["ok"], ["--id", "a1"], ["--in", "5s"], ["--unique", "k"], ["--until", "end"]):
        done = dbq("enqueue", *words, "--from", "-", cwd=app)
        assert (done.returncode, "not go with --from" in done.stderr) == (2, True), words


def test_a_job_is_retried_with_another_payload(app: Path) -> None:
    """JSON, or else a string; a dry run shows what the jobs are."""
    queue = queue_of(app)
    queue.enqueue("bad", {"to": "zoe", "n": 1}, job_id="bad-1")
    queue.process_jobs({"bad": lambda payload: 1 // 0}, max_attempts=1)
    changes = ("--with", "to=ben", "--with", "n=5", "--with", "text=a=b")
    done = dbq("retry", "bad-1", *changes, "--json", cwd=app)
    expected = {"to": "ben", "n": 5, "text": "a=b"}
    assert json.loads(done.stdout)["payload"] == expected
    job = queue.get_job("bad-1")
    assert job is not None
    assert (job["payload"], job["status"]) == (expected, "pending")
    done = dbq("retry", "bad-1", "--with", "to", cwd=app)
    assert (done.returncode, "--with to: write it as KEY=VALUE" in done.stderr) == (2, True)
