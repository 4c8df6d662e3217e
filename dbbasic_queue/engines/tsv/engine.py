"""The file engine: jobs are rows of one TSV table.

Each verb is one critical section under the table's lock, and one sync after it. States change here
and in seat.py, by the rules of job.py.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import time
import weakref
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import InvalidJob, Unsupported
from ...job import CANCELLED, PENDING, PROCESSING, STATUSES, Job, check_id
from ...support.patience import WAIT
from ...table.line import Row, build_line, to_job
from ...table.lock import FULL, may_hold_a_lock
from ...table.reading import Hint
from ...table.scan import rows_found, status_pattern
from ...table.table import Table
from .. import interface
from ..by_hand import ByHand
from ..interface import Ended, Order
from ..sameness import require_same
from ..unique import Unique
from . import paused, restart
from .claims import Claims, byte_of
from .seat import TsvSeat

if TYPE_CHECKING:
    from ..answers import Limits, Portion, Running, Snapshot, Stats
    from ..choice import Choice
    from ..history import Hour
    from ..interface import HistoryMoves
    from ..verbs import Verb

log = logging.getLogger("dbbasic_queue")

_alive: weakref.WeakSet[TsvEngine] = weakref.WeakSet()


class TsvEngine(ByHand, paused.PausesInFile):
    """The jobs of one table, and what producers and people may do with them.

    Args:
        path: the table file; made, with its folder, by the first job.
        durability: "full": what is acknowledged survives a power cut; "normal": it survives any
            crash of processes.
        clock: Unix seconds; for tests.

    >>> import tempfile
    >>> engine = TsvEngine(tempfile.mkdtemp() + "/queue.tsv")
    >>> engine.add([Order("welcome-17", "mail", '{"to": "zoe"}', 5, keyed=True)], now=5)
    1
    >>> engine.find("welcome-17").status, engine.cancel("welcome-17")
    ('pending', True)
    """

    can = frozenset({"edit", "file", "fsck"})

    def __init__(
        self,
        path: str | Path,
        durability: str = FULL,
        *,
        clock: Callable[[], float] | None = None,
        lock_timeout: float = WAIT,
    ) -> None:
        self.table = Table(path, durability, lock_timeout=lock_timeout)
        self.path = self.table.data_file
        self.url = str(self.path)
        self.claims = Claims(self.table.sibling("claims"), self.path)
        self.now: Callable[[], float] = clock or time.time  # Unix seconds
        self._wake = str(self.table.sibling("wake"))
        self._wake_exists = False
        self._wake_asked = -1
        _alive.add(self)

    # -- adding ------------------------------------------------------------------------------

    def add(self, orders: Sequence[Order], now: int) -> int:
        """Add jobs with one lock, one write and one sync, all or none; returns how many.

        A keyed order costs a search of the table. In "full" all are on disk when this returns.

        Raises:
            JobExists: a job with this id is there, with another type or payload.
            StorageError: the disk refused; nothing was added, unless the message says that only
                the sync failed.
        """
        if len(orders) == 1:
            if orders[0].keyed:
                return self._add_once(orders[0], now)
            job_id, job_type, payload, due, _ = orders[0]
            head = f"{job_id}\t{job_type}\t{payload}".encode()
            self.table.add_row(head, now, due)
            self.table.sync()
            if due <= now:
                self.wake_up(now)
            return 1
        keys = {order.job_id.encode() for order in orders if order.keyed}
        hints = self.table.search_many(keys) if keys else {}
        with self.table.writing():
            self.table.require_open()
            if keys:
                orders = _without_known(self.table, orders, hints)
            if orders:
                self.table.append_batch(_lines(orders, self.table.size, now))
        self.table.sync()
        if any(order.due <= now for order in orders):
            self.wake_up(now)
        return len(orders)

    def _add_once(self, order: Order, now: int) -> int:
        key = order.job_id.encode()
        hint = self.table.search(key)
        with self.table.writing():
            self.table.require_open()
            there = self.table.find(key, hint)
            if there is None:
                self.table.append_batch(_lines([order], self.table.size, now))
            else:
                known = there.type.decode(), there.payload.decode()
                require_same(order.job_id, known, order)
        # Also when it was there: the process that added it has perhaps not synced it yet.
        self.table.sync()
        if there is not None:
            return 0
        if order.due <= now:
            self.wake_up(now)
        return 1

    def add_unique(self, order: Order, unique: Unique, now: int) -> str:
        """Add a job, unless one with its key is there: see `Engine.add_unique`."""
        from .uniqueness import search, there

        found = search(self.table, unique.key)
        with self.table.writing():
            self.table.require_open()
            known = there(self.table, unique, found)
            if not known:
                self.table.append_batch(_lines([order], self.table.size, now))
        self.table.sync()  # also when it was there: see `_add_once`
        if not known and order.due <= now:
            self.wake_up(now)
        return known or order.job_id

    def wake_up(self, now: int) -> None:
        """Touch `queue.wake`, where it exists: a systemd path unit starts a worker on that."""
        if now != self._wake_asked:
            self._wake_asked = now
            self._wake_exists = os.path.lexists(self._wake)
        if self._wake_exists:
            with contextlib.suppress(OSError):  # the timer starts the worker all the same
                os.utime(self._wake, follow_symlinks=False)

    # -- what a person does with a job ---------------------------------------------------------

    def act(self, verb: Verb, choice: Choice, *, dry_run: bool = False) -> list[Job]:
        """Do something to the jobs that are meant, with one lock and one sync: see acting.py."""
        from .acting import act

        now = int(self.now())
        jobs = act(self.table, verb, choice, now, dry_run=dry_run)
        if not dry_run and any(job.status == PENDING and job.run_at <= now for job in jobs):
            self.wake_up(now)
        return jobs

    def prune(
        self,
        ages: Mapping[str, float],
        dry_run: bool = False,
        ids: Collection[str] | None = None,
    ) -> int:
        """Remove the jobs in these states that ended so many seconds ago; returns how many.

        A job that ended that long ahead of now, under a wrong clock, would stay for years: it goes
        as well. With `ids`, only those are removed.

        Raises `StorageError` when the table cannot be written anew (which takes as much free space
        as the table is long).
        """
        from ..moving import UNSURE

        now = self.now()
        only = None if ids is None else {job_id.encode(errors="replace") for job_id in ids}

        def is_old(row: Row) -> bool:
            if only is not None and row.id not in only:
                return False
            age = ages.get(row.status, math.inf)
            if row.status == CANCELLED and row.error.startswith(UNSURE.encode()):
                return False  # it is perhaps not where it goes yet
            return row.run_at <= now - age or row.run_at >= now + max(age, interface.AHEAD)

        table, states = self.table, status_pattern(ages)
        if dry_run:
            return sum(map(is_old, table.rows(ages)))
        if not any(map(is_old, table.rows(ages))):
            return 0
        table.require_owner("prune")

        def unwanted(offset: int, piece: bytes) -> list[int]:
            return [row.offset for row in rows_found(states, piece, offset) if is_old(row)]

        return table.renew(unwanted)

    # -- looking -----------------------------------------------------------------------------

    def find(self, job_id: str) -> Job | None:
        """A job by its id, None when there is none. Takes no more than read permission."""
        key = _key(job_id)
        if key is None:
            return None
        hint = self.table.search(key)
        with self.table.reading():
            row = self.table.find(key, hint)
        return to_job(row) if row is not None else None

    def state(self) -> object:
        """Something that equals what it was before only if the table has not changed since."""
        return self.table.state()

    def jobs(
        self, statuses: Collection[str] | None = None, job_type: str | None = None
    ) -> Iterator[Job]:
        """The jobs in some states and of one type, in the order of the file; None for all."""
        wanted = None if job_type is None else job_type.encode(errors="replace")
        return (to_job(row) for row in self.table.rows(statuses) if wanted in (None, row.type))

    def portions(self, statuses: Collection[str]) -> Iterator[Portion]:
        """All jobs in portions, whose keys tell which have changed: see portions.py."""
        from .portions import portions

        return portions(self.table, statuses)

    def counts(self) -> dict[str, int]:
        """How many jobs there are in each of the five states."""
        counts = self.table.count_by_status()
        return {status: counts[status] for status in STATUSES}

    def stats(self) -> Stats:
        """The state of the queue in numbers. Takes no more than read permission."""
        from ..answers import Stats

        now = int(self.now())
        due = [row.run_at for row in self.table.rows([PENDING]) if row.run_at <= now]
        return Stats(
            jobs=self.counts(),
            ready=len(due),
            latency=now - min(due, default=now),
            last_run=self.claims.last_run(),
            size=self.table.size,
            paused=paused.seen(self.table.sibling("paused"), now),
        )

    def snapshot(self, limits: Limits) -> Snapshot:
        """The table in more numbers: see snapshot.py."""
        from .snapshot import take  # not needed by a worker, which should start fast

        return take(self.path, limits)

    def running(self, known: Sequence[Job] | None = None) -> list[Running]:
        """The jobs that are processing, and whether their workers live.

        Takes no more than read permission; whether a worker lives is None where the claims cannot
        be read, and its process is None where another user's cannot be looked into.
        """
        from ..answers import Running

        jobs = list(self.jobs([PROCESSING])) if known is None else known
        workers = self.claims.holders() if jobs else {}
        return [Running(job, *_worker_of(self.claims, job, workers)) for job in jobs]

    # -- working -----------------------------------------------------------------------------

    def make_files(self) -> None:
        """Make the table, and beside it what the producers of a group write.

        Raises `StorageError` when this process is not the worker's user, who owns the folder.
        """
        with self.table.writing():
            self.table.prepare()

    def durability(self) -> None:
        """None: the table is as durable as it was asked to be."""

    def server(self) -> None:
        """None: there is no server."""

    def claim_slot(self, key: str, slot: int, order: Order | None) -> bool:
        """Raise `Unsupported`: a file's slots are in a file of their own (schedule/marks.py)."""
        raise _no_slots(self.path)

    def slots(self) -> dict[str, int]:
        """Raise `Unsupported`, as `claim_slot` does."""
        raise _no_slots(self.path)

    def history(self) -> list[Hour]:
        """What workers did, by hour and type. Takes no more than read permission."""
        from .history import read

        return read(self.table)

    def add_history(self, noted: Sequence[Ended], call: str) -> None:
        """Add attempts that have ended: see history.py, by which none is added in part."""
        from .history import add

        add(self.table, self.claims, noted)

    def fold_history(self, before: float) -> None:
        """Add what is old to one hour a type."""
        from .history import fold

        fold(self.table, self.claims, before)

    # -- moving to another queue, and from one: see moving.py, which only `dbq migrate` needs ------

    def history_moves(self) -> HistoryMoves:
        """The history on its way to another queue, and from one."""
        from .history_moves import MovesOfFile

        return MovesOfFile(self.table, self.claims)

    def withdraw(
        self, limit: int, note: Callable[[Job], str], statuses: Collection[str] = (PENDING,)
    ) -> list[Job]:
        """Cancel up to `limit` jobs in these states with one lock and one sync."""
        from .moving import withdraw

        return withdraw(self.table, limit, note, statuses, int(self.now()))

    def renote(self, notes: Mapping[str, str]) -> None:
        """Give jobs that `withdraw` has cancelled other notes, by id."""
        from .moving import renote

        renote(self.table, notes)

    def adopt(self, jobs: Sequence[Job], over: Callable[[Job], bool] | None = None) -> int:
        """Keep jobs of another queue as they are, all or none."""
        from .moving import adopt

        new = adopt(self.table, jobs, over)
        now = int(self.now())
        if any(job.status == PENDING and job.run_at <= now for job in jobs):
            self.wake_up(now)
        return new

    def forget_moved(self) -> int:
        """Remove the jobs that are elsewhere for certain. Writes the table anew, as `prune`."""
        from .moving import forget_moved

        return forget_moved(self.table)

    def close_for(self, url: str) -> None:
        """Refuse new jobs from now on, as they belong to `url`; take them again if it is empty."""
        self.table.close_for(url)

    def closed_for(self) -> str:
        """The address that the queue is closed for; empty while it takes jobs."""
        return self.table.closed_for()

    def restart_mark(self) -> str:
        """The last word to workers: see restart.py; empty if there was none."""
        return restart.read(self.table.sibling("restart"))

    def ask_restart(self) -> str:
        """Give workers the word to end between two jobs; returns it."""
        return restart.ask(self.table.sibling("restart"), self.path)

    def is_outdated(self, mark: str) -> bool:
        """Whether a worker is at work that began before this word."""
        byte, end = restart.byte_of(mark), 2 * restart.BYTES
        return self.claims.is_shared(restart.BYTES, byte) or self.claims.is_shared(byte + 1, end)

    def seat(self, places: int | None = None) -> TsvSeat | None:
        """A worker's place, one of `places`; None when all are taken. Makes the table."""
        place, heard = None, restart.byte_of(self.restart_mark())
        with self.table.writing():
            self.table.prepare()
            if places is not None:
                place = self.claims.take_slot(places)
                if place is None:
                    return None
            self.claims.mark_run()
            self.claims.share(heard)
        return TsvSeat(self.table, self.claims, self.now, place, heard)


