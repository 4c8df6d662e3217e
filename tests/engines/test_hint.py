"""A worker begins to read where the first job stands that has not ended, and misses none."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from tables import set_piece, text

from dbbasic_queue import Queue
from dbbasic_queue.engines.tsv import hint
from dbbasic_queue.engines.tsv.seat import TsvSeat

ENDED = 400  # jobs at the beginning of the table


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if these tables were long ones."""
    monkeypatch.setattr(hint, "LEAST", 4000)
    set_piece(monkeypatch, 4096)


@pytest.fixture
def queue(path: Path) -> Queue:
    """Finished jobs, and a hint of the worker that has run them."""
    queue = Queue(path, "normal")
    queue.enqueue_many([("mail", {"n": n}) for n in range(ENDED)])
    assert queue.process_jobs({"mail": fails_first}, max_attempts=1).failed == 1
    assert hint.read(queue.engine.table) == path.stat().st_size
    return queue


def fails_first(payload: dict[str, int]) -> None:
    if payload["n"] == 0:
        raise ValueError("no")


def work(path: Path) -> list[int]:
    """What a worker runs, which knows of the table no more than its files say."""
    ran: list[int] = []
    Queue(path, "normal").process_jobs({"mail": lambda payload: ran.append(payload["n"])})
    return ran


def test_the_first_job_begins_before_what_is_finished_is_read(queue: Queue, path: Path) -> None:
    """A million finished rows are no reason to wait; they are looked at between the first turns."""
    queue.enqueue_many([("mail", {"n": 1000 + n}) for n in range(3)])
    seat = Queue(path, "normal").engine.seat()
    assert isinstance(seat, TsvSeat)
    attempt = seat.turn()
    assert attempt is not None
    assert attempt.job.payload == {"n": 1000}
    assert seat._waiting.doubtful
    assert seat.turn() is not None
    assert seat.turn() is not None
    assert seat.turn() is None
    assert not seat._waiting.doubtful


def test_a_job_that_a_producer_put_back_before_the_hint_runs(queue: Queue, path: Path) -> None:
    """The oldest row, after a newer one: the worker does not end before it has been there."""
    failed = next(queue.list_jobs("failed"))
    assert queue.retry_job(failed["id"])
    queue.enqueue("mail", {"n": 1000})
    assert sorted(work(path)) == [0, 1000]


def abandon(path: Path, job_id: str, status: bytes) -> None:
    """Let a job look as if the worker that ran it had died."""
    content = path.read_bytes()
    start = content.index(b"\n%b\t" % job_id.encode()) + 1
    line = content[start : content.index(b"\n", start) + 1]
    room = b" " * (len(b"processing") - len(status))
    changed = line.replace(status, b"processing").replace(b" " * 6 + room, b" " * 6, 1)
    assert len(changed) == len(line)
    with open(path, "r+b") as file:
        os.pwrite(file.fileno(), changed, start)


@pytest.mark.parametrize("behind", [False, True])
def test_a_job_of_a_dead_worker_before_the_hint_is_rescued(
    queue: Queue, path: Path, behind: bool
) -> None:
    """Its row is found by the same run, also when the run has rescued one behind the hint."""
    abandon(path, next(queue.list_jobs("failed"))["id"], b"failed")
    job_id = queue.enqueue("mail", {"n": 1000})
    if behind:
        abandon(path, job_id, b"pending")
    worker = Queue(path, "normal")
    worker.process_jobs({"mail": fails_first}, max_attempts=5)
    left = [job["error"] for job in worker.list_jobs("pending")]
    assert len(left) == 1 + behind
    assert all(error.startswith("WorkerDied") for error in left)


def test_the_copy_of_a_line_before_the_hint_does_not_run(queue: Queue, path: Path) -> None:
    """A person has appended a line of a job that has ended: it runs once."""
    done = next(queue.list_jobs("completed"))
    times = {"created_at": done["created_at"], "run_at": done["run_at"]}
    with path.open("ab") as file:
        file.write(text(done["id"], payload='{"n": 77}', **times))
    queue.enqueue("mail", {"n": 1000})
    assert work(path) == [1000]


def other_inode(path: Path) -> bytes:
    return hint.NOTE + b"%d %d\n" % (path.stat().st_ino + 1, path.stat().st_size)


def within_a_line(path: Path) -> bytes:
    return hint.NOTE + b"%d %d\n" % (path.stat().st_ino, path.stat().st_size - 7)


def behind_the_end(path: Path) -> bytes:
    return hint.NOTE + b"%d %d\n" % (path.stat().st_ino, 10**15)


def torn(path: Path) -> bytes:
    return hint.NOTE + b"%d %d" % (path.stat().st_ino, path.stat().st_size)


def text_of_another(path: Path) -> bytes:
    return b"\xff\0" * 5000


@pytest.mark.parametrize(
    "wrong", [other_inode, within_a_line, behind_the_end, torn, text_of_another, lambda _: b""]
)
def test_a_wrong_hint_is_not_believed(
    queue: Queue, path: Path, wrong: Callable[[Path], bytes]
) -> None:
    """It costs time, never a job."""
    queue.enqueue("mail", {"n": 1000})
    path.with_suffix(".hint").write_bytes(wrong(path))
    assert hint.read(queue.engine.table) == 0
    assert work(path) == [1000]


def test_a_hint_that_is_too_far_down_costs_order_alone(queue: Queue, path: Path) -> None:
    """What stands before it runs, in the same run, after what stands behind it."""
    queue.enqueue_many([("mail", {"n": 1000 + n}) for n in range(5)])
    at = path.read_bytes().index(b'{"n": 1003}')
    start = path.read_bytes().rindex(b"\n", 0, at) + 1
    note = hint.NOTE + b"%d %d\n" % (path.stat().st_ino, start)
    path.with_suffix(".hint").write_bytes(note)
    assert hint.read(queue.engine.table) == start
    ran = work(path)
    assert sorted(ran) == [1000, 1001, 1002, 1003, 1004]


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_what_is_not_a_file_in_its_place_does_no_harm(
    queue: Queue, path: Path, tmp_path: Path, kind: str
) -> None:
    """Neither is it followed, nor waited for, nor written to."""
    place, target = path.with_suffix(".hint"), tmp_path / "target"
    target.write_bytes(place.read_bytes())
    place.unlink()
    if kind == "link":
        place.symlink_to(target)
    elif kind == "pipe":
        os.mkfifo(place)
    else:
        place.mkdir()
    before = target.read_bytes()
    queue.enqueue_many([("mail", {"n": 1000 + n}) for n in range(100)])
    assert len(work(path)) == 100
    assert target.read_bytes() == before


def test_a_hint_is_not_written_for_every_job(queue: Queue, path: Path) -> None:
    """Only when it would be worth it."""
    before = path.with_suffix(".hint").stat().st_mtime_ns
    queue.enqueue("mail", {"n": 1000})
    assert work(path) == [1000]
    assert path.with_suffix(".hint").stat().st_mtime_ns == before


def test_the_hint_is_where_the_first_pending_job_stands(queue: Queue, path: Path) -> None:
    """A job that is due next year keeps it where it is."""
    size = path.stat().st_size
    queue.enqueue("mail", {"n": 1}, 4_000_000_000)
    queue.enqueue_many([("mail", {"n": n}) for n in range(ENDED)])
    path.with_suffix(".hint").unlink()
    assert len(work(path)) == ENDED
    assert path.with_suffix(".hint").read_bytes().split()[-1] == b"%d" % size
