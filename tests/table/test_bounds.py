"""What one line, however long, and a hole may cost: neither memory nor the disk."""

from __future__ import annotations

import os
import resource
from collections import Counter
from pathlib import Path

import pytest
from tables import add, in_child, look, mend, own, states, text, torn, write

from dbbasic_queue import Queue
from dbbasic_queue.engines.tsv import fsck
from dbbasic_queue.table import scan
from dbbasic_queue.table.line import HEADER

GIB = 1 << 30
MEMORY = 300 << 20  # bytes of address space beyond what the test has already


def bounded(function) -> object:
    """What `function` returns, in a child that may take no more than `MEMORY`."""

    def run() -> object:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
        return function()

    return in_child(run)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit that a test reaches soon."""
    monkeypatch.setattr(scan, "LONGEST_LINE", 1 << 14)
    monkeypatch.setattr(scan, "PIECE", 1 << 12)


def test_a_hole_at_the_end_costs_nothing(path: Path) -> None:
    """`truncate -s 6G` takes no memory, no gigabytes of torn lines, and loses no job."""
    content = write(path, own(len(HEADER), "a1"))
    os.truncate(path, 6 * GIB)

    def use() -> tuple[object, object]:
        before = states(look(path)), look(path).count_by_status()
        add(look(path), "b2")
        return before, states(look(path))

    before, after = bounded(use)
    assert before == ({"a1": "pending"}, Counter(pending=1))
    assert after == {"a1": "pending", "b2": "pending"}
    assert path.read_bytes().startswith(content)
    assert path.stat().st_size < 1 << 20
    assert len(torn(path)) < 1 << 16


def test_a_hole_within_the_file_costs_nothing(path: Path) -> None:
    """What another program appends behind a hole is found, and the hole stays one when copied."""
    write(path, text("a1"), text("done", "completed"))
    os.truncate(path, 3 * GIB)
    with path.open("ab") as file:
        file.write(b"\n" + text("b2"))
    queue = Queue(path, "normal")

    def use() -> list[str]:
        queue.enqueue("mail", {}, job_id="c3")
        assert queue.prune_jobs(0) == 1
        return [job["id"] for job in queue.list_jobs()]

    assert bounded(use) == ["a1", "b2", "c3"]
    assert path.stat().st_blocks * 512 < 1 << 20

    assert bounded(lambda: [found.kind for found in fsck.repair(queue.engine)]) == ["malformed"]
    assert path.stat().st_size < 1 << 20
    assert len(torn(path)) < 1 << 16
    assert states(look(path)) == {"a1": "pending", "b2": "pending", "c3": "pending"}


def test_a_long_line_is_streamed_aside(path: Path) -> None:
    """A torn line of 400 MB goes into `queue.torn` whole, without being held in memory."""
    content = write(path, own(len(HEADER), "a1"))
    with path.open("ab") as file:
        for _ in range(400):
            file.write(b"x" * (1 << 20))
    bounded(lambda: mend(path))
    assert path.read_bytes() == content
    aside = path.with_suffix(".torn")
    assert aside.stat().st_size == 400 * (1 << 20) + 1
    with aside.open("rb") as file:
        assert file.read(3) == b"xxx"
        file.seek(-3, os.SEEK_END)
        assert file.read() == b"xx\n"
    aside.unlink()


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("length", [(1 << 12) - 1, 1 << 12, 1 << 14, (1 << 14) + 1, 1 << 16])
@pytest.mark.parametrize("last", [False, True])
def test_a_line_of_any_length_is_passed_over(path: Path, length: int, last: bool) -> None:
    """Whatever stands before and behind a long line is read, worked, counted and pruned."""
    long = b"x" * length + b"\n"
    jobs = [own(len(HEADER), "a1"), text("b2"), text("c3", "completed")]
    write(path, jobs[0], *([*jobs[1:], long] if last else [long, *jobs[1:]]))
    queue = Queue(path, "normal")
    assert states(queue.engine.table) == {"a1": "pending", "b2": "pending", "c3": "completed"}
    assert queue.count_jobs()["pending"] == 2
    assert queue.get_job("b2") is not None
    assert queue.process_jobs({"mail": lambda payload: "ok"}).completed == 2
    assert queue.prune_jobs(0) == 3
    assert path.read_bytes().endswith(long)
    assert [finding.kind for finding in fsck.check(queue.engine)] == ["malformed"]
    queue.enqueue("mail", {}, job_id="d4")
    assert [finding.kind for finding in fsck.repair(queue.engine)] == ["malformed"]
    assert fsck.check(queue.engine) == []
    assert torn(path) == long
    assert states(look(path)) == {"d4": "pending"}


@pytest.mark.usefixtures("short")
def test_a_row_at_the_edge_of_a_long_line_is_not_a_job(path: Path) -> None:
    """No part of a long line is taken for a row, wherever it is cut."""
    row = text("fake").rstrip(b"\n")
    write(path, text("a1"), b"x" + (row + b"x") * 3000 + b"\n", text("b2"))
    queue = Queue(path, "normal")
    assert states(queue.engine.table) == {"a1": "pending", "b2": "pending"}
    assert queue.process_jobs({"mail": lambda payload: None}).completed == 2
    assert queue.get_job("fake") is None
