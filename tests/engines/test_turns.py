"""The turns of a worker: what may change when; fencing, rescue, and clocks that jump."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from actors import AT_ONCE, Clock, die, in_child
from tables import own, text, write
from working import edit, job_in, take

from dbbasic_queue import IllegalTransition, Queue, StorageError, Summary, current_job
from dbbasic_queue.engines.interface import Outcome
from dbbasic_queue.engines.tsv import idle
from dbbasic_queue.engines.tsv import seat as tsv_seat
from dbbasic_queue.job import STATUSES
from dbbasic_queue.table.line import HEADER

DAY = 86400


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def queue(tmp_path: Path, clock: Clock) -> Queue:
    return Queue(tmp_path / "queue.tsv", "normal", clock=clock)


# -- transitions ---------------------------------------------------------------------------------


@pytest.mark.parametrize("status", STATUSES)
def test_only_a_pending_job_can_be_cancelled(queue: Queue, status: str) -> None:
    """True for a pending job; False for any other, and then not a byte is changed."""
    job_id = job_in(queue, status)
    before = queue.path.read_bytes()
    assert queue.cancel_job(job_id) is (status == "pending")
    if status == "pending":
        job = queue.get_job(job_id)
        assert (job["status"], job["error"]) == ("cancelled", "Cancelled by user")
    else:
        assert queue.path.read_bytes() == before


@pytest.mark.parametrize("status", STATUSES)
def test_only_a_failed_or_cancelled_job_can_be_retried(
    queue: Queue, clock: Clock, status: str
) -> None:
    """It is pending and due, without attempts, error and result; any other is left as it is."""
    job_id = job_in(queue, status)
    created = queue.get_job(job_id)["created_at"]
    clock.now += 10
    before = queue.path.read_bytes()
    assert queue.retry_job(job_id) is (status in ("failed", "cancelled"))
    if status in ("failed", "cancelled"):
        assert queue.get_job(job_id) == {
            "id": job_id,
            "type": "x",
            "payload": {},
            "status": "pending",
            "created_at": created,
            "run_at": clock.now,
            "attempts": 0,
            "error": None,
            "result": None,
        }
    else:
        assert queue.path.read_bytes() == before


@pytest.mark.parametrize("job_id", ["unknown", "", "a b", "../x", "x" * 65, None, 17, b"a"])
def test_what_is_no_id_of_a_job_is_unknown(queue: Queue, job_id: Any) -> None:
    """No verb raises for it, and nothing is changed."""
    queue.enqueue("x", {})
    before = queue.path.read_bytes()
    assert queue.get_job(job_id) is None
    assert queue.cancel_job(job_id) is False
    assert queue.retry_job(job_id) is False
    assert queue.path.read_bytes() == before


def test_an_illegal_end_of_an_attempt_raises_and_nothing_happens(
    queue: Queue, clock: Clock
) -> None:
    """A running job ends completed, failed, cancelled or pending again, and nothing else."""
    job_id = queue.enqueue("x", {})
    seat, attempt = take(queue)
    before = queue.path.read_bytes()
    with pytest.raises(IllegalTransition, match=f"{job_id} is processing: it cannot become"):
        seat.turn(Outcome(attempt, "processing", int(clock.now)))
    assert queue.path.read_bytes() == before


# -- one attempt ---------------------------------------------------------------------------------


def test_an_attempt_counts_from_its_begin(queue: Queue, clock: Clock) -> None:
    """Before the handler runs, the file says so: processing, one attempt more, begun now."""
    job_id = queue.enqueue("x", {})
    clock.now += 5
    _, attempt = take(queue)
    job = queue.get_job(job_id)
    assert (job["status"], job["attempts"], job["run_at"]) == ("processing", 1, clock.now)
    assert attempt.job.as_dict() == job


def test_the_end_of_an_attempt_and_the_begin_of_the_next_are_one_turn(
    queue: Queue, clock: Clock
) -> None:
    """A turn that writes how one job ended has the next in hand."""
    first, second = queue.enqueue("x", {}), queue.enqueue("x", {})
    seat, attempt = take(queue)
    following = seat.turn(Outcome(attempt, "completed", int(clock.now), result="1"))
    assert following is not None
    assert following.job.id == second
    assert queue.get_job(first)["result"] == 1
    assert seat.turn(Outcome(following, "completed", int(clock.now)), take=False) is None
    assert queue.count_jobs()["completed"] == 2


@pytest.mark.parametrize("types", [None, ["plain", "text"], []])
def test_both_ways_to_take_a_job_leave_the_same_file(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch, types: list[str] | None
) -> None:
    """Jobs as we write them are taken a shorter way than others, with the same end for all."""
    due, later = int(clock.now), int(clock.now) + 1000
    table = HEADER
    for number, (kind, fields) in enumerate(
        [
            ("plain", {}),
            ("plain", {"run_at": later}),
            ("fails", {}),
            ("text", {"payload": ' "Zoë"'}),
            ("gone", {"moved": True}),
            ("plain", {"error": "ValueError: no", "attempts": 1}),
            ("plain", {"result": "1"}),
            ("unknown", {}),
            ("plain", {"payload": "{spoiled"}),
            ("plain", {"status": "completed"}),
            ("plain", {"moved": True}),
            ("plain", {}),
        ]
    ):
        table += own(
            len(table), f"j{number}", type=kind, **{"created_at": due, "run_at": due, **fields}
        )
    table += b'csv\tplain\t"{""n"": 1}"\tpending\t5\t5\t0\t\t\r\n'
    table += own(len(table), "j4", type="plain", moved=True)  # an older line of it stands above
    table += b"short\tplain\t{}\tpending\t5\t5\t0\t\t\n"

    def fail(payload: Any) -> None:
        raise ValueError("x" * 300)

    ran: list[tuple[str, Any]] = []
    handlers = {
        "plain": lambda payload: ran.append((current_job().id, payload)),
        "text": lambda payload: ran.append((current_job().id, payload)) or "done",
        "fails": fail,
    }
    ends = []
    for way in ("short", "long"):
        path = tmp_path / way / "queue.tsv"
        path.parent.mkdir()
        path.write_bytes(table)
        if way == "long":
            monkeypatch.setattr(tsv_seat, "begin", lambda *line: None)
        ran.clear()
        summary = Queue(path, "normal", clock=clock).process_jobs(handlers, types=types)
        ends.append((path.read_bytes(), summary, list(ran)))
    assert ends[0] == ends[1]
    assert bool(ran) is (types != [])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"processing", b"pending"),
        (b"processing", b"cancelled"),
        (b"processing", b"completed"),
        (b"processing", b"failed"),
        (b"\t1\t", b"\t2\t"),
    ],
)
def test_what_another_process_changed_meanwhile_is_not_overwritten(
    queue: Queue, old: bytes, new: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """A row whose state or attempts are others than at the claim is fenced: logged, not forced."""

    def handler(payload: Any) -> str:
        edit(queue, old, new)
        return "my result"

    job_id = queue.enqueue("x", {})
    queue.process_jobs({"x": handler}, limit=1)
    assert b"my result" not in queue.path.read_bytes()
    expected = new.decode() if old == b"processing" else "processing"
    assert queue.get_job(job_id)["status"] == expected
    assert f"not recorded: x {job_id} is {expected} now" in caplog.text


@pytest.mark.parametrize("result", [None, "my result"])
def test_what_was_written_over_in_the_same_file_is_not_overwritten(
    queue: Queue, result: Any
) -> None:
    """Nor a row that a program changes in place, without the lock and without a new file."""

    def handler(payload: Any) -> Any:
        text = queue.path.read_bytes()
        with queue.path.open("r+b") as file:
            file.seek(text.index(b"\t1\t"))
            file.write(b"\t7\t")
        return result

    job_id = queue.enqueue("x", {})
    queue.process_jobs({"x": handler}, limit=1)
    job = queue.get_job(job_id)
    assert (job["status"], job["attempts"], job["result"]) == ("processing", 7, None)


def test_a_job_that_was_put_back_while_it_ran_is_not_run_beside_itself(queue: Queue) -> None:
    """A person sets a running job to pending: no worker takes it before its handler has ended."""
    ran: list[Any] = []

    def handler(payload: Any) -> None:
        edit(queue, b"processing", b"pending")
        other = Queue(queue.path, "normal", clock=Clock())
        other.process_jobs({"x": ran.append})

    queue.enqueue("x", {})
    queue.process_jobs({"x": handler}, limit=1)
    assert ran == []
    queue.process_jobs({"x": ran.append})
    assert ran == [{}]


def test_a_row_that_was_edited_meanwhile_keeps_the_edit(queue: Queue) -> None:
    """The type or payload may be changed by hand while it runs: the end goes into the new row."""

    def handler(payload: Any) -> str:
        edit(queue, b'{"n": 1}', b'{"n": 1, "note": "by hand"}')
        return "done"

    job_id = queue.enqueue("x", {"n": 1})
    queue.process_jobs({"x": handler})
    job = queue.get_job(job_id)
    assert (job["status"], job["result"]) == ("completed", "done")
    assert job["payload"] == {"n": 1, "note": "by hand"}


# -- rescue --------------------------------------------------------------------------------------


def test_a_job_in_hand_is_never_rescued(queue: Queue, clock: Clock) -> None:
    """Not after ten hours, and not when the clock jumps to the next century or back."""
    job_id = queue.enqueue("x", {})
    take(queue)
    other = Queue(queue.path, "normal", clock=clock)
    before = queue.path.read_bytes()
    for jump in (36_000, 100 * 365 * DAY, -100 * 365 * DAY - 80_000):
        clock.now += jump
        assert queue.process_jobs({"x": bool}) == Summary()
        assert other.process_jobs({"x": bool}) == Summary()
    assert queue.path.read_bytes() == before
    assert queue.get_job(job_id)["status"] == "processing"


def orphan(queue: Queue) -> str:
    """A job whose worker was killed in its middle."""
    job_id = queue.enqueue("x", {})
    assert in_child(lambda: queue.process_jobs({"x": die}, backoff=AT_ONCE)) == -signal.SIGKILL
    assert queue.get_job(job_id)["status"] == "processing"
    return job_id


def test_a_dead_workers_job_goes_back_with_the_usual_wait(queue: Queue, clock: Clock) -> None:
    """The attempt counts, the error says what happened, and the retry schedule applies."""
    job_id = orphan(queue)
    clock.now += 7
    assert queue.process_jobs({"x": bool}) == Summary(rescued=1)
    job = queue.get_job(job_id)
    assert (job["status"], job["attempts"]) == ("pending", 1)
    assert job["run_at"] == clock.now + 120
    assert job["error"].startswith("WorkerDied: ")
    clock.now += 120
    assert queue.process_jobs({"x": bool}) == Summary(completed=1)
    assert queue.get_job(job_id)["error"] is None


def test_a_dead_workers_job_is_run_by_the_run_that_rescued_it(queue: Queue) -> None:
    """If the schedule says at once, it is at once."""
    job_id = orphan(queue)
    assert queue.process_jobs({"x": bool}, backoff=AT_ONCE) == Summary(completed=1, rescued=1)
    assert queue.get_job(job_id)["attempts"] == 2


def test_a_job_that_kills_its_worker_each_time_ends_failed(queue: Queue, clock: Clock) -> None:
    """After max_attempts, although no handler of it ever came to an end."""
    job_id = orphan(queue)
    for _ in range(2):
        code = in_child(lambda: queue.process_jobs({"x": die}, backoff=AT_ONCE))
        assert code == -signal.SIGKILL
    assert queue.process_jobs({"x": die}, backoff=AT_ONCE) == Summary(failed=1, rescued=1)
    job = queue.get_job(job_id)
    assert (job["status"], job["attempts"], job["run_at"]) == ("failed", 3, clock.now)
    assert job["error"].startswith("WorkerDied: ")
    assert queue.retry_job(job_id)
    assert queue.process_jobs({"x": bool}) == Summary(completed=1)


def test_all_of_a_dead_crews_jobs_are_rescued(queue: Queue) -> None:
    """Several orphans at once, beside a job that lives."""
    orphans = set(queue.enqueue_many([("x", {})] * 3))

    def take_all_and_die() -> None:
        seat = queue.engine.seat()
        for _ in orphans:
            seat.turn()
        die()

    assert in_child(take_all_and_die) == -signal.SIGKILL
    alive = queue.enqueue("x", {})
    seat = queue.engine.seat()
    assert seat.turn().job.id == alive
    rescued = seat.rescue(3, AT_ONCE)
    assert {each.job.id for each in rescued} == orphans
    assert {each.status for each in rescued} == {"pending"}
    assert queue.get_job(alive)["status"] == "processing"
    assert seat.rescue(3, AT_ONCE) == []


def test_a_schedule_that_fails_does_not_stop_a_rescue(queue: Queue, clock: Clock) -> None:
    """The default schedule takes its place, as for any other retry."""
    job_id = orphan(queue)
    assert queue.process_jobs({}, backoff=lambda attempts: 1 / 0).rescued == 1
    assert queue.get_job(job_id)["run_at"] == clock.now + 120


# -- clocks that jump ----------------------------------------------------------------------------


def test_a_clock_that_jumps_back_delays_work_and_loses_none(queue: Queue, clock: Clock) -> None:
    """A job enqueued before the jump waits until the clock is there again."""
    job_id = queue.enqueue("x", {})
    clock.now -= 3600
    assert queue.process_jobs({"x": bool}) == Summary()
    assert queue.cancel_job(job_id)
    assert queue.retry_job(job_id)  # which makes it due by the clock as it is now
    assert queue.process_jobs({"x": bool}) == Summary(completed=1)
    assert queue.get_job(job_id)["run_at"] == clock.now < queue.get_job(job_id)["created_at"]


@pytest.mark.parametrize("jump", [-3600, 3600, -10 * 365 * DAY, 10 * 365 * DAY])
def test_a_clock_that_jumps_while_a_handler_runs(queue: Queue, clock: Clock, jump: int) -> None:
    """How the job ended is written by the clock as it is then, and the retry counts from there."""

    def handler(payload: Any) -> None:
        clock.now += jump
        raise ValueError

    job_id = queue.enqueue("x", {})
    assert queue.process_jobs({"x": handler}) == Summary(retried=1)
    assert queue.get_job(job_id)["run_at"] == clock.now + 120
    clock.now += 120
    assert queue.process_jobs({"x": bool}) == Summary(completed=1)


def test_a_clock_that_jumps_between_two_jobs_of_a_run(queue: Queue, clock: Clock) -> None:
    """Forward: what is due now is run. Back: what is not due any more is left."""
    for number in range(3):
        queue.enqueue("x", {"n": number}, clock.now + number * 1000)
    jumps = [1000, -500]
    ran: list[int] = []

    def handler(payload: dict[str, int]) -> None:
        ran.append(payload["n"])
        clock.now += jumps.pop(0)

    assert queue.process_jobs({"x": handler}) == Summary(completed=2)
    assert ran == [0, 1]
    assert queue.count_jobs()["pending"] == 1


def test_a_clock_that_starts_at_zero(queue: Queue, clock: Clock) -> None:
    """A small board without a battery boots in 1970: everything works there."""
    clock.now = 0
    job_id = queue.enqueue("x", {})
    assert queue.process_jobs({"x": bool}) == Summary(completed=1)
    assert (queue.get_job(job_id)["created_at"], queue.get_job(job_id)["run_at"]) == (0, 0)
    assert queue.prune_jobs(1) == 0
    assert queue.prune_jobs(0) == 1


def test_pruning_by_a_clock_that_went_back_removes_nothing_young(
    queue: Queue, clock: Clock
) -> None:
    """What seems to have ended in the future is not old, unless it is as far ahead as that."""
    job_in(queue, "completed")
    clock.now -= 10 * DAY
    assert queue.prune_jobs(11 * DAY) == 0
    assert queue.prune_jobs(9 * DAY, dry_run=True) == 1
    clock.now += 22 * DAY
    assert queue.prune_jobs(11 * DAY) == 1


# -- the wake file -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "action",
    [
        lambda queue: queue.enqueue("x", {}),
        lambda queue: queue.enqueue("x", {}, job_id="key"),
        lambda queue: queue.enqueue_many([("x", {}, 2e9), ("x", {})]),
        lambda queue: queue.retry_job("old"),
    ],
    ids=["enqueue", "keyed", "many", "retry"],
)
def test_work_that_is_due_touches_the_wake_file(
    queue: Queue, clock: Clock, action: Callable[[Queue], Any]
) -> None:
    """Where it exists, so that a systemd path unit starts a worker within a second."""
    queue.enqueue("x", {}, job_id="old")
    queue.process_jobs({}, 1)
    wake = queue.path.with_name("queue.wake")
    wake.touch()
    os.utime(wake, (1, 1))
    clock.now += 1
    action(queue)
    assert wake.stat().st_mtime > 1


def test_work_for_later_does_not_touch_the_wake_file(queue: Queue, clock: Clock) -> None:
    """A worker would find nothing; neither do cancelling, running and pruning wake anybody."""
    wake = queue.path.with_name("queue.wake")
    wake.touch()
    os.utime(wake, (1, 1))
    job_id = queue.enqueue("x", {}, clock.now + 1)
    queue.enqueue_many([("x", {}, clock.now + 1)])
    queue.cancel_job(job_id)
    clock.now += 1
    queue.process_jobs({})
    queue.prune_jobs(0)
    assert wake.stat().st_mtime == 1


def test_without_a_wake_file_none_is_made(queue: Queue) -> None:
    """A crontab has no use for one."""
    queue.enqueue("x", {})
    queue.enqueue_many([("x", {})])
    assert not queue.path.with_name("queue.wake").exists()


def test_a_wake_file_that_is_gone_does_no_harm(queue: Queue) -> None:
    """It is removed between two jobs of the same second: the job is there all the same."""
    wake = queue.path.with_name("queue.wake")
    wake.touch()
    queue.enqueue("x", {})
    wake.unlink()
    queue.enqueue("x", {})
    assert queue.count_jobs()["pending"] == 2


# -- the mark of the last run --------------------------------------------------------------------


def test_every_run_marks_the_time_even_without_work(queue: Queue) -> None:
    """The time of `queue.claims` is the dead man's switch of the health check."""
    queue.process_jobs({})
    claims = queue.path.with_name("queue.claims")
    os.utime(claims, (1, 1))
    queue.enqueue("x", {})
    queue.get_job("x")
    queue.prune_jobs(0)
    assert claims.stat().st_mtime == 1
    before = time.time() - 1
    queue.process_jobs({})
    assert claims.stat().st_mtime > before


