"""Which worker runs which job: kernel locks, not clocks.

Theory of operation
-------------------
A worker that runs a job holds a lock on one byte of `queue.claims`, chosen by the job's id. The
kernel drops it the instant the process dies, however it dies, and after a reboot there is none.
So a job that runs for ten hours is never taken for dead, and one whose worker was killed is seen
at once. All of it happens under the table's lock; the claim outlives that lock.

The locks are *open file description* locks (fcntl(2), F_OFD_SETLK). The traditional ones have a
trap that a job queue steps into: when a process closes any descriptor of the file, all its locks
are gone, so a handler that backs up or checksums the folder would give its own job away. These
have their own: a forked child shares them. The child's copy is closed as soon as it is born.
Where the kernel has none (not Linux), the traditional ones serve, and the trap is back.

The file's modification time is the time of the last worker run. Its text says what it is for.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

try:  # by itself: all of `hashlib` loads OpenSSL, at each start of a worker
    from _blake2 import blake2b
except ImportError:
    from hashlib import blake2b

from ...errors import StorageError
from ...support.opening import is_ours, open_file, set_apart
from ...table.opened import disown_closed, hold, identity
from ...table.rights import ensure_folder, open_beside
from .kernel_locks import is_locked

NOTE: Final = (
    b"Locks of running jobs live on bytes of this file; its time is that of the last worker run.\n"
    b"Do not delete it while workers run: their jobs would look abandoned and be run again.\n"
)

_SETLK: Final[int] = getattr(fcntl, "F_OFD_SETLK", fcntl.F_SETLK)
_GETLK: Final[int] = getattr(fcntl, "F_OFD_GETLK", fcntl.F_GETLK)
# struct flock: type, whence, start, len, pid; "0q" pads the end as the C compiler does.
_FLOCK: Final = struct.Struct("@hhqqi0q")
_pack: Final = _FLOCK.pack
_JOBS: Final = 1 << 61  # the bytes from here on are jobs, those below are worker slots
HISTORY: Final = (1 << 59) - 1  # the byte of the process that adds to the history
_BELOW: Final = _JOBS - 1
# From here on, up to those of restart.py, are the limits of types, at most as many each.
_LIMITS: Final = 1 << 59
MOST_OF_TYPE: Final = 1 << 16
_BELOW_LIMITS: Final = _LIMITS - MOST_OF_TYPE


def byte_of(job_id: bytes) -> int:
    """The byte that stands for a job. If two jobs share one, they only never run at the same
    time. Workers of 2.0.0 may be at work, so it is the byte that they choose."""
    if job_id < b"g":
        with suppress(ValueError):
            return _JOBS | int(job_id, 16) & _BELOW  # of 2.0.0
    return _JOBS | int.from_bytes(blake2b(job_id, digest_size=8).digest(), "big") & _BELOW


def _bytes_of_type(job_type: str, count: int) -> range:
    first = _LIMITS | byte_of(b"type " + job_type.encode()) & _BELOW_LIMITS
    return range(first, first + count)


def _locks_of(process: int, fd: str, path: str) -> Iterator[tuple[int, int]]:
    """(first byte, process) of each lock that a process holds through a descriptor of `path`."""
    with suppress(FileNotFoundError):  # closed meanwhile
        if os.readlink(f"/proc/{process}/fd/{fd}") == path:
            with open(f"/proc/{process}/fdinfo/{fd}") as lines:
                for line in lines:
                    if line.startswith("lock:"):
                        yield int(line.split()[-2]), process


class Claims:
    """The claims of one process on the jobs of one table.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> claims = Claims(folder / "queue.claims", folder / "queue.tsv")
    >>> claim = claims.take(b"a1")
    >>> claims.take(b"a1") is None, claims.is_held(b"a1")
    (True, True)
    >>> claims.release(claim); claims.is_held(b"a1")
    False
    """

    def __init__(self, path: Path, table: Path) -> None:
        self.path = path
        self._table = table  # whose mode the file takes on
        self._mutex = threading.RLock()
        self.fd = -1
        self.writable = False
        self.identity = (0, 0)  # of the open file
        self._mine: set[int] = set()  # a process's own locks do not exclude its threads
        self._shared: dict[int, int] = {}  # byte -> how often it was taken
        hold(self)

    def __del__(self) -> None:
        # A claim lasts as long as the process; `os` is None while the interpreter ends.
        if (
            self.fd >= 0
            and not self._mine
            and os is not None
            and not sys.is_finalizing()
            and is_ours(self.fd)
        ):
            os.close(self.fd)

    def take(self, job_id: bytes) -> int | None:
        """Claim a job; None when it is claimed already, by this process or another.

        Raises `StorageError`.
        """
        return self._lock(byte_of(job_id))

    def release(self, claim: int) -> None:
        """Give back what `take` returned. Harmless in a child forked since."""
        # Without the mutex: while a claim is ours, the file stays open.
        if claim in self._mine:
            try:  # noqa: SIM105 - `suppress` is written in Python
                fcntl.fcntl(self.fd, _SETLK, _pack(fcntl.F_UNLCK, 0, claim, 1, 0))
            except (OSError, ValueError):  # closed by the program: the claim is gone
                pass
            self._mine.discard(claim)

    def is_held(self, job_id: bytes) -> bool:
        """Whether any process holds a claim on this job.

        A reader, who has no permission to open the claims, learns it from the kernel's list of
        locks. Raises `StorageError`, also when that list cannot tell.
        """
        return self._is_locked(byte_of(job_id))

    def _is_locked(self, byte: int) -> bool:
        with self._mutex:
            self._keep()
            if byte in self._mine:
                return True
            self._let_go_of_deleted()
            try:
                if not self._open(writable=False):
                    return False
            except StorageError as error:
                if error.errno != errno.EACCES:
                    raise
                held = is_locked(self.path, byte, self._table)
                if held is None:
                    raise
                return held
            query = _pack(fcntl.F_WRLCK, 0, byte, 1, 0)
            try:
                answer = fcntl.fcntl(self.fd, _GETLK, query)
            except OSError as error:
                raise self._refused("cannot read the claims", error) from error
            return bool(_FLOCK.unpack(answer)[0] != fcntl.F_UNLCK)

    def holders(self) -> dict[int, int]:
        """Byte -> id of the process that holds a claim on it, as far as this user may see.

        The kernel tells the locks of a descriptor in /proc/PID/fdinfo (proc(5)), to the user whose
        process it is and to root.
        """
        wanted = os.path.realpath(self.path)
        found: dict[int, int] = {}
        with suppress(OSError):  # no /proc: not Linux
            for process in filter(str.isdigit, os.listdir("/proc")):
                with suppress(OSError):  # it ended, or is another user's
                    for fd in os.listdir(f"/proc/{process}/fd"):
                        found.update(_locks_of(int(process), fd, wanted))
        return found

    def take_slot(self, count: int) -> int | None:
        """Take one of `count` worker slots, held until `release_slot` or the process ends.

        Returns its number, or None when all are taken.
        """
        return next((slot for slot in range(count) if self._lock(slot) is not None), None)

    def release_slot(self, slot: int) -> None:
        """Give a worker slot back."""
        self.release(slot)

    def take_of(self, job_type: str, count: int) -> int | None:
        """Take one of `count` bytes that stand for running jobs of a type; None when all are taken.

        To be given back by `release`.
        """
        bytes_of_type = _bytes_of_type(job_type, count)
        return next((byte for byte in bytes_of_type if self._lock(byte) is not None), None)

    def are_all_taken(self, job_type: str, count: int) -> bool:
        """Whether `count` jobs of a type run, so that `take_of` would find no byte for another.

        Raises `StorageError` as `is_held` does.
        """
        return all(map(self._is_locked, _bytes_of_type(job_type, count)))

    def take_history(self) -> int | None:
        """Be the one that adds to the history, until `release`; None while another does."""
        return self._lock(HISTORY)

    def share(self, byte: int) -> None:
        """Hold a byte together with other workers, until `unshare` or the process ends."""
        with self._mutex:
            if not self._shared.get(byte):
                self._keep()
                self._open(writable=True)
                fcntl.fcntl(self.fd, _SETLK, _pack(fcntl.F_RDLCK, 0, byte, 1, 0))
            self._shared[byte] = self._shared.get(byte, 0) + 1

    def unshare(self, byte: int) -> None:
        """Let go of such a byte, once for each time that it was taken."""
        with self._mutex:
            left = self._shared.pop(byte, 0) - 1
            if left > 0:
                self._shared[byte] = left
            elif left == 0:
                with suppress(OSError, ValueError):  # closed by the program: the lock is gone
                    fcntl.fcntl(self.fd, _SETLK, _pack(fcntl.F_UNLCK, 0, byte, 1, 0))

    def is_shared(self, first: int, end: int) -> bool:
        """Whether another process holds a byte from `first` on, before `end`."""
        with self._mutex:
            self._keep()
            self._let_go_of_deleted()
            if first >= end or not self._open(writable=False):
                return False
            query = _pack(fcntl.F_WRLCK, 0, first, end - first, 0)
            try:
                answer = fcntl.fcntl(self.fd, _GETLK, query)
            except OSError as error:
                raise self._refused("cannot read the claims", error) from error
            return bool(_FLOCK.unpack(answer)[0] != fcntl.F_UNLCK)

    def mark_run(self) -> None:
        """Note that a worker is at work now: the dead man's switch of the health check."""
        with self._mutex:
            self._keep()
            self._let_go_of_deleted()
            self._open(writable=True)
            os.utime(self.fd)

    def _let_go_of_deleted(self) -> None:
        """Close a file that was deleted or moved away, unless it holds claims: a new one counts."""
        if self.fd >= 0 and not self._mine and not self._is_current():
            self.close()

    def last_run(self) -> float | None:
        """When a worker was last at work, in Unix seconds; None when none ever was."""
        try:
            return os.stat(self.path).st_mtime
        except OSError:
            return None

    def _keep(self) -> None:
        """Forget the file if the program has closed it, and with it the claims, which are gone."""
        disown_closed()
        if self.fd < 0:
            self.close()

    def close(self) -> None:
        """Close the file, which drops this process's claims."""
        fd, self.fd, self.writable = self.fd, -1, False
        if fd >= 0:
            os.close(fd)
        self._mine.clear()

    def after_fork(self) -> None:
        """Let go in a forked child of what it shares with its parent, which keeps its claims."""
        self._mutex = threading.RLock()  # a thread of the parent may have held it
        self.close()
        self._shared.clear()

    def _lock(self, byte: int) -> int | None:
        opened = False
        with self._mutex:
            if byte in self._mine:
                return None
            while True:
                try:
                    fcntl.fcntl(self.fd, _SETLK, _pack(fcntl.F_WRLCK, 0, byte, 1, 0))
                    self._mine.add(byte)
                    return byte
                except (OSError, ValueError) as error:
                    number = getattr(error, "errno", errno.EBADF)
                    if number in (errno.EAGAIN, errno.EACCES):
                        return None
                    if number != errno.EBADF or opened:
                        raise self._refused("cannot claim jobs in", error) from error
                # Not open yet, or not to write; or the program has closed it.
                self._keep()
                opened = self._open(writable=True)

    def _open(self, *, writable: bool) -> bool:
        """See that the file is open; False when it is not there and need not be."""
        if self.fd >= 0 and (self.writable or not writable):
            return True
        self.close()
        try:
            if writable:
                ensure_folder(self._table)
                fd = set_apart(open_beside(self.path, self._table))
            else:
                fd = set_apart(open_file(self.path, os.O_RDONLY))
        except OSError as error:
            if isinstance(error, FileNotFoundError) and not writable:
                return False
            what = "cannot claim jobs in" if writable else "cannot read the claims"
            raise self._refused(what, error) from error
        status = os.fstat(fd)
        known = identity(status)
        # Together: a descriptor whose identity is not known counts as closed, see `disown_closed`.
        self.fd, self.identity, self.writable = fd, known, writable
        for byte in self._shared:  # of a file that is gone
            with suppress(OSError):
                fcntl.fcntl(fd, _SETLK, _pack(fcntl.F_RDLCK, 0, byte, 1, 0))
        if writable and status.st_size == 0:
            with suppress(OSError):  # a full disk
                os.pwrite(self.fd, NOTE, 0)
        return True

    def _is_current(self) -> bool:
        try:
            return identity(os.stat(self.path, follow_symlinks=False)) == self.identity
        except OSError:
            return False

    def _refused(self, what: str, error: OSError | ValueError) -> StorageError:
        number = getattr(error, "errno", None) or errno.EIO
        said = getattr(error, "strerror", None) or os.strerror(number)  # with a remedy, perhaps
        return StorageError(number, f"{what} {self.path}: {said}")
