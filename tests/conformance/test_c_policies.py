"""C: how the jobs of a type are treated, where that differs from all others."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import pytest
from actors import AT_ONCE, Clock, die, in_child, queue_by

from dbbasic_queue import Backoff, Policy, Queue, Rate, current_job
from dbbasic_queue.engines import open_engine
from dbbasic_queue.engines.answers import Limits
from dbbasic_queue.engines.interface import Attempt, Engine, Outcome, Policies, Seat
from dbbasic_queue.engines.tsv import gate


def fail(payload: Any) -> None:
    raise ValueError("no such user")


def attempts(queue: Queue) -> dict[str, tuple[str, int]]:
    """State and attempts of the one job of each type."""
    return {job["type"]: (job["status"], job["attempts"]) for job in queue.list_jobs()}


def test_attempts_and_backoff_by_type(queue: Queue) -> None:
    """A type's own count, those of the run for all others; what it does not say, too."""
    queue.enqueue_many([("mail", {}), ("mail.slow", {}), ("report", {})])
    policies = {
        "mail": Policy(max_attempts=2),
        "mail.*": Policy(max_attempts=3, backoff=AT_ONCE),
        "*": Policy(max_attempts=1),
    }
    handlers = dict.fromkeys(("mail", "mail.slow", "report"), fail)
    for _ in range(4):
        queue.process_jobs(handlers, 1, backoff=AT_ONCE, policies=policies)
    assert attempts(queue) == {
        "mail": ("failed", 2),
        "mail.slow": ("failed", 3),
        "report": ("failed", 1),
    }


def test_a_backoff_by_type(queue: Queue) -> None:
    """The next attempt is when the type's own backoff says."""
    queue.enqueue_many([("mail", {}), ("report", {})])
    before = queue.now()
    policies = {"mail": Policy(backoff=Backoff(base=1000, factor=3))}
    queue.process_jobs({"mail": fail, "report": fail}, policies=policies)
    mail, report = sorted(queue.list_jobs(), key=lambda job: job["type"])
    assert 3000 <= mail["run_at"] - before <= 3060
    assert 120 <= report["run_at"] - before <= 180


def test_a_dead_worker_s_job_goes_by_its_type(address: str, queue: Queue) -> None:
    """It is failed when it has had the attempts of its type, and waits for its type's backoff."""
    queue.enqueue_many([("mail", {}), ("report", {})])

    def begin_and_die() -> None:
        seat = open_engine(address, "normal").seat()
        assert seat is not None
        seat.turn()
        die()

    for _ in range(2):
        assert in_child(begin_and_die) < 0
    policies = {"mail": Policy(max_attempts=1), "report": Policy(backoff=Backoff(1000))}
    before = queue.now()
    assert queue.process_jobs({}, types=[], policies=policies).rescued == 2
    mail, report = sorted(queue.list_jobs(), key=lambda job: job["type"])
    assert (mail["status"], report["status"]) == ("failed", "pending")
    assert 2000 <= report["run_at"] - before <= 2060


def test_a_timeout_by_type(queue: Queue) -> None:
    """A type has its own time, in place of that of the run."""
    queue.enqueue_many([("quick", {}), ("long", {})])
    handlers = {"quick": lambda payload: time.sleep(60), "long": lambda payload: time.sleep(1.2)}
    policies = {"quick": Policy(timeout=0.2), "long": Policy(timeout=60)}
    assert queue.process_jobs(handlers, timeout=1, policies=policies).completed == 1
    (job,) = queue.list_jobs("pending")
    assert job["type"] == "quick"
    assert job["error"].startswith("JobTimeout: ")


@pytest.mark.parametrize(
    "policy",
    [Policy(max_attempts=0), Policy(timeout=0), Policy(timeout=True), {"max_attempts": 5}],
    ids=["attempts", "timeout", "bool", "dict"],
)
def test_a_policy_that_makes_no_sense(queue: Queue, policy: Any) -> None:
    """It is refused before a job is begun."""
    queue.enqueue("mail", {})
    with pytest.raises(ValueError, match="mail"):
        queue.process_jobs({"mail": bool}, policies={"mail": policy})
    assert queue.count_jobs()["pending"] == 1


