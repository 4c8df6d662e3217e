"""The bytes of a table: lines, rows and marks in a piece of it, found without a loop over rows."""

from __future__ import annotations

import errno
import functools
import os
import re
from collections.abc import Container, Iterable, Iterator, Mapping
from typing import Final

from ..job import COMPLETED, PENDING, PROCESSING, STATUSES
from .line import ANY_STATUS, ID, MOVED, Row, is_moved, parse_line

PIECE: Final = 1 << 20  # bytes read at a time
LONGEST_LINE: Final = 16 << 20  # bytes; the longest of ours have two megabytes
TOO_LONG: Final = f"is longer than {LONGEST_LINE} bytes, so not a row"
OVERLONG: Final = b"\0\n"  # stands for a longer line, which is not a row

# A line of its own, which is not a row: by it, workers learn that what lies beside the table has
# changed (engines/tsv/paused.py).
MARK: Final = b" \n"
NAMES_PENDING: Final = b"\t%b\t" % PENDING.encode()  # in every pending row; or it is a type
# Groups: something if the row is pending, nothing if it is processing; created_at; run_at.
UNFINISHED_TAIL: Final = re.compile(rb"\tp(?:(e)nding|rocessing)\t(\d+)\t(\d+)\t")
_PROCESSING_TAIL: Final = re.compile(rb"\t%b\t\d+\t" % PROCESSING.encode())

# These begin with the newline in front of a line: a byte is found much faster than a place where a
# line begins.
DEAD: Final = re.compile(rb"\n ")
EMPTY: Final = re.compile(rb"\n(?=(?:[^\S\n ][^\S\n]*)?\n)")
_ID: Final = re.compile(rb"\n(%b)\t" % ID)
_FIELD: Final = rb"[\x0b-\xff\x01-\x08]"  # no tab, newline, NUL; most bytes decided by a range
_WORD: Final = rb"[\x21-\xff\x0b-\x1f\x01-\x08]"  # the same without space
_HEAD: Final = rb"\n%%b\t%b++\t%b*+\t" % (_FIELD, _FIELD)  # id, type, payload


@functools.cache  # compiled when it is wanted: a worker that only works starts faster
def whole_row() -> re.Pattern[bytes]:
    """Return the pattern of a whole row, as `parse_line` sees it: status, created_at, run_at.

    There is nothing to backtrack to, and runs of spaces stand apart, which makes it three times as
    fast as the plain pattern.
    """
    return re.compile(
        rb"(?m)%b(%b)\t([0-9]{1,15}+)\t([0-9]{1,15}+)\t[0-9]{1,9}+"
        rb"(?:\t%b*+)?+(?:\t *+(?:%b++ *+)*+)?+\r?+$"
        % (_HEAD % (ID + b"+"), ANY_STATUS, _FIELD, _WORD)
    )


@functools.cache
def unfinished() -> re.Pattern[bytes]:
    """Return what finds the ids of rows that are not completed; the rest is yet to be parsed."""
    states = "|".join(status for status in STATUSES if status != COMPLETED).encode()
    return re.compile(rb"%b(?:%b)\t" % (_HEAD % (b"(" + ID + b"+)"), states))


def processing_in(piece: bytes, offset: int) -> list[int]:
    """Return where rows begin in a piece of the table that may be processing."""
    return [
        offset + piece.rfind(b"\n", 0, match.start()) + 1
        for match in _PROCESSING_TAIL.finditer(piece)
    ]


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


def whole_lines(
    fd: int, end: int, *, start: int = 0, most: int = PIECE, overlong: bool = False
) -> Iterator[tuple[int, bytes]]:
    """Yield (offset, whole lines) of a table up to `end` (bytes), about 1 MiB at a time; no lock.

    Begins at `start`, where a line does; `most` says how many bytes at a time.

    A torn last line is left out. So is a line of more than `LONGEST_LINE` bytes, which is not a
    row; or `OVERLONG` stands for it.
    """
    most = min(most, PIECE)
    at, length = start, most
    while at < end:
        piece = os.pread(fd, min(length, end - at), at)
        cut = piece.rfind(b"\n") + 1
        if cut:
            yield at, piece[:cut]
            at, length = at + cut, most
        elif len(piece) < length or at + length == end:
            if piece and not is_torn(fd, piece, at):
                yield at, piece
            return
        elif length < LONGEST_LINE:
            length *= 2
        else:
            if overlong:
                yield at, OVERLONG
            at, length = line_end(fd, at + length, end), most


def line_end(fd: int, at: int, end: int) -> int:
    """Return where the line ends that goes on at `at`, its newline included; or `end`."""
    while at < end:
        at = _data_from(fd, at, end)
        piece = os.pread(fd, min(PIECE, end - at), at)
        found = piece.find(b"\n")
        if found >= 0:
            return at + found + 1
        if not piece:
            break
        at += len(piece)
    return end


