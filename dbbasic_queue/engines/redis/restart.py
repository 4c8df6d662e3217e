"""The word to workers to end between two jobs, for new code: a key, and what each worker has read.

A worker reads the key when it begins, and ends when that says something else.
"""

from __future__ import annotations

import os
import time
from typing import Any, Final

from . import identity
from .link import Link
from .records import Records

FIELD: Final = "dbq_restart"  # of a worker's record: what it has read


def key(records: Records) -> str:
    """Return the key that holds the word."""
    return f"dbq:{records.name}:restart"


def read(link: Link, records: Records) -> str:
    """Return the last word to workers; empty if there was none. Raises `StorageError`."""
    raw = link.run(lambda client: client.get(key(records)))
    return raw.decode() if raw else ""


def ask(link: Link, records: Records, who: str) -> str:
    """Give the word to workers; returns the text of it. Raises `StorageError`."""
    text = f"{time.strftime('%Y-%m-%d %H:%M:%S %z')} {who} {os.urandom(4).hex()}"
    link.run(lambda client: client.set(key(records), text))
    return text


def is_left(link: Link, records: Records, text: str) -> bool:
    """Whether a worker is at work that has read something else. Raises `StorageError`."""
    names = [name.decode() for name in link.run(lambda client: client.smembers(records.workers))]

    def questions(pipe: Any) -> None:
        for name in names:
            pipe.hmget(f"rq:worker:{name}", "birth", FIELD)

    found = link.ask(questions) if names else []
    return any(
        birth is not None and said != text.encode() and not identity.is_dead(name)
        for name, (birth, said) in zip(names, found, strict=True)
    )
