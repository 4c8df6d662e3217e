"""The wake file: who owns it, who may touch it, and what is never deleted in its place."""

from __future__ import annotations

import getpass
import os
from pathlib import Path

import pytest

from dbbasic_queue.errors import InstallError
from dbbasic_queue.support.account import Account
from dbbasic_queue.systemd.wake import drop_wake, make_wake, wake_fault

ME = getpass.getuser()


@pytest.fixture
def queue(tmp_path: Path) -> Path:
    """Where the queue is; it is not there yet."""
    return tmp_path / "queue.tsv"


@pytest.fixture
def wake(queue: Path) -> Path:
    """Where the wake file is; it is not there yet."""
    return queue.with_suffix(".wake")


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_a_missing_file_is_a_fault_until_it_is_made(queue: Path, wake: Path) -> None:
    """`make_wake` makes what `wake_fault` misses: an empty file of the worker's user."""
    assert "is missing" in str(wake_fault(wake, queue, ME))
    make_wake(wake, queue, ME)
    assert wake_fault(wake, queue, ME) is None
    assert wake.read_bytes() == b""
    assert wake.stat().st_uid == os.geteuid()


@pytest.mark.parametrize("permissions", [0o600, 0o640, 0o660, 0o666])
def test_who_may_write_the_queue_may_touch_it(queue: Path, wake: Path, permissions: int) -> None:
    """Mode and group are the queue's, so that every producer can wake the worker."""
    queue.touch()
    queue.chmod(permissions)
    make_wake(wake, queue, ME)
    assert mode(wake) == permissions
    assert wake.stat().st_gid == queue.stat().st_gid
    assert wake_fault(wake, queue, ME) is None


def test_a_queue_that_more_may_write_is_noticed(queue: Path, wake: Path) -> None:
    """If the queue is opened to a group later, the wake file no longer is as it should be."""
    queue.touch(0o600)
    make_wake(wake, queue, ME)
    queue.chmod(0o660)
    assert "have none for it" in str(wake_fault(wake, queue, ME))
    make_wake(wake, queue, ME)
    assert wake_fault(wake, queue, ME) is None


def test_a_file_that_belongs_to_another_is_well_if_the_worker_may_touch_it(
    queue: Path, wake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its owner does not matter, so systemd-tmpfiles may set it; write permission does."""
    queue.touch(0o660)
    make_wake(wake, queue, ME)
    stranger = Account("zoe", 4711, 4711, (4711, os.getegid()), Path("/"))
    monkeypatch.setattr(Account, "find", lambda name: stranger)
    wake.chmod(0o660)
    queue.chmod(0o660)
    assert wake_fault(wake, queue, "zoe") is None
    wake.chmod(0o600)
    queue.chmod(0o600)
    assert "zoe has no write permission" in str(wake_fault(wake, queue, "zoe"))


def test_a_setgid_folder_gives_its_group(queue: Path, wake: Path) -> None:
    """Before there is a queue, the folder says whose group it will have."""
    queue.parent.chmod(0o2770)
    make_wake(wake, queue, ME)
    assert wake.stat().st_gid == queue.parent.stat().st_gid
    assert mode(wake) == 0o660


def test_a_link_is_replaced_and_never_followed(queue: Path, wake: Path, tmp_path: Path) -> None:
    """A symbolic link planted in its place is taken away; what it leads to is left alone."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    victim.chmod(0o600)
    wake.symlink_to(victim)
    assert "is not a regular file" in str(wake_fault(wake, queue, ME))
    make_wake(wake, queue, ME)
    assert not wake.is_symlink()
    assert (victim.read_text(), mode(victim)) == ("precious", 0o600)


def test_a_folder_in_its_place_is_refused(queue: Path, wake: Path) -> None:
    """A folder is not ours; the error names it and it stays."""
    wake.mkdir()
    with pytest.raises(InstallError, match=r"cannot make the wake file .*queue\.wake: "):
        make_wake(wake, queue, ME)
    assert wake.is_dir()


def test_an_unknown_user_is_named(queue: Path, wake: Path) -> None:
    """Nothing is made for a user that this machine does not know."""
    with pytest.raises(InstallError, match="there is no user 'no-such-user'"):
        make_wake(wake, queue, "no-such-user")
    assert not wake.exists()


def test_drop_takes_only_what_is_plainly_a_wake_file(wake: Path, queue: Path) -> None:
    """An empty file of that name goes; a file with text, a link or another name stays."""
    drop_wake(wake)
    wake.touch()
    drop_wake(wake)
    assert not wake.exists()
    wake.write_text("text")
    drop_wake(wake)
    assert wake.exists()
    wake.unlink()
    wake.symlink_to(queue)
    drop_wake(wake)
    assert wake.is_symlink()
    queue.touch()
    drop_wake(queue)
    assert queue.exists()
