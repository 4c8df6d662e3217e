"""An upgrade from the package of 2.0.0 as it was, with its folder and rights, and a job in hand.

Run by `make e2e`; `DEBIAN=13` takes another release. The tests share one machine and go from top to
bottom.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from machine import CHECKOUT, Machine, say

OLD = "82e0686"  # the last commit before a queue's folder became the worker's alone
LOWER = "1.99.0"
CONFIG = "/etc/dbbasic-queue/dbq.toml"
STATE = "/var/lib/dbbasic-queue/main"
QUEUE = f"{STATE}/queue.tsv"
QUIET = {"DEBIAN_FRONTEND": "noninteractive"}
OFFERED = ["python3-crontab", "python3-jinja2", "man-db"]
WORKER = "_dbbasic-queue"

JOBS = """
import os, time

def slow(payload):
    while not (payload or os.path.exists("/var/lib/dbbasic-queue/main/go-on")):
        time.sleep(0.2)
    return {"pid": os.getpid(), "home": os.environ.get("HOME")}

HANDLERS = {"tell": lambda payload: payload, "slow": slow}
"""

# As 2.0.0 does at the end of a run in which rows moved: the file becomes the user's who did it.
COMPACT = f"""
import sys
sys.path.insert(0, "/usr/lib/dbbasic-queue")
from dbbasic_queue import Queue
queue = Queue("{QUEUE}")
with queue.table.writing():
    queue.table.rewrite()
"""

# A web application that goes on enqueueing, and notes each error.
PRODUCER = f"""
import sys, time
sys.path.insert(0, "/usr/lib/dbbasic-queue")
from dbbasic_queue import Queue
queue = Queue("{QUEUE}")
with open("/tmp/enqueued", "a", buffering=1) as done, open("/tmp/refused", "a", buffering=1) as no:
    while True:
        try:
            print(queue.enqueue("tell", {{"say": "hello"}}), file=done)
        except Exception as error:
            print(type(error).__name__, error, file=no)
        time.sleep(0.02)
"""


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    """A Debian with a web application's user and one of monitoring."""
    with Machine(os.environ.get("DBQ_E2E_DEBIAN", "12"), offered=OFFERED) as machine:
        machine.run("useradd --system --create-home --home-dir /home/nagios nagios")
        machine.run("getent passwd www-data || useradd --system www-data")
        machine.run(
            ["apt-get", "install", "--yes", "--no-install-recommends", *OFFERED],
            environment=QUIET,
            seconds=300,
        )
        yield machine


