"""A pipeline that changes each sorted set by one command, whatever the number of jobs."""

from __future__ import annotations

from typing import Any


class Gathered:
    """A pipeline that keeps back what goes into sorted sets, and what is taken out of them.

    `flush` sends that, what is taken out first. All else goes on as it comes.

    Args:
        pipe: redis-py's pipeline.
    """

    def __init__(self, pipe: Any) -> None:
        self._pipe = pipe
        self._out: dict[str, list[str]] = {}
        self._in: dict[str, dict[str, float]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pipe, name)

    def zrem(self, key: str, *members: str) -> None:
        """Take members out of a set."""
        self._out.setdefault(key, []).extend(members)

    def zadd(self, key: str, scores: dict[str, float]) -> None:
        """Put members into a set."""
        self._in.setdefault(key, {}).update(scores)

    def flush(self) -> None:
        """Put all that was kept back into the pipeline."""
        for key, members in self._out.items():
            self._pipe.zrem(key, *members)
        for key, scores in self._in.items():
            self._pipe.zadd(key, scores)
