"""`dbq check` for another user, as root; and as a user who cannot ask for others.

Needs root and the users `nobody` and `daemon`, which every Debian has.
"""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import dbbasic_queue

USER, OTHER = "nobody", "daemon"
PROGRAM = """
import json, os, sys
sys.path.insert(0, sys.argv[3])
from dbbasic_queue.check.check import check_config
if sys.argv[2]:
    import pwd
    account = pwd.getpwnam(sys.argv[2])
    os.setgroups([]); os.setgid(account.pw_gid); os.setuid(account.pw_uid)
print(json.dumps(check_config(sys.argv[1]).as_dict()))
"""


@pytest.fixture
def app() -> Iterator[Path]:
    """An application that belongs to the user, in a folder that all may enter."""
    assert os.geteuid() == 0, "run these tests as root: make e2e"
    folder = Path("/var/tmp/dbq-check-as-user")
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "data").mkdir(parents=True)
    account = pwd.getpwnam(USER)
    os.chown(folder / "data", account.pw_uid, account.pw_gid)
    (folder / "jobs.py").write_text("import os\nHANDLERS = {f'{os.getuid()}': print}\n")
    write(folder)
    yield folder
    shutil.rmtree(folder)


def write(folder: Path, worker: str = "", more: str = "") -> None:
    """The config, by Debian's own interpreter, which every user may run."""
    python = "" if "python" in worker else 'python = "/usr/bin/python3"\n'
    (folder / "dbq.toml").write_text(
        f'name = "a"\n[queue]\nfile = "data/queue.tsv"\n[worker]\nhandlers = "jobs:HANDLERS"\n'
        f'{python}user = "{USER}"\n'
        f'environment = {{ PYTHONPATH = "{library(folder)}" }}\n{worker}\n{more}'
    )


def library(folder: Path) -> Path:
    """A copy of the library and what it needs that the user may read, wherever ours is."""
    target = folder / "library"
    if not target.exists():
        shutil.copytree(Path(dbbasic_queue.__file__).parent, target / "dbbasic_queue")
        from dbbasic import tsv

        shutil.copytree(Path(tsv.__file__).parent, target / "dbbasic")
    return target


def check(folder: Path, user: str = "") -> dict[str, Any]:
    """The report, asked for by root or by another user."""
    config, own = str(folder / "dbq.toml"), str(library(folder))
    command = ["/usr/bin/python3", "-B", "-c", PROGRAM, config, user, own]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(run.stdout)
    return found


def told(report: dict[str, Any]) -> list[str]:
    return [f"{each['level']}: {each['where']}: {each['what']}" for each in report["findings"]]


def test_handlers_are_imported_as_the_user(app: Path) -> None:
    """Root's check imports the handlers as the worker's user, and finds nothing wrong."""
    report = check(app)
    assert told(report) == []
    assert report["types"] == [str(pwd.getpwnam(USER).pw_uid)]


@pytest.mark.parametrize(
    ("command", "where", "said"),
    [
        (
            "chown root data",
            "[queue].file",
            "{app}/data belongs to root, and only the owner of its folder can run a queue:"
            " chown nobody {app}/data",
        ),
        (
            "chown daemon data",
            "[queue].file",
            'set [worker].user = "daemon", or use a folder of its own, made by:'
            " install -d -o nobody {app}/data/a",
        ),
        (
            "chown root data && touch data/others",
            "[queue].file",
            "use a folder of its own, made by: install -d -o nobody {app}/data/a",
        ),
        (
            "chmod 500 data",
            "[queue].file",
            "no write permission in {app}/data: chmod u+rwx {app}/data",
        ),
        (
            "ln -s /elsewhere/queue.tsv data/queue.tsv",
            "[queue].file",
            'name the file that it leads to: file = "/elsewhere/queue.tsv"',
        ),
        (
            "touch data/queue.tsv && chown daemon data/queue.tsv",
            "[queue].file",
            "it belongs to daemon, not to nobody, whose folder it is in; as root: chown -h nobody",
        ),
        (
            "touch data/queue.tsv && chown nobody data/queue.tsv && ln data/queue.tsv other",
            "[queue].file",
            "it has 2 names (hard links)",
        ),
        (
            "ln -s loop data/queue.lock && ln -s queue.lock data/loop",
            "[queue].file",
            "queue.lock: it is a symbolic link",
        ),
        (
            "chmod 700 . && chown root .",
            "",
            "nobody cannot read {app}/dbq.toml: cannot enter {app}",
        ),
        ("chmod 600 dbq.toml", "", "nobody cannot read {app}/dbq.toml: permission denied"),
        (
            "touch data/queue.lock",
            "[queue].file",
            "nobody has no permission to read and write {app}/data/queue",
        ),
        ("rmdir data", "[queue].file", "{app}/data does not exist, and nobody cannot create it"),
        ("chmod 600 jobs.py", "[worker].handlers", "PermissionError"),
    ],
)
def test_what_the_user_may_not_do(app: Path, command: str, where: str, said: str) -> None:
    """What root may do but the worker's user cannot is told."""
    subprocess.run(["sh", "-ec", command], cwd=app, check=True)
    found = [each for each in check(app)["findings"] if each["where"] == where]
    assert found
    assert found[0]["level"] == "fault"
    assert said.format(app=app) in found[0]["what"]


