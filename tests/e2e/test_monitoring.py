"""Debian's Nagios, Icinga, node_exporter and Prometheus see a really stuck job, and see it go.

Run by `make e2e`; `DBQ_E2E_DEBIAN=13` takes another release. Everything runs as its package sets it
up, in a machine whose only network is the loopback interface. The tests share the machine and go
from top to bottom: all is well, a worker is killed, the job is taken back.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from machine import CHECKOUT, PACKAGES, VENV, Machine, say

RELEASE = os.environ.get("DBQ_E2E_DEBIAN", "12")
# debootstrap takes the first of alternatives and knows no virtual packages: a small mailer for
# Nagios, and the library by its real name.
REAL_NAMES = {"12": "libboost-regex1.74.0", "13": "libboost-regex1.83.0"}
MONITORS = ("nagios4-core", "icinga2", "prometheus", "prometheus-node-exporter")
PACKAGING = CHECKOUT / "packaging"
PLUGINS = "/usr/lib/nagios/plugins"
QUEUE = "/var/lib/app/queue.tsv"
TEXTFILE = "/var/lib/prometheus/node-exporter/dbq-app.prom"
CONFIG = f"""
name = "app"
[queue]
file = "{QUEUE}"
[worker]
handlers = "app_jobs:HANDLERS"
python = "{VENV}/bin/python"
directory = "/srv/app"
user = "app"
[health]
textfile = "{TEXTFILE}"
"""
JOBS = """
import time

HANDLERS = {"ok": len, "hang": lambda payload: time.sleep(10**6)}
"""
WORK = "systemd-run --quiet --collect --unit=worker --uid=app --working-directory=/srv/app"
WORK += f" {VENV}/bin/dbq work --config /srv/app/dbq.toml"
ICINGA = """
include "/etc/icinga2/dbq-icinga2.conf"

object Host "queues" {
  check_command = "dummy"
  address = "127.0.0.1"
  vars.dbq["app"] = { dbq_config = "/srv/app/dbq.toml" }
  vars.dbq["file"] = { dbq_file = "/var/lib/app/queue.tsv", dbq_stuck_critical = "~:" }
}

