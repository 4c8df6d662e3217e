"""Who may do what with a queue's files: made by the worker's user, and handed over by root."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from parties import PRODUCER, READER, ROOT, SHARED, WORKER, as_user, needs_root, open_place, own

from dbbasic_queue import Queue, StorageError
from dbbasic_queue.support import acl
from dbbasic_queue.support.files import create
from dbbasic_queue.support.opening import Folder
from dbbasic_queue.table import rights
from dbbasic_queue.table.line import HEADER
from dbbasic_queue.table.rights import ensure_folder, open_beside, prepare

pytestmark = needs_root

OF_2_0_0 = 0o2770
JOB = b"a1\tmail\t{}\tpending\t1\t1\t0\t\t\n"


@pytest.fixture
def folder() -> Iterator[Path]:
    """A shared folder as the package makes it."""
    with open_place() as top:
        (top / "queue").mkdir()
        yield own(top / "queue", WORKER, 0o2750)


def _rights(path: Path) -> tuple[int, int, int]:
    status = path.stat()
    return status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)


GROUPS = (WORKER.uid, SHARED, 0o660)
OWNERS = (WORKER.uid, SHARED, 0o640)


def _beside(folder: Path, ending: str) -> None:
    os.close(open_beside(folder / f"queue.{ending}", folder / "queue.tsv"))


def test_the_worker_makes_the_groups_files_beforehand(folder: Path) -> None:
    """Lock, torn lines and wake file are the group's, whatever the umask; claims are not."""
    table = folder / "queue.tsv"

    def work() -> None:
        os.umask(0o077)
        prepare(table)
        _beside(folder, "claims")

    as_user(WORKER, work)
    found = {path.suffix[1:]: _rights(path) for path in folder.iterdir()}
    shared = dict.fromkeys(("lock", "torn", "wake", "restart", "paused"), GROUPS)
    assert found == {**shared, "claims": OWNERS}


def test_the_worker_mends_the_rights_of_its_files(folder: Path) -> None:
    """A file that shuts the group out is opened to it at the next start."""
    (folder / "queue.lock").touch()
    own(folder / "queue.lock", WORKER, 0o600)
    as_user(WORKER, lambda: prepare(folder / "queue.tsv"))
    assert _rights(folder / "queue.lock") == GROUPS


@pytest.mark.parametrize("mode", [0o700, 0o755, 0o770])
def test_a_folder_of_one_user_gets_no_files_beforehand(folder: Path, mode: int) -> None:
    """One user for all needs no set-up; the umask and the table's mode decide."""
    own(folder, WORKER, mode)
    table = folder / "queue.tsv"
    table.touch()
    own(table, WORKER, 0o600)

    def work() -> None:
        prepare(table)
        _beside(folder, "lock")

    as_user(WORKER, work)
    assert sorted(path.name for path in folder.iterdir()) == ["queue.lock", "queue.tsv"]
    assert _rights(folder / "queue.lock")[2] == 0o600


def test_only_the_owner_makes_files(folder: Path) -> None:
    """A producer in an empty folder gets an error with the command to run."""
    with pytest.raises(
        PermissionError,
        match=f"belongs to 61001.*: sudo -u 61001 dbq fsck --repair --file {folder}/queue.tsv",
    ):
        as_user(PRODUCER, lambda: _beside(folder, "lock"))
    assert not list(folder.iterdir())


def test_a_folder_of_roots_names_the_chown(folder: Path) -> None:
    """Where the folder is root's, the command gives it to the user."""
    own(folder, ROOT, 0o2775, SHARED)
    with pytest.raises(PermissionError, match=f"sudo chown 61002 {folder}"):
        as_user(PRODUCER, lambda: _beside(folder, "lock"))


def test_root_makes_no_folder_in_that_of_another(folder: Path) -> None:
    """A folder that root made in it would shut the owner out."""
    table = folder / "deeper" / "still" / "queue.tsv"
    with pytest.raises(PermissionError, match="belongs to 61001"):
        ensure_folder(table)
    as_user(WORKER, lambda: ensure_folder(table))
    assert table.parent.stat().st_uid == WORKER.uid


def test_what_is_set_aside_has_one_name(folder: Path) -> None:
    """A producer chooses the text of a torn line; it goes into no file that is linked elsewhere."""
    (folder / "profile").touch()
    own(folder / "profile", WORKER, 0o660)
    os.link(folder / "profile", folder / "queue.torn")
    with pytest.raises(OSError, match="2 names"):
        as_user(WORKER, lambda: _beside(folder, "torn"))


def test_a_new_table_is_the_readers_to_read(folder: Path) -> None:
    """A group that may enter the folder may read the table; the group that shares it writes."""
    fd = os.open(folder, os.O_RDONLY)
    acl.set_rights(fd, 0o2750, [acl.Named(8, READER.gid)], acl.ENTER)
    os.close(fd)

    def work() -> None:
        with Folder(folder) as there:
            create(rights.new_table(there, folder / "queue.tsv", HEADER))
        prepare(folder / "queue.tsv")

    as_user(WORKER, work)
    as_user(READER, lambda: os.close(os.open(folder / "queue.tsv", os.O_RDONLY)))
    as_user(PRODUCER, lambda: os.close(os.open(folder / "queue.tsv", os.O_RDWR)))
    for name, flags in (("queue.tsv", os.O_RDWR), ("queue.lock", os.O_RDONLY)):
        with pytest.raises(PermissionError):
            as_user(READER, lambda name=name, flags=flags: os.open(folder / name, flags))


def test_without_access_lists_those_who_share_a_queue_write_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a file system that has none, under a strict umask, and when the table was written anew."""

    def unknown(*args: object, **options: object) -> None:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    for name in ("getxattr", "setxattr", "removexattr", "listxattr"):
        monkeypatch.setattr(os, name, unknown)
    queue = Queue(folder / "queue.tsv", "normal")

    def strictly(work: Callable[[], object]) -> Callable[[], object]:
        def call() -> object:
            os.umask(0o077)
            return work()

        return call

    as_user(WORKER, strictly(lambda: queue.enqueue("x", {})))
    for _ in range(2):
        as_user(PRODUCER, strictly(lambda: queue.enqueue("x", {})))
        as_user(WORKER, strictly(lambda: queue.process_jobs({"x": lambda payload: None})))
        assert as_user(WORKER, strictly(lambda: queue.prune_jobs(0)))
        assert _rights(folder / "queue.tsv") == _rights(folder / "queue.lock") == GROUPS
    with pytest.raises(StorageError):
        as_user(READER, lambda: list(queue.list_jobs()))
