"""What workers did, as counters and histograms."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dbbasic_queue import Queue
from dbbasic_queue.engines.history import Hour, Times, add_up
from dbbasic_queue.health import worked
from dbbasic_queue.health.formats import prometheus
from dbbasic_queue.health.judge import check_health
from dbbasic_queue.health.report import HealthReport

NOW = 1_700_000_000


def samples(lines: list[str]) -> dict[str, float]:
    """What is said of each series."""
    found = {}
    for line in lines:
        if not line.startswith("#"):
            series, value = line.rsplit(" ", 1)
            assert series not in found
            found[series] = float(value)
    return found


def told(*hours: Hour) -> dict[str, float]:
    return samples(list(worked.lines(worked.by_type(hours), 'queue="app"', str)))


def test_attempts_are_counted_by_type_and_outcome() -> None:
    """Of all hours together."""
    found = told(Hour(0, "mail", 1, 2), Hour(3600, "mail", 1, 0, 4), Hour(3600, "report", 7))
    counter = 'dbq_jobs_processed_total{queue="app",type="%s",outcome="%s"}'
    assert found[counter % ("mail", "completed")] == 2
    assert found[counter % ("mail", "retried")] == 2
    assert found[counter % ("mail", "failed")] == 4
    assert found[counter % ("mail", "cancelled")] == 0
    assert found[counter % ("report", "completed")] == 7


def test_buckets_add_up() -> None:
    """Each has all that is not longer; the last one is the count, as Prometheus has it."""
    ran = Times.of([0.002, 0.5, 0.5, 1e6])
    found = told(Hour(0, "mail", 4, ran=ran))
    bucket = 'dbq_job_duration_seconds_bucket{queue="app",type="mail",le="%s"}'
    ends = ["0.001", "0.003", "0.3", "1", "100000", "+Inf"]
    assert [found[bucket % end] for end in ends] == [0, 1, 1, 3, 3, 4]
    assert found['dbq_job_duration_seconds_count{queue="app",type="mail"}'] == 4
    assert found['dbq_job_duration_seconds_sum{queue="app",type="mail"}'] == ran.total
    assert found['dbq_job_wait_seconds_count{queue="app",type="mail"}'] == 0


def test_types_cannot_explode() -> None:
    """Above a hundred, those that come first by name are told, and the rest as one."""
    hours = [Hour(0, f"type-{number:03}", 1) for number in range(150)]
    found = worked.by_type(hours)
    assert len(found) == worked.TYPES + 1
    assert [hour.completed for hour in found if hour.type == "other"] == [50]
    assert sum(hour.completed for hour in found) == 150


def test_a_type_is_escaped(tmp_path: Path) -> None:
    """It is a label's value, whatever is in it."""
    report = check_health(tmp_path / "none", queue="app", clock=lambda: NOW)
    report = HealthReport(
        *(report.queue, report.path, report.at, report.thresholds, None, None, ()),
        worked=(Hour(0, 'a"b\\c', 1),),
    )
    assert r'type="a\"b\\c",outcome="completed"} 1' in prometheus(report)


def test_nothing_known_is_nothing_said(tmp_path: Path) -> None:
    """No help and no type without a sample."""
    assert list(worked.lines((), "", str)) == []


def test_every_metric_has_its_help_before_its_samples() -> None:
    """Once each, counters end in _total, and no sample stands under another's name."""
    names = [name for name, _, _ in worked.METRICS]
    lines = list(worked.lines([Hour(0, "a", 1), Hour(0, "b", 1)], 'queue="q"', str))
    heads = [line.split()[2] for line in lines if line.startswith("# TYPE")]
    assert heads == names
    current = ""
    for line in lines:
        if line.startswith("#"):
            current = line.split()[2]
        else:
            name = re.sub(r"_(bucket|sum|count)$", "", line.partition("{")[0])
            assert name == current
    kinds = {name: kind for name, kind, _ in worked.METRICS}
    assert all(name.endswith("_total") == (kind == "counter") for name, kind in kinds.items())
    assert all(name.endswith("_seconds") for name, kind in kinds.items() if kind == "histogram")


def test_the_check_tells_what_workers_did(tmp_path: Path) -> None:
    """In the textfile, and in Prometheus's format; pruning does not take it away."""
    queue = Queue(tmp_path / "queue.tsv", "normal")
    queue.enqueue("mail", {})
    queue.process_jobs({"mail": bool})
    queue.engine.add_history([("mail", "failed", NOW, NOW - 4, 0.5)], "old")
    queue.engine.fold_history(NOW + 7200)
    command = [sys.executable, "-m", "dbbasic_queue", "health", "--file", str(queue.path)]
    textfile = tmp_path / "dbq.prom"
    done = subprocess.run(
        [*command, "--format", "prometheus", "--textfile", str(textfile)],
        capture_output=True,
        text=True,
        check=False,
    )
    counter = f'dbq_jobs_processed_total{{queue="{queue.path}",type="mail",outcome="%s"}} 1'
    for text in (done.stdout, textfile.read_text()):
        assert counter % "completed" in text.splitlines()
        assert counter % "failed" in text.splitlines()


def test_a_history_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    """A WARNING, and the rest is told all the same."""
    queue = Queue(tmp_path / "queue.tsv", "normal")
    queue.enqueue("mail", {})
    queue.path.with_suffix(".history").mkdir()
    textfile = tmp_path / "dbq.prom"
    command = [sys.executable, "-m", "dbbasic_queue", "health", "--file", str(queue.path)]
    done = subprocess.run(
        [*command, "--textfile", str(textfile)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "queue.history" in done.stdout
    assert "dbq_up" in textfile.read_text()


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_finds_nothing() -> None:
    """In names, kinds, helps and buckets."""
    ran = Times.of([0.002, 0.5, 1e6])
    hours = [Hour(0, "mail", 3, ran=ran), Hour(0, "report", 0, 1, waited=ran)]
    text = "".join(f"{line}\n" for line in worked.lines(hours, 'queue="q"', str))
    command = ["promtool", "check", "metrics"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_what_is_added_up_is_what_was_noted() -> None:
    """From the worker's notes to the counters."""
    hours = add_up([("mail", "completed", NOW, NOW - 2, 0.25)] * 3)
    found = told(*hours)
    assert found['dbq_job_wait_seconds_sum{queue="app",type="mail"}'] == 6
    assert found['dbq_job_duration_seconds_sum{queue="app",type="mail"}'] == 0.75
