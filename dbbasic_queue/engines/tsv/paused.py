"""`queue.paused`: the types of jobs that no worker begins, a line each.

Theory of operation
-------------------
A change is a line at the end, written under the table's lock: `paused`, or `resumed`, which ends
all pauses above that it matches. So a crash in the middle leaves a line that says nothing, and the
pauses that were there. While nothing is paused, the file has its first lines only.

No turn of a worker looks at it. Instead, what changes it appends a mark to the table, a line of one
blank, which each worker comes upon under the lock, before it begins a job (waiting.py), and which
no other reader sees. What a person writes by hand has no mark; workers look for themselves when
they begin, and every few seconds.

A file that is missing, torn or spoiled pauses nothing; `dbq fsck` tells of lines that say nothing.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from ...errors import StorageError
from ...support.files import refusing, replace, sync_folder
from ...support.opening import Folder, open_file
from ...table.rights import advice, new_beside, open_beside
from ...table.scan import MARK
from ...table.table import Table
from ..pausing import Pause, from_fields, matches, me, paused_at, utc
from .aside import set_aside

LARGEST: Final = 64 << 10  # bytes; what stands behind them is not read
LONG: Final = 16 << 10  # bytes from which on it is written anew, by the one user who may do that
HEADER: Final = (
    b"# Types of jobs that no worker begins (dbq pause, dbq resume); globs stand for several.\n"
    b"# Without this file, nothing is paused. A line: paused or resumed, and between tabs the\n"
    b"# type, since when, until when (-: until it is resumed), by which user, and why.\n"
)
PAUSED: Final = "paused"
RESUMED: Final = "resumed"


class BadPause(ValueError):
    """A line that says nothing."""


def read(path: Path) -> bytes:
    """Return what the file holds; nothing if it is missing. Raises `StorageError`."""
    try:
        fd = open_file(path, os.O_RDONLY)
    except (FileNotFoundError, NotADirectoryError):
        return b""
    except OSError as error:
        raise StorageError(error.errno or errno.EIO, f"{path}: {error.strerror}") from error
    try:
        return os.read(fd, LARGEST)
    except OSError as error:
        raise StorageError(error.errno or errno.EIO, f"{path}: {error.strerror}") from error
    finally:
        os.close(fd)


def parse(text: bytes) -> list[Pause]:
    """Return the pauses that a file names, over or not, in the order of their types."""
    found: dict[str, Pause] = {}
    for _, word in _lines(text):
        if isinstance(word, Pause):
            found[word.type] = word
        elif isinstance(word, str):
            for job_type in [each for each in found if matches(each, word)]:
                del found[job_type]
    return sorted(found.values())


def bad_lines(text: bytes) -> Iterator[tuple[int, str]]:
    """Yield the number of each line that says nothing, from 1, and why."""
    for number, word in _lines(text):
        if isinstance(word, BadPause):
            yield number, str(word)


def _lines(text: bytes) -> Iterator[tuple[int, Pause | str | BadPause]]:
    for number, line in enumerate(text.decode("utf-8", "replace").split("\n"), 1):
        if line and not line.startswith("#"):
            try:
                yield number, _word(line)
            except ValueError as error:
                yield number, BadPause(f"pauses nothing: {error}")


def _word(line: str) -> Pause | str:
    """What a line says: a pause, or the glob that is resumed."""
    verb, *fields = line.split("\t")
    if verb == PAUSED:
        return from_fields(fields)
    if verb == RESUMED and len(fields) == 3 and all(fields):
        return fields[0]  # all of it: what is torn lacks a field
    raise ValueError("it is neither paused nor resumed, with all that belongs to it")


class Changes:
    """The change of a queue's pauses; used once."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._path = table.sibling("paused")

    def pause(self, pauses: Sequence[Pause]) -> None:
        """Note pauses. Raises `StorageError`, after which none of them is kept."""
        lines = ["\t".join((PAUSED, *pause.fields())) for pause in pauses]
        self._change(lambda there: lines, pauses[0].since)

    def resume(self, types: Sequence[str], now: int) -> list[Pause]:
        """End the pauses that these match; returns those that held until now."""
        ended: list[Pause] = []

        def lines(there: list[Pause]) -> list[str]:
            gone = [p for p in there if any(matches(p.type, each) for each in types)]
            ended[:] = paused_at(gone, now)
            return [f"{RESUMED}\t{each}\t{utc(now)}\t{me()}" for each in types] if gone else []

        self._change(lines, now)
        return ended

    def mend(self, now: int) -> None:
        """Move the lines that say nothing into `queue.torn`. For the queue's owner only."""
        table = self._table
        with table.writing(), refusing(self._path, "cannot mend"):
            text = read(self._path)
            lines = text.split(b"\n")
            bad = [lines[number - 1] + b"\n" for number, _ in bad_lines(text)]
            set_aside(table, b"".join(bad))
            self._write_anew(paused_at(parse(text), now))

    def _change(self, lines: Callable[[list[Pause]], list[str]], now: int) -> None:
        table = self._table
        with table.writing():
            before = read(self._path)
            new = "".join(f"{line}\n" for line in lines(parse(before))).encode()
            if not new:
                return
            table.append(MARK)  # alone, it does no harm
            with refusing(self._path, "cannot write"):
                self._write(before, new, now)
        table.sync()

    def _write(self, before: bytes, new: bytes, now: int) -> None:
        gap = b"\n" if before and not before.endswith(b"\n") else b""  # behind a torn line
        there = paused_at(parse(before + gap + new), now)
        if len(before) + len(gap + new) > (LONG if self._may_replace() else LARGEST):
            self._write_anew(there)
            return
        fd = open_beside(self._path, self._table.data_file)
        try:
            size = os.fstat(fd).st_size
            if not there:
                os.ftruncate(fd, size := 0)
                new, gap = b"", b""
            data = (HEADER if not size else gap) + new
            try:
                if os.write(fd, data) < len(data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError:
                os.ftruncate(fd, size)
                raise
            os.fsync(fd)  # in "normal" as well: it is rare
            if not before:
                sync_folder(self._path.parent)
        finally:
            os.close(fd)

    def _may_replace(self) -> bool:
        with Folder(self._path.parent) as folder:
            return folder.is_mine

    def _write_anew(self, pauses: Sequence[Pause]) -> None:
        lines = ["\t".join((PAUSED, *pause.fields())) + "\n" for pause in pauses]
        text = HEADER + "".join(lines).encode()
        with Folder(self._path.parent) as folder:
            if not folder.is_mine:
                said = advice(folder, self._table.data_file, "resume")
                raise PermissionError(errno.EACCES, f"it is full; {said}")
            if len(text) > LARGEST:
                raise OSError(errno.EFBIG, "too many types are paused; a glob stands for several")
            replace(new_beside(folder, self._path, text, self._table.data_file))


def seen(path: Path, now: float) -> tuple[Pause, ...]:
    """Return the pauses that hold; none where this user cannot read the file."""
    try:
        return tuple(paused_at(parse(read(path)), now))
    except StorageError:
        return ()


class PausesInFile:
    """The methods of the file engine for pauses."""

    table: Table
    now: Callable[[], float]
    wake_up: Callable[[int], None]

    def pause(self, pauses: Sequence[Pause]) -> None:
        """Have no worker begin jobs of these types: see `Engine.pause`."""
        Changes(self.table).pause(pauses)

    def resume(self, types: Sequence[str]) -> list[Pause]:
        """End the pauses that these match: see `Engine.resume`."""
        now = int(self.now())
        ended = Changes(self.table).resume(types, now)
        if ended:
            self.wake_up(now)
        return ended

    def paused(self) -> list[Pause]:
        """The pauses that hold now."""
        return paused_at(parse(read(self.table.sibling("paused"))), self.now())
