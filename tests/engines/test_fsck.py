"""fsck: what is wrong with a table, and how it is put right."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from dbbasic_queue import Queue
from dbbasic_queue.engines.history import Hour
from dbbasic_queue.engines.history_moves import leaving_line
from dbbasic_queue.engines.tsv import fsck, hint


@pytest.fixture
def queue(tmp_path: Path) -> Queue:
    queue = Queue(tmp_path / "queue.tsv", durability="normal")
    for name in ("a1", "a2", "a3"):
        queue.enqueue("ok", {"n": name}, job_id=name)
    return queue


def add(queue: Queue, text: bytes) -> None:
    with queue.path.open("ab") as table:
        table.write(text)


def kinds(queue: Queue) -> list[tuple[str, int]]:
    return [(finding.kind, finding.line) for finding in fsck.check(queue.engine)]


def test_a_sound_table_has_no_findings(queue: Queue) -> None:
    """A table with jobs, dead and blank lines is sound."""
    queue.retry_job("a1")
    row = queue.engine.table.search(b"a2")
    with queue.engine.table.writing():
        queue.engine.table.kill(queue.engine.table.find(b"a2", row))
    add(queue, b"\n   \n\r\n")
    assert fsck.check(queue.engine) == []
    assert fsck.repair(queue.engine) == []


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"hello\n", "has 1 fields, not 9"),
        (b"x y\tok\t{}\tpending\t1\t1\t0\t\t\n", "id 'x y'"),
        (b"x\t\t{}\tpending\t1\t1\t0\t\t\n", "type is empty"),
        (b"x\tok\t{}\tdone\t1\t1\t0\t\t\n", "status 'done'"),
        (b"x\tok\t{}\tpending\tsoon\t1\t0\t\t\n", "created_at 'soon'"),
        (b"x\tok\t{}\tpending\t1\t-1\t0\t\t\n", "run_at '-1'"),
        (b"x\tok\t{}\tpending\t1\t1\t\t\t\n", "attempts ''"),
        (b"x\tok\t{\0}\tpending\t1\t1\t0\t\t\n", "NUL"),
        (b"x\tok\t{}\tpending\t1\t1\t0\t\t\tmore\n", "has 10 fields"),
        (b"\xff\xfe\x00\n", "NUL"),
    ],
)
def test_a_malformed_line_is_found_and_set_aside(queue: Queue, line: bytes, why: str) -> None:
    """A malformed line is reported with its number and reason; repair keeps it in queue.torn."""
    before = queue.path.read_bytes()
    add(queue, line)
    queue.enqueue("ok", {}, job_id="a4")
    (finding,) = fsck.check(queue.engine)
    assert (finding.kind, finding.line) == ("malformed", 5)
    assert why in finding.message
    assert line in queue.path.read_bytes()
    assert fsck.repair(queue.engine) == [finding]
    assert queue.engine.table.sibling("torn").read_bytes() == line
    assert queue.path.read_bytes().startswith(before)
    assert fsck.check(queue.engine) == []
    assert queue.count_jobs()["pending"] == 4


def test_a_torn_end_is_found_and_set_aside(queue: Queue) -> None:
    """A last line that was cut off is reported; repair moves it into queue.torn."""
    add(queue, b"a4\tok\t{}\tpend")
    assert kinds(queue) == [("torn", 5)]
    fsck.repair(queue.engine)
    assert queue.engine.table.sibling("torn").read_bytes() == b"a4\tok\t{}\tpend\n"
    assert fsck.check(queue.engine) == []


def test_a_duplicate_is_found_and_set_aside(queue: Queue) -> None:
    """Of two lines of one id the later counts; repair sets the earlier aside."""
    add(queue, b"a2\tok\t{}\tcompleted\t1\t1\t1\t\t5 \n")
    assert kinds(queue) == [("duplicate", 3)]
    assert queue.get_job("a2")["status"] == "completed"
    fsck.repair(queue.engine)
    assert fsck.check(queue.engine) == []
    assert queue.count_jobs() == {
        "pending": 2, "processing": 0, "completed": 1, "failed": 0, "cancelled": 0
    }  # fmt: skip
    assert b"a2\tok" in queue.engine.table.sibling("torn").read_bytes()


def test_an_orphan_is_found_and_left_to_the_worker(queue: Queue) -> None:
    """A job whose worker was killed is reported; one that runs is not."""
    program = (
        "import os, sys\nfrom dbbasic_queue import Queue\n"
        "Queue(sys.argv[1]).process_jobs({'ok': lambda p: os.kill(os.getpid(), 9)})"
    )
    subprocess.run([sys.executable, "-c", program, str(queue.path)])
    attempt = queue.engine.seat().turn()
    assert attempt is not None
    assert kinds(queue) == [("orphan", 2)]
    fsck.repair(queue.engine)
    assert kinds(queue) == [("orphan", 2)]


def test_a_line_of_the_history_that_counts_nothing(queue: Queue) -> None:
    """It is found and set aside; what is counted stays, and so does what is on its way."""
    queue.process_jobs({"ok": bool})
    before = queue.history().by_type()
    file = queue.path.with_suffix(".history")
    moving = "adopted\tf3\n" + leaving_line("f4", Hour(7200, "mail", 1)) + "\n"
    bad = "2026-11-26T05:00Z\tok\tmany\ntomorrow\n"
    with file.open("a") as history:
        history.write(moving + bad + "about to be wr")
    lines = len(file.read_text().split("\n"))
    found = fsck.check(queue.engine)
    assert [(each.kind, each.line) for each in found] == [
        ("history", lines - 2),
        ("history", lines - 1),
    ]
    assert fsck.repair(queue.engine) == found
    assert fsck.check(queue.engine) == []
    assert queue.history().by_type() == before
    assert file.read_text().endswith(moving)
    assert queue.path.with_suffix(".torn").read_text() == bad + "about to be wr\n"


@pytest.mark.parametrize("text", [b"a hint\n", hint.NOTE + b"1 2 3\n", b"\0" * 99], ids=range(3))
def test_a_hint_that_says_nothing(queue: Queue, text: bytes) -> None:
    """It is found, and set aside; all is done without it as well."""
    file = queue.path.with_suffix(".hint")
    file.write_bytes(text)
    (found,) = fsck.check(queue.engine)
    assert found.kind == "hint"
    assert fsck.repair(queue.engine) == [found]
    assert not file.exists()
    assert fsck.check(queue.engine) == []
    assert queue.path.with_suffix(".torn").read_bytes().strip() == text.strip()
    assert queue.process_jobs({"ok": bool}).completed == 3
