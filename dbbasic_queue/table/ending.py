"""The ends of the table: its header, a torn last line, half a batch.

Theory of operation
-------------------
An append is one write at the end. One that fails is cut off again. One that a crash has cut short
is a last line without a newline, which the next writer ends or sets aside: what cannot be a row
goes into `queue.torn`, so that nothing is deleted.

An append of many lines first notes in `queue.lock` where it begins and how long it is. A note that
the next holder of the lock finds there means that the batch is not whole, and what there is of it
is set aside. A note from before a reboot is void: what a power cut leaves is not the kernel's last
word on the file.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

from ..errors import TableError
from ..support.files import refused, refusing, sync_folder, write_all
from . import scan
from .line import HEADER
from .lock import UNKNOWN, LockedFile
from .rights import open_beside

_BOM: Final = b"\xef\xbb\xbf"  # which some editors put before the first line
HEADERS: Final = tuple(mark + HEADER[:-1] + end for mark in (b"", _BOM) for end in (b"\n", b"\r\n"))


class MendedFile(LockedFile):
    """A locked file whose writers find it whole: with a header, ending in a whole line."""

    def _mend(self) -> None:
        """See to what others have left: a lost header, half a batch, a torn line."""
        if self._clean_to == UNKNOWN:
            self._check_header(mend=True)
        self._end_batch()
        if self.size != self._clean_to:
            self._end_last_line()

    def _check_header(self, *, mend: bool) -> None:
        first = os.pread(self._fd, 4096, 0)
        if first.startswith(HEADERS):
            return
        # Empty, as 1.0.0 leaves it behind when two processes meet, or as a power cut does then.
        if len(first) <= len(HEADER) and HEADER.startswith(first.rstrip(b"\0")):
            if mend:
                self.write_in_place(HEADER, 0)
                self._fdatasync()  # a table that lacks it is none, whatever else is on disk
                self.size = len(HEADER)
            return
        self._file = None  # looked at again next time, also by a reader
        line = first.split(b"\n", 1)[0][:80].decode(errors="replace")
        raise TableError(
            f"{self.data_file} is not a queue table: its first line is {line!r}, not the header"
            f" {HEADER.decode().strip()!r}. If the header was lost, put it back as the first line"
        )

    def write_in_place(self, data: bytes, offset: int) -> None:
        """Write over bytes of the table. For `Table` to say how."""
        raise NotImplementedError

    # -- the last line -----------------------------------------------------------------------

    def _end_last_line(self) -> None:
        """See to it that the file ends in a newline, whatever a crash or an editor left there."""
        if os.pread(self._fd, 1, self.size - 1) != b"\n":
            start, end = self._torn_part(self.size)
            if start < self.size:
                self._set_aside(start, end)
            else:
                self.write_in_place(b"\n", self.size)
                self.size += 1
        self._clean_to = self.size

    def _torn_part(self, size: int) -> tuple[int, int]:
        """Return where a file of this size, found without a newline, has a torn last line.

        That is its start and its end, but for a hole behind it, as truncate(1) makes one. Both are
        `size` for a line that only lacks its newline.
        """
        if self._torn[0] != size:
            end = scan.data_end(self._fd, size)
            start = scan.line_start(self._fd, end)
            if end == size and end - start <= scan.LONGEST_LINE:
                line = os.pread(self._fd, end - start, start)
                if not self.is_torn(line, start):
                    start = end
            self._torn = size, start, end
        return self._torn[1:]

    _torn = 0, 0, 0  # size of the file, and what `_torn_part` said of it

    def _new_generation(self) -> None:
        super()._new_generation()
        self._torn = 0, 0, 0

    def is_torn(self, line: bytes, offset: int) -> bool:
        """Say whether the last line of the file, found without a newline, was cut off in an append.

        A line that parses has all that counts: what follows the attempts of a new row is empty.
        The new version of a moved row may lack the end of its result; then its older line is
        alive still, and stands.
        """
        return scan.is_torn(self._fd, line, offset)

    def last_line(self) -> tuple[int, bytes, int]:
        """Return number (from 1), bytes and offset of the line at the end of the file.

        Of a long one the beginning.
        """
        size = 0 if self._file is None else scan.data_end(self._fd, self._file.size())
        if size == 0:
            return 0, b"", 0
        start = scan.line_start(self._fd, size)
        pieces = scan.whole_lines(self._fd, start, overlong=True)
        before = sum(piece.count(b"\n") for _, piece in pieces)
        return before + 1, os.pread(self._fd, min(size - start, scan.LONGEST_LINE), start), start

    def _set_aside(self, start: int, end: int) -> None:
        """Move the end of the file, from `start` on, into `queue.torn`: out of the way, not lost.

        From `end` on there is nothing but a hole.
        """
        self._write_aside([(start, end)])
        self._shorten(start)
        self.size = self._clean_to = start

    def _write_aside(self, lines: Iterable[tuple[int, int]]) -> None:
        """Copy lines, each given by its start and end, into `queue.torn`, less holes in them."""
        path = self.sibling("torn")
        with refusing(path, "cannot set lines of the queue aside in"):
            fd = open_beside(path, self.data_file)
            try:
                is_new = os.fstat(fd).st_size == 0
                for start, end in lines:
                    if start < end:
                        self._copy_aside(fd, start, end)
                os.fsync(fd)
                if is_new:  # so perhaps its name is not on disk
                    sync_folder(self.data_dir)
            finally:
                os.close(fd)

    def _copy_aside(self, fd: int, start: int, end: int) -> None:
        last = b""
        for at, stop in scan.data_in(self._fd, start, end):
            while at < stop:
                last = os.pread(self._fd, min(scan.PIECE, stop - at), at)
                write_all(fd, last)
                at += len(last)
        if not last.endswith(b"\n"):
            write_all(fd, b"\n")

    def _cut_off(self, offset: int, length: int) -> None:
        """Take back an append of `length` bytes at `offset` that failed.

        Not where another one came amid it, perhaps behind: then the next writer sets it aside.
        """
        assert self._file is not None
        size = self._file.size()
        if offset < size <= offset + length and not self.lock.disturbed:
            self._shorten(offset)
            size = offset
        self.size, self._clean_to = size, UNKNOWN

    def _shorten(self, size: int) -> None:
        """Cut the table off at `size`.

        Synced before anything else is written there: of what was cut off and what comes after,
        a power cut could leave some sectors each, which might make one line.
        """
        with refusing(self.data_file, "cannot shorten the queue"):
            os.ftruncate(self._fd, size)
        self._fdatasync()

    # -- batches -----------------------------------------------------------------------------

    def _note_batch(self, length: int) -> None:
        """Note that a batch of `length` bytes begins at the end of the file."""
        note = b"append %d %d %d %s\n" % (self._file_id(), self.size, length, _boot_id())
        try:
            os.pwrite(self.lock.fd, note, 0)
        except OSError as error:
            raise refused(error, f"cannot write to {self.lock_file}") from error

    def _forget_batch(self) -> None:
        """Take the note back when the batch is whole or cut off; else it is the next one's work.

        It would be taken to speak of what a program without a lock appends next.
        """
        assert self._file is not None
        if not self._start_of_half_batch(self._file.size()):
            with suppress(OSError):
                os.ftruncate(self.lock.fd, 0)

    def _end_batch(self) -> None:
        """Set aside what a process that died in `append_batch` has written of its batch."""
        if not self._is_noted():
            return
        start = self._start_of_half_batch(self.size)
        if start:
            self._set_aside(start, self.size)
        with refusing(self.lock_file, "cannot write to"):
            os.ftruncate(self.lock.fd, 0)

    def _is_noted(self) -> bool:
        """Say whether a process has begun a batch, and not ended it."""
        return os.lseek(self.lock.fd, 0, os.SEEK_END) > 0

    def _start_of_half_batch(self, size: int) -> int:
        """Return where in the table, `size` bytes long, a batch begins of which a part is missing.

        0 when there is none. Call it under the lock, which the writer of a batch holds.
        """
        note = os.pread(self.lock.fd, 4096, 0).split()
        if len(note) == 5 and note[0] == b"append" and note[4] == _boot_id():
            inode, start, length = (int(word) for word in note[1:4])
            if inode == self._file_id() and start < size < start + length:
                return start
        return 0

    def _end_for_readers(self, size: int) -> int:
        if self.lock.fd >= 0 and self._is_noted():
            size = self._start_of_half_batch(size) or size
        # What a reader knows must be there still when a writer has set a torn line aside.
        if size in (0, self._clean_to) or os.pread(self._fd, 1, size - 1) == b"\n":
            return size
        return self._torn_part(size)[0]

    def _file_id(self) -> int:
        assert self._file is not None
        return self._file.identity[1]


_boot: bytes | None = None


def _boot_id() -> bytes:
    """Return what tells this run of the kernel from the last."""
    global _boot
    if _boot is None:
        try:
            _boot = Path("/proc/sys/kernel/random/boot_id").read_bytes().strip()
        except OSError:
            _boot = b"-"
    return _boot
