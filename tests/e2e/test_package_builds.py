"""`make deb`, `make rpm` and `make dist` from clean checkouts: the same bytes twice, and no fault.

Run by `make e2e`. The RPM cannot be installed here: its contents and its scriptlets are looked at,
and the scriptlets are run in a folder that stands for a machine.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import packages
import pytest
from machine import CHECKOUT, say

PATH = {"PATH": os.environ["PATH"]}
KINDS = ("deb", "rpm", "dist")
COMMANDS = {
    *("dbq", "dbq-health", "check_dbq"),
    *("dbq-install-cron", "dbq-install-systemd", "dbq-install-logrotate"),
}


def _out(command: list[str], **options: object) -> str:
    done = subprocess.run(command, capture_output=True, text=True, **options)  # type: ignore[call-overload]
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return str(done.stdout)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The `dist/` of two clones of what is committed, built under different circumstances."""
    packages.need(("lintian", "rpmlint"))
    folders = []
    for name, zone, umask in (("one", "UTC", 0o022), ("another-place", "Asia/Tokyo", 0o077)):
        clone = tmp_path_factory.mktemp(name) / "checkout"
        _out(["git", "clone", "--quiet", "--no-hardlinks", str(CHECKOUT), str(clone)])
        for kind in KINDS:
            say(f"building {kind} in {name}")
            command = [sys.executable, "packaging/tools/packages.py", kind]
            environment = {**os.environ, "TZ": zone, "LANG": "C"}
            _out(command, cwd=clone, env=environment, umask=umask)
        folders.append(clone / "dist")
    return folders


@pytest.fixture(scope="module")
def rpm(built: list[Path]) -> str:
    """The path of the RPM."""
    return str(_one(built[0], "*.rpm"))


def _one(folder: Path, pattern: str) -> Path:
    (path,) = folder.glob(pattern)
    return path


