"""What an engine is: `Engine` for producers and people, `Seat` for a worker, and their records.

What an engine tells those who look is in answers.py: a worker that cron starts needs none of it.

Theory of operation
-------------------
An engine keeps the jobs: in a file, on a server. `Queue`, `dbq` and `dbq-health` ask an `Engine`;
the worker's loop asks a `Seat`, with one call a job: the last one is settled and the next is begun
in the same step, so that an engine can make that one lock, one transaction, one sync.

The rules of a job's states (job.py) hold on each engine. Whatever is checked before a job is kept
(its type, payload, id, time) is checked before an engine sees it; the payload and the result are
handed over as JSON text. An engine raises only the errors of errors.py: `Unsupported` for what it
cannot do, of which `can` says in advance what differs between engines.

Only the engine knows what an attempt's `token` means.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from ..backoff import BackoffLike
from ..job import PENDING, Job
from .policies import NONE as NONE  # the worker knows this module only
from .policies import Policies as Policies
from .policies import Policy as Policy
from .progress import Progress as Progress
from .unique import Unique

if TYPE_CHECKING:
    from .answers import Limits, Portion, Running, Server, Shortfall, Snapshot, Stats
    from .choice import Choice
    from .history import Hour
    from .pausing import Pause
    from .verbs import Verb

AHEAD: Final = 60  # seconds a recorded time may be ahead of the clock before it is reported

# Whether an exception must not break into a frame that a signal has interrupted, for instance as it
# holds a lock. An engine that has such code appends a function here.
guards: Final[list[Callable[[FrameType | None], bool]]] = []


class Order(NamedTuple):
    """A job to be added, checked."""

    job_id: str
    job_type: str
    payload: str  # JSON text
    due: int  # Unix seconds
    keyed: bool  # the caller chose the id: add it unless there is a job with it


class Attempt(NamedTuple):
    """A job in hand: this process has begun it, and no other will meanwhile."""

    job: Job
    token: Any  # the engine's own
    spoiled: bool = False  # the payload is not JSON; job.payload is its text
    due: int = 0  # Unix seconds: when the job was, before it was begun; 0: not known


# An attempt that has ended, as a worker notes it for the history: type, status, when it was begun,
# when it was due, both in Unix seconds (0: not known), and how many seconds it ran (-1: not known).
Ended = tuple[str, str, int, int, float]


class Outcome(NamedTuple):
    """How an attempt ended, and so what is to be written."""

    attempt: Attempt
    status: str  # completed, failed, cancelled while it ran, or pending: once more
    run_at: int  # Unix seconds: when it ended, or when it is due again
    error: str = ""
    result: str = ""  # JSON text
    refund: bool = False  # the attempt does not count
    seconds: float = 0.0  # that the handler ran
    exception: BaseException | None = None  # what it raised


class Rescued(NamedTuple):
    """A job whose worker died, and what became of it."""

    job: Job
    status: str
    run_at: int


class Seat(Protocol):
    """A worker's place at an engine. One thread at a time uses it."""

    stopping: Callable[[], bool]  # asked while the engine is away: whether to wait no longer

    def introduce(self, types: Collection[str]) -> None:
        """Say which types this worker has handlers for, so that others can compare theirs."""

    def govern(self, policies: Policies) -> None:
        """Choose jobs by these policies: what expires, which goes first.

        To be called before the first turn, if at all.
        """

    def turn(
        self,
        outcome: Outcome | None = None,
        take: bool = True,
        types: Collection[str] | None = None,
    ) -> Attempt | None:
        """Write how the last attempt ended and begin the next: one step of the engine.

        Args:
            outcome: of the attempt that the last turn returned; None if it returned none.
            take: begin another; otherwise only the outcome is written.
            types: take only these; None for all.

        Returns the attempt begun, which is kept as begun before its handler runs; None when
        nothing is due, or when `take` is false.

        Raises `StorageError`; a job just taken is put back before. The job of `outcome` belongs to
        no worker then: the next run rescues it, like a dead worker's.
        """

    def rescue(
        self, max_attempts: int, backoff: BackoffLike, policies: Policies = NONE
    ) -> list[Rescued]:
        """Take back the jobs whose worker died: pending again after the backoff, or failed.

        What `policies` say for a type counts in place of the other two.

        The attempt counts, so that a job that kills its worker cannot do so for ever. Cheap while
        there is nothing to rescue: the loop calls it whenever it has nothing else to do.
        """

    def note(self, attempt: Attempt, progress: Progress) -> bool:
        """Write how far the attempt in hand is, into its job's result, until it has one.

        Need not be on disk when this returns. Returns False, and writes nothing, if it does not fit
        or the job is not in hand any more. Raises `StorageError`.
        """

    def asked(self) -> str:
        """The note with which the job in hand is to be cancelled at once; empty if it is not.

        Asked from another thread than the worker's, once a second. Raises `StorageError`.
        """

    def wait(self, most: float) -> bool:
        """Wait for at most `most` seconds until there may be work; whether there may be."""

    def leave(self) -> None:
        """Leave the place. An attempt that is still in hand is given up: the next run rescues
        it."""


