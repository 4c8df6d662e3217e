"""A queue on a server, on a booted Debian: workers that run all the time, are killed, and go away.

Run by `make e2e`; `DBQ_E2E_DEBIAN=13` takes another release. The server is Debian's own, with the
lines added that docs/machines.md begins with. The tests go from top to bottom.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from machine import VENV, Machine

HANDLERS = """
import os, time
from dbbasic_queue import current_job

def note(payload):
    return os.getppid()

def slow(payload):
    time.sleep(payload["seconds"])
    return os.getpid()

def die_once(payload):
    # At work until the worker is killed, the first time.
    time.sleep(600 if current_job().attempts == 1 else 0)

HANDLERS = {"note": note, "slow": slow, "die_once": die_once}
"""
CONFIG = """
name = "app"
[queue]
url_file = "/etc/app/url"
[worker]
handlers = "app_jobs:HANDLERS"
directory = "/srv/app"
user = "app"
python = "/opt/dbq/venv/bin/python"
concurrency = 2
timeout = "20s"
[[recurring]]
name = "tick"
type = "note"
schedule = "* * * * *"
[prune]
completed = "7d"
[health]
"""
DBQ = f"{VENV}/bin/dbq"


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    """A booted machine with the project, a server that keeps jobs safely, and a config."""
    release = os.environ.get("DBQ_E2E_DEBIAN", "12")
    with Machine(release, offered=("redis-server",)) as machine:
        machine.install_project()
        wheels = "--quiet --no-index --find-links /opt/dbq/wheels"
        machine.run(f"{VENV}/bin/pip install {wheels} 'dbbasic-queue[redis]'")
        machine.run("DEBIAN_FRONTEND=noninteractive apt-get install --yes -q redis-server")
        lines = "appendonly yes\\nappendfsync always\\nmaxmemory-policy noeviction\\n"
        machine.run(f"printf '{lines}requirepass secret\\n' >> /etc/redis/redis.conf")
        machine.run("systemctl restart redis-server")
        machine.run("useradd --system app; install -d -o app /etc/app /srv/app")
        machine.write("/srv/app/app_jobs.py", HANDLERS)
        machine.write("/etc/app/url", "redis://:secret@127.0.0.1/0\n", owner="app", mode=0o600)
        machine.write("/etc/app/dbq.toml", CONFIG)
        yield machine


def dbq(machine: Machine, *words: str) -> str:
    """What a command of dbq says on this config, as root."""
    return machine.run([DBQ, *words, "--config", "/etc/app/dbq.toml"]).stdout.strip()


def install(machine: Machine, *options: str, check: bool = True) -> str:
    command = [f"{VENV}/bin/dbq-install-systemd", "--config", "/etc/app/dbq.toml", *options]
    done = machine.run(command, check=check)
    return done.stdout + done.stderr


def field(machine: Machine, unit: str, name: str) -> str:
    command = ["systemctl", "show", f"--property={name}", "--value", unit]
    return machine.run(command).stdout.strip()


def done(machine: Machine, job: str, status: str = "completed", seconds: float = 60) -> str:
    """What `dbq show` says of a job, once it has this status."""
    shown = ""

    def is_done() -> bool:
        nonlocal shown
        shown = dbq(machine, "show", job)
        return f"status    {status}" in shown

    machine.wait(f"the job {job} to be {status}", is_done, seconds)
    return shown


def test_workers_start_and_take_jobs(machine: Machine) -> None:
    """Both run at once; a job is done without any timer; nothing of systemd's knows the secret."""
    assert "would work here" in dbq(machine, "check")
    install(machine)
    for number in (1, 2):
        unit = f"dbq-app-worker@{number}.service"
        machine.wait(unit, lambda unit=unit: field(machine, unit, "ActiveState") == "active")
    done(machine, dbq(machine, "enqueue", "note"))
    said = install(machine, "--status")
    assert "2 of 2 running" in said
    texts = machine.run("cat /etc/systemd/system/dbq-app-*; ps axww; journalctl --no-pager").stdout
    assert "secret" not in texts.replace("requirepass secret", "")
    assert "nothing was written" in install(machine)


def test_a_worker_that_is_killed_is_started_again(machine: Machine) -> None:
    """Its job comes back at once, as the machine knows that it is dead; it counts an attempt."""
    job = dbq(machine, "enqueue", "die_once")
    shown = done(machine, job, "processing")
    process = shown.partition("by process ")[2].split()[0]
    machine.run(f"kill -9 {process}")
    shown = done(machine, job, "pending", 15)  # the lease is a minute
    assert "WorkerDied" in shown
    for number in (1, 2):
        unit = f"dbq-app-worker@{number}.service"
        machine.wait(unit, lambda unit=unit: field(machine, unit, "ActiveState") == "active")


def test_a_stop_waits_for_the_job(machine: Machine) -> None:
    """The target stops its workers, each after the job that it is running."""
    job = dbq(machine, "enqueue", "slow", '{"seconds": 12}')  # of the 20 it may
    done(machine, job, "processing")
    machine.run("systemctl restart dbq-app-workers.target")
    assert "status    completed" in done(machine, job)
    done(machine, dbq(machine, "enqueue", "note"))


def test_the_health_check_and_recurring_jobs(machine: Machine) -> None:
    """The units that are confined reach the server, and know the machine's workers."""
    machine.run("systemctl start dbq-app-health.service dbq-app-prune.service")
    machine.run("systemctl start dbq-app-recurring@tick.service")
    assert "app_tick_" in dbq(machine, "list")
    assert "no worker runs" not in machine.run("journalctl -u dbq-app-health --no-pager").stdout


def test_a_server_that_was_away_is_found_again(machine: Machine) -> None:
    """Workers wait for it; no unit has failed, and jobs are run as before."""
    machine.run("systemctl stop redis-server; sleep 5; systemctl start redis-server")
    done(machine, dbq(machine, "enqueue", "note"), seconds=90)
    for number in (1, 2):
        assert field(machine, f"dbq-app-worker@{number}.service", "ActiveState") == "active"


def test_they_come_back_with_the_machine(machine: Machine) -> None:
    """After a boot the target starts them."""
    machine.power_off()
    machine.boot()
    done(machine, dbq(machine, "enqueue", "note"), seconds=90)


def test_a_removal_leaves_nothing(machine: Machine) -> None:
    """No unit file, no worker, nothing failed."""
    install(machine, "--remove")
    assert machine.run("ls /etc/systemd/system | grep dbq-", check=False).stdout == ""
    assert machine.run("pgrep -f 'dbbasic_queue work'", check=False).stdout == ""
    assert "dbq-" not in machine.run("systemctl --all --no-legend list-units 'dbq-app*'").stdout
