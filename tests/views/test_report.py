"""The report: one HTML page, which needs nothing else and shows nothing that it should not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from dbbasic_queue import Queue, current_job
from dbbasic_queue.health.advice import Advice
from dbbasic_queue.health.judge import check_health
from dbbasic_queue.views import report as drawing
from dbbasic_queue.views.reading import Hour, Reader, Reading
from dbbasic_queue.views.report import chart, report, write_report

ADVICE = Advice(["--file", "queue.tsv"])
HOSTILE = "</style><script>alert(1)</script><img src=x onerror=alert(1)>&\"'\u202e\x1b[31m"
VOID = {"meta", "link", "input", "br", "rect", "path"}


class Page(HTMLParser):
    """The elements of a page, and whether each that begins also ends."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def all(self, tag: str) -> Iterator[dict[str, str | None]]:
        return (attributes for name, attributes in self.found if name == tag)


def read(queue: Queue, payloads: bool = False) -> Reading:
    check = partial(check_health, queue.path, queue="shop")
    return Reader(queue, check=check, advice=ADVICE, payloads=payloads).read()


@pytest.fixture
def queue(tmp_path: Path) -> Queue:
    """A queue in which jobs of awkward types fail, wait, and one runs."""
    return Queue(tmp_path / "queue.tsv", "normal")


def fail(queue: Queue, error: str, job_type: str = "mail", payload: Any = None) -> None:
    def bad(payload: dict[str, Any]) -> None:
        raise ValueError(error)

    queue.enqueue(job_type, payload or {})
    queue.process_jobs({job_type: bad}, max_attempts=1)


def test_a_page_needs_nothing_else(queue: Queue) -> None:
    """No script, no form, nothing that is loaded, and a policy that forbids it all."""
    fail(queue, "gone")
    page = Page(report(read(queue), ADVICE))
    assert not {tag for tag, _ in page.found} & {"script", "img", "form", "link", "iframe", "a"}
    assert [each["content"] for each in page.all("meta") if "http-equiv" in each] == [
        "default-src 'none'; style-src 'unsafe-inline'"
    ]
    attributes = {name for _, each in page.found for name in each}
    assert not attributes & {"src", "href"}
    assert not [name for name in attributes if name.startswith("on")]


def test_what_strangers_wrote_is_text(queue: Queue) -> None:
    """In types, errors, payloads and progress: no element, no control character, no turned text."""
    seen: list[str] = []

    def run(payload: dict[str, Any]) -> None:
        current_job().progress(0.5, HOSTILE)
        seen.append(report(read(queue, payloads=True), ADVICE, payloads=True))

    fail(queue, HOSTILE, job_type="<script>alert(1)</script>", payload={"a": HOSTILE})
    queue.enqueue("run", {"a": HOSTILE})
    queue.process_jobs({"run": run})
    page = Page(seen[0])
    assert not {tag for tag, _ in page.found} & {"script", "img"}
    assert seen[0].count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 4
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]", seen[0])


def test_payloads_are_left_out_unless_wanted(queue: Queue) -> None:
    """Those of failures and of running jobs; a reading that has them is not enough."""
    fail(queue, "gone", payload={"to": "zoe@example.org"})
    assert "zoe@" not in report(read(queue, payloads=True), ADVICE)
    assert "zoe@example.org" in report(read(queue, payloads=True), ADVICE, payloads=True)


def test_a_reader_of_the_screen_finds_its_way(queue: Queue) -> None:
    """One main part, a heading for each part, a caption and scopes for each table."""
    fail(queue, "gone")
    seen = replace(read(queue), hours=(Hour(0, completed=3, failed=1), Hour(3600, retried=2)))
    page = Page(report(seen, ADVICE))
    tags = [tag for tag, _ in page.found]
    assert [tags.count(tag) for tag in ("h1", "header", "main", "footer")] == [1, 1, 1, 1]
    assert tags.count("caption") == tags.count("table") > 0
    assert all(each.get("scope") in ("col", "row") for each in page.all("th"))
    (bars,) = (each for each in page.all("svg") if each.get("role") == "img")
    assert bars["aria-label"] == (
        "Bars, an hour each: 3 attempts completed, 2 tried again, 1 failed; at most 4 in one hour."
        " The table below has the same numbers."
    )
    assert all("aria-hidden" in each or "aria-label" in each for each in page.all("svg"))
    headings = {each["id"] for each in page.all("h2")}
    assert {each["aria-labelledby"] for each in page.all("section")} == headings


def test_more_than_a_page_holds_is_counted(queue: Queue) -> None:
    """With the command that shows the rest; and the page stays small, whatever the jobs say."""
    for letter in "abcdefghijklmnop":
        fail(queue, letter * 100_000, job_type=letter * 64)
    text = report(read(queue), ADVICE)
    left = 16 - drawing.LIMITS["failures"]
    assert f"and {left} more kinds: <code>dbq errors --file queue.tsv</code>" in text
    assert len(text) < 60_000
    assert "a" * 241 not in text


def test_the_verdict_is_short(queue: Queue) -> None:
    """Its state stands there once, a few jobs are named, and the others are counted."""
    for number in range(7):
        fail(queue, f"gone {number}")
    text = report(read(queue), ADVICE)
    verdict = re.sub(
        "<[^>]*>", "", text[text.index('<h2 id="verdict"') :].partition("</section>")[0]
    )
    assert verdict.count("WARNING") == 1
    assert verdict.count("after 1 attempt") == 3
    assert "and 4 more" in verdict


def test_a_command_stands_alone(queue: Queue) -> None:
    """What it is for stands above it, so that the whole box can be copied into a shell."""
    fail(queue, "gone")
    fail(queue, "gone")
    text = re.sub("</?span>", "", report(read(queue), ADVICE))
    lines = text.splitlines()
    words = lines.index('<p class="step">To try again:</p>')
    assert lines[words + 1].startswith('<code class="run">dbq retry --failed --file ')
    boxes = re.findall('<code class="run">(.*?)</code>', text)
    assert len(boxes) == 3
    assert all(box.startswith("dbq ") for box in boxes)


def test_numbers_have_their_thousands_apart(queue: Queue) -> None:
    """In the verdict as in the numbers below it."""
    queue.enqueue_many([("mail", {}, 1)] * 1234)
    text = report(read(queue), ADVICE)
    assert "<strong>1,234 overdue jobs</strong>" in text
    assert "and 1,231 more" in text


def test_a_queue_that_is_not_there_has_a_page(tmp_path: Path) -> None:
    """It says UNKNOWN and why, and shows no number that is not known."""
    text = report(read(Queue(tmp_path / "queue.tsv")), ADVICE)
    assert "there is no queue" in text
    assert "UNKNOWN" in text
    assert "In numbers" not in text
    Page(text)


def test_bars_are_as_high_as_their_numbers() -> None:
    """The highest reaches the top, the parts of one stand on each other, none is without."""
    assert chart([]) is None
    assert chart([Hour(0), Hour(3600)]) is None
    found = chart([Hour(0, 2, 1, 1), Hour(3600, 0, 2, 0)])
    assert found is not None
    assert (found.width, found.most) == (20, 4)
    assert dict(found.paths) == {
        "done": "M0 50h8v50h-8z",
        "again": "M0 25h8v25h-8zM10 50h8v50h-8z",
        "lost": "M0 0h8v25h-8z",
    }


def test_a_report_is_for_its_group(tmp_path: Path) -> None:
    """It names jobs and their errors, so not every user reads it, whatever the umask."""
    write_report(tmp_path / "queue.html", "text")
    assert (tmp_path / "queue.html").stat().st_mode & 0o777 == 0o640
