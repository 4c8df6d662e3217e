"""A call in a child process is over in time, runs as the user it should, and answers."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from dbbasic_queue.errors import StorageError
from dbbasic_queue.support.account import Account
from dbbasic_queue.support.child import ChildDied, ChildTimeout, call


class Picky(Exception):
    """An exception that pickle cannot make again."""

    def __init__(self, one: object, two: object) -> None:
        super().__init__("picky")


def raise_(error: BaseException) -> None:
    raise error


def test_what_it_returns_comes_back() -> None:
    """The value of the call is the value of the function, however large."""
    assert call(lambda: {"a": [1, 2]}, 10) == {"a": [1, 2]}
    assert len(call(lambda: b"x" * 5_000_000, 10)) == 5_000_000


def test_what_it_raises_is_raised() -> None:
    """An exception comes back as itself, with its attributes."""
    with pytest.raises(StorageError, match="no such disk") as caught:
        call(lambda: raise_(StorageError(5, "no such disk")), 10)
    assert caught.value.errno == 5
    with pytest.raises(KeyboardInterrupt):
        call(lambda: raise_(KeyboardInterrupt()), 10)


def test_an_exception_that_cannot_be_handed_on_is_told() -> None:
    """One that pickle cannot bring back is told by its type and text."""
    with pytest.raises(RuntimeError, match="Picky: picky"):
        call(lambda: raise_(Picky(1, 2)), 10)
    with pytest.raises(RuntimeError, match="lambda"):
        call(lambda: lambda: None, 10)


def test_its_time_is_up(tmp_path: Path) -> None:
    """A call that takes too long is broken off, and may tidy up before it is."""
    trace = tmp_path / "trace"

    def wait() -> None:
        try:
            time.sleep(60)
        finally:
            trace.write_text("tidy")

    with pytest.raises(ChildTimeout):
        call(wait, 1.5)
    assert trace.read_text() == "tidy"


def test_one_that_does_not_listen_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that hears no signal is killed, and its process is gone."""
    children = []
    fork = os.fork

    def noted() -> int:
        children.append(fork())
        return children[-1]

    monkeypatch.setattr(os, "fork", noted)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})  # as the child finds it
    try:
        with pytest.raises(ChildTimeout):
            call(lambda: time.sleep(60), 0.3)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    try:
        _, status = os.waitpid(children[0], 0)  # on a busy machine it is not gone yet
        assert os.WTERMSIG(status) == signal.SIGKILL
    except ChildProcessError:
        pass


@pytest.mark.parametrize(
    ("end", "how"),
    [
        (lambda: os.kill(os.getpid(), signal.SIGKILL), r"was killed by signal 9 \(SIGKILL\)"),
        (lambda: os._exit(7), "ended with exit code 7"),
    ],
)
def test_a_child_that_dies_is_told(end: object, how: str) -> None:
    """A child that the kernel killed, such as for its memory, is not waited for."""
    with pytest.raises(ChildDied, match=how):
        call(end, 10)  # type: ignore[arg-type]


def test_no_process_waits_for_its_output(capfd: pytest.CaptureFixture[str]) -> None:
    """The child holds no pipe of the caller open: what it prints leads nowhere."""

    def shout() -> None:
        print("out")
        print("err", file=sys.stderr)
        os.write(1, b"out")

    call(shout, 10)
    assert capfd.readouterr() == ("", "")


def test_a_program_without_children_to_wait_for() -> None:
    """Where the program ignores SIGCHLD, the kernel takes the child away, and that is fine."""
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        assert call(lambda: 1, 10) == 1
        with pytest.raises(ChildDied, match="ended"):
            call(lambda: os._exit(1), 10)
    finally:
        signal.signal(signal.SIGCHLD, before)


def nobody() -> Account:
    account = Account.find("nobody")
    assert account is not None
    return account


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@needs_root
def test_it_runs_as_another_user() -> None:
    """The child has the user, group and groups of the account, and cannot take root back."""

    def identity() -> tuple[object, ...]:
        with pytest.raises(PermissionError):
            os.setuid(0)
        return os.getresuid(), os.getresgid(), sorted(os.getgroups())

    account = nobody()
    uids, gids = (account.uid,) * 3, (account.gid,) * 3
    assert call(identity, 10, user=account) == (uids, gids, sorted(account.groups))


@needs_root
def test_no_process_of_that_user_can_write_its_answer() -> None:
    """The kernel lets no process of the new user trace the child, which would choose the answer."""

    def memory_is_open() -> bool:
        return os.access(f"/proc/{os.getpid()}/mem", os.W_OK)

    assert not call(memory_is_open, 10, user=nobody())


@needs_root
def test_only_root_can_become_another_user() -> None:
    """A process that has given root up gets the system's error."""
    other = Account.find("daemon")
    with pytest.raises(PermissionError):
        call(lambda: call(lambda: 1, 5, user=other), 10, user=nobody())


def test_oneself_is_a_user_like_any_other() -> None:
    """Without a change of user the call is made as by any child."""
    assert call(os.geteuid, 10, user=Account.find(None)) == os.geteuid()
