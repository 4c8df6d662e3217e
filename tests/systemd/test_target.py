"""The systemd target: what it asks of systemd, in which order, and what it makes of the answers.

systemctl is played by a script that keeps a record; tests/e2e runs the real one.
"""

from __future__ import annotations

import getpass
import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from specimens import TOML, load

from dbbasic_queue.config.sections import Config
from dbbasic_queue.errors import InstallError
from dbbasic_queue.install import plan as install
from dbbasic_queue.install.manifest import load_manifest
from dbbasic_queue.install.site import Site
from dbbasic_queue.install.target import EntryStatus
from dbbasic_queue.systemd.manager import Manager
from dbbasic_queue.systemd.target import SystemdTarget

ME = getpass.getuser()
SYSTEMCTL = r"""#!/bin/sh
cd "$(dirname "$0")" || exit
words=
for word; do
  case $word in
    --no-pager|--no-ask-password|--user) ;;
    *) words="${words:+$words }$word" ;;
  esac
done
echo "$words" >> record
case " $(cat fail) " in *" ${words%% *} "*) echo "${words%% *} failed" >&2; exit 1 ;; esac
units=${words#*-- }
case $words in
  "show --property=Version") echo Version=252 ;;
  # What is loaded is what was there at the last reload; a pattern matches only that.
  daemon-reload) rm -rf loaded; [ ! -d units ] || cp -rL units loaded ;;
  show*)
    for unit in $units; do
      for file in $(cd loaded 2>/dev/null && ls -d $unit || echo "${unit%%[*]*}"); do
        echo "Id=$file"
        cat state
        sed -n -e 's/^PathChanged=\(.*\)/Paths=\1 (PathChanged)/p' -e '/^Persistent=/p' \
          "loaded/$file" 2>/dev/null
        echo
      done
    done ;;
  list-timers*)
    separator='['
    for unit in $units; do
      printf '%s{"unit": "%s", "next": 1700000000000000, "last": 0}' "$separator" "$unit"
      separator=,
    done
    echo ']' ;;
esac
"""


class Machine:
    """A machine whose units, users and systemctl are below a folder of the test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "bin"
        self.folder.mkdir()
        (self.folder / "units").symlink_to(folder / "home/.config/systemd/user")
        (self.folder / "systemctl").write_text(SYSTEMCTL)
        (self.folder / "systemctl").chmod(0o755)
        (self.folder / "systemd-analyze").write_text("#!/bin/sh\n")
        (self.folder / "systemd-analyze").chmod(0o755)
        self.answer()

    def answer(self, *, fail: tuple[str, ...] = (), **properties: str) -> None:
        """What systemctl says from now on; by default all is well."""
        usual = {"UnitFileState": "enabled", "ActiveState": "active", "NeedDaemonReload": "no"}
        show = [f"{key}={value}\n" for key, value in (usual | properties).items()]
        (self.folder / "state").write_text("".join(show))
        (self.folder / "fail").write_text(" ".join(fail))

    def record(self) -> list[str]:
        """What was asked since the last time, without mere questions."""
        path = self.folder / "record"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return [line for line in lines if not line.startswith(("show", "list-timers"))]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """systemctl and systemd-analyze replaced."""
    machine = Machine(tmp_path)
    monkeypatch.setenv("PATH", f"{machine.folder}:{os.environ['PATH']}")
    return machine


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """A config whose folders are there, for a user's own units."""
    toml = TOML
    for folder in ("/var/lib/app", "/srv/app", "/var/lib/metrics", "/var/log/app"):
        (tmp_path / folder[1:]).mkdir(parents=True)
        toml = toml.replace(f'"{folder}', f'"{tmp_path}{folder}')
    toml = toml.replace('environment_file = "/etc/app/env"\n', "").replace('"zoe"', f'"{ME}"')
    return load(toml)


@pytest.fixture
def target(tmp_path: Path) -> SystemdTarget:
    """The live system, the part of it that belongs to the user who runs the test."""
    return SystemdTarget(Site(ME, home=tmp_path / "home"))


