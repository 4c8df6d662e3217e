"""What the .deb and the RPM are made of agrees with itself and with the library."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
import zoneinfo
from pathlib import Path
from zoneinfo import ZoneInfo

import dbbasic
import pytest
import samples

from dbbasic_queue.config import sections as config
from dbbasic_queue.install import entries as commands
from dbbasic_queue.install.manifest import Manifest, double_scheduled, save_manifest
from dbbasic_queue.install.site import Site
from dbbasic_queue.support.files import BESIDE
from dbbasic_queue.systemd.units import units

ROOT = Path(__file__).parents[2]
PACKAGING = ROOT / "packaging"
CONFIG = "/etc/dbbasic-queue/dbq.toml"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SCRIPTS = [
    PACKAGING / f"debian/dbbasic-queue.{s}" for s in ("config", "postinst", "prerm", "postrm")
]


@pytest.fixture(scope="module")
def shipped() -> config.Config:
    """The config as it is shipped."""
    return config.parse((PACKAGING / "dbq.toml").read_text(), CONFIG)


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tree of a package, laid out with a wheel made of the dbbasic-tsv that is here."""
    folder = tmp_path_factory.mktemp("staged")
    with zipfile.ZipFile(folder / "wheel.whl", "w") as wheel:
        for path in Path(dbbasic.__path__[0]).glob("*.py"):
            wheel.writestr(f"dbbasic/{path.name}", path.read_bytes())
        wheel.writestr("dbbasic_tsv-1.0.2.dist-info/METADATA", "")
    subprocess.run(
        [
            sys.executable,
            PACKAGING / "tools/stage.py",
            "--wheel",
            folder / "wheel.whl",
            folder / "root",
        ],
        env={**os.environ, "SOURCE_DATE_EPOCH": "1795491328"},
        check=True,
    )
    return folder / "root"


def test_the_version_is_the_projects() -> None:
    """debian/changelog begins with the version of pyproject.toml."""
    first = (PACKAGING / "debian/changelog").read_text().split("\n", 1)[0]
    assert first == f"dbbasic-queue ({PROJECT['version']}) unstable; urgency=medium"


def test_what_is_fetched_is_pinned() -> None:
    """dbbasic-tsv is named with one version, which pyproject.toml takes, and its hash."""
    lines = [x for x in (PACKAGING / "vendor.txt").read_text().splitlines() if x[:1] != "#"]
    (line,) = lines
    assert re.fullmatch(r"dbbasic-tsv==1\.\d+\.\d+ --hash=sha256:[0-9a-f]{64}", line)
    assert any(wanted.startswith("dbbasic-tsv") for wanted in PROJECT["dependencies"])


def test_dependencies_are_those_of_the_project() -> None:
    """What pyproject.toml needs, control and spec need too, but for what they bring along."""
    control = (PACKAGING / "debian/control").read_text()
    spec = (PACKAGING / "rpm/dbbasic-queue.spec").read_text()
    for wanted in PROJECT["dependencies"]:
        name, version = re.fullmatch(r"([\w-]+)>=([\d.]+).*", wanted).groups()  # type: ignore[union-attr]
        if name != "dbbasic-tsv":
            name = f"python3-{name.removeprefix('python-')}"
            assert control.count(f"{name} (>= {version})") == 2
            assert re.search(rf"^Requires: +{name} >= {version}$", spec, re.MULTILINE)


def test_the_shipped_config_shows_every_key(shipped: config.Config) -> None:
    """Each key that suits a queue in a file stands in the config, set or commented out."""
    text = (PACKAGING / "dbq.toml").read_text()
    for kind in ("Queue", "Worker", "Recurring", "Prune", "Health", "Log", "Cron"):
        for key, said in getattr(config, f"{kind}Config").__dataclass_fields__.items():
            if said.metadata["key"].hidden:
                continue
            assert re.search(rf"^(?:# )?{key} = ", text, re.MULTILINE), key
    assert shipped.name == "main"


@pytest.mark.parametrize("path", samples.files(), ids=lambda path: path.name)
def test_what_is_made_of_the_keys_is_up_to_date(path: Path) -> None:
    """The packaged config and the JSON Schema are what packaging/tools/samples.py makes."""
    assert path.read_text(encoding="utf-8") == samples.files()[path], "run make samples"


