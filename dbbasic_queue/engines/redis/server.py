"""What a server says of itself, and which workers it knows: for `dbq check` and a health check."""

from __future__ import annotations

import json
import time
from typing import Any

import redis
import rq.version

from ..answers import Peer, Server
from . import identity
from .link import Link
from .records import Records


def describe(link: Link, records: Records, lease: float) -> Server:
    """The state of a server. Reads only; raises `StorageError`."""
    info = link.run(lambda client: client.info())
    began = time.time()
    seconds, micros = link.run(lambda client: client.time())
    here = (began + time.time()) / 2
    software = "Valkey" if "valkey_version" in info else "Redis"
    number = info.get("valkey_version") or info.get("redis_version", "")
    return Server(
        software=f"{software} {number}",
        client=f"rq {rq.version.VERSION}, redis {redis.__version__}",
        skew=here - (seconds + micros / 1e6),
        lease=lease,
        memory=int(info.get("used_memory", 0)),
        memory_limit=int(info.get("maxmemory", 0)),
        workers=_workers(link, records),
        lag=_lag(info),
        identity=_identity(info, link, records),
    )


def _identity(info: dict[str, Any], link: Link, records: Records) -> str:
    run = info.get("run_id")
    database = link.client.connection_pool.connection_kwargs.get("db") or 0
    return f"{run} {database} {records.name}" if run else ""


def _lag(info: dict[str, Any]) -> str:
    if info.get("aof_enabled") and info.get("aof_last_write_status", "ok") != "ok":
        return "its last write to the append-only file failed"
    return ""  # that it is a replica is told with its durability


def _workers(link: Link, records: Records) -> tuple[Peer, ...]:
    names = sorted(
        name.decode() for name in link.run(lambda client: client.smembers(records.workers))
    )
    hashes = link.ask(lambda pipe: [pipe.hgetall(f"rq:worker:{name}") for name in names])
    return tuple(
        _peer(name, fields)
        for name, fields in zip(names, hashes, strict=True)
        if fields and not identity.is_dead(name)
    )


def _peer(name: str, fields: dict[bytes, bytes]) -> Peer:
    types = fields.get(b"dbq_types")
    return Peer(
        name=name,
        host=fields.get(b"hostname", b"").decode(),
        process=int(fields.get(b"pid") or 0),
        here=identity.is_here(name),
        types=frozenset(json.loads(types)) if types is not None else None,
    )
