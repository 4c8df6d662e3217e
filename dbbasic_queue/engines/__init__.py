"""What keeps the jobs: each engine is a module or a folder here."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from ..errors import ConfigError
from .interface import Engine

# Scheme of an address -> module and class. Imported only when it is asked for.
_TSV: Final = "tsv.engine", "TsvEngine"
_REDIS: Final = "redis.engine", "RedisEngine"
ENGINES: Final = {
    "file": _TSV,
    "redis": _REDIS,
    "rediss": _REDIS,  # with TLS
    "unix": _REDIS,  # by a socket
    "valkey": _REDIS,
}
# Engine -> the extra of this package that brings what it imports.
EXTRAS: Final = {_REDIS: "redis"}
# Engine -> what its libraries import no earlier than they need it.
LATE: Final = {
    _REDIS: (
        *("secrets", "_strptime", "encodings.idna", "encodings.utf_8_sig"),
        "importlib.metadata._adapters",  # late from 3.13 on
    )
}
_URL: Final = r"(?i)([a-z][a-z0-9+.-]*)://|(file):"


def open_engine(
    address: str | os.PathLike[str],
    durability: str = "full",
    *,
    clock: Callable[[], float] | None = None,
    lock_timeout: float = 10.0,
    lease: float = 60.0,
    trust_server: bool = False,
) -> Engine:
    """Return the engine that keeps the jobs at an address. Asks no server yet.

    Args:
        address: a path, `file:` and a path, or the URL of a Redis or Valkey server: `redis://`,
            `rediss://` (TLS), `valkey://`, `unix://` and a socket's path; `?name=` there names
            the queue, "dbq" if it is left out.
        durability: "full": what is acknowledged survives a power cut; "normal": it survives any
            crash of processes; "none", on a server only: as the server is set up.
        clock: Unix seconds; for tests.
        lock_timeout: seconds to wait for another process that holds the jobs up, or for a server.
        lease: seconds after which a worker that its server has not heard of has lost its job.
        trust_server: take a durability that a server does not tell to be what was asked for.

    Raises `ConfigError` for a scheme that no engine has, for an address that its engine cannot
    read, and when what the engine imports is not installed; `ValueError` for another durability.

    >>> open_engine("file:/srv/app/queue.tsv").path
    PosixPath('/srv/app/queue.tsv')
    """
    text = os.fspath(address)
    found = re.match(_URL, text) if isinstance(text, str) and ":" in text else None
    scheme = (found[1] or found[2]).lower() if found else "file"
    if scheme not in ENGINES:
        raise ConfigError(
            f"{scheme}://…: there is no engine for {scheme}; use a path or one of"
            f" {', '.join(f'{name}:' for name in ENGINES)}"
        )
    if found:
        text = text[len(scheme) + 1 :].removeprefix("//")
    module, name = where = ENGINES[scheme]
    options: dict[str, Any] = {"clock": clock, "lock_timeout": lock_timeout}
    if where in EXTRAS:
        text = os.fspath(address)
        options |= {"lease": lease, "trust_server": trust_server}
    make: Callable[..., Engine] = getattr(_import(module, scheme, EXTRAS.get(where)), name)
    return make(text, durability, **options)


def prepare() -> None:
    """Import all that the engines of servers may import later, for a process that then cannot.

    Root does so before it becomes a user who has no permission to read its interpreter's packages.
    What is not installed is left out: `open_engine` tells.
    """
    for where in EXTRAS:
        folder = where[0].partition(".")[0]
        with suppress(ImportError):
            for path in sorted(Path(__file__).with_name(folder).glob("[a-z]*.py")):
                import_module(f".{folder}.{path.stem}", __package__)
            for name in LATE.get(where, ()):
                import_module(name)


def _import(module: str, scheme: str, extra: str | None) -> Any:
    try:
        return import_module(f".{module}", __package__)
    except ImportError as error:
        missing = (error.name or "").partition(".")[0]
        if extra is None or missing == (__package__ or "").partition(".")[0]:
            raise
        raise ConfigError(
            f"{scheme}://…: the Python package {missing} is not installed; install it:"
            f" pip install 'dbbasic-queue[{extra}]'"
        ) from None