# -- priorities ------------------------------------------------------------------------------------


def begun(queue: Queue, policies: dict[str, Policy], **options: Any) -> list[str]:
    """The types of the jobs that a worker runs, in their order."""
    order: list[str] = []

    def note(payload: Any) -> None:
        job = current_job()
        assert job is not None
        order.append(job.type)

    types = {job["type"] for job in queue.list_jobs()}
    queue.process_jobs(dict.fromkeys(types, note), policies=policies, **options)
    return order


def test_the_highest_priority_goes_first(queue: Queue) -> None:
    """Among what is due; what is due later does not hold up what is due now."""
    queue.enqueue_many([("report", {}), ("mail", {}), ("news", {}), ("mail", {}), ("alarm", {})])
    queue.enqueue("alarm", {}, run_at=queue.now() + 3600)
    policies = {
        "alarm": Policy(priority=20),
        "mail": Policy(priority=10),
        "n*": Policy(priority=-1),
    }
    assert begun(queue, policies) == ["alarm", "mail", "mail", "report", "news"]
    assert queue.count_jobs()["pending"] == 1


def test_what_comes_meanwhile_goes_first(queue: Queue) -> None:
    """A job of a higher priority that is added while the worker works is next."""
    queue.enqueue_many([("report", {}), ("report", {})])
    order: list[str] = []

    def report(payload: Any) -> None:
        order.append("report")
        if len(order) == 1:
            queue.enqueue("alarm", {})

    handlers = {"report": report, "alarm": lambda payload: order.append("alarm")}
    queue.process_jobs(handlers, policies={"alarm": Policy(priority=1)})
    assert order == ["report", "alarm", "report"]


def test_a_pause_with_priorities(queue: Queue) -> None:
    """What is paused is passed over, and is first again after that."""
    queue.enqueue_many([("report", {}), ("mail", {})])
    queue.pause("mail")
    policies = {"mail": Policy(priority=10)}
    assert begun(queue, policies) == ["report"]
    queue.resume()
    assert begun(queue, policies) == ["mail"]


def test_only_some_types_with_priorities(queue: Queue) -> None:
    """A worker leaves the types to others that it does not take, whatever their priority."""
    queue.enqueue_many([("mail", {}), ("report", {})])
    assert begun(queue, {"mail": Policy(priority=9)}, types=["report"]) == ["report"]
    assert begun(queue, {"mail": Policy(priority=9)}) == ["mail"]


def test_a_failed_job_comes_again_with_priorities(queue: Queue) -> None:
    """A retry is due at its time, in its lane."""
    queue.enqueue_many([("mail", {}), ("report", {})])
    handlers = {"mail": fail, "report": fail}
    policies = {"report": Policy(priority=9)}
    queue.process_jobs(handlers, 3, backoff=AT_ONCE, policies=policies)
    assert attempts(queue) == {"mail": ("failed", 3), "report": ("failed", 3)}


# -- expiry ----------------------------------------------------------------------------------------


def test_a_job_that_no_worker_began_in_time_is_cancelled(address: str, clock: Clock) -> None:
    """From when it was due; its error says so, and the other types are run."""
    queue = queue_by(clock, address)
    now = int(clock.now)
    queue.enqueue_many([("code", {}), ("report", {})])
    queue.enqueue("code", {}, run_at=now + 50, job_id="later")
    clock.now += 100
    policies = {"code": Policy(expires=60)}
    assert sorted(begun(queue, policies)) == ["code", "report"]
    (job,) = queue.list_jobs("cancelled")
    assert job["type"] == "code"
    assert job["attempts"] == 0
    assert job["error"] == "Expired: not begun within 1min"
    assert queue.get_job("later")["status"] == "completed"


def test_a_job_that_was_begun_once_does_not_expire(address: str, clock: Clock) -> None:
    """It waits for its next attempt, however long that takes."""
    queue = queue_by(clock, address)
    queue.enqueue("code", {})
    policies = {"code": Policy(expires=60, backoff=Backoff(base=1000))}
    queue.process_jobs({"code": fail}, policies=policies)
    clock.now += 10_000
    assert begun(queue, policies) == ["code"]


