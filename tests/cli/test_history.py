"""The command `dbq history`, and what `dbq prune` keeps of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_app import dbq, queue_of

HOUR = 3600

CONFIG = """
name = "app"
[queue]
file = "data/queue.tsv"
[worker]
handlers = "jobs:HANDLERS"
[prune]
completed = "7d"
[history]
keep = "2d"
"""


@pytest.fixture
def past(app: Path) -> int:
    """Jobs that ended in several hours; when the last did."""
    queue = queue_of(app)
    queue.enqueue("mail", {})
    now = queue.now()
    noted = [
        *[("mail", "completed", now - HOUR * back, now - HOUR * back - 4, 0.25) for back in (0, 5)],
        ("mail", "failed", now - 90 * HOUR, 0, 0.0),
        ("rep\u0435ort.weekly-of-all", "pending", now - 5000, now - 5000, 5000.0),
    ]
    queue.engine.add_history(noted, "past")
    return now


def test_the_history_is_a_table_of_types(app: Path, past: int) -> None:
    """How many ended and how, how long they waited and ran, and a curve; 80 columns."""
    done = dbq("history", cwd=app)
    assert (done.returncode, done.stderr) == (
        0,
        "dbq: WAIT and RUN: 95 of 100 did not wait or run longer\n",
    )
    head, mail, report = done.stdout.splitlines()
    assert head.split()[:6] == ["TYPE", "DONE", "RETRIED", "FAILED", "WAIT", "RUN"]
    assert mail.split()[:6] == ["mail", "2", "0", "1", "4s", "250ms"]
    assert report.split()[1:6] == ["0", "1", "0", "0s", "83min"]
    assert all(len(line) <= 80 for line in (head, mail, report))
    assert mail[-1] == report[-1] == "█"
    assert mail[-6] == "█"
    assert mail[-5:-1] == "    "


def test_the_curve_is_plain_where_the_output_has_no_bars(app: Path, past: int) -> None:
    """In an ASCII locale."""
    done = dbq("history", cwd=app, env={"PYTHONIOENCODING": "ascii:backslashreplace"})
    assert done.stdout.splitlines()[1].endswith("#    #")


def test_programs_read_it_as_json(app: Path, past: int) -> None:
    """An object a line for each hour and type, also chosen by type and time."""
    hours = [json.loads(line) for line in dbq("history", "--json", cwd=app).stdout.splitlines()]
    assert len(hours) == 4
    assert hours[0]["hour"] <= past - 89 * HOUR
    assert hours[0]["waited"]["p95"] is None
    assert hours[-1]["ran"]["most"] == 5000.0 or hours[-2]["ran"]["most"] == 5000.0
    chosen = dbq("history", "--json", "--type", "m*", "--since", "1h", cwd=app).stdout.splitlines()
    assert [json.loads(line)["completed"] for line in chosen] == [1]


def test_no_history_is_no_failure(app: Path) -> None:
    """It is said, and nothing is on standard output."""
    queue_of(app).enqueue("mail", {})
    done = dbq("history", cwd=app)
    assert (done.returncode, done.stdout) == (0, "")
    assert "no worker has run such a job" in done.stderr


def test_a_time_that_cannot_be_read_is_refused(app: Path) -> None:
    """With exit code 2, and what it may be."""
    queue_of(app).enqueue("mail", {})
    done = dbq("history", "--since", "soon", cwd=app)
    assert done.returncode == 2
    assert "--since" in done.stderr


def test_prune_adds_up_what_is_old(app: Path, past: int) -> None:
    """Older than [history] keep, or 35 days; nothing with --dry-run."""
    starts = lambda: [hour.start for hour in queue_of(app).history("mail")]  # noqa: E731
    before = starts()
    assert dbq("prune", "--older-than", "7d", cwd=app).returncode == 0
    assert starts() == before
    (app / "dbq.toml").write_text(CONFIG)
    dbq("prune", "--dry-run", cwd=app)
    assert starts() == before
    assert dbq("prune", cwd=app).returncode == 0
    assert starts() == [0, *before[1:]]
    assert sum(hour.failed for hour in queue_of(app).history("mail")) == 1
