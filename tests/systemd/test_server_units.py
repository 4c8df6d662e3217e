"""The units of a queue on a server: workers that run all the time, and no secret in any of them."""

from __future__ import annotations

import re
import shutil

import pytest
from specimens import PROFILES, TOML, load, with_worker

from dbbasic_queue.config.sections import Config
from dbbasic_queue.systemd.syntax import parse as settings_of
from dbbasic_queue.systemd.units import unit_pattern, units, wake_file, write_units
from dbbasic_queue.systemd.verify import unit_faults

WORKER = re.compile("^dbq-app-(worker|rewake)")
FILE = 'file = "/var/lib/app/queue.tsv"'


def config(queue: str = 'url = "redis://:secret@10.0.0.5/0"') -> Config:
    return load(TOML.replace(FILE, queue))


def values(text: str, key: str) -> list[str]:
    """All values of one key of a unit."""
    return [setting.value for setting in settings_of(text) if setting.key == key]


def test_which_units_there_are() -> None:
    """A target and a template of workers; nothing that wakes one, and nothing else is new."""
    on_server, in_file = set(units(config())), set(units(load()))
    assert on_server - in_file == {"dbq-app-workers.target", "dbq-app-worker@.service"}
    assert in_file - on_server == {
        *("dbq-app-worker.service", "dbq-app-worker.timer", "dbq-app-worker.path"),
        "dbq-app-rewake.service",
    }
    assert wake_file(config()) is None
    assert all(unit_pattern("app").fullmatch(name) for name in on_server)
    assert not unit_pattern("app").fullmatch("dbq-app-b-workers.target")


def test_the_target_wants_as_many_workers_as_the_config_says() -> None:
    """Instances from 1 to [worker].concurrency, which end and restart with their target."""
    found = units(with_worker(config(), concurrency=3))
    wanted = values(found["dbq-app-workers.target"], "Wants")
    assert wanted == [f"dbq-app-worker@{number}.service" for number in (1, 2, 3)]
    worker = found["dbq-app-worker@.service"]
    assert values(worker, "PartOf") == ["dbq-app-workers.target"]
    (command,) = values(worker, "ExecStart")
    assert command.endswith(" work --forever --config /etc/app/dbq.toml")
    assert values(worker, "Restart") == ["always"]
    assert values(worker, "TimeoutStopSec") == ["630"]
    assert "DBQ_BOOT_ID=%b" in values(worker, "Environment")


@pytest.mark.parametrize("place", ["file", "server"])
def test_a_worker_that_is_off_has_no_unit(place: str) -> None:
    """With `enabled = false` in [worker] nothing runs or wakes one; all other units stay."""
    on = load() if place == "file" else config()
    off = with_worker(on, enabled=False)
    writer = write_units(off)
    others = {name: text for name, text in units(on).items() if not WORKER.search(name)}
    assert writer.units == others
    assert "dbq-app-health.timer" in others
    assert not any("worker" in entry.label for entry in writer.entries)
    assert wake_file(off) is None


def test_what_is_scheduled() -> None:
    """The target stands first, for --status; recurring jobs have their jitter from the server."""
    writer = write_units(config())
    assert writer.entries[0].known_as == "dbq-app-workers.target"
    assert writer.entries[0].schedule == "all the time, 1 worker"
    assert "RandomizedDelaySec" not in writer.units["dbq-app-recurring@nightly.timer"]
    assert "RandomizedDelaySec" in units(load())["dbq-app-recurring@nightly.timer"]
    (prune,) = values(writer.units["dbq-app-prune.service"], "ExecStart")
    assert " prune --scheduled " in prune
    assert "--scheduled" not in units(load())["dbq-app-prune.service"]


def test_units_know_the_start_of_the_machine() -> None:
    """By it a dead worker of this machine is told from one of another; a file's need it not."""
    for name, text in units(config()).items():
        if re.search(r"-(worker|recurring|prune|health)@?\.service", name):
            assert "DBQ_BOOT_ID=%b" in values(text, "Environment"), name
            assert values(text, "SyslogLevelPrefix") == ["no"]
    assert not any("DBQ_BOOT_ID" in text for text in units(load()).values())


def test_services_reach_the_server() -> None:
    """None of those that ask the server is kept from the network."""
    found = units(config())
    asking = [name for name in found if re.search(r"-(worker|recurring|prune|health)@?\.s", name)]
    assert len(asking) == 4
    for name in asking:
        assert "PrivateNetwork" not in found[name], name
        assert not any("/var/lib/app" in each for each in values(found[name], "ReadWritePaths"))


@pytest.mark.parametrize("queue", ['url = "redis://:secret@h/0"', 'url_file = "/etc/app/url"'])
def test_no_secret_stands_in_a_unit(queue: str) -> None:
    """Units name the config, never the address."""
    assert not any("secret" in text or "redis://" in text for text in units(config(queue)).values())


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
@pytest.mark.parametrize("for_user", [False, True], ids=["system", "user"])
@pytest.mark.parametrize("profile", PROFILES[1:])
def test_systemd_takes_them(profile: str, for_user: bool) -> None:
    """`systemd-analyze verify` and our own checks find nothing."""
    wanted = with_worker(
        config(), hardening=profile, timeout=None, nice=5, memory_max=1 << 30, cpu_quota=50
    )
    texts = units(wanted, for_user=for_user)
    assert unit_faults(texts, wanted, for_user=for_user, live=False) == []
