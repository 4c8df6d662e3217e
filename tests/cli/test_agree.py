"""`dbq check` says what the installers would refuse, and an installer what the check would say."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from dbbasic_queue.check.finding import Level
from dbbasic_queue.cli import agree
from dbbasic_queue.cli import install as installers
from dbbasic_queue.cli.agree import check, remarks
from dbbasic_queue.cli.main import main
from dbbasic_queue.config.sections import Config, load
from dbbasic_queue.errors import InstallError
from dbbasic_queue.install.manifest import Manifest, save_manifest
from dbbasic_queue.install.site import Site
from dbbasic_queue.install.target import Installation, Target


class Picky(Target):
    """A target that has something against each config, or nothing."""

    def __init__(self, site: Site, kind: str, *said: str, fails: bool = False) -> None:
        super().__init__(site)
        self.kind, self.said, self.fails = kind, list(said), fails

    def render(self, config: Config) -> Installation:
        if self.fails:
            raise InstallError("no [worker].user")
        return Installation((), (), None, None)

    def verify(self, wanted: Installation, config: Config) -> list[str]:
        return self.said


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A config with which all is well."""
    (tmp_path / "data").mkdir()
    (tmp_path / "jobs.py").write_text("HANDLERS = {'mail': print}\n")
    path = tmp_path / "dbq.toml"
    path.write_text(
        'name = "shop"\n[queue]\nfile = "data/queue.tsv"\n[worker]\n'
        f'handlers = "jobs:HANDLERS"\npython = "{sys.executable}"\n'
    )
    return path


def told(
    config: Path, monkeypatch: pytest.MonkeyPatch, *targets: Target, site: Site | None = None
) -> list[str]:
    monkeypatch.setattr(agree, "_schedulers", lambda site: list(targets))
    report = check(str(config), site or Site(root=config.parent))
    assert report.ok == all(each.level is not Level.FAULT for each in report.findings)
    return [f"{each.level}: {each}" for each in report.findings]


def test_what_one_installer_would_refuse_is_a_warning(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another takes it, so the config would work."""
    site = Site(root=config.parent)
    cron, systemd = Picky(site, "cron"), Picky(site, "systemd", "/home is hidden", "no folder")
    assert told(config, monkeypatch, cron, systemd) == [
        "warning: dbq-install-systemd would refuse: /home is hidden",
        "warning: dbq-install-systemd would refuse: no folder",
    ]
    assert told(config, monkeypatch, cron) == []
    assert told(config, monkeypatch) == []


def test_what_all_installers_would_refuse_is_a_fault(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then nothing would start the worker."""
    site = Site(root=config.parent)
    cron, systemd = Picky(site, "cron", fails=True), Picky(site, "systemd", "no folder")
    assert told(config, monkeypatch, cron, systemd) == [
        "fault: dbq-install-cron would refuse: no [worker].user",
        "fault: dbq-install-systemd would refuse: no folder",
    ]


def test_a_scheduler_that_is_not_there_is_told(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What keeps an installer from putting anything in force counts, on the running system."""
    monkeypatch.setattr(Picky, "refusal", lambda self: "no service manager answers")
    (said,) = told(config, monkeypatch, Picky(Site(), "systemd-user"), site=Site())
    assert said == "fault: dbq-install-systemd would refuse: no service manager answers"
    image = Picky(Site(root=config.parent), "systemd")
    assert told(config, monkeypatch, image) == []


def test_the_installer_that_is_in_use_is_the_one_that_counts(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the name is installed by one scheduler, the other is not asked."""
    site = Site(root=config.parent)
    site.installed.mkdir(parents=True)
    save_manifest(site, Manifest("shop", "systemd", str(config)))
    cron, systemd = Picky(site, "cron"), Picky(site, "systemd", "no folder")
    wanted = ["fault: dbq-install-systemd would refuse: no folder"]
    assert told(config, monkeypatch, cron, systemd) == wanted


@pytest.mark.parametrize(
    ("user", "cron", "booted", "manager", "kinds"),
    [
        (None, True, True, False, ["cron", "systemd"]),
        (None, False, True, False, ["systemd"]),
        (None, True, False, True, ["cron"]),
        ("daemon", True, True, True, ["cron-user", "systemd-user"]),
        ("daemon", True, True, False, ["cron-user"]),
        (None, False, False, False, []),
    ],
)
def test_which_schedulers_there_are(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    user: str | None,
    cron: bool,
    booted: bool,
    manager: bool,
    kinds: list[str],
) -> None:
    """Those that this machine has; a user's units need a manager of the user's own."""
    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/crontab" if cron else None)
    for name, there in (("BOOTED", booted), ("MANAGER", manager)):
        folder = tmp_path / name
        if there:
            folder.mkdir()
        monkeypatch.setattr(agree, name, folder if name == "BOOTED" else str(folder))
    assert [target.kind for target in agree._schedulers(Site(user))] == kinds


def test_the_command_asks_the_installers(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`dbq check` does not say that a config would work which the installers refuse."""
    monkeypatch.setattr(agree, "_schedulers", lambda site: [Picky(site, "cron", "not here")])
    assert main(["check", "--config", str(config)]) == 2
    out, err = capsys.readouterr()
    assert "dbq-install-cron would refuse: not here" in err
    assert "would work here" not in out


def test_an_installer_says_what_the_check_would_say(config: Path) -> None:
    """Handlers that cannot be imported are told before the first run, not by its mail."""
    (config.parent / "jobs.py").write_text("import nowhere_\x1b\n")
    said = remarks(load(config), Picky(Site(), "cron"))
    assert [line.split(": ")[:2] for line in said] == [
        ["dbq check says", "[worker].handlers"],
        ["jobs will not run before that is mended; to see whether it is", said[1].split(": ")[1]],
    ]
    assert said[1].endswith(f": dbq check --config {config}")
    assert "\x1b" not in said[0]
    assert remarks(load(config), Picky(Site(root=config.parent), "cron")) == []
    assert remarks(load(config), Picky(Site(), "logrotate")) == []


def test_what_jobs_run_without_does_not_keep_them(config: Path) -> None:
    """A log or a textfile that cannot be written is told, and not that no job would run."""
    with config.open("a") as file:
        file.write('[log]\nfile = "jobs.py/a.log"\n[health]\ntextfile = "jobs.py/a.prom"\n')
    again = f"to see whether it is mended: dbq check --config {config}"
    *faults, last = remarks(load(config), Picky(Site(), "cron"))
    assert [fault.split(": ")[1] for fault in faults] == ["[log].file"]
    assert last == again
    (config.parent / "jobs.py").unlink()
    assert "jobs will not run" in remarks(load(config), Picky(Site(), "cron"))[-1]


def test_an_installer_that_refuses_says_it_too(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The reason of the refusal is the last line, what the check says comes before."""

    def refuse(*arguments: object, **options: object) -> None:
        raise InstallError("not here")

    monkeypatch.setattr(installers, "apply", refuse)
    monkeypatch.setattr(installers, "remarks", lambda *_: ["dbq check says: no handler"])
    monkeypatch.setattr(installers, "_need_permission", lambda site: None)
    assert installers.cron(["--system", "--config", str(config)]) == 2
    first, last = capsys.readouterr().err.splitlines()
    assert first == "note: dbq check says: no handler"
    assert last == "dbq-install-cron: not here"
