"""What version 2.0.0 installed goes on working, is told as differing, and is brought up to date.

The files below `by_2_0_0/` are what that version wrote for the config that lies beside them.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import cron_reader
import fake_crontab
import pytest

from dbbasic_queue import Queue
from dbbasic_queue.config import sections as configs
from dbbasic_queue.config.sections import Config
from dbbasic_queue.cron import target as cron
from dbbasic_queue.cron.crontab import UserCrontab
from dbbasic_queue.cron.target import CrontabTarget, CronTarget
from dbbasic_queue.install.logrotate import LogrotateTarget
from dbbasic_queue.install.plan import apply, diff, plan_apply, remove
from dbbasic_queue.install.site import Site
from dbbasic_queue.install.status import survey
from dbbasic_queue.install.target import Action, Target
from dbbasic_queue.systemd.target import SystemdTarget

OLD = Path(__file__).parent / "by_2_0_0"
TESTER = Path("/home/tester")


@pytest.fixture
def config() -> Config:
    """The config that version 2.0.0 installed."""
    return configs.parse((OLD / "dbq.toml").read_text(), "/srv/app/dbq.toml")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """The machine as version 2.0.0 left it."""
    root = tmp_path / "image"
    shutil.copytree(OLD, root)
    return root


@pytest.fixture
def target(request: pytest.FixtureRequest, image: Path, monkeypatch: pytest.MonkeyPatch) -> Target:
    """The target of the kind that the test names."""
    monkeypatch.setattr(cron, "last_runs", lambda commands: {})
    monkeypatch.setattr(SystemdTarget, "verify", lambda self, wanted, config: [])
    monkeypatch.setattr(LogrotateTarget, "verify", lambda self, wanted, config: [])
    monkeypatch.setenv("FAKE_CRONTAB", str(image / "crontab"))
    crontab = UserCrontab(fake_crontab.USER, fake_crontab.install(f"{image}/bin-crontab"))
    make: dict[str, Callable[[], Target]] = {
        "cron": lambda: CronTarget(Site(root=image)),
        "cron-user": lambda: CrontabTarget(
            Site(fake_crontab.USER, home=image / TESTER.relative_to("/")), crontab
        ),
        "systemd": lambda: SystemdTarget(Site(root=image)),
        "systemd-user": lambda: SystemdTarget(Site("tester", image, home=TESTER)),
        "logrotate": lambda: LogrotateTarget(Site(root=image)),
    }
    for manifest in image.rglob("app.*.json"):  # one scheduler at a time
        if manifest.name != f"app.{request.param}.json":
            manifest.unlink()
    return make[request.param]()


SCHEDULERS = ["cron", "cron-user", "systemd", "systemd-user"]


@pytest.mark.parametrize("target", SCHEDULERS, indirect=True)
def test_entries_of_2_0_0_differ_and_are_replaced(target: Target, config: Config) -> None:
    """`--check` reports them, an apply needs no --force, and then all is as the config says."""
    plan = plan_apply(target, config)
    assert not plan.in_sync
    assert {change.action for change in plan.work} == {Action.UPDATE}
    assert plan.edited == ()
    said = diff(plan)
    assert "dbbasic_queue.cli work" in said
    assert "-P -m dbbasic_queue work" in said
    apply(target, config)
    assert plan_apply(target, config).in_sync
    for change in plan_apply(target, config).changes:
        assert change.before is not None
        assert b"dbbasic_queue.cli" not in change.before.text


@pytest.mark.parametrize("target", [*SCHEDULERS, "logrotate"], indirect=True)
def test_what_2_0_0_installed_is_removed_exactly(target: Target, image: Path) -> None:
    """By its name alone, without the config and without --force."""
    remove(target, "app")
    assert remove(target, "app").in_sync
    assert target.traces("app") == []


@pytest.mark.parametrize("target", SCHEDULERS, indirect=True)
def test_the_status_of_2_0_0_names_its_entries(target: Target, config: Config) -> None:
    """Manifests of 2.0.0 name no entries; with the config at hand they are known all the same."""
    status = survey(target, "app", config)
    assert status is not None
    assert set(status.files.values()) == {"as installed"}
    labels = {entry.label for entry in status.entries}
    assert labels >= {"worker", "nightly", "prune", "health"}


def test_crontab_entries_of_2_0_0_go_on_working(image: Path, tmp_path: Path) -> None:
    """Each entry that it wrote is run as cron would run it, and does what it always did."""
    folder = tmp_path / "app"
    folder.mkdir()
    (folder / "env").write_text("WORD=from-the-file\n")
    (folder / "jobs.py").write_text(
        "import os\nHANDLERS = {'note': lambda payload: os.environ['WORD']}\n"
    )
    text = (OLD / "dbq.toml").read_text().replace("/srv/app", str(folder))
    text = text.replace('user = "daemon"\n', "")  # the test is run by one user only
    (folder / "dbq.toml").write_text(text.replace("/opt/python/bin/python", sys.executable))
    queue = Queue(folder / "queue.tsv")
    job_id = queue.enqueue("note", {})
    entries = (image / "etc/cron.d/dbq-app").read_text().replace("/srv/app", str(folder))
    entries = entries.replace("/opt/python/bin/python", sys.executable)
    jobs = cron_reader.read(entries.encode(), user_column=True)
    assert len(jobs) == 5
    for job in jobs:
        done = cron_reader.run(job, tmp_path)
        assert (done.returncode, done.stdout) == (0, b""), done.stderr
    job_found = queue.get_job(job_id)
    assert job_found is not None
    assert (job_found["status"], job_found["result"]) == ("completed", "from-the-file")
    assert "completed" in (folder / "dbq.log").read_text()
