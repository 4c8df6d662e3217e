"""What is said of the server of a queue, from what it said of itself; tests/cli asks a real one."""

from __future__ import annotations

from dbbasic_queue.check.finding import Level
from dbbasic_queue.check.server import _problems
from dbbasic_queue.engines.answers import Peer, Server, Shortfall

TYPES = frozenset({"mail", "report"})


def peer(number: int, *types: str, known: bool = True) -> Peer:
    return Peer(f"dbq.{number}", f"web{number}", number, False, frozenset(types) if known else None)


def said(
    *peers: Peer, skew: float = 0, short: Shortfall | None = None, lag: str = ""
) -> list[tuple[Level, str]]:
    """The problems of a server with these workers, each with its level."""
    server = Server("Redis 7.0.15", "rq 3.0.0", skew, 60, 1, 0, peers, lag)
    found = _problems(short, server, TYPES, "[queue].url")
    return [(problem.level, str(problem)) for problem in found]


def test_workers_with_other_handlers() -> None:
    """What is only there and only here is named; those alike, or older ones, are not."""
    assert said(peer(1, "mail", "report"), peer(2, known=False)) == []
    ((level, text),) = said(peer(1, "mail", "tidy"))
    assert level is Level.WARNING
    assert text == (
        "[worker].handlers: the worker 1 on web1 has other handlers: only there: 'tidy';"
        " only here: 'report'"
    )


def test_many_workers_with_other_handlers() -> None:
    """The first few are named, the others counted."""
    found = said(*(peer(number, "mail") for number in range(1, 8)))
    assert len(found) == 3
    assert all("(and 4 more workers)" in text for _, text in found)


def test_clocks_that_differ() -> None:
    """More than two seconds are told, and in which direction."""
    assert said(skew=1.9) == []
    assert "3 s ahead of the server's" in said(skew=3.2)[0][1]
    assert "3 s behind the server's" in said(skew=-2.9)[0][1]


def test_how_safely_a_server_keeps_jobs() -> None:
    """What workers refuse is a fault, with each line to add; the rest is a warning."""
    refused = Shortfall(
        True, "it has no append-only file", ("appendonly yes", "appendfsync always")
    )
    assert said(short=refused) == [
        (Level.FAULT, "[queue].durability: it has no append-only file"),
        (Level.FAULT, "[queue].durability: add to the server's configuration: appendonly yes"),
        (Level.FAULT, "[queue].durability: add to the server's configuration: appendfsync always"),
    ]
    assert said(short=Shortfall(False, "it may lose jobs"))[0][0] is Level.WARNING
    assert said(lag="its last write failed") == [
        (Level.WARNING, "[queue].url: its last write failed")
    ]
