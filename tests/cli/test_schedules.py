"""The command `dbq schedules`, and what `enabled = false` turns off."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cli_app import dbq, queue_of, start

from dbbasic_queue.cli.programs import programs_of
from dbbasic_queue.cli.schedules import installed_entries
from dbbasic_queue.config.sections import load, parse
from dbbasic_queue.install.manifest import Manifest
from dbbasic_queue.install.target import Entry

CONFIG = """
name = "app"
[queue]
file = "data/queue.tsv"
[worker]
handlers = "jobs:HANDLERS"
[[recurring]]
name = "often"
type = "ok"
schedule = "* * * * *"
ENABLED
[prune]
completed = "0s"
ENABLED
[health]
ENABLED
[report]
file = "queue.html"
ENABLED
"""


def health(*args: str, cwd: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dbbasic_queue", "health", *args],
        cwd=cwd,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
    )


def write(app: Path, enabled: bool) -> None:
    (app / "dbq.toml").write_text(CONFIG.replace("ENABLED", f"enabled = {str(enabled).lower()}"))


@pytest.fixture
def home(app: Path) -> dict[str, str]:
    return {"HOME": str(app), "XDG_CONFIG_HOME": str(app / "none"), "TZ": "UTC"}


def test_what_the_clock_starts_is_told(app: Path, home: dict[str, str]) -> None:
    """In words, with the last run and how it went; what is not installed has no next run."""
    write(app, enabled=True)
    job_id = dbq("enqueue-recurring", "often", cwd=app, env=home).stdout.strip()
    dbq("work", "jobs:HANDLERS", "--quiet", cwd=app, env=home)
    done = dbq("schedules", "--json", cwd=app, env=home)
    found = list(map(json.loads, done.stdout.splitlines()))
    names = ["worker", "often", "prune", "health", "report"]
    assert [each["name"] for each in found] == names
    worker, often, prune = found[:3]
    assert (often["words"], often["how"], often["enabled"]) == ("every minute", "completed", True)
    slot = datetime.fromisoformat(often["last"]).astimezone(UTC)
    assert f"{slot:%Y%m%dT%H%MZ}" == job_id.rpartition("_")[2]
    assert time.time() - datetime.fromisoformat(worker["last"]).timestamp() < 600
    assert (prune["last"], often["next"], often["installed"]) == (None, None, False)
    text = dbq("schedules", cwd=app, env=home)
    assert all(len(line) <= 80 for line in text.stdout.splitlines())
    assert "often   every minute\n        last 20" in text.stdout
    assert "is installed here: dbq-install-cron or dbq-install-systemd" in text.stderr


def test_an_entry_taken_out_by_hand_is_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record of an installation alone starts nothing: cron goes by its file."""
    text = 'name = "a"\nqueue.file = "q.tsv"\nworker = { handlers = "a:H", user = "nobody" }\n'
    config = parse(text, tmp_path / "dbq.toml")
    file = tmp_path / "dbq-a"
    entry = Entry("worker", "* * * * *", "work")
    record = Manifest("a", "cron", str(config.path), {file: ("x",)}, (entry,))
    monkeypatch.setattr(
        "dbbasic_queue.install.manifest.load_manifest",
        lambda site, name, kind: record if kind == "cron" else None,
    )
    file.write_text("there")
    assert list(installed_entries(config) or ()) == ["worker"]
    file.unlink()
    assert installed_entries(config) == {}


def test_what_is_off_does_nothing(app: Path, home: dict[str, str]) -> None:
    """The entries end at once and say so; by hand it can be done all the same."""
    queue = queue_of(app)
    queue.enqueue("ok", {}, job_id="done-1")
    dbq("work", "jobs:HANDLERS", "--quiet", cwd=app, env=home)
    write(app, enabled=False)
    for command in ("enqueue-recurring often", "prune", "report --scheduled"):
        done = dbq(*command.split(), cwd=app, env=home)
        assert (done.returncode, "off, by enabled = false in" in done.stdout) == (0, True), command
    for options, said in (("--report", "off, by enabled = false in [health]"), ("--quiet", "")):
        done = health("--report", options, cwd=app, env=home)
        assert (done.returncode, done.stdout[: len(said) or None]) == (0, said)
    assert [job["id"] for job in queue.list_jobs()] == ["done-1"]
    assert "often   every minute (off)\n" in dbq("schedules", cwd=app, env=home).stdout
    assert "[worker].schedule" in (text := dbq("check", cwd=app, env=home).stdout)
    assert "[prune].schedule" not in text
    assert dbq("prune", "--older-than", "0s", cwd=app, env=home).stdout == "removed 1 job\n"
    dbq("enqueue-recurring", "often", "--now", cwd=app, env=home)
    assert queue.count_jobs()["pending"] == 1


def test_a_worker_that_is_off_runs_no_job(app: Path, home: dict[str, str]) -> None:
    """A run of the config ends at once and says so in the log; with handlers named, it works."""
    write(app, enabled=True)
    config = (app / "dbq.toml").read_text()
    (app / "dbq.toml").write_text(config.replace("[worker]", "[worker]\nenabled = false"))
    queue = queue_of(app)
    queue.enqueue("ok", {}, job_id="waits")
    done = dbq("work", cwd=app, env=home)
    assert (done.returncode, done.stdout) == (0, "")
    assert f"off, by enabled = false in [worker] of {app}/dbq.toml" in done.stderr
    assert dbq("work", "--quiet", cwd=app, env=home).stderr == ""
    assert queue.find_job("waits").status == "pending"
    assert "worker  every minute (off)\n" in dbq("schedules", cwd=app, env=home).stdout
    checked = dbq("check", cwd=app, env=home)
    assert "[worker].schedule" not in checked.stdout
    assert "[prune].schedule" in checked.stdout
    dbq("work", "jobs:HANDLERS", cwd=app, env=home)
    assert queue.find_job("waits").status == "completed"


def test_a_worker_that_is_off_does_not_end_at_once_as_a_service(
    app: Path, home: dict[str, str]
) -> None:
    """One that was installed before is started again whenever it ends: it waits, as for a fault."""
    write(app, enabled=True)
    config = (app / "dbq.toml").read_text()
    (app / "dbq.toml").write_text(config.replace("[worker]", "[worker]\nenabled = false"))
    process = start("work", "--forever", cwd=app)
    assert process.stderr is not None
    assert "off, by enabled = false" in process.stderr.readline()
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == -signal.SIGTERM
    process.communicate()


def test_dbq_run_starts_no_worker_that_is_off(app: Path) -> None:
    """What the clock starts is run all the same."""
    write(app, enabled=True)
    config = load(app / "dbq.toml")
    off = replace(config, worker=replace(config.worker, enabled=False))
    assert [each.name for each in programs_of(config, ())][:2] == ["worker", "often"]
    names = ["often", "prune", "health", "report"]
    assert [each.name for each in programs_of(off, ())] == names
