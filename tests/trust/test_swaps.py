"""A file is swapped for a link again and again, while others open it: between look and open."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from house import House
from parties import ROOT, WORKER, as_user, own

from dbbasic_queue import QueueError
from dbbasic_queue.engines.tsv.takeover import Heir, take_over
from dbbasic_queue.support.account import Account

SECONDS = 1.5  # of swapping, in each case


@contextmanager
def swapping(path: Path, victim: Path, user: Account) -> Iterator[None]:
    """A process of that user in which `path` is a file and a link to `victim` in turn."""
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups(user.groups)
            os.setresgid(user.gid, user.gid, user.gid)
            os.setresuid(user.uid, user.uid, user.uid)
            link, kept = f"{path}.link", f"{path}.kept"
            while True:
                with suppress(OSError):
                    os.symlink(victim, link)
                with suppress(OSError):
                    os.link(path, kept)
                with suppress(OSError):
                    os.rename(link, path)
                with suppress(OSError):
                    os.rename(kept, path)
        finally:
            os._exit(0)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


@pytest.fixture
def roots_own(house: House) -> Path:
    """A file of root's in a folder of root's, which the worker's user would like to change."""
    path = house.folder.parent / "roots-own"
    path.write_text("root's own text\n")
    path.chmod(0o600)
    return path


@pytest.mark.parametrize("ending", ["lock", "torn", "tsv", "wake"])
def test_root_is_not_led_by_a_swap(house: House, roots_own: Path, ending: str) -> None:
    """The worker's user swaps a file for a link to one of root's; root's stays as it is."""
    before = roots_own.stat()
    until = time.monotonic() + SECONDS
    with swapping(house.beside(ending), roots_own, WORKER):
        while time.monotonic() < until:
            queue = house.queue()
            with suppress(QueueError):
                if ending != "tsv":  # this would follow the link by itself
                    with house.table.open("ab") as table:
                        table.write(b"cut off")
                queue.enqueue("ok", {"text": "of a stranger"})
                queue.prune_jobs(0)
    after = roots_own.stat()
    assert roots_own.read_text() == "root's own text\n"
    kept = ("st_uid", "st_gid", "st_mode", "st_size", "st_mtime_ns", "st_nlink")
    assert [getattr(after, name) for name in kept] == [getattr(before, name) for name in kept]


@pytest.mark.parametrize("ending", ["lock", "torn", "tsv", "claims"])
def test_the_upgrade_is_not_led_by_a_swap(house: House, roots_own: Path, ending: str) -> None:
    """Root's part changes the owner of files that it has looked at, and of no other."""
    own(house.folder, WORKER, 0o2770)
    heir = Heir(WORKER.uid, WORKER.gid, lambda uid: uid == WORKER.uid)
    before = roots_own.stat()
    until = time.monotonic() + SECONDS
    with swapping(house.beside(ending), roots_own, WORKER):
        while time.monotonic() < until:
            with suppress(OSError):
                take_over(house.table, heir)
    after = roots_own.stat()
    assert (after.st_uid, after.st_gid, after.st_mode) == (0, 0, before.st_mode)
    assert roots_own.read_text() == "root's own text\n"


def test_a_swapped_temporary_file_is_not_followed(house: House, roots_own: Path) -> None:
    """While root writes the table anew, its temporary file is swapped: only the folder suffers."""
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups(WORKER.groups)
            os.setresgid(WORKER.gid, WORKER.gid, WORKER.gid)
            os.setresuid(WORKER.uid, WORKER.uid, WORKER.uid)
            while True:
                for name in os.listdir(house.folder):
                    if ".tmp" in name:
                        with suppress(OSError):
                            os.unlink(house.folder / name)
                            os.symlink(roots_own, house.folder / name)
        finally:
            os._exit(0)
    before = roots_own.stat()
    try:
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            with suppress(QueueError, OSError):
                queue = house.queue()
                queue.cancel_job(queue.enqueue("ok", {}))
                queue.prune_jobs(0)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    after = roots_own.stat()
    assert roots_own.read_text() == "root's own text\n"
    assert (after.st_uid, after.st_mode) == (before.st_uid, before.st_mode)


def test_the_worker_recovers_from_all_of_it(house: House) -> None:
    """What is left of a swap is an error for one run at most, not a broken queue."""
    with swapping(house.beside("torn"), house.victim, WORKER):
        time.sleep(0.2)
    for left in house.folder.glob("queue.torn*"):
        left.unlink()
    house.enqueue()
    assert as_user(ROOT, lambda: house.queue().count_jobs())["pending"] == 2
    assert house.work() == 2
