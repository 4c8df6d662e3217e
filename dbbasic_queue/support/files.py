"""Files replaced whole or not at all, and the errors of the operating system made ours.

Theory of operation
-------------------
A file is written under a temporary name in its own folder, given its owner and mode before a byte
is in it, synced, and renamed. Then the folder is synced. So a crash leaves the old file or the new
one. The folder is held open meanwhile, and all names are looked up in it: see opening.py, also for
which folders root does not trust. The temporary name begins with a dot and ends in `~`: cron
(cron(8)), systemd and logrotate (`tabooext`) pass over it, and node_exporter, which reads `*.prom`.

What a killed process left under such a name is removed by the next that replaces the same file. A
file that is being written is known by its lock, flock(2).
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple

from ..errors import QueueError, StorageError
from .opening import SAFE, Folder, above_streams

PRIVATE: Final = 0o600
ANCESTORS: Final = 3  # sudo, the process that keeps a terminal for it, and a script
DEVICES: Final = "/dev"
STALE: Final = 3600  # seconds; no file of ours takes that long to write

# Bytes a write. A longer one makes the kernel (Linux, ext4 with large folios) keep the file in big
# pieces of memory: after writes of 1 MiB, each small write costs 4 microseconds instead of 1, and
# after those of 64 KiB each fdatasync 87 instead of 80.
SLICE: Final = 1 << 14

Fill = Callable[[int], object]  # writes a file's content into a descriptor

# The endings of the files that lie beside a table and belong to it: `queue.lock`, ...
BESIDE: Final = (
    "lock",
    "claims",
    "torn",
    "wake",
    "restart",
    "paused",
    "recurring",
    "notified",
    "moved",
    "hint",
    "history",
    "rates",
    "idx",
    "meta",
    "tmp",
)


def family(table: Path) -> list[Path]:
    """Return the table and all files that may lie beside it and belong to it.

    >>> [path.name for path in family(Path("/srv/queue.tsv"))][:3]
    ['queue.tsv', 'queue.lock', 'queue.claims']
    """
    return [table, *(table.with_suffix(f".{ending}") for ending in BESIDE)]


def given_path(path: str | os.PathLike[str]) -> Path:
    """Return a path made absolute as the user sees it: by `$PWD`, if that is this folder.

    Releases are often deployed as folders behind a link `current`. The kernel knows the folder that
    a shell is in by its real name only, which the next deployment makes a thing of the past. sudo
    keeps `$PWD` to itself, so it is asked, as are the others that lead to this process.

    >>> given_path("/srv/app/../b")
    PosixPath('/srv/b')
    """
    if not os.path.isabs(path):
        real = os.path.join(os.curdir, path)  # where `..` leads the kernel
        for here in _named_folders():
            meant = os.path.abspath(os.path.join(here, path))
            with suppress(OSError):
                if os.path.samefile(os.path.dirname(meant), os.path.dirname(real)):
                    return Path(meant)
    return Path(os.path.abspath(path))


def _named_folders() -> Iterator[str]:
    """`$PWD` of this process and of those that it was started by, as far as they are to be seen."""
    yield from filter(os.path.isabs, [os.environ.get("PWD", "")])
    process = os.getppid()
    for _ in range(ANCESTORS):
        try:
            variables = Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
            status = Path(f"/proc/{process}/stat").read_text("utf-8", "replace")
        except OSError:  # of another user, unless we are root; or it is gone
            return
        named = (each[4:] for each in variables if each.startswith(b"PWD=/"))
        yield from map(os.fsdecode, named)
        process = int(status.rpartition(")")[2].split()[1])  # proc(5): after the name in brackets


def write_all(fd: int, data: bytes) -> None:
    """Write all of `data`. Raises `OSError`; part of it may be written then."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view[:SLICE]) :]


def copy_all(source: int, target: int) -> None:
    """Write all that is in one open file into another, from its beginning. Raises `OSError`."""
    at = 0
    while piece := os.pread(source, SLICE, at):
        write_all(target, piece)
        at += len(piece)


