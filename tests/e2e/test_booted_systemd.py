"""dbq-install-systemd on a booted Debian: units that run, wake, refuse, survive a boot and go away.

Run by `make e2e`; `DEBIAN=13` takes another release. The tests share one machine and go from top to
bottom: what one installs, later ones use.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from machine import VENV, Machine, say

from dbbasic_queue.systemd.sandbox import REFUSALS

HANDLERS = """
import json, mmap, os, socket, subprocess, sys, time
from pathlib import Path

OUT = Path(os.environ["OUT"])


def note(payload):
    OUT.joinpath(payload["name"]).write_text(repr(time.time()))


def describe(payload):
    words = Path("/proc/self/cmdline").read_bytes().split(b"\\0")[:-1]
    variables = {os.fsdecode(k): os.fsdecode(v) for k, v in os.environb.items()}
    said = {"argv": list(map(os.fsdecode, words)), "cwd": os.getcwd(), "environment": variables}
    OUT.joinpath(payload["name"]).write_text(json.dumps(said))


def slow(payload):
    OUT.joinpath(payload["name"] + ".begun").touch()
    time.sleep(payload["seconds"])
    note(payload)


def tries(payload):
    found = {}
    for name, attempt in ATTEMPTS.items():
        try:
            attempt()
            found[name] = "done"
        except (OSError, subprocess.CalledProcessError) as error:
            found[name] = type(error).__name__
    OUT.joinpath(payload["name"]).write_text(json.dumps(found))


def own_file(folder):
    path = Path(folder, "dbq-e2e-try")
    path.touch()
    path.unlink()


def give_group():
    path = OUT / "shared"
    path.touch()
    os.chown(path, -1, int(os.environ["SHARED_GROUP"]))


def setgid():
    said = subprocess.run(["/opt/id-mail", "-gn"], capture_output=True, text=True, check=True)
    if said.stdout.strip() != "mail":
        raise PermissionError(said.stdout)


def limits(payload):
    found = {"umask": f"{os.umask(0):04o}", "nice": os.getpriority(os.PRIO_PROCESS, 0)}
    own_file("/srv/app/uploads")
    OUT.joinpath(payload["name"]).write_text(json.dumps(found))


def stand_back(payload):
    OUT.joinpath(payload["name"]).write_text(str(os.getpriority(os.PRIO_PROCESS, 0)))
    os.nice(5)
    time.sleep(0.5)  # a worker looks at its niceness after some of the short jobs only


def shout(payload):
    print("<7>from a handler", flush=True)
    note(payload)


