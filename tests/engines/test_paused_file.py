"""`queue.paused`: what a person, a crash or a full disk may leave there."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import pytest
from actors import Clock
from working import take

from dbbasic_queue import Queue, StorageError
from dbbasic_queue.engines import pausing
from dbbasic_queue.engines.answers import Limits
from dbbasic_queue.engines.interface import Outcome
from dbbasic_queue.engines.pausing import Held
from dbbasic_queue.engines.tsv import fsck, gate, holding, idle, paused
from dbbasic_queue.engines.tsv.engine import TsvEngine
from dbbasic_queue.engines.tsv.holding import HeldBack


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def queue(tmp_path: Path, clock: Clock) -> Queue:
    return Queue(tmp_path / "queue.tsv", "normal", clock=clock)


def file_of(queue: Queue) -> Path:
    return queue.path.with_suffix(".paused")


def test_the_file_explains_itself(queue: Queue) -> None:
    """A person reads what is paused, and may delete the file: nothing is paused then."""
    queue.pause("mail", why="no server")
    text = file_of(queue).read_text()
    assert text.startswith("# Types of jobs that no worker begins")
    assert text.splitlines()[-1].split("\t")[:4] == ["paused", "mail", "2023-11-14T22:13:20Z", "-"]
    assert text.endswith("\tno server\n")
    file_of(queue).unlink()
    assert queue.paused() == []


def test_a_file_that_is_deleted_or_written_by_hand_counts_soon(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker at work looks again by itself."""
    monkeypatch.setattr(idle, "MARK_EVERY", 0)
    queue.enqueue_many([("mail", {})] * 3)
    queue.pause("mail")
    line = file_of(queue).read_text().splitlines()[-1]
    file_of(queue).unlink()
    seat, first = take(queue)
    file_of(queue).write_text(f"{line}\n")
    seat.turn(Outcome(first, "completed", 5), False)
    assert seat.turn() is None
    file_of(queue).unlink()
    seat.turn(None, False)
    assert seat.turn() is not None
    seat.leave()


def test_the_file_is_short_again_when_nothing_is_paused(queue: Queue) -> None:
    """Nothing is kept of pauses that are over."""
    for _ in range(50):
        queue.pause("mail")
        queue.resume()
    assert file_of(queue).read_bytes() == paused.HEADER


def test_it_does_not_grow_without_bound(queue: Queue) -> None:
    """A file with many changes is written anew with the pauses that hold."""
    queue.pause("kept")
    for _ in range(400):
        queue.pause("mail", why="x" * 100)
        queue.resume("mail")
    assert file_of(queue).stat().st_size <= paused.LONG + 1000
    assert [pause.type for pause in queue.paused()] == ["kept"]


@pytest.mark.parametrize("cut", range(1, 40))
def test_a_torn_line_neither_pauses_nor_resumes_another_type(queue: Queue, cut: int) -> None:
    """What a crash leaves of a `resumed` line is not taken for that of a shorter type."""
    queue.pause("mail")
    queue.pause("mail.send")
    before = file_of(queue).read_bytes()
    queue.engine.resume(["mail.send"])
    after = file_of(queue).read_bytes()
    file_of(queue).write_bytes(after[: min(len(after), len(before) + cut)])
    assert "mail" in [pause.type for pause in queue.paused()]
    queue.pause("report")
    assert {"mail", "report"} <= {pause.type for pause in queue.paused()}


def test_a_line_that_says_nothing_pauses_nothing(queue: Queue) -> None:
    """`fsck` tells of it, and sets it aside; what is paused stays so."""
    queue.enqueue("x", {})
    queue.pause("mail")
    with file_of(queue).open("a") as file:
        file.write("pause report\npaused\tx\tyesterday\t-\t-\t-\n")
    assert [pause.type for pause in queue.paused()] == ["mail"]
    engine = queue.engine
    found = fsck.check(engine)
    assert [(finding.kind, finding.line) for finding in found] == [("paused", 5), ("paused", 6)]
    assert fsck.repair(engine) == found
    assert fsck.check(engine) == []
    assert [pause.type for pause in queue.paused()] == ["mail"]
    assert queue.path.with_suffix(".torn").read_text().startswith("pause report\npaused\tx")


