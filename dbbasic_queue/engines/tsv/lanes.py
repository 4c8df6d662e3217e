"""What is due, by priority and type: the order in which a worker chooses, if it knows priorities.

Theory of operation
-------------------
The waiting list knows times and places of jobs, not their types. So what falls due is looked at
once, and put into the lane of its type. The first job of the highest priority is that of the lane
whose first job was due first, among the lanes of that priority. A lane that is closed, as its type
is paused, is passed over, however much stands in it.

Of each priority there is a heap of heads: the first entry of each lane, and its type. An entry that
goes to the front of its lane becomes a head, too; a head that is not the first of its lane says
nothing, and goes when it is met, or when there are many such.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from typing import Final

_Heads = list[tuple[int, str]]  # a heap: first entry of a lane, its type
_SOME: Final = 64  # heads that say nothing, at which it is not worth it to take them out


class Lanes:
    """Entries of the waiting list, which sort by time, by type.

    Args:
        priority: of a type.

    >>> lanes = Lanes({"mail": 10, "report": 0, "news": 0}.__getitem__)
    >>> for entry, job_type in ((1, "report"), (2, "mail"), (3, "news")): lanes.add(job_type, entry)
    >>> lanes.pop(lambda job_type: True), lanes.pop(lambda job_type: job_type != "report")
    (2, 3)
    >>> lanes.pop(), lanes.pop()
    (1, None)
    """

    def __init__(self, priority: Callable[[str], int]) -> None:
        self._priority = priority
        self._lanes: dict[str, tuple[list[int], _Heads]] = {}  # of each type; none is empty
        self._ranks: dict[int, _Heads] = {}  # the highest priority first

    def add(self, job_type: str, entry: int) -> None:
        """Put what is due into the lane of its type."""
        found = self._lanes.get(job_type)
        if found is None:
            heads = self._rank(self._priority(job_type))
            self._lanes[job_type] = [entry], heads
        else:
            lane, heads = found
            is_first = entry < lane[0]
            heapq.heappush(lane, entry)
            if not is_first:
                return
        heapq.heappush(heads, (entry, job_type))
        if len(heads) > 2 * len(self._lanes) + _SOME:
            heads[:] = (
                (lane[0], name) for name, (lane, its) in self._lanes.items() if its is heads
            )
            heapq.heapify(heads)

    def _rank(self, priority: int) -> _Heads:
        if priority not in self._ranks:
            self._ranks[priority] = []
            self._ranks = dict(sorted(self._ranks.items(), reverse=True))
        return self._ranks[priority]

    def pop(self, is_open: Callable[[str], bool] | None = None) -> int | None:
        """Take out the first entry of the lanes that are open; None if they are empty."""
        lanes = self._lanes
        for heads in self._ranks.values():
            closed, found = [], None
            while heads and found is None:
                entry, job_type = head = heads[0]
                lane = lanes[job_type][0] if job_type in lanes else ()
                if not lane or lane[0] != entry:
                    heapq.heappop(heads)
                elif is_open is None or is_open(job_type):
                    found = self._take_first(job_type, heads)
                else:
                    closed.append(head)
                    heapq.heappop(heads)
            for head in closed:
                heapq.heappush(heads, head)
            if found is not None:
                return found
        return None

    def _take_first(self, job_type: str, heads: _Heads) -> int:
        """Take out the first entry of the lane whose head is the first of these."""
        lane = self._lanes[job_type][0]
        entry = heapq.heappop(lane)
        if lane:
            heapq.heapreplace(heads, (lane[0], job_type))
        else:
            heapq.heappop(heads)
            del self._lanes[job_type]
        return entry

    def types(self) -> Iterator[str]:
        """The types of which something is due."""
        return iter(self._lanes)

    def entries(self) -> Iterator[int]:
        """All entries, in any order."""
        for lane, _ in self._lanes.values():
            yield from lane

    def clear(self) -> None:
        """Take out all entries."""
        self._lanes.clear()
        self._ranks.clear()
