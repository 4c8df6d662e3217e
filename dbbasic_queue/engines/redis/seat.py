"""A worker's place at a server: one attempt ended, the next begun.

Theory of operation
-------------------
What is due stands in two places for each type: in the list, and among the scheduled jobs whose time
has come; from either it is begun by one transaction, with no step between. The worker looks at the
first few of each (one trip for all types), and tries the one that is due first. Of two workers that
want one job, one is told so and tries another: each that has met others looks further behind the
first, so that many workers do not all want the same one.

The types take turns; within one, the job that was due first is first.

A worker with an outcome in hand that cannot reach the server keeps it and tries again until it is
asked to stop, and `patience` seconds more. If its lease has run out meanwhile and another worker
took the job, what it did is not recorded ("fenced").
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Any, Final, NamedTuple

import redis

from ...backoff import BackoffLike
from ...errors import StorageError
from ...support.text import printable
from ..calling_off import note_of
from ..interface import NONE, Attempt, Outcome, Policies, Rescued
from ..pausing import Held, tell_pauses
from ..progress import Progress
from . import paused, rates
from .lease import Lease
from .link import Away, Link, ticks
from .looking import Looking
from .records import Lane, Record, Records, is_json, to_job
from .rescue import Rescuer
from .transitions import Found, Grip, Terms, Transitions, own_part

log = logging.getLogger("dbbasic_queue")

WINDOW: Final = 16  # jobs of a type that are looked at in one trip; more if all are of other tools
LOOK_AGAIN: Final = 1.0  # seconds after which a waiting worker looks for itself
STEP: Final = 1.0  # seconds that a worker with an outcome waits for the server at a time

# What is wrong when a connection is: to redis-py, and to the system.
_LOST: Final = (redis.ConnectionError, redis.TimeoutError, OSError)


class _Heads(NamedTuple):
    """What was first in each queue at one look."""

    now: float  # Unix seconds
    types: list[str]  # all that there are
    held: Held | None  # what is paused
    first: list[tuple[list[bytes], list[Any]]]  # of each lane: listed, scheduled
    full: set[Lane]  # those at their limits or rates
    opens: float | None  # when the first that is at its rate has one left again


class RedisSeat:
    """One worker at one queue; `engine.seat()` makes it."""

    def __init__(
        self,
        link: Link,
        records: Records,
        looking: Looking,
        transitions: Transitions,
        lease: Lease,
        free_place: Callable[[], object],
    ) -> None:
        self.stopping: Callable[[], bool] = lambda: False
        self._link = link
        self._records = records
        self._looking = looking
        self._transitions = transitions
        self._lease = lease
        self._rescuer = Rescuer(link, records, looking, transitions)
        self._free_place = free_place
        self._lanes: list[Lane] = []
        self._first = 0  # which type has its turn
        self._window = WINDOW
        self._spread = 1  # how many of the first jobs this worker chooses from
        self._most: int | None = None  # attempts, as the last rescue was told
        self._policies = NONE
        self._ranked = False  # by priority
        self._held: Held | None = None  # at the last look
        self._next_due: float | None = None
        self._looked = 0.0
        self._in_hand: Grip | None = None
        self._ears: Any = None
        self._listen()
        lease.begin()

    def introduce(self, types: Collection[str]) -> None:
        """Say which types this worker has handlers for."""
        self._lease.introduce(sorted(types))

    def govern(self, policies: Policies) -> None:
        """Go by these policies, as `Seat.govern` says."""
        self._policies = policies
        self._ranked = policies.any(lambda policy: policy.priority)

    # -- one attempt ended, the next begun -----------------------------------------------------

    def turn(
        self,
        outcome: Outcome | None = None,
        take: bool = True,
        types: Collection[str] | None = None,
    ) -> Attempt | None:
        """Write how the last attempt ended and begin the next, as `Seat.turn` says."""
        if outcome is not None:
            self._settle(outcome)
        taken = self._take(types) if take else None
        if taken is not None:
            self._in_hand = taken[1]
            self._lease.hold(taken[1])
        if outcome is not None:
            self._leave_place(outcome.attempt.token.lane)
        if taken is None:
            return None
        record, grip = taken
        return Attempt(to_job(record), grip, not is_json(record.payload), grip.due)

    def _leave_place(self, lane: Lane) -> None:
        """Tell workers that wait of the place of a type at its limit that this one has left."""
        if self._most_at_once(lane) is None:
            return
        if self._in_hand is None or self._in_hand.lane != lane:
            with suppress(StorageError):  # they look again by themselves, too
                self._link.run(lambda client: client.publish(self._records.wake, ""), STEP)

    def _settle(self, outcome: Outcome) -> None:
        grip: Grip = outcome.attempt.token
        try:
            done, now = self._end(outcome, grip)
        except BaseException:
            with suppress(StorageError):
                self._lease.give_up(grip)
            raise
        finally:
            self._lease.hold(None)
            self._in_hand = None
        if not done:
            log.warning(
                "not recorded: %s %s is %s now, another process changed it while it ran",
                printable(outcome.attempt.job.type),
                grip.job_id,
                now.status if now else "gone",
                extra={
                    "event": "fenced",
                    "job_id": grip.job_id,
                    "job_type": outcome.attempt.job.type,
                },
            )

    def _end(self, outcome: Outcome, grip: Grip) -> tuple[bool, Record | None]:
        """Record an outcome; while the server is away, until the worker is asked to stop.

        A server that refuses, as one that is full or has become a replica, is asked for as long as
        one that is away is by others.
        """
        ends: float | None = None
        told = False
        while True:
            try:
                return self._transitions.end(
                    grip,
                    outcome.status,
                    outcome.run_at,
                    outcome.error,
                    outcome.result,
                    outcome.refund,
                    STEP,
                )
            except StorageError as error:
                if not told:
                    log.warning("%s; the outcome of %s is kept", error, grip.job_id)
                    told = True
                away = isinstance(error, Away)
                if ends is None and (self.stopping() or not away):
                    ends = time.monotonic() + self._link.patience
                if ends is not None and time.monotonic() >= ends:
                    raise
                if not away:
                    time.sleep(min(STEP, self._link.patience))

    def _take(self, types: Collection[str] | None) -> tuple[Record, Grip] | None:
        while True:
            found, all_seen = self._look(types)
            if self._ranked and not all_seen:
                continue  # of what was not seen, one may go first
            for each in found:
                policy = self._policies.of(each.lane.type)
                terms = Terms(
                    self._lease.name,
                    self._lease.seconds,
                    policy.max_attempts or self._most,
                    policy.expires,
                    policy.concurrency,
                    policy.rate,
                )
                taken = self._transitions.begin(each, terms)
                if taken is not None:
                    self._spread = max(1, self._spread - 1)
                    return taken
                self._spread = min(WINDOW, 2 * self._spread)
            if all_seen and not found:
                return None

    def _look(self, types: Collection[str] | None) -> tuple[list[Found], bool]:
        """The jobs to try, in order; and whether no other may be due."""
        lanes = self._lanes
        now, fresh, held, first, full, opens = self._heads(lanes)
        tell_pauses(held, self._held)
        self._held = held
        known = [lane.type for lane in lanes]
        self._lanes = [self._records.lane(name) for name in fresh]
        self._next_due = opens if held is None else min(held.ends, opens or held.ends)
        found: list[list[Found]] = []
        hidden = False
        for lane, (queue, scheduled) in zip(lanes, first, strict=True):
            if types is not None and lane.type not in types:
                continue
            if lane in full or (held is not None and lane.type in held):
                continue
            due = [entry for entry, score in scheduled if score <= now]
            hidden |= self._hides(queue) or self._hides(due)
            later = [score for _, score in scheduled if score > now]
            if later:
                self._next_due = min(later[0], self._next_due or later[0])
            some = self._in_order(lane, queue, due, scheduled)
            if some:
                found.append(some)
        if hidden:
            self._window *= 4
        self._first += 1
        turn = self._first % len(found) if found else 0
        found = found[turn:] + found[:turn]
        if self._ranked:
            found.sort(key=lambda some: -(self._policies.of(some[0].lane.type).priority or 0))
        return [each for some in found for each in some], known == fresh and not hidden

    def _heads(self, lanes: list[Lane]) -> _Heads:
        """Ask for the first of each queue, and for what says which are to be begun: one trip."""
        began = ticks()
        limits = {lane: most for lane in lanes if (most := self._most_at_once(lane)) is not None}
        rated = {lane: rate for lane in lanes if (rate := self._policies.of(lane.type).rate)}

        def questions(pipe: Any) -> None:
            pipe.time()
            pipe.smembers(self._records.types)
            pipe.hvals(self._records.paused)
            for lane in lanes:
                pipe.lrange(lane.queue, 0, self._window - 1)
                pipe.zrange(lane.scheduled, 0, self._window - 1, withscores=True)
            for lane in limits:
                pipe.zcard(lane.started)
            for lane in rated:
                pipe.get(self._records.rate(lane.type))

        moment, names, pauses, *answers = self._link.ask(questions)
        now = self._link.set_clock(moment, began)
        self._looked = time.monotonic()
        heads, more = answers[: 2 * len(lanes)], answers[2 * len(lanes) :]
        running, moments = more[: len(limits)], more[len(limits) :]
        used_up = {
            lane: opens
            for (lane, rate), text in zip(rated.items(), moments, strict=True)
            if (opens := rates.opens(rate, text, now)) is not None
        }
        return _Heads(
            now,
            sorted(name.decode() for name in names),
            paused.held(pauses, now),
            list(zip(heads[::2], heads[1::2], strict=True)),
            {lane for (lane, most), n in zip(limits.items(), running, strict=True) if n >= most}
            | used_up.keys(),
            min(used_up.values(), default=None),
        )

    def _most_at_once(self, lane: Lane) -> int | None:
        return self._policies.of(lane.type).concurrency

    def _hides(self, entries: list[bytes]) -> bool:
        """Whether jobs of ours may stand behind these, which are all of other tools."""
        return len(entries) == self._window and not any(map(self._records.is_ours, entries))

    def _in_order(
        self, lane: Lane, queue: list[bytes], due: list[bytes], scheduled: list[Any]
    ) -> list[Found]:
        """What may be due of one type: that which was due first, first."""
        own, ours = self._records.own_id, self._records.is_ours
        listed = [Found(own(entry), lane.queue, lane) for entry in queue if ours(entry)]
        timed = [Found(own(entry), lane.scheduled, lane) for entry in due if ours(entry)]
        first, then = timed, listed
        if not timed or (listed and self._due_at(listed[0].job_id) < scheduled[0][1]):
            first, then = listed, timed
        chosen = random.randrange(min(self._spread, len(first))) if first else 0
        return first[chosen:] + first[:chosen] + then

    def _due_at(self, job_id: str) -> float:
        raw = self._link.run(lambda client: client.hget(self._records.key(job_id), "dbq"))
        return float(own_part(raw).get("run_at", 0))

    def note(self, attempt: Attempt, progress: Progress) -> bool:
        """Write how far the attempt in hand is, as `Seat.note` says."""
        grip = self._in_hand
        if grip is None or grip is not attempt.token:
            return False
        return self._transitions.note(grip, progress.written(), STEP)

    # -- what dead workers left ----------------------------------------------------------------

    def rescue(
        self, max_attempts: int, backoff: BackoffLike, policies: Policies = NONE
    ) -> list[Rescued]:
        """Take back the jobs whose worker died: see `Seat.rescue`, and rescue.py."""
        self._most = max_attempts
        return self._rescuer.rescue(max_attempts, backoff, policies)

    # -- waiting -------------------------------------------------------------------------------

    def asked(self) -> str:
        """The note that the job in hand is to be cancelled with; empty if it is not to be.

        See `Seat.asked`.
        """
        grip = self._in_hand
        if grip is None:
            return ""
        key = self._records.key(grip.job_id)
        own = own_part(self._link.run(lambda client: client.hget(key, "dbq"), patience=STEP))
        return note_of(own.get("error")) if own.get("holder") == grip.execution else ""

    def wait(self, most: float) -> bool:
        """Wait for at most `most` seconds until there may be work; whether there may be."""
        ends = time.monotonic() + most
        while True:
            left = ends - time.monotonic()
            again = self._looked + LOOK_AGAIN - time.monotonic()
            if again <= 0 or self._is_due():
                return True
            if left <= 0:
                return False
            if self._hears(max(0.0, min(left, again, self._until_due()))):
                return True

    def _is_due(self) -> bool:
        return self._next_due is not None and self._next_due <= self._link.now()

    def _until_due(self) -> float:
        return 60.0 if self._next_due is None else self._next_due - self._link.now()

    def _hears(self, most: float) -> bool:
        """Whether another process says within that time that there is work."""
        try:
            if self._ears is None:
                self._listen()
            heard = self._ears.get_message(timeout=most) is not None
            while self._ears.get_message(timeout=0) is not None:
                heard = True
            return heard
        except _LOST:
            self._deafen()
            time.sleep(most)
            return False

    def _listen(self) -> None:
        def subscribe(client: Any) -> Any:
            ears = client.pubsub()
            ears.subscribe(self._records.wake)
            ears.get_message(timeout=self._link.patience)  # that it is subscribed
            return ears

        self._ears = self._link.run(subscribe)

    def _deafen(self) -> None:
        ears, self._ears = self._ears, None
        if ears is not None:
            with suppress(*_LOST):
                ears.close()

    # -- the end -------------------------------------------------------------------------------

    def leave(self) -> None:
        """Leave the place; a job that is still in hand is given up, for the next run to rescue."""
        grip, self._in_hand = self._in_hand, None
        self._lease.stop()  # first, as the server is perhaps away
        self._deafen()
        try:
            if grip is not None:
                self._lease.give_up(grip)
            self._lease.end()
            self._free_place()
        except StorageError as error:  # what is left there runs out by itself
            log.warning("left without a word: %s", error)
