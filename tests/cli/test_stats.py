"""The command stats: the queue in numbers, by type, and who works now."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

from cli_app import dbq, queue_of, start, wait_for


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


def test_stats_tell_each_type(app: Path) -> None:
    """How many of it wait, run and have failed, and whether it is paused; escaped, and aligned."""
    queue = queue_of(app)
    queue.enqueue_many([("ok", {}), ("数据", {}), ("bad", {}), ("ok", {})])
    raw = b"evil\te\x1b[2J\t{}\tfailed\t5\t5\t3\tE: x\t\n"
    queue.path.write_bytes(queue.path.read_bytes() + raw)
    queue.pause("ok")
    dbq("work", "jobs:HANDLERS", "--max-attempts", "1", "--types", "bad", cwd=app)
    stats = json.loads(dbq("stats", "--json", cwd=app).stdout)
    assert list(stats["types"]) == sorted(["ok", "数据", "bad", "e\x1b[2J"])
    assert stats["types"]["ok"] == {"pending": 2, "processing": 0, "failed": 0}
    assert stats["types"]["bad"] == {"pending": 0, "processing": 0, "failed": 1}
    shown = dbq("stats", cwd=app).stdout
    assert re.search(r"^TYPE +PENDING +PROCESSING +FAILED$", shown, re.MULTILINE)
    assert re.search(r"^ok +2 +0 +0  paused$", shown, re.MULTILINE)
    assert re.search(r"^bad +0 +0 +1$", shown, re.MULTILINE)
    assert "e\\x1b[2J" in shown
    assert "\x1b" not in shown


def test_stats_tell_who_works(app: Path) -> None:
    """Each job that runs, with its process; one whose worker has died is told as such."""
    queue_of(app).enqueue("slow", {"seconds": 60}, job_id="s")
    worker = start("work", "jobs:HANDLERS", cwd=app)
    wait_for((app / "running").exists)
    shown = dbq("stats", cwd=app).stdout.splitlines()[-1]
    assert re.fullmatch(rf"running    slow s for \w+, by process {worker.pid}", shown)
    (running,) = json.loads(dbq("stats", "--json", cwd=app).stdout)["running"]
    assert (running["id"], running["process"], running["alive"]) == ("s", worker.pid, True)
    worker.kill()
    worker.communicate()
    assert dbq("stats", cwd=app).stdout.rstrip().endswith(", its worker is dead")