def test_two_builds_have_the_same_bytes(built: list[Path]) -> None:
    """Package by package, whatever the folder, the time zone and the umask."""
    sums = [
        {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
        for folder in built
    ]
    assert len(sums[0]) == 4
    assert sums[0] == sums[1]


def test_lintian_finds_nothing(built: list[Path]) -> None:
    """Not even what is pedantic, and nothing is overridden.

    Of what is only told with --display-info, one thing: Debian 12's lintian takes the oneshot that
    ends each worker for a daemon and misses its init script; Debian 13's knows that tag no more.
    """
    options = ["--pedantic", "--show-overrides", "--allow-root"]
    deb = str(_one(built[0], "*.deb"))
    assert _out(["lintian", *options, deb]) == ""
    informed = _out(["lintian", *options, "--display-info", deb])
    assert not [x for x in informed.splitlines() if "init.d-script [" not in x or "rewake" not in x]


def test_rpmlint_finds_nothing(rpm: str) -> None:
    """No error and no warning but the three that rpmlint.toml gives reasons for."""
    config = CHECKOUT / "packaging/rpm/rpmlint.toml"
    assert "0 errors, 0 warnings" in _out(["rpmlint", "--config", str(config), rpm])


def test_completions_are_understood_by_their_shells(built: list[Path], tmp_path: Path) -> None:
    """zsh and fish read each file without a complaint, and fish completes as it should."""
    packages.need(("fish", "zsh"))
    _out(["dpkg-deb", "-x", str(_one(built[0], "*.deb")), str(tmp_path)])
    share = tmp_path / "usr/share"
    for path in (share / "zsh/vendor-completions").iterdir():
        _out(["zsh", "-n", str(path)])
    folder = share / "fish/vendor_completions.d"
    for name, words, wanted in (
        ("dbq", "dbq prune --status f", "failed"),
        ("dbq", "dbq enq", "enqueue"),
        ("dbq-health", "dbq-health --format j", "json"),
    ):
        ask = f"source {folder}/{name}.fish; complete -C '{words}'"
        said = _out(["fish", "--no-config", "-c", ask], env={"HOME": str(tmp_path), **PATH})
        assert said.split("\t")[0] == wanted


def test_the_wheel_holds_nothing_but_the_library(built: list[Path]) -> None:
    """At the top there are the package and its metadata alone."""
    names = zipfile.ZipFile(_one(built[0], "*.whl")).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {re.sub("-.*", "", top) for top in tops} == {"dbbasic_queue"}
    with tarfile.open(_one(built[0], "*.tar.gz")) as sdist:
        inside = {entry.name.partition("/")[2] for entry in sdist}
    assert {"Makefile", "packaging/debian/control", "packaging/tools/packages.py"} <= inside


def test_packages_are_made_from_the_sdist_too(built: list[Path], tmp_path: Path) -> None:
    """Without git, the same files are in the .deb."""
    with tarfile.open(_one(built[0], "*.tar.gz")) as sdist:
        sdist.extractall(tmp_path)
    (source,) = tmp_path.iterdir()
    _out([sys.executable, "packaging/tools/packages.py", "deb"], cwd=source)
    listings = [
        sorted(line.split()[-1] for line in _out(["dpkg-deb", "-c", str(deb)]).splitlines())
        for deb in (_one(source / "dist", "*.deb"), _one(built[0], "*.deb"))
    ]
    assert listings[0] == listings[1]


# --- The RPM -------------------------------------------------------------------------------------


def test_the_rpm_holds_what_the_deb_holds(built: list[Path], rpm: str) -> None:
    """The same files, but for what each system has its own place or form for."""
    listed = _out(["dpkg-deb", "-c", str(_one(built[0], "*.deb"))]).splitlines()
    deb = {line.split()[5].removeprefix(".") for line in listed if not line.startswith("d")}
    files = {
        line.split(" ", 1)[1]
        for line in _out(
            ["rpm", "-qp", "--qf", r"[%{FILEMODES:perms} %{FILENAMES}\n]", rpm]
        ).splitlines()
        if not line.startswith("d")
    }
    files = {name.replace("/zsh/site-functions/", "/zsh/vendor-completions/") for name in files}
    own = (
        r"/usr/share/(?:licenses/|python3/|lintian/|doc/dbbasic-queue/(?:copyright|changelog\.gz))"
    )
    assert {f for f in files ^ deb if not re.match(own, f)} == set()
    assert {f"/usr/bin/{name}" for name in COMMANDS} <= files
    assert {f"/usr/share/man/man1/{name}.1.gz" for name in COMMANDS} <= files
    assert "/usr/share/licenses/dbbasic-queue/LICENSE.dbbasic-tsv" in files


def test_the_rpm_belongs_to_root_and_keeps_the_config(rpm: str) -> None:
    """Owners, modes, what counts as a config, and what must be there."""
    form = r"[%{FILEUSERNAME}:%{FILEGROUPNAME} %{FILEMODES:perms} %{FILENAMES}\n]"
    rows = [line.split(" ") for line in _out(["rpm", "-qp", "--qf", form, rpm]).splitlines()]
    assert {row[0] for row in rows} == {"root:root"}
    assert {row[1] for row in rows} == {"-rw-r--r--", "-rwxr-xr-x", "drwxr-xr-x", "lrwxrwxrwx"}
    configs = _out(["rpm", "-qpc", rpm]).split()
    assert configs == ["/etc/dbbasic-queue/dbq.toml", "/etc/logrotate.d/dbbasic-queue"]
    needed = _out(["rpm", "-qp", "--requires", rpm]).splitlines()
    for wanted in ("python3 >= 3.11", "python3-crontab >= 2.6", "python3-jinja2 >= 3.1", "systemd"):
        assert wanted in needed


@pytest.fixture
def stage(tmp_path: Path) -> Path:
    """A folder of commands that note how they are called."""
    (tmp_path / "bin").mkdir()
    for name in ("systemctl", "systemd-sysusers", "systemd-tmpfiles", "dbq-install-systemd"):
        program = tmp_path / "bin" / name
        program.write_text(f'#!/bin/sh\necho "{name} $*" >> {tmp_path}/calls\n[ -t 0 ] || cat\n')
        program.chmod(0o755)
    return tmp_path


def _run(rpm: str, tag: str, argument: int, stage: Path) -> tuple[str, list[str]]:
    """Run a scriptlet as rpm does; what it printed, and which of our commands it called."""
    text = _out(["rpm", "-qp", "--qf", f"%{{{tag}}}", rpm])
    # The machine is the folder; only the library's place is left to be there or not.
    for place in ("/run/systemd/system", "/var/lib/dbbasic-queue/installed", "/etc/systemd/system"):
        text = text.replace(place, f"{stage}{place}")
    text = text.replace("/usr/lib/dbbasic-queue", f"{stage}/lib").replace(
        "/usr/bin/python3", "true"
    )
    path = f"{stage}/bin:{os.environ['PATH']}"
    said = _out(
        ["sh", "-ec", text, "sh", str(argument)], env={"PATH": path}, stdin=subprocess.DEVNULL
    )
    calls = stage / "calls"
    found = calls.read_text().splitlines() if calls.exists() else []
    calls.unlink(missing_ok=True)
    return said, found


def test_the_scriptlets_do_what_they_should(rpm: str, stage: Path) -> None:
    """User first, then folders; nothing is started; an upgrade stops nothing; a removal does."""
    (stage / "run/systemd/system").mkdir(parents=True)
    (stage / "etc/systemd/system").mkdir(parents=True)
    (stage / "etc/systemd/system/dbq-shop-worker.service").write_text(f"ExecStart={stage}/lib\n")
    (stage / "etc/systemd/system/dbq-venv-worker.service").write_text("ExecStart=/srv/venv\n")
    (stage / "var/lib/dbbasic-queue/installed").mkdir(parents=True)
    for name in ("shop", "venv"):
        (stage / f"var/lib/dbbasic-queue/installed/{name}.systemd.json").touch()
    (stage / "lib/x/__pycache__").mkdir(parents=True)
    said, calls = _run(rpm, "PREIN", 1, stage)
    assert [call.split()[0] for call in calls] == ["systemd-sysusers"]
    users = (CHECKOUT / "packaging/sysusers.conf").read_text().splitlines()
    assert said.splitlines() == [line for line in users if not line.startswith("#")]
    _, calls = _run(rpm, "POSTIN", 1, stage)
    assert calls == ["systemd-tmpfiles --create dbbasic-queue.conf", "systemctl daemon-reload"]
    assert _run(rpm, "PREUN", 1, stage)[1] == []
    _, calls = _run(rpm, "PREUN", 0, stage)
    assert calls[0] == "dbq-install-systemd --remove --force --system --name shop"
    assert [call.split()[1] for call in calls[1:]] == ["--no-reload", "stop"]
    assert not (stage / "lib/x/__pycache__").exists()
    assert _run(rpm, "POSTUN", 1, stage)[1] == ["systemctl daemon-reload"]
