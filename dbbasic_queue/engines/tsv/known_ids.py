"""The ids of jobs that had not ended when the table was read: no other line may bear one of them.

Theory of operation
-------------------
Ids of ours sort by time, and rows lie in the order of their enqueueing. So nearly all lines of a
table ascend by their ids, and what ascends bears each id once: to see that, each is compared with
the one above it, which needs no memory. Of that chain only the ends are kept. An id that is not
ours cannot be in it. One that is, and is not larger than those above it, is searched for. The
hashes of the ids are kept where a piece of the table has lines beside the chain, and of what stands
last: producers that waited for the lock append ids that are a little smaller.

An id of ours from the future (a clock that was ahead) would put all that follows beside the chain.
So it is not taken into it.
"""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice
from operator import lt
from typing import Final

from ...support.ids import made_at, time_part
from ...table.line import HEADER, ID
from ...table.scan import UNFINISHED_TAIL, ids_of

_AHEAD: Final = 86_400_000  # milliseconds that a clock may be ahead of ours
_LAST: Final = 2  # pieces at the end of what was read, of which all hashes are kept
# What stands where an id does: one of ours, or nothing for another one.
_OURS: Final = re.compile(rb"\n(?:([g-z][0-9a-z]{15})|%b)\t" % ID)

Pieces = Iterable[tuple[int, bytes]]


class KnownIds:
    """What is known of the ids in a table.

    >>> known = KnownIds()
    >>> known.add(b"order-1")
    >>> known.may_bear(b"order-1"), known.may_bear(b"order-2")
    (True, False)
    """

    def __init__(self) -> None:
        self._hashes: set[int] = set()
        # The first and the last of the chain, and up to where no hashes are kept of it.
        self._low = self._high = self._forgotten = b""

    def __len__(self) -> int:
        """How many hashes are kept."""
        return len(self._hashes)

    def add(self, job_id: bytes) -> None:
        """Note an id."""
        self._hashes.add(hash(job_id))

    def note(self, ids: Iterable[bytes]) -> None:
        """Note ids."""
        self._hashes.update(map(hash, ids))

    def may_bear(self, job_id: bytes) -> bool:
        """Whether an id that is appended is perhaps one of them."""
        return hash(job_id) in self._hashes or self._is_within(job_id, self._forgotten)

    def may_meet(self, piece: bytes) -> bool:
        """Whether a line in a piece of the table perhaps bears one of them."""
        ids = ids_of(piece)
        return not self._hashes.isdisjoint(map(hash, ids)) or any(
            self._is_within(job_id, self._high) for job_id in ids
        )

    def _is_within(self, job_id: bytes, high: bytes) -> bool:
        return self._low <= job_id <= high and made_at(job_id) is not None

    def read(self, pieces: Pieces, many: bool) -> set[int]:
        """Note the ids of jobs that have not ended; returns the hashes of those that may repeat.

        More than one line perhaps bears such an id, of jobs that have ended or not. `many` says
        that most have not ended, so that those which have may be noted, too.
        """
        limit = time_part(int(time.time() * 1000) + _AHEAD).encode()
        last: deque[tuple[bytes, list[bytes]]] = deque(maxlen=_LAST)
        late: set[int] = set()
        beside = 0  # lines that are not in the chain, at least
        for _, piece in pieces:
            piece = piece.removeprefix(HEADER)
            ids: list[bytes] = _OURS.findall(b"\n" + piece)
            last.append((self._high, ids))
            if self._continue(ids, limit):
                continue
            found = ids_of(piece)
            if self._continue(list(filter(None, ids)), limit):
                found = [job_id for job_id, ours in zip(found, ids, strict=True) if not ours]
            else:
                late.update(map(hash, self._look(ids, limit)))
            beside += len(found) if many else piece.count(b"\n") + 1
            self.note(found if many else _unfinished(piece))
        distinct = len(self._hashes) == beside
        suspects = late if distinct else late | self._hashes
        for _, ids in last:
            self.note(filter(None, ids))
        self._forgotten = last[0][0] if last else b""
        return suspects

    def _continue(self, ids: list[bytes], limit: bytes) -> bool:
        """Take all of these ids into the chain, if they continue it; whether they do."""
        if not ids or ids[0] <= self._high or ids[-1] >= limit:
            return not ids
        # One that is not ours is empty here, and so not larger than the one above.
        if not all(map(lt, ids, islice(ids, 1, None))):
            return False
        self._low, self._high = self._low or ids[0], ids[-1]
        return True

    def _look(self, ids: list[bytes], limit: bytes) -> Iterator[bytes]:
        """Take those into the chain that are larger than all above; yield what may be in it."""
        for job_id in ids:
            if self._high < job_id < limit:
                self._low, self._high = self._low or job_id, job_id
            elif job_id and self._low <= job_id <= self._high:
                yield job_id


def _unfinished(piece: bytes) -> Iterator[bytes]:
    """Yield what stands where an id does in lines of jobs that have not ended."""
    for match in UNFINISHED_TAIL.finditer(piece):
        start = piece.rfind(b"\n", 0, match.start()) + 1
        yield piece[start : piece.find(b"\t", start)]
