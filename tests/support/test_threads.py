"""Threads of ours, which no signal is given to."""

from __future__ import annotations

import signal
from collections.abc import Iterable

import pytest

from dbbasic_queue.support.threads import without_signals


def test_what_a_signal_raises_leaves_no_signal_blocked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python calls its handlers when the mask is set already, before that is known here."""
    change = signal.pthread_sigmask
    before = change(signal.SIG_BLOCK, ())

    def broken(how: int, mask: Iterable[int]) -> set[int | signal.Signals]:
        found = change(how, mask)
        if how == signal.SIG_BLOCK and mask:
            raise KeyboardInterrupt
        return found

    try:
        with monkeypatch.context() as patched:
            patched.setattr(signal, "pthread_sigmask", broken)
            with pytest.raises(KeyboardInterrupt), without_signals():
                raise AssertionError("not reached")
        assert change(signal.SIG_BLOCK, ()) == before
    finally:
        change(signal.SIG_SETMASK, before)