def test_a_pause_that_cannot_be_written_is_an_error(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a full disk nothing is kept of it."""
    queue.pause("mail")
    before = file_of(queue).read_bytes()
    real = os.write

    def write(fd: int, data: bytes) -> int:
        if data.startswith(b"paused"):
            real(fd, data[:10])
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(fd, data)

    monkeypatch.setattr(os, "write", write)
    with pytest.raises(StorageError, match=r"queue\.paused: No space left"):
        queue.pause("report")
    assert file_of(queue).read_bytes() == before


def test_a_link_in_its_place_is_not_followed(queue: Queue, tmp_path: Path) -> None:
    """It is neither read nor written; a worker goes on by what it knew."""
    queue.enqueue("mail", {})
    (tmp_path / "other").write_text("")
    file_of(queue).symlink_to(tmp_path / "other")
    with pytest.raises(StorageError, match="symbolic link"):
        queue.pause("mail")
    with pytest.raises(StorageError, match="symbolic link"):
        queue.paused()
    assert (tmp_path / "other").read_text() == ""
    assert queue.process_jobs({"mail": bool}).completed == 1


def test_many_paused_jobs_do_not_keep_the_lock(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that passes over many gives the lock back between some of them."""
    monkeypatch.setattr(gate, "MANY", 10)
    queue.enqueue_many([("mail", {})] * 95 + [("report", {})])
    queue.pause("mail")
    taken: list[int] = []
    seat = queue.engine.seat()
    real = seat._table.acquire
    monkeypatch.setattr(seat._table, "acquire", lambda *args: (taken.append(1), real(*args)))
    attempt = seat.turn()
    assert attempt is not None
    assert attempt.job.type == "report"
    assert len(taken) == 10
    seat.leave()


def test_nothing_paused_costs_a_turn_no_look(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker looks when it begins and when it is told, not at each turn."""
    queue.enqueue_many([("mail", {})] * 20)
    looks: list[Path] = []
    real = paused.read
    monkeypatch.setattr(paused, "read", lambda path: (looks.append(path), real(path))[1])
    assert queue.process_jobs({"mail": bool}).completed == 20
    assert len(looks) == 1


def test_the_hint_is_before_what_is_paused(queue: Queue) -> None:
    """Where the next worker begins to read, a job that is paused is not passed over."""
    queue.enqueue_many([("mail", {}), ("report", {})])
    queue.pause("mail")
    seat, attempt = take(queue)
    assert attempt.job.type == "report"
    first = queue.path.read_bytes().index(b"\n") + 1
    assert seat._waiting.first() == first
    seat.leave()


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Tokyo"])
@pytest.mark.parametrize(
    ("since", "until"),
    [
        ("0001-01-01T00:00:00", "-"),
        ("0001-01-01T00:00:00+23:59", "-"),
        ("2026-11-26T05:10:00Z", "9999-12-31T23:59:59"),
        ("2026-11-26T05:10:00Z", "9999-12-31T23:59:59-23:59"),
    ],
)
def test_a_time_that_cannot_be_written_again_pauses_nothing(
    queue: Queue, monkeypatch: pytest.MonkeyPatch, since: str, until: str, zone: str
) -> None:
    """A producer can write one: no worker and no command ends at it, in any zone."""
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        queue.enqueue("mail", {})
        queue.pause("report")
        with file_of(queue).open("a") as file:
            file.write(f"paused\tmail\t{since}\t{until}\tzoe\t-\n" + "#" * paused.LONG + "\n")
        bad = list(paused.bad_lines(file_of(queue).read_bytes()))
        there = {pause.type for pause in queue.paused()}
        assert there == ({"report"} if bad else {"report", "mail"})
        queue.pause("other")  # which writes the file anew, as it is long
        assert {pause.type for pause in queue.paused()} == {*there, "other"}
        assert fsck.check(queue.engine) == []
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_file_that_cannot_be_read_pauses_what_it_paused(
    queue: Queue, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """To a worker that has read it before; it says so once."""
    monkeypatch.setattr(idle, "MARK_EVERY", 0)
    queue.enqueue_many([("mail", {}), ("report", {})])
    queue.pause("mail")
    seat, first = take(queue)
    assert first.job.type == "report"
    file_of(queue).unlink()
    file_of(queue).mkdir()
    seat.turn(Outcome(first, "completed", 5), False)
    for _ in range(3):
        assert seat.turn() is None
    assert caplog.text.count("cannot see what is paused") == 1
    file_of(queue).rmdir()
    seat.turn(None, False)
    assert seat.turn() is not None
    seat.leave()


def test_types_without_number_take_no_memory(queue: Queue) -> None:
    """A producer may make up as many as it likes: a worker and a look remember some."""
    queue.enqueue("mail", {})
    queue.pause("mail.*")
    pauses = queue.paused()
    limits = Limits(int(queue.engine.now()), 0, 0, 0, 5)
    engine = TsvEngine(queue.path)
    for held in (Held(pauses), HeldBack(engine.table, engine.claims, limits)):
        found = [f"mail.{number}" in held for number in range(3 * pausing.KNOWN)]
        assert all(found)
        assert len(held._known) <= max(pausing.KNOWN, holding.KNOWN)
