"""The report in a browser: no message, no request, no fault of accessibility, nothing cut off."""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from chromium import LOOKS, Watched
from cli_app import start, wait_for
from large_queue import HOSTILE, large_queue

from dbbasic_queue import Queue

JOBS = 100_000
HANDLERS = """
import time, os
from dbbasic_queue import current_job

def slow(payload):
    current_job().progress(payload["share"], payload["words"])
    open(f"running-{payload['n']}", "w").close()
    while not os.path.exists("enough"):
        time.sleep(0.01)

HANDLERS = {"export": slow, "transcode": slow}
"""
RUNNING = (  # type, how far, and what they say of it
    ("export", 0.42, "page 21 of 50, <b>bold</b>"),
    ("transcode", 1.0, "</table><script>alert('progress')</script>" + "w" * 60),
    ("transcode", 0.0, ""),
)
CONFIG = """
name = "shop"
[queue]
file = "queue.tsv"
[worker]
handlers = "jobs:HANDLERS"
[[recurring]]
name = "nightly-report"
type = "report.build"
schedule = "0 2 * * *"
[prune]
completed = "7d"
[health]
[report]
file = "queue.html"
"""

# What the failures of each of the five kinds say.
KINDS = ("ConnectionRefusedError", "KeyError", "ValueError: no user", "TimeoutError", "<img src=x")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An application whose queue has 100,000 jobs and a history, and three that run."""
    path = tmp_path_factory.mktemp("shop")
    (path / "jobs.py").write_text(HANDLERS)
    (path / "dbq.toml").write_text(CONFIG)
    queue: Queue = large_queue(path / "queue.tsv", JOBS)
    for n, (kind, share, words) in enumerate(RUNNING):
        queue.enqueue(kind, {"n": n, "share": share, "words": words}, run_at=1)
    options = ["--types", "export,transcode", "--concurrency", str(len(RUNNING))]
    worker = start("work", "jobs:HANDLERS", *options, cwd=path)
    wait_for(lambda: all((path / f"running-{n}").exists() for n in range(len(RUNNING))))
    yield path
    (path / "enough").touch()
    worker.communicate()


@pytest.fixture(scope="module")
def report(folder: Path, pytestconfig: pytest.Config) -> Path:
    """Its report, as the clock has it written."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, "-m", "dbbasic_queue", "report", "--scheduled"], cwd=folder, check=True
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    page = folder / "queue.html"
    print(f"a report of {JOBS:,} jobs: {used:.2f} s of processor, {page.stat().st_size:,} bytes")
    return page


def test_a_report_stays_small(report: Path) -> None:
    """Whatever the number of jobs, and however long their texts."""
    assert report.stat().st_size < 60_000


@pytest.mark.parametrize("look", LOOKS)
def test_a_report_is_fit_to_be_read(look: str, report: Path, watch: Callable[..., Watched]) -> None:
    """By each eye, and by a reader of the screen; it says nothing and asks for nothing."""
    seen = watch(look)
    seen.page.goto(report.as_uri())
    seen.page.locator("body").wait_for()
    assert seen.page.title() == "CRITICAL: shop"
    text = seen.page.locator("main").inner_text()
    assert all(f"{share:.0%}".replace("%", " %") in text for _, share, _ in RUNNING)
    assert "42 %, page 21 of 50, <b>bold</b>" in text
    assert all(part in text for part in KINDS)
    assert seen.page.locator(".paused .tag").all_inner_texts() == sorted(["thumbnail", HOSTILE])
    assert seen.page.locator(".chart path").count() == 3
    assert not seen.is_wider_than_the_window()
    seen.keep(f"report-{look}")
    assert seen.violations() == []
    assert seen.said == []
    assert seen.requests == [report.as_uri()]


def test_a_report_is_fit_to_be_printed(report: Path, watch: Callable[..., Watched]) -> None:
    """On white, with nothing beside the paper."""
    seen = watch("dark")
    seen.page.goto(report.as_uri())
    seen.page.emulate_media(media="print", color_scheme="light")
    assert not seen.is_wider_than_the_window()
    seen.keep("report-print")
    assert seen.page.pdf(format="A4")[:4] == b"%PDF"
