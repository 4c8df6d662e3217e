"""Every rendered unit passes the real systemd-analyze of this host, in every kind of config.

Needs systemd-analyze (Debian package systemd), neither root nor a running systemd.
"""

from __future__ import annotations

import itertools
import re
import subprocess
from pathlib import Path

import pytest
from specimens import PROFILES, TOML, load, with_worker

from dbbasic_queue.systemd.units import units
from dbbasic_queue.systemd.verify import unit_faults

LIMITS = {"isolated": 0.5, "network": 1.5, "compat": 2.0}
ODD = "/srv/odd %n $HOME ${HOME} \\x41 \"q\" 'r' ; # é [x]*?/y"
VARIANTS = {
    "whole": TOML,
    "small": TOML[: TOML.index("[[recurring]]")],
    "ping": TOML.replace("[health]\n", '[health]\nping_url = "https://hc.example/x"\n'),
    "odd": TOML.replace('"/srv/app"', f"'''{ODD}'''").replace("/etc/app/env", "/etc/a b%[*].env"),
    "long": TOML.replace(
        "[[recurring]]", f'environment = {{ A = "{"x%$" * 3500}" }}\n[[recurring]]', 1
    ),
}
SCHEDULES = ["* * * * *", "every 15 minutes", "*/7 9-17 * * 1-5", "@hourly", "@daily", "@weekly"]
SCHEDULES += ["@yearly", "0 0 29 2 *", "5,35 0,12 1,15 */3 *", "30 23 * * 6,0"]


@pytest.mark.parametrize("for_user", [False, True], ids=["system", "user"])
@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_verify_is_clean(variant: str, profile: str, for_user: bool) -> None:
    """`systemd-analyze verify` and our own checks find nothing, unknown keys included."""
    config = with_worker(load(VARIANTS[variant]), hardening=profile)
    texts = units(config, for_user=for_user)
    assert unit_faults(texts, config, for_user=for_user, live=False) == []


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_schedules_are_understood(schedule: str) -> None:
    """Each form of schedule is a calendar expression to systemd, in a timer it accepts."""
    toml = TOML.replace('"0 2 * * *"', f'"{schedule}"').replace('jitter = "5min"\n', "")
    config = load(toml)
    assert unit_faults(units(config), config, for_user=False, live=False) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("KillMode=mixed", "KillModus=mixed"),
        ("Type=exec", "Type=exek"),
        ("ProtectSystem=strict", "ProtectSystem=everything"),
        ("ExecStart=/srv", "ExecStart=srv"),
    ],
)
def test_verify_is_not_blind(old: str, new: str) -> None:
    """A misspelt key, a wrong value and a relative program are found: the checks above can fail."""
    texts = units(load())
    assert old in texts["dbq-app-worker.service"]
    texts["dbq-app-worker.service"] = texts["dbq-app-worker.service"].replace(old, new)
    found = unit_faults(texts, load(), for_user=False, live=False)
    assert any("dbq-app-worker.service" in each for each in found)


@pytest.mark.parametrize(
    ("variant", "profile"), list(itertools.product(("whole", "ping"), PROFILES))
)
def test_the_score_is_within_the_promise(variant: str, profile: str, tmp_path: Path) -> None:
    """`systemd-analyze security --offline` rates each service as its profile promises."""
    for name, text in units(with_worker(load(VARIANTS[variant]), hardening=profile)).items():
        if not name.endswith(".service"):
            continue
        own = re.search(r'\(hardening = "(\w+)"\)', text)
        assert own is not None
        path = tmp_path / name.replace("@.", "@x.")
        path.write_text(text)
        assert _score(path) <= LIMITS[own[1]], name


def _score(unit: Path) -> float:
    """The rating of one unit file, from 0 (safe) to 10."""
    command = ["systemd-analyze", "security", "--offline=yes", "--no-pager", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rating = re.search(r"level for .*: ([0-9.]+)", done.stdout)
    assert rating is not None, done.stdout
    return float(rating[1])