W_X = mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
ATTEMPTS = {
    "write": lambda: own_file("/srv/app"),
    "home": lambda: os.listdir("/home/zoe"),
    "tmp": lambda: os.stat("/tmp/of-others"),
    "network": lambda: socket.socket(socket.AF_INET),
    "code": lambda: mmap.mmap(-1, 4096, prot=W_X),
    "memory": lambda: open("/proc/meminfo").read(),
    "nice": lambda: os.nice(1),
    "interfaces": socket.if_nameindex,
    "namespaces": lambda: subprocess.run(["unshare", "--user", "true"], check=True),
    "devices": lambda: open("/dev/of-others").close(),
    "setgid": setgid,
    # What must be possible under each profile, and under none:
    "write beside the queue": lambda: own_file(OUT),
    "write in a /tmp": lambda: own_file("/tmp"),
    "give a file a shared group": give_group,
    "open a packet socket": lambda: socket.socket(socket.AF_PACKET),
    "become more important": lambda: os.nice(-5),
}
HANDLERS = {
    "note": note, "describe": describe, "slow": slow, "tries": tries, "limits": limits,
    "shout": shout, "stand_back": stand_back,
}
"""
NEWLINE = "\n"
SETTLED = ["/etc", "/home", "/opt", "/root", "/srv", "/usr", "/var/lib"]


@dataclasses.dataclass(frozen=True)
class App:
    """One application on the machine: its folders, its config, and what its jobs left behind."""

    machine: Machine
    name: str
    user: str
    config: str
    folder: str

    def configure(self, text: str) -> None:
        """Write `dbq.toml`; `{out}` and `{group}` in it are filled in."""
        out = f"{self.folder}/out"
        self.machine.run(["install", "-d", "-m", "0750", "-o", self.user, self.folder, out])
        group = self.machine.run("getent group shared | cut -d: -f3").stdout.strip()
        body = text.replace("{out}", out).replace("{group}", group)
        self.machine.write(self.config, f'name = "{self.name}"\n' + body)

    def install(self, *options: str, user: str = "root", check: bool = True) -> str:
        """Run dbq-install-systemd and return all that it said."""
        command = [f"{VENV}/bin/dbq-install-systemd", "--config", self.config, *options]
        done = self.machine.run(command, user=user, check=check)
        return done.stdout + done.stderr

    def check(self, user: str = "root") -> int:
        """The exit status of `--check`."""
        command = [f"{VENV}/bin/dbq-install-systemd", "--config", self.config, "--check"]
        return self.machine.run(command, user=user, check=False).returncode

    def enqueue(self, job_type: str, **payload: object) -> None:
        """Enqueue one job as the application's user, by the command."""
        dbq = [f"{VENV}/bin/python", "-m", "dbbasic_queue.cli", "enqueue", job_type]
        self.machine.run([*dbq, json.dumps(payload), "--config", self.config], user=self.user)

    def enqueue_quickly(self, name: str) -> float:
        """Enqueue a `note` as a program does; returns the time at which that was done."""
        code = (
            "import sys, time; from dbbasic_queue import Queue; queue = Queue(sys.argv[1]); "
            "queue.enqueue('note', {'name': sys.argv[2]}); print(time.time())"
        )
        queue = f"{self.folder}/queue.tsv"
        command = [f"{VENV}/bin/python", "-c", code, queue, name]
        return float(self.machine.run(command, user=self.user).stdout)

    def result(self, name: str, seconds: float = 75) -> str:
        """What the job wrote; waits for it."""
        path = self.machine.path(f"{self.folder}/out/{name}")
        self.machine.wait(f"{path.name} of {self.name}", lambda: _text(path), seconds)
        return path.read_text()

    def unit(self, role: str) -> str:
        """The name of a unit."""
        return f"dbq-{self.name}-{role}"

    def state(self, role: str) -> str:
        """systemd's word for what a unit is doing."""
        command = ["systemctl", "is-active", self.unit(role)]
        return self.machine.run(command, check=False).stdout.strip()

    def rest(self) -> None:
        """Wait until no worker runs."""
        self.machine.wait(
            "the end of the worker", lambda: self.state("worker.service") == "inactive"
        )

    def stop(self, *roles: str) -> None:
        """Stop these units until the next `install`."""
        self.machine.run(["systemctl", "stop", *map(self.unit, roles)])


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""


BASIC = """
[queue]
file = "/var/lib/app/queue.tsv"
[worker]
handlers = "app_jobs:HANDLERS"
directory = "/srv/app"
user = "app"
python = "/opt/dbq/venv/bin/python"
environment = { OUT = "{out}", SHARED_GROUP = "{group}" }
timeout = "20s"
"""
FULL = (
    BASIC
    + """
[[recurring]]
name = "worker-report"
type = "note"
payload = { name = "report" }
schedule = "0 2 * * *"
catch_up = true
[prune]
completed = "7d"
[health]
[log]
file = "/var/lib/app/log/dbq.log"
"""
)


def of_others(machine: Machine) -> None:
    """Files that every user can open, in places that do not outlive a boot."""
    machine.run("touch /tmp/of-others /dev/of-others; chmod 0666 /tmp/of-others /dev/of-others")


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    """A booted machine with the project and two users."""
    with Machine(os.environ.get("DBQ_E2E_DEBIAN", "12")) as machine:
        machine.install_project()
        machine.run("useradd --system app; useradd --create-home zoe; groupadd shared")
        machine.run("usermod --append --groups shared app")
        machine.write("/srv/app/app_jobs.py", HANDLERS)
        of_others(machine)
        machine.run("cp /usr/bin/id /opt/id-mail; chgrp mail /opt/id-mail; chmod 2755 /opt/id-mail")
        machine.run(f"{VENV}/bin/python -m compileall -q /srv/app {VENV}", check=False)
        yield machine


@pytest.fixture(scope="module")
def before(machine: Machine) -> set[str]:
    """All paths on the machine's disk before anything was installed."""
    machine.run("install -d -o app /var/lib/app")
    return _disk(machine)


@pytest.fixture(scope="module")
def app(machine: Machine, before: set[str]) -> App:
    """The application, configured and not yet installed."""
    app = App(machine, "app", "app", "/etc/app/dbq.toml", "/var/lib/app")
    machine.run("install -d -o app /var/lib/app/log")
    app.configure(FULL)
    return app