def status(target: SystemdTarget, config: Config) -> list[EntryStatus]:
    """The status of what the manifest says is installed."""
    manifest = load_manifest(target.site, config.name, target.kind)
    assert manifest is not None
    return target.status(manifest.entries, config)


@pytest.fixture
def on_server(config: Config, tmp_path: Path) -> Config:
    """The same with its queue on a server."""
    queue = replace(config.queue, file=None, url="redis://127.0.0.1:1/0")
    return replace(config, queue=queue)


STARTERS = [
    "dbq-app-health.timer",
    "dbq-app-prune.timer",
    "dbq-app-recurring@hourly.timer",
    "dbq-app-recurring@nightly.timer",
    "dbq-app-report.timer",
    "dbq-app-worker.path",
    "dbq-app-worker.timer",
]


def test_timers_and_path_are_started_and_no_service(
    machine: Machine, target: SystemdTarget, config: Config
) -> None:
    """An apply reloads, then enables and starts the timers and the path, and nothing else."""
    install.apply(target, config)
    enable = "--quiet enable --now -- " + " ".join(STARTERS)
    assert machine.record() == ["daemon-reload", enable]
    assert config.queue.file.with_suffix(".wake").exists()


def test_a_second_apply_asks_for_nothing(
    machine: Machine, target: SystemdTarget, config: Config
) -> None:
    """When all is in force, systemd is only asked about it."""
    install.apply(target, config)
    machine.record()
    assert install.apply(target, config).in_sync
    assert machine.record() == []


@pytest.mark.parametrize(
    ("properties", "said"),
    [
        ({"UnitFileState": "disabled"}, "is not enabled"),
        ({"ActiveState": "inactive"}, "is inactive"),
        ({"NeedDaemonReload": "yes"}, "has not read the file"),
    ],
)
def test_what_is_not_in_force_is_told_and_made_up_for(
    machine: Machine,
    target: SystemdTarget,
    config: Config,
    properties: dict[str, str],
    said: str,
) -> None:
    """A timer that was stopped or disabled shows as inactive, and the next apply starts it."""
    install.apply(target, config)
    machine.record()
    machine.answer(**properties)
    plan = install.plan_apply(target, config)
    assert len(plan.inactive) == len(STARTERS)
    assert all(said in sentence for sentence in plan.inactive)
    install.apply(target, config)
    assert machine.record()[0] == "daemon-reload"


def test_a_wake_file_that_was_lost_is_made_again(
    machine: Machine, target: SystemdTarget, config: Config
) -> None:
    """The wake file belongs to the installation; without it, it is not in sync."""
    install.apply(target, config)
    wake = config.queue.file.with_suffix(".wake")
    wake.unlink()
    assert "is missing" in install.plan_apply(target, config).inactive[0]
    install.apply(target, config)
    assert wake.exists()


def test_a_changed_timer_is_started_again(
    machine: Machine, target: SystemdTarget, config: Config
) -> None:
    """Only what changed is stopped first, to take its new schedule; no job is disturbed."""
    install.apply(target, config)
    machine.record()
    changed = replace(config, prune=replace(config.prune, schedule=config.recurring[0].schedule))
    install.apply(target, changed)
    enable = "--quiet enable --now -- " + " ".join(STARTERS)
    assert machine.record() == ["daemon-reload", "stop -- dbq-app-prune.timer", enable]


def test_a_timer_that_no_longer_catches_up_loses_its_stamp(
    machine: Machine, target: SystemdTarget, config: Config
) -> None:
    """systemd cleans a stamp only while it takes the timer for persistent: before the reload."""
    install.apply(target, config)
    machine.record()
    jobs = (replace(config.recurring[0], catch_up=False), config.recurring[1])
    install.apply(target, replace(config, recurring=jobs))
    nightly = "dbq-app-recurring@nightly.timer"
    assert machine.record()[:3] == [
        f"stop -- {nightly}",
        f"clean --what=state -- {nightly}",
        "daemon-reload",
    ]


