"""The bytes of a table: lines, rows and marks in a piece of it, found without a loop over rows."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from .tsv import MOVED, Row, parse_line

PIECE: Final = 1 << 20  # bytes read at a time

_DEAD: Final = re.compile(rb"\n [^\n]*")


def lines_in(piece: bytes, offset: int) -> Iterator[tuple[bytes, Row | None]]:
    """Each line of a piece of the table with the row it holds, if it does."""
    for line in piece.splitlines(keepends=True) if b"\r" not in piece else _split(piece):
        yield line, parse_line(line, offset)
        offset += len(line)


def _split(piece: bytes) -> Iterator[bytes]:
    start = 0
    while start < len(piece):
        end = piece.find(b"\n", start) + 1 or len(piece)
        yield piece[start:end]
        start = end


def rows_in(piece: bytes, offset: int) -> Iterator[Row]:
    """The live rows of a piece of the table."""
    return (row for _, row in lines_in(piece, offset) if row is not None)


def status_pattern(statuses: Iterable[str]) -> re.Pattern[bytes]:
    """What finds the rows in these states without looking at the others."""
    return re.compile(rb"\t(?:%b)\t\d+\t\d+\t" % "|".join(sorted(statuses)).encode())


def rows_found(pattern: re.Pattern[bytes], piece: bytes, offset: int) -> Iterator[Row]:
    for match in pattern.finditer(piece):
        start = piece.rfind(b"\n", 0, match.start()) + 1
        end = piece.find(b"\n", match.end()) + 1 or len(piece)
        row = parse_line(piece[start:end], offset + start)
        if row is not None:
            yield row


def moved_in(piece: bytes, offset: int) -> dict[bytes, int]:
    """Id and offset of each row in a piece that bears the mark of a moved one."""
    found = {}
    for match in MOVED.finditer(piece):
        start = piece.rfind(b"\n", 0, match.start()) + 1
        if piece[start : start + 1] != b" ":
            found[piece[start : piece.find(b"\t", start)]] = offset + start
    return found


def outdated_in(piece: bytes, offset: int, moved: Mapping[bytes, int]) -> Iterator[bytes]:
    """The status of each row in a piece of which a later line is alive: what a crash left."""
    for row in rows_in(piece, offset):
        if row.offset < moved.get(row.id, 0):
            yield row.status.encode()


def dead_lines(piece: bytes) -> Iterator[tuple[int, int]]:
    """Start and end of each dead line in a piece of the table."""
    if piece.startswith(b" "):
        yield 0, piece.find(b"\n") + 1 or len(piece)
    for match in _DEAD.finditer(piece):
        yield match.start() + 1, min(match.end() + 1, len(piece))


def search_back(fd: int, job_id: bytes, start: int, end: int) -> int:
    """Offset of the last line of a job between two offsets, or -1: backwards, piece by piece."""
    needle = b"\n%b\t" % job_id
    start = max(0, start - 1)  # the newline before a row belongs to the search
    while end > start:
        at = max(start, end - PIECE)
        # Reads on past the end of the piece, for a needle that begins in it.
        found = os.pread(fd, end - at + len(needle) - 1, at).rfind(needle)
        if found >= 0:
            return at + found + 1
        end = at
    return -1
