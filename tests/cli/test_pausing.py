"""The commands pause and resume, and what list, stats and dbq-health say of it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from subprocess import run

from cli_app import dbq, queue_of


def test_pause_and_resume(app: Path) -> None:
    """A worker leaves the type alone until it is resumed."""
    queue_of(app).enqueue("ok", {})
    done = dbq("pause", "ok", "--for", "2h", "--why", "no server", cwd=app)
    assert done.returncode == 0
    assert done.stdout.startswith("ok paused since ")
    assert done.stdout.endswith(": no server\n")
    dbq("work", "jobs:HANDLERS", cwd=app)
    assert queue_of(app).count_jobs()["pending"] == 1
    done = dbq("resume", "ok", cwd=app)
    assert (done.returncode, done.stdout, done.stderr) == (0, "resumed ok\n", "")
    dbq("work", "jobs:HANDLERS", cwd=app)
    assert queue_of(app).count_jobs()["completed"] == 1


def test_what_is_paused_still_is_told(app: Path) -> None:
    """A resume says what else is paused, and is refused where nothing was."""
    queue_of(app).enqueue("ok", {})
    dbq("pause", cwd=app)
    dbq("pause", "ok", cwd=app)
    done = dbq("resume", "ok", cwd=app)
    assert done.returncode == 0
    assert "dbq: all types paused since " in done.stderr
    done = dbq("resume", "bad", cwd=app)
    assert done.returncode == 1
    assert "dbq: none of these was paused\n" in done.stderr


def test_programs_read_json(app: Path) -> None:
    """An object a line; the numbers of stats have it, too."""
    queue_of(app).enqueue("ok", {})
    (line,) = dbq("pause", "ok", "--json", cwd=app).stdout.splitlines()
    pause = json.loads(line)
    assert pause.keys() == {"type", "since", "until", "who", "why"}
    assert (pause["type"], pause["until"], pause["why"]) == ("ok", None, None)
    assert json.loads(dbq("stats", "--json", cwd=app).stdout)["paused"] == [pause]
    assert json.loads(dbq("resume", "--json", cwd=app).stdout) == pause
    assert json.loads(dbq("stats", "--json", cwd=app).stdout)["paused"] == []


def test_people_are_told(app: Path) -> None:
    """list on standard error, stats in a line, dbq-health in its first."""
    queue_of(app).enqueue("ok", {})
    dbq("pause", "ok", cwd=app)
    assert "dbq: ok paused since " in dbq("list", cwd=app).stderr
    assert "dbq:" not in dbq("list", "--json", cwd=app).stderr
    assert "paused     ok paused since " in dbq("stats", cwd=app).stdout
    health = [sys.executable, "-m", "dbbasic_queue.cli_health", "--file", "data/queue.tsv"]
    assert "; ok paused since " in run(health, cwd=app, capture_output=True, text=True).stdout


def test_mistakes(app: Path) -> None:
    """Without a traceback, and with exit code 2."""
    queue_of(app).enqueue("ok", {})
    for words in (["two words"], ["ok", "--for", "soon"], ["ok", "--for", "0s"]):
        done = dbq("pause", *words, cwd=app)
        assert done.returncode == 2, done
        assert done.stderr.startswith("dbq: ")
        assert "Traceback" not in done.stderr
    assert dbq("pause", cwd=app.parent).returncode == 2