def test_advice_takes_nothing_from_others(app: Path) -> None:
    """Folders of the system are not given away: own folders, access lists, and groups."""
    write(app, more='[log]\nfile = "/var/log/a.log"\n[health]\ntextfile = "/etc/a.prom"\n')
    lines = told(check(app))
    assert not [line for line in lines if "chown" in line]
    log, textfile = lines
    assert log == (
        "warning: [log].file: /var/log/a.log does not exist, and nobody cannot create it in"
        " /var/log; root's installation of the entries does, or:"
        " install -o nobody -m 0640 /dev/null /var/log/a.log"
    )
    assert textfile == (
        "fault: [health].textfile: nobody has no write permission in /etc:"
        " setfacl -m u:nobody:rwx /etc"
    )
    for folder in ("logs", "prom"):
        (app / folder).mkdir()
        shutil.chown(app / folder, "root", "daemon")
        (app / folder).chmod(0o775)
    write(app, more=f'[log]\nfile = "logs/a.log"\n[health]\ntextfile = "{app}/prom/a.prom"\n')
    assert [line.rpartition(": ")[2] for line in told(check(app))] == ["adduser nobody daemon"] * 2
    (app / "up loads").mkdir()
    write(app, worker='writable = ["up loads"]')
    assert told(check(app)) == [
        f"warning: [worker].writable: nobody has no write permission in {app}/up loads:"
        f" setfacl -m u:nobody:rwx '{app}/up loads'"
    ]


def test_a_log_that_logrotate_passes_over(app: Path) -> None:
    """A log that is a link is a fault; one in a folder of another user's is a warning."""
    (app / "data/a.log").symlink_to(app / "big.log")
    write(app, more='[log]\nfile = "data/a.log"\n')
    (found,) = told(check(app))
    assert f"which logrotate passes over; name {app}/big.log itself" in found
    (app / "logs").mkdir()
    (app / "logs/a.log").touch()
    shutil.chown(app / "logs/a.log", USER)
    write(app, more='[log]\nfile = "logs/a.log"\n')
    assert told(check(app)) == []
    shutil.chown(app / "logs", OTHER)
    (found,) = told(check(app))
    assert found.startswith("warning: [log].file:")
    assert "logrotate can rename the log only in a folder of nobody's" in found


@pytest.fixture
def shut() -> Iterator[Path]:
    """A folder that only root may enter."""
    folder = Path("/var/tmp/dbq-check-shut")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("link", "worker", "more", "where"),
    [
        ("python", 'python = "./python"', "", "[worker].python"),
        ("data/queue.tsv", "", "", "[queue].file"),
        ("data/queue.lock", "", "", "[queue].file"),
        ("work", 'directory = "work"', "", "[worker].directory"),
        ("env", 'environment_file = "env"', "", "[worker].environment_file"),
        ("logs", "", '[log]\nfile = "logs/a.log"', "[log].file"),
        ("a.log", "", '[log]\nfile = "a.log"', "[log].file"),
        ("prom", "", '[health]\ntextfile = "prom/a.prom"', "[health].textfile"),
    ],
)
def test_links_into_a_folder_that_is_shut(
    app: Path, shut: Path, link: str, worker: str, more: str, where: str
) -> None:
    """Whatever is a link to where the user cannot go, the check tells it and all the rest."""
    (app / link).symlink_to(shut / Path(link).name)
    (app / "data/queue.claims").mkdir()
    write(app, worker, more)
    found = check(app)["findings"]
    assert [each for each in found if each["where"] == where and each["level"] != "ok"]
    assert any("queue.claims: it is a directory" in each["what"] for each in found)
    if link in ("python", "logs", "prom", "work"):
        assert any(f"cannot enter {shut}" in each["what"] for each in found)


def test_environment_file_that_only_root_may_read(app: Path) -> None:
    """It is fine under systemd and not under cron: a warning; its variables are there."""
    (app / "env").write_text("A=1\n")
    (app / "env").chmod(0o600)
    (app / "jobs.py").write_text("import os\nHANDLERS = {os.environ['A']: print}\n")
    write(app, worker='environment_file = "env"')
    report = check(app)
    assert report["ok"]
    assert report["types"] == ["1"]
    (found,) = told(report)
    assert found.startswith("warning: [worker].environment_file: nobody cannot read")
    assert "systemd reads it as root, cron cannot" in found


def test_who_is_not_root_cannot_ask_for_others(app: Path) -> None:
    """Another user is told who can ask, and what is found as that user are warnings."""
    report = check(app, user=OTHER)
    assert report["ok"]
    assert report["types"] == [str(pwd.getpwnam(OTHER).pw_uid)]
    lines = told(report)
    assert lines[0].startswith(f"warning: [worker].user: checked as {OTHER}, who is not {USER}")
    assert any(f"{OTHER} has no write permission in {app}/data" in line for line in lines)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("chown daemon dbq.toml", "dbq.toml: it belongs to daemon"),
        ("chmod 666 dbq.toml", "every user can write"),
        ("chown daemon .", "/var/tmp/dbq-check-as-user belongs to daemon"),
        ("chmod 777 .", "every user can write in /var/tmp/dbq-check-as-user"),
        ("chown daemon env", "env: it belongs to daemon"),
        ("sed -i 's/nobody/root/' dbq.toml && chown nobody dbq.toml", "belongs to nobody"),
    ],
)
def test_root_runs_nothing_for_a_third_party(app: Path, command: str, said: str) -> None:
    """By a config that others can write, the handlers are not imported, as whatever user."""
    (app / "env").touch()
    (app / "jobs.py").write_text("open('/var/tmp/dbq-check-as-user/data/ran', 'w')\nHANDLERS = {}")
    write(app, worker='environment_file = "env"')
    subprocess.run(["sh", "-ec", command], cwd=app, check=True)
    report = check(app)
    assert [line for line in told(report) if said in line], told(report)
    assert not report["ok"]
    assert not (app / "data/ran").exists()


def test_nothing_is_written(app: Path) -> None:
    """A check as root leaves no file behind that the user could stumble over."""
    library(app)
    before = sorted(app.rglob("*"))
    check(app)
    assert sorted(app.rglob("*")) == before