def test_a_job_taken_out_of_the_config_goes_with_its_stamp(
    machine: Machine, target: SystemdTarget, config: Config
) -> None:
    """Its timer is disabled and stopped, its stamp cleaned, its file deleted, then the reload."""
    install.apply(target, config)
    machine.record()
    install.apply(target, replace(config, recurring=config.recurring[1:]))
    nightly = "dbq-app-recurring@nightly.timer"
    assert machine.record()[:3] == [
        f"--quiet disable --now -- {nightly}",
        f"clean --what=state -- {nightly}",
        "daemon-reload",
    ]
    assert not (target.folder / nightly).exists()


def test_remove_stops_everything_before_the_files_go(
    machine: Machine, target: SystemdTarget, config: Config
) -> None:
    """Timers first, then the services (which waits for the running job), then the stamps."""
    install.apply(target, config)
    machine.record()
    install.remove(target, config.name)
    asked = machine.record()
    assert asked[0] == "--quiet disable --now -- " + " ".join(STARTERS)
    assert asked[1].startswith("stop -- dbq-app-failed@*.service dbq-app-health.service")
    assert asked[2:5] == [
        "clean --what=state -- dbq-app-prune.timer",
        "clean --what=state -- dbq-app-recurring@nightly.timer",
        "daemon-reload",
    ]
    assert asked[5].startswith("reset-failed -- ")
    assert len(asked) == 6
    assert not target.folder.exists()
    assert not config.queue.file.with_suffix(".wake").exists()


def test_the_wake_file_of_a_queue_that_moved_goes(
    machine: Machine, target: SystemdTarget, config: Config
) -> None:
    """After the queue's path changed there is one wake file, the new one."""
    install.apply(target, config)
    moved = config.queue.file.with_name("moved.tsv")
    install.apply(target, replace(config, queue=replace(config.queue, file=moved)))
    assert not config.queue.file.with_suffix(".wake").exists()
    assert moved.with_suffix(".wake").exists()


def test_a_shared_wake_file_stays_for_the_other(
    machine: Machine, target: SystemdTarget, config: Config
) -> None:
    """Of two configs on one queue, the removal of one leaves the other its wake file."""
    install.apply(target, config)
    install.apply(target, replace(config, name="other"))
    install.remove(target, "other")
    assert config.queue.file.with_suffix(".wake").exists()
    install.remove(target, config.name)
    assert not config.queue.file.with_suffix(".wake").exists()


def test_a_refusal_of_systemd_is_passed_on(
    machine: Machine, target: SystemdTarget, config: Config
) -> None:
    """What systemctl says is in the error, and the next apply tries again."""
    machine.answer(fail=("daemon-reload",))
    with pytest.raises(InstallError, match="daemon-reload failed"):
        install.apply(target, config)
    machine.answer(ActiveState="inactive")
    install.apply(target, config)
    assert machine.record()[-1].startswith("--quiet enable --now")


def test_without_a_manager_nothing_is_written(
    machine: Machine, target: SystemdTarget, config: Config
) -> None:
    """A user whose manager does not run is told how to start one."""
    machine.answer(fail=("show",))
    with pytest.raises(InstallError, match=f"loginctl enable-linger {ME}"):
        install.apply(target, config)
    assert not target.folder.exists()


