"""`queue.rates`: what it says, and what a person, a crash or a full disk may leave there."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from actors import Clock

from dbbasic_queue import Policy, Queue, Rate
from dbbasic_queue.engines.interface import Outcome, Policies, Seat
from dbbasic_queue.engines.tsv import fsck, gate, rates
from dbbasic_queue.table.line import SECTOR

HOUR = 3600
START = 1_700_000_000
HOURLY = Rate(1, HOUR)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def queue(tmp_path: Path, clock: Clock) -> Queue:
    return Queue(tmp_path / "queue.tsv", "normal", clock=clock)


def file_of(queue: Queue) -> Path:
    return queue.path.with_suffix(".rates")


def sit(queue: Queue, rate: Rate = HOURLY, glob: str = "*") -> Seat:
    seat = queue.engine.seat()
    assert seat is not None
    seat.govern(Policies({glob: Policy(rate=rate)}))
    return seat


def begun(seat: Seat) -> list[str]:
    """The types of the jobs that may be begun now; each ends."""
    found: list[str] = []
    attempt = seat.turn()
    while attempt is not None:
        found.append(attempt.job.type)
        attempt = seat.turn(Outcome(attempt, "completed", START))
    return found


def lines(queue: Queue) -> list[str]:
    """The lines that are not comments."""
    text = file_of(queue).read_text()
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def test_the_file_explains_itself(queue: Queue, clock: Clock) -> None:
    """A person reads until when a type has used up its rate, and may delete the file."""
    queue.enqueue_many([("mail", {})] * 3)
    seat = sit(queue)
    assert begun(seat) == ["mail"]
    assert file_of(queue).read_bytes().startswith(rates.HEADER)
    assert lines(queue) == ["1700003600.000000\tmail"]
    file_of(queue).unlink()
    clock.now += 1
    seat.leave()
    seat = sit(queue)
    assert begun(seat) == ["mail"]
    assert lines(queue) == ["1700003601.000000\tmail"]
    seat.leave()


def test_a_worker_at_work_sees_that_the_file_is_another(queue: Queue, clock: Clock) -> None:
    """What counts is the file with this name, not the one that a worker has open."""
    queue.enqueue_many([("mail", {})] * 3)
    first, second = sit(queue), sit(queue)
    assert begun(first) == ["mail"]
    file_of(queue).unlink()
    assert begun(second) == ["mail"]
    clock.now += HOUR - 1
    file_of(queue).write_text(f"{START + 2 * HOUR - 1}.000000\tmail\n")
    clock.now += 1
    assert begun(first) == []
    first.leave()
    second.leave()


def test_a_file_that_is_edited_in_place(queue: Queue, clock: Clock) -> None:
    """A line may stand elsewhere than before."""
    queue.enqueue_many([("mail", {})] * 2)
    seat = sit(queue)
    assert begun(seat) == ["mail"]
    file_of(queue).write_text("# mine\n" + file_of(queue).read_text())
    clock.now += HOUR
    assert begun(seat) == ["mail"]
    assert lines(queue) == ["1700007200.000000\tmail"]
    seat.leave()


@pytest.mark.parametrize("long", [1, 300, 498, 505, 700])
def test_each_moment_lies_in_one_sector(queue: Queue, long: int) -> None:
    """So that a crash leaves the old one or the new, wherever lines begin."""
    types = [f"{n}-{'x' * (long % 200)}" for n in range(30)]
    queue.enqueue_many([(job_type, {}) for job_type in types] * 2)
    seat = sit(queue, Rate(2, HOUR, 2))
    assert sorted(begun(seat)) == sorted(types * 2)
    seat.leave()
    text = file_of(queue).read_bytes()
    for job_type in types:
        at = text.index(b"\t" + job_type.encode() + b"\n") - 17
        assert text[at : at + 17] == b"1700003600.000000"
        assert at // SECTOR == (at + 16) // SECTOR


@pytest.mark.parametrize("cut", range(0, 30, 3))
def test_a_line_that_was_cut_off_says_nothing(queue: Queue, cut: int) -> None:
    """The next takes its place; it is not taken for that of a shorter type."""
    line = b"1700003600.000000\tmail.send\n"
    file_of(queue).parent.mkdir(exist_ok=True)
    queue.enqueue_many([("mail", {}), ("mail.send", {})])
    file_of(queue).write_bytes(rates.HEADER + line[: min(cut, len(line) - 1)])
    seat = sit(queue)
    assert begun(seat) == ["mail", "mail.send"]
    seat.leave()
    assert [line.split("\t")[1] for line in lines(queue)] == ["mail", "mail.send"]


def test_it_does_not_grow_without_bound(
    queue: Queue, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A producer may make up types: what has passed goes, what counts stays."""
    monkeypatch.setattr(rates, "LONG", 2000)
    queue.enqueue("kept", {})
    seat = sit(queue, Rate(1, 100 * HOUR), "kept")
    seat.turn()
    seat.leave()
    for batch in range(5):
        clock.now += 10
        queue.enqueue_many([(f"made-up-{batch}-{n}", {}) for n in range(100)])
        seat = sit(queue, Rate(1, 1))
        assert len(begun(seat)) == 100
        seat.leave()
    assert file_of(queue).stat().st_size < 2000 + 101 * 40
    assert f"{START + 100 * HOUR}.000000\tkept" in lines(queue)