def _disk(machine: Machine) -> set[str]:
    """Everything that is on the disk but journals, caches and the queues themselves."""
    found = machine.run(["find", *SETTLED, "!", "-path", "*/__pycache__*"]).stdout.splitlines()
    mine = ("/var/lib/app", "/var/lib/odd", "/etc/app", "/etc/odd", "/home/zoe/app")
    # systemd's own, of all machines that ran for a while
    other = ("/var/lib/systemd/timers/stamp-apt", "/var/lib/systemd/random-seed")
    return {path for path in found if not path.startswith((*mine, *other))}


def _tell(app: App, name: str, enqueued: float) -> None:
    say(f"  {name}: started {float(app.result(name)) - enqueued:.2f} s after it was enqueued")


# --- Installation --------------------------------------------------------------------------------


def test_what_would_not_run_is_refused_before_anything_is_written(app: App) -> None:
    """A missing folder and an unknown user are named, and no unit is written."""
    app.machine.write("/etc/app/bad.toml", BASIC.replace("/var/lib/app", "/srv/none"))
    bad = App(app.machine, "bad", "app", "/etc/app/bad.toml", "/srv/none")
    assert "/srv/none: there is no such folder" in bad.install(check=False)
    app.machine.write("/etc/app/bad.toml", BASIC.replace('"app"', '"unknown-user"'))
    assert "there is no user 'unknown-user'" in bad.install(check=False)
    assert app.machine.run("ls /etc/systemd/system").stdout.count("dbq-") == 0


def test_install_starts_timers_and_no_service(app: App) -> None:
    """After the install all timers and the path are enabled and active, and no service ran."""
    say(app.install())
    shown = app.machine.run("systemctl list-units --all --no-legend --plain 'dbq-*'").stdout
    states = {line.split()[0]: line.split()[2] for line in shown.splitlines()}
    starters = {name for name in states if not name.endswith(".service")}
    roles = ["worker.timer", "worker.path", "prune.timer", "health.timer"]
    assert starters == {app.unit(r) for r in [*roles, "recurring@worker-report.timer"]}
    assert {states[name] for name in starters} == {"active"}
    enabled = app.machine.run("systemctl is-enabled " + " ".join(starters)).stdout.split()
    assert enabled == ["enabled"] * len(starters)


def test_a_second_install_writes_nothing(app: App) -> None:
    """`--check` says in sync, and a second apply leaves every file as it was."""
    assert app.check() == 0
    stamps = "stat -c '%n %y %i' /etc/systemd/system/dbq-* /var/lib/dbbasic-queue/installed/*"
    first = app.machine.run(stamps).stdout
    assert "nothing was written" in app.install()
    assert app.machine.run(stamps).stdout == first


def test_the_timer_runs_a_job(app: App) -> None:
    """With the path unit stopped, a job is done at the next minute."""
    app.stop("worker.path")
    began = time.time()
    app.enqueue("note", name="by-timer")
    _tell(app, "by-timer", began)
    assert app.check() == 1, "a stopped path unit is not as it should be"
    app.install()
    assert app.check() == 0


# --- The wake file -------------------------------------------------------------------------------


def test_enqueue_starts_a_worker_at_once(app: App) -> None:
    """With the timer stopped and no worker process there, jobs are run when they are enqueued."""
    app.stop("worker.timer")
    for number in range(3):
        app.rest()
        enqueued = app.enqueue_quickly(f"by-wake-{number}")
        _tell(app, f"by-wake-{number}", enqueued)
    app.install()


# Pairs of jobs; the second is enqueued when the worker that ran the first is about to end.
PAIRS = """
import random, sys, time
from pathlib import Path
from dbbasic_queue import Queue

queue, out = Queue(Path(sys.argv[1])), Path(sys.argv[2])


def run(name):
    queue.enqueue("note", {"name": name})
    end = time.monotonic() + 10
    while not (out / name).exists() and time.monotonic() < end:
        time.sleep(0.002)
    return (out / name).exists()


for number in range(50):
    for name in (f"first-{number}", f"second-{number}"):
        if not run(name):
            print("late:", name)
        time.sleep(random.uniform(0, 0.1))
"""


def test_no_wake_is_lost_while_a_worker_ends(app: App) -> None:
    """With the timer stopped, a job enqueued at any moment of a worker's end is run."""
    app.stop("worker.timer")
    python = [f"{VENV}/bin/python", "-c", PAIRS]
    files = ["/var/lib/app/queue.tsv", f"{app.folder}/out"]
    late = app.machine.run([*python, *files], user="app", seconds=400).stdout
    assert late == "", "these waited for a timer"
    app.install()


