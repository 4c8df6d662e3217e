"""What a check of the config finds wrong: a `Problem`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How bad it is: a fault keeps something from working, a warning is for a person to weigh."""

    FAULT = "fault"
    WARNING = "warning"


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Args:
        level: how bad it is.
        where: the key, such as `[worker].user`; `""` stands for the whole file.
        what: the rest of the sentence.

    >>> str(fault("[worker].user", "there is no user 'x' on this machine"))
    "[worker].user: there is no user 'x' on this machine"
    """

    level: Level
    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}" if self.where else self.what


def fault(where: str, what: str) -> Problem:
    """Return a problem that keeps something from working."""
    return Problem(Level.FAULT, where, what)


def warning(where: str, what: str) -> Problem:
    """Return a problem for a person to weigh."""
    return Problem(Level.WARNING, where, what)
