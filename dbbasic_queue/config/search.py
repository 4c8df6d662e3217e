"""Which config is meant where none is named: the same for the commands and for a program."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

from ..errors import ConfigError

DEFAULT_CONFIG: Final = "dbq.toml"
SYSTEM_CONFIG: Final = "/etc/dbbasic-queue/dbq.toml"
CONFIGS: Final = (DEFAULT_CONFIG, SYSTEM_CONFIG)


def search(named: str | None, environment: Mapping[str, str] = os.environ) -> str:
    """Return the path of the config: the one named, `$DBQ_CONFIG`, or the first that there is.

    Raises `ConfigError` when there is none.

    >>> search(None, {"DBQ_CONFIG": "/srv/shop/dbq.toml"})
    '/srv/shop/dbq.toml'
    """
    path = named or environment.get("DBQ_CONFIG")
    path = path or next((each for each in CONFIGS if os.path.exists(each)), None)
    if path is None:
        raise ConfigError(
            f"there is no config: tried {' and '.join(CONFIGS)}; name one with --config or"
            " $DBQ_CONFIG, or write one with: dbq init"
        )
    return path
