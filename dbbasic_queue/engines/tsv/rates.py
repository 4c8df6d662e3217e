"""`queue.rates`: until when the jobs that were begun have used up the rate of their type.

Theory of operation
-------------------
A worker that begins a job writes the moment of its type first, in place, under the table's lock. So
one that is killed between the two has begun a job too few, and never one too many. The moment lies
in one sector of 512 bytes, so that a crash leaves the old one or the new.

With `durability="full"` it is on disk before the job begins; else a power cut may make a type begin
its burst anew, as does a person who deletes the file. Lines of a time that has passed say nothing,
and go when the file has grown long. A last line that was cut off, and one that cannot be read, says
nothing; `dbq fsck` tells of the latter.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ...rate import MICROS, Rate
from ...support.files import refused, refusing, replace, sync_folder
from ...support.opening import Folder, open_file
from ...table.line import SECTOR
from ...table.opened import NEVER
from ...table.rights import new_beside, open_beside
from ...table.table import Table
from ..policies import Policies
from .aside import set_aside

HEADER: Final = (
    b"# How far the jobs that were begun have used up the rate of their type ([types], rate).\n"
    b"# A line: until when, in Unix seconds, and the type. Workers write it in place.\n"
    b"# This file may be deleted: each type begins anew then, and no job is harmed.\n"
)
LONG: Final = 64 << 10  # bytes from which on lines of a time that has passed are taken out
LARGEST: Final = 1 << 20  # bytes; no type is added to a file that has more
_MOMENT: Final = 17  # bytes: 1700000000.123456
_LINE: Final = re.compile(rb"([0-9]{10})\.([0-9]{6})\t([^\t]+)\n")


def read(path: Path) -> bytes:
    """Return what the file holds; nothing if it is missing. Raises `StorageError`."""
    with refusing(path, "cannot read"):
        try:
            fd = open_file(path, os.O_RDONLY)
        except (FileNotFoundError, NotADirectoryError):
            return b""
        try:
            return _all_of(fd)
        finally:
            os.close(fd)


def bad_lines(text: bytes) -> Iterator[tuple[int, str]]:
    """Yield the number of each line that says nothing, from 1, and why."""
    for number, line in enumerate(_lines(text), 1):
        if line != b"\n" and not line.startswith(b"#") and _LINE.fullmatch(line) is None:
            yield number, "counts nothing: it is not a time in Unix seconds, a tab and a type"


def opens(text: bytes, policies: Policies, now: float) -> dict[str, float]:
    """Return when the rate of each type has one left again, or had, in Unix seconds.

    Where its rate is not known, that is when nothing of it is used up any more.
    """
    found = {}
    for match in _LINE.finditer(text):
        job_type, until = match[3].decode(errors="replace"), _moment(match)
        rate = policies.of(job_type).rate
        if rate is not None:
            until = rate.opens(until, int(now * MICROS))
        found[job_type] = until / MICROS
    return found


def _lines(text: bytes) -> list[bytes]:
    """All that end; not a last one that was cut off."""
    return re.findall(rb"[^\n]*\n", text)


def _all_of(fd: int) -> bytes:
    return os.pread(fd, 2 * LARGEST, 0)


def _moment(match: re.Match[bytes]) -> int:
    return int(match[1]) * MICROS + int(match[2])


def mend(table: Table) -> None:
    """Move the lines that say nothing into `queue.torn`. For the queue's owner only."""
    path = table.sibling("rates")
    with table.writing(), refusing(path, "cannot mend"):
        text = read(path)
        lines = _lines(text)
        bad = {number - 1 for number, _ in bad_lines(text)}
        set_aside(table, b"".join(lines[number] for number in sorted(bad)))
        _write_anew(table, [line for number, line in enumerate(lines) if number not in bad])


def _write_anew(table: Table, lines: list[bytes]) -> None:
    path, text = table.sibling("rates"), HEADER
    for line in lines:
        if _LINE.fullmatch(line):
            text += _gap(len(text)) + line
    with Folder(path.parent) as folder:
        replace(new_beside(folder, path, text, table.data_file))


def _gap(at: int) -> bytes:
    """What stands before a line at this place, so that its moment lies in one sector."""
    left = SECTOR - at % SECTOR
    return b"\n" * left if left < _MOMENT else b""


