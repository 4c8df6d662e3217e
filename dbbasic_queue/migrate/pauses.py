"""Pauses, moved along: a type that is not to be begun at one end is not begun at the other."""

from __future__ import annotations

from ..engines.interface import Engine
from ..engines.moving import departed
from ..engines.pausing import Pause
from ..job import CANCELLED


def pauses_to_carry(source: Engine, target: Engine) -> list[Pause]:
    """The pauses of the source that the target is to have; none once a job has been moved there.

    A later run of `migrate` would else pause again what was resumed at the target meanwhile. Raises
    `StorageError`.
    """
    pauses = source.paused()
    if not pauses or source.closed_for() == target.url:
        return []
    known = {pause.type for pause in target.paused()}
    pauses = [pause for pause in pauses if pause.type not in known]
    if not pauses or _was_moved(source, target):
        return []
    return pauses


def _was_moved(source: Engine, target: Engine) -> bool:
    """Whether a job of the source bears a note that it went to the target."""
    notes = map(departed, source.jobs([CANCELLED]))
    return any(note is not None and note.to == target.url for note in notes)


def carry_pauses(source: Engine, target: Engine) -> None:
    """Pause at the target what `pauses_to_carry` names. Raises `StorageError`."""
    if pauses := pauses_to_carry(source, target):
        target.pause(pauses)
