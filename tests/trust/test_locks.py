"""A lock is held for ever: by whom it can be, and what the others are told."""

from __future__ import annotations

import fcntl
import os
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from house import HANDLERS, House, command
from parties import PRODUCER, READER, WORKER, as_user

from dbbasic_queue import Queue, StorageError
from dbbasic_queue.cli import health
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