class Rates:
    """The rates of a queue's types, as one worker sees to them; all under the table's lock.

    Args:
        table: of the queue.
    """

    def __init__(self, table: Table) -> None:
        self._table = table
        self._path = str(table.sibling("rates"))
        self._fd: int | None = None
        self._identity = (-1, -1)
        self._look = NEVER  # the folder, as it was when the file was opened or was the same
        self._places: dict[bytes, int] = {}  # where the lines of types stand, as last seen
        self._last = b"", 0  # the line that was written last, and its moment
        self._long = LONG
        self._wrote = self._is_new = False  # since the last sync

    def take(self, job_type: str, rate: Rate, now: float) -> float:
        """Count a job of a type, if its rate has one left.

        Returns 0 then, and the job may be begun; else for how many seconds there is none left.

        Args:
            job_type: the job's.
            rate: of the type.
            now: Unix seconds.

        Raises `StorageError`; the job must not be begun then.
        """
        try:
            fd, name, moment = self._open(), job_type.encode(), int(now * MICROS)
            place, until = self._find(fd, name)
            after, wait = rate.take(until, moment)
            if not wait or rate.is_beyond(until, moment):
                text = b"%010d.%06d" % divmod(after, MICROS)
                if place is None:
                    self._add(fd, text + b"\t" + name + b"\n", moment)
                elif os.pwrite(fd, text, place) < _MOMENT:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                self._wrote = True
                self._last = b"%b\t%b\n" % (text, name), after
        except OSError as error:
            raise refused(error, f"cannot write {self._path}") from error
        return wait / MICROS

    def sync(self) -> None:
        """Return when what was written since the last time is on disk. Raises `StorageError`."""
        if not self._wrote or self._fd is None:
            return
        with refusing(Path(self._path), "cannot write"):
            os.fdatasync(self._fd)
            if self._is_new:
                sync_folder(self._table.data_dir)
        self._wrote = self._is_new = False

    def close(self) -> None:
        """Close the file; it is opened again when it is needed."""
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)

    def _open(self) -> int:
        """The file that has this name now, which is made where it is missing."""
        look = self._table.folder_look
        if look == self._look != NEVER and self._fd is not None:
            return self._fd
        self._look = look
        try:
            status = os.stat(self._path, follow_symlinks=False)
        except FileNotFoundError:
            self.close()
        else:
            if self._fd is not None and (status.st_dev, status.st_ino) == self._identity:
                return self._fd
            self.close()
        path = Path(self._path)
        self._fd = fd = open_beside(path, self._table.data_file)
        fcntl.fcntl(fd, fcntl.F_SETFL, 0)  # not to append: Linux would, wherever pwrite is told to
        status = os.fstat(fd)
        self._identity, self._places = (status.st_dev, status.st_ino), {}
        self._is_new = True  # perhaps: its maker need not have synced the folder
        return fd

    def _find(self, fd: int, name: bytes) -> tuple[int | None, int]:
        """Where the line of a type stands, and the moment in it; None and 0 if there is none."""
        place = self._places.get(name)
        if place is None:
            self._places = {}
            at = 0
            for line in _lines(_all_of(fd)):
                match = _LINE.fullmatch(line)
                if match is not None:
                    self._places[match[3]] = at
                at += len(line)
            place = self._places.get(name)
            if place is None:
                return None, 0
        text = os.pread(fd, _MOMENT + len(name) + 2, place)
        if text == self._last[0] and text.endswith(b"\t%b\n" % name):
            return place, self._last[1]
        match = _LINE.fullmatch(text)
        if match is None or match[3] != name:  # a person has edited the file in place
            self._places = {}
            return self._find(fd, name)
        return place, _moment(match)

    def _add(self, fd: int, line: bytes, now: int) -> None:
        """Add the line of a type at the end."""
        text = _all_of(fd)
        size = text.rfind(b"\n") + 1  # behind it, a line was cut off
        if size >= self._long:
            self._take_out(text, now)
            self._look = NEVER
            fd = self._open()
            size = os.fstat(fd).st_size
            self._long = max(LONG, 2 * size)
        elif size < len(text):
            os.ftruncate(fd, size)
        if size + len(line) > LARGEST:
            raise OSError(errno.EFBIG, "too many types have used up their rate; delete it")
        data = _gap(size) + line if size else HEADER + _gap(len(HEADER)) + line
        try:
            if os.pwrite(fd, data, size) < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            os.ftruncate(fd, size)
            raise
        self._places[line[_MOMENT + 1 : -1]] = size + len(data) - len(line)

    def _take_out(self, text: bytes, now: int) -> None:
        """Write the file anew without the lines of a time that has passed."""
        lines = _lines(text)
        alive = [line for line in lines if (m := _LINE.fullmatch(line)) and _moment(m) > now]
        _write_anew(self._table, alive)
