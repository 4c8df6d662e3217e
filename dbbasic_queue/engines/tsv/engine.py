"""The queue's verbs: enqueue, take, settle, rescue, retry, cancel, prune.

Each is one critical section under the table's lock, and one sync after it. States change here
and nowhere else, by the rules of job.py.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import os
import time
import weakref
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

from ...backoff import BackoffLike, seconds
from ...errors import InvalidJob, JobExists, StorageError
from ...job import (
    CANCELLED,
    COMPLETED,
    FAILED,
    FINISHED,
    PAYLOAD_LIMIT,
    PENDING,
    PROCESSING,
    STATUSES,
    Job,
    check_id,
    check_payload,
    check_time,
    check_type,
    require,
)
from ...support.text import shown
from ...table.compat import JobTable
from ...table.line import Row, begin, build_line, new_tail, parse_line, to_job
from ...table.table import FULL
from .claims import Claims
from .waiting import WaitingList

log = logging.getLogger("dbbasic_queue")

_NAMES_PENDING = b"\tpending\t"  # every pending row does, and one whose type is that word
_new_tuple = tuple.__new__  # without the call of a NamedTuple's __new__, written in Python

_alive: weakref.WeakSet[Ledger] = weakref.WeakSet()


class Attempt(NamedTuple):
    """A job in hand: claimed by this process, its line as it was in that generation."""

    job: Job
    offset: int
    line: bytes
    tail: int  # where the tail begins in the line
    generation: int
    claim: int
    spoiled: bool = False  # the payload is no JSON; job.payload is its text


class Outcome(NamedTuple):
    """How an attempt ended, and so what is to be written."""

    attempt: Attempt
    status: str  # completed, failed, or pending: once more
    run_at: int  # Unix seconds: when it ended, or when it is due again
    error: str = ""
    result: str = ""  # JSON text
    refund: bool = False  # the attempt does not count
    seconds: float = 0.0  # that the handler ran
    exception: BaseException | None = None  # what it raised


class Rescued(NamedTuple):
    """An orphan: a job whose worker died, and what became of it."""

    job: Job
    status: str
    run_at: int


class Stats(NamedTuple):
    """The state of a queue in numbers."""

    jobs: dict[str, int]  # by state
    ready: int  # pending and due
    latency: int  # seconds since the oldest of them was due
    last_run: float | None  # Unix seconds: when a worker was last at work; None: never
    size: int  # bytes of the table


class Ledger:
    """The jobs of one table, and what may be done with them.

    Args:
        path: the table file; made, with its folder, by the first job.
        durability: "full": what is acknowledged survives a power cut; "normal": it survives any
            crash of processes.
        max_payload: bytes of JSON a payload may have.
        clock: Unix seconds; for tests.
    """

    def __init__(
        self,
        path: str | Path,
        durability: str = FULL,
        *,
        max_payload: int = PAYLOAD_LIMIT,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.table = JobTable(path, durability)
        self.claims = Claims(self.table.sibling("claims"), self.table.data_file)
        self.max_payload = max_payload
        self._clock = clock
        self._wake = str(self.table.sibling("wake"))
        self._wake_exists = False
        self._wake_asked = -1
        _alive.add(self)

    @property
    def engine(self) -> Ledger:
        """What keeps the jobs."""
        return self

    @property
    def path(self) -> Path:
        """The table file."""
        return self.table.data_file

    def now(self) -> int:
        """The time in Unix seconds."""
        return int(self._clock())

    # -- adding ------------------------------------------------------------------------------

    def enqueue(
        self,
        job_type: str,
        payload: dict[str, Any],
        run_at: Any = None,
        *,
        job_id: str | None = None,
    ) -> str:
        """Add a job and return its id. In "full" it is on disk by then.

        Args:
            job_type: 1 to 64 printable characters; which handler runs it.
            payload: a dict that JSON can hold, handed to the handler.
            run_at: Unix seconds (int or float) or an aware datetime; not before then. Now if None.
            job_id: an idempotency key, `[A-Za-z0-9_-]{1,64}`. If a job with it is there already,
                nothing is added and the id is returned. Costs a search of the table.

        Raises:
            InvalidJob: the type, payload, time or id is not what it should be.
            JobExists: a job with this id is there, with another type or payload.
            StorageError: the disk refused; nothing was added, unless the message says that only
                the sync failed.

        >>> import tempfile
        >>> ledger = Ledger(tempfile.mkdtemp() + "/queue.tsv")
        >>> ledger.enqueue("mail", {"to": "zoe@example.com"}, job_id="welcome-17")
        'welcome-17'
        """
        now = int(self._clock())
        head_type = check_type(job_type)
        text = check_payload(payload, self.max_payload)
        due = now if run_at is None else check_time(run_at, now)
        if job_id is not None:
            return self._enqueue_once(
                _Order(check_id(job_id), head_type, text, due, keyed=True), now
            )
        job_id = os.urandom(8).hex()
        head = f"{job_id}\t{head_type}\t{text}".encode()
        table = self.table
        table.acquire()
        try:
            table.append(build_line(table.size, head, PENDING, now, due, 0))
        finally:
            table.release()
        table.sync()
        self._announce(job_id, head_type, now, due)
        return job_id

    def _enqueue_once(self, order: _Order, now: int) -> str:
        key = order.job_id.encode()
        hint = self.table.search(key)
        with self.table.writing():
            there = self.table.find(key, hint)
            if there is None:
                self.table.append(
                    build_line(self.table.size, order.head(), PENDING, now, order.due, 0)
                )
            else:
                known = there.type.decode(), there.payload.decode()
                _require_same(order.job_id, known, order)
        # Also when it was there: whoever added it may not have synced it yet.
        self.table.sync()
        if there is None:
            self._announce(order.job_id, order.job_type, now, order.due)
        return order.job_id

    def enqueue_many(self, jobs: Iterable[Sequence[Any] | Mapping[str, Any]]) -> list[str]:
        """Add many jobs with one lock, one write and one sync, all or none; returns their ids.

        Args:
            jobs: `(type, payload)` or `(type, payload, run_at)` each, or a mapping with the keys
                `job_type`, `payload` and perhaps `run_at` and `job_id`.

        Raises what `enqueue` raises, naming the number of the job (from 0); then none was added.

        >>> import tempfile
        >>> ledger = Ledger(tempfile.mkdtemp() + "/queue.tsv")
        >>> len(ledger.enqueue_many([("mail", {"to": "a"}), ("mail", {"to": "b"}, 1800000000)]))
        2
        """
        now = self.now()
        jobs = list(jobs)
        new = os.urandom(8 * len(jobs)).hex()
        orders = [
            self._order(number, job, new[number * 16 : number * 16 + 16], now)
            for number, job in enumerate(jobs)
        ]
        ids = [order.job_id for order in orders]
        with self.table.writing():
            if any(order.keyed for order in orders):
                orders = self._without_known(orders)
            if orders:
                self.table.append_batch(self._lines(orders, now))
        self.table.sync()
        if any(order.due <= now for order in orders):
            self.wake_up(now)
        log.info("enqueued %d jobs", len(orders), extra={"event": "enqueued", "count": len(orders)})
        return ids

    def _order(self, number: int, job: Any, new_id: str, now: int) -> _Order:
        try:
            job_type, payload, run_at, job_id = _unpack(job)
            return _new_tuple(
                _Order,
                (
                    new_id if job_id is None else check_id(job_id),
                    check_type(job_type),
                    check_payload(payload, self.max_payload),
                    now if run_at is None else check_time(run_at, now),
                    job_id is not None,
                ),
            )
        except InvalidJob as error:
            raise type(error)(f"job {number}: {error}; none was added") from None

    def _without_known(self, orders: list[_Order]) -> list[_Order]:
        """The orders whose id is neither in the table nor borne by one before them."""
        keys = {order.job_id.encode() for order in orders if order.keyed}
        known = {
            row.id.decode(): (row.type.decode(), row.payload.decode())
            for row in self.table.rows()
            if row.id in keys
        }
        fresh = []
        for order in orders:
            if order.job_id in known:
                _require_same(order.job_id, known[order.job_id], order)
            else:
                known[order.job_id] = order.job_type, order.payload
                fresh.append(order)
        return fresh

    def _lines(self, orders: list[_Order], now: int) -> bytes:
        offset = self.table.size
        lines = []
        for order in orders:
            line = build_line(offset, order.head(), PENDING, now, order.due, 0)
            lines.append(line)
            offset += len(line)
        return b"".join(lines)

    def _announce(self, job_id: str, job_type: str, now: int, due: int) -> None:
        if due <= now:
            self.wake_up(now)
        if log.isEnabledFor(logging.INFO):
            log.info(
                "enqueued %s %s",
                job_type,
                job_id,
                extra={"event": "enqueued", "job_id": job_id, "job_type": job_type},
            )

    def wake_up(self, now: int) -> None:
        """Touch `queue.wake`, where it exists: a systemd path unit starts a worker on that."""
        if now != self._wake_asked:
            self._wake_asked = now
            self._wake_exists = os.path.exists(self._wake)
        if self._wake_exists:
            with contextlib.suppress(OSError):  # the timer starts the worker all the same
                os.utime(self._wake)

    # -- working -----------------------------------------------------------------------------

    def turn(
        self,
        agenda: WaitingList,
        outcome: Outcome | None = None,
        take: bool = True,
        types: Collection[bytes] | None = None,
    ) -> Attempt | None:
        """Write how the last attempt ended and begin the next: one lock, one sync.

        Returns the attempt begun, which is on disk (in "full") before its handler runs; None when
        nothing is due, or when `take` is false. `types` limits what is taken.

        Raises `StorageError`; a job just taken is put back before. The job of `outcome` is nobody's
        then: what could not be written is rescued by the next run, like a dead worker's.
        """
        # No argument is keyword-only: CPython 3.11 would take a slower way to call this.
        table = self.table
        attempt = None
        unsettled = outcome
        try:
            table.acquire()
            if not agenda.is_current():
                self._catch_up(agenda)
            try:
                if outcome is not None:
                    self._settle(outcome, agenda)
                    unsettled = None
                if take:
                    attempt = self._take(agenda, types)
            finally:
                table.release()
        except BaseException:
            if unsettled is not None:
                self.claims.release(unsettled.attempt.claim)
            raise
        if outcome is not None or attempt is not None:
            try:
                table.sync()
            except StorageError:
                if attempt is not None:
                    self._put_back(attempt)
                raise
        return attempt

    def _catch_up(self, agenda: WaitingList) -> None:
        """Let the agenda catch up; the lock is held before and after, not always in between."""
        if agenda.is_stale():  # has to be read whole, which should not hold others up
            self.table.release()
            agenda.read()
            self.table.acquire()
        try:
            agenda.catch_up()
        except BaseException:
            self.table.release()
            raise

    def _settle(self, outcome: Outcome, agenda: WaitingList) -> None:
        """Write how an attempt ended, if the job is ours still."""
        attempt, status, run_at, error, result, _, _, _ = outcome
        job, offset, line, tail_at, generation, claim, _ = attempt
        table = self.table
        held = generation == table.generation and table.holds(line, offset)
        tail = None
        if held and status == COMPLETED and not (error or result):  # as most of them end
            at, room = offset + tail_at, len(line) - tail_at - 1
            tail = new_tail(at, room, status, job.created_at, run_at, job.attempts)
        if tail is not None:
            table.write_in_place(tail, at)
        else:
            row = parse_line(line, offset) if held else self._row_if_ours(attempt)
            if row is not None:
                self._write_end(row, outcome, agenda)
        self.claims.release(claim)

    def _write_end(self, row: Row, outcome: Outcome, agenda: WaitingList) -> None:
        """Write how an attempt ended into its row. On a full disk, where only a change in place
        may still be possible, without error and result."""
        _, status, run_at, error, result, refund, _, _ = outcome
        require(row.id, row.status, status)
        attempts, table = row.attempts - refund, self.table
        try:
            row = table.change(row, status, run_at, attempts, error.encode(), result.encode())
        except StorageError as fault:
            if not (error or result):
                raise
            log.error("%s: %s is recorded without error or result", fault, row.id.decode())
            row = table.change(row, status, run_at, attempts)
        if status == PENDING:
            agenda.add(run_at, row.offset)

    def _row_if_ours(self, attempt: Attempt) -> Row | None:
        """The row of an attempt, wherever it stands now; None when somebody else changed it."""
        job = attempt.job
        row = self.table.find(job.id.encode())
        if row is not None and row.status == PROCESSING and row.attempts == job.attempts:
            return row
        log.warning(
            "not recorded: %s %s is %s now, somebody else changed it while it ran",
            job.type,
            job.id,
            row.status if row else "gone",
            extra={"event": "fenced", "job_id": job.id, "job_type": job.type},
        )
        return None

    def _take(self, agenda: WaitingList, types: Collection[bytes] | None) -> Attempt | None:
        now = int(self._clock())
        table = self.table
        while (offset := agenda.pop_due(now)) is not None:
            line = table.line_at(offset)
            if _NAMES_PENDING not in line:  # another worker has it; or the row has moved
                if not line:  # saved in place, without the lock
                    agenda.read()
                continue
            begun = begin(line, offset, now)
            if begun is None or offset < agenda.moved.get(begun[0], 0):
                attempt = self._take_odd(line, offset, now, agenda, types)
            elif types is None or begun[1].type.encode() in types:
                attempt = self._begin(line, offset, *begun)
            else:
                continue
            if attempt is not None:
                return attempt
        return None

    def _begin(
        self, line: bytes, offset: int, job_id: bytes, job: Job, tail_at: int, tail: bytes
    ) -> Attempt | None:
        claim = self.claims.take(job_id)
        if claim is None:
            return None  # somebody put it back by hand while it runs
        table = self.table
        try:
            table.write_in_place(tail, offset + tail_at)
        except BaseException:
            self.claims.release(claim)
            raise
        line = line[:tail_at] + tail + b"\n"
        return _new_tuple(Attempt, (job, offset, line, tail_at, table.generation, claim, False))

    def _take_odd(
        self,
        line: bytes,
        offset: int,
        now: int,
        agenda: WaitingList,
        types: Collection[bytes] | None,
    ) -> Attempt | None:
        """The same for whatever `begin` leaves: rows of others, spoiled, out of date, not due."""
        row = parse_line(line, offset)
        if row is None or row.status != PENDING or self._is_outdated(row, agenda):
            return None
        if row.run_at > now:
            agenda.add(row.run_at, offset)
            return None
        if types is not None and row.type not in types:
            return None
        claim = self.claims.take(row.id)
        if claim is None:
            return None
        try:
            row = self.table.change(row, PROCESSING, now, row.attempts + 1, row.error)
        except BaseException:
            self.claims.release(claim)
            raise
        job = to_job(row)
        spoiled = isinstance(job.payload, str) and not row.payload.lstrip().startswith(b'"')
        return Attempt(job, row.offset, row.line, row.tail, self.table.generation, claim, spoiled)

    def _is_outdated(self, row: Row, agenda: WaitingList) -> bool:
        """Whether a later line of this job is alive; if so, finish what a crash interrupted."""
        if row.offset < agenda.moved.get(row.id, 0):
            self.table.kill(row)
            return True
        return False

    def _put_back(self, attempt: Attempt) -> None:
        try:
            with self.table.writing():
                row = self._row_if_ours(attempt)
                if row is not None:
                    job = attempt.job
                    self.table.change(row, PENDING, job.run_at, job.attempts - 1, row.error)
        finally:
            self.claims.release(attempt.claim)

    def rescue(self, agenda: WaitingList, max_attempts: int, backoff: BackoffLike) -> list[Rescued]:
        """Take back the jobs whose worker died: pending again after the backoff, or failed.

        The attempt counts, so that a job that kills its worker cannot do so for ever.
        """
        if not agenda.processing:
            return []
        with self.table.writing():
            agenda.catch_up()
            suspects, agenda.processing = agenda.processing, []
            rescued = []
            for offset in suspects:
                row = self.table.read_row(offset)
                if row is None or row.status != PROCESSING or self._is_outdated(row, agenda):
                    continue
                if self.claims.is_held(row.id):
                    agenda.processing.append(offset)
                else:
                    rescued.append(self._rescue(row, agenda, max_attempts, backoff))
        if rescued:
            self.table.sync()
        return rescued

    def _rescue(
        self, row: Row, agenda: WaitingList, max_attempts: int, backoff: BackoffLike
    ) -> Rescued:
        now = int(self._clock())
        error = b"WorkerDied: the worker died while it ran this job (attempt %d)" % row.attempts
        if row.attempts >= max_attempts:
            status, run_at = FAILED, now
        else:
            status, run_at = PENDING, now + seconds(backoff, row.attempts)
        row = self.table.change(row, status, run_at, row.attempts, error)
        if status == PENDING:
            agenda.add(run_at, row.offset)
        job = to_job(row)
        log.warning(
            "rescued %s %s: its worker died, attempt %d of %d; it is %s now",
            job.type,
            job.id,
            job.attempts,
            max_attempts,
            status,
            extra={"event": "rescued", "job_id": job.id, "job_type": job.type},
        )
        return Rescued(job, status, run_at)

    # -- what a person does with a job -------------------------------------------------------

    def cancel_job(self, job_id: str) -> bool:
        """Cancel a pending job. True if it was pending, False if it is not or is unknown."""
        return self._change_by_hand(job_id, (PENDING,), CANCELLED, b"Cancelled by user")

    def retry_job(self, job_id: str) -> bool:
        """Put a failed or cancelled job back, due now, with no attempts counted.

        True if it was failed or cancelled, False if it is not or is unknown.
        """
        return self._change_by_hand(job_id, (FAILED, CANCELLED), PENDING)

    def retry_failed(self, job_type: str | None = None) -> list[str]:
        """Put all failed jobs back, or those of one type; returns their ids."""
        wanted = None if job_type is None else job_type.encode(errors="replace")
        now = int(self._clock())
        with self.table.writing():
            rows = [row for row in self.table.rows([FAILED]) if wanted in (None, row.type)]
            for row in rows:
                require(row.id, row.status, PENDING)
                self.table.change(row, PENDING, now, 0)
        if rows:
            self.table.sync()
            self.wake_up(now)
        return [row.id.decode() for row in rows]

    def _change_by_hand(
        self, job_id: str, allowed: tuple[str, ...], status: str, error: bytes = b""
    ) -> bool:
        key = _key(job_id)
        if key is None:
            return False
        hint = self.table.search(key)
        if hint.generation == 0:
            return False  # there is no table
        now = int(self._clock())
        with self.table.writing():
            row = self.table.find(key, hint)
            if row is None or row.status not in allowed:
                return False
            require(row.id, row.status, status)
            attempts = 0 if status == PENDING else row.attempts
            self.table.change(row, status, now, attempts, error)
        self.table.sync()
        if status == PENDING:
            self.wake_up(now)
        log.info("%s %s", status, job_id, extra={"event": status, "job_id": job_id})
        return True

    def prune_jobs(
        self,
        older_than: float | timedelta,
        statuses: Collection[str] = (COMPLETED, CANCELLED),
        *,
        dry_run: bool = False,
    ) -> int:
        """Remove finished jobs that last changed that long ago; returns how many.

        Args:
            older_than: seconds, or a `timedelta`.
            statuses: of completed, cancelled and failed.
            dry_run: only count them.

        Raises `ValueError` for a negative age or another status, `StorageError` when the table
        cannot be written anew (which takes as much free space as the table is long).
        """
        wanted = _finished(statuses)
        return self.prune_by_age(dict.fromkeys(wanted, older_than), dry_run=dry_run)

    def prune_by_age(self, ages: Mapping[str, float | timedelta], *, dry_run: bool = False) -> int:
        """`prune_jobs` with an age for each state: `{"completed": 86400, "failed": 2592000}`."""
        wanted = _finished(ages)
        limits = {status: self._clock() - _age(age) for status, age in ages.items()}

        def is_old(row: Row) -> bool:
            return row.run_at <= limits.get(row.status, -1)

        table = self.table
        with table.reading():
            generation = table.generation
        old = [row.offset for row in table.rows(wanted) if is_old(row)]  # holds nobody up
        if dry_run or not old:
            return len(old)
        with table.writing():
            if table.generation != generation:
                old = [row.offset for row in table.rows(wanted) if is_old(row)]
            pruned = table.rewrite(old, is_old)
        log.info("pruned %d jobs", pruned, extra={"event": "pruned", "count": pruned})
        return pruned

    # -- looking -----------------------------------------------------------------------------

    def find_job(self, job_id: str) -> Job | None:
        """A job by its id, None when there is none. Takes no more than read permission."""
        key = _key(job_id)
        if key is None:
            return None
        hint = self.table.search(key)
        with self.table.reading():
            row = self.table.find(key, hint)
        return to_job(row) if row is not None else None

    def get_job(self, job_id: str) -> dict[str, Any] | None:
        """A job as a dict of the nine columns, payload and result parsed; None if unknown.

        `error` and `result` are None when empty. A payload or result that somebody has spoiled is
        handed over as its text.
        """
        job = self.find_job(job_id)
        return job.as_dict() if job is not None else None

    def list_jobs(
        self, status: str | None = None, job_type: str | None = None, limit: int | None = None
    ) -> Iterator[dict[str, Any]]:
        """The jobs, as `get_job` gives them, in the order of the file.

        Raises `ValueError` for an unknown status or a negative limit.
        """
        if status is not None and status not in STATUSES:
            raise ValueError(f"status {status!r}: must be one of {', '.join(STATUSES)}")
        if limit is not None and limit < 0:
            raise ValueError(f"limit {limit!r}: must be 0 or more")
        wanted_type = None if job_type is None else job_type.encode(errors="replace")
        found = (
            to_job(row).as_dict()
            for row in self.table.rows(None if status is None else [status])
            if wanted_type in (None, row.type)
        )
        return itertools.islice(found, limit)

    def count_jobs(self) -> dict[str, int]:
        """How many jobs there are in each of the five states.

        >>> import tempfile
        >>> Ledger(tempfile.mkdtemp() + "/queue.tsv").count_jobs()["pending"]
        0
        """
        counts = self.table.count_by_status()
        return {status: counts[status] for status in STATUSES}

    def stats(self) -> Stats:
        """The state of the queue in numbers. Takes no more than read permission."""
        now = self.now()
        due = [row.run_at for row in self.table.rows([PENDING]) if row.run_at <= now]
        return Stats(
            jobs=self.count_jobs(),
            ready=len(due),
            latency=now - min(due, default=now),
            last_run=self.claims.last_run(),
            size=self.table.size,
        )


class _Order(NamedTuple):
    """What `enqueue_many` was asked to add, checked."""

    job_id: str
    job_type: str
    payload: str  # JSON text
    due: int
    keyed: bool  # whether the caller chose the id

    def head(self) -> bytes:
        return f"{self.job_id}\t{self.job_type}\t{self.payload}".encode()


_SEQUENCES = (list, tuple)


def _unpack(job: Any) -> tuple[Any, Any, Any, Any]:
    if isinstance(job, _SEQUENCES):
        if len(job) == 2:
            return *job, None, None
        if len(job) == 3:
            return *job, None
    elif isinstance(job, Mapping):
        unknown = set(job) - {"job_type", "payload", "run_at", "job_id"}
        if unknown or not {"job_type", "payload"} <= set(job):
            raise InvalidJob(
                "must have the keys job_type and payload, and may have run_at and job_id;"
                f" it has {', '.join(map(shown, job))}"
            )
        return job["job_type"], job["payload"], job.get("run_at"), job.get("job_id")
    raise InvalidJob(f"{shown(job)} is neither (type, payload[, run_at]) nor a mapping")


def _require_same(job_id: str, there: tuple[str, str], order: _Order) -> None:
    """Raise `JobExists` unless the job that bears this id already is the one asked for."""
    if there[0] != order.job_type:
        what = f"type {there[0]}, not {order.job_type}"
    elif not _same_json(there[1], order.payload):
        what = "another payload"
    else:
        return
    raise JobExists(f"a job with the id {job_id} exists, with {what}")


def _same_json(one: str, other: str) -> bool:
    try:
        # By their texts, as in Python True equals 1.
        return json.dumps(json.loads(one), sort_keys=True) == json.dumps(
            json.loads(other), sort_keys=True
        )
    except ValueError:
        return False


def _key(job_id: Any) -> bytes | None:
    """The id as bytes; None for what cannot be an id, so that no job has it."""
    try:
        return check_id(job_id).encode()
    except InvalidJob:
        return None


def _age(older_than: float | timedelta) -> float:
    age = older_than.total_seconds() if isinstance(older_than, timedelta) else older_than
    if isinstance(age, bool) or not isinstance(age, int | float) or not age >= 0:
        raise ValueError(f"older_than {older_than!r}: must be 0 or more seconds, or a timedelta")
    return age


def _finished(statuses: Collection[str]) -> frozenset[str]:
    wanted = frozenset([statuses] if isinstance(statuses, str) else statuses)
    if not wanted or not wanted <= set(FINISHED):
        raise ValueError(
            f"statuses {sorted(wanted)}: only {', '.join(FINISHED)} jobs can be pruned"
        )
    return wanted


def _after_fork() -> None:
    for ledger in list(_alive):
        ledger.table.after_fork()
        ledger.claims.after_fork()


os.register_at_fork(after_in_child=_after_fork)