class Runs:
    """Counts the starts of a worker, which systemd tells as long as this is used."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.unit = app.unit("worker.service")
        self.drop_in = f"/run/systemd/system/{self.unit}.d"

    def __enter__(self) -> Runs:
        self.app.stop("worker.timer")
        self.app.rest()
        loud = f"mkdir -p {self.drop_in}; printf '[Service]\\nLogLevelMax=info\\n'"
        self.app.machine.run(f"{loud} > {self.drop_in}/loud.conf; systemctl daemon-reload")
        self.first = self._count()
        return self

    def _count(self) -> int:
        said = f"journalctl --unit={self.unit} --output=cat | grep -c '^Started'"
        return int(self.app.machine.run(said, check=False).stdout)

    def so_far(self) -> int:
        """How many there were; waits for silence, for a loop would start one each second."""
        time.sleep(4)
        return self._count() - self.first

    def __exit__(self, *_: object) -> None:
        self.app.machine.run(f"rm -r {self.drop_in}; systemctl daemon-reload")
        self.app.install()


def test_a_worker_does_not_wake_itself(app: App) -> None:
    """A run of the worker on an empty queue is one run, not the first of many."""
    with Runs(app) as runs:
        app.machine.run(["systemctl", "start", app.unit("worker.service")])
        assert runs.so_far() == 1


@pytest.mark.parametrize(
    ("owner", "mode"),
    [("root:shared", "0660"), ("zoe:shared", "0664"), ("root:root", "0600"), ("root:root", "0666")],
)
def test_no_owner_of_the_wake_file_makes_a_loop(app: App, owner: str, mode: str) -> None:
    """A wake file that the worker may touch but not own, or neither, as systemd-tmpfiles makes it.

    The worker runs for a job that comes, looks once more at most, and rests.
    """
    wake = "/var/lib/app/queue.wake"
    with Runs(app) as runs:
        app.machine.run(f"chown {owner} {wake}; chmod {mode} {wake}")
        app.enqueue("note", name=f"{owner}-{mode}".replace(":", "-"))
        app.machine.run(["systemctl", "start", app.unit("worker.service")])
        assert 1 <= runs.so_far() <= 4
        seen = runs.so_far()
        assert runs.so_far() == seen
    assert app.check() == 0


def test_an_idle_queue_is_quiet_in_the_journal(app: App) -> None:
    """Starts and ends that found nothing are not told; what a handler prints is, as it is."""
    app.rest()
    time.sleep(1)
    said = (
        f"journalctl -q --output=cat --unit={app.unit('worker.service')} --since=@{time.time():.0f}"
    )
    for _ in range(2):
        app.machine.run(["systemctl", "start", app.unit("worker.service")])
        app.rest()
    assert app.machine.run(said).stdout == ""
    app.enqueue("shout", name="shouted")
    app.result("shouted", seconds=20)
    app.rest()
    assert "<7>from a handler" in app.machine.run(said).stdout


def test_a_log_that_cannot_be_opened_keeps_no_job_from_running(app: App) -> None:
    """Its lines go to the journal then, after one that says why."""
    log = "/var/lib/app/log/dbq.log"
    app.machine.run(f"touch {log}; chown root:root {log}; chmod 0600 {log}")
    app.enqueue("note", name="without-a-log")
    app.result("without-a-log", seconds=20)
    app.rest()
    said = app.machine.run(f"journalctl --output=cat --unit={app.unit('worker.service')}").stdout
    assert log in said
    app.machine.run(f"chown app: {log}")


def test_limits_and_folders_of_the_config_hold(app: App) -> None:
    """[worker] writable, umask, nice, memory_max and cpu_quota, as the worker has them."""
    app.machine.run("install -d -o app /srv/app/uploads")
    keys = 'writable = ["/srv/app/uploads"]\numask = "027"\nnice = 7\nmemory_max = "300M"\n'
    app.configure(FULL.replace("timeout =", keys + 'cpu_quota = "150%"\ntimeout ='))
    app.install()
    app.enqueue("limits", name="limited")
    assert json.loads(app.result("limited", seconds=20)) == {"umask": "0027", "nice": 7}
    shown = ["systemctl", "show", "-P", "MemoryMax", "-P", "CPUQuotaPerSecUSec"]
    said = app.machine.run([*shown, app.unit("worker.service")]).stdout.split()
    quota, memory = sorted(said)  # the quota with as many zeros as this systemd writes
    assert (float(quota.removesuffix("s")), int(memory)) == (1.5, 300 << 20)
    app.configure(FULL)
    app.install()
    app.machine.run("rm -r /srv/app/uploads")


def test_nothing_runs_while_idle(app: App) -> None:
    """Between two runs the application's user has no process at all."""
    app.rest()
    app.machine.wait("the end of all processes", lambda: not _processes(app))
    assert not _processes(app)