object PerfdataWriter "dbq" {
  service_perfdata_path = "/var/lib/icinga2/dbq.perfdata"
  service_temp_path = "/var/lib/icinga2/dbq.tmp"
  host_temp_path = "/var/lib/icinga2/dbq-host.tmp"
  rotation_interval = 2s
  service_format_template = "$service.name$: $service.state$ {$service.perfdata$} $service.output$"
}
"""


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    """A machine with the monitors, the project, a queue, and the files that are shipped."""
    packages = (*PACKAGES, *MONITORS, "msmtp-mta", REAL_NAMES[RELEASE])
    with Machine(RELEASE, packages) as machine:
        machine.install_project()
        machine.run("useradd --system --user-group app && usermod --append --groups app nagios")
        machine.run("install -d -o app -g app -m 2750 /var/lib/app")
        machine.run("chgrp app /var/lib/prometheus/node-exporter")
        machine.run("chmod g+ws /var/lib/prometheus/node-exporter")
        machine.write("/srv/app/dbq.toml", CONFIG)
        machine.write("/srv/app/app_jobs.py", JOBS)
        machine.run(f"ln -s {VENV}/bin/check_dbq {PLUGINS}/check_dbq")
        # Readable by its group, in which nagios is, and by no other user.
        machine.run(
            ["sh", "-c", f"umask 027 && exec {VENV}/bin/dbq enqueue ok --file {QUEUE}"], user="app"
        )
        machine.run(f"{WORK} --limit 1")
        machine.wait("the first job", lambda: "completed" in machine.path(QUEUE).read_text())
        yield machine


# -- all is well ---------------------------------------------------------------------------------


def test_the_plugin_runs_as_nagios(machine: Machine) -> None:
    """The user nagios, who may only read, gets OK; no other user may look."""
    command = f"{PLUGINS}/check_dbq --config /srv/app/dbq.toml --no-report"
    done = machine.run(command, user="nagios")
    assert done.stdout.startswith("DBQ OK: 0 pending (0 ready), 0 running, 1 completed, 0 failed;")
    closed = machine.run(command, user="nobody", check=False)
    assert closed.returncode == 3
    assert "Permission denied" in closed.stdout


def services(machine: Machine) -> dict[str, dict[str, str]]:
    """What Nagios knows of each service."""
    found = {}
    status = machine.path("/var/lib/nagios4/status.dat").read_text()
    for block in re.findall(r"^servicestatus \{\n(.*?)\n\t\}", status, re.DOTALL | re.MULTILINE):
        service = dict(re.findall(r"^\t(\w+)=(.*)$", block, re.MULTILINE))
        found[service["service_description"]] = service
    return found


def test_nagios_shows_state_and_data(machine: Machine) -> None:
    """Nagios runs the shipped commands; state, text and performance data arrive."""
    services_file = (PACKAGING / "nagios/dbq-service.cfg").read_text()
    services_file = services_file.replace("/etc/myapp/dbq.toml", "/srv/app/dbq.toml")
    services_file = services_file.replace("/var/lib/reports/queue.tsv", QUEUE)
    machine.write("/etc/nagios4/conf.d/dbq-service.cfg", services_file)
    command = (PACKAGING / "nagios/dbq-command.cfg").read_text()
    machine.write("/etc/nagios4/conf.d/dbq-command.cfg", command)
    main = machine.path("/etc/nagios4/nagios.cfg")
    text = re.sub(r"^interval_length=\d+", "interval_length=1", main.read_text(), flags=re.M)
    text = re.sub(r"^status_update_interval=\d+", "status_update_interval=1", text, flags=re.M)
    main.write_text(
        re.sub(r"^max_service_check_spread=\d+", "max_service_check_spread=1", text, flags=re.M)
    )
    machine.run("nagios4 --verify-config /etc/nagios4/nagios.cfg")
    machine.run("systemctl start nagios4")
    machine.wait("Nagios to check", lambda: checked_by_nagios(machine, "0"))
    for name in ("dbq myapp", "dbq reports"):
        service = services(machine)[name]
        assert service["plugin_output"].startswith("DBQ OK: 0 pending (0 ready)")
        assert "'stuck'=0;;0;0" in service["performance_data"]
        assert re.search(r"'size'=\d+B;;;0", service["performance_data"])
    assert "'failed'=0;5;50;0" in services(machine)["dbq reports"]["performance_data"]


def checked_by_nagios(machine: Machine, state: str) -> bool:
    if not machine.path("/var/lib/nagios4/status.dat").exists():
        return False
    found = services(machine)
    states = [
        (found[name]["has_been_checked"], found[name]["current_state"])
        for name in ("dbq myapp", "dbq reports")
    ]
    return states == [("1", state)] * 2


def icinga(machine: Machine) -> dict[str, tuple[str, str, str]]:
    """The last state, performance data and line of each service that Icinga has checked."""
    lines: dict[str, tuple[str, str, str]] = {}
    for path in sorted(machine.path("/var/lib/icinga2").glob("dbq.perfdata.*")):
        for line in path.read_text().splitlines():
            if match := re.match(r"(dbq \w+): (\w+) \{(.*)\} (.*)", line):
                lines[match[1]] = match[2], match[3], match[4]
    return lines


def test_icinga_shows_state_and_data(machine: Machine) -> None:
    """Icinga runs the shipped check command; state, text and performance data arrive."""
    shipped = (PACKAGING / "nagios/dbq-icinga2.conf").read_text()
    shipped = shipped.replace("check_interval = 1m", "check_interval = 2s")
    machine.write("/etc/icinga2/dbq-icinga2.conf", shipped, owner="nagios")
    machine.write("/etc/icinga2/conf.d/dbq.conf", ICINGA, owner="nagios")
    machine.run("icinga2 daemon -C")
    machine.run("systemctl restart icinga2")
    machine.wait("Icinga to check", lambda: set(icinga(machine)) == {"dbq app", "dbq file"})
    for state, data, line in icinga(machine).values():
        assert (state, line[:27]) == ("OK", "DBQ OK: 0 pending (0 ready)")
        assert re.search(r"'?size'?=\d+B;;;0", data)
    log = machine.path("/var/log/icinga2/icinga2.log").read_text()
    assert not re.findall(r"^.* (?:warning|critical)/.*dbq.*", log, re.MULTILINE)


def test_the_scheduled_check_writes_the_textfile(machine: Machine) -> None:
    """The unit that dbq-install-systemd makes writes a file that promtool finds nothing in."""
    machine.run([f"{VENV}/bin/dbq-install-systemd", "--config", "/srv/app/dbq.toml"])
    machine.run("systemctl stop 'dbq-app-*.timer' 'dbq-app-*.path'")  # the test says when
    machine.run("systemctl start dbq-app-health.service")
    path = machine.path(TEXTFILE)
    assert path.stat().st_mode & 0o777 == 0o644
    assert 'dbq_stuck_jobs{queue="app"} 0' in path.read_text()
    linted = machine.run("promtool check metrics", text=path.read_text())
    assert (linted.stdout, linted.stderr) == ("", "")


def get(machine: Machine, url: str) -> str:
    code = (
        "import sys, urllib.request as u; print(u.urlopen(sys.argv[1], timeout=10).read().decode())"
    )
    return machine.run([f"{VENV}/bin/python", "-c", code, url]).stdout


SAMPLE = re.compile(r"(\w+)(?:\{(.*)\})? (\S+)")
LABEL = re.compile(r'\w+="(?:[^"\\]|\\.)*"')


def samples(text: str) -> dict[tuple[str, tuple[str, ...]], float]:
    """Each sample of the text format: by its name and its labels, whose order says nothing."""
    found = {}
    for line in text.splitlines():
        if sample := SAMPLE.fullmatch(line):
            name, labels, value = sample.groups()
            found[name, tuple(sorted(LABEL.findall(labels or "")))] = float(value)
    return found


def test_node_exporter_serves_the_file(machine: Machine) -> None:
    """Every sample of the file is served, and no error in reading it; two queues do not clash."""
    other = f"{PLUGINS}/check_dbq --file {QUEUE} --textfile {Path(TEXTFILE).parent}/other.prom"
    machine.run(other, user="app")
    served = get(machine, "http://127.0.0.1:9100/metrics")
    assert "node_textfile_scrape_error 0" in served
    for name in ("dbq-app.prom", "other.prom"):
        written = samples(machine.path(TEXTFILE).with_name(name).read_text())
        assert {"dbq_up", "dbq_jobs_processed_total"} <= {metric for metric, _ in written}
        assert written.items() <= samples(served).items()
    machine.path(TEXTFILE).with_name("other.prom").unlink()


def test_promtool_accepts_the_rules(machine: Machine) -> None:
    """`check rules` and `test rules` of this release find nothing wrong."""
    for name in ("dbq-alerts.yml", "dbq-alerts.test.yml"):
        machine.write(f"/etc/prometheus/{name}", (PACKAGING / "prometheus" / name).read_text())
    assert (
        "SUCCESS: 10 rules found"
        in machine.run("promtool check rules /etc/prometheus/dbq-alerts.yml").stdout
    )
    tested = machine.run("promtool test rules /etc/prometheus/dbq-alerts.test.yml")
    assert "SUCCESS" in tested.stdout


def alerts(machine: Machine) -> dict[str, dict[str, str]]:
    """The labels of each of our alerts that fires."""
    answer = json.loads(get(machine, "http://127.0.0.1:9090/api/v1/alerts"))
    firing = [it["labels"] for it in answer["data"]["alerts"] if it["state"] == "firing"]
    return {it["alertname"]: it for it in firing if it["alertname"].startswith("Dbq")}


def up(machine: Machine) -> list[str]:
    """What Prometheus has for dbq_up."""
    answer = json.loads(get(machine, "http://127.0.0.1:9090/api/v1/query?query=dbq_up"))
    return [it["metric"]["queue"] for it in answer["data"]["result"] if it["value"][1] == "1"]


def test_prometheus_loads_the_rules_and_is_quiet(machine: Machine) -> None:
    """With the shipped rules Prometheus knows our metrics, and nothing fires."""
    config = """
