"""The commands."""

from typing import Any


def __getattr__(name: str) -> Any:
    """`COMMANDS`, which dbbasic-cli takes from here; no command of ours needs to wait for it."""
    if name != "COMMANDS":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .family import COMMANDS

    return COMMANDS
