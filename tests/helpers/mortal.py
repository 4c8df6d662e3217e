"""An engine that is killed amid a move between queues."""

from __future__ import annotations

from typing import Any

from dbbasic_queue.engines.interface import Engine


class Killed(BaseException):
    """What stands for `kill -9` here: nothing catches it, nothing runs after it."""


class Mortal:
    """An engine that dies at one of its steps, before or after it is kept."""

    STEPS = (
        "withdraw",
        "adopt",
        "renote",
        "close_for",
        "forget_moved",
        "claim_slot",
        "pause",
        "resume",
        "take_out",
        "forget",
    )

    def __init__(self, engine: Engine, life: list[int]) -> None:
        self._engine = engine
        self._life = life

    def __getattr__(self, name: str) -> Any:
        there = getattr(self._engine, name)
        if name == "history_moves":
            return lambda: Mortal(there(), self._life)
        if name not in self.STEPS:
            return there

        def step(*args: Any, **options: Any) -> Any:
            self._live()
            answer = there(*args, **options)
            self._live()
            return answer

        return step

    def _live(self) -> None:
        self._life[0] -= 1
        if self._life[0] == 0:
            raise Killed