def _processes(app: App) -> str:
    """The processes of the application's user."""
    uid = app.machine.uid(app.user)
    return app.machine.run(f"find /proc -maxdepth 1 -name '[0-9]*' -uid {uid}", check=False).stdout


def test_every_service_scores_as_its_profile_promises(app: App) -> None:
    """systemd's own rating of the installed units, on this release of it."""
    limits = {"worker": 1.5, "health": 0.5, "prune": 0.5, "recurring@x": 0.5, "rewake": 0.5}
    for role, limit in {**limits, "failed@x": 0.5}.items():
        command = ["systemd-analyze", "security", "--no-pager", app.unit(f"{role}.service")]
        rating = re.search(r"level for .*: ([0-9.]+)", app.machine.run(command).stdout)
        assert rating is not None
        say(f"  {role}: {rating[1]}")
        assert float(rating[1]) <= limit


# --- What a job gets and may do ------------------------------------------------------------------


def test_every_service_does_its_work_in_its_sandbox(app: App) -> None:
    """Prune, health check, recurring job and report run to a good end when they are started."""
    app.rest()
    app.machine.run(["chgrp", "shared", "/var/lib/app/queue.tsv"])
    app.machine.run(["chmod", "0660", "/var/lib/app/queue.tsv"])
    report = '[report]\nfile = "/var/lib/app/report.html"\n'
    app.configure(FULL.replace('completed = "7d"', 'completed = "0s"') + report)
    app.install()
    queue = app.machine.path("/var/lib/app/queue.tsv")
    assert "by-timer" in queue.read_text()
    for role in ("prune", "health", "recurring@worker-report", "report"):
        app.machine.run(["systemctl", "start", app.unit(f"{role}.service")])
    assert "by-timer" not in queue.read_text(), "prune deleted nothing"
    owner = app.machine.run(["stat", "-c", "%U %G %a", "/var/lib/app/queue.tsv"]).stdout
    assert owner == "app shared 660\n"
    assert "completed" in app.machine.path("/var/lib/app/log/dbq.log").read_text()
    page = app.machine.path("/var/lib/app/report.html").read_text()
    assert re.search("<title>[A-Z]+: app</title>", page)
    assert page.endswith("</html>\n")
    owner = app.machine.run(["stat", "-c", "%U %a", "/var/lib/app/report.html"]).stdout
    assert owner == "app 640\n"
    app.configure(FULL)
    app.install()
    assert app.check() == 0


def test_a_stop_waits_for_the_jobs_in_hand(app: App) -> None:
    """`systemctl stop` returns when the jobs of all processes are done; none is killed."""
    app.configure(FULL.replace("timeout =", "concurrency = 2\ntimeout ="))
    app.install()
    names = ["stopped-1", "stopped-2"]
    for name in names:
        app.enqueue("slow", name=name, seconds=5)
    for name in names:
        begun = app.machine.path(f"{app.folder}/out/{name}.begun")
        app.machine.wait(f"the start of {name}", begun.exists)
    # As the page of operations says: the timer's start of the service would call its stop off.
    app.stop("worker.path", "worker.timer", "worker.service")
    assert [name for name in names if not _text(app.machine.path(f"{app.folder}/out/{name}"))] == []
    app.configure(FULL)
    app.install()


@pytest.mark.parametrize("processes", [1, 2])
def test_the_status_names_the_job_that_runs(app: App, processes: int) -> None:
    """`systemctl status` has a line of it, whichever process runs the job; and of its end."""
    more = f"concurrency = {processes}\ntimeout = '10min'"
    app.configure(FULL.replace('timeout = "20s"', more))
    app.install()
    app.enqueue("slow", name=f"status-{processes}", seconds=500)
    show = ["systemctl", "show", "--value", "--property=StatusText", app.unit("worker.service")]
    app.machine.wait(
        "the status", lambda: app.machine.run(show).stdout.startswith("slow "), seconds=75
    )
    said = app.machine.run(["systemctl", "status", app.unit("worker.service")], check=False).stdout
    (line,) = [line.strip() for line in said.splitlines() if line.strip().startswith("Status:")]
    assert re.fullmatch(r'Status: "slow \w+, attempt 1, since \d\d:\d\d:\d\d"', line), line
    say(f"  {line}")
    cancel = [f"{VENV}/bin/dbq", "cancel", "--running", "--type", "slow", "--config", app.config]
    app.machine.run(cancel, user=app.user)
    app.rest()
    app.configure(FULL)
    app.install()


