"""The .deb on a booted Debian: installed, used by four users, upgraded, removed, purged.

Run by `make e2e`; `DEBIAN=13` takes another release. The tests share one machine and go from top to
bottom: what one installs, later ones use.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from machine import CHECKOUT, Machine, say

CONFIG = "/etc/dbbasic-queue/dbq.toml"
STATE = "/var/lib/dbbasic-queue/main"
QUEUE = f"{STATE}/queue.tsv"
LOG = "/var/log/dbbasic-queue/main.log"
LOWER = "1.99.0"
QUIET = {"DEBIAN_FRONTEND": "noninteractive"}
COMMANDS = [
    *("dbq", "dbq-health", "check_dbq"),
    *("dbq-install-cron", "dbq-install-systemd", "dbq-install-logrotate"),
]
STARTERS = ["worker.path", "worker.timer", "prune.timer", "health.timer"]
# What the package and its page need and a minimal Debian does not have.
OFFERED = ["python3-crontab", "python3-jinja2", "man-db", "acl"]
# All that the disk is compared by; the rest is caches, journals and the package manager's own.
SETTLED = ["/etc", "/home", "/opt", "/srv", "/usr", "/var/lib", "/var/log", "/run/systemd/system"]

JOBS = """
import os, pwd, sys, time
import dbbasic_queue
import only_in_the_venv


def tell(payload):
    return {
        "prefix": sys.prefix,
        "user": pwd.getpwuid(os.geteuid()).pw_name,
        "library": os.path.dirname(dbbasic_queue.__file__),
        "own": only_in_the_venv.WORD,
        "said": payload.get("say"),
    }


def slow(payload):
    time.sleep(payload["seconds"])
    return {"pid": os.getpid()}


HANDLERS = {"tell": tell, "slow": slow}
"""


@dataclass(frozen=True)
class Packages:
    """Two versions of the package, as files on the machine."""

    lower: str
    this: str
    version: str


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    """A plain Debian with four users: of the application, of the web, of monitoring, of nothing."""
    with Machine(os.environ.get("DBQ_E2E_DEBIAN", "12"), offered=OFFERED) as machine:
        for user in ("baker", "web", "nag", "stranger"):
            machine.run(["useradd", "--create-home", user])
        machine.run("python3 -m venv --without-pip /srv/shop/venv")
        machine.write("/srv/shop/jobs.py", JOBS)
        (site,) = machine.path("/srv/shop/venv/lib").glob("python3.*/site-packages")
        (site / "only_in_the_venv.py").write_text("WORD = 'mine'\n")
        yield machine


@pytest.fixture(scope="module")
def packages(machine: Machine) -> Packages:
    """The checkout's package, and one of a lower version, built now."""
    folder = machine.path("/opt/debs")
    built = [_build(folder, "--version", LOWER), _build(folder)]
    names = [f"/opt/debs/{path.name}" for path in built]
    version = re.search(r"_([^_]+)_all\.deb$", names[1])
    assert version is not None
    return Packages(names[0], names[1], version[1])


