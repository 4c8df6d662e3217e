"""The table written anew: a new file beside the old one, renamed over it.

Theory of operation
-------------------
`renew` (prune, compaction, `fsck --repair`) copies the table while other processes go on with it,
then brings the copy up to date until little is left to do (rewrite.py), and does only that little
under the lock, with the rename. So the others wait for milliseconds, however long the table is.
What another process wrote anew meanwhile is begun again; after some times the lock is held.

`rewrite` does all of it under a lock that the caller holds.
"""

from __future__ import annotations

import fcntl
import logging
import os
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final

from ..errors import StorageError, TableError
from ..support.files import (
    NewFile,
    Staged,
    copy_all,
    keep_status,
    refusing,
    remove_leftovers,
    replace,
    write_all,
)
from ..support.opening import SAFE, Folder, SecondName
from .ending import HEADERS
from .line import Row, parse_line
from .opened import OpenTable
from .reading import ReadTable
from .rewrite import CHUNK, Rewrite, Unwanted, nothing
from .rights import may_make, new_table, require_owner
from .scan import line_end, line_start

log = logging.getLogger("dbbasic_queue")

WORTH_COMPACTING: Final = 1 << 20  # dead bytes, and a quarter of the file
TRIES: Final = 3  # before the lock is held for all of it
ROUNDS: Final = 10  # that look for what has changed meanwhile
FEW: Final = 4  # changed pieces that are left for when the lock is held
BATCH: Final = 100  # lines set aside under one lock
SHOWN: Final = 80  # bytes of what is not a table, in a message