def test_a_file_that_is_full(
    queue: Queue, clock: Clock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """No job is begun that could not be counted; the others are, and the log says it."""
    monkeypatch.setattr(rates, "LARGEST", len(rates.HEADER) + 50)
    queue.enqueue_many([("a1", {}), ("b2", {}), ("c3", {}), ("d4", {})])
    seat = sit(queue, glob="[a-c]?")
    assert begun(seat) == ["a1", "b2", "d4"]
    assert "too many types have used up their rate" in caplog.text
    seat.leave()


def test_a_refused_write(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    """No job is begun that could not be counted, and the file is as it was."""
    queue.enqueue_many([("mail", {}), ("news", {}), ("report", {})])
    seat = sit(queue, glob="[mn]*")
    real, refused = os.pwrite, []

    def pwrite(fd: int, data: Any, offset: int) -> int:
        if bytes(data).endswith(b"\tnews\n"):
            refused.append(real(fd, data[:9], offset))
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(fd, data, offset)

    monkeypatch.setattr(os, "pwrite", pwrite)
    assert begun(seat) == ["mail", "report"]
    assert refused
    assert lines(queue) == ["1700003600.000000\tmail"]
    seat.leave()
    monkeypatch.undo()
    seat = sit(queue)
    assert begun(seat) == ["news"]
    seat.leave()


def test_a_link_in_its_place_is_not_followed(queue: Queue, tmp_path: Path) -> None:
    """It is neither read nor written; jobs of a type with a rate wait."""
    queue.enqueue_many([("mail", {}), ("report", {})])
    (tmp_path / "other").write_text("")
    file_of(queue).symlink_to(tmp_path / "other")
    seat = sit(queue, glob="mail")
    assert begun(seat) == ["report"]
    seat.leave()
    assert (tmp_path / "other").read_text() == ""
    assert queue.count_jobs()["pending"] == 1


def test_a_line_that_says_nothing_counts_nothing(queue: Queue) -> None:
    """`fsck` tells of it, and sets it aside; the others stay."""
    queue.enqueue_many([("mail", {}), ("report", {})])
    seat = sit(queue)
    begun(seat)
    seat.leave()
    kept = lines(queue)
    with file_of(queue).open("a") as file:
        file.write("tomorrow\tnews\n1700003600.000000\n")
    engine = queue.engine
    found = fsck.check(engine)
    assert [(each.kind, each.line) for each in found] == [("rates", 6), ("rates", 7)]
    assert fsck.repair(engine) == found
    assert fsck.check(engine) == []
    assert lines(queue) == kept
    assert queue.path.with_suffix(".torn").read_text() == "tomorrow\tnews\n1700003600.000000\n"


def test_a_job_that_is_not_begun_after_all_does_not_count(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next of its type is, in the same turn."""
    first, second = queue.enqueue_many([("mail", {}), ("mail", {})])
    seat = sit(queue)
    claims = queue.engine.claims
    take = claims.take
    monkeypatch.setattr(claims, "take", lambda name: take(name) if name != first.encode() else None)
    attempt = seat.turn()
    assert attempt is not None
    assert attempt.job.id == second
    assert lines(queue) == ["1700003600.000000\tmail"]
    seat.leave()


def test_a_free_place_does_not_wake_a_worker_that_waits_for_the_rate(
    queue: Queue, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A type that was at its limit, and then at its rate, is not tried before that has one."""
    monkeypatch.setattr(gate, "LOOK_AGAIN", 0)
    queue.enqueue_many([("mail", {})] * 3)
    other = Queue(queue.path, "normal", clock=clock)
    first, second = (each.engine.seat() for each in (other, queue))
    for seat in (first, second):
        assert seat is not None
        seat.govern(Policies({"mail": Policy(rate=HOURLY, concurrency=1)}))
    assert first is not None
    assert second is not None
    attempt = first.turn()
    assert attempt is not None
    assert second.turn() is None  # at its limit
    first.turn(Outcome(attempt, "completed", START), False)
    first.leave()
    assert second.turn() is None  # at its rate
    assert not second.wait(0)
    second.leave()


@pytest.mark.parametrize("limit", [None, 1], ids=["alone", "with a limit"])
def test_a_worker_waits_for_as_long_as_the_rate_says(
    queue: Queue, clock: Clock, limit: int | None
) -> None:
    """It is not woken before, also where a type has a limit besides; a clock that is set wakes."""
    queue.enqueue_many([("mail", {})] * 2)
    seat: Any = queue.engine.seat()
    seat.govern(Policies({"mail": Policy(rate=HOURLY, concurrency=limit)}))
    assert begun(seat) == ["mail"]
    assert HOUR - 1000 < seat._gate.until_due() <= HOUR
    clock.now += HOUR
    assert seat._gate.until_due() == 0
    assert begun(seat) == ["mail"]
    seat.leave()


def test_nothing_is_kept_without_a_rate(queue: Queue) -> None:
    """A queue without one has no such file."""
    queue.enqueue("mail", {})
    queue.process_jobs({"mail": bool}, policies={"mail": Policy(priority=1)})
    assert not file_of(queue).exists()


def test_a_moment_that_the_disk_cuts_short_is_not_counted(
    queue: Queue, monkeypatch: pytest.MonkeyPatch, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """In place, as at the end: no job is begun then, and the next look begins it."""
    queue.enqueue_many([("mail", {})] * 2)
    seat = sit(queue)
    assert begun(seat) == ["mail"]
    clock.now += HOUR
    real, cut = os.pwrite, []

    def pwrite(fd: int, data: Any, offset: int) -> int:
        if len(data) == rates._MOMENT:
            cut.append(real(fd, data[:4], offset))
            return 4
        return real(fd, data, offset)

    monkeypatch.setattr(os, "pwrite", pwrite)
    assert begun(seat) == []
    assert cut
    assert "no job of a type with a rate is begun" in caplog.text
    monkeypatch.undo()
    seat.leave()
    seat = sit(queue)
    assert begun(seat) == ["mail"]
    seat.leave()


def test_lines_that_changed_places_are_each_types_own(queue: Queue, clock: Clock) -> None:
    """A person may sort the file in place: no type counts in the line of another."""
    queue.enqueue_many([("mail", {}), ("news", {}), ("mail", {})])
    seat = sit(queue)
    assert begun(seat) == ["mail", "news"]
    text = file_of(queue).read_bytes()
    first, second = text.splitlines(keepends=True)[-2:]
    file_of(queue).write_bytes(text.replace(first + second, second + first))
    clock.now += HOUR + 5
    assert begun(seat) == ["mail"]
    assert sorted(lines(queue)) == ["1700003600.000000\tnews", "1700007205.000000\tmail"]
    seat.leave()


def test_a_new_file_is_on_disk_under_its_name(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In full, before the job begins: a power cut would leave the file without a name."""
    full = Queue(queue.path, "full", clock=Clock())
    full.enqueue("mail", {})
    synced: list[Path] = []
    monkeypatch.setattr(rates, "sync_folder", synced.append)
    seat = sit(full)
    attempt = seat.turn()
    assert attempt is not None
    assert synced == [queue.path.parent]
    seat.leave()
