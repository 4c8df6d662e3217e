"""Who may do what with a queue's files: made by the worker's user, and handed over by root."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from parties import PRODUCER, READER, ROOT, SHARED, WORKER, as_user, needs_root, open_place, own

from dbbasic_queue.support import acl
from dbbasic_queue.support.opening import Folder
from dbbasic_queue.table import rights
from dbbasic_queue.table.line import HEADER
from dbbasic_queue.table.rights import ensure_folder, open_beside, prepare, take_over

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
    assert found == {"lock": GROUPS, "torn": GROUPS, "wake": GROUPS, "claims": OWNERS}


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
    with pytest.raises(PermissionError, match=f"chown 61002 {folder}"):
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
            fd = there.make("queue.tsv", os.O_RDWR)
            rights.own_new_table(there, fd)
        prepare(folder / "queue.tsv")

    as_user(WORKER, work)
    as_user(READER, lambda: os.close(os.open(folder / "queue.tsv", os.O_RDONLY)))
    as_user(PRODUCER, lambda: os.close(os.open(folder / "queue.tsv", os.O_RDWR)))
    for name, flags in (("queue.tsv", os.O_RDWR), ("queue.lock", os.O_RDONLY)):
        with pytest.raises(PermissionError):
            as_user(READER, lambda name=name, flags=flags: os.open(folder / name, flags))


# -- root's part of an upgrade ---------------------------------------------------------------------


def _left_by_2_0_0(folder: Path) -> None:
    """What 2.0.0 leaves: the web application compacted last, a reader was let in by a list."""
    own(folder, WORKER, OF_2_0_0)
    fd = os.open(folder, os.O_RDONLY)
    acl.set_rights(fd, OF_2_0_0, [acl.Named(8, READER.gid)], acl.ENTER)
    os.close(fd)
    for ending, text in (
        ("tsv", HEADER + JOB),
        ("lock", b""),
        ("claims", b"Locks of running jobs"),
    ):
        path = folder / f"queue.{ending}"
        path.write_bytes(text)
        own(path, PRODUCER if ending == "tsv" else WORKER, 0o660, SHARED)
        fd = os.open(path, os.O_RDONLY)
        acl.set_rights(fd, 0o660, [acl.Named(8, READER.gid)], acl.READ)
        os.close(fd)


def _is_member(uid: int) -> bool:
    return uid in (WORKER.uid, PRODUCER.uid)


def test_root_hands_a_folder_of_2_0_0_over_in_place(folder: Path) -> None:
    """Folder and files become the worker's, the same files; locks that are held stay held."""
    _left_by_2_0_0(folder)
    inodes = {path.name: path.stat().st_ino for path in folder.iterdir()}
    with (folder / "queue.lock").open("r+b") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert take_over(folder / "queue.tsv", WORKER.uid, SHARED, _is_member) == []
        with (folder / "queue.lock").open("rb") as other, pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert {name: (folder / name).stat().st_ino for name in inodes} == inodes
    found = {path.suffix[1:]: _rights(path) for path in folder.iterdir()}
    shared = dict.fromkeys(("tsv", "lock", "torn", "wake"), GROUPS)
    assert found == {**shared, "claims": OWNERS}
    assert _rights(folder) == (WORKER.uid, SHARED, 0o2750)
    assert (folder / "queue.tsv").read_bytes() == HEADER + JOB


def test_after_that_each_party_has_its_rights(folder: Path) -> None:
    """A reader reads the table and no lock; a producer writes, and makes and removes no file."""
    _left_by_2_0_0(folder)
    take_over(folder / "queue.tsv", WORKER.uid, SHARED, _is_member)
    as_user(READER, lambda: os.close(os.open(folder / "queue.tsv", os.O_RDONLY)))
    for ending in ("lock", "claims", "torn", "wake"):
        with pytest.raises(PermissionError):
            as_user(READER, lambda ending=ending: os.open(folder / f"queue.{ending}", os.O_RDONLY))
    for ending in ("tsv", "lock", "torn", "wake"):
        path = folder / f"queue.{ending}"
        as_user(PRODUCER, lambda path=path: os.close(os.open(path, os.O_RDWR)))
        with pytest.raises(PermissionError):
            as_user(PRODUCER, lambda path=path: os.unlink(path))
    with pytest.raises(PermissionError):
        as_user(PRODUCER, lambda: (folder / "new").touch())


def test_taking_over_twice_changes_nothing(folder: Path) -> None:
    """An upgrade that is done again finds all as it should be."""
    take_over(folder / "queue.tsv", WORKER.uid, SHARED, _is_member)
    (folder / "queue.tsv").write_bytes(HEADER + JOB)
    before = {path.name: _rights(path) for path in folder.iterdir()}
    assert take_over(folder / "queue.tsv", WORKER.uid, SHARED, _is_member) == []
    assert {path.name: _rights(path) for path in folder.iterdir()} == before


def test_root_is_not_led_to_another_file(folder: Path) -> None:
    """Links, pipes, files with a second name and files of root's that are not ours are left."""
    victim = folder.parent / "victim"
    victim.write_text("secret")
    victim.chmod(0o600)
    own(folder, WORKER, OF_2_0_0)
    (folder / "queue.lock").symlink_to(victim)
    os.mkfifo(folder / "queue.wake")
    os.link(victim, folder / "queue.claims")
    (folder / "queue.recurring").write_text("root's own letter")
    (folder / "queue.torn").write_text("")
    own(folder / "queue.torn", READER, 0o666)
    said = take_over(folder / "queue.tsv", WORKER.uid, SHARED, _is_member)
    assert sorted(line.partition(" ")[0].rpartition(".")[2] for line in said) == [
        *("claims", "lock", "recurring", "torn", "wake")
    ]
    assert all(line.endswith("was left as it is") for line in said)
    assert _rights(victim) == (0, 0, 0o600)
    assert (folder / "queue.recurring").stat().st_uid == 0
    assert (folder / "queue.torn").stat().st_uid == READER.uid
    assert _rights(folder) == (WORKER.uid, SHARED, 0o2750)


def test_root_leaves_a_folder_of_a_stranger(folder: Path) -> None:
    """A link in the place of the folder is not followed, nor is one of another user taken."""
    own(folder, READER, 0o755)
    (said,) = take_over(folder / "queue.tsv", WORKER.uid, SHARED, _is_member)
    assert "belongs to 61003" in said
    (folder.parent / "way").symlink_to(folder)
    with pytest.raises(NotADirectoryError):
        take_over(folder.parent / "way" / "queue.tsv", WORKER.uid, SHARED, _is_member)
