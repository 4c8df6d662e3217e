"""What a config says of types, as `dbq work` goes by it."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_app import dbq, queue_of

CONFIG = """
[queue]
file = "data/queue.tsv"
[worker]
handlers = "jobs:HANDLERS"
max_attempts = 5
[types.bad]
{}
"""


@pytest.mark.parametrize(
    ("said", "options", "status"),
    [
        ("max_attempts = 1", (), "failed"),
        ("max_attempts = 1", ("--max-attempts", "5"), "pending"),
        ("max_attempts = 7", ("--max-attempts", "1"), "failed"),
        ("timeout = '1h'", (), "pending"),
    ],
)
def test_attempts_by_type(app: Path, said: str, options: tuple[str, ...], status: str) -> None:
    """The type's count in place of the worker's; an option of the command beats both."""
    (app / "dbq.toml").write_text(CONFIG.format(said))
    queue_of(app).enqueue("bad", {})
    done = dbq("work", *options, cwd=app)
    assert done.returncode == 0, done.stderr
    (job,) = queue_of(app).list_jobs()
    assert (job["status"], job["attempts"]) == (status, 1)


def test_the_backoff_of_a_type(app: Path) -> None:
    """A time stands for itself."""
    (app / "dbq.toml").write_text(CONFIG.format('backoff = "1h"'))
    queue_of(app).enqueue("bad", {})
    dbq("work", cwd=app)
    (job,) = queue_of(app).list_jobs()
    assert 3600 <= job["run_at"] - job["created_at"] <= 3700


def test_the_rate_of_a_type(app: Path) -> None:
    """No more are begun than it has, in this run and the next; other types go on."""
    (app / "dbq.toml").write_text(CONFIG.format('rate = "2/d, burst=2"'))
    queue_of(app).enqueue_many([("bad", {})] * 3 + [("ok", {})])
    for _ in range(2):
        done = dbq("work", cwd=app)
        assert done.returncode == 0, done.stderr
    jobs = list(queue_of(app).list_jobs())
    assert sorted(job["attempts"] for job in jobs if job["type"] == "bad") == [0, 1, 1]
    assert [job["attempts"] for job in jobs if job["type"] != "bad"] == [1]
