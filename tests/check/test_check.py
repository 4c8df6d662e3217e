"""`dbq check`: what it finds, and that it starts and writes nothing. As another user: tests/e2e."""

from __future__ import annotations

import json
import os
import pwd
import re
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

import dbbasic_queue
from dbbasic_queue import Queue
from dbbasic_queue.check.check import CheckReport, check_config
from dbbasic_queue.check.finding import Level, Problem, fault, warning
from dbbasic_queue.install.manifest import Manifest, save_manifest
from dbbasic_queue.install.site import Site
from dbbasic_queue.support.account import Account

NOW = datetime(2024, 5, 2, 12, 0, 30, tzinfo=UTC)
JOBS = "HANDLERS = {'mail': print, 'tidy': print}\n"


class App:
    """An application in a folder, and its config."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "dbq.toml"
        (folder / "data").mkdir()
        self.write()

    def write(
        self, jobs: str = JOBS, *, worker: str = "", more: str = "", file: str = "data/queue.tsv"
    ) -> None:
        (self.folder / "jobs.py").write_text(jobs)
        python = "" if "python" in worker else f'python = "{sys.executable}"\n'
        handlers = "" if "handlers" in worker else 'handlers = "jobs:HANDLERS"\n'
        self.config.write_text(
            f'name = "shop"\n[queue]\nfile = "{file}"\n[worker]\n{handlers}{python}{worker}\n{more}'
        )

    def check(self, timeout: float = 30) -> CheckReport:
        return check_config(self.config, now=NOW, timeout=timeout)

    def files(self) -> set[str]:
        return {str(path.relative_to(self.folder)) for path in self.folder.rglob("*")}


@pytest.fixture
def app(tmp_path: Path) -> App:
    """An application that has nothing wrong."""
    return App(tmp_path)


def told(report: CheckReport) -> list[str]:
    """Level and text of all findings."""
    return [f"{finding.level}: {finding}" for finding in report.findings]


def test_all_is_well(app: App) -> None:
    """A good config has no findings, its job types are told, and no file is made or changed."""
    before = app.files()
    report = app.check()
    assert told(report) == []
    assert report.ok
    assert (report.path, report.name) == (str(app.config), "shop")
    assert report.types == ("mail", "tidy")
    assert app.files() == before


def test_a_user_without_a_name(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container whose user has a number only, the check asks as that user."""

    def unknown(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    assert told(app.check()) == []


def test_schedules(app: App) -> None:
    """Each schedule is told as it stands, in words, with its next five runs."""
    job = '[[recurring]]\nname = "a"\ntype = "mail"\nschedule = "0 2 * * mon-fri"\n'
    app.write(more=f'{job}[prune]\nfailed = "1d"\n[health]\nschedule = "every 2 hours"\n')
    report = app.check()
    assert [(runs.where, runs.source, runs.words) for runs in report.schedules] == [
        ("[worker].schedule", "* * * * *", "every minute"),
        ("[recurring].schedule of a", "0 2 * * mon-fri", "at 02:00 on Monday to Friday"),
        ("[prune].schedule", "30 3 * * *", "at 03:30 every day"),
        ("[health].schedule", "every 2 hours", "every 2 hours"),
    ]
    recurring = report.schedules[1].next
    assert [run.isoformat() for run in recurring] == [
        f"2024-05-{day:02}T02:00:00+00:00" for day in (3, 6, 7, 8, 9)
    ]


def test_next_runs_are_local_unless_told_otherwise(app: App) -> None:
    """Without a time given, the runs are the coming ones, with the machine's offset from UTC."""
    begun = datetime.now(UTC)
    runs = check_config(app.config).schedules[0].next
    assert len(runs) == 5
    assert begun < runs[0]
    assert all(run.utcoffset() is not None for run in runs)


def test_faults_of_the_file_come_alone(app: App) -> None:
    """With faults in the file these are told, and there is nothing to look further into."""
    app.config.write_text("name = 5\n")
    report = app.check()
    assert not report.ok
    assert (report.name, report.schedules, report.types) == (None, (), ())
    assert told(report) == [
        f"fault: {app.config}:1: [queue].file: is missing",
        f"fault: {app.config}:1: [worker].handlers: is missing, and there are no [commands] either",
        f"fault: {app.config}:1: name: must be a string, not a whole number; put it in quotes",
    ]


def test_report_as_json(app: App) -> None:
    """The report is possible as JSON, with levels as words and times in ISO 8601."""
    app.write(worker='user = "no-such-user"')
    found = json.loads(json.dumps(app.check().as_dict()))
    assert found["ok"] is False
    assert found["findings"] == [
        {
            "level": "fault",
            "where": "[worker].user",
            "what": "there is no user 'no-such-user' on this machine",
        }
    ]
    assert found["schedules"][0]["next"][0] == "2024-05-02T12:01:00+00:00"


HANDLERS = [
    ("", "jobs:HANDLERS cannot be imported: AttributeError"),
    ("HANDLERS = [print]", "jobs:HANDLERS is a list, not a dict of type -> callable"),
    ("HANDLERS = {'mail': 5}", "jobs:HANDLERS['mail'] cannot be called"),
    ("HANDLERS = {5: print}", "jobs:HANDLERS has the key 5, which is not a string"),
    ("import nowhere", "cannot be imported: ModuleNotFoundError: No module named 'nowhere' ("),
    ("\n\n1 / 0", "cannot be imported: ZeroDivisionError: division by zero ("),
    ("x = = 1", "cannot be imported: SyntaxError"),
    ("raise SystemExit('off')", "cannot be imported: SystemExit: off"),
]


@pytest.mark.parametrize(("jobs", "said"), HANDLERS)
def test_handlers_that_fail(app: App, jobs: str, said: str) -> None:
    """What is wrong with the handlers is told with the line of the application."""
    app.write(jobs)
    (found,) = app.check().findings
    assert (found.level, found.where) == (Level.FAULT, "[worker].handlers")
    assert said in found.what
    if said.endswith("("):
        assert re.search(r"jobs\.py, line \d\)", found.what)


def test_handlers_of_several_modules(app: App) -> None:
    """All types are told; a type that two have is a fault, and so is each that cannot be loaded."""
    (app.folder / "mail.py").write_text("HANDLERS = {'post': print}")
    (app.folder / "twice.py").write_text("HANDLERS = {'mail': print}")
    app.write(worker='handlers = ["jobs:HANDLERS", "mail:HANDLERS"]')
    report = app.check()
    assert (told(report), report.types) == ([], ("mail", "post", "tidy"))
    app.write(worker='handlers = ["jobs:HANDLERS", "twice:HANDLERS", "none:HANDLERS"]')
    both = "both jobs:HANDLERS and twice:HANDLERS have a handler for 'mail': take one out"
    (missing, double) = sorted(str(finding) for finding in app.check().findings)
    assert "none:HANDLERS cannot be imported: ModuleNotFoundError" in missing + double
    assert both in missing + double


def test_no_handlers(app: App) -> None:
    """An empty dict is a warning: every job would fail."""
    app.write("HANDLERS = {}")
    assert told(app.check()) == [
        "warning: [worker].handlers: jobs:HANDLERS is empty: every job would fail"
    ]


def test_import_that_prints(app: App) -> None:
    """What the application prints at its import, to any descriptor, does not disturb."""
    app.write(f"import os, sys\nprint('x' * 200000)\nos.write(1, b'{{}}')\n{JOBS}")
    assert told(app.check()) == []


def test_import_that_kills_the_interpreter(app: App) -> None:
    """A process that ends without an answer is told with its exit code and last words."""
    app.write(
        "import os, sys\nsys.stderr.write('first\\nlast words\\n')\nsys.stderr.flush()\nos._exit(7)"
    )
    (found,) = app.check().findings
    assert found.what == f"{sys.executable} ended with 7: last words"


def test_import_that_hangs(app: App) -> None:
    """An import that does not end is broken off, with what it has started."""
    app.write(
        "import subprocess\nfrom pathlib import Path\nchild = subprocess.Popen(['sleep', '1000'])\n"
        "Path('pid').write_text(str(child.pid))\nchild.wait()"
    )
    (found,) = app.check(timeout=3).findings
    assert found.what == "importing jobs:HANDLERS took longer than 3s"
    if not (app.folder / "pid").exists():  # broken off before it had begun
        return
    child = Path("/proc", (app.folder / "pid").read_text(), "stat")
    until = time.monotonic() + 10
    while child.exists() and child.read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < until, "the child is alive"
        time.sleep(0.01)


def test_handlers_of_a_class(app: App) -> None:
    """A dotted attribute, and a mapping that is not a dict, are taken as a worker takes them."""
    jobs = (
        "from types import MappingProxyType\nclass A:\n    ALL = MappingProxyType({'mail': print})"
    )
    app.write(jobs, worker='handlers = "jobs:A.ALL"')
    assert app.check().types == ("mail",)


def test_environment_reaches_the_handlers(app: App) -> None:
    """They are imported in their folder, with [worker].environment and environment_file."""
    (app.folder / "env").write_text("FROM_FILE='b c'\n")
    (app.folder / "work").mkdir()
    jobs = (
        "import os\n"
        "found = [os.environ['A'], os.environ['FROM_FILE'], os.path.basename(os.getcwd())]\n"
        "HANDLERS = dict.fromkeys(found + [str('HOSTNAME_OF_TEST' in os.environ)], print)"
    )
    os.environ["HOSTNAME_OF_TEST"] = "1"
    try:
        app.write(
            jobs, worker='environment = { A = "a" }\nenvironment_file = "env"\ndirectory = "work"'
        )
        (app.folder / "jobs.py").rename(app.folder / "work/jobs.py")
        assert app.check().types == ("False", "a", "b c", "work")
    finally:
        del os.environ["HOSTNAME_OF_TEST"]


@pytest.mark.parametrize("name", ["signal.py", "types.py", "random.py", "select/__init__.py"])
def test_names_of_the_standard_library(app: App, name: str) -> None:
    """A module beside the handlers that Python has, too, is told, and breaks nothing."""
    (app.folder / name).parent.mkdir(exist_ok=True)
    (app.folder / name).write_text("X = 1\n")
    (app.folder / "types").mkdir(exist_ok=True)  # data, not a package
    report = app.check()
    (found,) = report.findings
    file = app.folder / name.partition("/")[0]
    assert str(found) == (
        f"[worker].handlers: {file} bears the name of a module of Python,"
        " which is imported in its place: rename it"
    )
    assert (report.ok, report.types) == (True, ("mail", "tidy"))


def test_interpreter_without_the_library(app: App) -> None:
    """An interpreter that lacks dbbasic_queue is told with the command that gets it."""
    bare = app.folder / "python"
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -S -E "$@"\n')
    bare.chmod(0o755)
    app.write(worker='python = "./python"')
    (found,) = app.check().findings
    assert found.where == "[worker].python"
    assert f"{bare} cannot import dbbasic_queue: ModuleNotFoundError" in found.what
    assert f"{bare} -m pip install dbbasic-queue" in found.what


def test_interpreter_with_another_version(app: App) -> None:
    """An interpreter with another version of the library is a warning."""
    package = app.folder / "old/dbbasic_queue"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("__version__ = '1.0.0'\n")
    app.write(worker=f'environment = {{ PYTHONPATH = "{package.parent}" }}')
    (found,) = app.check().findings
    assert found.level is Level.WARNING
    assert "has dbbasic_queue 1.0.0, this is 2." in found.what


@pytest.mark.parametrize("there", [True, False], ids=["there", "missing"])
def test_urls_of_notify_need_apprise(app: App, there: bool) -> None:
    """Without Apprise, services that `[notify]` names are told with what to install; with it not.

    What counts is the worker's interpreter: the health check runs by it.
    """
    packages = app.folder / "packages"
    packages.mkdir()
    (packages / "dbbasic_queue").symlink_to(Path(dbbasic_queue.__file__).parent)
    if there:
        (packages / "apprise").mkdir()
        (packages / "apprise" / "__init__.py").touch()
    bare = app.folder / "python"  # has the standard library, and what PYTHONPATH names
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    bare.chmod(0o755)
    worker = f'python = "./python"\nenvironment = {{ PYTHONPATH = "{packages}" }}'
    notify = '[health]\nschedule = "*/5 * * * *"\n[notify]\n'
    app.write(worker=worker, more=notify + 'command = ["true"]\n')
    assert told(app.check()) == []
    app.write(worker=worker, more=notify + 'urls = ["mailto://user:secret@example.com"]\n')
    expected = (
        f"fault: [notify].urls: {bare} cannot import Apprise, which tells them: {bare} -m pip "
        "install apprise; for Debian's own Python, apt-get install python3-apprise"
    )
    report = app.check()
    assert told(report) == ([] if there else [expected])
    assert (report.ok, report.types) == (there, ("mail", "tidy"))


def test_interpreter_that_is_none(app: App) -> None:
    """A missing interpreter, and a file that cannot be run, are told."""
    app.write(worker='python = "venv/bin/python"')
    (found,) = app.check().findings
    assert found.where == "[worker].python"
    assert f"{app.folder}/venv does not exist" in found.what
    app.write(worker='python = "./jobs.py"')
    (found,) = app.check().findings
    assert f"cannot run {app.folder}/jobs.py: it is not an executable file" in found.what
    (app.folder / "odd").write_bytes(b"\x7fELF rubbish")
    (app.folder / "odd").chmod(0o755)
    app.write(worker='python = "./odd"')
    (found,) = app.check().findings
    assert found.where == "[worker].python"


def test_recurring_job_without_handler(app: App) -> None:
    """A recurring job that nothing can run is a fault, with the types that there are."""
    app.write(more='[[recurring]]\nname = "a"\ntype = "mial"\nschedule = "@daily"\n')
    assert told(app.check()) == [
        "fault: [recurring].type: a: no handler for 'mial'; there are handlers for: mail, tidy"
    ]


def folder_cases() -> Iterator[tuple[str, str, str, str]]:
    """What is made of the files, the config's lines, the key and the message."""
    yield "", 'file="gone/queue.tsv"', "[queue].file", "gone does not exist; create it before"
    yield "", 'file="jobs.py/queue.tsv"', "[queue].file", "jobs.py is not a directory"
    yield (
        "",
        'file="jobs.py/x/queue.tsv"',
        "[queue].file",
        "{folder}/jobs.py is not a directory",
    )
    yield (
        "mkdir data/queue.lock",
        "",
        "[queue].file",
        "data/queue.lock: it is a directory, not a regular file",
    )
    yield (
        "",
        'worker:directory = "gone"',
        "[worker].directory",
        "gone: {folder}/gone does not exist",
    )
    yield "", 'worker:directory = "no/where"', "[worker].directory", "{folder}/no does not exist"
    yield "", 'worker:directory = "jobs.py"', "[worker].directory", "jobs.py is not a directory"
    yield (
        "",
        'worker:environment_file = "gone"',
        "[worker].environment_file",
        "{folder}/gone does not exist",
    )
    yield (
        "touch env",
        'worker:environment_file = "jobs.py/env"',
        "[worker].environment_file",
        "jobs",
    )
    yield "", 'more:[log]\nfile = "gone/a.log"', "[log].file", "gone does not exist"
    yield "mkdir a.log", 'more:[log]\nfile = "a.log"', "[log].file", "a.log is not a regular file"
    yield (
        "",
        'more:[health]\ntextfile = "gone/a.prom"',
        "[health].textfile",
        "gone does not exist",
    )
    yield "", 'worker:writable = ["gone"]', "[worker].writable", "gone does not exist"
    yield (
        "",
        'more:[report]\nfile = "gone/a.html"',
        "[report].file",
        "gone does not exist",
    )


@pytest.mark.parametrize(("made", "lines", "where", "said"), [*folder_cases()])
def test_files_and_folders(app: App, made: str, lines: str, where: str, said: str) -> None:
    """Files and folders that are missing or of the wrong kind are told with their key."""
    verb, _, target = made.partition(" ")
    if verb:
        path = app.folder / target
        path.mkdir() if verb == "mkdir" else path.touch()
    section, _, text = lines.partition(":")
    if section in ("worker", "more"):
        app.write(**{section: text})
    elif lines:
        app.write(file=lines.split('"')[1])
    before = app.files()
    found = [finding for finding in app.check().findings if finding.where == where]
    assert found
    assert said.format(folder=app.folder) in found[0].what
    assert (found[0].level is Level.WARNING) == (
        "create it before" in found[0].what or "env" in made or "writable" in where
    )
    assert app.files() == before


def test_the_same_finding_is_told_once(app: App) -> None:
    """A folder that is missing for the queue and the log is one finding."""
    app.write(file="gone/queue.tsv", more='[log]\nfile = "gone/a.log"')
    (found,) = app.check().findings
    assert found.where == "[queue].file"
    assert f"install -d -o {Account.find(None).name} {app.folder}/gone" in found.what  # type: ignore[union-attr]


def test_jobs_that_a_deployment_left_behind(app: App) -> None:
    """Where a link in the queue's path was turned, the jobs of the former folder are told."""
    releases = app.folder / "releases"
    current = app.folder / "current"
    for number in ("1", "2"):
        (releases / number / "data").mkdir(parents=True)
    current.symlink_to(releases / "1")
    app.write(file="current/data/queue.tsv")
    queue = Queue(current / "data/queue.tsv")
    queue.enqueue("mail", {})
    queue.enqueue("mail", {}, job_id="done")
    queue.cancel_job("done")
    assert told(app.check()) == []
    current.unlink()
    current.symlink_to("releases/2")
    assert told(app.check()) == [
        f"warning: [queue].file: 1 job left in {releases}/1/data/queue.tsv, where no worker looks"
        f" since {current} leads to {releases}/2: keep the queue outside of {releases}"
    ]
    assert not (releases / "2/data/queue.tsv").exists()


def test_an_environment_file_that_waits(app: App) -> None:
    """A pipe in its place holds the check up no longer than any other fault."""
    os.mkfifo(app.folder / "env")
    app.write(worker='environment_file = "env"')
    assert "fault: [worker].environment_file: " in "\n".join(told(app.check(timeout=5)))


@pytest.mark.parametrize("name", ["DBQ_URL", "DBQ_FILE"])
def test_an_environment_file_that_names_another_queue(app: App, name: str) -> None:
    """A worker goes by [queue]; what is told has no password in it."""
    (app.folder / "env").write_text(f"{name}=redis://:secret@10.0.0.5/0\n")
    (app.folder / "env").chmod(0o600)
    app.write(worker='environment_file = "env"')
    (said,) = [line for line in told(app.check()) if "environment_file" in line]
    assert f"sets {name}, by which the worker does not go: [queue] says where" in said
    assert "secret" not in said


def test_environment_file_that_is_wrong(app: App) -> None:
    """A fault within the environment file is told with its line."""
    (app.folder / "env").write_bytes(b"A=1\n\xff\n")
    app.write(worker='environment_file = "env"')
    assert told(app.check()) == [
        f"fault: [worker].environment_file: {app.folder}/env: line 2: not UTF-8 text"
    ]


def test_scheduled_twice(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that cron and systemd both have is a fault, with the way out."""
    site = Site(root=app.folder / "machine")
    site.installed.mkdir(parents=True)
    for kind in ("cron", "systemd"):
        entry = Path(f"/etc/{kind}-shop")
        site.below(entry).parent.mkdir(exist_ok=True)
        site.below(entry).touch()
        save_manifest(site, Manifest("shop", kind, str(app.config), {entry: ("",)}))
    monkeypatch.setattr("dbbasic_queue.check.check.likely_sites", lambda user: [site])
    (found,) = told(app.check())
    assert found.startswith("fault: name: shop is scheduled 2 times: by cron, by systemd.")


def test_limits_that_are_bound_to_alarm(app: App) -> None:
    """Health limits shorter than the worker's pause, or than a job may run, are warnings."""
    app.write(
        worker='schedule = "0 9-17 * * *"\ntimeout = "1h"',
        more='[health]\nsilent_after = "2h"\noverdue_after = "16h"\n',
    )
    assert told(app.check()) == [
        "warning: [health].silent_after: 2h is less than the 16h that may pass between two runs of "
        "the worker (at minute 0 of hours 9 to 17 every day): it will alarm then",
        "warning: [health].stuck_after: 30min is less than the 1h that a job may run "
        "([worker].timeout): it will alarm for jobs that are well",
    ]
    assert app.check().ok


def test_findings_in_words() -> None:
    """A finding reads like a fault of the file; the level decides whether all is well."""
    assert (
        str(fault("[queue].file", "is not a regular file")) == "[queue].file: is not a regular file"
    )
    assert str(warning("", "dbq.toml:1: x")) == "dbq.toml:1: x"
    assert CheckReport("a", findings=(warning("", "x"),)).ok
    assert not CheckReport("a", findings=(warning("", "x"), Problem(Level.FAULT, "", "y"))).ok
