"""A second line of one id, as a person makes it by copying: the job runs once, nothing is lost."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from actors import AT_ONCE
from tables import own, replace, text

from dbbasic_queue import Queue
from dbbasic_queue.engines.tsv import fsck, twins, waiting
from dbbasic_queue.health.judge import check_health
from dbbasic_queue.table.line import DOUBLED, new_line, parse_line

Copy = Callable[[bytes], bytes]


def marked(line: bytes) -> bytes:
    """As a row that was moved looks: by a space before its payload."""
    row = parse_line(line)
    assert row is not None
    return new_line(0, row, moved=True)


COPIES: dict[str, Copy] = {
    "as it is": bytes,
    "without its padding": lambda line: line.rstrip() + b"\t\t\n",
    "marked as moved": marked,
}


@pytest.fixture(params=COPIES)
def copied(request: pytest.FixtureRequest) -> Copy:
    return COPIES[request.param]


def line_of(queue: Queue, job_id: str) -> bytes:
    lines = queue.path.read_bytes().splitlines(keepends=True)
    return next(line for line in reversed(lines) if line.startswith(job_id.encode() + b"\t"))


def append(queue: Queue, *lines: bytes) -> None:
    """As `cat >>` does: without the lock."""
    with queue.path.open("ab") as file:
        file.writelines(lines)


def doubled(queue: Queue) -> int:
    return queue.path.read_bytes().count(b"\t" + DOUBLED)


def work(queue: Queue, act: Callable[[str], Any] = lambda job_id: None) -> list[str]:
    """What ran, by the payload."""
    ran: list[str] = []

    def handler(payload: Any) -> None:
        ran.append(payload["n"])
        act(payload["n"])

    queue.process_jobs({"x": handler}, backoff=AT_ONCE)
    return ran


def enqueue(queue: Queue, *names: str) -> None:
    for name in names:
        queue.enqueue("x", {"n": name}, job_id=name)


@pytest.mark.parametrize("others", [0, 9], ids=["alone", "among others"])
def test_a_line_that_was_copied_runs_once(queue: Queue, copied: Copy, others: int) -> None:
    """Whether the worker searches for few ids or reads them all."""
    names = [f"j{number}" for number in range(others)]
    enqueue(queue, *names, "a1", "z9")
    append(queue, copied(line_of(queue, "a1")))
    assert sorted(work(queue)) == sorted([*names, "a1", "z9"])
    assert work(queue) == []


@pytest.mark.parametrize("others", [0, 9], ids=["alone", "among others"])
def test_a_line_that_is_copied_while_the_job_runs_does_not_run(
    queue: Queue, copied: Copy, others: int
) -> None:
    """The worker sees what was appended at its next turn."""
    names = [f"j{number}" for number in range(others)]
    enqueue(queue, "a1", "b2", *names)
    copy = copied(line_of(queue, "a1"))

    def act(name: str) -> None:
        if name == "a1":
            append(queue, copy)

    assert work(queue, act) == ["a1", "b2", *names]
    assert doubled(queue) == 1
    assert queue.get_job("a1")["status"] == "completed"


def test_a_line_that_is_copied_while_another_job_runs_runs_once(queue: Queue, copied: Copy) -> None:
    """Both lines wait then."""
    enqueue(queue, "b2", "a1")
    copy = copied(line_of(queue, "a1"))
    assert work(queue, lambda name: append(queue, copy) if name == "b2" else None) == ["b2", "a1"]


@pytest.mark.parametrize("copy", ["as it is", "without its padding"])
def test_a_job_that_is_done_does_not_run_by_an_older_copy(queue: Queue, copy: str) -> None:
    """Pasted later: while a worker is at it, between two runs, and long after."""
    enqueue(queue, "a1", "b2")
    old = COPIES[copy](line_of(queue, "a1"))
    assert work(queue, lambda name: append(queue, old) if name == "b2" else None) == ["a1", "b2"]
    append(queue, old)
    assert work(queue) == []
    enqueue(queue, *(f"j{number}" for number in range(400)))
    append(queue, old)
    assert "a1" not in work(queue)
    assert doubled(queue) == 3


def test_a_copy_of_a_job_done_long_ago_is_known_by_its_time(queue: Queue) -> None:
    """Its line is too far up to be among those that a worker remembers."""
    old = text("a1", type="x", payload='{"n": "a1"}', created_at=5)
    done = text("a1", "completed", type="x", payload='{"n": "a1"}', created_at=5)
    enqueue(queue, "first")
    ended = (text(f"e{number}", "completed", type="x") for number in range(500))
    append(queue, done, *ended)
    enqueue(queue, *(f"j{number}" for number in range(400)))
    ran = work(queue, lambda name: append(queue, old) if name == "j399" else None)
    assert ran == ["first", *(f"j{number}" for number in range(400))]
    assert doubled(queue) == 1


def test_old_lines_that_are_no_copies_run(queue: Queue) -> None:
    """A worker looks for their ids, finds one line each, and takes them."""
    enqueue(queue, *(f"j{number}" for number in range(9)))
    lines = [text(f"old{n}", type="x", payload=f'{{"n": "old{n}"}}') for n in range(9)]
    ran = work(queue, lambda name: append(queue, *lines) if name == "j3" else None)
    assert sorted(ran) == sorted([f"j{n}" for n in range(9)] + [f"old{n}" for n in range(9)])
    assert doubled(queue) == 0


@pytest.mark.parametrize("end", ["cancelled", "failed", "completed"])
def test_what_has_ended_does_not_run_by_its_other_line(queue: Queue, end: str) -> None:
    """Whichever of the two lines has ended, and wherever it stands."""
    ended = text("a1", end, type="x", payload='{"n": "a1"}')
    waits = text("a1", "pending", type="x", payload='{"n": "a1"}')
    enqueue(queue, "z9")
    append(queue, ended, waits)
    assert work(queue) == ["z9"]
    assert queue.get_job("a1")["status"] == end
    queue.path.unlink()
    enqueue(queue, "z9")
    append(queue, waits, ended)
    assert work(queue) == ["z9"]


def test_of_two_lines_that_a_dead_worker_left_one_is_rescued(queue: Queue) -> None:
    """A copy of a running job's line, whose worker died."""
    enqueue(queue, "z9")
    line = text("a1", "processing", type="x", payload='{"n": "a1"}', attempts=1)
    append(queue, line, line)
    assert sorted(work(queue)) == ["a1", "z9"]
    append(queue, text("a1", "pending", type="x", payload='{"n": "a1"}'))
    assert work(queue) == []


