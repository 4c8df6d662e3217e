"""The marks of recurring jobs, moved along: a slot that was had at one end is not had at the other.

A file keeps them in a file beside it (schedule/marks.py); a server's engine keeps them itself, by
the key `CONFIG/NAME/SCHEDULE`.
"""

from __future__ import annotations

from pathlib import Path

from ..engines.interface import Engine
from ..schedule.marks import Mark, locked, marks_file, read

Slots = dict[str, int]  # by key, in Unix seconds


def key_of(config: str, name: str, schedule: str) -> str:
    """The key of a recurring job's slots.

    >>> key_of("shop", "nightly", "0 3 * * *")
    'shop/nightly/0 3 * * *'
    """
    return f"{config}/{name}/{schedule}"


def carry_slots(source: Engine, target: Engine) -> None:
    """Mark at the target what is marked at the source, where that is later.

    Raises `StorageError`, `TableError` for a damaged file of marks.
    """
    slots = _of_file(source.path) if source.path else source.slots()
    if target.path:
        _into_file(target.path, slots)
    else:
        for key, slot in slots.items():
            target.claim_slot(key, slot, None)


def _of_file(table: Path) -> Slots:
    marks = read(marks_file(table))
    return {key_of(*names, mark.schedule): mark.slot for names, mark in marks.items()}


def _into_file(table: Path, slots: Slots) -> None:
    if not slots:
        return
    with locked(marks_file(table)) as marks:
        for key, slot in sorted(slots.items(), key=lambda item: item[1]):
            config, name, schedule = key.split("/", 2)
            known = marks.all.get((config, name))
            if known is None or known.slot < slot:
                marks.all[config, name] = Mark(slot, schedule)
        marks.save()