def test_packaged_timers_fit_every_time_zone(shipped: config.Config) -> None:
    """They are made once for all machines, so no zone may skip or repeat one of their times."""
    assert shipped.prune is not None
    assert shipped.health is not None
    for schedule in (shipped.worker.schedule, shipped.prune.schedule, shipped.health.schedule):
        for zone in _different_zones():
            assert schedule.on_calendar(ZoneInfo(zone)) == schedule.on_calendar(), zone


def _different_zones() -> list[str]:
    """One name of each time zone: about half of the names are second ones."""
    found: dict[bytes, str] = {}
    for name in sorted(zoneinfo.available_timezones()):
        files = [Path(folder, name) for folder in zoneinfo.TZPATH]
        data = next((file.read_bytes() for file in files if file.is_file()), name.encode())
        found.setdefault(data, name)
    return [*found.values()]


def test_a_commented_key_is_a_sound_one() -> None:
    """With the `# ` taken away, the config has no fault."""
    text = (PACKAGING / "dbq.toml").read_text()
    whole = re.sub(r"^# (?=\[|[a-z_]+ = )", "", text, flags=re.MULTILINE)
    found = config.parse(whole, CONFIG)
    assert found.recurring[0].name == "nightly-report"
    assert found.worker.linger == 50
    assert found.health is not None
    assert found.health.textfile is not None


def test_folders_and_user_are_those_of_the_config(shipped: config.Config) -> None:
    """sysusers.d makes the worker's user; tmpfiles.d the folders that it writes in."""
    users = (PACKAGING / "sysusers.conf").read_text()
    folders = (PACKAGING / "tmpfiles.conf").read_text()
    user = shipped.worker.user
    assert f"\nu {user} - " in f"\n{users}"
    assert shipped.log is not None
    assert f"\nd {shipped.queue.file.parent} :2750 :{user} :{user}\n" in folders
    assert f"\nd {shipped.log.file.parent} 0755 root root\n" in folders
    assert f"\nf {shipped.log.file} :0640 :{user} :root\n" in folders
    home = re.search(rf'^u {user} - ".*" (.*)$', users, re.MULTILINE)
    assert home is not None
    assert home[1] not in (str(shipped.queue.file.parent), str(shipped.log.file.parent))
    assert f"\nd {home[1]} 0700 {user} {user}\n" in folders


def test_the_queues_folder_is_handed_over_by_both_packages() -> None:
    """Both packages run root's part: the folder and its files become the worker's alone."""
    for path in (SCRIPTS[1], PACKAGING / "rpm/dbbasic-queue.spec"):
        text = path.read_text()
        assert re.search(r"python3 -P -B \S+ take-over .*\|\| (?:true|:)$", text, re.MULTILINE)


def test_scripts_know_every_unit_that_can_be_enabled(shipped: config.Config) -> None:
    """Maintainer scripts and the spec name the timers and the path, no more and no fewer."""
    starters = {name for name, text in units(shipped).items() if "\n[Install]\n" in text}
    for path in (*SCRIPTS[1:], PACKAGING / "rpm/dbbasic-queue.spec"):
        named = re.search(r'(?:STARTERS="|global starters )([^"\n]*)', path.read_text())
        assert named is not None
        assert set(named[1].split()) == starters


def test_a_purge_knows_every_file_of_the_queue() -> None:
    """postrm deletes what the library may have put beside the table, and nothing else."""
    text = (PACKAGING / "debian/dbbasic-queue.postrm").read_text()
    named = re.search(r"for suffix in (.*); do", text)
    assert named is not None
    assert named[1].split() == ["tsv", *BESIDE]
    assert "rm -rf" not in text.replace('rm -rf "$STATE/backups"', "")


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.suffix)
def test_maintainer_scripts_are_sound_shell(path: Path) -> None:
    """Each is read by sh without a complaint, and ends at the first command that fails."""
    text = path.read_text()
    assert text.startswith("#!/bin/sh\nset -e\n")
    subprocess.run(["sh", "-n", path], check=True)


