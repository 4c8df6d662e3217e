"""The history: sums of hours, their text, and the file beside the table."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbbasic_queue import Queue, StorageError
from dbbasic_queue.engines.history import (
    BOUNDS,
    Hour,
    Times,
    add_up,
    merged,
    parse_line,
    to_line,
)
from dbbasic_queue.engines.tsv import history
from dbbasic_queue.engines.tsv.claims import Claims

COUNTS = st.integers(0, 10**9)
SECONDS = st.lists(st.integers(0, 10**6).map(float), max_size=20)
TIMES = SECONDS.map(Times.of)
STARTS = st.integers(0, 10**6).map(lambda number: number * 3600)
TYPES = st.sampled_from(["mail", "ä", "x.y", "#", "before"])
HOURS = st.builds(Hour, STARTS, TYPES, COUNTS, COUNTS, COUNTS, COUNTS, TIMES, TIMES)
ENDED = st.tuples(
    TYPES,
    st.sampled_from(["completed", "failed", "pending", "cancelled"]),
    st.integers(1_700_000_000, 1_700_010_000),
    st.sampled_from([0, 1_699_999_000, 1_700_005_000]),
    st.sampled_from([-1, 0.0, 0.0004, 0.003, 5.5, 4000.25, 1e6]),
)


@given(HOURS)
def test_a_line_is_read_as_it_was_written(hour: Hour) -> None:
    """Whatever the numbers are."""
    assert parse_line(to_line(hour)) == hour


@given(st.text(st.sampled_from("0129-,.T:Z\tabefor"), max_size=60))
def test_other_lines_are_not_hours(line: str) -> None:
    """They are told from hours without an error."""
    assert parse_line(line) is None


@given(st.lists(HOURS), STARTS)
def test_nothing_is_lost_in_adding_up(hours: list[Hour], before: int) -> None:
    """Totals of each type are the same, and nothing older is left by the hour."""
    after = merged(hours, before)
    for place in (2, 3, 4, 5):
        assert sum(hour[place] for hour in hours) == sum(hour[place] for hour in after)
    assert sum(hour.ran.number for hour in hours) == sum(hour.ran.number for hour in after)
    assert all(not hour.start or hour.start >= before for hour in after)
    assert len({hour[:2] for hour in after}) == len(after)


@given(st.lists(ENDED))
def test_each_attempt_counts_once(noted: list[tuple[str, str, int, int, float]]) -> None:
    """In the hour in which it ended, under its outcome, and in one range of each time."""
    hours = add_up(noted)
    assert sum(hour.attempts for hour in hours) == len(noted)
    assert sum(hour.retried for hour in hours) == sum(each[1] == "pending" for each in noted)
    assert sum(hour.ran.number for hour in hours) == sum(each[4] >= 0 for each in noted)
    assert sum(hour.waited.number for hour in hours) == sum(each[3] > 0 for each in noted)
    ends = {int(begun + max(0, seconds)) // 3600 * 3600 for _, _, begun, _, seconds in noted}
    assert {hour.start for hour in hours} == ends


@given(SECONDS, st.floats(0, 1))
def test_a_quantile_is_in_the_range_of_the_one_it_stands_for(
    seconds: list[float], share: float
) -> None:
    """At least as long as that range's beginning, and not longer than its end."""
    found = Times.of(list(seconds)).quantile(share)
    if not seconds:
        assert found is None
        return
    assert found is not None
    right = sorted(seconds)[max(0, -(-int(share * len(seconds) * 1000) // 1000) - 1)]
    low = max((bound for bound in (0, *BOUNDS) if bound < right), default=0)
    high = min((bound for bound in BOUNDS if bound >= right), default=max(seconds))
    assert low - 1e-6 <= found <= high + 1e-6


@pytest.fixture
def queue(tmp_path: Path) -> Queue:
    return Queue(tmp_path / "queue.tsv", "normal")


def run(queue: Queue, number: int = 1) -> None:
    """Run jobs, as a worker that cron starts does."""
    for _ in range(number):
        queue.enqueue("mail", {})
        queue.process_jobs({"mail": bool})


def file_of(queue: Queue) -> Path:
    return queue.path.with_suffix(".history")


def completed(queue: Queue) -> int:
    return sum(hour.completed for hour in queue.history())


def make_old(queue: Queue) -> None:
    """Let the file have been written the last time in an hour that is over."""
    os.utime(file_of(queue), (time.time() - 3600,) * 2)


def test_the_file_explains_itself(queue: Queue) -> None:
    """In its first lines; each other one is a line of a table."""
    run(queue)
    lines = file_of(queue).read_text().splitlines()
    assert lines[0].startswith("# What the workers of this queue did")
    assert [line[:1] for line in lines[:7]] == ["#"] * 6 + ["h"]
    assert lines[7].split("\t")[1:3] == ["mail", "1"]
    assert {line.count("\t") for line in lines[6:]} == {11}


def test_a_new_hour_makes_one_line_of_many(queue: Queue) -> None:
    """Until then each run appends a line; it is the same history."""
    run(queue, 3)
    assert len(file_of(queue).read_text().splitlines()) >= 6 + 3
    make_old(queue)
    run(queue)
    assert len(file_of(queue).read_text().splitlines()) <= 6 + 2  # the hour may have changed
    assert completed(queue) == 4


def test_lines_that_cannot_be_read_stay(queue: Queue) -> None:
    """One that was cut is ended, and what is there otherwise counts."""
    run(queue)
    with file_of(queue).open("ab") as file:
        file.write(b"2027-01-01T10:00Z\tmail\t1")
    run(queue)
    make_old(queue)
    run(queue)
    assert completed(queue) == 3
    assert file_of(queue).read_text().endswith("\n2027-01-01T10:00Z\tmail\t1\n")


def test_what_a_full_disk_let_through_is_taken_back(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So what is added again is there once."""
    run(queue)
    before = file_of(queue).read_bytes()
    noted = [("mail", "completed", 1_700_000_000 + 3600 * n, 0, 0.1) for n in range(2)]

    def write_some(fd: int, data: bytes) -> None:
        os.write(fd, data[: len(data) - 9])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(history, "write_all", write_some)
        with pytest.raises(StorageError, match="No space left"):
            queue.engine.add_history(noted, "a")
    assert file_of(queue).read_bytes() == before
    queue.engine.add_history(noted, "a")
    assert completed(queue) == 3


def test_it_may_be_deleted(queue: Queue) -> None:
    """That forgets the history, and harms nothing."""
    for _ in range(2):
        run(queue)
        file_of(queue).unlink()
    assert (queue.history(), queue.count_jobs()["completed"]) == ([], 2)


def test_nothing_is_made_where_there_is_nothing_to_add(queue: Queue) -> None:
    """By a run without work, or by what puts old hours together."""
    queue.process_jobs({"mail": bool})
    queue.engine.fold_history(10**10)
    assert not file_of(queue).exists()


def test_a_process_that_keeps_the_history_to_itself_holds_no_job_up(
    queue: Queue, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The run ends, and says that its history is lost."""
    monkeypatch.setattr(history, "PATIENCE", 0.0)
    queue.enqueue("mail", {})
    other = Claims(queue.path.with_suffix(".claims"), queue.path)
    claim = other.take_history()
    assert claim is not None
    assert queue.process_jobs({"mail": bool}).completed == 1
    assert "another process has kept the history to itself" in caplog.text
    other.release(claim)
    run(queue)
    assert completed(queue) == 1


def test_a_link_is_not_followed(queue: Queue, tmp_path: Path) -> None:
    """Nothing is written to what another user has put in its place."""
    target = tmp_path / "target"
    target.write_text("mine\n")
    file_of(queue).symlink_to(target)
    run(queue)
    assert target.read_text() == "mine\n"
