"""How safely a server keeps what it acknowledges, beside what was asked for."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import redis

from ..answers import Shortfall
from .link import Link

FULL: Final = "full"
NORMAL: Final = "normal"
NONE: Final = "none"
CHOICES: Final = (FULL, NORMAL, NONE)


class Settings(NamedTuple):
    """What a server says of how it keeps its data."""

    append_only: bool
    fsync: str | None  # None: it does not let us read that
    policy: str  # what it throws away when its memory is full
    replica: bool
    cluster: bool


def read(link: Link) -> Settings:
    """The settings of a server. Raises `StorageError`."""
    info = link.run(lambda client: client.info())
    link_said = link.run(_fsync)
    return Settings(
        append_only=bool(info.get("aof_enabled")),
        fsync=link_said,
        policy=str(info.get("maxmemory_policy", "noeviction")),
        replica=info.get("role") == "slave",
        cluster=bool(info.get("cluster_enabled")),
    )


def _fsync(client: Any) -> str | None:
    try:
        return str(client.config_get("appendfsync").get("appendfsync") or "") or None
    except redis.ResponseError:  # managed services forbid it
        return None


def judge(settings: Settings, asked: str, trusted: bool, where: str) -> Shortfall | None:
    """How a server with these settings falls short of the durability asked for.

    Args:
        settings: of the server.
        asked: full, normal or none.
        trusted: take the fsync to be what was asked for where it cannot be read.
        where: the server's address, for the message.
    """
    if settings.cluster:
        return Shortfall(
            True, f"{where} is a Redis Cluster, whose transactions cannot span a queue's keys"
        )
    if settings.replica:
        return Shortfall(True, f"{where} is a read-only replica; use the address of its master")
    faults, lines = _faults(settings, asked, trusted)
    if not faults:
        return None
    if asked == NONE:
        return Shortfall(
            False, f"{where} may lose jobs that it has acknowledged: {'; '.join(faults)}", lines
        )
    return Shortfall(
        True,
        f'{where} does not keep jobs as durability = "{asked}" asks: {"; ".join(faults)}',
        lines,
    )


def _faults(settings: Settings, asked: str, trusted: bool) -> tuple[list[str], tuple[str, ...]]:
    faults, lines = [], []
    if not settings.append_only:
        faults.append("it has no append-only file")
        lines.append("appendonly yes")
    if asked == FULL and settings.fsync != "always":
        if settings.fsync is not None:
            faults.append(f"it syncs that {settings.fsync}, not always")
            lines.append("appendfsync always")
        elif not trusted:
            faults.append(
                "it does not say how it syncs; if it syncs always, set trust_server = true"
            )
    elif not settings.append_only and asked != FULL:
        lines.append("appendfsync everysec")
    if settings.policy != "noeviction":
        faults.append(f"it throws jobs away when its memory is full ({settings.policy})")
        lines.append("maxmemory-policy noeviction")
    return faults, tuple(lines)