@pytest.mark.parametrize("profile", ["isolated", "network", "compat"])
def test_a_profile_refuses_what_the_installer_says(app: App, profile: str) -> None:
    """Handlers are refused exactly what the notes of the installation say of their profile."""
    app.machine.run("chmod 0755 /home/zoe; chown app /srv/app")
    app.configure(
        f"{FULL.replace('[[recurring]]', f'hardening = {profile!r}{NEWLINE}[[recurring]]')}"
    )
    said = app.install()
    for each in REFUSALS:
        told = (
            f"hardening = {profile}: handlers and commands cannot {each.said.split('{')[0]}" in said
        )
        assert told == (profile in each.profiles), each.key
    app.enqueue("tries", name=f"tries-{profile}")
    found = json.loads(app.result(f"tries-{profile}"))
    say(f"  {profile}: {found}")
    always = {"open a packet socket", "become more important"}
    refused = {each.key for each in REFUSALS if profile in each.profiles}
    assert {name for name, outcome in found.items() if outcome != "done"} == refused | always
    app.configure(FULL)
    app.install()


@pytest.mark.parametrize("niceness", [0, 4])
def test_a_job_that_stands_back_does_so_for_itself(app: App, niceness: int) -> None:
    """Under compat, which lets jobs call os.nice, the unit lets the worker undo it.

    Where the machine is a container without CAP_SYS_RESOURCE, its systemd cannot give a service
    that right, and says nothing of it; the worker does.
    """
    limit = ["prlimit", "--nice", "--noheadings", "--output=SOFT"]
    given = ["systemd-run", "--quiet", "--wait", "--pipe", "--property=LimitNICE=+0", *limit]
    undone = app.machine.run(given).stdout.strip() == "20"
    say(f"  a service {'has' if undone else 'cannot have'} a limit of its niceness")
    keys = f"hardening = 'compat'\nnice = {niceness}\ntimeout ="
    app.configure(FULL.replace("timeout =", keys))
    app.install()
    app.stop("worker.path", "worker.timer")
    app.rest()
    log = app.machine.path("/var/lib/app/log/dbq.log")
    before = log.read_text().count("raised the niceness")
    names = [f"back-{niceness}-{number}" for number in (1, 2, 3)]
    for name in names:
        app.enqueue("stand_back", name=name)
    app.machine.run(["systemctl", "start", app.unit("worker.service")])
    found = [int(app.result(name)) for name in names]
    app.rest()
    assert found == [niceness + (0 if undone else 5 * number) for number in range(3)]
    assert (log.read_text().count("raised the niceness") == before) == undone
    app.configure(FULL)
    app.install()


ODD = "odd %n $HOME ${HOME} \\\\x41 \"q\" 'r' ; # é [x]*?"


def test_a_process_gets_every_byte_of_hostile_values(machine: Machine, before: set[str]) -> None:
    """Paths and variables full of `%`, `$`, quotes, blanks and backslashes arrive unchanged."""
    folder = f"/var/lib/odd/{ODD}"
    value = ODD + "\\\\ $$ %% %h $(id) `id` \\ " + "long" * 2500
    python = "/opt/odd %n $HOME ${HOME} ; #/bin/python"
    machine.run(["install", "-d", "-o", "app", "/var/lib/odd", folder, f"{folder}/out"])
    machine.run(["ln", "-s", str(VENV), python.removesuffix("/bin/python")])
    machine.write(f"{folder}/env", 'FROM_FILE="50% of $HOME"\n')
    machine.write(f"{folder}/odd_jobs.py", HANDLERS)
    machine.write(f"{folder}/dbq.toml", _odd_config(folder, value, python))
    odd = App(machine, "odd", "app", f"{folder}/dbq.toml", folder)
    odd.install()
    odd.enqueue("describe", name="described")
    said = json.loads(odd.result("described", seconds=30))
    assert said["argv"][0] == python
    assert said["argv"][-2:] == ["--config", odd.config]
    assert said["cwd"] == folder
    assert said["environment"]["ODD"] == value
    assert said["environment"]["FROM_FILE"] == "50% of $HOME"
    assert odd.check() == 0
    odd.install("--remove")
    machine.run(["rm", "-r", "/var/lib/odd", python.removesuffix("/bin/python")])


