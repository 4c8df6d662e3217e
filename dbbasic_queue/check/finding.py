"""What a check of the config finds wrong."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How bad it is: a fault keeps something from working, a warning is for a person to weigh."""

    FAULT = "fault"
    WARNING = "warning"


@dataclass(frozen=True)
class Finding:
    """Something that is wrong: how bad, with which key (`""`: the whole file), and what.

    >>> str(fault("[worker].user", "there is no user 'x' on this machine"))
    "[worker].user: there is no user 'x' on this machine"
    """

    level: Level
    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}" if self.where else self.what


def fault(where: str, what: str) -> Finding:
    """Return a finding that keeps something from working."""
    return Finding(Level.FAULT, where, what)


def warning(where: str, what: str) -> Finding:
    """Return a finding for a person to weigh."""
    return Finding(Level.WARNING, where, what)
