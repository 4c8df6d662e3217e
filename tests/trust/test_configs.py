"""A config that a third party can write leads root to nothing."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from house import command
from parties import READER, ROOT, open_place, own

from dbbasic_queue.cli import health, install
from dbbasic_queue.cli import main as dbq

CONFIG = """
name = "shop"
[queue]
file = "{folder}/data/queue.tsv"
[worker]
handlers = "jobs:HANDLERS"
python = "{folder}/python"
user = "daemon"
environment_file = "{folder}/env"
[prune]
completed = "7d"
[health]
textfile = "{folder}/data/dbq.prom"
[log]
file = "{folder}/data/worker.log"
"""
PROGRAM = "#!/bin/sh\nid -u >> {spy}\nexec " + sys.executable + ' "$@"\n'


@dataclass
class App:
    """An application whose files a third user has a hand in."""

    folder: Path
    spy: Path  # where each program that is started writes down as whom

    @property
    def config(self) -> Path:
        """Its config."""
        return self.folder / "dbq.toml"


@pytest.fixture
def app() -> Iterator[App]:
    """An application, all of root's; its worker's user is daemon."""
    with open_place() as top:
        folder, spy = top / "app", top / "spy"
        (folder / "data").mkdir(parents=True)
        shutil.chown(folder / "data", "daemon", "daemon")
        (folder / "dbq.toml").write_text(CONFIG.format(folder=folder))
        (folder / "env").write_text("SECRET=1\n")
        (folder / "python").write_text(PROGRAM.format(spy=spy))
        (folder / "python").chmod(0o755)
        jobs = [f"print('in', file=open({str(spy)!r}, 'a'))", "HANDLERS = {}", ""]
        (folder / "jobs.py").write_text("\n".join(jobs))
        spy.touch()
        spy.chmod(0o666)
        yield App(folder, spy)


def _other_owner(app: App) -> None:
    own(app.config, READER, 0o644)


def _other_writer(app: App) -> None:
    app.config.chmod(0o666)


def _folder_of_another(app: App) -> None:
    own(app.folder, READER, 0o755)


def _folder_for_all(app: App) -> None:
    app.folder.chmod(0o777)


def _link_of_another(app: App) -> None:
    strange = app.folder.parent / "strange"
    strange.mkdir()
    app.config.rename(strange / "dbq.toml")
    own(strange, READER, 0o755)
    app.config.symlink_to(strange / "dbq.toml")


LEADS: dict[str, Callable[[App], None]] = {
    "its file is another's": _other_owner,
    "all can write it": _other_writer,
    "its folder is another's": _folder_of_another,
    "all can write in its folder": _folder_for_all,
    "it is a link into another's folder": _link_of_another,
}
COMMANDS: dict[str, tuple[Callable[[list[str]], int], list[str]]] = {
    "check": (dbq.main, ["check"]),
    "work": (dbq.main, ["work"]),
    "enqueue": (dbq.main, ["enqueue", "ok"]),
    "prune": (dbq.main, ["prune"]),
    "install-cron": (install.cron, ["--system"]),
    "install-systemd": (install.systemd, ["--system"]),
    "install-logrotate": (install.logrotate, []),
    "health": (health.main, ["--textfile", "{folder}/data/other.prom"]),
}


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("lead", LEADS)
def test_root_follows_no_config_of_a_third_party(app: App, lead: str, name: str) -> None:
    """Nothing of it is run, scheduled or written, and the error names what is wrong."""
    LEADS[lead](app)
    main, words = COMMANDS[name]
    words = [word.format(folder=app.folder) for word in words]
    before = sorted(os.listdir(app.folder / "data"))
    ran = command(ROOT, main, *words, "--config", app.config)
    assert ran.code in (2, 3), ran
    assert str(app.folder.parent) in ran.text, ran
    assert app.spy.read_text() == "", "a program of the config was started"
    assert sorted(os.listdir(app.folder / "data")) == before
    for made in ("/etc/cron.d/dbq-shop", "/etc/logrotate.d/dbq-shop"):
        assert not Path(made).exists()


def test_a_sound_config_is_probed_as_the_worker(app: App) -> None:
    """What `dbq check` starts of it runs as `[worker].user`."""
    command(ROOT, dbq.main, "check", "--config", app.config)
    assert "0" not in app.spy.read_text().split()


@pytest.mark.parametrize("what", ["link", "pipe"])
def test_an_environment_file_is_no_way_in(app: App, what: str) -> None:
    """A link to a file of root's, or a pipe, in its place: an error, and no waiting."""
    secret = app.folder.parent / "secret"
    secret.write_text("ROOTS=secret\n")
    secret.chmod(0o600)
    (app.folder / "env").unlink()
    if what == "link":
        (app.folder / "env").symlink_to(secret)
        shutil.chown(app.folder, "daemon")
    else:
        os.mkfifo(app.folder / "env")
    ran = command(ROOT, dbq.main, "check", "--config", app.config)
    assert "secret" not in ran.text.replace(str(secret), "")
