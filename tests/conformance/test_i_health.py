"""I: what a health check finds, on each engine, from a state that was made on purpose."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
from actors import Clock, die, in_child
from redis_server import RedisServer, contents

from dbbasic_queue import Queue
from dbbasic_queue.cli.slots import server_slots
from dbbasic_queue.engines import open_engine
from dbbasic_queue.engines.interface import Engine, Order, Outcome
from dbbasic_queue.health.judge import check_health
from dbbasic_queue.health.report import Expectation
from dbbasic_queue.schedule.recurring import RecurringJob, RecurringJobs, enqueue_slot
from dbbasic_queue.schedule.schedule import Schedule

LONG = 2000  # seconds; longer than each of the defaults but `failed_within`
HOURLY = Schedule.parse("0 * * * *")


def add(engine: Engine, job_id: str = "a1") -> None:
    """A job that was due long ago."""
    engine.add([Order(job_id, "mail", "{}", int(engine.now()), False)], int(engine.now()))


def run(engine: Engine, status: str) -> None:
    """End a job like this, long ago."""
    add(engine)
    seat = engine.seat()
    assert seat is not None
    attempt = seat.turn()
    assert attempt is not None
    seat.turn(Outcome(attempt, status, int(engine.now()), "E: x" * (status == "failed")), False)
    seat.leave()


def die_at(engine: Engine) -> None:
    """Begin a job, and die."""
    add(engine)

    def begin() -> None:
        seat = engine.seat()
        assert seat is not None
        seat.turn()
        die()

    assert in_child(begin) < 0


def well(engine: Engine) -> None:
    """A job that has ended, and one for tomorrow."""
    run(engine, "completed")
    now = int(engine.now())
    engine.add([Order("later", "mail", "{}", now + 86_400, False)], now)


MADE: dict[str, tuple[Callable[[Engine], None], list[str]]] = {
    "well": (well, []),
    "overdue": (add, ["overdue"]),
    "failed": (lambda engine: run(engine, "failed"), ["failed"]),
    "stuck": (die_at, ["stuck"]),
}


@pytest.fixture
def dump(address: str, server: RedisServer, tmp_path: Path) -> Callable[[], Any]:
    """All that is kept of the queue, in the file and beside it or on the server."""
    client, name = redis.Redis(port=server.port), address.partition("name=")[2] or "no queue"

    def dump() -> Any:
        files = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        return files, contents(client, name)

    return dump


@pytest.mark.parametrize("name", MADE)
def test_what_is_wrong_is_found_and_looking_changes_nothing(
    address: str, dump: Callable[[], Any], name: str
) -> None:
    """The same words on each engine; a dump before the look equals one after it."""
    make, kinds = MADE[name]
    make(open_engine(address, "normal", clock=Clock(int(time.time()) - LONG)))
    before = dump()
    report = check_health(
        address, options={"durability": "normal"}, uptime=lambda: 10**7, queue="shop"
    )
    assert dump() == before
    # Who was last at work, a file tells by the time of a file, which is now.
    assert [each.kind for each in report.findings if each.kind != "silent"] == kinds


@pytest.mark.parametrize("missed", [False, True])
def test_a_recurring_job_that_was_missed_is_found(
    address: str, tmp_path: Path, missed: bool
) -> None:
    """By its marks, wherever they are: when its last time has passed without a job."""
    queue = Queue(address, "normal")
    marks = tmp_path / "marks.json" if queue.engine.path is not None else None
    job = RecurringJob("tick", "mail", Schedule.parse("* * * * *"))
    jobs = RecurringJobs(tmp_path / "dbq.toml", "shop", (job,), marks)
    last = queue.now() - (LONG if missed else 0)
    enqueue_slot(jobs, "tick", queue.enqueue, last, server_slots(queue))
    report = check_health(
        address,
        expected=Expectation(0, HOURLY, recurring=jobs),
        options={"durability": "normal"},
        uptime=lambda: 10**7,
    )
    kinds = [finding.kind for finding in report.findings]
    assert ("recurring" in kinds) == missed
