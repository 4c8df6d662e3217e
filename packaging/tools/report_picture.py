"""`make pictures`: docs/report.png, the README's picture of `dbq report`, from a browser.

A shop's queue is made in an empty folder, as it is after two days: jobs that failed, wait and run,
a type that is paused, and what workers did by the hour. `dbq report` is run on it, Chromium opens
what it wrote, and the page down to the curve is kept. Run it again when the page has changed.
"""

from __future__ import annotations

import io
import math
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "helpers"))
from chromium import OPTIONS, program  # noqa: E402 - found by the line before
from PIL import Image  # noqa: E402
from playwright.sync_api import sync_playwright  # noqa: E402

from dbbasic_queue import Queue  # noqa: E402
from dbbasic_queue.job import Job  # noqa: E402

TARGET = ROOT / "docs" / "report.png"
WIDTH, LARGEST = 1000, 200_000  # pixels; bytes
HOME = "/srv/shop"  # what the folder is called in the picture
CONFIG = """\
name = "shop"
[queue]
file = "data/queue.tsv"
[worker]
handlers = "jobs:HANDLERS"
[health]
[log]
file = "data/dbq.log"
"""
HANDLERS = """\
import os
import time

from dbbasic_queue import current_job


def wait(payload):
    current_job().progress(payload["share"], payload["words"])
    while not os.path.exists("enough"):
        time.sleep(0.1)


HANDLERS = {"render_report": wait, "transcode_video": wait}
"""
RUNNING = {  # payloads
    "transcode_video": {"share": 0.62, "words": "1080p, pass 2 of 2"},
    "render_report": {"share": 0.25, "words": "page 12 of 48"},
}

AGO = {"transcode_video": 312, "render_report": 14}  # seconds


class Kind(NamedTuple):
    """How jobs of one type go: how many an hour at noon, and how long one takes, in seconds."""

    hourly: int
    seconds: float


KINDS = {
    "send_mail": Kind(420, 0.4),
    "render_report": Kind(24, 40),
    "transcode_video": Kind(9, 500),
    "clean_up": Kind(4, 6),
}
# Of which type, how many, since how many hours, and what is wrong.
FAILURES = (
    ("send_mail", 23, 3, "TimeoutError: no answer from smtp2.example.com in 30 s"),
    ("transcode_video", 4, 30, "RuntimeError: ffmpeg ended with status 1: moov atom not found"),
    ("render_report", 2, 9, "KeyError: 'currency'"),
)