def _no_slots(path: Path) -> Unsupported:
    return Unsupported(
        f"{path}: the slots of recurring jobs are not kept in the queue's file; use"
        " dbq enqueue-recurring"
    )


def _without_known(
    table: Table, orders: Sequence[Order], hints: Mapping[bytes, Hint]
) -> list[Order]:
    """The orders whose id is neither in the table nor borne by one before them."""
    if any(hint.generation != table.generation for hint in hints.values()):
        hints = table.search_many(hints)  # the table was written anew meanwhile
    rows = [row for key, hint in hints.items() if (row := table.find(key, hint)) is not None]
    known = {row.id.decode(): (row.type.decode(), row.payload.decode()) for row in rows}
    fresh = []
    for order in orders:
        if order.job_id in known:
            require_same(order.job_id, known[order.job_id], order)
        else:
            known[order.job_id] = order.job_type, order.payload
            fresh.append(order)
    return fresh


def _worker_of(
    claims: Claims, job: Job, workers: Mapping[int, int]
) -> tuple[bool | None, int | None]:
    key = job.id.encode()
    try:
        alive = claims.is_held(key)
    except OSError:
        return None, None
    return alive, workers.get(byte_of(key))


def _lines(orders: Sequence[Order], offset: int, now: int) -> bytes:
    """The lines of new jobs, the first of which will stand at `offset`."""
    lines = []
    for job_id, job_type, payload, due, _ in orders:
        head = f"{job_id}\t{job_type}\t{payload}".encode()
        line = build_line(offset, head, PENDING, now, due, 0)
        lines.append(line)
        offset += len(line)
    return b"".join(lines)


def _key(job_id: str) -> bytes | None:
    """The id as bytes; None for what no job can have as its id."""
    try:
        return check_id(job_id).encode()
    except InvalidJob:
        return None


def _after_fork() -> None:
    for engine in list(_alive):
        engine.claims.after_fork()


os.register_at_fork(after_in_child=_after_fork)
interface.guards.append(may_hold_a_lock)
