"""What a health check asks of a queue's engine."""

from __future__ import annotations

import time

from redis_server import RedisServer

from dbbasic_queue.config.sections import HealthConfig
from dbbasic_queue.engines import open_engine
from dbbasic_queue.engines.policies import Policies
from dbbasic_queue.health.look import limits_of, look


def test_a_server_is_judged_by_its_own_clock(server: RedisServer) -> None:
    """Machines whose clocks differ say the same of it."""
    engine = open_engine(f"redis://127.0.0.1:{server.port}/0?name=clocks", "none")
    before = int(time.time())  # the server is on this machine
    seen = look(
        engine,
        5,
        0.0,
        None,
        lambda now, started: limits_of(HealthConfig(), 5, Policies({}), now, started),
    )
    assert before <= seen.now <= time.time()
    assert seen.started == seen.now