class HistoryMoves(Protocol):
    """The history on its way from one queue to another: history_moves.py. Raises `StorageError`.

    Each change is kept whole or not at all when it returns.
    """

    def underway(self) -> dict[str, list[Hour]]:
        """What was taken out and is not forgotten, by call. Reads only."""

    def take_out(self, call: str) -> None:
        """Have all hours leave by a call of this name; `Engine.history` tells of none then."""

    def adopt(self, call: str, hours: list[Hour]) -> None:
        """Add hours of another queue; a repetition of a call adds nothing."""

    def forget(self, call: str) -> None:
        """Remove what was taken out by a call."""


class Engine(Protocol):
    """What keeps the jobs of one queue. Cheap to make; threads may share it; survives a fork."""

    url: str  # where the jobs are, for messages and logs; without a password
    # What not every engine can: "edit", "file", "fsck"; "slots": `claim_slot`; "server": `server`
    # and `durability` tell of one.
    can: frozenset[str]
    path: Path | None  # the queue's file, if it is one

    def now(self) -> float:
        """The time in Unix seconds, by the clock that the engine's jobs go by."""

    def add(self, orders: Sequence[Order], now: int) -> int:
        """Add jobs created at `now`, all or none; returns how many were added.

        A keyed order whose id is known already adds nothing. Raises `JobExists` when that job has
        another type or payload, `StorageError`.
        """

    def add_unique(self, order: Order, unique: Unique, now: int) -> str:
        """Add a job, unless one with its key counts as there (unique.py); returns its id or that
        one's. Raises as `add` does."""

    def find(self, job_id: str) -> Job | None:
        """A job by its id; None when there is none."""

    def state(self) -> object:
        """Something that equals what it was before only if no job has changed since."""

    def jobs(
        self, statuses: Collection[str] | None = None, job_type: str | None = None
    ) -> Iterator[Job]:
        """The jobs in some states and of one type, in the engine's order; None for all."""

    def portions(self, statuses: Collection[str]) -> Iterator[Portion]:
        """All jobs in portions, whose keys tell which have changed since they were last read.

        Of the jobs in `statuses` all is told, of others only how many there are.
        """

    def counts(self) -> dict[str, int]:
        """How many jobs there are in each of the five states."""

    def stats(self) -> Stats:
        """The state of the queue in numbers."""

    def snapshot(self, limits: Limits) -> Snapshot:
        """The queue in more numbers, for a health check. Reads only, and holds nothing up.

        Raises `StorageError` or `TableError` when there is nothing to read.
        """

    def running(self, known: Sequence[Job] | None = None) -> list[Running]:
        """The jobs that are processing, and whether their workers live.

        With `known`, an engine that would have to look for those jobs takes these for them.
        """

    def act(self, verb: Verb, choice: Choice, *, dry_run: bool = False) -> list[Job]:
        """Do something by hand to the jobs that are meant; returns them as they are then.

        Those that it cannot be done to are left alone (verbs.py). One step of the engine, or a few
        where they are many. With `dry_run`, nothing is done, and they are returned as they are.
        Raises `StorageError`.
        """

    def cancel(self, job_id: str, note: str = "Cancelled by user", mark: str = "") -> bool:
        """Cancel a pending job, with `note` as its error. True if it was pending.

        With a `mark` (calling_off.py) true as well for a job that is processing: it gets the mark,
        and so its worker is asked to break it off.
        """

    def retry(self, job_id: str) -> bool:
        """Put a job back, due now: see verbs.RETRY. True if it was failed, cancelled or waiting
        for its next attempt.

        False, too, for one that has moved to another queue, as its note says (moving.py).
        """

    def retry_failed(self, job_type: str | None = None) -> list[str]:
        """Put all failed jobs back, or those of one type; returns their ids."""

    def prune(
        self,
        ages: Mapping[str, float],
        dry_run: bool = False,
        ids: Collection[str] | None = None,
    ) -> int:
        """Remove the jobs in these states that ended so many seconds ago; returns how many.

        One whose note says that it is perhaps not yet in another queue (moving.py) stays. With
        `ids`, only those are removed.
        """

    def durability(self) -> Shortfall | None:
        """How the server falls short of the durability that was asked for; None if it does not.

        Reads only. Raises `StorageError` when the server cannot be asked.
        """

    def server(self) -> Server | None:
        """What the server says of itself; None for an engine that has none.

        Reads only. Raises `StorageError` when the server cannot be asked.
        """

    def claim_slot(self, key: str, slot: int, order: Order | None) -> bool:
        """Mark a slot as dealt with and add its job, both or neither; False if it was already.

        Args:
            key: what the slots belong to, for instance `shop/nightly/0 3 * * *`.
            slot: Unix seconds. One that is not later than the last one claimed is not had again.
            order: the job; None to mark the slot only. One whose id is known is not added again.

        Raises `StorageError`, and `Unsupported` where `can` has no "slots".
        """

    def slots(self) -> dict[str, int]:
        """The last slot claimed, by key. Raises as `claim_slot` does."""

    # -- what workers did: history.py --------------------------------------------------------------

    def history(self) -> list[Hour]:
        """What workers did, by hour and type, sorted. Reads only. Raises `StorageError`."""

    def add_history(self, noted: Sequence[Ended], call: str) -> None:
        """Add attempts that have ended to the history: all or none.

        A repetition of a `call`, by a name of its own, adds nothing. Raises `StorageError`; it may
        be repeated then.
        """

    def fold_history(self, before: float) -> None:
        """Add what ended in hours before a time, in Unix seconds, to one hour a type, `BEFORE`.

        Raises `StorageError`.
        """

    # -- what `dbq migrate` needs: moving.py says how a job goes from one queue to another ---------

    def history_moves(self) -> HistoryMoves:
        """The history on its way to another queue, and from one."""

    def withdraw(
        self,
        limit: int,
        note: Callable[[Job], str],
        statuses: Collection[str] = (PENDING,),
    ) -> list[Job]:
        """Cancel up to `limit` jobs in these states, in one step; returns them as they were before.

        For moving jobs elsewhere: `note` makes what becomes the error of each. A job that has such
        a note (moving.py) is passed over. What has failed or was cancelled can be asked for, too.
        """

    def renote(self, notes: Mapping[str, str]) -> None:
        """Give jobs that `withdraw` has cancelled other notes, by id; others are left alone.

        Need not be on disk when this returns: to lose it costs a repeated `adopt`.
        """

    def adopt(self, jobs: Sequence[Job], over: Callable[[Job], bool] | None = None) -> int:
        """Keep jobs with all that is known of them, all or none; returns how many were new.

        One whose id is known is left alone, unless `over` says of the job there, which has ended,
        that it is to be replaced. A job that is processing is refused with `ValueError`.
        """

    def forget_moved(self) -> int:
        """Remove the jobs whose note says for certain that they are elsewhere; returns how many."""

    def close_for(self, url: str) -> None:
        """Refuse jobs from now on: `add` raises a `StorageError` that names `url`.

        An empty `url` opens the queue again. `adopt`, `retry` and workers go on as before.
        """

    def closed_for(self) -> str:
        """The address that the queue is closed for; empty while it takes jobs."""

    # -- pauses: pausing.py ------------------------------------------------------------------------

    def pause(self, pauses: Sequence[Pause]) -> None:
        """Have workers begin no jobs of these types, each in place of what its type had before.

        When this returns, no worker begins one any more. Raises `StorageError`.
        """

    def resume(self, types: Sequence[str]) -> list[Pause]:
        """End the pauses whose type one of these globs matches; returns those that held until now.

        Raises `StorageError`.
        """

    def paused(self) -> list[Pause]:
        """The pauses that hold now, in the order of their types. Reads only.

        Raises `StorageError`.
        """

    # -- new code: worker/renewal.py ---------------------------------------------------------------

    def restart_mark(self) -> str:
        """What was last said to the workers; empty if nothing was. Raises `StorageError`."""

    def ask_restart(self) -> str:
        """Ask the workers that are at work to end between two jobs; returns what is said now.

        Who may add jobs may do it. Raises `StorageError`.
        """

    def is_outdated(self, mark: str) -> bool:
        """Whether a worker is at work that began before this was said. Raises `StorageError`."""

    def seat(self, places: int | None = None) -> Seat | None:
        """A worker's place; the queue is made if it is missing.

        With `places`, at most so many workers that say so are at work at once: None when all
        places are taken.
        """
