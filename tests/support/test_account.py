"""Users of this machine are found by name, and this process's own without one."""

from __future__ import annotations

import os
import pwd

import pytest

from dbbasic_queue.support.account import Account


def test_a_user_is_found_by_name() -> None:
    """The account has the user's numbers and home; an unknown name has none."""
    entry = pwd.getpwnam("daemon")
    account = Account.find("daemon")
    assert account is not None
    assert (account.uid, account.gid, str(account.home)) == (entry[2], entry[3], entry.pw_dir)
    assert entry.pw_gid in account.groups
    assert Account.find("no-such-user") is None


def test_this_process_has_an_account() -> None:
    """Without a name, it is the user that this process runs as."""
    me = Account.find(None)
    assert me is not None
    assert me.uid == os.geteuid()
    assert me.is_me
    assert Account.find(me.name) == me


def test_a_user_whom_the_database_does_not_know(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container: the number is the name, and the rest is this process's own."""

    def unknown(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.setenv("HOME", "/srv")
    me = Account.find(None)
    assert me is not None
    assert (me.name, me.uid, str(me.home)) == (str(os.geteuid()), os.geteuid(), "/srv")
    assert me.is_me
    monkeypatch.delenv("HOME")
    assert str(Account.find(None).home) == "/"  # type: ignore[union-attr]