global: {scrape_interval: 1s, evaluation_interval: 1s}
rule_files: [/etc/prometheus/dbq-alerts.yml]
scrape_configs:
  - {job_name: node, static_configs: [{targets: ["127.0.0.1:9100"]}]}
"""
    machine.write("/etc/prometheus/prometheus.yml", config)
    machine.run("promtool check config /etc/prometheus/prometheus.yml")
    machine.run("systemctl restart prometheus")
    machine.wait("Prometheus to scrape", lambda: prometheus_knows(machine))
    assert alerts(machine) == {}


def prometheus_knows(machine: Machine) -> bool:
    active = machine.run("systemctl is-active prometheus", check=False).stdout.strip()
    ready = f"{VENV}/bin/python -c 'import socket; socket.create_connection((\"127.0.0.1\", 9090))'"
    if active != "active" or machine.run(ready, check=False).returncode:
        return False
    return up(machine) == ["app"]


# -- a worker is killed ----------------------------------------------------------------------------


def test_a_killed_worker_leaves_a_stuck_job(machine: Machine) -> None:
    """A worker killed by SIGKILL in mid-job: the plugin says so at once, with the job's id."""
    job = machine.run([f"{VENV}/bin/dbq", "enqueue", "hang", "--file", QUEUE], user="app").stdout
    machine.run(WORK)
    row = re.compile(rf"^{job.strip()}\thang\t.*\tprocessing\t", re.MULTILINE)
    machine.wait("the worker to take it", lambda: row.search(machine.path(QUEUE).read_text()))
    alive = machine.run(f"{PLUGINS}/check_dbq --file {QUEUE}", user="nagios")
    assert alive.stdout.startswith("DBQ OK: 0 pending (0 ready), 1 running")
    hanging = f"sleep 2; {PLUGINS}/check_dbq --file {QUEUE} --stuck-after 1"
    told = machine.run(hanging, user="nagios", check=False)
    assert (told.returncode, "still running" in told.stdout) == (2, True)
    machine.run("systemctl kill --signal=KILL worker")
    machine.wait(
        "the worker's end",
        lambda: machine.run("systemctl is-active worker", check=False).stdout.strip() != "active",
    )
    dead = machine.run(f"{PLUGINS}/check_dbq --file {QUEUE}", user="nagios", check=False)
    assert dead.returncode == 2
    assert dead.stdout.startswith("DBQ CRITICAL: 1 stuck job |")
    assert f"hang {job.strip()}: its worker died" in dead.stdout
    say(dead.stdout)


