"""dbq-install-logrotate with Debian's own logrotate: no line lost, the queue untouched.

Run by `make e2e`; `DBQ_E2E_DEBIAN=13` takes another release. The tests share one machine and go
from top to bottom.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from machine import VENV, Machine, say

CONFIG = f"""
    name = "app"
    queue.file = "/var/lib/app/queue.tsv"
    log = {{ file = "/var/lib/app/dbq log.log", frequency = "daily", rotate = 40 }}
    [worker]
    handlers = "app_jobs:HANDLERS"
    python = "{VENV}/bin/python"
    directory = "/srv/app"
    user = "app"
"""
LOG = "/var/lib/app/dbq log.log"
RULES = "/etc/logrotate.d/dbq-app"
# One "worker run" after the other: each opens the log by its name and writes while it runs. The
# longest still writes to the renamed file after a rotation, as a worker with a long job does.
WRITER = """
import logging, sys, time
from pathlib import Path

number = 0
while not Path("/var/lib/app/stop").exists():
    handler = logging.FileHandler(sys.argv[1])
    for _ in range(20):
        handler.emit(logging.makeLogRecord({"msg": "line %d", "args": (number,)}))
        number += 1
        time.sleep(0.004)
    handler.close()
Path("/var/lib/app/written").write_text(str(number))
"""


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    """A booted machine with logrotate, the project, a queue and a log beside it."""
    with Machine(os.environ.get("DBQ_E2E_DEBIAN", "12")) as machine:
        machine.install_project()
        machine.run("useradd --system app; install -d -o app /var/lib/app")
        machine.write("/srv/app/dbq.toml", CONFIG)
        machine.write("/srv/app/writer.py", WRITER)
        machine.write("/var/lib/app/queue.tsv", "id\ttype\n" + "x\ty\n" * 1000, owner="app")
        yield machine


def install(machine: Machine, *options: str, check: bool = True) -> str:
    """Run dbq-install-logrotate and return all that it said."""
    command = [f"{VENV}/bin/dbq-install-logrotate", "--config", "/srv/app/dbq.toml", *options]
    done = machine.run(command, check=check)
    return done.stdout + done.stderr


def logs(machine: Machine) -> dict[str, bytes]:
    """The log and all that rotation has made of it, unpacked."""
    found = {}
    for path in machine.path("/var/lib/app").glob("dbq log.log*"):
        text = path.read_bytes()
        found[path.name] = gzip.decompress(text) if path.suffix == ".gz" else text
    return found


def state(path: Path) -> tuple[str, int, int]:
    status = path.stat()
    return hashlib.sha256(path.read_bytes()).hexdigest(), status.st_ino, status.st_mtime_ns


def test_the_rules_pass_logrotates_own_check(machine: Machine) -> None:
    """`logrotate -d` on the installed file and on the whole configuration: no error."""
    assert f"created {RULES}" in install(machine)
    for rules in (RULES, "/etc/logrotate.conf"):
        done = machine.run(["logrotate", "-d", rules])
        assert "error:" not in done.stderr
        assert re.findall(r"considering log (.*)", done.stderr).count(LOG) == 1
    assert "nothing was written" in install(machine)


def test_no_line_is_lost_while_a_worker_writes(machine: Machine) -> None:
    """Forced rotations during the writing: each line is there once, in one file or another."""
    queue = machine.path("/var/lib/app/queue.tsv")
    before = state(queue)
    writer = f"setsid {VENV}/bin/python /srv/app/writer.py '{LOG}' >/dev/null 2>&1 &"
    machine.run(writer, user="app")
    machine.wait("the first line", lambda: logs(machine).get("dbq log.log"))
    for round_ in range(4):
        machine.run("sleep 1.3; logrotate --force /etc/logrotate.d/dbq-app")
        say(f"rotation {round_ + 1}: {', '.join(sorted(logs(machine)))}")
    machine.run("sleep 0.5; touch /var/lib/app/stop", user="app")
    written = machine.path("/var/lib/app/written")
    machine.wait("the writer's end", written.exists)
    found = sorted(
        int(n) for text in logs(machine).values() for n in re.findall(rb"line (\d+)", text)
    )
    assert found == list(range(int(written.read_text())))
    say(f"{len(found)} lines, all there")
    assert state(queue) == before


def test_no_line_of_the_real_worker_is_lost(machine: Machine) -> None:
    """One worker after the other, rotations in between and meanwhile: each job is logged once."""
    queue = "from pathlib import Path; from dbbasic_queue import Queue; q = Queue(Path({!r}))"
    code = queue.format("/var/lib/app/real.tsv") + "; [q.enqueue('nap', {}) for _ in range(400)]"
    machine.write(
        "/srv/app/app_jobs.py", "import time\nHANDLERS = {'nap': lambda _: time.sleep(0.01)}\n"
    )
    machine.write("/srv/app/real.toml", CONFIG.replace("queue.tsv", "real.tsv"))
    machine.run([f"{VENV}/bin/python", "-c", code], user="app")
    work = f"{VENV}/bin/python -m dbbasic_queue.cli work --config /srv/app/real.toml --limit 10"
    loop = f"cd /srv/app; for run in $(seq 40); do {work}; echo $run >/var/lib/app/run; done"
    machine.run(f"({loop}) >/var/lib/app/output 2>&1 &", user="app")

    def run() -> int:
        path = machine.path("/var/lib/app/run")
        return int(path.read_text() or 0) if path.exists() else 0

    rotations, seen = 0, 0
    while seen < 40:
        # A worker that had the log open at one rotation has ended by the next: see delaycompress.
        enough = min(seen + 2, 40)
        machine.wait("the end of two workers", lambda enough=enough: run() >= enough)
        seen = run()
        machine.run("logrotate --force /etc/logrotate.d/dbq-app")
        rotations += 1
    text = b"".join(logs(machine).values())
    done = re.findall(rb" completed nap (\w+) in ", text)
    assert (len(done), len(set(done))) == (400, 400)
    assert sorted(done) == sorted(re.findall(rb" started nap (\w+), ", text))
    assert machine.path("/var/lib/app/output").read_text() == ""
    say(f"400 jobs, 40 workers, {rotations} rotations: each job is in the log once")


def test_the_rotated_files_are_the_users(machine: Machine) -> None:
    """Renamed once, compressed a round later, owned by the worker's user and not by root."""
    names = set(logs(machine))
    assert {"dbq log.log", "dbq log.log.1", "dbq log.log.2.gz", "dbq log.log.4.gz"} <= names
    paths = list(machine.path("/var/lib/app").glob("dbq log.log*"))
    assert {path.stat().st_uid for path in paths} == {machine.uid("app")}


