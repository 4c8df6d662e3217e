"""Root hands a queue's folder of version 2.0.0 to the worker, in place, and is not led astray."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from parties import PRODUCER, READER, SHARED, WORKER, as_user, needs_root, open_place, own

from dbbasic_queue.engines.tsv.takeover import Heir, take_over
from dbbasic_queue.support import acl
from dbbasic_queue.table.line import HEADER

pytestmark = needs_root

OF_2_0_0 = 0o2770
JOB = b"a1\tmail\t{}\tpending\t1\t1\t0\t\t\n"
GROUPS = (WORKER.uid, SHARED, 0o660)
OWNERS = (WORKER.uid, SHARED, 0o640)
HEIR = Heir(WORKER.uid, SHARED, lambda uid: uid in (WORKER.uid, PRODUCER.uid))


@pytest.fixture
def folder() -> Iterator[Path]:
    """A shared folder."""
    with open_place() as top:
        (top / "queue").mkdir()
        yield own(top / "queue", WORKER, 0o2750)


def _rights(path: Path) -> tuple[int, int, int]:
    status = path.stat()
    return status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)


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


def test_root_hands_a_folder_of_2_0_0_over_in_place(folder: Path) -> None:
    """Folder and files become the worker's, the same files; locks that are held stay held."""
    _left_by_2_0_0(folder)
    inodes = {path.name: path.stat().st_ino for path in folder.iterdir()}
    with (folder / "queue.lock").open("r+b") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert take_over(folder / "queue.tsv", HEIR) == []
        with (folder / "queue.lock").open("rb") as other, pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert {name: (folder / name).stat().st_ino for name in inodes} == inodes
    found = {path.suffix[1:]: _rights(path) for path in folder.iterdir()}
    shared = dict.fromkeys(("tsv", "lock", "torn", "wake", "restart", "paused"), GROUPS)
    assert found == {**shared, "claims": OWNERS}
    assert _rights(folder) == (WORKER.uid, SHARED, 0o2750)
    assert (folder / "queue.tsv").read_bytes() == HEADER + JOB


def test_after_that_each_party_has_its_rights(folder: Path) -> None:
    """A reader reads the table and no lock; a producer writes, and makes and removes no file."""
    _left_by_2_0_0(folder)
    take_over(folder / "queue.tsv", HEIR)
    as_user(READER, lambda: os.close(os.open(folder / "queue.tsv", os.O_RDONLY)))
    for ending in ("lock", "claims", "torn", "wake"):
        with pytest.raises(PermissionError):
            as_user(READER, lambda ending=ending: os.open(folder / f"queue.{ending}", os.O_RDONLY))
    for ending in ("tsv", "lock", "torn", "wake", "restart", "paused"):
        path = folder / f"queue.{ending}"
        as_user(PRODUCER, lambda path=path: os.close(os.open(path, os.O_RDWR)))
        with pytest.raises(PermissionError):
            as_user(PRODUCER, lambda path=path: os.unlink(path))
    with pytest.raises(PermissionError):
        as_user(PRODUCER, lambda: (folder / "new").touch())


def test_taking_over_twice_changes_nothing(folder: Path) -> None:
    """An upgrade that is done again finds all as it should be."""
    take_over(folder / "queue.tsv", HEIR)
    (folder / "queue.tsv").write_bytes(HEADER + JOB)
    before = {path.name: _rights(path) for path in folder.iterdir()}
    assert take_over(folder / "queue.tsv", HEIR) == []
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
    said = take_over(folder / "queue.tsv", HEIR)
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
    (said,) = take_over(folder / "queue.tsv", HEIR)
    assert "belongs to 61003" in said
    (folder.parent / "way").symlink_to(folder)
    with pytest.raises(NotADirectoryError):
        take_over(folder.parent / "way" / "queue.tsv", HEIR)