def _odd_config(folder: str, value: str, python: str) -> str:
    """JSON strings are TOML strings too, for what is in these."""
    keys = {"handlers": "odd_jobs:HANDLERS", "directory": folder, "user": "app", "python": python}
    keys["environment_file"] = f"{folder}/env"
    lines = [f"{key} = {json.dumps(text)}" for key, text in keys.items()]
    variables = {"OUT": f"{folder}/out", "ODD": value}
    given = ", ".join(f"{key} = {json.dumps(text)}" for key, text in variables.items())
    queue = f"[queue]\nfile = {json.dumps(f'{folder}/queue.tsv')}\n[worker]\n"
    return 'name = "odd"\n' + queue + "\n".join([*lines, f"environment = {{ {given} }}"])


def test_a_failure_is_reported(app: App) -> None:
    """A worker that cannot run its handlers fails, and the journal says so at priority err."""
    app.rest()
    app.machine.run(["mv", "/srv/app/app_jobs.py", "/srv/app/away"])
    app.machine.run(["systemctl", "start", app.unit("worker.service")], check=False)
    report = f"journalctl --priority=err --identifier={app.unit('failed')} --output=cat"
    wanted = re.compile(rf"{app.unit('worker')} failed \(exit-code, exited \d\).*\n.*app_jobs")
    found: list[str] = []

    def reported() -> bool:
        found[:] = wanted.findall(app.machine.run(report).stdout)
        return bool(found)

    app.machine.wait("the report", reported, seconds=20)
    say(f"  {found[0]}")
    app.machine.run(["mv", "/srv/app/away", "/srv/app/app_jobs.py"])
    app.machine.run(["systemctl", "start", app.unit("worker.service")])


# --- Later ---------------------------------------------------------------------------------------


def test_two_instances_live_side_by_side(app: App) -> None:
    """A second config whose name begins like the first comes and goes and the first stays."""
    other = App(app.machine, "app-worker", "app", "/etc/app/other.toml", "/var/lib/app/other")
    other.configure(BASIC.replace("/var/lib/app/", "/var/lib/app/other/"))
    other.install()
    other.enqueue("note", name="mine")
    other.result("mine", seconds=30)
    other.install("--remove")
    assert app.check() == 0
    assert app.state("worker.path") == "active"


def test_a_change_of_the_config_is_taken_over(app: App) -> None:
    """What the config no longer names goes, with its stamp and a moved queue's wake file."""
    stamp = app.machine.path("/var/lib/systemd/timers/stamp-dbq-app-recurring@worker-report.timer")
    assert stamp.exists()
    moved = dataclasses.replace(app, folder="/var/lib/app/moved")
    moved.configure(BASIC.replace("/var/lib/app/queue", "/var/lib/app/moved/queue"))
    said = moved.install()
    assert "deleted /etc/systemd/system/dbq-app-recurring@worker-report.timer" in said
    assert not stamp.exists()
    assert not app.machine.path("/var/lib/app/queue.wake").exists()
    moved.enqueue("note", name="moved")
    moved.result("moved", seconds=30)
    app.configure(FULL)
    app.install()
    assert app.check() == 0


def test_all_is_up_again_after_a_boot(app: App) -> None:
    """Timers and path come back by themselves, and a slot missed meanwhile is made up for once."""
    app.machine.run(["systemctl", "start", app.unit("recurring@worker-report.service")])
    app.machine.run("touch -d '3 days ago' /var/lib/systemd/timers/stamp-dbq-app-recurring@*.timer")
    marks = app.machine.path("/var/lib/app/queue.recurring")
    marks.write_text(
        re.sub("^[0-9]+", lambda m: f"{int(m[0]) - 86400}", marks.read_text(), flags=re.M)
    )
    app.machine.power_off()
    app.machine.boot()
    app.result("report")
    assert app.check() == 0
    app.enqueue("note", name="after-boot")
    app.result("after-boot", seconds=20)


def test_status_tells_runs(app: App) -> None:
    """`--status` names every entry with its next run."""
    said = app.install("--status")
    say(said)
    for label in ("worker", "worker (wake)", "worker-report", "prune", "health"):
        assert label in said
    assert time.strftime("%Y-%m-%d") in said