def line_start(fd: int, end: int) -> int:
    """Return where the line begins whose last byte is before `end`."""
    length = 1 << 12  # enough for most lines
    while end > 0:
        start = max(0, end - length)
        newline = os.pread(fd, end - start, start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        end, length = start, PIECE
    return 0


def is_sparse(fd: int) -> bool:
    """Say whether a file has holes, which read as NUL bytes and take no space."""
    status = os.fstat(fd)
    return status.st_blocks * 512 < status.st_size


def data_end(fd: int, size: int) -> int:
    """Return where a file ends that is `size` bytes long, without a hole at its end."""
    if not is_sparse(fd):
        return size
    at = end = 0
    while at < size and (at := _data_from(fd, at, size)) < size:
        at = end = min(_hole_from(fd, at, size), size)
    return end


def _data_from(fd: int, at: int, end: int) -> int:
    """Return where there is data from `at` on: behind a hole, or `end`. At once where none is."""
    try:
        return min(os.lseek(fd, at, os.SEEK_DATA), end)
    except OSError as error:
        return end if error.errno == errno.ENXIO else at


def _hole_from(fd: int, at: int, end: int) -> int:
    try:
        return os.lseek(fd, at, os.SEEK_HOLE)
    except OSError:
        return end


def data_in(fd: int, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield (start, end) of each stretch of data between two offsets of a file, less its holes."""
    if not is_sparse(fd):
        yield start, end
        return
    while start < end and (start := _data_from(fd, start, end)) < end:
        hole = min(_hole_from(fd, start, end), end)
        yield start, hole
        start = hole


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
        end = piece.find(b"\n", start) + 1 or len(piece)
        row = parse_line(piece[start:end], offset + start)
        # A malformed line must not make an older row look out of date, nor a space elsewhere.
        if row is not None and is_moved(row):
            found[row.id] = row.offset
    return found


def outdated_in(piece: bytes, offset: int, moved: Mapping[bytes, int]) -> Iterator[bytes]:
    """The status of each row in a piece of which a later line is alive: what a crash left."""
    for row in rows_in(piece, offset):
        if row.offset < moved.get(row.id, 0):
            yield row.status.encode()


def dead_lines(piece: bytes) -> Iterator[int]:
    """Where each dead line begins in a piece of the table."""
    if piece.startswith(b" "):
        yield 0
    for match in DEAD.finditer(piece):
        yield match.start() + 1


def ids_in(piece: bytes, wanted: Container[bytes]) -> Iterator[tuple[int, bytes]]:
    """Where each row begins in a piece of the table whose id is wanted, and that id."""
    for match in _ID.finditer(b"\n" + piece):
        if match[1] in wanted:
            start = match.start()
            end = piece.find(b"\n", start) + 1 or len(piece)
            if parse_line(piece[start:end]) is not None:
                yield start, match[1]


def ids_of(piece: bytes) -> list[bytes]:
    """Return what stands where an id does, in each line of a piece of the table."""
    return _ID.findall(b"\n" + piece)


def search_back(fd: int, job_id: bytes, start: int, end: int) -> int:
    """Offset of the last line of a job between two offsets, or -1: backwards, piece by piece."""
    needle = b"\n%b\t" % job_id
    limit = end
    start = max(0, start - 1)  # the newline before a row belongs to the search
    while end > start:
        at = max(start, end - PIECE)
        # Reads on past the end of the piece, for a needle that begins in it.
        stop = min(end + len(needle) - 1, limit)
        found = os.pread(fd, stop - at, at).rfind(needle)
        if found >= 0:
            return at + found + 1
        end = at
    return -1


def row_at(fd: int, offset: int) -> Row | None:
    """The live row that begins at `offset`; None when no row does."""
    length = 512
    while True:
        piece = os.pread(fd, length, offset - 1)
        if not piece.startswith(b"\n"):
            return None
        end = piece.find(b"\n", 1)
        if end > 0:
            return parse_line(piece[1 : end + 1], offset)
        if len(piece) < length:  # a last line without a newline
            line = piece[1:]
            return None if is_torn(fd, line, offset) else parse_line(line, offset)
        if length > LONGEST_LINE:
            return None
        length *= 4


def last_row(fd: int, job_id: bytes, start: int, end: int) -> Row | None:
    """The last live row of a job between two offsets."""
    while (offset := search_back(fd, job_id, start, end)) >= 0:
        row = row_at(fd, offset)
        if row is not None:
            return row
        end = offset - 1  # a malformed line that begins like the job's
    return None


def is_torn(fd: int, line: bytes, offset: int) -> bool:
    """Say whether a last line without a newline was cut off while it was being written."""
    row = parse_line(line, offset) if len(line) <= LONGEST_LINE else None
    if row is None:
        return True
    return is_moved(row) and last_row(fd, row.id, 0, offset - 1) is not None
