"""Jobs moved between engines, each way: none is lost, none runs twice, whatever is killed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
from actors import AT_ONCE, Clock, queue_by
from mortal import Mortal
from redis_server import RedisServer

from dbbasic_queue import Queue
from dbbasic_queue.engines import open_engine
from dbbasic_queue.engines.interface import Engine
from dbbasic_queue.engines.moving import departed, note_of
from dbbasic_queue.errors import JobExists, MigrationError, StorageError
from dbbasic_queue.job import Job, error_lines
from dbbasic_queue.migrate import move
from dbbasic_queue.migrate.move import finish, look, move_waiting
from dbbasic_queue.migrate.slots import carry_slots, key_of
from dbbasic_queue.schedule.marks import Mark, locked, marks_file

HANDLERS: dict[str, Callable[[Any], Any]] = {
    "ok": lambda payload: payload["n"],
    "bad": lambda payload: {}["x"],
}


def queue_at(address: str, clock: Clock) -> Queue:
    return queue_by(clock, address)


@pytest.fixture
def old(address: str, clock: Clock) -> Queue:
    return queue_at(address, clock)


@pytest.fixture
def new(other_address: str, clock: Clock) -> Queue:
    return queue_at(other_address, clock)


def fill(queue: Queue, clock: Clock) -> None:
    """Jobs in all states but processing, with errors, results and attempts."""
    now = int(clock())
    queue.enqueue("ok", {"n": {"ä": [1, None, 2**70, "\t\n\0"]}}, job_id="done")
    queue.enqueue("ok", {"n": " text"}, job_id="done-too")
    queue.enqueue("ok", {"n": None}, job_id="done-without-result")
    queue.enqueue("bad", {}, job_id="failed")
    queue.process_jobs(HANDLERS, 1)
    queue.enqueue("bad", {}, job_id="retried")
    queue.process_jobs(HANDLERS, 5)
    queue.enqueue("ok", {"n": 1}, now + 3600, job_id="cancelled")
    queue.cancel_job("cancelled")
    queue.enqueue("ok", {"n": 1}, now + 3600, job_id="later")
    queue.enqueue("ok", {"n": 2}, job_id="due")
    queue.enqueue_many([("ok", {"n": n}, now + n % 3) for n in range(20)])


def jobs_of(queue: Queue) -> dict[str, Job]:
    """The jobs that are there, without notes."""
    return {job.id: job for job in queue.engine.jobs() if departed(job) is None}


# -- what arrives ----------------------------------------------------------------------------------


def test_every_job_arrives_with_all_that_is_known_of_it(
    old: Queue, new: Queue, clock: Clock
) -> None:
    """In all nine columns, whatever its state; what is not completed is gone at the source."""
    fill(old, clock)
    before = jobs_of(old)
    clock.now += 100
    told: list[int] = []
    assert move.move(old.engine, new.engine, told.append) == len(before) == sum(told)
    assert jobs_of(new) == before
    assert set(jobs_of(old)) == {"done", "done-too", "done-without-result"}
    assert move.move(old.engine, new.engine) == 0
    assert jobs_of(new) == before


def test_there_and_back_again(old: Queue, new: Queue, clock: Clock) -> None:
    """The same jobs, with the notes of the first way there and without them."""
    fill(old, clock)
    before = jobs_of(old)
    move.move(old.engine, new.engine)
    move.move(new.engine, old.engine)
    assert jobs_of(old) == before
    finish(old.engine, new.engine, 0)
    assert set(jobs_of(new)) == set(before)
    finish(new.engine, old.engine, 0)
    assert jobs_of(old) == before
    assert old.enqueue("ok", {"n": 2}, job_id="due") == "due"
    with pytest.raises(JobExists):
        old.enqueue("ok", {"n": 3}, job_id="due")


def test_what_was_moved_runs_at_the_target_and_only_there(
    old: Queue, new: Queue, clock: Clock
) -> None:
    """Also what had failed, and is retried after it moved."""
    fill(old, clock)
    move.move(old.engine, new.engine)
    clock.now += 7200
    assert not old.retry_job("failed")
    assert not old.retry_job("due")
    assert old.retry_failed() == []
    assert old.process_jobs(HANDLERS).completed == 0
    assert new.retry_job("failed")
    summary = new.process_jobs(HANDLERS | {"bad": lambda payload: None})
    assert (summary.completed, summary.failed) == (24, 0)


def test_a_job_that_fails_here_and_is_retried_in_time_is_moved(
    old: Queue, new: Queue, clock: Clock
) -> None:
    """A job is not a copy: whichever of `retry` and `migrate` is first, one job is left."""
    old.enqueue("bad", {}, job_id="a")
    old.process_jobs(HANDLERS, 1)
    assert old.retry_job("a")
    move.move(old.engine, new.engine)
    clock.now += 10
    new.process_jobs({"bad": lambda payload: 1})
    # The way back, though the notes of the first way are still there.
    move.move(new.engine, old.engine)
    there = old.find_job("a")
    assert there is not None
    assert (there.status, there.result) == ("completed", 1)


def test_what_has_run_and_been_pruned_does_not_come_again(
    old: Queue, new: Queue, clock: Clock
) -> None:
    """A later run of `migrate` goes by the notes: what is there for certain is not sent again."""
    old.enqueue("ok", {"n": 1})
    move.move(old.engine, new.engine)
    assert new.process_jobs(HANDLERS).completed == 1
    clock.now += 86400
    assert new.prune_jobs(3600) == 1
    assert move.move(old.engine, new.engine) == 0
    assert new.process_jobs(HANDLERS).completed == 0


def test_a_move_that_was_begun_the_other_way_is_ended_first(
    old: Queue, new: Queue, clock: Clock
) -> None:
    """What is on its way from the target could else run at both ends."""
    new.enqueue("ok", {"n": 1}, job_id="a")
    new.engine.withdraw(9, lambda job: note_of(job, old.engine.url))
    with pytest.raises(MigrationError, match=r"job a of .* first end that: dbq migrate "):
        move.move(old.engine, new.engine)
    move.move(new.engine, old.engine)
    move.move(old.engine, new.engine)
    assert new.process_jobs(HANDLERS).completed == 1


def test_a_queue_is_not_moved_into_itself(
    address: str, tmp_path: Path, old: Queue, clock: Clock
) -> None:
    """By whatever other address it is named: its jobs would be taken out again and again."""
    (tmp_path / "link").symlink_to(tmp_path)
    path = old.engine.path
    same = f"{tmp_path}/link/{path.name}" if path else address.replace("redis://", "valkey://")
    new = queue_at(same, clock)
    assert new.engine.url != old.engine.url
    old.enqueue("ok", {"n": 1}, job_id="a")
    for act in (move.move, lambda here, there: finish(here, there, 0)):
        with pytest.raises(MigrationError, match="the two queues are one"):
            act(old.engine, new.engine)
    assert not new.engine.closed_for()
    assert new.process_jobs(HANDLERS).completed == 1


def test_what_a_killed_run_was_moving_elsewhere_is_not_forgotten(
    old: Queue, new: Queue, clock: Clock
) -> None:
    """As where the same server had another address then: all others are moved, and it is told."""
    old.enqueue("ok", {"n": 1}, job_id="a")
    old.engine.withdraw(9, lambda job: note_of(job, "redis://other.example/0"))
    old.enqueue("ok", {"n": 2}, job_id="b")
    assert look(old.engine).jobs["pending"] == 2
    said = r"a job is on the way to redis://other\.example/0 .* dbq migrate .* redis://other\.e"
    for act in (move.move, lambda here, there: finish(here, there, 0)):
        with pytest.raises(MigrationError, match=said):
            act(old.engine, new.engine)
        assert set(jobs_of(new)) == {"b"}
        assert not old.engine.closed_for()


# -- while others go on ----------------------------------------------------------------------------


def test_what_runs_stays_until_it_has_ended(old: Queue, new: Queue, clock: Clock) -> None:
    """It is not moved, `finish` waits for it, and then moves what became of it."""
    old.enqueue("bad", {}, job_id="a")
    clock.now += 600

    def handle(payload: Any) -> None:
        move.move(old.engine, new.engine)
        assert new.find_job("a") is None
        assert look(old.engine).jobs["processing"] == 1
        with pytest.raises(MigrationError, match="is processing a job: stop its workers"):
            finish(old.engine, new.engine, 0)
        raise ValueError("no")

    old.process_jobs({"bad": handle}, 3, backoff=AT_ONCE, limit=1)
    finish(old.engine, new.engine, 0)
    there = new.find_job("a")
    assert there is not None
    assert (there.status, there.attempts) == ("pending", 1)
    assert error_lines(there.error)[0] == "ValueError: no"


def test_the_same_key_at_both_ends_is_one_job(old: Queue, new: Queue, clock: Clock) -> None:
    """Of producers that were switched over one by one; what has run at the target stands."""
    old.enqueue("ok", {"n": 1}, job_id="order-1")
    new.enqueue("ok", {"n": 1}, job_id="order-1")
    new.process_jobs(HANDLERS)
    assert move.move(old.engine, new.engine) == 0
    assert new.process_jobs(HANDLERS).completed == 0
    assert old.process_jobs(HANDLERS).completed == 0
    assert old.enqueue("ok", {"n": 1}, job_id="order-1") == "order-1"
    assert old.process_jobs(HANDLERS).completed == 0


def test_what_comes_later_follows(old: Queue, new: Queue, clock: Clock) -> None:
    """As `--follow` asks each second."""
    move.move(old.engine, new.engine)
    assert move_waiting(old.engine, new.engine) == 0
    old.enqueue_many([("ok", {"n": 1})] * 3)
    assert move_waiting(old.engine, new.engine) == 3
    assert new.process_jobs(HANDLERS).completed == 3


def test_finish_wants_quiet_and_closes(old: Queue, new: Queue, clock: Clock) -> None:
    """While a producer still adds, the queue stays open; closed, it names the new address."""
    old.enqueue("ok", {"n": 1})
    clock.now += 299
    with pytest.raises(MigrationError, match="got a job 299 s ago, so a producer still adds"):
        finish(old.engine, new.engine, 300)
    old.enqueue("ok", {"n": 1})
    clock.now += 300
    finish(old.engine, new.engine, 300)
    assert old.engine.closed_for() == new.engine.url
    with pytest.raises(StorageError, match="moved to"):
        old.enqueue("ok", {"n": 1})
    assert sum(old.count_jobs().values()) == 0
    finish(old.engine, new.engine, 300)  # killed at its end, it is asked again
    assert new.process_jobs(HANDLERS).completed == 2
    move.move(new.engine, old.engine)
    assert old.engine.closed_for() == ""
    assert old.count_jobs()["completed"] == 2


def test_what_comes_while_it_closes_is_waited_for(old: Queue, new: Queue, clock: Clock) -> None:
    """Moved if it waits, named if it runs already; nothing is forgotten before that has ended."""

    class Busy(Mortal):
        def close_for(self, url: str) -> None:
            old.enqueue("ok", {"n": 1}, job_id="begun")
            assert seat.turn() is not None
            old.enqueue("ok", {"n": 1}, job_id="waits")
            old.engine.close_for(url)

    old.enqueue("ok", {"n": 1}, clock() + 60, job_id="later")
    seat = old.engine.seat()
    assert seat is not None
    with pytest.raises(MigrationError, match="is processing a job"):
        finish(Busy(old.engine, [-1]), new.engine, 0)  # type: ignore[arg-type]
    assert sorted(jobs_of(new)) == ["later", "waits"]
    assert old.find_job("later") is not None
    seat.leave()


def test_a_queue_that_was_moved_on_takes_no_jobs(old: Queue, new: Queue, clock: Clock) -> None:
    """Else they would lie where nothing runs."""
    new.enqueue("ok", {"n": 1}, job_id="a")
    new.engine.close_for("redis://10.0.0.9/0")
    with pytest.raises(MigrationError, match=r"was moved to redis://10\.0\.0\.9/0, so"):
        move.move(old.engine, new.engine)
    with pytest.raises(MigrationError, match="the two queues are one"):
        move.move(new.engine, new.engine)


# -- slots -----------------------------------------------------------------------------------------


def mark(engine: Engine, name: str, slot: int) -> None:
    if engine.path is None:
        engine.claim_slot(key_of("shop", name, "*/5 * * * *"), slot, None)
    else:
        with locked(marks_file(engine.path)) as marks:
            marks.all["shop", name] = Mark(slot, "*/5 * * * *")
            marks.save()


def test_a_slot_that_was_had_here_is_not_had_there(old: Queue, new: Queue) -> None:
    """The later of both ends' marks stands, at the target."""
    for queue in (old, new):
        queue.enqueue("ok", {"n": 1})
    mark(old.engine, "a", 600)
    mark(old.engine, "b", 300)
    mark(new.engine, "b", 900)
    carry_slots(old.engine, new.engine)
    carry_slots(new.engine, old.engine)
    for queue in (old, new):
        engine: Engine = open_engine(queue.engine.url)
        assert _slots(engine) == {
            key_of("shop", "a", "*/5 * * * *"): 600,
            key_of("shop", "b", "*/5 * * * *"): 900,
        }