@pytest.fixture
def logged_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user whose manager is not there to be talked to."""
    monkeypatch.setattr(Manager, "runtime", tmp_path / "run")


def test_a_user_who_is_logged_out_is_rid_of_the_units(
    machine: Machine, target: SystemdTarget, config: Config, tmp_path: Path, logged_out: None
) -> None:
    """Where no manager runs nothing is to be stopped: files, links and stamps go."""
    install.apply(target, config)
    stamp = tmp_path / "home/.local/share/systemd/timers/stamp-dbq-app-prune.timer"
    stamp.parent.mkdir(parents=True)
    stamp.touch()
    machine.answer(fail=("show", "daemon-reload", "stop", "clean", "reset-failed"))
    machine.record()
    install.remove(target, config.name)
    assert machine.record() == [f"--quiet disable -- {' '.join(STARTERS)}"]
    assert not target.folder.exists()
    assert not stamp.exists()


def test_a_manager_that_does_not_answer_keeps_its_units(
    machine: Machine, target: SystemdTarget, config: Config, tmp_path: Path, logged_out: None
) -> None:
    """Its socket is there, so the units may run: nothing is deleted under them."""
    install.apply(target, config)
    (tmp_path / "run/systemd").mkdir(parents=True)
    (tmp_path / "run/systemd/private").touch()
    machine.answer(fail=("show",))
    with pytest.raises(InstallError, match="no running service manager"):
        install.remove(target, config.name)
    assert list(target.folder.iterdir())


def test_files_are_compared_where_no_manager_runs(
    machine: Machine, target: SystemdTarget, config: Config
) -> None:
    """`--diff`, `--check` and `--status` go by the files then; only an apply is refused."""
    install.apply(target, config)
    machine.answer(fail=("show",))
    machine.record()
    assert install.plan_apply(target, config).in_sync
    changed = replace(config, prune=None)
    assert not install.plan_apply(target, changed).in_sync
    assert {entry.note for entry in status(target, config)} == {
        "unknown: no service manager answers"
    }
    assert machine.record() == []


def test_without_systemd_analyze_nothing_is_put_in_force(
    machine: Machine, target: SystemdTarget, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Units that cannot be verified are not installed; they can be compared."""
    (machine.folder / "systemd-analyze").unlink()
    monkeypatch.setenv("PATH", f"{machine.folder}:/nowhere")
    with pytest.raises(InstallError, match="systemd-analyze is missing"):
        install.apply(target, config)
    assert not target.folder.exists()
    assert install.plan_apply(target, config).work


def test_another_users_manager_is_refused() -> None:
    """Only the user can talk to the user's own manager."""
    other = "nobody" if ME != "nobody" else "daemon"
    assert f"only {other} can talk" in str(Manager(other).unreachable())


def test_status_tells_each_timer_and_the_path(
    machine: Machine, target: SystemdTarget, config: Config
) -> None:
    """Schedules, next runs, and what is not as usual."""
    install.apply(target, config)
    machine.answer(ActiveState="inactive", Result="exit-code", Triggers="dbq-app-x.service")
    entries = {entry.label: entry for entry in status(target, config)}
    assert set(entries) == {
        "health",
        "prune",
        "hourly",
        "nightly",
        "report",
        "worker",
        "worker (wake)",
    }
    assert entries["prune"].schedule == "*-*-* 03:30:00"
    assert entries["prune"].next_run == datetime.fromtimestamp(1_700_000_000, UTC)
    assert entries["prune"].last_run is None


def test_an_image_is_written_without_systemctl(
    machine: Machine, config: Config, tmp_path: Path
) -> None:
    """Below --root only files are written: nothing is asked, activated or made beside the queue."""
    (tmp_path / "image").mkdir()
    target = SystemdTarget(Site(root=tmp_path / "image"))
    install.apply(target, config)
    assert (tmp_path / "image/etc/systemd/system/dbq-app-worker.timer").exists()
    assert {entry.label for entry in status(target, config)} >= {"worker", "nightly"}
    assert not config.queue.file.with_suffix(".wake").exists()
    install.remove(target, "app")
    assert list((tmp_path / "image/etc/systemd/system").iterdir()) == []
    assert machine.record() == []


