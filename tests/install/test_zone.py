"""A scheduler that was started with a time zone of its own is found out."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dbbasic_queue.install import zone
from dbbasic_queue.install.zone import zone_fault

FAR = "Antarctica/Troll"  # not the time zone of any machine that runs these tests


@pytest.fixture(autouse=True)
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine on which nothing runs but a systemd without a time zone of its own."""
    monkeypatch.setattr(zone, "PROC", tmp_path)
    monkeypatch.setattr(zone, "CRON_PID", tmp_path / "crond.pid")
    monkeypatch.delenv("TZ", raising=False)
    run(tmp_path, 1, "systemd")
    return tmp_path


def run(proc: Path, process: int, name: str, *variables: str) -> None:
    """A process as /proc shows it."""
    folder = proc / str(process)
    folder.mkdir(exist_ok=True)
    (folder / "comm").write_text(f"{name}\n")
    (folder / "root").unlink(missing_ok=True)
    (folder / "root").symlink_to("/")
    (folder / "environ").write_bytes(b"".join(f"{each}\0".encode() for each in variables))


def test_cron_with_another_time_zone(proc: Path) -> None:
    """cron's own TZ is named, with the command that makes it the machine's."""
    run(proc, 7, "cron", "PATH=/bin", f"TZ={FAR}")
    said = zone_fault("cron")
    assert said is not None
    assert f"cron was started with TZ='{FAR}'" in said
    assert f"ln -sf /usr/share/zoneinfo/{FAR} /etc/localtime" in said
    assert zone_fault("systemd") is None


def test_systemd_in_a_container_with_another_time_zone(proc: Path) -> None:
    """The system's manager is process 1, which a container starts with its variables."""
    run(proc, 1, "systemd", f"TZ=:{FAR}")
    assert "systemd was started with TZ" in str(zone_fault("systemd"))
    run(proc, 1, "tini", f"TZ={FAR}")
    assert zone_fault("systemd") is None


@pytest.mark.parametrize("same", ["", ":/etc/localtime", "/etc/localtime"])
def test_a_name_of_the_machines_own_zone_is_no_fault(proc: Path, same: str) -> None:
    """Not names are compared but the local times that they mean."""
    if not same and os.path.realpath("/etc/localtime").rpartition("/")[2] not in ("UTC", "UCT"):
        pytest.skip("an empty TZ means UTC")
    run(proc, 7, "crond", f"TZ={same}")
    assert zone_fault("cron") is None


def test_the_daemon_counts_and_not_the_shell(proc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's own TZ says nothing, unless root has yet to start cron, as in a container."""
    run(proc, 7, "cron")
    (proc / "crond.pid").write_text("7\n")
    monkeypatch.setenv("TZ", FAR)
    assert zone_fault("cron") is None
    (proc / "crond.pid").write_text("8\n")
    assert zone_fault("cron") is None
    run(proc, 7, "something")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert zone_fault("cron") is None
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert "cron would be started with TZ" in str(zone_fault("cron"))


def test_the_cron_of_a_container_is_not_this_machines(proc: Path, tmp_path: Path) -> None:
    """A machine sees the processes of its containers, whose root folder is another."""
    run(proc, 7, "cron", f"TZ={FAR}")
    (proc / "7/root").unlink()
    (proc / "7/root").symlink_to(tmp_path)
    assert zone_fault("cron") is None


def test_what_cannot_be_seen_is_no_fault(proc: Path) -> None:
    """Only root can read the environment of root's processes."""
    run(proc, 7, "cron", f"TZ={FAR}")
    (proc / "7/environ").unlink()
    assert zone_fault("cron") is None
