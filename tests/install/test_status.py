"""The status tells what is installed and which jobs run, from what is there."""

from __future__ import annotations

import os
from pathlib import Path

from dbbasic_queue.config import sections as configs
from dbbasic_queue.cron.target import CronTarget
from dbbasic_queue.engines.tsv.claims import Claims
from dbbasic_queue.install.plan import apply
from dbbasic_queue.install.site import Site
from dbbasic_queue.install.status import holders, survey

HEADER = "id\ttype\tpayload\tstatus\tcreated_at\trun_at\tattempts\terror\tresult\n"


def row(job: str, status: str, run_at: object = 1_700_000_000) -> str:
    return f"{job}\tmail\t{{}}\t{status}\t1\t{run_at}\t1\t\t\n"


def test_running_jobs_are_told_with_their_holders(tmp_path: Path) -> None:
    """Rows that are processing, by the processes that have the claims file open."""
    queue = tmp_path / "queue.tsv"
    lines = [
        row("a1", "pending"),
        row("b2", "processing"),
        row(" c3", "processing"),
        row("d4", "processing"),
        row("d4", "completed"),
        row("e5", "processing", "soon"),
        "torn\tprocessing\n",
    ]
    queue.write_text(HEADER + "".join(lines))
    (sentence,) = holders(queue)
    assert sentence.startswith("b2 mail since 2023-11-1")
    with (tmp_path / "queue.claims").open("w") as claims:
        (sentence,) = holders(queue)
        assert not claims.closed
    assert " by process " in sentence


def test_a_job_whose_claim_is_free_is_orphaned(tmp_path: Path) -> None:
    """With the claims at hand, a row alone is not believed."""
    queue = tmp_path / "queue.tsv"
    queue.write_text(HEADER + row("b2", "processing") + row("c3", "processing"))
    first, second = holders(queue, held=lambda job: job == "c3")
    assert "b2 mail is orphaned" in first
    assert "c3 mail since" in second


def test_no_queue_is_nothing_running(tmp_path: Path) -> None:
    """A queue that is not there yet, or that the caller may not read, has no running jobs."""
    assert holders(tmp_path / "queue.tsv") == []


def test_each_file_has_its_state(tmp_path: Path) -> None:
    """As installed, changed by hand, or missing; nothing at all without a manifest."""
    target = CronTarget(Site(root=tmp_path))
    text = 'name = "a"\nqueue.file = "/q.tsv"\nworker = { handlers = "a:H", user = "nobody" }\n'
    config = configs.parse(text, "/etc/dbq.toml")
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


def test_the_queue_of_an_image_is_the_one_below_it(tmp_path: Path) -> None:
    """Jobs that run on this machine are not told of an image."""
    target = CronTarget(Site(root=tmp_path))
    text = 'name = "a"\nqueue.file = "/q.tsv"\nworker = { handlers = "a:H", user = "nobody" }\n'
    config = configs.parse(text, "/etc/dbq.toml")
    apply(target, config)
    (tmp_path / "q.tsv").write_text(HEADER + row("b2", "processing"))
    status = survey(target, "a", config)
    assert status is not None
    assert status.running is not None
    assert [sentence[:2] for sentence in status.running] == ["b2"]


def test_the_kernel_is_asked_who_holds_a_job(tmp_path: Path) -> None:
    """A row that says processing, but whose claim nobody holds, is told as orphaned."""
    target = CronTarget(Site(root=tmp_path))
    text = 'name = "a"\nqueue.file = "/q.tsv"\nworker = { handlers = "a:H", user = "nobody" }\n'
    config = configs.parse(text, "/etc/dbq.toml")
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
