"""The history of a file on its way to another queue, and from one."""

from __future__ import annotations

import os
from typing import Final

from ...table.table import Table
from ..history import Hour, merged
from ..history_moves import adopted_line, by_call, leaving_line, parse_leaving
from .claims import Claims
from .history import read_lines, rewrite


class MovesOfFile:
    """What `dbq migrate` does with `queue.history`; each change is a new file, synced.

    Args:
        table: beside which the history is.
        claims: by which those take turns that change it.
    """

    def __init__(self, table: Table, claims: Claims) -> None:
        self._table: Final = table
        self._claims: Final = claims

    def underway(self) -> dict[str, list[Hour]]:
        """What was taken out and is not forgotten, by call."""
        return by_call(read_lines(self._table)[1])

    def take_out(self, call: str) -> None:
        """Have all hours leave; a file that has none is not touched."""
        if read_lines(self._table)[0]:
            rewrite(
                self._table,
                self._claims,
                lambda hours, others: (
                    [],
                    [*others, *(leaving_line(call, hour) for hour in merged(hours))],
                ),
            )

    def adopt(self, call: str, hours: list[Hour]) -> None:
        """Add hours of another queue, once a call."""
        known = adopted_line(call)

        def add(there: list[Hour], others: list[str]) -> tuple[list[Hour], list[str]]:
            if known in others:
                return there, others
            return merged([*there, *hours]), [*others, known]

        rewrite(self._table, self._claims, add)

    def forget(self, call: str) -> None:
        """Remove what was taken out by a call."""
        if not os.path.lexists(self._table.sibling("history")):
            return

        def remove(hours: list[Hour], others: list[str]) -> tuple[list[Hour], list[str]]:
            left = ((line, parse_leaving(line)) for line in others)
            return hours, [line for line, found in left if found is None or found[0] != call]

        rewrite(self._table, self._claims, remove)
