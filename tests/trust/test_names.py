"""One table under two names: it would have two locks and two sets of claims."""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from house import House, command
from parties import PRODUCER, ROOT, SHARED, WORKER, as_user, own

from dbbasic_queue import Queue, StorageError
from dbbasic_queue.cli import main as dbq

NEWNS, PRIVATE_TREE, BIND = 0x00020000, 1 << 18 | 1 << 14, 1 << 12


def _elsewhere(house: House) -> Path:
    folder = house.folder.parent / "elsewhere"
    folder.mkdir()
    return own(folder, PRODUCER, 0o755)


def test_a_producer_can_link_the_table_and_stops_it_so(house: House) -> None:
    """The kernel lets a group member link a file that it may write; the error says what to do."""
    other = _elsewhere(house) / "queue.tsv"
    as_user(PRODUCER, lambda: os.link(house.table, other))
    for attempt in (house.work, house.enqueue):
        with pytest.raises(StorageError, match=r"has 2 names .* find \S+ -xdev -samefile .*") as e:
            attempt()
        assert f"sudo -u 61001 dbq fsck --repair --file {house.table}" in str(e.value)


def test_the_repair_gives_the_table_a_file_of_its_own(house: House) -> None:
    """No job is lost or run twice under the name that counts."""
    other = _elsewhere(house) / "queue.tsv"
    as_user(PRODUCER, lambda: os.link(house.table, other))
    ran = command(WORKER, dbq.main, "fsck", "--repair", "--file", house.table)
    assert ran.code == 0, ran
    assert house.table.stat().st_ino != other.stat().st_ino
    assert house.table.stat().st_nlink == 1
    assert house.work() == 1
    assert house.statuses() == ["completed", "completed"]


def test_a_backup_by_links_is_noticed(house: House) -> None:
    """`cp -al` makes second names, too; the repair is the same."""
    backup = house.folder.parent / "backup"
    subprocess.run(["cp", "-al", house.folder, backup], check=True)
    with pytest.raises(StorageError, match="2 names"):
        house.work()


def test_a_table_that_is_mounted_by_itself_is_refused(house: House) -> None:
    """The folder is to be mounted: lock and claims come along with it."""
    other = _elsewhere(house)

    def mount_and_work() -> list[str]:
        libc = ctypes.CDLL(None, use_errno=True)
        assert libc.unshare(NEWNS) == 0
        assert libc.mount(b"none", b"/", None, PRIVATE_TREE, None) == 0
        (other / "queue.tsv").touch()
        source, target = os.fsencode(house.table), os.fsencode(other / "queue.tsv")
        assert libc.mount(source, target, None, BIND, None) == 0
        os.setgroups([SHARED])
        os.setresgid(WORKER.gid, WORKER.gid, WORKER.gid)
        os.setresuid(WORKER.uid, WORKER.uid, WORKER.uid)
        said = []
        attempts: list[Callable[[], object]] = [
            lambda: Queue(other / "queue.tsv").enqueue("ok", {}),
            lambda: Queue(other / "queue.tsv").process_jobs({"ok": print}),
        ]
        for attempt in attempts:
            try:
                attempt()
            except StorageError as error:
                said.append(str(error))
        return said

    own(other, WORKER, 0o2750)
    said = as_user(ROOT, mount_and_work)
    assert len(said) == 2
    assert all("mounted by itself" in line and "mount its folder" in line for line in said)


def test_a_folder_that_is_mounted_is_the_right_way(house: House) -> None:
    """Both ways lead to one lock and one set of claims."""
    other = _elsewhere(house)
    own(other, WORKER, 0o2750)

    def mount_and_work() -> int:
        libc = ctypes.CDLL(None, use_errno=True)
        assert libc.unshare(NEWNS) == 0
        assert libc.mount(b"none", b"/", None, PRIVATE_TREE, None) == 0
        assert libc.mount(os.fsencode(house.folder), os.fsencode(other), None, BIND, None) == 0
        os.setgroups([SHARED])
        os.setresgid(WORKER.gid, WORKER.gid, WORKER.gid)
        os.setresuid(WORKER.uid, WORKER.uid, WORKER.uid)
        return Queue(other / "queue.tsv").process_jobs({"ok": lambda payload: None}).completed

    assert as_user(ROOT, mount_and_work) == 1
    assert house.statuses() == ["completed", "completed"]


def test_a_table_may_not_be_a_link(house: House) -> None:
    """The error says so, and the link's own folder gets no lock and no claims."""
    other = _elsewhere(house)
    own(other, WORKER, 0o755)
    (other / "queue.tsv").symlink_to(house.table)
    with pytest.raises(StorageError, match="it is a symbolic link; "):
        as_user(WORKER, lambda: Queue(other / "queue.tsv").enqueue("ok", {}))
