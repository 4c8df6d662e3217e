"""The status tells what is installed and which jobs run, from what is there."""

from __future__ import annotations

import os
from pathlib import Path

from dbbasic_queue.config import sections as configs
from dbbasic_queue.cron.target import CronTarget
from dbbasic_queue.engines import open_engine
from dbbasic_queue.engines.tsv.claims import Claims
from dbbasic_queue.install.plan import apply
from dbbasic_queue.install.site import Site
from dbbasic_queue.install.status import running_jobs, survey

TEXT = 'name = "a"\nqueue.file = "/q.tsv"\nworker = { handlers = "a:H", user = "nobody" }\n'
HEADER = "id\ttype\tpayload\tstatus\tcreated_at\trun_at\tattempts\terror\tresult\n"


def row(job: str, status: str, run_at: object = 1_700_000_000) -> str:
    return f"{job}\tmail\t{{}}\t{status}\t1\t{run_at}\t1\t\t\n"


def test_running_jobs_are_told_as_the_engine_has_them(tmp_path: Path) -> None:
    """What is running, since when and by which process; a job whose claim is free is orphaned."""
    path = tmp_path / "queue.tsv"
    lines = [
        row("a1", "pending"),
        row("b2", "processing"),
        row(" c3", "processing"),
        row("d4", "completed"),
        "torn\tprocessing\n",
    ]
    path.write_text(HEADER + "".join(lines))
    engine = open_engine(path)
    (said,) = running_jobs(engine)
    assert said == "b2 mail is orphaned: its worker died; the next one rescues it"
    claims = Claims(tmp_path / "queue.claims", path)
    claim = claims.take(b"b2")
    assert claim is not None
    (said,) = running_jobs(engine)
    claims.close()
    assert said.startswith("b2 mail since 2023-11-1")
    assert said.endswith(f" by process {os.getpid()}")


def test_a_status_of_a_queue_that_is_not_there_makes_nothing(tmp_path: Path) -> None:
    """A queue that is not there yet has no running jobs, and is not made by looking."""
    target = CronTarget(Site(root=tmp_path))
    config = configs.parse(TEXT, "/etc/dbq.toml")
    apply(target, config)
    before = sorted(tmp_path.rglob("*"))
    status = survey(target, "a", config)
    assert status is not None
    assert status.running == ()
    assert sorted(tmp_path.rglob("*")) == before


def test_a_queue_that_cannot_be_read_is_not_taken_for_an_idle_one(tmp_path: Path) -> None:
    """What is running is unknown then."""
    target = CronTarget(Site(root=tmp_path))
    config = configs.parse(TEXT, "/etc/dbq.toml")
    apply(target, config)
    (tmp_path / "q.tsv").mkdir()
    status = survey(target, "a", config)
    assert status is not None
    assert status.running is None


def test_each_file_has_its_state(tmp_path: Path) -> None:
    """As installed, changed by hand, or missing; nothing at all without a manifest."""
    target = CronTarget(Site(root=tmp_path))
    config = configs.parse(TEXT, "/etc/dbq.toml")
    assert survey(target, "a", config) is None
    apply(target, config)
    file = tmp_path / "etc/cron.d/dbq-a"
    states = []
    for change in (lambda: None, lambda: file.write_text("x"), file.unlink):
        change()
        status = survey(target, "a", None)
        assert status is not None
        states.append(status.files["/etc/cron.d/dbq-a"])
    assert states == ["as installed", "changed by hand", "missing"]
    assert status.running is None
    assert status.config == "/etc/dbq.toml"


def test_nothing_runs_next_by_a_file_that_is_gone(tmp_path: Path) -> None:
    """Taken out by hand, as by `crontab -r`, an entry is told with that and no next run."""
    target = CronTarget(Site(root=tmp_path))
    apply(target, configs.parse(TEXT, "/etc/dbq.toml"))
    there = survey(target, "a", None)
    (tmp_path / "etc/cron.d/dbq-a").unlink()
    gone = survey(target, "a", None)
    assert there is not None
    assert gone is not None
    assert all(entry.next_run for entry in there.entries)
    assert [(entry.next_run, entry.note) for entry in gone.entries] == [
        (None, "its file was taken out by hand: nothing starts it")
    ]


def test_the_queue_of_an_image_is_the_one_below_it(tmp_path: Path) -> None:
    """Jobs that run on this machine are not told of an image."""
    target = CronTarget(Site(root=tmp_path))
    config = configs.parse(TEXT, "/etc/dbq.toml")
    apply(target, config)
    (tmp_path / "q.tsv").write_text(HEADER + row("b2", "processing"))
    status = survey(target, "a", config)
    assert status is not None
    assert status.running is not None
    assert [sentence[:2] for sentence in status.running] == ["b2"]


def test_the_kernel_is_asked_who_holds_a_job(tmp_path: Path) -> None:
    """A row that says processing, but whose claim no process holds, is told as orphaned."""
    target = CronTarget(Site(root=tmp_path))
    config = configs.parse(TEXT, "/etc/dbq.toml")
    apply(target, config)
    (tmp_path / "q.tsv").write_text(HEADER + row("b2", "processing"))
    claims = Claims(tmp_path / "q.claims", tmp_path / "q.tsv")
    claim = claims.take(b"b2")
    assert claim is not None
    said = [survey(target, "a", config)]
    claims.release(claim)
    said.append(survey(target, "a", config))
    claims.close()
    assert ["orphaned" in str(status and status.running) for status in said] == [False, True]
    assert f"by process {os.getpid()}" in str(said[0] and said[0].running)
