"""What is due, by priority and type: the order in which a worker chooses, if it knows priorities.

Theory of operation
-------------------
The waiting list knows times and places of jobs, not their types. So what falls due is looked at
once, and put into the lane of its type. The first job of the highest priority is that of the lane
whose first job was due first, among the lanes of that priority. A lane that is closed, as its type
is paused, is passed over, however much stands in it.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator


class Lanes:
    """Entries of the waiting list, which sort by time, by type.

    Args:
        priority: of a type.

    >>> lanes = Lanes({"mail": 10, "report": 0, "news": 0}.__getitem__)
    >>> for entry, job_type in ((1, "report"), (2, "mail"), (3, "news")): lanes.add(job_type, entry)
    >>> lanes.pop(lambda job_type: True), lanes.pop(lambda job_type: job_type != "report")
    (2, 3)
    """

    def __init__(self, priority: Callable[[str], int]) -> None:
        self._priority = priority
        self._ranks: dict[int, dict[str, list[int]]] = {}  # the highest priority first

    def add(self, job_type: str, entry: int) -> None:
        """Put what is due into the lane of its type."""
        priority = self._priority(job_type)
        rank = self._ranks.get(priority)
        if rank is None:
            self._ranks[priority] = rank = {}
            self._ranks = dict(sorted(self._ranks.items(), reverse=True))
        lane = rank.get(job_type)
        if lane is None:
            rank[job_type] = [entry]
        else:
            heapq.heappush(lane, entry)

    def pop(self, is_open: Callable[[str], bool]) -> int | None:
        """Take out the first entry of the lanes that are open; None if they are empty."""
        for rank in self._ranks.values():
            heads = [(lane[0], job_type) for job_type, lane in rank.items() if is_open(job_type)]
            if heads:
                entry, job_type = min(heads)
                heapq.heappop(rank[job_type])
                if not rank[job_type]:
                    del rank[job_type]
                return entry
        return None

    def types(self) -> Iterator[str]:
        """The types of which something is due."""
        for rank in self._ranks.values():
            yield from rank

    def entries(self) -> Iterator[int]:
        """All entries, in any order."""
        for rank in self._ranks.values():
            for lane in rank.values():
                yield from lane

    def clear(self) -> None:
        """Take out all entries."""
        self._ranks.clear()
