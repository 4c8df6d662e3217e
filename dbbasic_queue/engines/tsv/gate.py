"""What a worker may begin now, and in which order: by pauses and by the policies of its types.

Theory of operation
-------------------
Without a pause and a policy that matters here, the gate is `free`, and a turn does not ask it. Else
it says which types may be begun outright. A type of which a job must be looked at more closely, as
it may have expired, is not among them; the seat asks for each job then.

With priorities, what is due goes by way of lanes (lanes.py). Without, a job whose type is paused is
parked until the pause is over.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Container
from typing import TYPE_CHECKING, Final, NamedTuple

from ...errors import StorageError
from ...job import CANCELLED, require
from ...rate import Rate
from ...table.table import Table
from ..interface import NONE, Policies
from ..pausing import Held, paused_at, tell_pauses
from ..policies import expired, tell_expired
from . import paused
from .claims import Claims
from .rests import SHARE
from .waiting import WaitingList

if TYPE_CHECKING:
    from .lanes import Lanes
    from .rates import Rates

log = logging.getLogger("dbbasic_queue")

NOTHING: Final[Container[str]] = ()
_RATES: Final = {"event": "rates"}
LOOK_AGAIN: Final = 1.0  # seconds after which a type at its limit is tried again in any case
MANY: Final = 500  # jobs passed over, after which the table's lock is given back for a moment


class Look(NamedTuple):
    """A pending job, as far as the gate looks at it."""

    type: str
    due: int
    attempts: int  # that were begun before
    offset: int


class Gate:
    """The pauses and policies of a queue, as its worker knows them.

    Args:
        table: of the queue.
        claims: of the queue, where the limits of types are bytes.
        waiting: the worker's, where what is not to be begun now is kept.
        clock: Unix seconds.
    """

    def __init__(
        self, table: Table, claims: Claims, waiting: WaitingList, clock: Callable[[], float]
    ) -> None:
        self.free = True  # nothing is paused, and no policy matters
        self.wrote = False  # in this turn, what is to be synced
        self._held: Held | None = None  # None: nothing is paused
        self._policies = NONE
        self._lanes: Lanes | None = None
        self._expire = False
        self._limit = False
        self._slot: tuple[int, str] | None = None  # of the job in hand, and its type
        self._rates: Rates | None = None  # None: no type has one
        self._counted = ""  # the type that a job of this turn was counted for already
        # Types at their limit or rate; until when, by time.monotonic() and by the clock: one that
        # is set must not keep a type closed.
        self._closed: dict[str, tuple[float, float]] = {}
        self._full: dict[str, int] = {}  # those of them that are at their limit, and the limit
        self._looks_at = 0.0  # when it is looked for a place again, by time.monotonic()
        self._claims = claims
        self._table = table
        self._path = table.sibling("paused")
        self._waiting = waiting
        self._clock = clock
        self._text = b""
        self._passed = 0
        self._fault = ""
        self._doomed: tuple[int, str] | None = None  # where a job stands that has expired, and why

    # -- what holds ----------------------------------------------------------------------------

    def govern(self, policies: Policies) -> None:
        """Go by these policies from now on."""
        self._policies = policies
        self._expire = policies.any(lambda policy: policy.expires)
        self._limit = policies.any(lambda policy: policy.concurrency)
        self._rates = None
        if policies.any(lambda policy: policy.rate):
            from .rates import Rates  # here, as most queues have none

            self._rates = Rates(self._table)
        chooses = self._limit or self._rates is not None
        if chooses or policies.any(lambda policy: policy.priority):
            from .lanes import Lanes

            self._lanes = Lanes(lambda job_type: policies.of(job_type).priority or 0)
        self._waiting.unpark()
        self._waiting.lanes = self._lanes
        self._settle()

    def _settle(self) -> None:
        self.free = self._held is None and not self._expire and self._lanes is None

    def look(self) -> None:
        """Learn what is paused now."""
        self._waiting.told = False
        try:
            text = paused.read(self._path)
        except StorageError as error:  # it holds what held before
            if str(error) != self._fault:
                self._fault = str(error)
                log.warning("cannot see what is paused: %s", error, extra={"event": "paused"})
            return
        now = self._clock()
        if text == self._text and (self._held is None or now < self._held.ends):
            return
        self._text = text
        pauses = paused_at(paused.parse(text), now)
        if self._held is not None:
            self._waiting.unpark()
        before, self._held = self._held, Held(pauses) if pauses else None
        self._settle()
        tell_pauses(self._held, before)

    # -- choosing, under the table's lock ------------------------------------------------------

    def outright(self, types: Container[str] | None) -> Container[str] | None:
        """Which of these types may be begun without a closer look at the job.

        Begins a choice: the job that was in hand has ended. Its place stays ours until `begun`, as
        the next job is often of the same type.
        """
        if self._slot is not None:
            self._closed.pop(self._slot[1], None)
        self._counted = ""
        if self._closed:
            now, moment = time.monotonic(), self._clock()
            self._closed = {
                job_type: (until, opens)
                for job_type, (until, opens) in self._closed.items()
                if until > now and opens > moment
            }
        held = self._held
        if held is not None and held.ends <= self._clock():
            self.look()
            held = self._held
        if held is not None and held.all:
            return NOTHING
        plain = held is None and not self._expire and not self._limit and self._rates is None
        return types if plain else _Outright(types, self)

    def pop_due(self, now: int) -> int | None:
        """Take out the next job that is due and whose type may be begun: its offset, or None."""
        waiting, lanes = self._waiting, self._lanes
        if lanes is None:
            return waiting.pop_due(now)
        line_at, offset_of, add = self._table.line_at, waiting.offset_of, lanes.add
        while entries := waiting.pop_entries(now, max(1, MANY - self._passed)):
            for entry in entries:
                line = line_at(offset_of(entry))
                start = line.find(b"\t") + 1
                end = line.find(b"\t", start)
                if 0 < start <= end:  # else it was written anew in place
                    add(line[start:end].decode(errors="replace"), entry)
            self._passed += len(entries)
            if self._passed >= MANY:
                return None
        all_open = self._held is None and not self._closed
        found = lanes.pop(None if all_open else self._is_open)
        return None if found is None else waiting.offset_of(found)

    def _is_open(self, job_type: str) -> bool:
        return job_type not in self._closed and not self._is_held(job_type)

    def _is_held(self, job_type: str) -> bool:
        return self._held is not None and job_type in self._held

    def admits(self, look: Look, types: Container[str] | None, now: int) -> bool:
        """Whether a job may be begun, of a type that takes a closer look at it."""
        job_type = look.type
        if self._is_held(job_type):
            self._waiting.park(look.due, look.offset)
        elif types is None or job_type in types:
            policy = self._policies.of(job_type)
            expires, limit, rate = policy.expires, policy.concurrency, policy.rate
            if expires is None or look.attempts or look.due + expires > now:
                has_place = limit is None or self._takes_slot(look, limit)
                return has_place and (rate is None or self._counts(look, rate))
            self._doomed = look.offset, expired(expires)
        self._passed += 1
        return False

    def _takes_slot(self, look: Look, limit: int) -> bool:
        """Take one of the places of a type; whether there was one. Else its lane is closed."""
        if self._slot is not None:
            if self._slot[1] == look.type:
                return True
            self.let_go()
        byte = self._claims.take_of(look.type, limit)
        if byte is None:
            self._close(look, LOOK_AGAIN)
            self._full[look.type] = limit
            return False
        self._slot = byte, look.type
        return True

    def _counts(self, look: Look, rate: Rate) -> bool:
        """Count a job for the rate of its type, if that has one left. Else its lane is closed."""
        job_type = look.type
        if self._counted == job_type:  # the one before it was not begun after all
            return True
        assert self._rates is not None
        now, opens = self._clock(), math.inf
        try:
            wait = self._rates.take(job_type, rate, now)
            opens = now + wait
        except StorageError as error:
            if str(error) != self._fault:
                self._fault = str(error)
                log.warning("no job of a type with a rate is begun: %s", error, extra=_RATES)
            wait = LOOK_AGAIN
        if wait:
            self.let_go()
            self._close(look, wait, opens)
            return False
        self._counted = job_type
        return True

    def _close(self, look: Look, wait: float, opens: float = math.inf) -> None:
        """Pass over a type for so many seconds, or until the clock shows that time."""
        self._closed[look.type] = time.monotonic() + wait, opens
        self._full.pop(look.type, None)
        if self._lanes is not None:
            self._lanes.add(look.type, self._waiting.entry_of(look.due, look.offset))

    def begun(self, job_type: str | None) -> None:
        """Note of which type a job was begun; None: of none."""
        self._counted = ""
        if self._slot is not None and self._slot[1] != job_type:
            self.let_go()

    def sync(self) -> None:
        """Return when what was counted is on disk. Raises `StorageError`."""
        if self._rates is not None:
            self._rates.sync()

    def let_go(self) -> None:
        """Give the place of a type back, if there is one: another of this type may be begun."""
        slot, self._slot = self._slot, None
        if slot is not None:
            self._claims.release(slot[0])
            self._closed.pop(slot[1], None)

    def leave(self) -> None:
        """Give back and close what is the worker's."""
        self.let_go()
        if self._rates is not None:
            self._rates.close()

    @property
    def is_to_cancel(self) -> bool:
        """Whether the job that was not admitted has expired: see `cancel`."""
        return self._doomed is not None

    def cancel(self, now: int) -> None:
        """Cancel that job."""
        assert self._doomed is not None
        (offset, error), self._doomed = self._doomed, None
        row = self._table.read_row(offset)
        assert row is not None  # it was looked at under this lock
        require(row.id, row.status, CANCELLED)
        self._table.change(row, CANCELLED, now, row.attempts, error.encode())
        self.wrote = True
        tell_expired(row.type.decode(errors="replace"), row.id.decode(), error)

    @property
    def is_full(self) -> bool:
        """Whether many jobs were passed over under this lock."""
        return self._passed >= MANY

    def passed_many(self) -> bool:
        """Whether many were passed over, so that more may be due; asked once."""
        many = self._passed >= MANY
        if many:
            self._passed = 0
        return many

    def look_for_places(self) -> None:
        """Open the types at their limit that have a place again, as a job ended or a worker died.

        A place may be taken before the turn that follows, which then closes the type once more.
        Raises `StorageError`.
        """
        began = time.monotonic()
        if not self._full or began < self._looks_at:
            return
        for job_type, limit in list(self._full.items()):
            if job_type not in self._closed or not self._claims.are_all_taken(job_type, limit):
                self._closed.pop(job_type, None)
                del self._full[job_type]
        now = time.monotonic()
        self._looks_at = now + SHARE * (now - began)

    def until_due(self) -> float:
        """In how many seconds there may be something to begin, as far as is known now."""
        now = self._clock()
        held = self._held
        if self._lanes is not None and any(map(self._is_open, self._lanes.types())):
            return 0.0
        soon = math.inf
        if self._closed:
            ends, opens = map(min, zip(*self._closed.values(), strict=True))
            soon = min(ends - time.monotonic(), opens - now)
        if held is not None:
            soon = min(soon, held.ends - now)
        if held is None or not held.all:
            soon = min(soon, self._waiting.until_due(now))
        return max(0.0, soon)


class _Outright:
    """The types that a worker takes, less those of which each job is looked at."""

    def __init__(self, types: Container[str] | None, gate: Gate) -> None:
        self._types = types
        self._gate = gate

    def __contains__(self, job_type: object) -> bool:
        gate = self._gate
        return (
            (self._types is None or job_type in self._types)
            and isinstance(job_type, str)
            and gate._is_open(job_type)
            and gate._policies.of(job_type).is_plain
        )
