"""How a service manager is talked to: which one, and what it says; what its sandbox hides."""

from __future__ import annotations

import json
import os
import pwd
import sys
from pathlib import Path

import pytest

from dbbasic_queue.config.sections import parse
from dbbasic_queue.systemd import manager as managers
from dbbasic_queue.systemd.manager import Manager
from dbbasic_queue.systemd.verify import _hidden_paths

ME = pwd.getpwuid(os.geteuid())
SYSTEMCTL = f"""#!{sys.executable} -IS
import json, os, sys
print(json.dumps([sys.argv[1:], dict(os.environ)]))
"""


@pytest.fixture
def _systemctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A systemctl that tells its arguments and its environment."""
    program = tmp_path / "systemctl"
    program.write_text(SYSTEMCTL)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/of/root")
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path=/of/root")


@pytest.mark.usefixtures("_systemctl")
def test_a_users_own_manager_is_asked_for_a_users_units() -> None:
    """From sudo and from cron, too, where the environment is another user's or none."""
    arguments, environment = json.loads(Manager(ME.pw_name).run("show"))
    assert arguments[0] == "--user"
    assert environment["XDG_RUNTIME_DIR"] == f"/run/user/{ME.pw_uid}"
    assert "DBUS_SESSION_BUS_ADDRESS" not in environment


@pytest.mark.usefixtures("_systemctl")
def test_the_systems_manager_is_asked_for_the_systems_units() -> None:
    """Nothing is said of a user."""
    arguments, _ = json.loads(Manager().run("show"))
    assert "--user" not in arguments


def test_a_machine_that_systemd_does_not_run_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what can be done instead."""
    monkeypatch.setattr(os.path, "isdir", lambda path: False)
    assert "systemd does not run this machine" in str(Manager().unreachable())


@pytest.mark.parametrize("never", [None, 0, 2**63, 2**64 - 1])
def test_a_time_that_systemd_does_not_know_is_none(never: int | None) -> None:
    """Its largest number means never, too."""
    assert managers._time(never) is None
    known = managers._time(1_700_000_000_000_000)
    assert known is not None
    assert known.timestamp() == 1_700_000_000


def test_what_the_sandbox_hides_is_told_also_behind_a_link(monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder of the application may be a link into a home, which the jobs cannot see."""
    text = """
        name = "app"
        [queue]
        file = "/srv/q/queue.tsv"
        [worker]
        handlers = "a:B"
        directory = "/srv/app"
        python = "/usr/bin/python3"
    """
    config = parse(text, "/etc/app/dbq.toml")
    monkeypatch.setattr(
        os.path, "realpath", lambda path: "/home/zoe/app" if str(path) == "/srv/app" else str(path)
    )
    (found,) = [said for said in _hidden_paths(config) if said.startswith("/srv/app")]
    assert "/home" in found
