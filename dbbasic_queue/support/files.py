"""Files replaced whole or not at all, and the errors of the operating system made ours.

Theory of operation
-------------------
A file is written under a temporary name in its own folder, given its owner and mode before a byte
is in it, synced, and renamed. Then the folder is synced. So a crash leaves the old file or the new
one. The temporary name begins with a dot and ends in `~`: cron (cron(8)), systemd and logrotate
(`tabooext`) pass over it, and node_exporter, which reads `*.prom`.

What a killed process left under such a name is removed by the next that replaces the same file,
when nothing has been written to it for an hour.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

from ..errors import QueueError, StorageError

PRIVATE: Final = 0o600
ANCESTORS: Final = 3  # sudo, the process that keeps a terminal for it, and a script
STALE: Final = 3600  # seconds; no file of ours takes that long to write

# Bytes a write. A longer one makes the kernel (Linux, ext4 with large folios) keep the file in big
# pieces of memory: after writes of 1 MiB, each small write costs 4 microseconds instead of 1, and
# after those of 64 KiB each fdatasync 87 instead of 80.
SLICE: Final = 1 << 14

Fill = Callable[[int], object]  # writes a file's content into a descriptor

# The endings of the files that lie beside a table and belong to it: `queue.lock`, ...
BESIDE: Final = ("lock", "claims", "torn", "wake", "recurring", "moved", "idx", "meta", "tmp")


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
    staged: list[tuple[Path, NewFile]] = []
    try:
        for file in files:
            remove_leftovers(file.path, STALE)
            staged.append((_stage(file), file))
        while staged:
            temporary, file = staged[0]
            os.rename(temporary, file.path)
            del staged[0]
    finally:
        for temporary, _ in staged:
            with suppress(OSError):
                os.unlink(temporary)
    for folder in dict.fromkeys(file.path.parent for file in files if file.synced):
        sync_folder(folder)


def create(file: NewFile) -> None:
    """Make a file, whole or not at all, and never in the place of another.

    Raises `FileExistsError` when there is one of that name, and `OSError`.
    """
    temporary = _stage(file)
    try:
        os.link(temporary, file.path)
        if file.synced:
            sync_folder(file.path.parent)
    finally:
        with suppress(OSError):
            os.unlink(temporary)


def _stage(file: NewFile) -> Path:
    """Write a file under a temporary name, which is returned."""
    path = file.path.with_name(f".{file.path.name}.{os.urandom(6).hex()}.tmp~")
    mode = 0o666 if file.mode is None else PRIVATE
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        try:
            if file.own is not None:
                file.own(fd)
            if file.mode is not None and file.mode != PRIVATE:
                os.fchmod(fd, file.mode)
            if callable(file.content):
                file.content(fd)
            else:
                write_all(fd, file.content)
            if file.synced:
                os.fsync(fd)
        finally:
            os.close(fd)
    except BaseException:
        with suppress(OSError):
            os.unlink(path)
        raise
    return path


def remove_leftovers(path: Path, age: float = 0) -> None:
    """Remove what killed processes left of new files for `path`, untouched for `age` seconds."""
    for name in leftovers(path):
        leftover = path.parent / name
        with suppress(OSError):
            if not age or os.stat(leftover).st_mtime < time.time() - age:
                os.unlink(leftover)


def leftovers(path: Path) -> list[str]:
    """The temporary names of new files for `path`, made now or left by killed processes."""
    pattern = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{12}}\.tmp~?")  # 2.0.0 wrote no ~
    try:
        return list(filter(pattern.fullmatch, os.listdir(path.parent)))
    except OSError:  # a folder that cannot be listed
        return []


def own_like(fd: int, path: Path) -> None:
    """Give an open file the owner, and the mode for reading and writing, of the one at `path`.

    Raises `OSError`, but not where only root may do so.
    """
    status = os.stat(path)
    with suppress(PermissionError):
        os.fchown(fd, status.st_uid, status.st_gid)
    with suppress(PermissionError):
        os.fchmod(fd, status.st_mode & 0o666)


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
