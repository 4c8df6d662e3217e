"""`queue.history`: what workers did, beside the table, as lines of plain text.

Theory of operation
-------------------
A worker appends what it has to add in one write, and takes back what a full disk has let it write
of that: so it is there once or not at all, wherever the worker is killed. Lines of one hour and
type belong together. The first that adds in a new hour makes one of them, in a new file that is
renamed over the old one, as `dbq prune` does with what is old: only then is all of it read.

They take turns by a byte of `queue.claims`, which readers cannot open, and so not hold. Nothing is
synced but a new file: a power cut costs what the kernel had not written yet. A line that cannot be
read, as after that, stays where it is and counts nothing; one that was cut is ended first.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from ...errors import StorageError
from ...support.files import refusing, replace, write_all
from ...support.opening import Folder, open_file
from ...table.rights import may_make, new_beside, open_beside
from ...table.table import Table
from ..history import BOUNDS, COLUMNS, HOUR, Hour, add_up, merged, parse_line, to_line
from ..history_moves import tells_of_a_move
from ..interface import Ended
from .aside import set_aside
from .claims import Claims

HEADING: Final = (
    "# What the workers of this queue did, by hour (UTC) and type of job: dbq history shows it.\n"
    "# Lines of one hour and type belong together; before: all that is older than is kept.\n"
    "# waited, until its handler began, and ran: seconds in all, the longest, and how many were\n"
    f"# within {', '.join(f'{bound:g}' for bound in BOUNDS)} s, or longer.\n"
    "# leaving, adopted: what dbq migrate moves to another queue, and from one.\n"
    "# This file may be deleted: that forgets what is in it, and harms no job.\n"
    + "\t".join(COLUMNS)
    + "\n"
)
LARGEST: Final = 1 << 26  # bytes of the file that are read
PATIENCE: Final = 2.0  # seconds to wait for another worker; then it is tried a minute later
PAUSE: Final = 0.002
NOTES: Final = ("#", "hour\t")  # so begin the lines that are for people
# What the hours and the other lines become: those that cannot be read, and of history_moves.py.
Change = Callable[[list[Hour], list[str]], tuple[list[Hour], list[str]]]


def read(table: Table) -> list[Hour]:
    """The hours, one each of an hour and type. Raises `StorageError`."""
    return merged(read_lines(table)[0])


def read_lines(table: Table) -> tuple[list[Hour], list[str]]:
    """The hour of each line that has one, and the other lines. Raises `StorageError`."""
    return sort_out(_read(table))


def _read(table: Table) -> str:
    path = table.sibling("history")
    with refusing(path, "cannot read"):
        try:
            fd = open_file(path, os.O_RDONLY)
        except (FileNotFoundError, NotADirectoryError):
            return ""
        try:
            return _text(fd)
        finally:
            os.close(fd)


def bad_lines(table: Table) -> list[tuple[int, str]]:
    """Return the number of each line that counts nothing, from 1, and why. Raises `StorageError`.

    A last line without an end is left alone: a worker may be about to write it.
    """
    why = f"counts nothing: it is not the {len(COLUMNS)} columns of an hour"
    lines = _read(table).split("\n")[:-1]
    bad = (at for at, line in enumerate(lines, 1) if _bad_of(sort_out(line)[1]))
    return [(at, why) for at in bad]


def mend(table: Table, claims: Claims) -> None:
    """Move the lines that count nothing into `queue.torn`. For the queue's owner only.

    Raises `StorageError`.
    """

    def keep(hours: list[Hour], others: list[str]) -> tuple[list[Hour], list[str]]:
        bad = _bad_of(others)
        lines = "".join(f"{line}\n" for line in bad)
        set_aside(table, lines.encode("utf-8", "surrogateescape"))
        return hours, [line for line in others if line not in bad]

    rewrite(table, claims, keep)


def _bad_of(others: list[str]) -> list[str]:
    return [line for line in others if not tells_of_a_move(line)]


def add(table: Table, claims: Claims, noted: Sequence[Ended]) -> None:
    """Add attempts that have ended. Raises `StorageError`; nothing is added then."""
    path, hours = table.sibling("history"), add_up(noted)
    with _taken(claims), refusing(path, "cannot write"):
        fd = open_beside(path, table.data_file)
        try:
            status = os.fstat(fd)
            if status.st_size and is_over(status.st_mtime):
                _renew(table, fd, lambda there, others: (merged([*there, *hours]), others))
            else:
                _append(fd, status.st_size, hours)
        finally:
            os.close(fd)


def fold(table: Table, claims: Claims, before: float) -> None:
    """Add what ended in hours before a time to one hour a type, as far as this user may.

    Raises `StorageError`.
    """
    if os.path.lexists(table.sibling("history")) and may_make(table.data_file):
        rewrite(table, claims, lambda there, others: (merged(there, before), others))


def rewrite(table: Table, claims: Claims, change: Change) -> None:
    """Replace the file by one with other lines. Raises `StorageError`."""
    path = table.sibling("history")
    with _taken(claims), refusing(path, "cannot write"):
        fd = open_beside(path, table.data_file)
        try:
            _renew(table, fd, change)
        finally:
            os.close(fd)


def is_over(moment: float) -> bool:
    """Whether the hour of a time, in Unix seconds, is over."""
    return int(moment) // HOUR != int(time.time()) // HOUR


@contextmanager
def _taken(claims: Claims) -> Iterator[None]:
    """Be the only one that changes the history."""
    until = time.monotonic() + PATIENCE
    while (claim := claims.take_history()) is None:
        if time.monotonic() >= until:
            said = f"{claims.path}: another process has kept the history to itself"
            raise StorageError(errno.EAGAIN, f"{said} for {PATIENCE:g} s")
        time.sleep(PAUSE)
    try:
        yield
    finally:
        claims.release(claim)


def _append(fd: int, size: int, hours: Iterable[Hour]) -> None:
    lines = "".join(f"{to_line(hour)}\n" for hour in hours)
    if not size:
        lines = HEADING + lines
    elif os.pread(fd, 1, size - 1) != b"\n":
        lines = "\n" + lines
    try:
        write_all(fd, lines.encode("utf-8", "surrogateescape"))
    except BaseException:
        os.ftruncate(fd, size)
        raise


def _renew(table: Table, fd: int, change: Change) -> None:
    hours, others = change(*_hours(fd))
    lines = [*map(to_line, hours), *others]
    text = HEADING + "".join(f"{line}\n" for line in lines)
    path = table.sibling("history")
    with Folder(path.parent) as folder:
        data = text.encode("utf-8", "surrogateescape")
        replace(new_beside(folder, path, data, table.data_file))


def _hours(fd: int) -> tuple[list[Hour], list[str]]:
    return sort_out(_text(fd))


def _text(fd: int) -> str:
    if os.fstat(fd).st_size > LARGEST:
        raise OSError(errno.EFBIG, f"it has more than {LARGEST >> 20} MiB; delete it")
    with open(fd, "rb", closefd=False) as file:
        file.seek(0)
        return file.read().decode("utf-8", "surrogateescape")


def sort_out(text: str) -> tuple[list[Hour], list[str]]:
    """The hours in the text of a file, and the lines that are not such."""
    hours, others = [], []
    for line in text.split("\n"):
        if not line or line.startswith(NOTES):
            continue
        hour = parse_line(line)
        if hour is None:
            others.append(line)
        else:
            hours.append(hour)
    return hours, others