def _slots(engine: Engine) -> dict[str, int]:
    from dbbasic_queue.migrate import slots

    return slots._of_file(engine.path) if engine.path else engine.slots()


# -- keys and pauses -------------------------------------------------------------------------------


def test_a_unique_key_moves_with_its_job(old: Queue, new: Queue, clock: Clock) -> None:
    """At the target it counts as there for as long as it would have at the source, both ways."""
    first = old.enqueue("ok", {"n": 1}, unique="sync-42")
    other = old.enqueue("ok", {"n": 2}, unique="sync-4", unique_until=3600)
    assert old.process_jobs(HANDLERS, limit=1).completed == 1  # the first one
    second = old.enqueue("ok", {"n": 1}, unique="sync-42")
    move.move(old.engine, new.engine)
    for until in ("end", "start", 3600):
        assert new.enqueue("ok", {"n": 3}, unique="sync-42", unique_until=until) == second
    assert new.enqueue("ok", {"n": 3}, unique="sync-4", unique_until=3600) == other
    new.process_jobs(HANDLERS)
    assert new.enqueue("ok", {"n": 3}, unique="sync-4", unique_until=3600) == other
    third = new.enqueue("ok", {"n": 3}, unique="sync-42")
    assert third not in (first, second)
    move.move(new.engine, old.engine)
    assert old.enqueue("ok", {"n": 4}, unique="sync-42") == third


