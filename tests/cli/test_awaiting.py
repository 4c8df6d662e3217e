"""The command `dbq wait`."""

from __future__ import annotations

import json
from pathlib import Path

from cli_app import dbq, queue_of, start


def test_wait_ends_when_the_jobs_have(app: Path) -> None:
    """With their states, and an exit code that says whether all have completed."""
    queue = queue_of(app)
    for job_id, job_type in (("good-1", "ok"), ("good-2", "ok"), ("bad-1", "bad")):
        queue.enqueue(job_type, {"n": 5}, job_id=job_id)
    waiting = start("wait", "good-1", "good-2", cwd=app)
    dbq("work", "jobs:HANDLERS", "--max-attempts", "1", cwd=app)
    out, err = waiting.communicate()
    assert (waiting.returncode, out, err) == (0, "completed good-1\ncompleted good-2\n", "")
    done = dbq("wait", "good-1", "bad-1", "gone", "--json", cwd=app)
    assert [json.loads(line)["status"] for line in done.stdout.splitlines()] == [
        "completed",
        "failed",
    ]
    assert (done.returncode, "there is no job gone" in done.stderr) == (1, True)
    assert dbq("wait", "good-1", "bad-1", cwd=app).returncode == 1


def test_wait_ends_when_the_time_is_up(app: Path) -> None:
    """With exit code 3; what has ended meanwhile is told."""
    queue = queue_of(app)
    queue.enqueue("ok", {}, job_id="later-1")
    queue.enqueue("ok", {}, job_id="off-1")
    queue.cancel_job("off-1")
    done = dbq("wait", "later-1", "off-1", "--timeout", "0s", cwd=app)
    assert (done.returncode, done.stdout) == (3, "cancelled off-1\n")
    assert "job later-1 is pending after 0s" in done.stderr
    assert dbq("wait", "later-1", "--timeout", "soon", cwd=app).returncode == 2
