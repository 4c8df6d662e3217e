"""What a table that is written anew consists of: which lines go, and how the others are copied.

Theory of operation
-------------------
The table is copied a piece at a time, each read at once, while other processes go on changing it.
So a piece that has rows which may change is remembered by its hash, and where its copy stands in
the new file. `refresh` reads these pieces again, and brings the copies of those that differ up to
date, row by row. Completed rows never change; whatever else writes to one, writes the table anew.
Done again and again, the last time under the table's lock, it has less to do each time.

A row that does not fit where its copy stands is written at the end of the new file.

Only the copying: renewing.py takes the lock, opens, syncs and renames.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from ..job import COMPLETED, STATUSES
from ..support.files import SLICE
from .line import SECTOR, Row, in_place, is_moved, is_outdated, new_line
from .scan import (
    OVERLONG,
    PIECE,
    data_in,
    dead_lines,
    ids_in,
    line_end,
    lines_in,
    moved_in,
    row_at,
    whole_lines,
)

CHUNK: Final = 1 << 16  # bytes that are copied, and compared, at a time
LONG_STRETCH: Final = 1 << 14  # bytes of a table that are copied as they are

# Why a line is not just copied. A line for two reasons goes by the first.
DROP: Final = 0
DEAD: Final = 1
MARKED: Final = 2  # the new version of a moved row, which loses its mark

_CHANGING: Final = (
    rb"\t(?:%b)\t\d" % "|".join(status for status in STATUSES if status != COMPLETED).encode()
)

# Says which lines of a piece go that begins at an offset: their offsets, ascending.
Unwanted = Callable[[int, bytes], Iterable[int]]


def nothing(offset: int, piece: bytes) -> Iterable[int]:
    """Let all lines stay."""
    return ()


class _Copied(NamedTuple):
    """A piece of the table that may change, and where its copy is."""

    start: int
    end: int
    hash: int
    at: int  # in the new file
    to: int


class Rewrite:
    """The lines of a table, on their way into a new file.

    Args:
        file: a descriptor of the table.
        size: its length in bytes, or up to where it is copied at first; ends in a newline.
        unwanted: says which lines go.
        instead: rows, by offset, that come in the place of some of those lines.
    """

    def __init__(
        self,
        file: int,
        size: int,
        unwanted: Unwanted = nothing,
        instead: Mapping[int, Row] = MappingProxyType({}),
    ) -> None:
        self.dropped = 0  # of the unwanted lines
        self._length = 0  # of the new file
        self._file = file
        self._size = size
        self._unwanted = unwanted
        self._instead = instead
        self._copied: list[_Copied] = []
        # Of pieces that `refresh` has changed: start -> where each line is -> where its copy is.
        self._places: dict[int, dict[int, int]] = {}
        self._moved: dict[bytes, int] = {}  # id -> where the row stands that was moved
        for offset, piece in whole_lines(file, size):
            self._moved.update(moved_in(piece, offset))

    def dead_bytes(self) -> int:
        """Return the length of all lines that a rewrite leaves out by itself."""
        return sum(
            end - start
            for offset, piece in whole_lines(self._file, self._size)
            for start, end, why in self._special(offset, piece, ())
            if why == DEAD
        )

    # -- copying -----------------------------------------------------------------------------------

    def copy(self, new: int, pieces: Iterable[tuple[int, bytes]]) -> None:
        """Copy pieces of the table, one after the other, but the lines that go, into a new file.

        Raises `OSError`.
        """
        for start, lines in pieces:
            if lines is OVERLONG:
                self._copy_overlong(new, start)
                continue
            for offset, piece in _chunks(start, lines):
                at = self._length
                self._copy_piece(new, offset, piece)
                if re.search(_CHANGING, piece):
                    known = _Copied(offset, offset + len(piece), hash(piece), at, self._length)
                    self._copied.append(known)

    def add(self, new: int, rows: Iterable[Row]) -> None:
        """Write rows at the end of the file `new`. Raises `OSError`."""
        for row in rows:
            self._write(new, new_line(self._length, row, moved=False))

    def _copy_piece(self, new: int, offset: int, piece: bytes) -> None:
        done = 0
        for start, end, why in self._special(offset, piece, self._unwanted(offset, piece)):
            if start < done:
                continue
            self._copy(new, offset + done, piece[done:start])
            if why == MARKED:
                self._copy_rows(new, offset + start, piece[start:end])
            elif offset + start in self._instead:
                self.add(new, [self._instead[offset + start]])
            done = end
            self.dropped += why == DROP
        self._copy(new, offset + done, piece[done:])

    def _special(
        self, offset: int, piece: bytes, drop: Iterable[int]
    ) -> Iterator[tuple[int, int, int]]:
        """Yield start and end in a piece of each line that is not just copied, and why not."""
        moved = self._moved
        found = [(start, DEAD) for start in dead_lines(piece)]
        if moved:
            found += [
                (start, MARKED if offset + start == moved[job_id] else DEAD)
                for start, job_id in ids_in(piece, moved)
                if self._is_of_a_move(offset + start, moved[job_id])
            ]
        found += [(start - offset, DROP) for start in drop]
        for start, why in sorted(found):
            yield start, piece.find(b"\n", start) + 1 or len(piece), why

    def _is_of_a_move(self, offset: int, moved_to: int) -> bool:
        """Whether a line is the marked one of a moved row, or an older one of the same job."""
        if offset >= moved_to:
            return offset == moved_to
        older, newer = row_at(self._file, offset), row_at(self._file, moved_to)
        return older is not None and newer is not None and is_outdated(older, newer)

    def _copy(self, new: int, start: int, lines: bytes) -> None:
        """Copy the lines that begin at `start`.

        Rows are to keep to their sectors. A long stretch is copied as it is, after a dead line of
        spaces that puts it right; in a short one each row is padded anew.
        """
        shift = (start - self._length) % SECTOR
        if lines and shift and len(lines) < LONG_STRETCH:
            self._copy_rows(new, start, lines)
        elif lines:
            self._write(new, _filler(shift) + lines)

    def _copy_rows(self, new: int, start: int, lines: bytes) -> None:
        copies: list[bytes] = []
        written = 0
        for line, row in lines_in(lines, start):
            copies.append(line if row is None else _line_at(self._length + written, line, row))
            written += len(copies[-1])
        self._write(new, b"".join(copies))

    def _copy_overlong(self, new: int, start: int) -> None:
        """Copy a line that is too long for a row; a hole in it stays one."""
        if start in self._unwanted(start, OVERLONG):
            self.dropped += 1
            return
        end = line_end(self._file, start, os.fstat(self._file).st_size)
        self._write(new, _filler((start - self._length) % SECTOR))
        done = start
        for at, stop in data_in(self._file, start, end):
            self._length += at - done
            for part in range(at, stop, PIECE):
                self._write(new, os.pread(self._file, min(PIECE, stop - part), part))
            done = stop
        self._length += end - done

    def _write(self, new: int, data: bytes) -> int:
        """Write at the end of the new file; returns where."""
        at = self._length
        for start in range(0, len(data), SLICE):
            _write_at(new, data[start : start + SLICE], at + start)
        self._length += len(data)
        return at

    # -- what has changed since --------------------------------------------------------------------

    def refresh(self, new: int, read: Callable[[int, int], bytes]) -> int:
        """Bring the copies up to date; returns how many pieces had changed. Raises `OSError`.

        Args:
            new: a descriptor of the new file.
            read: returns the bytes of the table between two offsets, each row whole.
        """
        changed = 0
        for number, known in enumerate(self._copied):
            piece = read(known.start, known.end)
            if hash(piece) != known.hash:
                self._refresh(new, known, piece)
                self._copied[number] = known._replace(hash=hash(piece))
                changed += 1
        return changed

    def _refresh(self, new: int, known: _Copied, piece: bytes) -> None:
        """Bring the copy of one piece up to date, line by line."""
        before = self._places.get(known.start, {})
        copies = self._lines_of_copy(new, known, set(before.values()))
        now = self._places[known.start] = {}
        gone = set(self._unwanted(known.start, piece))
        at = known.start
        for line, row in lines_in(piece, known.start):
            copy = before.pop(at, -1)
            if _is_live(line, row):
                if copy < 0 and (left := copies.get(line if row is None else row.id)):
                    copy = left.pop(0)
                if at in gone or (row is not None and self._is_outdated(row)):
                    self.dropped += copy >= 0 and at in gone
                    self._blank(new, copy)
                else:
                    # A row that is not what it was when it was left out.
                    self.dropped -= copy < 0 and row is not None
                    now[at] = self._put(new, copy, line, row)
            else:
                self._blank(new, copy)
            at += len(line)
        for left in copies.values():
            for copy in left:
                self._blank(new, copy)

    def _lines_of_copy(
        self, new: int, known: _Copied, taken: Container[int]
    ) -> dict[bytes, list[int]]:
        """Return where the live lines of a copy begin: of rows by their id, of others by text.

        But for those that are `taken`, as it is known which lines they are of.
        """
        found: dict[bytes, list[int]] = {}
        at = known.at
        for line, row in lines_in(os.pread(new, known.to - known.at, known.at), known.at):
            if _is_live(line, row) and at not in taken:
                found.setdefault(line if row is None else row.id, []).append(at)
            at += len(line)
        return found

    def _is_outdated(self, row: Row) -> bool:
        moved_to = self._moved.get(row.id, 0)
        return row.offset < moved_to and self._is_of_a_move(row.offset, moved_to)

    def _put(self, new: int, at: int, line: bytes, row: Row | None) -> int:
        """See that the copy of a line, `at` or at none (-1), is as the line is; returns where."""
        if row is None:
            if at >= 0 and os.pread(new, len(line), at) == line:
                return at
            self._blank(new, at)
            return self._write(new, line)
        copy = row_at(new, at) if at >= 0 else None
        if copy is not None and _state(copy) == _state(row):
            return at
        changed = None
        if copy is not None and _work(copy) == _work(row):
            times = row.run_at, row.attempts
            changed = in_place(copy, row.status, *times, row.error, row.result)
        if changed is not None:
            _write_at(new, changed.line, at)
            return at
        self._blank(new, at)
        return self._write(new, new_line(self._length, row, moved=is_moved(row)))

    def _blank(self, new: int, at: int) -> None:
        """Make a line of the new file a dead one."""
        if at >= 0:
            _write_at(new, b" " * (line_end(new, at, self._length) - at - 1), at)


def _write_at(fd: int, data: bytes, at: int) -> None:
    while data:
        written = os.pwrite(fd, data, at)
        data, at = data[written:], at + written


def _is_live(line: bytes, row: Row | None) -> bool:
    """Whether a line is a row, or a malformed one: not a dead line, nor an empty one."""
    return row is not None or not (line.startswith(b" ") or line.isspace())


def _chunks(start: int, lines: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield lines in pieces of `CHUNK` bytes or, if one is longer, a little more."""
    at = 0
    while at < len(lines):
        end = lines.find(b"\n", at + CHUNK - 1) + 1 or len(lines)
        yield start + at, lines[at:end]
        at = end


def _filler(shift: int) -> bytes:
    """Return a dead line after which rows stand where they stood in their sectors."""
    return b" " * (shift - 1 or SECTOR) + b"\n" if shift else b""


def _work(row: Row) -> tuple[bytes, bytes, bytes, int]:
    return row.id, row.type, row.payload.strip(), row.created_at


def _state(row: Row) -> tuple[object, ...]:
    return *_work(row), row.status, row.run_at, row.attempts, row.error, row.result


def _line_at(offset: int, line: bytes, row: Row) -> bytes:
    """The line of `row` as it should stand at `offset` of a new file, without a mark."""
    fits = (offset + row.tail) % SECTOR + len(line) - row.tail <= SECTOR
    # Completed rows never change again.
    if not is_moved(row) and (row.status == COMPLETED or (fits and line[-2:] == b" \n")):
        return line
    return new_line(offset, row, moved=False)