def _build(folder: Path, *options: str) -> Path:
    say(f"building the package {' '.join(options)}")
    command = [sys.executable, "packaging/tools/packages.py", "deb", "--into", str(folder)]
    done = subprocess.run([*command, *options], cwd=CHECKOUT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return Path(done.stdout.split()[-1])


@pytest.fixture(scope="module")
def before(machine: Machine, packages: Packages) -> set[str]:
    """All paths on the machine's disk before the package ever came."""
    # What it depends on comes first, and stays when it goes.
    machine.run(
        ["apt-get", "install", "--yes", "--no-install-recommends", *OFFERED], environment=QUIET
    )
    return _disk(machine)


def _disk(machine: Machine) -> set[str]:
    found = machine.run(["find", *SETTLED, "!", "-path", "*/__pycache__*"]).stdout.splitlines()
    other = re.compile(
        r"/(?:var/lib/(?:dpkg|apt|systemd)|var/log/(?:apt|journal)|opt/debs|etc/systemd/system$)"
        r"|/etc/(?:passwd|group|shadow|gshadow|\.pwd\.lock|subuid|subgid)"
        r"|/var/cache|/var/lib/(?:logrotate|python)"
    )
    return {path for path in found if not other.match(path)}


def _apt(machine: Machine, *words: str, frontend: str = "noninteractive") -> str:
    """Run apt-get and return all that it said."""
    command = ["apt-get", "--yes", "--no-install-recommends", *words]
    done = machine.run(command, environment={"DEBIAN_FRONTEND": frontend}, seconds=300)
    return done.stdout + done.stderr


def _dbq(machine: Machine, *words: str, user: str = "root", check: bool = True) -> str:
    command = ["dbq", *words, "--config", CONFIG]
    return machine.run(command, user=user, check=check).stdout


def _job(machine: Machine, job_id: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(_dbq(machine, "show", job_id, "--json"))
    return found


def _enqueue(machine: Machine, job_type: str, *words: str, user: str = "web") -> str:
    return _dbq(machine, "enqueue", job_type, *words, user=user).strip()


def _wait_for(machine: Machine, job_id: str, status: str, seconds: float = 75) -> dict[str, object]:
    machine.wait(
        f"job {job_id} to be {status}",
        lambda: _job(machine, job_id)["status"] == status,
        seconds,
    )
    return _job(machine, job_id)


def _units(machine: Machine, verb: str) -> dict[str, str]:
    names = [f"dbq-main-{starter}" for starter in STARTERS]
    said = machine.run(["systemctl", verb, *names], check=False).stdout.split()
    return dict(zip(STARTERS, said, strict=True))


def _nothing_failed(machine: Machine) -> None:
    assert machine.run("systemctl --failed --no-legend --plain").stdout == ""


# --- Installation --------------------------------------------------------------------------------


def test_apt_installs_it_and_no_other_python_is_touched(
    machine: Machine, packages: Packages, before: set[str]
) -> None:
    """apt-get installs the file; no interpreter of the machine finds a new module."""
    say(_apt(machine, "install", packages.lower))
    listed = machine.run(["dpkg", "-L", "dbbasic-queue"]).stdout.splitlines()
    assert not [p for p in listed if "dist-packages" in p or "site-packages" in p]
    for python in ("/usr/bin/python3", "/srv/shop/venv/bin/python"):
        for module in ("dbbasic_queue", "dbbasic"):
            done = machine.run([python, "-c", f"import {module}"], check=False)
            assert "ModuleNotFoundError" in done.stderr
    assert machine.run(["dpkg", "--verify", "dbbasic-queue"]).stdout == ""


def test_nothing_is_started(machine: Machine) -> None:
    """After the installation no unit of ours is enabled or active, and no process runs."""
    assert set(_units(machine, "is-enabled").values()) == {"disabled"}
    assert set(_units(machine, "is-active").values()) == {"inactive"}
    assert machine.run("ps -u _dbbasic-queue -o pid= || true").stdout == ""
    _nothing_failed(machine)


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_its_help_page_and_completions(machine: Machine, command: str) -> None:
    """Each command runs, `man` finds its page, and the three shells have completions for it."""
    said = machine.run([command, "--help"], check=False).stdout
    assert "usage:" in said
    page = machine.run(f"man -P cat {command} 2>&1").stdout
    for heading in ("EXAMPLES", "EXIT STATUS", "FILES", "ENVIRONMENT"):
        assert heading in page
    share = machine.path("/usr/share")
    assert (share / f"bash-completion/completions/{command}").is_file()
    assert (share / f"zsh/vendor-completions/_{command}").is_file()
    assert (share / f"fish/vendor_completions.d/{command}.fish").is_file()


def test_the_config_is_a_conffile_and_sound(machine: Machine) -> None:
    """dpkg knows the config as the administrator's; `dbq check` finds no fault but the handlers."""
    assert CONFIG in machine.run("dpkg-query -W -f='${Conffiles}' dbbasic-queue").stdout
    done = machine.run(["dbq", "check", "--config", CONFIG], check=False)
    assert done.returncode == 2
    faults = [line for line in done.stderr.splitlines() if "warning:" not in line]
    assert len(faults) == 1
    assert "[worker].handlers" in faults[0]


# --- Four users ----------------------------------------------------------------------------------


def test_each_user_may_do_what_it_should(machine: Machine) -> None:
    """One enqueues, one looks, one is refused: with no setting but the membership of a group."""
    machine.run("usermod --append --groups _dbbasic-queue web")
    machine.run("usermod --append --groups _dbbasic-queue-read nag")
    _enqueue(machine, "tell", '{"say": "secret"}', "--in", "1d")
    _check_rights(machine)


def _check_rights(machine: Machine) -> None:
    """Who may read and write, whatever happened to the file."""
    seen = machine.run(f"ls -la {STATE}").stdout
    assert _enqueue(machine, "tell", "--in", "1d"), seen
    assert "secret" in _dbq(machine, "list", user="nag"), seen
    assert machine.run(["cat", QUEUE], user="nag").returncode == 0
    for attempt in (
        ["dbq", "enqueue", "tell", "--config", CONFIG],
        ["touch", f"{STATE}/queue.new"],
        ["sh", "-c", f": >> {QUEUE}"],
        ["flock", "--shared", "--nonblock", f"{STATE}/queue.lock", "true"],
        ["sh", "-c", f": < {STATE}/queue.claims"],
    ):
        assert machine.run(attempt, user="nag", check=False).returncode != 0, (attempt, seen)
    for attempt in (
        ["touch", f"{STATE}/queue.new"],
        ["mv", f"{STATE}/queue.torn", f"{STATE}/queue.old"],
        ["ln", "-s", "/etc/passwd", f"{STATE}/queue.hint"],
        ["rm", "--force", QUEUE],
        ["touch", "/var/log/dbbasic-queue/new.log"],
    ):
        assert machine.run(attempt, user="web", check=False).returncode != 0, (attempt, seen)
    for attempt in (
        ["dbq", "list", "--config", CONFIG],
        ["cat", QUEUE],
        ["ls", STATE],
        ["cat", LOG],
    ):
        done = machine.run(attempt, user="stranger", check=False)
        assert done.returncode != 0, (attempt, seen)
        assert "secret" not in done.stdout + done.stderr


@pytest.mark.parametrize("user", ["root", "_dbbasic-queue"])
def test_rights_outlive_a_prune(machine: Machine, user: str) -> None:
    """When root or the worker's user writes the table anew, all may do as before."""
    gone = _enqueue(machine, "tell", "--in", "1d")
    _dbq(machine, "cancel", gone, user="web")
    was = machine.path(QUEUE).stat().st_ino
    assert _dbq(machine, "prune", "--older-than", "0", user=user) == "removed 1 job\n"
    assert machine.path(QUEUE).stat().st_ino != was, "it was to be written anew"
    _check_rights(machine)


COMPACT = """
import sys
sys.path.insert(0, "/usr/lib/dbbasic-queue")
from dbbasic_queue import Queue
queue = Queue(sys.argv[1])
names = queue.enqueue_many([("tell", {"say": "x" * 20000}, 4e9) for _ in range(100)])
big = {"tell": lambda payload: "y" * 9000}
for name in names:
    queue.cancel_job(name)
queue.engine.table.sibling("torn").touch()
with queue.engine.table.writing():
    queue.engine.table.rewrite()
"""


def test_what_a_producer_cannot_do_names_the_command(machine: Machine) -> None:
    """The web's user is told how the worker's user does it, and that command works."""
    gone = _enqueue(machine, "tell", "--in", "1d")
    _dbq(machine, "cancel", gone, user="web")
    done = machine.run(
        ["dbq", "prune", "--older-than", "0", "--file", QUEUE], user="web", check=False
    )
    assert done.returncode == 2
    assert f"sudo -u _dbbasic-queue dbq prune --file {QUEUE}" in done.stderr
    said = _dbq(machine, "prune", "--older-than", "0", user="_dbbasic-queue")
    assert said == "removed 1 job\n"


def test_rights_outlive_a_compaction(machine: Machine) -> None:
    """A table that the worker writes anew is everybody's as before."""
    machine.run(["/usr/bin/python3", "-c", COMPACT, QUEUE], user="_dbbasic-queue")
    _check_rights(machine)
    _dbq(machine, "prune", "--older-than", "0")


# --- From installed to jobs that run -------------------------------------------------------------

EDIT = f"""
sed -i -e 's|^handlers = .*|handlers = "jobs:HANDLERS"|' \
    -e '0,/^# directory = /s|^# directory = .*|directory = "/srv/shop"|' \
    -e 's|^python = .*|python = "/srv/shop/venv/bin/python"|' {CONFIG}
"""


def test_three_commands_lead_to_jobs_that_run(machine: Machine) -> None:
    """Edit, check, install; a job of the web's user then runs by the application's interpreter."""
    machine.run(EDIT)
    assert "would work here" in _dbq(machine, "check")
    say(machine.run(["dbq-install-systemd", "--config", CONFIG]).stdout)
    job_id = _enqueue(machine, "tell", '{"say": "secret"}')
    job = _wait_for(machine, job_id, "completed", seconds=20)
    assert job["result"] == {
        "prefix": "/srv/shop/venv",
        "user": "_dbbasic-queue",
        "library": "/usr/lib/dbbasic-queue/dbbasic_queue",
        "own": "mine",
        "said": "secret",
    }
    _check_rights(machine)


ENQUEUE = f"""
from dbbasic_queue import Queue
print(Queue("{QUEUE}").enqueue("tell", {{"say": "from the application"}}))
"""


def test_an_application_enqueues_from_its_own_environment(machine: Machine) -> None:
    """With the library's folder in a .pth file, its interpreter adds jobs as the web's user."""
    (site,) = machine.path("/srv/shop/venv/lib").glob("python3.*/site-packages")
    (site / "dbbasic-queue.pth").write_text("/usr/lib/dbbasic-queue\n")
    done = machine.run(["/srv/shop/venv/bin/python", "-c", ENQUEUE], user="web")
    job = _wait_for(machine, done.stdout.strip(), "completed", seconds=20)
    result = job["result"]
    assert isinstance(result, dict)
    assert result["said"] == "from the application"
    (site / "dbbasic-queue.pth").unlink()


def _of_the_page(language: str) -> list[str]:
    """The code blocks of a language in that section of docs/operations.md."""
    page = (CHECKOUT / "docs/operations.md").read_text()
    section = page.split("## Your application as its own user")[1].split("\n## ")[0]
    return re.findall(rf"^```{language}\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)


def test_an_application_of_a_user_of_its_own(machine: Machine) -> None:
    """Each command of the operations page, as it stands there, leads to a job that runs."""
    for user in ("www-data", "nagios"):
        machine.run(["useradd", "--system", user], check=False)  # as their packages do
    machine.write("/srv/shop/jobs.py", JOBS.replace('"tell": tell', '"tell": tell, "greet": str'))
    machine.path("/etc/shop").mkdir()
    machine.write("/etc/shop/dbq.toml", *_of_the_page("toml"))
    for line in "".join(_of_the_page("console")).splitlines():
        command = line.removeprefix("# ").replace("sudo -u", "runuser -u")
        done = machine.run(re.sub(r"(runuser -u \S+)", r"\1 --", command), check=False)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        if " enqueue " in command:
            show = ["dbq", "show", done.stdout.strip(), "--json", "--config", "/etc/shop/dbq.toml"]
            machine.wait(
                "the job to be completed",
                lambda show=show: json.loads(machine.run(show).stdout)["status"] == "completed",
                30,
            )
    owners = machine.run("stat --format '%U %G %a' /srv/shop/queue /srv/shop/queue/queue.tsv")
    assert owners.stdout.splitlines()[0] == "shop shop 2750"
    assert owners.stdout.splitlines()[1].startswith("shop shop 660")
    machine.run("dbq-install-systemd --remove --name shop && rm -r /etc/shop /srv/shop/queue")
    machine.write("/srv/shop/jobs.py", JOBS)


def _daily_tasks() -> dict[str, list[str]]:
    """What the table of docs/operations.md says: task -> what to type."""
    page = (CHECKOUT / "docs/operations.md").read_text()
    rows = page.split("## Each day")[1].split("\n## ")[0].split("|---|---|\n")[1]
    table = rows.split("\n\n")[0]
    cells = [row.strip("| ").split(" | ") for row in table.strip().splitlines()]
    return {task: re.findall("`([a-z][^`]* [^`]+|dbq [^`]+)`", typed) for task, typed in cells}


@pytest.mark.parametrize("task", _daily_tasks())
def test_a_daily_task(machine: Machine, task: str) -> None:
    """Each command of the operations page, as it stands there, as root."""
    running = "stop a job" in task
    job_id = _enqueue(
        machine, *(("slow", '{"seconds": 60}') if running else ("tell", "--in", "1d"))
    )
    if running:
        _wait_for(machine, job_id, "processing", seconds=70)
    if "run a failed job again" in task:
        _dbq(machine, "cancel", job_id)
    for command in _daily_tasks()[task]:
        typed = f"cd $(mktemp -d -p /run) && {command.replace('ID', job_id)}"
        done = machine.run(typed, environment={"EDITOR": "true"}, check=False)
        assert done.returncode == 0, f"{typed}: {done.stdout}{done.stderr}"
        machine.run("sleep 1")
    if running:
        _wait_for(machine, job_id, "cancelled", seconds=20)
    _dbq(machine, "cancel", job_id, check=False)


def test_health_is_told_to_monitoring(machine: Machine) -> None:
    """The monitoring's user gets OK and the numbers, also from where Nagios looks."""
    for plugin in ("check_dbq", "/usr/lib/nagios/plugins/check_dbq"):
        done = machine.run([plugin, "--config", CONFIG], user="nag", check=False)
        assert (done.returncode, done.stdout[:7]) == (0, "DBQ OK:"), done.stdout
    stranger = machine.run(["check_dbq", "--config", CONFIG], user="stranger", check=False)
    assert stranger.returncode == 3
    machine.run(["systemctl", "start", "dbq-main-health.service", "dbq-main-prune.service"])
    _nothing_failed(machine)


def test_logrotate_loses_no_line(machine: Machine) -> None:
    """Forced while jobs run: each job's end is in the log or in the rotated one, once."""
    names = [_enqueue(machine, "tell") for _ in range(3)]
    machine.run(["logrotate", "--force", "/etc/logrotate.d/dbbasic-queue"])
    names += [_enqueue(machine, "tell") for _ in range(3)]
    machine.run(["logrotate", "--force", "/etc/logrotate.d/dbbasic-queue"])
    for name in names:
        _wait_for(machine, name, "completed")
    said = machine.run(f"zcat -f {LOG}*").stdout
    assert [len(re.findall(f"completed.*{n}|{n}.*completed", said)) for n in names] == [1] * 6, said
    _check_rights(machine)


def test_another_user_of_the_worker_needs_no_more_than_an_installation(machine: Machine) -> None:
    """Jobs run as it, also after a boot's systemd-tmpfiles and a rotation, and nothing loops."""
    machine.run("usermod --append --groups _dbbasic-queue baker")
    machine.run(f"sed -i 's/^user = .*/user = \"baker\"/' {CONFIG}")
    say(machine.run(["dbq-install-systemd", "--config", CONFIG]).stderr)
    rotate = "logrotate --force /etc/logrotate.d/dbbasic-queue"
    for step in ("true", "systemd-tmpfiles --create", rotate):
        machine.run(step)
        job_id = _enqueue(machine, "tell")
        result = _wait_for(machine, job_id, "completed", seconds=20)["result"]
        assert isinstance(result, dict)
        assert result["user"] == "baker", step
        assert job_id in machine.path(LOG).read_text(), step
        assert machine.run(["dbq-install-systemd", "--config", CONFIG, "--check"]).returncode == 0
    started = "systemctl show -P ExecMainStartTimestampMonotonic dbq-main-worker.service"
    machine.run("systemctl stop dbq-main-worker.timer; sleep 3")
    seen = machine.run(started).stdout
    machine.run("sleep 5")
    assert machine.run(started).stdout == seen, "it is started again and again"
    _nothing_failed(machine)
    machine.run(f"sed -i 's/^user = .*/user = \"_dbbasic-queue\"/' {CONFIG}")
    machine.run(["dbq-install-systemd", "--config", CONFIG])
    machine.run("systemctl start dbq-main-worker.timer")
    _wait_for(machine, _enqueue(machine, "tell"), "completed", seconds=20)


# --- Upgrade, removal, purge ---------------------------------------------------------------------


def test_an_upgrade_leaves_the_running_job_alone(machine: Machine, packages: Packages) -> None:
    """A job that runs when a newer package comes ends as if nothing had happened."""
    job_id = _enqueue(machine, "slow", '{"seconds": 25}')
    _wait_for(machine, job_id, "processing", seconds=20)
    pid = machine.run("systemctl show -P MainPID dbq-main-worker.service").stdout.strip()
    jobs = int(machine.run(f"grep -c '^[^ ]' {QUEUE}").stdout)
    say(_apt(machine, "install", packages.this)[-600:])
    version = machine.run("dpkg-query -W -f='${Version}' dbbasic-queue").stdout
    assert version == packages.version
    assert _job(machine, job_id)["status"] == "processing", "the upgrade was to be quicker"
    assert machine.run("systemctl show -P MainPID dbq-main-worker.service").stdout.strip() == pid
    job = _wait_for(machine, job_id, "completed", seconds=60)
    assert (job["attempts"], job["error"]) == (1, None)
    assert job["result"] == {"pid": int(pid)}
    assert int(machine.run(f"grep -c '^[^ ]' {QUEUE}").stdout) == jobs
    _wait_for(machine, _enqueue(machine, "tell"), "completed", seconds=20)
    assert machine.run(["dbq-install-systemd", "--config", CONFIG, "--check"]).returncode == 0
    _nothing_failed(machine)
    _check_rights(machine)


OF_A_USER = """
name = "own"
queue.file = "queue.tsv"
worker = { handlers = "jobs:HANDLERS", python = "/usr/bin/python3" }
"""


def _install_units_of_users(machine: Machine) -> None:
    """Units of one user whose manager runs, and of one who is logged out since."""
    for user in ("here", "away"):
        machine.run(f"useradd --create-home {user} && loginctl enable-linger {user}")
        runs = f"systemctl is-active user@$(id -u {user}).service"
        machine.wait(
            f"the manager of {user}",
            lambda runs=runs: not machine.run(runs, check=False).returncode,
        )
        config = f"/home/{user}/dbq.toml"
        machine.write(config, OF_A_USER.replace('"own"', '"units"'), owner=user)
        machine.run(["dbq-install-systemd", "--user", "--config", config], user=user)
    machine.run("loginctl disable-linger away; systemctl stop user@$(id -u away).service")


def test_a_removal_waits_and_keeps_the_queue(machine: Machine) -> None:
    """The running job is done, nothing is left to fail, and queue, log and config stay."""
    machine.write("/home/web/dbq.toml", OF_A_USER, owner="web")
    machine.run(["dbq-install-cron", "--user", "--config", "/home/web/dbq.toml"], user="web")
    _install_units_of_users(machine)
    (site,) = machine.path("/srv/shop/venv/lib").glob("python3.*/site-packages")
    (site / "dbbasic-queue.pth").write_text("/usr/lib/dbbasic-queue\n")
    job_id = _enqueue(machine, "slow", '{"seconds": 8}')
    _wait_for(machine, job_id, "processing", seconds=20)
    said = _apt(machine, "remove", "dbbasic-queue")
    assert "own is no longer scheduled in the crontab of web" in said, said
    (site / "dbbasic-queue.pth").unlink()
    assert "dbbasic-queue.pth leads to the library, which goes now" in said, said
    assert "/srv/shop/venv/bin/pip install dbbasic-queue" in said
    for user in ("here", "away"):
        assert f"units is no longer scheduled by the systemd of {user}" in said, said
        assert not machine.path(f"/home/{user}/.config/systemd/user").exists()
        machine.run(f"loginctl disable-linger {user}; systemctl stop user@$(id -u {user}).service")
        machine.run(f"userdel --remove {user}")
    assert machine.run(["crontab", "-u", "web", "-l"], check=False).stdout == ""
    machine.run("rm -r /home/web/dbq.toml /home/web/.local")
    assert f"dbq-install-systemd --config {CONFIG}" in said, said
    row = next(r for r in machine.path(QUEUE).read_text().splitlines() if r.startswith(job_id))
    assert row.split("\t")[3] == "completed"
    assert machine.path(CONFIG).is_file()
    assert machine.path(LOG).is_file()
    assert machine.run("ls /etc/systemd/system").stdout.count("dbq-main") == 0
    assert machine.run("systemctl list-units --all --no-legend 'dbq-*'").stdout == ""
    _nothing_failed(machine)


def test_a_purge_keeps_unfinished_jobs_unless_told(machine: Machine, packages: Packages) -> None:
    """Without anybody to ask, the queue stays, and apt's output says so."""
    rows = machine.path(QUEUE).read_text()
    assert "\tpending\t" in rows
    said = _apt(machine, "purge", "dbbasic-queue")
    assert re.search(rf"{QUEUE} holds \d+ unfinished jobs, and was kept", said), said
    assert machine.path(QUEUE).read_text() == rows
    assert not machine.path(CONFIG).exists()
    assert not machine.path(LOG).exists()


def test_a_reinstallation_finds_its_jobs(machine: Machine, packages: Packages) -> None:
    """What the purge kept is worked on once there are handlers again; by the packaged units now."""
    _apt(machine, "install", packages.this)
    assert set(_units(machine, "is-active").values()) == {"inactive"}
    machine.write("/etc/dbbasic-queue/jobs.py", "HANDLERS = {'tell': lambda payload: payload}\n")
    machine.run(f"sed -i 's|^handlers = .*|handlers = \"jobs:HANDLERS\"|' {CONFIG}")
    starters = [f"dbq-main-{starter}" for starter in STARTERS]
    machine.run(["systemctl", "enable", "--now", *starters])
    assert set(_units(machine, "is-active").values()) == {"active"}
    job_id = _enqueue(machine, "tell", '{"say": "secret"}')
    _wait_for(machine, job_id, "completed", seconds=20)
    _check_rights(machine)


def test_units_that_were_enabled_come_back(machine: Machine, packages: Packages) -> None:
    """Removed and installed again, the packaged units are enabled and active as they were."""
    _apt(machine, "remove", "dbbasic-queue")
    _nothing_failed(machine)
    _apt(machine, "install", packages.this)
    assert set(_units(machine, "is-enabled").values()) == {"enabled"}
    assert set(_units(machine, "is-active").values()) == {"active"}
    _wait_for(machine, _enqueue(machine, "tell", '{"say": "secret"}'), "completed", seconds=20)


def test_cron_runs_the_private_library_too(machine: Machine, packages: Packages) -> None:
    """Beside enabled units cron is refused; its entry does a job; a removal takes it out."""
    refused = machine.run(["dbq-install-cron", "--config", CONFIG], check=False)
    assert "by systemd (units of a package) already" in refused.stderr
    assert not machine.path("/etc/cron.d/dbq-main").exists()
    machine.run(["systemctl", "disable", "--now", *(f"dbq-main-{each}" for each in STARTERS)])
    machine.run(["dbq-install-cron", "--config", CONFIG])
    job_id = _enqueue(machine, "tell", '{"say": "secret"}')
    entry = machine.path("/etc/cron.d/dbq-main").read_text()
    worker = next(line for line in entry.splitlines() if " work " in line)
    assert "/usr/bin/python3 -P /usr/lib/dbbasic-queue work" in worker
    _wait_for(machine, job_id, "completed", seconds=75)
    assert "dbq-install-cron --config" in _apt(machine, "remove", "dbbasic-queue")
    assert not machine.path("/etc/cron.d/dbq-main").exists()
    _apt(machine, "install", packages.this)


# Purges at a terminal, and types the answer when the question is there.
ANSWERED = """
import os, pty, sys

answer, seen = sys.argv[1].encode() + b"\\n", b""


def read(terminal):
    global answer, seen
    data = os.read(terminal, 1024)
    seen += data
    if b"[yes/no]" in seen and answer:
        os.write(terminal, answer)
        answer = b""
    return data


status = pty.spawn(["apt-get", "purge", "--yes", "dbbasic-queue"], read, lambda _: b"")
sys.exit(os.waitstatus_to_exitcode(status))
"""


def test_a_purge_asks(machine: Machine, packages: Packages) -> None:
    """With a user at a terminal there is a question; no keeps the queue, yes deletes it."""
    for answer, kept in (("no", True), ("yes", False)):
        asking = {"DEBIAN_FRONTEND": "readline", "TERM": "dumb"}
        line = ["/usr/bin/python3", "-c", ANSWERED, answer]
        said = machine.run(line, environment=asking).stdout
        assert "Delete a job queue that holds unfinished jobs?" in said, said
        assert machine.path(QUEUE).exists() is kept, said
        if kept:
            _apt(machine, "install", packages.this)


def test_nothing_is_left_behind(machine: Machine, before: set[str]) -> None:
    """After the purge the disk is as it was before the first installation, but for the user."""
    machine.run("rm -f /etc/dbbasic-queue/jobs.py; rm -rf /etc/dbbasic-queue")
    left = _disk(machine) - before
    assert left == set()
    _nothing_failed(machine)


def test_an_image_is_installed_into_from_outside(machine: Machine, packages: Packages) -> None:
    """dpkg --root, which sets DPKG_ROOT: the scripts touch that root, and nothing of this one."""
    image = "/opt/image"
    machine.run(
        "cd /opt && mkdir -p image/etc image/var/lib/dpkg image/var/cache/debconf && "
        "touch image/var/lib/dpkg/status && cp /etc/passwd /etc/group /etc/debconf.conf image/etc"
    )
    machine.run(
        f"cd {image} && mkdir -p usr/bin usr/sbin usr/lib && ln -s usr/bin usr/sbin usr/lib ."
    )
    was = _disk(machine)
    force = "--force-depends --force-script-chrootless"
    machine.run(f"dpkg --root={image} {force} -i {packages.this}")
    listing = machine.run(f"stat -c '%U %a %n' {image}{STATE} {image}/var/lib/dbbasic-queue").stdout
    assert "2750" in listing
    assert "_dbbasic-queue:" in machine.path(f"{image}/etc/passwd").read_text()
    machine.run(f"dpkg --root={image} {force} --purge dbbasic-queue")
    assert not machine.path(f"{image}/var/lib/dbbasic-queue").exists()
    assert {p for p in _disk(machine) - was if not p.startswith(image)} == set()
