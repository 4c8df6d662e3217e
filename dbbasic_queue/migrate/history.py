"""The history, moved along: what workers did stays counted, and is counted once."""

from __future__ import annotations

import os

from ..engines.interface import Engine


def carry_history(source: Engine, target: Engine) -> None:
    """Add to the target's history what the source's tells, which forgets it.

    Can be killed at any moment, and repeated. What was on its way to the source gets there first:
    it is among what is carried back. Raises `StorageError`.
    """
    _hand_over(target, source)
    source.history_moves().take_out(os.urandom(8).hex())
    _hand_over(source, target)


def _hand_over(giver: Engine, taker: Engine) -> None:
    """Bring to its end what was taken out of the giver's history."""
    leaving = giver.history_moves()
    for call, hours in leaving.underway().items():
        taker.history_moves().adopt(call, hours)
        leaving.forget(call)
