"""The jobs of a table in portions, of which an onlooker reads anew only those that have changed.

Theory of operation
-------------------
A row is changed in place, in as many bytes as it had, and new ones are appended. So the same
offsets of a table hold the same lines for as long as it is not written anew, and the table can be
cut at fixed places: after the first newline behind each `BLOCK` bytes. The key of a portion is made
of its bytes (Python's own hash of them, which differs from process to process and cannot be aimed
at). To read a table of 100,000 jobs and find that three portions have changed takes a few
milliseconds, where to look at each row takes a hundred.

A row that has moved, and whose old line a crash has left behind, is in two portions until the next
writer comes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from functools import partial
from typing import Final

from ...job import Job
from ...table.line import row_status, to_job
from ...table.scan import rows_found, status_pattern
from ...table.table import Table
from ..answers import Portion

BLOCK: Final = 1 << 16  # bytes


def portions(table: Table, statuses: Collection[str]) -> Iterator[Portion]:
    """Yield the jobs in the order of the file; those in some states can be read."""
    states = status_pattern(statuses)

    def read(block: bytes, offset: int) -> tuple[dict[str, int], list[Job]]:
        counts = Counter(status.decode() for status in row_status().findall(block))
        return dict(counts), list(map(to_job, rows_found(states, block, offset)))

    for offset, piece in table.pieces():
        for start, block in _blocks(piece):
            yield Portion((offset + start, hash(block)), partial(read, block, offset + start))


def _blocks(piece: bytes) -> Iterator[tuple[int, bytes]]:
    """Whole lines, about `BLOCK` bytes of them at a time, and where they begin in a piece."""
    start = 0
    while start < len(piece):
        end = piece.find(b"\n", start + BLOCK) + 1 or len(piece)
        yield start, piece[start:end]
        start = end