def test_many_expired_jobs(address: str, clock: Clock) -> None:
    """One drain cancels them all, and runs what is left."""
    queue = queue_by(clock, address)
    queue.enqueue_many([("code", {})] * 1200)
    queue.enqueue("report", {})
    clock.now += 100
    policies = {"code": Policy(expires=60, priority=5)}
    assert begun(queue, policies) == ["report"]
    assert queue.count_jobs()["cancelled"] == 1200


def test_what_is_paused_does_not_expire_before_it_is_resumed(address: str, clock: Clock) -> None:
    """A pause leaves jobs as they are; then their time counts."""
    queue = queue_by(clock, address)
    queue.enqueue("code", {})
    queue.pause()
    clock.now += 100
    assert begun(queue, {"code": Policy(expires=60)}) == []
    assert queue.count_jobs()["pending"] == 1
    queue.resume()
    assert begun(queue, {"code": Policy(expires=60)}) == []
    assert queue.count_jobs()["cancelled"] == 1


# -- limits ----------------------------------------------------------------------------------------

LIMITED = Policies({"mail": Policy(concurrency=1)})


def sit(engine: Engine, policies: Policies = LIMITED) -> Seat:
    seat = engine.seat()
    assert seat is not None
    seat.govern(policies)
    return seat


def end(attempt: Attempt) -> Outcome:
    return Outcome(attempt, "completed", 1_700_000_000)


def test_no_more_at_once_than_the_limit(address: str, queue: Queue) -> None:
    """Another worker begins other types meanwhile, and this one when the first has ended."""
    queue.enqueue_many([("mail", {}), ("mail", {}), ("report", {})])
    first, second = sit(open_engine(address, "normal")), sit(open_engine(address, "normal"))
    mail = first.turn(types=["mail"])
    assert mail is not None
    other = second.turn()
    assert other is not None
    assert other.job.type == "report"
    assert second.turn(end(other)) is None
    again = first.turn(end(mail))
    assert again is not None
    assert again.job.type == "mail"
    assert second.turn() is None
    assert first.turn(end(again)) is None
    first.leave()
    second.leave()
    assert queue.count_jobs()["completed"] == 3


def test_another_worker_goes_on_when_there_is_room(address: str, queue: Queue) -> None:
    """What was at its limit is tried again soon, by a worker that waits."""
    queue.enqueue_many([("mail", {}), ("mail", {})])
    first, second = sit(open_engine(address, "normal")), sit(open_engine(address, "normal"))
    mail = first.turn()
    assert mail is not None
    assert second.turn() is None
    first.turn(end(mail), False)
    first.leave()
    attempt = None
    while attempt is None:
        second.wait(60)
        attempt = second.turn()
    assert attempt.job.type == "mail"
    second.turn(end(attempt))
    second.leave()