def test_a_pause_holds_at_the_target_before_a_job_is_there(
    old: Queue, new: Queue, clock: Clock
) -> None:
    """With its time, its user and its reason; what runs or is resumed there is left so."""

    class Watched(Mortal):
        def adopt(self, *args: Any, **options: Any) -> Any:
            assert [pause.type for pause in new.paused()] == ["bad", "ok"]
            return new.engine.adopt(*args, **options)

    old.enqueue("ok", {"n": 1}, job_id="a")
    old.pause("ok", until=clock() + 3600, why="the disk is full")
    (told,) = old.paused()
    clock.now += 60
    new.pause("bad", why="of its own")
    move.move(old.engine, Watched(new.engine, [-1]))  # type: ignore[arg-type]
    assert new.paused()[1] == told
    assert new.process_jobs(HANDLERS).completed == 0
    new.resume("ok")
    old.enqueue("ok", {"n": 2}, job_id="b")
    move.move(old.engine, new.engine)  # again, as what was resumed there is not paused anew
    assert [pause.type for pause in new.paused()] == ["bad"]
    assert new.process_jobs(HANDLERS).completed == 2
    assert [pause.type for pause in old.paused()] == ["ok"]  # until the way back is closed
    finish(old.engine, new.engine, 0)
    finish(old.engine, new.engine, 0)
    assert old.paused() == []
    assert [pause.type for pause in new.paused()] == ["bad"]


