"""A queue in one file that can be kept elsewhere, and the queue made of it again.

Theory of operation
-------------------
The file is a tar, for any tool to read: `queue.tsv`, and what beside the queue belongs to its jobs,
such as `queue.recurring`. What a process makes anew (locks, claims, the wake file) is not in it.

The small files are read before the table. A mark that is older than the table costs nothing, as the
job of its time is found by its id; one that is newer would have that time never enqueued. The table
is copied under its lock, so that it stands still, and packed after that.

`restore` first reads all of the copy. Then, under the table's lock, and only while no process holds
a claim, it keeps the queue as it is beside it, under another name, and renames the copy over it.
"""

from __future__ import annotations

import contextlib
import io
import os
import stat
import tarfile
import tempfile
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Final, NamedTuple

from ...errors import StorageError, TableError
from ...support.files import (
    BESIDE,
    SLICE,
    NewFile,
    Staged,
    copy_all,
    family,
    refusing,
    replace,
    write_all,
)
from ...support.opening import Folder, quoted
from ...table.rights import new_beside
from .engine import TsvEngine
from .fsck import check

MADE_ANEW: Final = ("lock", "claims", "wake", "torn", "idx", "meta", "tmp")
KEPT: Final = tuple(ending for ending in BESIDE if ending not in MADE_ANEW)
TABLE: Final = "queue.tsv"
LARGEST: Final = 1 << 26  # bytes of a file beside the table


class Restored(NamedTuple):
    """What has been restored."""

    jobs: dict[str, int]  # by state
    findings: int  # what fsck finds wrong in it
    aside: Path | None  # where the queue is that was there; None: there was none


def backup(engine: TsvEngine, file: Path) -> int:
    """Write a copy of a queue into a file, whole or not at all; returns its length in bytes.

    It is compressed if its name ends in `.gz`. Raises `StorageError`.
    """
    file = Path(os.path.abspath(file))
    if file in family(engine.path) or file.suffix == ".tsv":
        raise StorageError(17, f"{file} is or looks like a queue: name another file, such as b.tar")
    packed = "w|gz" if file.suffix == ".gz" else "w|"
    with refusing(file, "cannot write the backup"), Staged(NewFile(file, b"", mode=0o600)) as new:
        stream: Any = _Stream(new.fd)
        with tarfile.open(fileobj=stream, mode=packed, bufsize=SLICE) as tar:  # type: ignore[call-overload]
            for ending, text in _beside(engine):
                _add(tar, f"queue.{ending}", io.BytesIO(text), len(text))
            with tempfile.TemporaryFile(dir=file.parent) as table:
                _copy(engine, table)
                _add(tar, TABLE, table, os.fstat(table.fileno()).st_size)
        os.fsync(new.fd)
        size = os.fstat(new.fd).st_size
        new.put()
        new.folder.sync()
    return size


class _Stream(NamedTuple):
    """An open file, to be written only: by system calls that the torture sees."""

    fd: int

    def write(self, data: bytes) -> int:
        write_all(self.fd, data)
        return len(data)


def _beside(engine: TsvEngine) -> Iterator[tuple[str, bytes]]:
    with Folder(engine.path.parent) as folder:
        for ending in KEPT:
            with contextlib.suppress(FileNotFoundError):
                name = engine.path.with_suffix(f".{ending}").name
                with open(folder.open(name, os.O_RDONLY), "rb") as stream:
                    yield ending, stream.read(LARGEST)


def _copy(engine: TsvEngine, new: IO[bytes]) -> None:
    with engine.table.reading():
        table = engine.table.snapshot()[0]
        if table is None:
            raise StorageError(2, f"there is no queue {engine.path}")
        copy_all(table.fd, new.fileno())
    new.seek(0)


def _add(tar: tarfile.TarFile, name: str, stream: IO[bytes], size: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mtime, entry.mode = size, int(time.time()), 0o600
    tar.addfile(entry, stream)


def restore(engine: TsvEngine, file: Path) -> Restored:
    """Make the queue what it was when a copy of it was written.

    Raises `TableError` for a file that is not such a copy, `StorageError` when a worker is at
    work, or the disk refuses; then the queue is as before.
    """
    with tempfile.TemporaryDirectory(prefix="dbq-restore-") as folder:
        table, beside = _read(file, Path(folder))
        copy = TsvEngine(table)
        jobs, findings = copy.counts(), len([each for each in check(copy) if each.kind != "orphan"])
        there = os.path.lexists(engine.path)
        with engine.table.writing():
            engine.table.require_owner(f"restore {quoted(file)}")
            if holders := engine.claims.holders():
                raise StorageError(
                    16, f"a worker is at work, process {min(holders.values())}: stop workers first"
                )
            stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
            aside = engine.path.with_name(f"{engine.path.stem}.{stamp}.tsv") if there else None
            with open(table, "rb") as source:
                engine.table.replace_by(source.fileno(), aside)
            _put_beside(engine, beside, stamp)
    return Restored(jobs, findings, aside)


def _put_beside(engine: TsvEngine, beside: dict[str, bytes], stamp: str) -> None:
    with Folder(engine.path.parent) as folder:
        for ending, text in beside.items():
            path = engine.path.with_suffix(f".{ending}")
            with refusing(path, "cannot restore"):
                with contextlib.suppress(FileNotFoundError):
                    with open(folder.open(path.name, os.O_RDONLY), "rb") as stream:
                        old = stream.read(LARGEST)
                    aside = path.with_name(f"{path.stem}.{stamp}.{ending}")
                    replace(new_beside(folder, aside, old, engine.path))
                replace(new_beside(folder, path, text, engine.path))


def _read(file: Path, folder: Path) -> tuple[Path, dict[str, bytes]]:
    """Unpack a copy: where its table is, and what belongs beside it."""
    beside: dict[str, bytes] = {}
    table = folder / TABLE
    try:
        if not stat.S_ISREG(os.stat(file).st_mode):
            raise TableError(f"{file}: not a backup of a queue: it is not a regular file")
        with tarfile.open(file) as tar:
            for entry in tar:
                ending = entry.name.removeprefix("queue.")
                stream = tar.extractfile(entry) if entry.isreg() else None
                if stream is None or (entry.name != TABLE and ending not in KEPT):
                    raise TableError(f"{file}: not a backup of a queue: it has {entry.name!r}")
                if entry.name == TABLE:
                    with open(table, "wb") as new:
                        while piece := stream.read(1 << 20):
                            new.write(piece)
                else:
                    beside[ending] = stream.read(LARGEST)
            while tar.fileobj and tar.fileobj.read(1 << 20):
                pass  # the sum that a compressed file ends with is compared at its end
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise TableError(f"{file}: not a backup of a queue: {error}") from None
    except OSError as error:
        if error.errno is None:  # what gzip finds wrong
            raise TableError(f"{file}: not a backup of a queue: {error}") from None
        raise StorageError(error.errno, f"{file}: cannot be read: {error.strerror}") from None
    if not table.exists():
        raise TableError(f"{file}: not a backup of a queue: it has no {TABLE}")
    return table, beside
