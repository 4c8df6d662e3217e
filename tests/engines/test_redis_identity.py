"""A worker's name says on its own host whether it lives."""

from __future__ import annotations

import os

import pytest
from actors import in_child

from dbbasic_queue.engines.redis import identity


def test_a_worker_of_this_process_lives() -> None:
    """Each has a name of its own."""
    one, other = identity.new_name(), identity.new_name()
    assert one != other
    assert identity.is_here(one)
    assert not identity.is_dead(one)
    assert identity.process_of(one) == os.getpid()


def test_a_process_that_has_ended_is_dead_also_before_it_is_reaped() -> None:
    """And one whose number another process has by now."""
    told, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(tell, identity.new_name().encode())
        os._exit(0)
    name = os.read(told, 500).decode()
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert identity.is_dead(name)
    os.waitpid(pid, 0)
    assert identity.is_dead(name)
    parts = identity.new_name().split(".")
    parts[4] = str(int(parts[4]) - 1)
    assert identity.is_dead(".".join(parts))
    os.close(told)
    os.close(tell)


@pytest.mark.parametrize("part", [1, 2], ids=["boot", "namespace"])
def test_nothing_is_claimed_of_a_worker_elsewhere(part: int) -> None:
    """In another boot or another pid namespace; nor of a worker that is not ours."""
    parts = identity.new_name().split(".")
    parts[part] = "0"
    parts[3] = "999999999"
    assert not identity.is_here(".".join(parts))
    assert not identity.is_dead(".".join(parts))
    assert identity.process_of(".".join(parts)) is None
    assert not identity.is_dead("a-plain-rq-worker")


def test_a_child_has_a_name_of_its_own() -> None:
    """It is another process."""
    name = identity.new_name()
    assert in_child(lambda: os._exit(identity.new_name().split(".")[3] == name.split(".")[3])) == 0
