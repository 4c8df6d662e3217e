"""What a health check asks of a queue's engine: one snapshot, its server, its slots.

look(engine, now, …)  -> Seen
    └─ Engine.snapshot: the queue in numbers         engines/interface.py
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from ..config.sections import HealthConfig
from ..engines.answers import Limits, Server, Shortfall, Snapshot
from ..engines.interface import AHEAD, Engine, Policies
from .report import Expectation

RESTART: Final = 3.0  # seconds that it takes to start a worker again that was killed


class Seen(NamedTuple):
    """What a look at the engine has shown."""

    now: int  # Unix seconds
    started: int  # Unix seconds; since when workers could run
    snapshot: Snapshot
    server: Server | None
    shortfall: Shortfall | None
    slots: Mapping[str, int] | None  # that a server keeps, if they were wanted


def look(
    engine: Engine,
    now: int,
    uptime: float,
    expected: Expectation | None,
    limits: Callable[[int, int], Limits],
) -> Seen:
    """Ask the engine, which reads only. Raises `QueueError`."""
    if engine.path is None:
        now = int(engine.now())  # the server's
    started = _started(now, uptime, expected)
    snapshot = engine.snapshot(limits(now, started))
    server = engine.server()
    if server and expected and expected.always and not works_here(server):
        time.sleep(RESTART)
        server = engine.server()
    wants_slots = expected is not None and expected.recurring and "slots" in engine.can
    slots = engine.slots() if wants_slots else None
    return Seen(now, started, snapshot, server, engine.durability(), slots)


def _started(now: int, uptime: float, expected: Expectation | None) -> int:
    """Return since when workers could run, in Unix seconds."""
    started = now - int(uptime)
    if expected is not None and expected.since <= now + AHEAD:  # else the clock has gone back
        started = max(started, int(expected.since))
    return started


def works_here(server: Server) -> bool:
    """Say whether a worker runs on this machine."""
    host = os.uname().nodename
    return any(peer.here or peer.host == host for peer in server.workers)


def limits_of(ages: HealthConfig, names: int, policies: Policies, now: int, started: int) -> Limits:
    """Return what the engine is to look for at this time, on a machine that was started then."""
    return Limits(
        now=now,
        stuck_before=now - ages.stuck_after,
        overdue_before=now - ages.overdue_after if now - started > ages.overdue_after else 0,
        failed_since=now - ages.failed_within,
        names=names,
        policies=policies,
    )
