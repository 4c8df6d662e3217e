"""L: what is read to take a job, or to look at a queue, does not grow with the jobs in the way.

Counted in what the server is asked and answers, not in time, which depends on the machine.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterator

import pytest
import redis
from redis_server import RedisServer

from dbbasic_queue import Queue
from dbbasic_queue.engines.answers import Limits

MANY = 100_000
_names = (f"l{os.getpid()}-{number}" for number in itertools.count(1))


@pytest.fixture(scope="module")
def own(server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A server that no worker of another test asks for anything."""
    with RedisServer(tmp_path_factory.mktemp("own")) as own:
        yield own


@pytest.fixture
def address(own: RedisServer) -> str:
    """A queue without jobs."""
    return own.url(next(_names))


@pytest.fixture
def cost(own: RedisServer) -> Callable[[Callable[[], object]], tuple[int, int]]:
    """How many commands a call takes, and how many bytes the server answers."""
    client = redis.Redis(port=own.port)

    def cost(call: Callable[[], object]) -> tuple[int, int]:
        before = client.info("stats")
        call()
        after = client.info("stats")
        asked, answered = "total_commands_processed", "total_net_output_bytes"
        return after[asked] - before[asked], after[answered] - before[answered]

    return cost


def run_ten(queue: Queue) -> Callable[[], object]:
    """Ten jobs added and worked off."""

    def run() -> None:
        queue.enqueue_many([("mail", {})] * 10)
        assert queue.process_jobs({"mail": bool}, limit=10).completed == 10

    return run


@pytest.mark.parametrize("later", [0, 86_400])
def test_a_take_does_not_grow_with_the_jobs_in_the_way(
    address: str, cost: Callable[[Callable[[], object]], tuple[int, int]], later: int
) -> None:
    """With 100,000 that wait, and with as many for tomorrow."""
    queue = Queue(address, "normal")
    queue.enqueue_many([("mail", {}, time.time() + later if later else None)] * 30)
    few = cost(run_ten(queue))
    queue.enqueue_many([("mail", {}, time.time() + later if later else None)] * MANY)
    many = cost(run_ten(queue))
    assert many[0] <= few[0] + 100  # leases and the time, which a slow machine asks for more often
    assert many[1] < 2 * few[1]


def test_a_health_check_does_not_grow_with_the_jobs(
    address: str, cost: Callable[[Callable[[], object]], tuple[int, int]]
) -> None:
    """But by the steps of a search for the first that is overdue."""
    queue = Queue(address, "normal")
    limits = Limits(queue.now(), 0, queue.now() - 300, queue.now() - 86_400, 5)
    queue.enqueue_many([("mail", {})] * 30)
    few = cost(lambda: queue.engine.snapshot(limits))
    queue.enqueue_many([("mail", {})] * MANY)
    many = cost(lambda: queue.engine.snapshot(limits))
    assert many[0] <= few[0] + 40
    assert many[1] < few[1] + 20_000
