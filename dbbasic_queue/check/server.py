"""Would the server of this queue do? Whether it answers, how safely it keeps jobs, who works there.

The server is asked in a process of the worker's user, who may be the only one to read the url_file,
and for a limited time: a server behind a dead network never answers.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from ..config.sections import Config
from ..engines import open_engine, prepare
from ..engines.answers import Peer, Server, Shortfall
from ..errors import QueueError
from ..support.account import Account
from ..support.address import masked
from ..support.child import ChildDied, ChildTimeout, call
from ..support.text import shown
from .finding import Problem, fault, warning

SKEW: Final = 2  # seconds that two clocks may differ by before it is told
PATIENCE: Final = 3.0  # seconds to wait for a server
NAMED: Final = 3  # workers with other handlers that are told


@dataclass(frozen=True)
class ServerFacts:
    """What a server says of itself.

    Args:
        url: its address and the queue's name there, without a password: what producers are given.
        software: such as "Redis 7.0.15".
        client: the libraries that talk to it.
        workers: how many workers it knows.
    """

    url: str
    software: str
    client: str
    workers: int


class _Answer(NamedTuple):
    url: str
    server: Server | None
    shortfall: Shortfall | None
    closed: str


def ask_server(
    address: Callable[[], str | Path],
    options: Mapping[str, Any],
    types: Collection[str] | None,
    *,
    user: Account | None = None,
    where: str = "",
) -> tuple[ServerFacts | None, list[Problem]]:
    """Ask the server of a queue; returns what it says, and what is wrong with it.

    Args:
        address: what returns its address; it may raise `ConfigError`.
        options: how `open_engine` opens it.
        types: those with a handler here, if they are known.
        user: that asks.
        where: the key that names the server.
    """

    def ask() -> _Answer:
        engine = open_engine(address(), **{**options, "lock_timeout": PATIENCE})
        closed = masked(engine.closed_for())
        return _Answer(engine.url, engine.server(), engine.durability(), closed)

    if user is not None:
        prepare()
    try:
        answer = call(ask, 4 * PATIENCE, user=user)
    except QueueError as error:
        reason = getattr(error, "strerror", None) or str(error)
        return None, [fault(where, " ".join(reason.split()))]
    except ChildTimeout:
        return None, [fault(where, f"the server did not answer within {4 * PATIENCE:g} s")]
    except ChildDied as error:
        return None, [fault(where, f"the process that asked the server {error}")]
    server = answer.server
    if server is None:
        return None, []
    problems = list(_problems(answer.shortfall, server, types, where))
    if answer.closed:
        said = f"this queue takes no jobs any more: they have been moved to {answer.closed}"
        problems.append(fault(where, said))
    facts = ServerFacts(answer.url, server.software, server.client, len(server.workers))
    return facts, problems


def server_problems(
    config: Config, types: Collection[str] | None, user: Account | None
) -> tuple[ServerFacts | None, list[Problem]]:
    """Ask the server of a config's queue, as the worker's user."""
    where = "[queue].url" if config.queue.url else "[queue].url_file"
    return ask_server(config.address, config.queue_options, types, user=user, where=where)


def _problems(
    short: Shortfall | None, server: Server, types: Collection[str] | None, where: str
) -> Iterator[Problem]:
    if short is not None:
        level = fault if short.refused else warning
        yield level("[queue].durability", short.text)
        for line in short.lines:
            yield level("[queue].durability", f"add to the server's configuration: {line}")
    if server.lag:
        yield warning(where, server.lag)
    if abs(server.skew) > SKEW:
        ahead = "ahead of" if server.skew > 0 else "behind"
        said = f"this machine's clock is {abs(server.skew):.0f} s {ahead} the server's"
        yield warning(where, f"{said}: see timedatectl on both")
    if types is not None:
        yield from _other_handlers(server.workers, frozenset(types))


def _other_handlers(workers: Collection[Peer], types: frozenset[str]) -> Iterator[Problem]:
    """Find workers that would fail jobs which this machine can run, or the other way round."""
    others = [peer for peer in workers if peer.types is not None and peer.types != types]
    for peer in others[:NAMED]:
        assert peer.types is not None
        parts = [
            f"{label}: {', '.join(map(shown, sorted(some)))}"
            for label, some in (
                ("only there", peer.types - types),
                ("only here", types - peer.types),
            )
            if some
        ]
        more = f" (and {len(others) - NAMED} more workers)" if len(others) > NAMED else ""
        said = f"the worker {peer.process} on {peer.host} has other handlers{more}: "
        yield warning("[worker].handlers", said + "; ".join(parts))
