"""What a table that is written anew consists of: which lines go, and how the others are copied.

Only the copying: store.py holds the lock, opens, syncs and renames.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from ..job import COMPLETED
from ..support.files import SLICE, write_all
from .line import SECTOR, Row, is_moved, is_outdated, new_line
from .scan import (
    OVERLONG,
    data_in,
    dead_lines,
    ids_in,
    line_end,
    lines_in,
    moved_in,
    row_at,
    whole_lines,
)

LONG_STRETCH: Final = 1 << 16  # bytes of a table that is copied as it is

# Why a line is not just copied. A line for two reasons goes by the first.
DROP: Final = 0
DEAD: Final = 1
MARKED: Final = 2  # the new version of a moved row, which loses its mark


class Rewrite:
    """The lines of a table, on their way into a new file.

    Args:
        file: a descriptor of the table, which no other process changes meanwhile.
        size: its length in bytes; ends in a newline.
    """

    def __init__(self, file: int, size: int) -> None:
        self._file = file
        self._size = size
        self._moved: dict[bytes, int] = {}  # id -> where the row stands that was moved
        for offset, piece in whole_lines(file, size):
            self._moved.update(moved_in(piece, offset))

    def dead_bytes(self) -> int:
        """The length of all lines that a rewrite leaves out by itself."""
        return sum(end - start for start, end, why in self._special(()) if why == DEAD)

    def write(
        self,
        new: int,
        drop: Sequence[int],
        still: Callable[[Row], bool] | None,
        instead: Mapping[int, Row] = MappingProxyType({}),
        added: Iterable[Row] = (),
    ) -> int:
        """Copy all lines into the file `new` but those that go; returns how many of `drop` went.

        `drop` has the offsets of lines, ascending. With `still`, those of them go that are rows of
        which it says so. In the place of some comes the row that `instead` has for their offset;
        `added` come at the end. Raises `OSError`.
        """
        dropped = 0
        done = length = 0  # up to where the table is done, and how long the new file is
        for start, end, why in self._special(drop):
            if start < done or (why == DROP and not self._may_go(start, still)):
                continue
            length += self._copy(new, done, start, length)
            if why == MARKED:
                length += self._copy_rows(new, start, end, length)
            elif start in instead:
                length += _write_row(new, instead[start], length)
            done = end
            dropped += why == DROP
        length += self._copy(new, done, self._size, length)
        for row in added:
            length += _write_row(new, row, length)
        return dropped

    def _may_go(self, offset: int, still: Callable[[Row], bool] | None) -> bool:
        if still is None:
            return True
        row = row_at(self._file, offset)
        return row is not None and still(row)

    def _special(self, drop: Sequence[int]) -> Iterator[tuple[int, int, int]]:
        """Start and end of each line that is not just copied, and why not, in order."""
        moved = self._moved
        position = 0
        for offset, piece in whole_lines(self._file, self._size, overlong=True):
            if piece is OVERLONG:
                if position < len(drop) and drop[position] == offset:
                    position += 1
                    yield offset, line_end(self._file, offset, self._size), DROP
                continue
            found = [(start, DEAD) for start in dead_lines(piece)]
            if moved:
                found += [
                    (start, MARKED if offset + start == moved[job_id] else DEAD)
                    for start, job_id in ids_in(piece, moved)
                    if self._is_of_a_move(offset + start, moved[job_id])
                ]
            while position < len(drop) and drop[position] < offset + len(piece):
                found.append((drop[position] - offset, DROP))
                position += 1
            for start, why in sorted(found):
                yield offset + start, offset + (piece.find(b"\n", start) + 1 or len(piece)), why

    def _is_of_a_move(self, offset: int, moved_to: int) -> bool:
        """Whether a line is the marked one of a moved row, or an older one of the same job."""
        if offset >= moved_to:
            return offset == moved_to
        older, newer = row_at(self._file, offset), row_at(self._file, moved_to)
        return older is not None and newer is not None and is_outdated(older, newer)

    def _copy(self, new: int, start: int, end: int, length: int) -> int:
        """Copy the lines from `start` to `end`; returns the bytes written.

        Rows are to keep to their sectors. A long stretch is copied as it is, after a dead line of
        spaces that puts it right; in a short one each row is padded anew.
        """
        shift = (start - length) % SECTOR
        if start < end and shift and end - start < LONG_STRETCH:
            return self._copy_rows(new, start, end, length)
        filler = b""
        if start < end and shift:
            filler = b" " * (shift - 1 or SECTOR) + b"\n"
        write_all(new, filler)
        done = start
        for at, stop in data_in(self._file, start, end):
            if at > done:  # a hole stays one
                os.lseek(new, at - done, os.SEEK_CUR)
            for part in range(at, stop, SLICE):
                write_all(new, os.pread(self._file, min(SLICE, stop - part), part))
            done = stop
        if done < end:
            os.lseek(new, end - done, os.SEEK_CUR)
        return len(filler) + end - start

    def _copy_rows(self, new: int, start: int, end: int, length: int) -> int:
        lines: list[bytes] = []
        written = 0
        for line, row in lines_in(os.pread(self._file, end - start, start), start):
            lines.append(line if row is None else _line_at(length + written, line, row))
            written += len(lines[-1])
        write_all(new, b"".join(lines))
        return written


def _write_row(new: int, row: Row, length: int) -> int:
    line = new_line(length, row, moved=False)
    write_all(new, line)
    return len(line)


def _line_at(offset: int, line: bytes, row: Row) -> bytes:
    """The line of `row` as it should stand at `offset` of a new file, without a mark."""
    fits = (offset + row.tail) % SECTOR + len(line) - row.tail <= SECTOR
    # Completed rows never change again.
    if not is_moved(row) and (row.status == COMPLETED or (fits and line[-2:] == b" \n")):
        return line
    return new_line(offset, row, moved=False)