def test_an_ordinary_run_rotates_the_log_only(machine: Machine) -> None:
    """With the whole configuration forced, the queue and its siblings stay as they are."""
    for sibling in ("queue.lock", "queue.claims", "queue.torn"):
        machine.write(f"/var/lib/app/{sibling}", "x", owner="app")
    queues = sorted(machine.path("/var/lib/app").glob("queue.*"))
    before = [state(path) for path in queues]
    machine.run("logrotate --force /etc/logrotate.conf")
    assert sorted(machine.path("/var/lib/app").glob("queue.*")) == queues
    assert [state(path) for path in queues] == before
    status = install(machine, "--status")
    assert re.search(r"dbq log\.log +daily +- +20\d\d-", status)


def test_a_log_that_is_rotated_already_is_refused(machine: Machine) -> None:
    """Two rules for one log: logrotate would skip one, so the installer says so."""
    machine.write("/etc/logrotate.d/other", f'"{LOG}" {{\n    weekly\n    su app app\n}}\n')
    text = CONFIG.replace('"app"', '"app2"', 1)
    machine.write("/srv/app/app2.toml", text)
    command = [f"{VENV}/bin/dbq-install-logrotate", "--config", "/srv/app/app2.toml"]
    done = machine.run(command, check=False)
    machine.path("/etc/logrotate.d/other").unlink()
    assert done.returncode == 2
    assert "rotates /var/lib/app/dbq log.log already" in done.stderr
    assert not machine.path("/etc/logrotate.d/dbq-app2").exists()


def test_removal_leaves_the_logs(machine: Machine) -> None:
    """The rules go, without the config too; logs and queue stay."""
    names = set(logs(machine))
    machine.path("/srv/app/dbq.toml").unlink()
    machine.run([f"{VENV}/bin/dbq-install-logrotate", "--remove", "--name", "app"])
    assert not machine.path(RULES).exists()
    assert not machine.path("/var/lib/dbbasic-queue").exists()
    assert set(logs(machine)) == names