def test_nagios_turns_critical(machine: Machine) -> None:
    """Nagios shows CRITICAL with the job in the long text, and the number in the data."""
    machine.wait("Nagios to see it", lambda: checked_by_nagios(machine, "2"))
    service = services(machine)["dbq myapp"]
    assert service["plugin_output"] == "DBQ CRITICAL: 1 stuck job"
    assert "its worker died" in service["long_plugin_output"]
    assert "dbq work --config /srv/app/dbq.toml" in service["long_plugin_output"]
    assert "'stuck'=1;;0;0" in service["performance_data"]


def test_icinga_turns_critical(machine: Machine) -> None:
    """Icinga does so, too, but where the threshold for stuck jobs was switched off."""
    machine.wait("Icinga to see it", lambda: icinga(machine)["dbq app"][0] == "CRITICAL")
    _, data, line = icinga(machine)["dbq app"]
    assert line.strip() == "DBQ CRITICAL: 1 stuck job"
    assert re.search(r"'?stuck'?=1;;0;0", data)
    assert icinga(machine)["dbq file"][0] == "OK"


def test_prometheus_fires(machine: Machine) -> None:
    """The scheduled check writes it down, and Prometheus fires the shipped alert, no other."""
    failed = machine.run("systemctl start dbq-app-health.service", check=False)
    assert failed.returncode != 0
    assert 'dbq_stuck_jobs{queue="app"} 1' in machine.path(TEXTFILE).read_text()
    machine.wait("the alert", lambda: "DbqJobsStuck" in alerts(machine))
    fired = alerts(machine)
    assert set(fired) == {"DbqJobsStuck"}
    assert (fired["DbqJobsStuck"]["queue"], fired["DbqJobsStuck"]["severity"]) == (
        "app",
        "critical",
    )


# -- the job is taken back -------------------------------------------------------------------------


def test_all_are_quiet_again(machine: Machine) -> None:
    """The next worker takes the job back, and each monitor sees that."""
    machine.run(f"{WORK} --limit 0")
    row = re.compile(r"\thang\t.*\tpending\t.*WorkerDied", re.MULTILINE)
    machine.wait("the rescue", lambda: row.search(machine.path(QUEUE).read_text()))
    machine.run("systemctl start dbq-app-health.service")
    machine.wait("Prometheus to be quiet", lambda: alerts(machine) == {})
    machine.wait("Nagios to see it", lambda: checked_by_nagios(machine, "0"))
    machine.wait("Icinga to see it", lambda: icinga(machine)["dbq app"][0] == "OK")


# -- after a night ---------------------------------------------------------------------------------


def test_a_machine_that_was_off_raises_no_alarm(machine: Machine) -> None:
    """What waited while the machine was off is well in the first minutes after its start."""
    machine.run("systemctl disable --now dbq-app-worker.path dbq-app-worker.timer")
    machine.run("systemctl disable dbq-app-prune.timer dbq-app-health.timer", check=False)
    machine.run("touch -d '-1 day' /srv/app/dbq.toml")
    machine.run(f"touch -d '-8 hours' {Path(QUEUE).with_suffix('.claims')}")
    due = machine.run("date -d '-40 min' +%FT%T").stdout.strip()
    enqueue = [f"{VENV}/bin/dbq", "enqueue", "ok", "--file", QUEUE, "--run-at", due]
    machine.run(enqueue, user="app")
    # Shorter than this machine is up now, and longer than it will be after its next start.
    uptime = "from dbbasic_queue.health.judge import machine_uptime as up; print(int(up()))"
    up = int(machine.run([f"{VENV}/bin/python", "-c", uptime]).stdout) - 1
    check = f"{PLUGINS}/check_dbq --config /srv/app/dbq.toml"
    check += f" --silent-after {up} --overdue-after {up}"
    off = machine.run(check, user="app", check=False)
    assert off.returncode in (1, 2)  # silent as well, if a worker was due since the start
    assert "1 overdue job" in off.stdout
    machine.power_off()
    machine.boot()
    on = machine.run(check, user="app", check=False)
    say(on.stdout)
    assert (on.returncode, on.stdout.startswith("DBQ OK: ")) == (0, True)