def test_the_package_runs_under_any_interpreter(staged: Path, tmp_path: Path) -> None:
    """The folder's program runs the library there is in it, whatever else the interpreter has."""
    private = staged / "usr/lib/dbbasic-queue"
    program = (
        "import dbbasic.tsv, dbbasic_queue.install.entries as c; "
        "print(dbbasic.tsv.__file__, c.private_folder())"
    )
    done = subprocess.run(
        [
            sys.executable,
            "-B",
            "-c",
            f"import sys; sys.path.insert(0, {str(private)!r}); {program}",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"{private}/dbbasic/tsv.py {private}\n"
    for words, said in (
        (["-P", private, "env"], "usage: python -m dbbasic_queue env"),
        (["-P", private, "health"], "usage: dbq-health"),
        (["-P", private, "work"], "usage: dbq work"),
        # As version 2.0.0 wrote them into crontabs and units:
        ([private, "dbbasic_queue.cli_env"], "usage: python -m dbbasic_queue env"),
        ([private, "dbbasic_queue.cli_health"], "usage: dbq-health"),
        ([private, "dbbasic_queue.cli", "work"], "usage: dbq work"),
    ):
        command = [sys.executable, "-B", *words, "--help"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.stdout.startswith(said)


def test_entries_of_a_private_library_name_its_folder(
    shipped: config.Config, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Units and crontabs run `PYTHON -P FOLDER work` where `-m` would find nothing."""
    assert commands.private_folder() is None
    assert commands.argv(shipped, commands.WORK)[1:4] == ["-P", "-m", "dbbasic_queue"]
    (tmp_path / "__main__.py").touch()
    monkeypatch.setattr(commands, "_HOME", tmp_path)
    work = ["/usr/bin/python3", "-P", str(tmp_path), "work", "--config", CONFIG]
    assert commands.argv(shipped, commands.WORK) == work
    assert commands.argv(shipped, commands.HEALTH)[3] == "health"


def test_packaged_units_beside_cron_are_told(tmp_path: Path) -> None:
    """A packaged timer that the administrator enabled counts as a schedule of that name."""
    site = Site(root=tmp_path)
    wants = tmp_path / "etc/systemd/system/timers.target.wants"
    wants.mkdir(parents=True)
    site.installed.mkdir(parents=True)
    entries = Path("/etc/cron.d/dbq-main")
    site.below(entries).parent.mkdir(parents=True)
    site.below(entries).touch()
    save_manifest(site, Manifest("main", "cron", CONFIG, {entries: ("",)}))
    assert double_scheduled("main", [site]) == []
    (wants / "dbq-main-worker.timer").symlink_to("/usr/lib/systemd/system/dbq-main-worker.timer")
    (said,) = double_scheduled("main", [site])
    assert "by cron, by systemd (units of a package)" in said
    assert "systemctl disable --now dbq-main-worker.path dbq-main-worker.timer" in said
    assert double_scheduled("other", [site]) == []
    save_manifest(site, Manifest("main", "systemd", CONFIG, {entries: ("",)}))
    (said,) = double_scheduled("main", [site])
    assert "units of a package" not in said


def test_the_layout(staged: Path, shipped: config.Config) -> None:
    """All commands, units, pages and templates are laid out; no path of the build is in them."""
    for name in PROJECT["scripts"]:
        assert os.access(staged / "usr/bin" / name, os.X_OK)
        assert (staged / f"usr/share/man/man1/{name}.1").is_file()
    rendered = {path.name for path in (staged / "usr/lib/systemd/system").iterdir()}
    assert rendered == units(shipped).keys()
    for path in staged.rglob("*"):
        if path.is_file():
            assert str(staged).encode() not in path.read_bytes(), path
            assert path.stat().st_mode & 0o777 in (0o644, 0o755)
    assert not list(staged.rglob("*.pyc"))
    materials = json.loads(
        (staged / "usr/share/doc/dbbasic-queue/dbbasic-queue.cdx.json").read_text()
    )
    assert materials["metadata"]["timestamp"].startswith("2026-11-24T")  # of SOURCE_DATE_EPOCH
    assert (staged / "usr/lib/nagios/plugins/check_dbq").resolve() == staged / "usr/bin/dbq-health"
    worker = (staged / "usr/lib/systemd/system/dbq-main-worker.service").read_text()
    assert "\nExecStart=/usr/bin/python3 -P /usr/lib/dbbasic-queue work" in worker
    assert "dbq-install-systemd wrote this file" not in worker