class RenewableTable(ReadTable):
    """A table that can be written anew."""

    _killed = False  # lines, since the last look at whether to compact
    renews = False  # whether a table that has a second name gets a file of its own

    def require_owner(self, command: str) -> None:
        """Raise `StorageError` unless this process may write the table anew.

        Args:
            command: of `dbq`, for the message, which tells a user without permission to run it
                as the owner.
        """
        with refusing(self.data_file, f"{command} writes the queue anew:"):
            require_owner(self.data_file, command)

    # -- while others go on ------------------------------------------------------------------------

    def renew(self, unwanted: Unwanted = nothing) -> int:
        """Write the table anew without dead lines and unwanted ones; returns how many of these.

        What else stays and goes is as `rewrite` has it. `unwanted` is asked for each piece of the
        table, of some again. Call it without the lock. Raises `StorageError`.
        """
        for _ in range(TRIES):
            with self.writing():
                generation = self.generation
            dropped = self._renewed(unwanted, generation)
            if dropped is not None:
                return dropped
        with self.writing():
            return self._rewrite(unwanted)

    def _renewed(self, unwanted: Unwanted, generation: int) -> int | None:
        """`renew` in this generation; None when there is another one before it is done."""
        file, size = self._whole(generation)
        if file is None:
            return None
        with refusing(self.data_file, "cannot rewrite the queue"):
            new = self._staged(file)
        with new:
            rewrite = Rewrite(file.fd, size, unwanted)
            done = 0
            for _ in range(ROUNDS):
                left = self._copy(rewrite, new, file, done, size)
                with refusing(self.data_file, "cannot rewrite the queue"):
                    os.fsync(new.fd)
                done, (now, size) = size, self._whole(generation)
                if now is None:
                    return None
                if left <= FEW:
                    break
            with self.writing():
                status, copied = os.fstat(file.fd), os.fstat(new.fd)
                if self.generation != generation or _rights(status) != _rights(copied):
                    return None
                self._copy(rewrite, new, file, done, self.size)
                self._put(new)
        return rewrite.dropped

    def _whole(self, generation: int) -> tuple[OpenTable | None, int]:
        """The table and up to where it has whole lines; None if the generation is another one."""
        with self.reading():
            file = self._file
            if file is None or self.generation != generation:
                return None, 0
            return file, line_start(file.fd, self.size)

    def _copy(self, rewrite: Rewrite, new: Staged, file: OpenTable, done: int, size: int) -> int:
        """Bring the new file up to date; returns how many pieces that took."""

        def read(start: int, end: int) -> bytes:
            with self.reading():  # so that no row is read while it changes
                return os.pread(file.fd, end - start, start)

        with refusing(self.data_file, "cannot rewrite the queue"):
            changed = rewrite.refresh(new.fd, read)
            rewrite.copy(new.fd, self.pieces(done, size, file, overlong=True))
        return changed + (size - done) // CHUNK

    def set_lines_aside(self, offsets: Iterable[int], generation: int) -> bool:
        """Move the lines at these offsets into `queue.torn`. Call it without the lock.

        Returns false, and leaves the table as it is, when its generation is another one, in which
        offsets mean other lines. Raises `StorageError`.
        """
        drop = sorted(offsets)
        for start in range(0, len(drop), BATCH):
            with self.writing():
                if self.generation != generation:
                    return False
                batch = drop[start : start + BATCH]
                self._write_aside((at, line_end(self._fd, at, self.size)) for at in batch)
        return self._renewed(_listed(drop), generation) is not None

    # -- under the lock ----------------------------------------------------------------------------

    def rewrite(
        self,
        drop: Sequence[int] = (),
        still: Callable[[Row], bool] | None = None,
        instead: Mapping[int, Row] = MappingProxyType({}),
        added: Iterable[Row] = (),
    ) -> int:
        """Write the table anew, without dead lines and without some others; returns how many.

        The others are the lines at the offsets `drop` (ascending); with `still`, those of them that
        are rows of which it says so. Out of date lines of moved rows go, too, and then the marks of
        these. All else stays, malformed lines byte for byte. So do owner, mode and extended
        attributes. Call it under the exclusive lock.

        `instead` has rows, by offset, that come in the place of some of those lines, and `added`
        those that come at the end.
        """
        return self._rewrite(_listed(drop, still), instead, added)

    def _rewrite(
        self,
        unwanted: Unwanted,
        instead: Mapping[int, Row] = MappingProxyType({}),
        added: Iterable[Row] = (),
    ) -> int:
        file = self._file
        assert file is not None
        with refusing(self.data_file, "cannot rewrite the queue"), self._staged(file) as new:
            rewrite = Rewrite(file.fd, self.size, unwanted, instead)
            rewrite.copy(new.fd, self.pieces(0, self.size, file, overlong=True))
            rewrite.add(new.fd, added)
            self._put(new)
        return rewrite.dropped

    def replace_with(self, table: bytes) -> None:
        """Put a whole other table in the place of this one. Call it under the exclusive lock."""
        if not table.startswith(HEADERS):
            raise TableError(f"not a queue table: it begins with {table[:80]!r}, not the header")
        file = self._file
        assert file is not None
        with refusing(self.data_file, "cannot rewrite the queue"), self._staged(file) as new:
            write_all(new.fd, table)
            self._put(new)

    def replace_by(self, source: int, aside: Path | None) -> None:
        """Put a copy of another table, which a descriptor has, in the place of this one.

        Call it under the exclusive lock. A copy of this one is kept as `aside`, if that is given.
        Not by a second name of it: a table that has one is not opened any more.
        """
        header = os.pread(source, SHOWN, 0)
        if not header.startswith(HEADERS):
            raise TableError(f"not a queue table: it begins with {header!r}, not the header")
        file = self._file
        assert file is not None
        with refusing(self.data_file, "cannot restore the queue"):
            if aside is not None:
                old = NewFile(aside, b"", own=lambda fd: keep_status(file.fd, fd))
                with Staged(old) as kept:
                    copy_all(file.fd, kept.fd)
                    os.fsync(kept.fd)
                    kept.put()
                    kept.folder.sync()  # before the other has its name
            with self._staged(file) as new:
                copy_all(source, new.fd)
                self._put(new)

    def _staged(self, file: OpenTable) -> Staged:
        """Begin a new file with the rights of the table; what others have left of such goes."""
        with Folder(self.data_dir) as folder:
            remove_leftovers(folder, self.data_file.name)
        return Staged(NewFile(self.data_file, b"", own=lambda fd: keep_status(file.fd, fd)))

    def _put(self, new: Staged) -> None:
        """Put a new file, synced, in the place of the table. Call it under the exclusive lock."""
        with refusing(self.data_file, "cannot rewrite the queue"):
            os.fsync(new.fd)
            new.put()
            new.folder.sync()
        with Folder(self.data_dir) as folder:
            file = self._mine.file = self._open_current(folder, fcntl.LOCK_EX)
        assert file is not None
        self.size = self._clean_to = file.size()

    def _renew(self, folder: Folder, fault: OSError) -> bool:
        """Copy the table to a file of the folder's owner; one with a second name only if told to.

        2.0.0 made the table the property of the user who compacted it.
        """
        if isinstance(fault, SecondName) and not self.renews:
            return False
        if not folder.is_mine:
            return False
        fd = os.open(self.data_file.name, os.O_RDONLY | SAFE, dir_fd=folder.fd)
        try:
            replace(new_table(folder, self.data_file, lambda new: copy_all(fd, new)))
        finally:
            os.close(fd)
        log.warning("%s: %s; it is a file of its own now", self.data_file, fault.strerror)
        return True

    # -- compaction --------------------------------------------------------------------------------

    def compact_if_moved(self) -> None:
        """`compact`, when this process has moved rows since the last time."""
        if self._killed:
            self._killed = False
            try:
                self.compact()
            except StorageError as error:  # no space for a second file: the first is good, too
                log.warning("not compacted: %s", error, extra={"event": "not compacted"})

    def compact(self) -> bool:
        """Renew the table when dead lines make up a quarter of it and 1 MiB; says whether."""
        file, size = self.snapshot()
        if file is None or size <= WORTH_COMPACTING or not may_make(self.data_file):
            return False  # the latter is a producer, which leaves it to the next worker
        dead = Rewrite(file.fd, size).dead_bytes()
        if dead <= max(WORTH_COMPACTING, size // 4):
            return False
        self.renew()
        return True


def _rights(status: os.stat_result) -> tuple[int, int]:
    return status.st_gid, status.st_mode


def _listed(drop: Sequence[int], still: Callable[[Row], bool] | None = None) -> Unwanted:
    """Say that the lines at these offsets go; with `still`, the rows of which it says so."""

    def unwanted(offset: int, piece: bytes) -> Iterable[int]:
        first, last = bisect_left(drop, offset), bisect_left(drop, offset + len(piece))
        found = drop[first:last]
        if still is None:
            return found
        rows = (parse_line(piece[at - offset : piece.find(b"\n", at - offset) + 1]) for at in found)
        return [at for at, row in zip(found, rows, strict=True) if row is not None and still(row)]

    return unwanted