def main() -> None:
    """Make the queue, write its report, and take the picture."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fill(folder)
        with working(folder):
            shown = subprocess.run(
                [sys.executable, "-m", "dbbasic_queue", "report"],
                cwd=folder,
                check=True,
                capture_output=True,
                text=True,
            ).stdout
    TARGET.write_bytes(taken(shown.replace(name, HOME)))
    size = TARGET.stat().st_size
    print(f"written: docs/{TARGET.name}, {size:,} bytes")
    if size > LARGEST:
        raise SystemExit(f"{TARGET}: more than {LARGEST:,} bytes, which is too much for a README")


def fill(folder: Path) -> None:
    """Make the queue and its history."""
    (folder / "jobs.py").write_text(HANDLERS)
    (folder / "dbq.toml").write_text(CONFIG)
    now, chance = int(time.time()), random.Random(7)
    queue = Queue(folder / "data" / "queue.tsv", "normal")
    history = list(ended(now, chance))
    queue.engine.add_history(history, "picture")
    jobs = [
        Job(f"{n:016x}", kind, {}, "completed", due, int(begun + seconds), 1)
        for n, (kind, status, begun, due, seconds) in enumerate(history)
        if status == "completed"
    ]
    errors = {kind: error for kind, _, _, error in FAILURES}
    for kind, status, at, *_ in history:
        if status == "failed":
            job_id = f"{chance.getrandbits(60):016x}"
            jobs.append(Job(job_id, kind, {}, "failed", at - 800, at, 3, errors[kind]))
    for n in range(31):
        jobs.append(Job(f"m{n}", "send_mail", {}, "pending", now - 400, now - 340 + 10 * n, 0))
    queue.engine.adopt(jobs)
    queue.pause("newsletter", why="it waits for its editor")
    queue.enqueue_many([("newsletter", {})] * 180)
    queue.enqueue("clean_up", {}, now + 7200)
    queue.enqueue_many(list(RUNNING.items()))


def ended(now: int, chance: random.Random) -> Iterator[tuple[str, str, int, int, float]]:
    """The attempts of two days: many by day, few by night, and an hour of trouble with mail."""
    for hour in range(48):
        start = now // 3600 * 3600 - hour * 3600
        share = 0.08 + 0.92 * max(0.0, math.sin((time.gmtime(start).tm_hour - 5) / 17 * math.pi))
        length = now - start if hour == 0 else 3600
        for kind, (hourly, seconds) in KINDS.items():
            number = round(hourly * share * chance.uniform(0.8, 1.15) * length / 3600)
            bad = 0.3 if (kind == "send_mail" and hour in (2, 3)) else 0.01
            for _ in range(number):
                due = start + chance.randrange(max(1, length))
                begun, took = due + int(chance.expovariate(0.4)), seconds * chance.uniform(0.3, 2)
                status = "pending" if chance.random() < bad else "completed"
                if begun + took < now:
                    yield kind, status, begun, due, took
    for kind, number, hours, _ in FAILURES:
        for _ in range(number):
            at = now - chance.randrange(120, hours * 3600)
            yield kind, "failed", at, at, 0.0


def began(table: Path, job: Job, ago: int) -> None:
    """Change in a row, whose length stays, when a job was begun."""
    content = table.read_bytes()
    old = f"\tprocessing\t{job.created_at}\t{job.run_at}\t".encode()
    at = content.index(old, content.index(f"{job.id}\t".encode()))
    new = f"\tprocessing\t{job.created_at - ago}\t{job.run_at - ago}\t".encode()
    with table.open("r+b") as stream:
        stream.seek(at)
        stream.write(new)


@contextmanager
def working(folder: Path) -> Iterator[None]:
    """Two jobs run meanwhile, have said how far they are, and by their rows began a while ago."""
    words = [sys.executable, "-m", "dbbasic_queue", "work", "--concurrency", "2", "--quiet"]
    words += ["--types", ",".join(RUNNING)]
    worker = subprocess.Popen([*words, "--linger", "1min"], cwd=folder)
    try:
        queue = Queue(folder / "data" / "queue.tsv")
        while sum(bool(job.result) for job, *_ in queue.engine.running()) < len(RUNNING):
            time.sleep(0.1)
        for job, *_ in queue.engine.running():
            began(folder / "data" / "queue.tsv", job, AGO[job.type])
        yield
    finally:
        (folder / "enough").touch()
        worker.terminate()
        worker.wait()


def taken(html: str) -> bytes:
    """The picture of a page, in PNG, from its top to the end of the curve."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program(), args=OPTIONS)
        page = browser.new_page(viewport={"width": WIDTH, "height": 800}, color_scheme="light")
        page.set_content(html)
        page.add_style_tag(content="body { font-family: 'Liberation Sans', sans-serif }")
        box = page.locator("section[aria-labelledby=hours]").bounding_box()
        assert box
        clip = {"x": 0, "y": 0, "width": WIDTH, "height": box["y"] + box["height"] + 16}
        seen = Image.open(io.BytesIO(page.screenshot(full_page=True, clip=clip)))
    small = io.BytesIO()
    seen.convert("RGB").quantize(128).save(small, "PNG", optimize=True)
    return small.getvalue()


if __name__ == "__main__":
    os.environ.pop("NO_COLOR", None)
    main()