def _build(source: Path, folder: Path, *options: str) -> str:
    say(f"building the package of {source.name} {' '.join(options)}")
    command = [sys.executable, "packaging/tools/packages.py", "deb", "--into", str(folder)]
    done = subprocess.run([*command, *options], cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return f"/opt/debs/{Path(done.stdout.split()[-1]).name}"


@pytest.fixture(scope="module")
def old(machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The package as that commit builds it, under a lower version."""
    folder = tmp_path_factory.mktemp("source")
    archive = folder / "old.tar"
    with archive.open("wb") as stream:
        done = subprocess.run(["git", "archive", OLD], cwd=CHECKOUT, stdout=stream, check=False)
    if done.returncode:
        pytest.skip(f"this checkout does not have commit {OLD}; fetch all of its history")
    with tarfile.open(archive) as tar:
        tar.extractall(folder / "at-2.0.0", filter="data")
    return _build(folder / "at-2.0.0", machine.path("/opt/debs"), "--version", LOWER)


def _apt_install(machine: Machine, path: str) -> str:
    # The config that was changed stays, as with a person who presses return.
    keep = ["-o", "Dpkg::Options::=--force-confold"]
    command = ["apt-get", "install", "--yes", "--no-install-recommends", *keep, path]
    done = machine.run(command, environment=QUIET, seconds=300)
    return done.stdout + done.stderr


def _dbq(machine: Machine, *words: str, user: str = "root", check: bool = True) -> str:
    return machine.run(["dbq", *words, "--config", CONFIG], user=user, check=check).stdout


def _job(machine: Machine, job_id: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(_dbq(machine, "show", job_id, "--json"))
    return found


def _rights(machine: Machine, *paths: str) -> list[str]:
    return machine.run(["stat", "--format", "%n %U:%G %a", *paths]).stdout.splitlines()


def test_the_old_package_is_used_and_its_folder_left_as_it_leaves_it(
    machine: Machine, old: str
) -> None:
    """The web application has compacted last, so the table is its own."""
    say(_apt_install(machine, old)[-400:])
    machine.run(f"usermod --append --groups {WORKER} www-data")
    machine.run(f"usermod --append --groups {WORKER}-read nagios")
    machine.write("/etc/dbbasic-queue/jobs.py", JOBS)
    machine.run(f"sed -i 's|^handlers = .*|handlers = \"jobs:HANDLERS\"|' {CONFIG}")
    machine.run(["dbq-install-systemd", "--config", CONFIG])
    first = _dbq(machine, "enqueue", "tell", user="www-data").strip()
    machine.wait("the first job", lambda: _job(machine, first)["status"] == "completed", 30)
    machine.run(["/usr/bin/python3", "-c", COMPACT], user="www-data")
    assert _rights(machine, STATE, QUEUE) == [
        f"{STATE} {WORKER}:{WORKER} 2770",
        f"{QUEUE} www-data:{WORKER} 660",
    ]
    # What a stranger could do then: it runs whenever the worker's Python starts.
    site = f"{STATE}/.local/lib/python{machine.release.python}/site-packages"
    plant = f"mkdir -p {site} && echo 'import os; os.system(\"touch /tmp/led\")' > {site}/x.pth"
    machine.run(plant, user="www-data")


def test_the_upgrade_takes_the_folder_over_with_a_job_in_hand(machine: Machine, old: str) -> None:
    """The job goes on, a busy producer sees no error, and all is the worker's afterwards."""
    job_id = _dbq(machine, "enqueue", "slow", user="www-data").strip()
    machine.wait("the slow job", lambda: _job(machine, job_id)["status"] == "processing", 30)
    pid = machine.run("systemctl show -P MainPID dbq-main-worker.service").stdout.strip()
    machine.run(
        ["systemd-run", "--unit=producer", "--uid=www-data", "/usr/bin/python3", "-c", PRODUCER]
    )
    inodes = machine.run(f"stat --format %i {STATE}/queue.lock {STATE}/queue.claims").stdout
    said = _apt_install(machine, _build(CHECKOUT, machine.path("/opt/debs")))
    say(said[-600:])
    assert "was left as it is" not in said, said
    assert machine.run("systemctl show -P MainPID dbq-main-worker.service").stdout.strip() == pid
    assert _job(machine, job_id)["status"] == "processing"
    assert machine.run(f"stat --format %i {STATE}/queue.lock {STATE}/queue.claims").stdout == inodes
    shared = [
        f"{STATE}/queue.{ending}" for ending in ("tsv", "lock", "torn", "wake", "restart", "paused")
    ]
    assert _rights(machine, STATE, *shared, f"{STATE}/queue.claims") == [
        f"{STATE} {WORKER}:{WORKER} 2750",
        *(f"{path} {WORKER}:{WORKER} 660" for path in shared),
        f"{STATE}/queue.claims {WORKER}:{WORKER} 640",
    ]
    home = machine.run(["getent", "passwd", WORKER]).stdout.split(":")[5]
    assert home == "/var/lib/dbbasic-queue/home"
    machine.run(f"touch {STATE}/go-on")
    machine.wait("the slow job", lambda: _job(machine, job_id)["status"] == "completed", 60)
    machine.run(f"rm {STATE}/go-on")
    job = _job(machine, job_id)
    assert (job["attempts"], job["error"]) == (1, None)
    machine.run(["systemctl", "stop", "producer"])
    assert machine.run("cat /tmp/refused").stdout == ""
    sent = machine.run("cat /tmp/enqueued").stdout.split()
    assert len(sent) > 20
    machine.wait(
        "what was enqueued meanwhile",
        lambda: all(_job(machine, each)["status"] == "completed" for each in sent[-3:]),
    )
    known = machine.run(["cut", "-f1", QUEUE]).stdout.split()
    assert not set(sent) - set(known), "an acknowledged job is gone"
    assert machine.run("systemctl --failed --no-legend --plain").stdout == ""


def test_the_old_home_leads_nowhere(machine: Machine) -> None:
    """What a stranger had put into the worker's home of then is not run by the new one."""
    machine.run("rm -f /tmp/led")
    job_id = _dbq(machine, "enqueue", "slow", '{"go on": true}', user="www-data").strip()
    machine.wait("a job", lambda: _job(machine, job_id)["status"] == "completed", 90)
    machine.run(["systemctl", "start", "dbq-main-health.service", "dbq-main-prune.service"])
    assert machine.run("ls /tmp/led", check=False).returncode != 0


ATTACKS = {
    "a link for what is set aside": f"ln -sf /home/nagios/.profile {STATE}/queue.torn",
    "a link for the lock": f"ln -sf /etc/passwd {STATE}/queue.lock",
    "a file for the interpreter": f"mkdir --parents {STATE}/../home/.local/lib",
    "a link for the log": "ln -sf /etc/passwd /var/log/dbbasic-queue/main.log",
    "another table": f"mv {QUEUE} {QUEUE}.old",
    "a pipe for the wake file": f"rm -f {STATE}/queue.wake && mkfifo {STATE}/queue.wake",
    "handlers in the place of the worker": f"dbq work jobs:HANDLERS --file {QUEUE}",
    "another home": f"touch {STATE}/../home/.profile",
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_producer_does_not_become_the_worker(machine: Machine, attack: str) -> None:
    """Each ends in an error, and the queue goes on."""
    before = machine.run(["md5sum", "/etc/passwd"]).stdout
    assert machine.run(ATTACKS[attack], user="www-data", check=False).returncode != 0
    assert machine.run(["md5sum", "/etc/passwd"]).stdout == before
    assert _dbq(machine, "enqueue", "tell", user="www-data")


def test_a_reader_looks_and_holds_nobody_up(machine: Machine) -> None:
    """Monitoring lists jobs and checks the queue, and gets no lock."""
    assert _dbq(machine, "list", user="nagios")
    done = machine.run(["check_dbq", "--config", CONFIG], user="nagios", check=False)
    assert done.returncode in (0, 1), done.stdout
    for name in ("lock", "claims"):
        attempt = ["flock", "--shared", "--nonblock", f"{STATE}/queue.{name}", "true"]
        assert machine.run(attempt, user="nagios", check=False).returncode != 0


def test_a_boot_leaves_it_so(machine: Machine) -> None:
    """What tmpfiles.d says fits what the upgrade did."""
    machine.power_off()
    machine.boot()
    assert _rights(machine, STATE, QUEUE, "/var/log/dbbasic-queue") == [
        f"{STATE} {WORKER}:{WORKER} 2750",
        f"{QUEUE} {WORKER}:{WORKER} 660",
        "/var/log/dbbasic-queue root:root 755",
    ]
    job_id = _dbq(machine, "enqueue", "tell", user="www-data").strip()
    machine.wait("a job", lambda: _job(machine, job_id)["status"] == "completed", 90)
