"""What to type next, when the check has found something wrong."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from typing import Final

# An advice that is a command, or ends with one; the programs are all that an advice names.
_STEP: Final = re.compile(
    r"(?:(?P<words>.*?): )?"
    r"(?P<command>(?:dbq(?:-health|-install-cron|-install-systemd)?"
    r"|sudo|ls|crontab|timedatectl)(?: .*)?)",
    re.DOTALL,
)


class Advice:
    """The commands to type next, for the queue as the user named it.

    >>> Advice(["--file", "my queue.tsv"]).dbq("show", "a1")
    "dbq show a1 --file 'my queue.tsv'"
    """

    def __init__(self, where: Sequence[str]) -> None:
        self._where = list(where)
        self.has_config = "--config" in self._where

    def dbq(self, *words: str) -> str:
        """Return a command of `dbq` for this queue."""
        return shlex.join(["dbq", *words, *self._where])

    def health(self, user: str) -> str:
        """Return the command that checks as another user."""
        return shlex.join(["sudo", "-u", user, "dbq-health", *self._where])

    def work(self) -> str:
        """Return the command that runs a worker; only a config knows the handlers."""
        return self.dbq("work") if self.has_config else self.dbq("work", "MODULE:HANDLERS")

    def schedule(self) -> tuple[str, ...]:
        """Return what shows the schedule."""
        if not self.has_config:
            return (
                "see whether cron or systemd still starts it: crontab -l; systemctl list-timers",
            )
        tools = ("dbq-install-cron", "dbq-install-systemd")
        return tuple(shlex.join([tool, "--status", *self._where]) for tool in tools)


def parted(advice: str) -> tuple[str, str]:
    """Return the words of an advice, and the command after them: one of the two may be empty.

    >>> parted("to try again: dbq retry a1"), parted("dbq show a1")
    (('to try again', 'dbq retry a1'), ('', 'dbq show a1'))
    >>> parted("does the worker know their types?")
    ('does the worker know their types?', '')
    """
    found = _STEP.fullmatch(advice)
    return (found["words"] or "", found["command"]) if found else (advice, "")