def test_traces_are_of_this_name_only(target: SystemdTarget) -> None:
    """Files of a config whose name merely begins the same are not taken for this one's."""
    assert target.traces("app") == []
    target.folder.mkdir(parents=True)
    for unit in ("dbq-app-worker.timer", "dbq-app-worker-worker.timer", "dbq-appx-worker.timer"):
        (target.folder / unit).touch()
    assert [path.name for path in target.traces("app")] == ["dbq-app-worker.timer"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"hardening": "isolated"}, "handlers and commands cannot reach any network"),
        ({"hardening": "network"}, "handlers and commands cannot write outside of"),
        ({"timeout": None}, "[worker].timeout is not set"),
        ({"linger": 50}, "[worker].linger is not needed"),
        ({"user": "root"}, "[worker].user is root"),
    ],
)
def test_what_a_person_should_know_is_said(
    config: Config, tmp_path: Path, changes: dict[str, object], said: str
) -> None:
    """What a profile forbids handlers, and other things that surprise, are told at install time."""
    target = SystemdTarget(Site(root=tmp_path))
    worker = replace(config.worker, **{"user": "app", "hardening": "compat", **changes})  # type: ignore[arg-type]
    assert any(said in note for note in target.notes(replace(config, worker=worker)))
    usual = replace(config.worker, user="app", hardening="compat")
    assert not any(said in note for note in target.notes(replace(config, worker=usual)))


def test_a_value_that_no_unit_holds_is_refused_with_the_config(
    target: SystemdTarget, config: Config
) -> None:
    """The error names the config file and what is wrong with it."""
    broken = replace(config, worker=replace(config.worker, python='/x/"y"/python'))
    with pytest.raises(InstallError, match=r"dbq\.toml: .*quotation mark"):
        target.render(broken)


# --- Workers of a server -------------------------------------------------------------------------


def test_workers_are_started_by_their_target(
    machine: Machine, target: SystemdTarget, on_server: Config
) -> None:
    """The target is enabled and started with the timers; nothing is woken, nothing else started."""
    install.apply(target, on_server)
    asked = machine.record()
    assert asked[0] == "daemon-reload"
    (enabled,) = asked[1:]
    assert enabled.startswith("--quiet enable --now -- ")
    assert "dbq-app-workers.target" in enabled.split()
    assert ".service" not in enabled
    machine.answer(Wants="dbq-app-worker@1.service dbq-app-worker@2.service network.target")
    (first, *_) = status(target, on_server)
    assert (first.label, first.note) == ("workers", "2 of 2 running")


def test_workers_take_a_new_unit(
    machine: Machine, target: SystemdTarget, on_server: Config
) -> None:
    """When what they run has changed, they are stopped, with their target, and started anew."""
    install.apply(target, on_server)
    machine.record()
    changed = replace(on_server, worker=replace(on_server.worker, nice=5))
    install.apply(target, changed)
    asked = machine.record()
    assert "stop -- dbq-app-workers.target" in asked
    assert asked.index("stop -- dbq-app-workers.target") > asked.index("daemon-reload")
    assert "dbq-app-workers.target" in asked[-1].split()
    assert install.apply(target, changed).in_sync


def test_workers_end_with_a_removal(
    machine: Machine, target: SystemdTarget, on_server: Config
) -> None:
    """The target is disabled, each worker is stopped, and no file is left."""
    install.apply(target, on_server)
    machine.record()
    install.remove(target, on_server.name)
    asked = machine.record()
    assert "dbq-app-workers.target" in asked[0].split()
    assert asked[0].startswith("--quiet disable --now -- ")
    assert "dbq-app-worker@*.service" in asked[1].split()
    assert target.traces("app") == []


def test_a_queue_moves_to_a_server(
    machine: Machine, target: SystemdTarget, config: Config, on_server: Config
) -> None:
    """The units of the file go as those of the server come, and the other way round."""
    install.apply(target, config)
    machine.record()
    install.apply(target, on_server)
    asked = machine.record()
    assert "dbq-app-worker.timer" in asked[0].split()
    assert not any("rewake" in path.name for path in target.traces("app"))
    install.apply(target, config)
    assert not any("workers.target" in path.name for path in target.traces("app"))
