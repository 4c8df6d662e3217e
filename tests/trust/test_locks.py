"""A lock is held for ever: by whom it can be, and what the others are told."""

from __future__ import annotations

import fcntl
import os
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest
from house import HANDLERS, House, command
from parties import PRODUCER, READER, WORKER, as_user, open_place, own

from dbbasic_queue import Queue, StorageError
from dbbasic_queue.cli import health
from dbbasic_queue.cli import main as dbq
from dbbasic_queue.schedule import marks
from dbbasic_queue.support.account import Account

OFD_SETLK = 37
READ_ALL = struct.pack("@hhqqi0q", fcntl.F_RDLCK, 0, 0, 0, 0)


def flock(house: House) -> None:
    """Hold the table's lock, through a descriptor that only reads."""
    fcntl.flock(os.open(house.beside("lock"), os.O_RDONLY), fcntl.LOCK_SH)


def all_bytes(house: House) -> None:
    """Hold all bytes of the claims, through a descriptor that only reads."""
    fcntl.fcntl(os.open(house.beside("claims"), os.O_RDONLY), OFD_SETLK, READ_ALL)


@contextmanager
def holding(user: Account, take: Callable[[], object]) -> Iterator[int]:
    """The id of a process of that user which has taken a lock, and keeps it."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups(user.groups)
            os.setresgid(user.gid, user.gid, user.gid)
            os.setresuid(user.uid, user.uid, user.uid)
            take()
            os.write(writer, b"!")
            time.sleep(600)
        finally:
            os._exit(1)
    os.close(writer)
    try:
        assert os.read(reader, 1) == b"!", "the lock was not to be had"
        yield pid
    finally:
        os.close(reader)
        os.kill(pid, 9)
        os.waitpid(pid, 0)


@pytest.mark.parametrize("take", [flock, all_bytes])
def test_a_reader_gets_no_lock(house: House, take: Callable[[House], None]) -> None:
    """So it holds no process up, and makes no job look as if it ran."""
    with pytest.raises(PermissionError):
        as_user(READER, lambda: take(house))


def test_the_holder_is_named_after_a_while(house: House) -> None:
    """A producer may hold the lock for ever; producers and workers are told by whom, in time."""
    with holding(PRODUCER, lambda: flock(house)) as pid:
        began = time.monotonic()
        with pytest.raises(StorageError, match=rf"the queue is locked: process {pid}\b"):
            as_user(PRODUCER, lambda: house.queue().enqueue("ok", {}), 30)
        assert time.monotonic() - began > 5, "ten seconds is what it waits"
        hasty = Queue(house.table, lock_timeout=0.1)
        with pytest.raises(StorageError, match=rf"process {pid}\b.* for 0.1 s"):
            as_user(WORKER, lambda: hasty.process_jobs(HANDLERS))
        assert len(as_user(READER, lambda: list(house.queue().list_jobs()))) == 2
    assert house.work() == 1, "all is as before when it lets go"


def test_the_health_check_names_the_holder(house: House) -> None:
    """CRITICAL, in the same words."""
    with holding(PRODUCER, lambda: flock(house)) as pid:
        ran = command(WORKER, health.main, "--file", house.table)
        assert ran.code == 2, ran
        assert f"the queue is locked: process {pid} " in ran.text


def test_claims_held_by_a_stranger_only_spoil_the_queue(house: House) -> None:
    """A producer that locks all claims keeps jobs from being run until it lets go, and no more."""
    with holding(PRODUCER, lambda: all_bytes(house)):
        assert house.work() == 0
        assert house.enqueue()
    assert house.work() == 2


def test_a_reader_may_lock_all_that_it_can_open(house: House) -> None:
    """Folder and table, and whatever else it can read: nothing waits for such a lock."""

    def lock_all() -> None:
        for path in (house.folder, *house.folder.iterdir()):
            with suppress(PermissionError):
                fcntl.flock(os.open(path, os.O_RDONLY), fcntl.LOCK_EX)

    with holding(READER, lock_all):
        as_user(PRODUCER, lambda: Queue(house.table, lock_timeout=0).enqueue("ok", {}))
        assert house.work() == 2
        assert as_user(WORKER, lambda: mark(house)) == "marked"
        assert command(WORKER, health.main, "--file", house.table).code == 0
        assert command(WORKER, dbq.main, "fsck", "--file", house.table).code == 0
        assert (
            command(WORKER, dbq.main, "prune", "--older-than", "7d", "--file", house.table).code
            == 0
        )


def test_a_folder_of_one_user_has_no_lock_for_readers_either() -> None:
    """Whatever the umask leaves: who cannot write lock and claims cannot read them."""
    with open_place() as top:
        folder = top / "data"
        folder.mkdir()
        own(folder, WORKER, 0o755)
        house = House(folder, folder / "queue.tsv", top / "victim")

        def first() -> None:
            os.umask(0o022)
            house.queue().enqueue("ok", {})

        as_user(WORKER, first)
        assert house.beside("lock").stat().st_mode & 0o044 == 0  # from its making on
        assert house.work() == 1
        assert len(as_user(READER, lambda: list(house.queue().list_jobs()))) == 1
        for take in (flock, all_bytes):
            with pytest.raises(PermissionError):
                as_user(READER, lambda take=take: take(house))
        for ending in ("lock", "claims"):  # as 2.0.0 has made them
            own(house.beside(ending), WORKER, 0o644)
        house.enqueue(WORKER)
        assert house.work() == 1
        for take in (flock, all_bytes):
            with pytest.raises(PermissionError):
                as_user(READER, lambda take=take: take(house))


def test_who_keeps_the_lock_of_the_marks_is_named(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A producer can read the record of recurring jobs, so it can stop these, and no more."""
    monkeypatch.setattr(marks, "WAIT", 0.1)
    assert as_user(WORKER, lambda: mark(house)) == "marked"
    recurring = house.beside("recurring")
    with (
        holding(
            PRODUCER, lambda: fcntl.flock(os.open(recurring, os.O_RDONLY), fcntl.LOCK_SH)
        ) as pid,
        pytest.raises(StorageError, match=rf"recurring jobs is locked: process {pid}\b.* 0.1 s"),
    ):
        as_user(WORKER, lambda: mark(house))
    assert as_user(WORKER, lambda: mark(house)) == "marked"


def mark(house: House) -> str:
    """Change the record of recurring jobs."""
    with marks.locked(house.beside("recurring")):
        return "marked"