def history_of(queue: Queue) -> list[tuple[str, int]]:
    return [(hour.type, hour.completed) for hour in queue.history().by_type()]


def test_the_history_goes_along_in_the_end(old: Queue, new: Queue, clock: Clock) -> None:
    """Added to that of the target; what a worker of the source adds later goes the next time."""

    def work(queue: Queue, number: int) -> None:
        queue.enqueue_many([("ok", {"n": n}) for n in range(number)])
        queue.process_jobs(HANDLERS)

    work(old, 3)
    work(new, 2)
    told = old.history()
    move.move(old.engine, new.engine)
    assert (history_of(old), history_of(new)) == ([("ok", 3)], [("ok", 2)])
    finish(old.engine, new.engine, 0)
    assert (history_of(old), history_of(new)) == ([], [("ok", 5)])
    assert {hour.start for hour in told} <= {hour.start for hour in new.history()}
    begun = int(clock())
    old.engine.add_history([("ok", "completed", begun, begun, 7.0)], "late")
    finish(old.engine, new.engine, 0)
    assert (history_of(old), history_of(new)) == ([], [("ok", 6)])
    assert max(hour.ran.most for hour in new.history()) == 7.0
    finish(new.engine, old.engine, 0)
    assert (history_of(old), history_of(new)) == ([("ok", 6)], [])


@pytest.mark.parametrize("there", [False, True], ids=["not-there-yet", "there"])
def test_a_history_on_its_way_is_counted_once(
    old: Queue, new: Queue, clock: Clock, there: bool
) -> None:
    """A mover died in between; the way back brings it to where it was to go, and back."""
    begun = int(clock())
    for queue in (old, new):
        queue.engine.add_history([("ok", "completed", begun, begun, 1.0)], "one")
    moves = old.engine.history_moves()
    moves.take_out("f3")
    if there:
        new.engine.history_moves().adopt("f3", moves.underway()["f3"])
    finish(new.engine, old.engine, 0)
    assert (history_of(old), history_of(new)) == ([("ok", 2)], [])
    finish(old.engine, new.engine, 0)
    finish(old.engine, new.engine, 0)
    assert (history_of(old), history_of(new)) == ([], [("ok", 2)])
    assert old.engine.history_moves().underway() == {}


# -- how much it costs -----------------------------------------------------------------------------


def test_a_server_is_asked_a_few_times_a_job(tmp_path: Path, server: RedisServer) -> None:
    """One that 300 jobs are moved from is given less than nine commands a job."""
    with RedisServer(tmp_path / "server") as own:  # where nothing else is counted
        old, new = Queue(own.url("old"), "normal"), Queue(tmp_path / "queue.tsv", "normal")
        old.enqueue_many([("ok", {"n": n}) for n in range(300)])
        client = redis.Redis(port=own.port)
        before = client.info("stats")["total_commands_processed"]
        assert finish(old.engine, new.engine, 0) == 300
        asked = client.info("stats")["total_commands_processed"] - before
        client.close()
    assert asked < 300 * 9