def sync_folder(path: Path) -> None:
    """Return when what was made, renamed and deleted in a folder is on disk. Raises `OSError`."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def read_regular(path: str | Path, largest: int) -> bytes:
    """Return the bytes of a regular file; what waits or has no end is not read.

    Args:
        path: the file; it may be a link.
        largest: bytes that it may have.

    Raises `OSError`.

    >>> read_regular("/dev/zero", 1)
    Traceback (most recent call last):
    OSError: [Errno 22] it is not a regular file
    """
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file")
        with open(fd, "rb", closefd=False) as stream:
            data = stream.read(largest + 1)
    finally:
        os.close(fd)
    if len(data) > largest:
        raise OSError(errno.EFBIG, f"it is larger than {largest >> 20} MiB")
    return data


class NewFile(NamedTuple):
    """A file as it shall be.

    Args:
        path: its name; the folder has to be there.
        content: the bytes, or what writes them into a descriptor.
        mode: its permission bits. None: what the umask leaves of 0666.
        own: gives the empty file, by its descriptor, an owner and perhaps another mode.
        synced: whether the content has to be on disk before the file bears its name.
    """

    path: Path
    content: bytes | Fill
    mode: int | None = PRIVATE
    own: Fill | None = None
    synced: bool = True


def replace(file: NewFile) -> None:
    """Put a file in the place of the one that bears its name, whole or not at all.

    Raises `OSError`; the old file is there then, but if only the folder's sync failed.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a"
    >>> replace(NewFile(path, b"text")); path.read_bytes()
    b'text'
    """
    replace_all([file])


def replace_all(files: Sequence[NewFile]) -> None:
    """`replace` several files: each is on disk before the first gets its name."""
    with ExitStack() as all_of_them:
        staged: list[Staged] = []
        for file in files:
            with Folder(file.path.parent) as folder:
                remove_leftovers(folder, file.path.name, STALE)
            staged.append(all_of_them.enter_context(Staged(file)))
            staged[-1].fill()
        for new in staged:
            new.put()
        synced = [new for new in staged if new.file.synced]
        for new in {new.file.path.parent: new for new in synced}.values():
            new.folder.sync()


def create(file: NewFile) -> None:
    """Make a file, whole or not at all, and never in the place of another.

    Raises `FileExistsError` when there is one of that name, and `OSError`.
    """
    with Staged(file) as new:
        new.fill()
        new.put(anew=True)
        if file.synced:
            new.folder.sync()


class Staged:
    """A file under a temporary name, on its way to its own: a context manager.

    Left without `put`, nothing of it stays. Raises `OSError`.
    """

    def __init__(self, file: NewFile) -> None:
        self.file = file
        self._name = ""
        self.fd = -1
        self.folder = Folder(file.path.parent)
        try:
            self._begin()
        except BaseException:
            self.close()
            raise

    def _begin(self) -> None:
        file = self.file
        if _is_device(self.folder, file.path.name):
            raise OSError(errno.EINVAL, "it is a device, not a regular file; name another file")
        while not self._made():
            pass
        if file.own is not None:
            file.own(self.fd)
        if file.mode is not None and file.mode != PRIVATE:
            os.fchmod(self.fd, file.mode)

    def _made(self) -> bool:
        """Make an empty file; false when another process has taken it for a leftover."""
        self._unmake()
        name = f".{self.file.path.name}.{os.urandom(6).hex()}.tmp~"
        mode = 0o666 if self.file.mode is None else PRIVATE
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | SAFE
        self.fd = above_streams(os.open(name, flags, mode, dir_fd=self.folder.fd))
        self._name = name
        try:
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:  # a file system without locks
            return True
        return os.fstat(self.fd).st_nlink > 0

    def fill(self) -> None:
        """Write the content, and sync it if it has to be."""
        content = self.file.content
        if callable(content):
            content(self.fd)
        else:
            write_all(self.fd, content)
        if self.file.synced:
            os.fsync(self.fd)

    def put(self, *, anew: bool = False) -> None:
        """Give it its name, in the place of another file; or `anew`, if there is none."""
        folder, name = self.folder.fd, self.file.path.name
        if anew:
            os.link(self._name, name, src_dir_fd=folder, dst_dir_fd=folder)
        else:
            os.rename(self._name, name, src_dir_fd=folder, dst_dir_fd=folder)
            self._name = ""

    def close(self) -> None:
        """Take the temporary name away, if there is one still."""
        self._unmake()
        self.folder.close()

    def _unmake(self) -> None:
        name, self._name = self._name, ""
        if name:
            with suppress(OSError):
                os.unlink(name, dir_fd=self.folder.fd)
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Staged:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _is_device(folder: Folder, name: str) -> bool:
    """Say whether a new file would take the place of a device: /dev/null, or a link /dev/stdout."""
    with suppress(OSError):
        mode = os.stat(name, dir_fd=folder.fd, follow_symlinks=False).st_mode
        devices = os.path.samestat(os.fstat(folder.fd), os.stat(DEVICES))
        return devices or stat.S_ISCHR(mode) or stat.S_ISBLK(mode)
    return False


def remove_leftovers(folder: Folder, name: str, age: float = 0) -> None:
    """Remove what killed processes left of new files `name`, untouched for `age` seconds."""
    for leftover in leftovers(folder, name):
        with suppress(OSError):
            status = os.stat(leftover, dir_fd=folder.fd, follow_symlinks=False)
            least = age if _may_lock(folder, leftover) else STALE
            if not least or status.st_mtime < time.time() - least:
                os.unlink(leftover, dir_fd=folder.fd)


def _may_lock(folder: Folder, name: str) -> bool:
    """Whether no process writes this file; false if this process has no permission to find out.

    Raises `BlockingIOError` when one does.
    """
    try:
        fd = os.open(name, os.O_RDONLY | SAFE, dir_fd=folder.fd)
    except PermissionError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(fd)
    return True


def leftovers(folder: Folder, name: str) -> list[str]:
    """Return the temporary names of new files `name`, made now or left by killed processes."""
    pattern = rf"\.{re.escape(name)}\.[0-9a-f]{{12}}\.tmp~?"  # 2.0.0 wrote no ~
    try:
        names = folder.names()
    except OSError:  # a folder that cannot be listed
        return []
    return [each for each in names if each.startswith(".") and re.fullmatch(pattern, each)]


def keep_status(old: int, new: int) -> None:
    """Give an open file the owner, times, extended attributes and mode of another open one.

    Where only root may give a file away, the owner stays and the group is taken over. By
    descriptor, as in a folder of several users a name may lead elsewhere by now. Raises `OSError`.
    """
    status = os.fstat(old)
    try:
        os.fchown(new, status.st_uid, status.st_gid)
    except PermissionError:
        os.fchown(new, -1, status.st_gid)
    os.utime(new, ns=(status.st_atime_ns, status.st_mtime_ns))
    _copy_attributes(old, new)
    os.fchmod(new, status.st_mode & 0o7777)


def _copy_attributes(old: int, new: int) -> None:
    none = (errno.ENOTSUP, errno.ENODATA, errno.EINVAL)  # as shutil.copystat has it
    try:
        for name in os.listxattr(old):
            try:
                os.setxattr(new, name, os.getxattr(old, name))
            except OSError as error:
                if error.errno not in (*none, errno.EPERM, errno.EACCES):
                    raise
    except OSError as error:
        if error.errno not in none:
            raise


@contextmanager
def refusing(path: Path, what: str, error: type[QueueError] = StorageError) -> Iterator[None]:
    """Turn an `OSError` into an error of ours: `what` could not be done to which file, and why.

    >>> with refusing(Path("/none"), "cannot read"):
    ...     _ = open("/none")
    Traceback (most recent call last):
    dbbasic_queue.errors.StorageError: [Errno 2] cannot read /none: No such file or directory
    """
    try:
        yield
    except OSError as fault:
        raise refused(fault, f"{what} {path}", error) from fault


def refused(fault: OSError, what: str, error: type[QueueError] = StorageError) -> QueueError:
    """Return the error that `refusing` raises, for where a context manager costs too much."""
    text = f"{what}: {fault.strerror or fault}"
    return error(fault.errno or errno.EIO, text) if issubclass(error, OSError) else error(text)
