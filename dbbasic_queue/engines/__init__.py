"""What keeps the jobs: each engine is a module or a folder here."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from importlib import import_module
from typing import Any, Final

from ..errors import ConfigError
from .interface import Engine

# Scheme of an address -> module and class. Imported only when it is asked for.
ENGINES: Final = {
    "file": ("tsv.engine", "TsvEngine"),
}
_URL: Final = re.compile(r"([a-z][a-z0-9+.-]*)://|(file):", re.IGNORECASE)


def open_engine(
    address: str | os.PathLike[str],
    durability: str = "full",
    *,
    clock: Callable[[], float] | None = None,
    lock_timeout: float = 10.0,
) -> Engine:
    """The engine that keeps the jobs at an address.

    Args:
        address: a path, or `file:` and a path.
        durability: "full": what is acknowledged survives a power cut; "normal": it survives any
            crash of processes.
        clock: Unix seconds; for tests.
        lock_timeout: seconds to wait for another process that holds the jobs up.

    Raises `ConfigError` for a scheme that no engine has, `ValueError` for another durability.

    >>> open_engine("file:/srv/app/queue.tsv").path
    PosixPath('/srv/app/queue.tsv')
    """
    text = os.fspath(address)
    found = _URL.match(text) if isinstance(text, str) else None
    scheme = (found[1] or found[2]).lower() if found else "file"
    if scheme not in ENGINES:
        raise ConfigError(
            f"{scheme}://…: there is no engine for {scheme}; use a path or one of"
            f" {', '.join(f'{name}:' for name in ENGINES)}"
        )
    if found:
        text = text[len(scheme) + 1 :].removeprefix("//")
    module, name = ENGINES[scheme]
    make: Any = getattr(import_module(f".{module}", __package__), name)
    engine: Engine = make(text, durability, clock=clock, lock_timeout=lock_timeout)
    return engine
