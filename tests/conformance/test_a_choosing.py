"""What every engine promises of jobs that are chosen by what they are, and changed together."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest
from actors import Clock

from dbbasic_queue import InvalidJob, Queue, Unsupported
from dbbasic_queue.engines.choice import Choice, choose, chosen
from dbbasic_queue.engines.interface import Engine, Order, Outcome
from dbbasic_queue.engines.verbs import RETRY, Verb, cancel, defer

NOW = int(Clock().now)


def add(engine: Engine, job_id: str, job_type: str = "mail", **payload: object) -> None:
    order = Order(job_id, job_type, json.dumps(payload), int(engine.now()), keyed=True)
    engine.add([order], int(engine.now()))


def end(engine: Engine, status: str, error: str = "", due: int = 0) -> str:
    """Take the next job and end it; returns its id."""
    seat = engine.seat()
    assert seat is not None
    attempt = seat.turn()
    assert attempt is not None
    seat.turn(Outcome(attempt, status, due or int(engine.now()), error), take=False)
    seat.leave()
    return attempt.job.id


def ids(engine: Engine, choice: Choice) -> list[str]:
    return sorted(job.id for job in chosen(engine, choice))


def test_each_filter_chooses(engine: Engine, clock: Clock) -> None:
    """By id, state, type, error, time and payload; what is not asked for does not count."""
    add(engine, "f1", "mail.send", to="zoe", n=1)
    end(engine, "failed", "TimeoutError: no answer\\n  jobs.py:7 in send: ValueError")
    clock.now += 100
    add(engine, "f2", "mail.read", to="ben", ok=True)
    end(engine, "failed", "ValueError: no")
    add(engine, "p1", "report", n="1")
    assert ids(engine, choose()) == ["f1", "f2", "p1"]
    assert ids(engine, choose(ids=["p1", "f2", "gone", "no id\n"])) == ["f2", "p1"]
    assert ids(engine, choose(["failed", "pending"], "mail.*")) == ["f1", "f2"]
    assert ids(engine, choose(job_type=["report", "*.read"])) == ["f2", "p1"]
    assert ids(engine, choose(job_type="mail.read")) == ["f2"]
    assert ids(engine, choose(error="TimeoutError: *answer")) == ["f1"]
    assert ids(engine, choose(error="*ValueError*")) == ["f2"]
    assert ids(engine, choose(error="*")) == ["f1", "f2"]
    assert ids(engine, choose(since=NOW + 50)) == ["f2", "p1"]
    assert ids(engine, choose(until=NOW + 50)) == ["f1"]
    assert ids(engine, choose(where={"to": "zoe"})) == ["f1"]
    assert ids(engine, choose(where={"n": 1})) == ["f1"]
    assert ids(engine, choose(where={"ok": 1})) == []
    assert ids(engine, choose("failed", ids=["f1", "p1"], where={"n": 1})) == ["f1"]
    assert len(ids(engine, choose(limit=2))) == 2
    assert ids(engine, choose(limit=0)) == []


def test_a_time_is_that_of_the_last_change(engine: Engine, clock: Clock) -> None:
    """Of a job that has ended, when it ended; of one that waits, when it was added."""
    add(engine, "f1")
    clock.now += 100
    end(engine, "failed", "ValueError: no")
    assert ids(engine, choose(since=NOW + 50)) == ["f1"]
    assert ids(engine, choose(until=NOW + 50)) == []


def test_many_are_put_back_by_what_they_are(engine: Engine, clock: Clock) -> None:
    """Those that are chosen, and only those that can be; as they are then."""
    for number in range(4):
        add(engine, f"m{number}", "mail", n=number)
        end(engine, "failed", "E: even" if number % 2 == 0 else "E: odd")
    add(engine, "waits")
    clock.now += 5
    choice = choose(error="E: even")
    before = sorted(engine.act(RETRY, choice, dry_run=True))
    assert [(job.id, job.status) for job in before] == [("m0", "failed"), ("m2", "failed")]
    assert engine.counts()["failed"] == 4
    done = sorted(engine.act(RETRY, choice))
    assert [job.id for job in done] == ["m0", "m2"]
    assert done[0] == engine.find("m0")
    assert done[0][3:] == ("pending", NOW, NOW + 5, 0, None, None)
    assert engine.act(RETRY, choice) == []
    assert len(engine.act(RETRY, choose("failed", limit=1))) == 1
    assert engine.counts()["failed"] == 1


def test_what_waits_for_its_next_attempt_is_due_now(engine: Engine) -> None:
    """Its attempts and its error are kept; what is due, or was never tried, is left alone."""
    add(engine, "again")
    end(engine, "pending", "E: no", due=NOW + 500)
    add(engine, "fresh")
    engine.act(defer(NOW + 500), choose(ids=["fresh"]))
    assert engine.retry("again") is True
    job = engine.find("again")
    assert job is not None
    assert (job.status, job.run_at, job.attempts, job.error) == ("pending", NOW, 1, "E: no")
    assert engine.retry("again") is engine.retry("fresh") is False
    assert end(engine, "completed") == "again"


def test_what_waits_is_put_off_and_brought_forward(engine: Engine, clock: Clock) -> None:
    """A job begins at its new time, not before; one that runs or has ended is left alone."""
    add(engine, "a1")
    add(engine, "b2")
    assert end(engine, "completed") == "a1"
    done = engine.act(defer(NOW + 60), choose(ids=["a1", "b2"]))
    assert [(job.id, job.run_at) for job in done] == [("b2", NOW + 60)]
    seat = engine.seat()
    assert seat is not None
    assert seat.turn() is None
    engine.act(defer(NOW), choose(job_type="mail"))
    seat.leave()
    assert end(engine, "completed") == "b2"


@pytest.mark.parametrize("number", [1, 25])
def test_what_is_named_by_ids_is_changed(engine: Engine, number: int) -> None:
    """However many; an id that there is not is passed over."""
    names = [f"j{n}" for n in range(number)]
    for name in [*names, "other"]:
        add(engine, name)
    done = engine.act(cancel("no more"), choose(ids=[*names, "gone", "no id\n", names[0]]))
    assert [job.id for job in done] == names
    assert engine.counts()["cancelled"] == number
    assert engine.counts()["pending"] == 1


def test_what_changed_since_it_was_found_is_left_alone(engine: Engine) -> None:
    """What is meant is asked again in the step that changes it."""
    add(engine, "a1")
    add(engine, "b2")
    asked: list[str] = []

    def apply(job: object, now: int) -> object:
        verb = cancel("no more")
        if len(asked) < 2:  # as the jobs are looked for
            asked.append("")
            if len(asked) == 2:
                assert end(engine, "completed") == "a1"
        return verb.apply(job, now)  # type: ignore[arg-type]

    done = engine.act(Verb(("pending",), apply), choose())  # type: ignore[arg-type]
    assert [job.id for job in done] == ["b2"]
    job = engine.find("a1")
    assert job is not None
    assert job.status == "completed"


def test_a_job_that_has_moved_is_not_put_back(engine: Engine) -> None:
    """It is elsewhere, also when many are put back."""
    add(engine, "a1")
    engine.cancel("a1", f"Moved to X (was pending, {NOW})")
    assert engine.act(RETRY, choose("cancelled")) == []


def test_what_is_chosen_is_pruned(queue: Queue) -> None:
    """By type, payload and number; the others stay."""
    for number in range(4):
        queue.enqueue("ok" if number % 2 else "other", {"n": number}, job_id=f"j{number}")
    queue.process_jobs({"ok": lambda payload: None, "other": lambda payload: None})
    assert queue.prune_jobs(0, dry_run=True, job_type="o*r") == 2
    assert queue.prune_jobs(0, where={"n": 1}) == 1
    assert queue.prune_jobs(0, job_type="other", limit=1) == 1
    assert queue.prune_jobs(0, ids=["j3", "gone"]) == 1
    assert queue.prune_jobs(1000, job_type="other") == 0
    assert queue.count_jobs()["completed"] == 1


def test_the_methods_of_a_queue_take_the_filters(queue: Queue) -> None:
    """`list_jobs`, `retry_jobs`, `cancel_jobs` and `defer_jobs`, with the same keywords."""
    for number in range(3):
        queue.enqueue("bad" if number else "later", {"n": number}, job_id=f"j{number}")
    assert queue.defer_jobs(2_000_000_000, "l*") == ["j0"]
    assert queue.defer_job("j0", 2_000_000_001) is True
    assert queue.defer_job("gone", 2_000_000_001) is False
    queue.process_jobs({"bad": lambda payload: 1 // 0}, max_attempts=1)
    assert [job["id"] for job in queue.list_jobs(error="ZeroDivisionError*", limit=1)] == ["j1"]
    assert queue.retry_jobs(where={"n": 2}, dry_run=True) == ["j2"]
    assert queue.retry_jobs(where={"n": 2}) == ["j2"]
    assert queue.cancel_jobs(job_type=["bad", "none"]) == ["j2"]
    assert sorted(job["status"] for job in queue.list_jobs()) == ["cancelled", "failed", "pending"]
    with pytest.raises(ValueError, match="status 'done'"):
        queue.list_jobs("done")
    with pytest.raises(ValueError, match="limit -1"):
        queue.cancel_jobs(limit=-1)
    with pytest.raises(ValueError, match="since: run_at 'x'"):
        queue.retry_jobs(since="x")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="this datetime has no time zone"):
        queue.cancel_jobs(until=datetime(2099, 1, 1))
    assert queue.cancel_jobs(until=datetime(2001, 1, 1, tzinfo=UTC)) == []
    with pytest.raises(TypeError):
        queue.retry_jobs(sinse=5)  # type: ignore[call-arg]


def test_a_job_is_waited_for(queue: Queue, address: str) -> None:
    """Until it has ended, or until the time is up; at once for one that has, or is not there."""
    job_id = queue.enqueue("ok", {})
    job = queue.wait(job_id, timeout=0)
    assert job is not None
    assert job["status"] == "pending"

    def work() -> None:
        Queue(address, "normal").process_jobs({"ok": lambda payload: "done"})

    worker = threading.Thread(target=work)
    worker.start()
    job = queue.wait(job_id, timeout=60)
    worker.join()
    assert job is not None
    assert (job["status"], job["result"]) == ("completed", "done")
    assert queue.wait(job_id) == queue.get_job(job_id)
    assert queue.wait("gone") is None
    with pytest.raises(ValueError, match="timeout -1"):
        queue.wait(job_id, -1)


def test_a_job_is_put_back_with_another_payload(queue: Queue) -> None:
    """Some keys of it are others, in one step; what does not fit changes nothing."""
    for job_id in ("a1", "b2", "c3"):
        queue.enqueue("mail", {"to": "zoe", "n": 1}, job_id=job_id)
    queue.process_jobs({"mail": lambda payload: 1 // 0}, max_attempts=1)
    seat = queue.engine.seat()
    assert seat is not None
    assert queue.retry_job("b2", {"to": "ben", "more": [1]}) is True
    assert queue.retry_job("b2", {"to": "eve"}) is False
    with pytest.raises(InvalidJob, match="job a1: payload"):
        queue.retry_jobs(changes={"to": float("nan")})
    assert queue.count_jobs()["failed"] == 2
    seat.leave()
    got: list[object] = []
    assert queue.process_jobs({"mail": got.append}).completed == 1
    assert got == [{"to": "ben", "n": 1, "more": [1]}]
    assert queue.retry_jobs(limit=1, changes={"n": 2}) == ["a1"]
    assert [job["payload"] for job in queue.list_jobs("pending")] == [{"to": "zoe", "n": 2}]


def test_a_queue_is_backed_up_where_it_is_a_file(queue: Queue, tmp_path: Path) -> None:
    """Elsewhere that is said, with what to do instead."""
    queue.enqueue("mail", {}, job_id="a1")
    if queue.engine.path is not None:
        assert queue.backup(tmp_path / "b.tar") > 0
        assert queue.restore(tmp_path / "b.tar").jobs["pending"] == 1
        return
    for verb in (queue.backup, queue.restore):
        with pytest.raises(Unsupported, match="its server has backups of its own"):
            verb(tmp_path / "b.tar")
