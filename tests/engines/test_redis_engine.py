"""What is true of a queue on a server only: leases, durability, lost servers, RQ's own tools."""

from __future__ import annotations

import contextlib
import gc
import itertools
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from actors import AT_ONCE, Clock, leave_all, queue_by, sit
from redis_server import RedisServer, contents, free_port

from dbbasic_queue import ConfigError, JobExists, Policy, Queue, Rate, StorageError
from dbbasic_queue.engines import open_engine
from dbbasic_queue.engines.answers import Limits
from dbbasic_queue.engines.interface import Engine, Order, Outcome, Policies
from dbbasic_queue.engines.pausing import Pause
from dbbasic_queue.engines.redis.lease import Lease
from dbbasic_queue.engines.redis.transitions import Found, Terms
from dbbasic_queue.rate import MICROS

_names = (f"e{os.getpid()}-{number}" for number in itertools.count(1))


@pytest.fixture
def address(server: RedisServer) -> str:
    """A queue on the server that has no jobs yet."""
    return server.url(next(_names))


@pytest.fixture(autouse=True)
def left() -> Iterator[None]:
    """Each place that `sit` has taken is left."""
    yield
    leave_all()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def engine(address: str, clock: Clock) -> Engine:
    return open_engine(address, "normal", clock=clock)


def order(job_id: str, job_type: str = "mail", due: int = int(Clock().now)) -> Order:
    return Order(job_id, job_type, "{}", due, False)


def status(engine: Engine, job_id: str = "a1") -> tuple[str, int, str | None]:
    job = engine.find(job_id)
    assert job is not None
    return job.status, job.attempts, job.error


# -- pauses ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("answered", [True, False], ids=["answered", "lost"])
def test_a_pause_between_the_look_and_the_transaction(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, answered: bool
) -> None:
    """A job that was seen before its type was paused is put back, its attempt not counted."""
    engine.add([order("a1")], int(Clock().now))
    seat = sit(engine)
    transitions: Any = seat._transitions
    begin, change = transitions.begin, transitions.change

    def late(*args: Any) -> Any:
        engine.pause([Pause("mail", int(Clock().now))])
        return begin(*args)

    monkeypatch.setattr(transitions, "begin", late)
    if not answered:
        monkeypatch.setattr(
            transitions, "change", lambda *args, done=len, **more: change(*args, **more)
        )
    assert seat.turn() is None
    assert status(engine) == ("pending", 0, None)
    engine.resume(["*"])
    monkeypatch.undo()
    attempt = seat.turn()
    assert attempt is not None
    assert (attempt.job.id, attempt.job.attempts) == ("a1", 1)
    seat.leave()


