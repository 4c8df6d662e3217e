"""What is wrong with a set of units is found before one of them is installed."""

from __future__ import annotations

import getpass
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from parties import READER, as_user, needs_root, open_place
from specimens import TOML, load, with_worker

from dbbasic_queue.config.sections import Config
from dbbasic_queue.errors import InstallError
from dbbasic_queue.systemd.units import units, write_units
from dbbasic_queue.systemd.verify import unit_faults

Texts = dict[str, str]


@pytest.fixture
def analyze(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Put a systemd-analyze first on PATH that does what a line of shell says: first nothing."""

    def install(shell: str) -> None:
        program = tmp_path / "bin" / "systemd-analyze"
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\n{shell}\n")
        program.chmod(0o755)

    install("exit 0")
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    return install


@pytest.fixture
def texts() -> Texts:
    """The units of a config that names everything."""
    return units(load())


@pytest.fixture
def here(tmp_path: Path) -> Config:
    """A config for this very machine: its user, folders and files are there."""
    toml = TOML.replace('"zoe"', f'"{getpass.getuser()}"')
    for folder in ("/var/lib/app", "/srv/app", "/var/lib/metrics", "/var/log/app"):
        Path(f"{tmp_path}{folder}").mkdir(parents=True)
        toml = toml.replace(f'"{folder}', f'"{tmp_path}{folder}')
    Path(f"{tmp_path}/env").touch()
    toml = toml.replace("/etc/app/env", f"{tmp_path}/env")
    toml = toml.replace("[[recurring]]", 'hardening = "compat"\n[[recurring]]', 1)
    return load(toml)


def faults(texts: Texts, *, for_user: bool = False) -> list[str]:
    """What is wrong with these texts, for an image."""
    return unit_faults(texts, load(), for_user=for_user, live=False)


def faults_of(config: Config, *, live: bool = True, for_user: bool = False) -> list[str]:
    """What is wrong with the units of a config, on this machine."""
    texts = units(config, for_user=for_user)
    return unit_faults(texts, config, for_user=for_user, live=live)


def change(texts: Texts, unit: str, old: str, new: str) -> Texts:
    """The texts with one unit changed."""
    assert re.search(old, texts[unit])
    return {**texts, unit: re.sub(old, new, texts[unit], count=1)}


needs_analyze = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed"
)


@needs_analyze
@pytest.mark.parametrize("zone", ["Europe/Berlin", "Africa/Casablanca", "Pacific/Chatham"])
def test_nights_of_the_clocks_change_that_are_over_are_no_fault(zone: str) -> None:
    """A timer with dates of years gone by is sound, and systemd-analyze reads all of them."""
    config = load(TOML.replace('"0 2 * * *"', '"*/20 0-3 * * *"'))
    texts = write_units(config, zone=ZoneInfo(zone)).units
    timer = texts["dbq-app-recurring@nightly.timer"]
    assert timer.count("OnCalendar=20") > 10
    assert faults(texts) == []


@needs_analyze
@pytest.mark.parametrize("user", ["svc@corp.example", r"CORP\svc", "machine$"])
def test_users_of_a_directory_service(user: str) -> None:
    """A name that systemd takes with a remark is not refused."""
    assert faults(units(with_worker(load(), user=user))) == []


@pytest.mark.usefixtures("analyze")
class TestWhatSystemdCannotSee:
    """Valid for systemd, and still wrong."""

    def test_units_as_rendered_have_no_fault(self, texts: Texts, here: Config) -> None:
        """For an image nothing of this machine counts; on it, all that is needed is there."""
        assert faults(texts) == []
        assert faults_of(here) == []
        assert faults_of(here, for_user=True) == []
        limited = with_worker(here, umask=0o027, nice=5, memory_max=1 << 30, cpu_quota=150)
        assert faults_of(limited) == []
        assert faults(units(load(), for_user=True), for_user=True) == []

    def test_a_service_without_a_user(self, texts: Texts) -> None:
        """A service that would run as root is a fault, but not among a user's own units."""
        broken = change(texts, "dbq-app-worker.service", "User=zoe\n", "")
        assert faults(broken) == ["dbq-app-worker.service: has no User=, so it would run as root"]
        assert faults(broken, for_user=True) == []

    @pytest.mark.parametrize("stray", ["%h", "100% sure", "%"])
    def test_a_stray_percent(self, texts: Texts, stray: str) -> None:
        """A `%` that was not doubled is a fault; `%%` is not."""
        good = change(texts, "dbq-app-worker.service", "Environment=", "Environment=A=50%% \n#")
        assert faults(good) == []
        broken = change(
            texts, "dbq-app-worker.service", "Environment=", f"Environment=A={stray}\n#"
        )
        (said,) = faults(broken)
        assert said.startswith("dbq-app-worker.service: Environment= holds a stray '%")

    @pytest.mark.parametrize(
        "missing",
        [
            "worker.service",
            "prune.service",
            "recurring@.service",
            "failed@.service",
            "rewake.service",
        ],
    )
    def test_a_unit_that_others_name_is_missing(self, texts: Texts, missing: str) -> None:
        """A timer, path or report whose service is not there is a fault."""
        del texts[f"dbq-app-{missing}"]
        found = faults(texts)
        assert found
        assert all("which is not installed" in each for each in found)

    def test_a_timer_that_starts_nothing_named(self, texts: Texts) -> None:
        """A timer must say what it starts; the default is easily another unit."""
        broken = change(texts, "dbq-app-prune.timer", "Unit=.*\n", "")
        assert faults(broken) == ["dbq-app-prune.timer: does not say which unit it starts"]

    def test_an_unknown_user(self, here: Config) -> None:
        """The user must exist on this machine, and need not for an image."""
        broken = with_worker(here, user="no-such-user")
        (said,) = faults_of(broken)
        assert said.startswith("there is no user 'no-such-user'")
        assert faults_of(broken, live=False) == []

    @pytest.mark.parametrize("folder", ["var/lib/app", "var/log/app", "srv/app", "env"])
    def test_a_missing_folder_or_file(self, here: Config, tmp_path: Path, folder: str) -> None:
        """What systemd could not start a service without is named, with what to do."""
        path = tmp_path / folder
        path.rename(tmp_path / "away")
        (said,) = faults_of(here)
        assert said.startswith(f"{path}: there is no such")
        assert faults_of(here, live=False) == []

    @needs_root
    def test_what_this_user_cannot_look_at(self, here: Config) -> None:
        """Is neither missing nor an error: `dbq check` tells it."""
        with open_place() as place:
            (place / "shut").mkdir(mode=0o700)
            hidden = with_worker(here, directory=place / "shut" / "app")
            found = as_user(READER, lambda: faults_of(hidden))
        assert not [fault for fault in found if "jobs to run in" in fault]


@pytest.mark.usefixtures("analyze")
class TestWhatTheSandboxHides:
    """A service that needs what its own profile hides could not start."""

    HIDDEN = (
        ("/srv/app/venv/bin/python", "/home/zoe/venv/bin/python"),
        ('directory = "/srv/app"', 'directory = "/root/app"'),
        ("/var/lib/app/queue.tsv", "/tmp/queue.tsv"),
        ("/var/log/app", "/home/zoe/log"),
    )

    @pytest.mark.parametrize(("old", "new"), HIDDEN)
    def test_it_is_a_fault(self, old: str, new: str) -> None:
        """Whatever lies in /home, /root or /tmp is named with the way out."""
        path = new.partition('"')[2].rstrip('"') or new
        found = faults_of(load(TOML.replace(old, new)))
        mine = [each for each in found if "hides from" in each]
        assert mine
        assert all(each.startswith(str(Path(path).parent)[:9]) for each in mine)
        assert all('set [worker].hardening = "compat"' in each for each in mine)

    @pytest.mark.parametrize(("old", "new"), HIDDEN)
    def test_compat_hides_nothing(self, old: str, new: str) -> None:
        """The way out works."""
        toml = TOML.replace(old, new).replace(
            "[[recurring]]", 'hardening = "compat"\n[[recurring]]', 1
        )
        assert not any("hides" in each for each in faults_of(load(toml)))

    def test_a_link_into_it_is_found(self, tmp_path: Path) -> None:
        """An interpreter outside of /root that is a symbolic link into it is hidden as well."""
        (tmp_path / "python").symlink_to("/root/venv/bin/python")
        toml = TOML.replace("/srv/app/venv/bin/python", f"{tmp_path}/python")
        found = [each for each in faults_of(load(toml)) if "the sandbox hides" in each]
        assert [each.partition(":")[0] for each in found] == [f"{tmp_path}/python"]


class TestWhatSystemdSays:
    """systemd-analyze has the last word."""

    def test_its_complaints_are_passed_on(
        self, texts: Texts, analyze: Callable[[str], None]
    ) -> None:
        """A line about one of our units is told, without the temporary folder; others are not."""
        analyze(
            '[ "$1" = verify ] || exit 0; for path; do :; done; folder=$(dirname "$path");'
            "echo \"$folder/dbq-app-worker.service:3: Unknown key 'Foo'\" >&2;"
            "echo 'other.service: is strange' >&2; exit 1"
        )
        assert faults(texts) == ["dbq-app-worker.service:3: Unknown key 'Foo'"]

    def test_a_failure_without_a_word_is_a_fault(
        self, texts: Texts, analyze: Callable[[str], None]
    ) -> None:
        """An exit status alone is enough to refuse."""
        analyze('[ "$1" != verify ]')
        assert faults(texts, for_user=True) == ["systemd-analyze verify: exit 1"]

    def test_a_program_missing_here_is_none_of_an_image(
        self, here: Config, analyze: Callable[[str], None]
    ) -> None:
        """On the live system a program that is not there is a fault, for an image it is none."""
        said = "dbq-app-worker.service: Command /x is not executable: No such file or directory"
        analyze(f'[ "$1" = verify ] || exit 0; echo "{said}" >&2; exit 1')
        assert faults_of(here, live=False) == []
        assert faults_of(here) == [said]

    def test_a_schedule_it_refuses(self, texts: Texts, analyze: Callable[[str], None]) -> None:
        """Each OnCalendar= is tried, and one that never comes is a fault too."""
        prune = '[ "$1" = calendar ] || exit 0; case "$*" in *"-* 03:30:00"*) '
        analyze(prune + "echo bad >&2; exit 1;; esac")
        assert faults(texts) == ["dbq-app-prune.timer: OnCalendar=*-*-* 03:30:00: bad"]
        analyze(prune + "echo Next elapse: never;; esac")
        (said,) = faults(texts)
        assert "never" in said

    def test_an_old_systemd_is_named(self, texts: Texts, analyze: Callable[[str], None]) -> None:
        """One that does not know `--recursive-errors` is refused instead of trusted."""
        analyze(
            "[ $1 = verify ] || exit 0;"
            "echo \"unrecognized option '--recursive-errors'\" >&2; exit 1"
        )
        with pytest.raises(InstallError, match="older than version 250"):
            faults(texts)

    def test_without_systemd_all_but_its_opinion_is_told(
        self, texts: Texts, here: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Where there is no systemd-analyze, the rest is looked at as ever."""
        monkeypatch.setenv("PATH", str(tmp_path))
        assert faults(texts) == []
        assert faults_of(here) == []
        assert faults_of(with_worker(here, user="no-such-user")) != []