def test_a_job_that_runs_elsewhere_keeps_its_line(queue: Queue) -> None:
    """Its worker writes how it ended there; the copy does not run."""
    enqueue(queue, "a1")
    copy = line_of(queue, "a1")
    seat = queue.engine.seat()
    attempt = seat.turn()
    append(queue, copy, copy)
    other = Queue(queue.path, "normal")
    assert work(other) == []
    assert other.get_job("a1")["status"] == "processing"
    assert attempt is not None
    assert doubled(queue) == 2


@pytest.mark.parametrize("moved", [True, False], ids=["moved", "not moved"])
def test_a_copy_with_other_work_does_not_vanish(queue: Queue, moved: bool) -> None:
    """What a person wrote stays in the file, and the health check names its line."""
    enqueue(queue, "a1")
    other = own(0, "a1", type="x", payload='{"n": "other"}', moved=moved)
    append(queue, other, text("z9", type="x", payload='{"n": "z9"}'))
    ran = work(queue)
    assert len(ran) == 2
    with queue.engine.table.writing():
        queue.engine.table.rewrite()
    content = queue.path.read_bytes()
    assert b'"a1"}' in content
    assert b'"other"}' in content
    assert work(queue) == []
    report = check_health(queue.path)
    (finding,) = (finding for finding in report.findings if finding.kind == "malformed")
    assert "is a second line of the job a1" in finding.named[0].note


@pytest.mark.parametrize("status", ["completed", "pending"])
def test_a_rewrite_drops_no_other_work_for_a_mark(queue: Queue, status: str) -> None:
    """A line goes only when the one further down is the same job, moved."""
    line = text("a1", status, type="x", payload='{"n": "a1"}')
    enqueue(queue, "z9")
    append(queue, line, own(0, "a1", type="x", payload='{"n": "other"}', moved=True))
    with queue.engine.table.writing():
        queue.engine.table.rewrite()
    content = queue.path.read_bytes()
    assert b'"a1"}' in content
    assert b'"other"}' in content


def test_it_is_said(queue: Queue, caplog: pytest.LogCaptureFixture) -> None:
    """One warning for each line that was taken out, and fsck finds it."""
    enqueue(queue, "a1", "b2")
    append(queue, line_of(queue, "a1"))
    caplog.set_level(logging.WARNING, "dbbasic_queue")
    work(queue)
    events = [getattr(record, "event", "") for record in caplog.records]
    assert events == ["doubled"]
    (finding,) = fsck.check(queue.engine)
    assert finding.kind == "malformed"
    fsck.repair(queue.engine)
    assert fsck.check(queue.engine) == []
    assert b"a1\tx" in queue.path.with_suffix(".torn").read_bytes()


def test_a_worker_that_lives_long_reads_all_again_at_times(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it remembers of appended jobs has bounds."""
    monkeypatch.setattr(waiting, "_MANY", 20)
    enqueue(queue, "first")

    def act(name: str) -> None:
        if name == "first" or (name.startswith("j") and int(name[1:]) < 90):
            number = int(name[1:] or 0) if name != "first" else -1
            enqueue(queue, f"j{number + 1}")

    assert len(work(queue, act)) == 92


def test_a_table_that_is_replaced_is_searched(queue: Queue, path: Path) -> None:
    """An editor writes the file anew; a line that was doubled in it runs once."""
    enqueue(queue, "a1", "b2")
    content = queue.path.read_bytes()

    def act(name: str) -> None:
        if name == "a1":
            now = queue.path.read_bytes()
            replace(path, now + line_of(queue, "b2"))

    assert work(queue, act) == ["a1", "b2"]
    assert content != queue.path.read_bytes()


def test_rows_are_only_named_with_another_alive(queue: Queue) -> None:
    """Places of lines of an id, in the order of the file, by a search and by a reading."""
    enqueue(queue, "a1", "b2", "c3")
    append(queue, line_of(queue, "a1"), line_of(queue, "c3"))
    table = queue.engine.table
    size = table.snapshot()[1]
    for ids in ({b"a1", b"b2"}, {b"a1", b"b2", b"c3", b"d4", b"e5"}):
        found = twins.twins(table, size, ids)
        assert found.keys() == ids & {b"a1", b"c3"}
        for job_id, places in found.items():
            assert places == sorted(places)
            assert all(table.read_row(place).id == job_id for place in places)
