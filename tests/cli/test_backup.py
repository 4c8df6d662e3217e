"""The commands `dbq backup` and `dbq restore`."""

from __future__ import annotations

import json
from pathlib import Path

from cli_app import dbq, queue_of


def test_backup_and_restore(app: Path) -> None:
    """What was done since is undone, and kept; a file that is not a backup is exit code 2."""
    queue = queue_of(app)
    queue.enqueue("ok", {}, job_id="a1")
    done = dbq("backup", "b.tar.gz", cwd=app)
    assert (done.returncode, done.stdout.startswith("b.tar.gz: ")) == (0, True)
    assert json.loads(dbq("backup", "b.tar", "--json", cwd=app).stdout)["path"] == "b.tar"
    queue.cancel_job("a1")
    done = dbq("restore", "b.tar.gz", cwd=app)
    assert done.returncode == 0
    first, second = done.stdout.splitlines()
    assert first == "restored 1 job: 1 pending"
    aside = second.removeprefix("the queue as it was is ")
    assert "cancelled" in dbq("list", "--file", aside, cwd=app).stdout
    assert queue.count_jobs()["pending"] == 1
    done = dbq("restore", "jobs.py", cwd=app)
    assert (done.returncode, "jobs.py: not a backup of a queue" in done.stderr) == (2, True)
    assert json.loads(dbq("restore", "b.tar", "--json", cwd=app).stdout)["jobs"]["pending"] == 1