def test_an_edited_unit_is_not_overwritten(app: App) -> None:
    """A unit changed by hand stops the install, which shows the change, until --force."""
    unit = f"/etc/systemd/system/{app.unit('worker.timer')}"
    app.machine.run(f"echo '# mine' >> {unit}")
    assert "# mine" in app.install(check=False)
    app.install("--force")
    assert app.check() == 0
    backups = app.machine.path("/var/lib/dbbasic-queue/backups")
    assert "# mine" in next(backups.iterdir()).read_text()
    app.machine.run("rm -r /var/lib/dbbasic-queue/backups")


def test_remove_leaves_nothing(app: App, before: set[str]) -> None:
    """After `--remove` the disk and systemd are as they were; the queue stays."""
    app.enqueue("slow", name="last", seconds=3)
    app.machine.wait("the job", app.machine.path(f"{app.folder}/out/last.begun").exists)
    app.install("--remove")
    assert app.machine.path(f"{app.folder}/out/last").exists(), "the running job was killed"
    assert _disk(app.machine) - before == set()
    assert before - _disk(app.machine) == set()
    assert not app.machine.path("/var/lib/app/queue.wake").exists()
    assert app.machine.path("/var/lib/app/queue.tsv").exists()
    app.machine.wait("silence", lambda: not _loaded(app.machine, ""), seconds=20)


def _loaded(machine: Machine, scope: str, user: str = "root") -> str:
    """The units of ours that a service manager knows."""
    environment = {"XDG_RUNTIME_DIR": f"/run/user/{machine.uid(user)}"}
    command = f"systemctl {scope} list-units --all --no-legend --plain 'dbq-*'"
    return machine.run(command, user=user, environment=environment).stdout


# --- A user's own units --------------------------------------------------------------------------

USERS = """
[queue]
file = "queue.tsv"
[worker]
handlers = "app_jobs:HANDLERS"
directory = "/srv/app"
python = "/opt/dbq/venv/bin/python"
environment = { OUT = "{out}", SHARED_GROUP = "{group}" }
[[recurring]]
name = "daily"
type = "note"
payload = { name = "daily" }
schedule = "@daily"
catch_up = true
[prune]
completed = "7d"
"""


def test_a_user_without_a_manager_is_told_so(machine: Machine) -> None:
    """Where no service manager of the user runs, nothing is written and the way out is named."""
    zoe = App(machine, "zoe", "zoe", "/home/zoe/app/dbq.toml", "/home/zoe/app")
    zoe.configure(USERS)
    said = zoe.install("--user", user="zoe", check=False)
    assert "loginctl enable-linger zoe" in said
    assert not machine.path("/home/zoe/.config/systemd").exists()


def test_user_units_work_and_leave_nothing(machine: Machine) -> None:
    """The same for a user's own service manager: installed, woken, and gone without a trace."""
    machine.run("loginctl enable-linger zoe")
    machine.run(
        "install -d -o zoe -g zoe /home/zoe/.config /home/zoe/.local /home/zoe/.local/state"
    )
    ready = f"systemctl is-active user@{machine.uid('zoe')}.service"
    machine.wait("zoe's manager", lambda: "inactive" not in machine.run(ready, check=False).stdout)
    first = _disk(machine)
    zoe = App(machine, "zoe", "zoe", "/home/zoe/app/dbq.toml", "/home/zoe/app")
    say(zoe.install("--user", user="zoe"))
    assert zoe.check(user="zoe") == 0
    enqueued = zoe.enqueue_quickly("woken")
    _tell(zoe, "woken", enqueued)
    of_others(machine)  # gone with the boot above
    zoe.enqueue("tries", name="tried")
    found = json.loads(zoe.result("tried"))
    refused = {each.key for each in REFUSALS if "network" in each.profiles and each.in_user_units}
    refused |= {"open a packet socket", "become more important", "give a file a shared group"}
    refused |= {"write"}  # by the rights of /srv/app
    assert {name for name, outcome in found.items() if outcome != "done"} == refused
    zoe.install("--remove", "--user", "zoe")
    # The folder of its stamps is the user manager's own.
    left = {
        path for path in _disk(machine) - first if not path.startswith("/home/zoe/.local/share")
    }
    assert left == set()
    assert not machine.run("find /home/zoe -name 'stamp-*'").stdout
    assert not machine.path("/home/zoe/app/queue.wake").exists()
    machine.wait("silence", lambda: not _loaded(machine, "--user", "zoe"), seconds=20)