def test_a_run_marks_the_time_while_it_works(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that is never idle is at work all the same."""
    monkeypatch.setattr(idle, "MARK_EVERY", 0)
    claims = queue.path.with_name("queue.claims")
    queue.enqueue("x", {})
    queue.process_jobs({"x": lambda payload: os.utime(claims, (1, 1))}, limit=1)
    assert claims.stat().st_mtime > 1


def test_a_sync_that_fails_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In "full" a failed sync is raised by every verb that acknowledges something."""
    queue = Queue(tmp_path / "queue.tsv", "full")
    job_id = queue.enqueue("x", {}, job_id="a")
    queue.cancel_job(job_id)
    for _ in range(2):
        queue.enqueue("fails", {})
    queue.process_jobs({"fails": lambda payload: 1 / 0}, 1)

    def broken(fd: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", broken)
    for verb in (
        lambda: queue.enqueue("x", {}),
        lambda: queue.enqueue("x", {}, job_id="b"),
        lambda: queue.enqueue("x", {}, job_id="a"),
        lambda: queue.enqueue_many([("x", {})]),
        lambda: queue.retry_job(job_id),
        lambda: queue.cancel_job(job_id),
        lambda: queue.retry_failed(),
    ):
        with pytest.raises(StorageError, match="is perhaps not on disk: sync failed"):
            verb()


def test_a_type_named_like_a_state_is_no_state(queue: Queue, clock: Clock) -> None:
    """A job of the type `pending` that another worker has, or has finished, is not taken again."""
    queue.enqueue("pending", {})
    first, second, third = (queue.engine.seat() for _ in range(3))
    attempt = first.turn()
    assert attempt is not None
    assert second.turn() is None
    first.turn(Outcome(attempt, "completed", int(clock.now)), take=False)
    assert third.turn() is None
    assert queue.count_jobs()["completed"] == 1


@pytest.mark.parametrize("ours", [True, False])
def test_the_count_of_attempts_stops_where_its_column_ends(queue: Queue, ours: bool) -> None:
    """A job of so many attempts is worked as any other, and stays a row."""
    line = b"a1\tx\t{}\tpending\t5\t5\t999999999\t\t\n"
    if ours:
        line = own(len(HEADER), "a1", attempts=999_999_999)
    queue.path.write_bytes(HEADER + line)
    assert queue.process_jobs({"mail": bool, "x": bool}, 10**9) == Summary(completed=1)
    job = queue.get_job("a1")
    assert (job["status"], job["attempts"]) == ("completed", 999_999_999)


@pytest.mark.parametrize("line", ["ours", "foreign"])
def test_a_count_of_attempts_at_its_limit_stays_there(path: Path, line: str) -> None:
    """A job that a person gave the largest number of attempts is worked like any other."""
    most = 999_999_999
    row = own(len(HEADER), "a1", attempts=most) if line == "ours" else text("a1", attempts=most)
    write(path, row)
    queue = Queue(path, "normal")

    def fail(payload: object) -> None:
        raise ValueError("no")

    queue.process_jobs({"mail": fail}, max_attempts=3)
    job = queue.get_job("a1")
    assert job is not None
    assert (job["status"], job["attempts"]) == ("failed", most)