def test_a_place_that_is_free_again_is_not_waited_for(
    address: str, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that waits takes it when the job has ended, not when it looks again by itself."""
    monkeypatch.setattr(gate, "LOOK_AGAIN", 3600)
    if address.startswith("redis"):
        from dbbasic_queue.engines.redis import seat as on_server

        monkeypatch.setattr(on_server, "LOOK_AGAIN", 3600)
    queue.enqueue_many([("mail", {}), ("mail", {}), ("report", {})])
    first, second = sit(open_engine(address, "normal")), sit(open_engine(address, "normal"))
    mail = first.turn(types=["mail"])
    assert mail is not None
    assert second.turn(types=["mail"]) is None
    report = first.turn(end(mail), types=["report"])
    assert report is not None
    assert second.wait(60)
    attempt = second.turn(types=["mail"])
    assert attempt is not None
    second.turn(end(attempt), False)
    first.turn(end(report), False)
    first.leave()
    second.leave()


def test_each_type_of_a_glob_has_its_own_limit(address: str, queue: Queue) -> None:
    """A glob stands for several types, not for one."""
    queue.enqueue_many([("a.x", {}), ("a.y", {}), ("a.x", {})])
    policies = Policies({"a.*": Policy(concurrency=1)})
    seats = [sit(open_engine(address, "normal"), policies) for _ in range(3)]
    attempts = [seat.turn() for seat in seats]
    assert [attempt and attempt.job.type for attempt in attempts] == ["a.x", "a.y", None]
    for seat, attempt in zip(seats, attempts, strict=True):
        seat.turn(attempt and end(attempt), False)
        seat.leave()


def test_a_dead_worker_holds_no_limit(address: str, queue: Queue) -> None:
    """Another job of its type is begun as soon as its own has been taken back."""
    queue.enqueue_many([("mail", {}), ("mail", {})])

    def begin_and_die() -> None:
        sit(open_engine(address, "normal")).turn()
        die()

    assert in_child(begin_and_die) < 0
    seat = sit(open_engine(address, "normal"))
    assert len(seat.rescue(3, lambda attempts: 1000)) == 1
    attempt = seat.turn()
    assert attempt is not None
    seat.turn(end(attempt))
    seat.leave()


def test_a_job_that_has_ended_holds_no_limit_while_all_is_paused(
    address: str, queue: Queue
) -> None:
    """Its worker begins nothing then, and another may begin the next job after the pause."""
    queue.enqueue_many([("mail", {}), ("mail", {})])
    first, second = sit(open_engine(address, "normal")), sit(open_engine(address, "normal"))
    mail = first.turn()
    assert mail is not None
    queue.pause()
    assert first.turn(end(mail)) is None
    queue.resume()
    attempt = second.turn()
    assert attempt is not None
    second.turn(end(attempt), False)
    first.leave()
    second.leave()


def test_a_limit_holds_for_what_goes_first(address: str, queue: Queue) -> None:
    """A type of the highest priority that is at its limit does not hold up the others."""
    queue.enqueue_many([("mail", {})] * 3 + [("report", {})] * 2)
    policies = Policies({"mail": Policy(concurrency=1, priority=9)})
    first = sit(open_engine(address, "normal"), policies)
    second = sit(open_engine(address, "normal"), policies)
    begun = [seat.turn() for seat in (first, second)]
    assert [attempt and attempt.job.type for attempt in begun] == ["mail", "report"]
    for seat, attempt in zip((first, second), begun, strict=True):
        seat.turn(attempt and end(attempt), False)
        seat.leave()


# -- rates -----------------------------------------------------------------------------------------

HOUR = 3600
HOURLY = Policies({"mail": Policy(rate=Rate(1, HOUR))})


def types_of(seat: Seat, most: int = 100) -> list[str]:
    """The types of the jobs that a worker begins at once; each ends then."""
    found: list[str] = []
    attempt = seat.turn()
    while attempt is not None and len(found) < most:
        found.append(attempt.job.type)
        attempt = seat.turn(end(attempt))
    return found


def rated(clock: Clock, address: str, policies: Policies = HOURLY) -> Seat:
    """A worker by these policies, with an engine and a connection of its own."""
    return sit(open_engine(address, "normal", clock=clock), policies)


def test_no_more_in_a_time_than_the_rate(address: str, clock: Clock) -> None:
    """All workers together; other types are begun meanwhile, and this one when it is time."""
    queue_by(clock, address).enqueue_many([("mail", {})] * 4 + [("report", {})])
    seats = [rated(clock, address) for _ in range(2)]
    assert [types_of(seat) for seat in seats] == [["mail", "report"], []]
    clock.now += HOUR - 0.001
    assert [types_of(seat) for seat in seats] == [[], []]
    clock.now += 0.001
    assert [types_of(seat) for seat in reversed(seats)] == [["mail"], []]
    for seat in seats:
        seat.leave()
    seat = rated(clock, address)
    assert types_of(seat) == []
    clock.now += HOUR
    assert types_of(seat) == ["mail"]
    seat.leave()


def test_a_burst(address: str, clock: Clock) -> None:
    """So many at once after a time without any, and no more than that after a longer one."""
    queue_by(clock, address).enqueue_many([("mail", {})] * 20)
    policies = Policies({"mail": Policy(rate=Rate(6, HOUR, burst=3))})
    seats = [rated(clock, address, policies) for _ in range(2)]
    counts = []
    for later in (0, 600, 500, 100, 1200, 100 * HOUR):
        clock.now += later
        counts.append([len(types_of(seat)) for seat in seats])
    assert counts == [[3, 0], [1, 0], [0, 0], [1, 0], [2, 0], [3, 0]]
    for seat in seats:
        seat.leave()


def test_each_type_of_a_glob_has_its_own_rate(address: str, clock: Clock) -> None:
    """A glob stands for several types, not for one."""
    queue_by(clock, address).enqueue_many([("a.x", {}), ("a.y", {}), ("a.x", {})])
    seat = rated(clock, address, Policies({"a.*": Policy(rate=Rate(1, HOUR))}))
    assert types_of(seat) == ["a.x", "a.y"]
    seat.leave()


def test_each_attempt_counts_for_the_rate(address: str, clock: Clock) -> None:
    """A job that is tried again waits like any other; it may have been a dead worker's."""
    queue_by(clock, address).enqueue("mail", {})

    def begin_and_die() -> None:
        rated(clock, address).turn()
        die()

    assert in_child(begin_and_die) < 0
    seat = rated(clock, address)
    assert len(seat.rescue(3, AT_ONCE)) == 1
    assert types_of(seat) == []
    clock.now += HOUR
    assert types_of(seat) == ["mail"]
    seat.leave()


def test_a_clock_that_is_put_back_neither_stops_a_type_nor_gives_it_more(
    address: str, clock: Clock
) -> None:
    """From then on the next is begun after the time of one job, by this worker or another."""
    queue_by(clock, address).enqueue_many([("mail", {}, 1)] * 6)
    policies = Policies({"mail": Policy(rate=Rate(4, HOUR, burst=2))})
    seats = [rated(clock, address, policies) for _ in range(2)]
    assert types_of(seats[0]) == ["mail"] * 2
    clock.now -= 1000 * HOUR
    for later, count in ((0, 0), (899, 0), (1, 1), (0, 0), (899, 0), (1, 1)):
        clock.now += later
        assert sum(len(types_of(seat)) for seat in seats) == count
    for seat in seats:
        seat.leave()


def test_a_rate_that_is_another_now(address: str, clock: Clock) -> None:
    """What the slower one was used up for does not hold up the quicker one."""
    queue_by(clock, address).enqueue_many([("mail", {})] * 2)
    seat = rated(clock, address, Policies({"mail": Policy(rate=Rate(1, 300 * 24 * HOUR))}))
    assert types_of(seat) == ["mail"]
    seat.leave()
    seat = rated(clock, address)
    assert types_of(seat) == []
    clock.now += HOUR
    assert types_of(seat) == ["mail"]
    seat.leave()


def test_a_rate_with_a_limit_and_a_priority(address: str, clock: Clock) -> None:
    """A type that waits for its rate does not hold up others, nor keep its limit for itself."""
    queue = queue_by(clock, address)
    queue.enqueue_many([("mail", {})] * 3 + [("report", {})] * 2)
    policies = Policies({"mail": Policy(rate=Rate(1, HOUR), concurrency=1, priority=9)})
    first, second = rated(clock, address, policies), rated(clock, address, policies)
    assert types_of(first) == ["mail", "report", "report"]
    clock.now += HOUR
    assert types_of(second) == ["mail"]
    assert types_of(first) == []
    clock.now += HOUR
    assert types_of(first) == ["mail"]
    first.leave()
    second.leave()


def test_a_job_that_is_not_begun_does_not_count(address: str, clock: Clock) -> None:
    """One that has expired is cancelled, and the next is begun in its place."""
    queue = queue_by(clock, address)
    queue.enqueue("mail", {})
    clock.now += 100
    queue.enqueue("mail", {})
    seat = rated(clock, address, Policies({"mail": Policy(rate=Rate(1, HOUR), expires=60)}))
    assert types_of(seat) == ["mail"]
    seat.leave()
    assert queue.count_jobs()["cancelled"] == 1


def test_a_worker_that_waits_begins_the_next_in_time(address: str, queue: Queue) -> None:
    """It sleeps until the rate has one, and does not ask for a job again and again."""
    queue.enqueue_many([("mail", {})] * 3)
    seat = sit(open_engine(address, "normal"), Policies({"mail": Policy(rate=Rate(4, 1))}))
    found: list[str] = []
    turns = 0
    while len(found) < 3:
        found += types_of(seat)
        seat.wait(60)
        turns += 1
    assert turns < 30
    seat.leave()


AGE = 300  # seconds from which on a job that is due is overdue


def overdue(clock: Clock, address: str, policies: Policies) -> dict[str, int]:
    """How many jobs the health check counts, and of which types those are that it names."""
    now = int(clock.now)
    engine = open_engine(address, "normal", clock=clock)
    found = engine.snapshot(Limits(now, 0, now - AGE, 0, 9, policies))
    assert found.overdue == len(found.overdue_jobs)
    return dict(Counter(job.type for job in found.overdue_jobs))


def test_what_waits_for_its_rate_is_not_overdue(address: str, clock: Clock) -> None:
    """Until its rate has had one left for as long as makes a job overdue, and no worker came."""
    policies = Policies({"mail": Policy(rate=Rate(3, 3 * HOUR, burst=2))})
    seat = rated(clock, address, policies)
    queue_by(clock, address).enqueue_many([("mail", {})] * 4 + [("report", {})])
    assert sorted(types_of(seat)) == ["mail", "mail", "report"]
    queue_by(clock, address).enqueue("report", {})
    clock.now += HOUR - 1
    assert overdue(clock, address, policies) == {"report": 1}
    clock.now += AGE
    assert overdue(clock, address, policies) == {"report": 1}  # it has one left for 299 seconds
    clock.now += 2
    assert overdue(clock, address, policies) == {"report": 1, "mail": 2}
    assert sorted(types_of(seat)) == ["mail", "report"]
    assert overdue(clock, address, policies) == {}
    seat.leave()


def test_a_rate_that_the_health_check_does_not_know(address: str, clock: Clock) -> None:
    """Of a policy in Python only: what has used it up tells, and what was not begun is overdue."""
    policies = Policies({"mail": Policy(rate=Rate(1, HOUR)), "slow": Policy(rate=Rate(1, HOUR))})
    seat = rated(clock, address, policies)
    queue_by(clock, address).enqueue_many([("mail", {})] * 2)
    assert types_of(seat) == ["mail"]
    queue_by(clock, address).enqueue("slow", {})
    clock.now += HOUR
    assert overdue(clock, address, Policies()) == {"slow": 1}
    clock.now += AGE + 1
    assert overdue(clock, address, Policies()) == {"slow": 1, "mail": 1}
    seat.leave()


def test_what_waits_for_its_limit_is_not_overdue(address: str, clock: Clock) -> None:
    """While as many run as may; with a place that is free, its workers are late."""
    policies = Policies({"mail*": Policy(concurrency=2)})
    first, second = (rated(clock, address, policies) for _ in range(2))
    queue = queue_by(clock, address)
    queue.enqueue_many([("mail", {})] * 4 + [("mail.other", {})])
    one, two = first.turn(), second.turn()
    assert one is not None
    assert two is not None
    clock.now += AGE + 1
    assert overdue(clock, address, policies) == {"mail.other": 1}
    first.turn(end(one), types=[])
    assert overdue(clock, address, policies) == {"mail.other": 1, "mail": 2}
    first.leave()
    second.leave()


@pytest.mark.parametrize(
    "rate",
    ["100/min", 5, Rate(0, 60), Rate(1, 0), Rate(5, 60, 6), Rate(True, 60), Rate(1, 0.5)],  # type: ignore[arg-type]
    ids=["text", "number", "none", "no time", "burst", "bool", "float"],
)
def test_a_rate_that_makes_no_sense(queue: Queue, rate: Any) -> None:
    """It is refused before a job is begun."""
    queue.enqueue("mail", {})
    with pytest.raises(ValueError, match="mail"):
        queue.process_jobs({"mail": bool}, policies={"mail": Policy(rate=rate)})
    assert queue.count_jobs()["pending"] == 1