def test_a_limit_that_was_reached_since_the_look(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The transaction counts the running jobs of the type once more."""
    engines = [open_engine(address, "normal", clock=Clock()) for _ in range(2)]
    engines[0].add([order("a1"), order("b2")], int(Clock().now))
    seats = [sit(engine) for engine in engines]
    for seat in seats:
        seat.govern(Policies({"mail": Policy(concurrency=1)}))
    transitions: Any = seats[0]._transitions
    begin, begun = transitions.begin, []

    def late(*args: Any) -> Any:
        if not begun:
            begun.append(seats[1].turn())
        return begin(*args)

    monkeypatch.setattr(transitions, "begin", late)
    assert seats[0].turn() is None
    assert begun[0] is not None
    for seat in seats:
        seat.leave()


def test_a_rate_that_was_used_up_since_the_look(
    address: str, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The transaction looks once more at what is left of it."""
    engines = [open_engine(address, "normal", clock=clock) for _ in range(2)]
    engines[0].add([order("a1"), order("b2"), order("c3")], int(clock.now))
    seats = [sit(engine) for engine in engines]
    for seat in seats:
        seat.govern(Policies({"mail": Policy(rate=Rate(1, 3600))}))
    transitions: Any = seats[0]._transitions
    begin, begun = transitions.begin, []

    def late(*args: Any) -> Any:
        if not begun:
            begun.append(seats[1].turn())
        return begin(*args)

    monkeypatch.setattr(transitions, "begin", late)
    assert seats[0].turn() is None
    assert begun[0] is not None
    clock.now += 3600
    assert seats[0].turn() is not None
    for seat in seats:
        seat.leave()


def test_a_beginning_whose_answer_was_lost_counts_once(
    engine: Engine, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its repetition knows its own work, and needs nothing of the rate."""
    engine.add([order("a1"), order("b2")], int(clock.now))
    seat: Any = sit(engine)
    seat.govern(Policies({"mail": Policy(rate=Rate(1, 3600))}))
    link = seat._transitions._link
    real = link.transact

    def lost(*args: Any) -> Any:
        real(*args)
        return real(*args)

    monkeypatch.setattr(link, "transact", lost)
    attempt = seat.turn()
    assert attempt is not None
    monkeypatch.undo()
    assert seat.turn(Outcome(attempt, "completed", int(clock.now))) is None
    clock.now += 3600
    assert seat.turn() is not None
    seat.leave()


def test_what_a_clock_that_was_put_back_makes_of_a_rate_is_kept(
    server: RedisServer, engine: Any, address: str, clock: Clock
) -> None:
    """Else each look at it would put off the next job once more."""
    engine.add([order("a1")], int(clock.now))
    client, name = redis.Redis(port=server.port), address.partition("name=")[2]
    key = f"dbq:{name}:rate:mail"
    client.set(key, int(clock.now + 10**6) * MICROS)
    lane, rate = engine._records.lane("mail"), Rate(1, 3600)
    begun = engine._transitions.begin(Found("a1", lane.queue, lane), Terms("w", 60, rate=rate))
    assert begun is None
    kept = client.get(key)
    assert kept is not None
    assert int(kept) == int(clock.now + 3600) * MICROS
    client.close()


def test_a_rate_is_remembered_for_a_while(
    server: RedisServer, engine: Engine, address: str, clock: Clock
) -> None:
    """A health check sees, an hour later still, since when a job could have been begun."""
    engine.add([order("a1")], int(clock.now))
    seat = sit(engine)
    seat.govern(Policies({"mail": Policy(rate=Rate(1, 60))}))
    assert seat.turn() is not None
    client, name = redis.Redis(port=server.port), address.partition("name=")[2]
    assert 60 + 3600 - 30 < client.ttl(f"dbq:{name}:rate:mail") <= 60 + 3601
    client.close()
    seat.leave()


# -- delayed jobs ----------------------------------------------------------------------------------


def promote_as_rq(server: RedisServer, address: str, job_type: str) -> None:
    """Move the jobs that are due from RQ's scheduled jobs to its queue, as its scheduler does."""
    from rq import Queue as RqQueue
    from rq.scheduler import RQScheduler

    client, name = redis.Redis(port=server.port), address.partition("name=")[2]
    lane = RqQueue(f"dbq.{name}.{job_type}", connection=client)
    scheduler = RQScheduler([lane], client)
    scheduler.acquire_locks()
    scheduler.enqueue_scheduled_jobs()
    scheduler.release_locks()
    assert lane.count == 1


@pytest.mark.parametrize("other", ["worker", "rq"])
def test_two_promoters_begin_a_delayed_job_once(
    server: RedisServer,
    engine: Engine,
    address: str,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    other: str,
) -> None:
    """Both have seen it fall due; one moves it amid the transaction of the other."""
    engine.add([order("a1", due=int(clock.now) + 60)], int(clock.now))
    seats = [sit(each) for each in (engine, open_engine(address, "normal", clock=clock))]
    assert [seat.turn() for seat in seats] == [None, None]
    clock.now += 60
    transitions: Any = seats[0]._transitions
    take_from, begun = transitions._take_from, []

    def late(*args: Any) -> None:
        take_from(*args)
        if not begun:
            begun.append(None)
            if other == "rq":
                promote_as_rq(server, address, "mail")
            else:
                begun[0] = seats[1].turn()

    monkeypatch.setattr(transitions, "_take_from", late)
    begun += [seat.turn() for seat in (*seats, *seats)]
    monkeypatch.undo()
    (attempt,) = filter(None, begun)
    assert (attempt.job.id, attempt.job.attempts) == ("a1", 1)
    ends = Outcome(attempt, "completed", int(clock.now))
    holder = seats[1] if other == "worker" else seats[0]
    assert holder.turn(ends) is None
    assert [seat.turn() for seat in seats] == [None, None]
    assert status(engine) == ("completed", 1, None)
    for seat in seats:
        seat.leave()


# -- leases ----------------------------------------------------------------------------------------


def test_no_signal_goes_to_the_thread_that_renews(engine: Engine) -> None:
    """A second signal that it got would not be heard before the handler's read has ended."""
    seat = sit(engine)
    (renewing,) = [each for each in threading.enumerate() if each.name == "dbq lease"][-1:]
    status = Path(f"/proc/self/task/{renewing.native_id}/status").read_text()
    (blocked,) = re.findall(r"^SigBlk:\s*(\w+)$", status, re.MULTILINE)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM):
        assert int(blocked, 16) >> (number - 1) & 1, number.name
    seat.leave()


def test_the_thread_that_renews_ends_with_its_place(tmp_path: Path, server: RedisServer) -> None:
    """Also of a worker that leaves with a job in hand while the server is away."""
    with RedisServer(tmp_path / "own") as own:
        engine = open_engine(own.url(), "normal", clock=Clock(), lock_timeout=0.1)
        engine.add([order("a1")], int(Clock().now))
        seat: Any = engine.seat()
        assert seat.turn() is not None
    seat.leave()
    seat._lease._thread.join(60)
    assert not seat._lease._thread.is_alive()


def test_the_thread_that_renews_ends_with_a_place_that_is_dropped(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job goes to another worker then, once its lease has run out."""
    renew, renewed = Lease.renew, threading.Event()

    def noticed(lease: Lease) -> None:
        renew(lease)
        renewed.set()

    monkeypatch.setattr(Lease, "renew", noticed)
    engine = open_engine(address, "normal", lease=1)
    engine.add([order("a1")], int(engine.now()))
    seat: Any = engine.seat()
    assert seat.turn() is not None
    thread = seat._lease._thread
    assert renewed.wait(60)
    del seat
    gc.collect()
    thread.join(60)
    assert not thread.is_alive()
    other = sit(engine)
    while not (rescued := other.rescue(2, AT_ONCE)):
        time.sleep(0.1)
    assert [each.job.id for each in rescued] == ["a1"]


def test_a_worker_whose_lease_is_over_is_overtaken_and_fenced(
    engine: Engine, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """Its job is begun by another; what the late one hands in is not recorded."""
    engine.add([order("a1")], int(clock.now))
    first, second = sit(engine), sit(engine)
    late = first.turn()
    assert late is not None
    assert second.rescue(3, AT_ONCE) == []  # its worker lives
    clock.now += 61
    other = sit(engine)
    assert [each.job.id for each in other.rescue(3, AT_ONCE)] == ["a1"]
    again = other.turn()
    assert again is not None
    assert again.job.attempts == 2
    assert first.turn(Outcome(late, "completed", int(clock.now), result='"late"')) is None
    assert [record.event for record in caplog.records if hasattr(record, "event")][-1] == "fenced"
    assert status(engine)[0] == "processing"
    other.turn(Outcome(again, "completed", int(clock.now), result='"good"'), take=False)
    job = engine.find("a1")
    assert job is not None
    assert job.result == "good"


def test_a_renewal_that_comes_too_late_takes_nothing_back(
    engine: Engine, server: RedisServer, address: str, clock: Clock
) -> None:
    """The entry of an execution that another worker has ended stays away."""
    engine.add([order("a1")], int(clock.now))
    first: Any = sit(engine)
    first.turn()
    clock.now += 61
    assert len(sit(engine).rescue(3, AT_ONCE)) == 1
    first._lease.renew()
    key = f"rq:wip:dbq.{address.partition('name=')[2]}.mail"
    assert redis.Redis(port=server.port).zcard(key) == 0


def test_a_server_that_has_lost_all_is_told_again_who_works_there(tmp_path: Path) -> None:
    """As one without an append-only file, which is started again; but not of one that has left."""
    with RedisServer(tmp_path / "own", appendonly="no") as own:
        engine = open_engine(own.url(), "none")
        mark = engine.ask_restart()
        seat: Any = sit(engine)
        seat.introduce(["mail"])
        before = engine.server()
        own.kill()
        own.start()
        seat._lease.renew()
        after = engine.server()
        assert before is not None
        assert after is not None
        assert [peer.types for peer in after.workers] == [frozenset({"mail"})]
        assert after.workers == before.workers
        assert not engine.is_outdated(mark)
        seat.leave()
        seat._lease.renew()
        gone = engine.server()
        assert gone is not None
        assert gone.workers == ()


def test_two_that_rescue_one_job_count_one_attempt(engine: Engine, clock: Clock) -> None:
    """The second finds that it is done."""
    engine.add([order("a1")], int(clock.now))
    sit(engine).turn()
    clock.now += 61
    seats = [sit(engine) for _ in range(3)]
    assert sum(len(seat.rescue(3, AT_ONCE)) for seat in seats) == 1
    assert status(engine)[:2] == ("pending", 1)


def test_an_id_that_stands_in_the_list_twice_runs_once(
    engine: Engine, server: RedisServer, address: str, clock: Clock
) -> None:
    """As another tool may push it."""
    engine.add([order("a1")], int(clock.now))
    name = address.partition("name=")[2]
    client = redis.Redis(port=server.port)
    client.rpush(f"rq:queue:dbq.{name}.mail", f"{name}_a1", f"{name}_unknown")
    seat = sit(engine)
    first = seat.turn()
    assert first is not None
    assert seat.turn(Outcome(first, "completed", int(clock.now))) is None
    assert engine.counts()["completed"] == 1
    assert client.llen(f"rq:queue:dbq.{name}.mail") == 0


@pytest.mark.parametrize("theirs", [1, 100])
def test_a_job_of_another_tool_is_left_to_it(
    engine: Engine, server: RedisServer, address: str, clock: Clock, theirs: int
) -> None:
    """Also where it was put into our queue: ours are run, and it stays where it is."""
    name = address.partition("name=")[2]
    client = redis.Redis(port=server.port)
    foreign = [f"a-job-of-theirs-{number}" for number in range(theirs)]
    client.rpush(f"rq:queue:dbq.{name}.mail", *foreign)
    client.zadd(f"rq:scheduled:dbq.{name}.mail", dict.fromkeys(foreign, 1))
    engine.add([order("a1")], int(clock.now))
    seat = sit(engine)
    attempt = seat.turn()
    assert attempt is not None
    assert attempt.job.id == "a1"
    assert seat.turn(Outcome(attempt, "completed", int(clock.now))) is None
    assert [job.id for job in engine.jobs()] == ["a1"]
    assert client.lrange(f"rq:queue:dbq.{name}.mail", 0, -1) == [job.encode() for job in foreign]


@pytest.mark.parametrize(
    "spoiled",
    [("dbq", "nonsense"), ("data", "[" * 100_000)],
    ids=["not JSON", "nested too deeply"],
)
def test_a_record_that_cannot_be_read_is_told_and_holds_nothing_up(
    spoiled: tuple[str, str],
    engine: Engine,
    server: RedisServer,
    address: str,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As one that was changed by hand: the jobs after it run."""
    engine.add([order("bad"), order("a1")], int(clock.now))
    name = address.partition("name=")[2]
    redis.Redis(port=server.port).hset(f"rq:job:{name}_bad", *spoiled)
    attempt = sit(engine).turn()
    assert attempt is not None
    assert attempt.job.id == "a1"
    assert f"rq:job:{name}_bad: cannot be read as a job" in caplog.text


# -- the types -------------------------------------------------------------------------------------


def test_within_a_type_the_job_due_first_is_first(engine: Engine, clock: Clock) -> None:
    """Whether it was due at once, or its time has come."""
    now = int(clock.now)
    engine.add([order("b2", due=now + 5), order("a1"), order("past", due=now - 50)], now)
    clock.now += 3
    engine.add([order("c3", due=now + 3)], now + 3)
    clock.now += 30
    engine.add([order("d4", due=now + 33)], now + 33)
    seat, outcome, ids = sit(engine), None, []
    while (attempt := seat.turn(outcome)) is not None:
        ids.append(attempt.job.id)
        outcome = Outcome(attempt, "completed", int(clock.now))
    assert ids == ["past", "a1", "c3", "b2", "d4"]


def test_the_types_take_turns(engine: Engine, clock: Clock) -> None:
    """So that a long queue of one does not keep the others waiting."""
    now = int(clock.now)
    engine.add([order(f"a{n}", "bulk") for n in range(5)], now)
    engine.add([order("b", "mail")], now)
    seat, outcome, ids = sit(engine), None, []
    for _ in range(2):
        attempt = seat.turn(outcome)
        assert attempt is not None
        ids.append(attempt.job.id)
        outcome = Outcome(attempt, "completed", now)
    assert "b" in ids


def test_queues_that_share_a_server_share_no_job(server: RedisServer) -> None:
    """Not even one with the same id."""
    one, other = (Queue(server.url(next(_names)), "normal") for _ in range(2))
    one.enqueue("mail", {"n": 1}, job_id="key")
    other.enqueue("mail", {"n": 2}, job_id="key")
    assert one.get_job("key") != other.get_job("key")
    with pytest.raises(JobExists):
        one.enqueue("mail", {"n": 2}, job_id="key")
    assert other.process_jobs({"mail": lambda payload: payload["n"]}).completed == 1
    assert one.count_jobs()["pending"] == 1


# -- the server ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "asked", "lines"),
    [
        ({"appendonly": "no"}, "full", ("appendonly yes", "appendfsync always")),
        ({}, "full", ("appendfsync always",)),
        ({"appendonly": "no"}, "normal", ("appendonly yes", "appendfsync everysec")),
        ({"maxmemory_policy": "allkeys-lru"}, "normal", ("maxmemory-policy noeviction",)),
        ({"appendfsync": "always"}, "full", None),
        ({}, "normal", None),
    ],
)
def test_a_server_that_keeps_jobs_less_safely_is_refused(
    tmp_path: Path, server: RedisServer, settings: dict[str, str], asked: str, lines: Any
) -> None:
    """By producers and workers alike, with the lines to add; nothing is written."""
    with RedisServer(tmp_path / "redis", **settings) as other:
        queue = Queue(other.url(), asked)
        shortfall = queue.engine.durability()
        if lines is None:
            assert shortfall is None
            queue.enqueue("mail", {})
            return
        assert shortfall is not None
        assert (shortfall.refused, shortfall.lines) == (True, lines)
        for work in (lambda: queue.enqueue("mail", {}), lambda: queue.process_jobs({})):
            with pytest.raises(ConfigError, match=lines[0]):
                work()
        assert redis.Redis(port=other.port).dbsize() == 0


def test_any_server_will_do_without_durability_and_each_start_warns(
    tmp_path: Path, server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Said in so many words: it may lose jobs that it has acknowledged."""
    with RedisServer(tmp_path / "redis", appendonly="no") as other:
        queue = Queue(other.url(), "none")
        queue.enqueue("mail", {})
        assert queue.process_jobs({"mail": lambda payload: None}).completed == 1
    assert "may lose jobs that it has acknowledged: it has no append-only file" in caplog.text


def test_a_server_that_does_not_say_how_it_syncs_has_to_be_trusted(
    tmp_path: Path, server: RedisServer
) -> None:
    """As managed services forbid CONFIG."""
    with RedisServer(tmp_path / "redis", appendfsync="always") as other:
        redis.Redis(port=other.port).execute_command("ACL", "SETUSER", "default", "-config")
        with pytest.raises(ConfigError, match="trust_server = true"):
            Queue(other.url()).enqueue("mail", {})
        engine = open_engine(other.url(), "full", trust_server=True)
        assert engine.add([order("a1")], 5) == 1


def test_a_server_that_is_away_is_told_in_time(tmp_path: Path, server: RedisServer) -> None:
    """By every verb, as `StorageError`; and it is found again when it is back."""
    other = RedisServer(tmp_path / "redis").start()
    queue, patient = Queue(other.url(), "normal", lock_timeout=0.2), Queue(other.url(), "normal")
    patient.enqueue("mail", {}, job_id="a1")
    other.kill()
    for work in (
        lambda: queue.enqueue("mail", {}),
        lambda: queue.enqueue_many([("mail", {})]),
        lambda: queue.get_job("a1"),
        lambda: queue.cancel_job("a1"),
        lambda: list(queue.list_jobs()),
        lambda: queue.process_jobs({}),
        queue.stats,
    ):
        with pytest.raises(StorageError, match=f"cannot reach redis://127.0.0.1:{other.port}"):
            work()
    with other:
        assert patient.count_jobs()["pending"] == 1


def test_a_server_that_answers_nothing_is_told_in_time(tmp_path: Path, server: RedisServer) -> None:
    """One that is frozen, or cut off."""
    with RedisServer(tmp_path / "redis") as other:
        queue = Queue(other.url(), "normal")
        queue.enqueue("mail", {})
        other.freeze()
        with pytest.raises(StorageError, match="cannot reach"):
            Queue(other.url(), "normal", lock_timeout=0.2).enqueue("mail", {})
        engine = open_engine(other.url(), "normal", lock_timeout=1, clock=Clock())
        other.freeze(False)
        engine.durability()
        assert engine.add([order("a1")], 5) == 1
        other.freeze()
        with pytest.raises(StorageError, match="it is not known whether the jobs were added"):
            engine.add([order("b2")], 5)
        other.freeze(False)
        assert queue.count_jobs()["pending"] >= 1


def test_a_wrong_password_is_no_secret_in_the_message(tmp_path: Path, server: RedisServer) -> None:
    """Neither the right one nor the wrong one is told; that there is none, is."""
    with RedisServer(tmp_path / "redis", requirepass="right-one") as other:
        for password, said in (("", "refused: it asks for a password"), ("wrong-one", "refused")):
            queue = Queue(other.url(password=password), "normal")
            with pytest.raises(StorageError, match=said) as caught:
                queue.enqueue("mail", {})
            assert "-one" not in str(caught.value)
        queue = Queue(other.url(password="right-one"), "normal")
        queue.enqueue("mail", {})
        assert "-one" not in repr(queue)


def test_a_full_server_refuses_and_keeps_what_it_has(tmp_path: Path, server: RedisServer) -> None:
    """Not a part of a batch is written."""
    with RedisServer(tmp_path / "redis", maxmemory="4mb") as other:
        queue = Queue(other.url(), "normal")
        queue.enqueue("mail", {}, job_id="a1")
        big = {"text": os.urandom(300_000).hex()}
        added = 0
        with contextlib.suppress(StorageError):
            for _ in range(50):
                added += len(queue.enqueue_many([("mail", big), ("mail", big)]))
        assert added < 100
        with pytest.raises(StorageError, match="memory"):
            queue.enqueue("mail", big)
        assert queue.count_jobs()["pending"] % 2 == 1
        assert queue.get_job("a1") is not None


def test_an_outcome_is_kept_while_the_server_refuses_it(
    tmp_path: Path, server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """As one that is full for a moment: the job does not run again for that."""
    with RedisServer(tmp_path / "redis") as other:
        client = redis.Redis(port=other.port)
        engine = open_engine(other.url(), "normal")
        engine.add([order("a1")], 5)
        seat = engine.seat()
        assert seat is not None
        attempt = seat.turn()
        assert attempt is not None
        client.config_set("maxmemory", 1)
        relief = threading.Timer(1.5, client.config_set, ("maxmemory", 0))
        relief.start()
        seat.turn(Outcome(attempt, "completed", 5, result='"x"'), take=False)
        relief.join()
        assert status(engine)[0] == "completed"
        seat.leave()
    assert "the outcome of a1 is kept" in caplog.text


def test_a_replica_is_refused(tmp_path: Path, server: RedisServer) -> None:
    """It takes no writes; the message says so before one is tried."""
    with RedisServer(tmp_path / "redis") as other:
        redis.Redis(port=other.port).replicaof("127.0.0.1", server.port)
        queue = Queue(other.url(), "normal")
        with pytest.raises(ConfigError, match="read-only replica"):
            queue.enqueue("mail", {})


# -- closing ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("asked", ["normal", "none"])
def test_a_cluster_is_refused(tmp_path: Path, server: RedisServer, asked: str) -> None:
    """Its transactions cannot span the keys of a queue, so no durability makes it fit."""
    settings = {"cluster_enabled": "yes", "cluster_port": str(free_port())}
    with RedisServer(tmp_path / "redis", **settings) as cluster:
        queue = Queue(cluster.url(), asked)
        for act in (lambda: queue.enqueue("mail", {}), lambda: queue.process_jobs({})):
            with pytest.raises(ConfigError, match="is a Redis Cluster"):
                act()


def test_valkey_is_another_word_for_redis(address: str) -> None:
    """In an address: the queue is the same."""
    job_id = Queue(address.replace("redis:", "valkey:"), "normal").enqueue("mail", {})
    assert Queue(address, "normal").get_job(job_id)


def test_a_closed_queue_takes_no_jobs(engine: Engine, clock: Clock) -> None:
    """The error names the new address; what was there stays, and it can be opened again."""
    now = int(clock.now)
    engine.add([order("a1")], now)
    engine.close_for("redis://new/0")
    assert engine.closed_for() == "redis://new/0"
    for orders in ([order("b2")], [order("b2"), order("c3", due=now + 50)]):
        with pytest.raises(StorageError, match="was moved to redis://new/0"):
            engine.add(orders, now)
        assert [job.id for job in engine.jobs()] == ["a1"]
    with pytest.raises(StorageError, match="was moved to redis://new/0"):
        engine.claim_slot("shop/nightly", now, order("b2"))
    assert engine.slots() == {}
    engine.close_for("")
    assert engine.closed_for() == ""
    assert engine.add([order("b2")], now) == 1


# -- looking ---------------------------------------------------------------------------------------


def test_looking_changes_nothing(
    engine: Engine, server: RedisServer, address: str, clock: Clock
) -> None:
    """A dump before equals one after, also with a job whose lease is over."""
    now = int(clock.now)
    engine.add([order("a1"), order("b2", "report"), order("c3", due=now + 9)], now)
    sit(engine).turn()
    clock.now += 100
    name = address.partition("name=")[2]
    client = redis.Redis(port=server.port)

    before = contents(client, name)
    assert len(before) > 5
    stats, running = engine.stats(), engine.running()
    found = engine.snapshot(Limits(int(clock.now), now - 9, now + 50, now, names=5))
    assert engine.server() is not None
    assert engine.durability() is None
    list(engine.jobs())
    assert contents(client, name) == before
    assert (stats.ready, [each.alive for each in running]) == (2, [False])
    assert (found.overdue, found.stuck, found.oldest_ready) == (2, 1, now)


def test_the_first_of_many_jobs_are_listed_without_the_others(
    engine: Engine, server: RedisServer, clock: Clock
) -> None:
    """What `dbq list --limit` reads does not grow with the queue."""
    client = redis.Redis(port=server.port)

    def read(count: int) -> int:
        before = client.info("stats")["total_net_output_bytes"]
        assert len(list(itertools.islice(engine.jobs(), count))) == count
        return int(client.info("stats")["total_net_output_bytes"]) - before

    engine.add([order(f"a{number}") for number in range(5000)], int(clock.now))
    assert read(10) < read(5000) / 5


def test_workers_say_who_they_are(engine: Engine) -> None:
    """Their host and process, and the types that they have handlers for."""
    seat = sit(engine)
    seat.introduce(["mail", "report"])
    server = engine.server()
    assert server is not None
    (peer,) = server.workers
    assert (peer.process, peer.here) == (os.getpid(), True)
    assert peer.types == {"mail", "report"}
    assert server.software.startswith(("Redis ", "Valkey "))
    seat.leave()
    after = engine.server()
    assert after is not None
    assert after.workers == ()


# -- RQ's own tools --------------------------------------------------------------------------------

RQ = str(Path(sys.executable).with_name("rq"))


def rq(server: RedisServer, *args: str) -> str:
    url = f"redis://127.0.0.1:{server.port}/0"
    command = [RQ, args[0], "--url", url, *args[1:]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("most", [2, 1])
def test_what_rq_info_does_to_a_job_is_survived(
    server: RedisServer, address: str, most: int
) -> None:
    """It puts a job back whose lease is over, uncounted; we count it, and fail it at the limit."""
    queue, clock = Queue(address, "normal"), Clock(1_700_000_000)
    past = open_engine(address, "normal", clock=clock, lease=1)  # its leases are over long since
    past.add([order("a1")], int(clock.now))
    assert sit(past).turn() is not None
    assert f"dbq.{address.partition('name=')[2]}.mail" in rq(server, "info")
    assert status(queue.engine)[:2] == ("pending", 1)
    later = queue_by(lambda: queue.now() + 100, address)
    ran: list[int] = []
    later.process_jobs({"mail": lambda payload: ran.append(1)}, most)
    job = queue.get_job("a1")
    assert job is not None
    if most == 2:
        assert (ran, job["status"], job["attempts"]) == ([1], "completed", 2)
    else:
        assert (ran, job["status"], job["attempts"]) == ([], "failed", 1)
        assert job["error"].startswith("WorkerDied: ")


@pytest.mark.parametrize("serializer", ["JSONSerializer", "DefaultSerializer"])
def test_a_plain_rq_worker_loses_no_job(server: RedisServer, address: str, serializer: str) -> None:
    """It cannot run one; the job comes back, and its attempts are as they were."""
    queue = Queue(address, "normal")
    queue.enqueue("mail", {}, job_id="a1")
    name = f"dbq.{address.partition('name=')[2]}.mail"
    rq(server, "worker", "--burst", "--quiet", "-S", f"rq.serializers.{serializer}", name)
    assert status(queue.engine)[:2] == ("pending", 0)
    later = queue_by(lambda: queue.now() + 100, address)
    assert later.process_jobs({"mail": lambda payload: None}).completed == 1
