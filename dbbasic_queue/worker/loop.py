"""The worker: takes what is due, runs its handler, writes how it ended.

    process(ledger, handlers, …)     drain what is due, return a Summary
        └─ turn: settle the last job, take the next      ledger.py
        └─ run the handler                               Runner, below

What breaks a job off (a second signal, a timeout) is in interrupts.py; one that a signal broke off
is put back, with its attempt refunded.
"""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar, copy_context
from types import AsyncGeneratorType, GeneratorType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn

from ..backoff import LONGEST, Backoff, BackoffLike, seconds
from ..engines.tsv.engine import Attempt, Ledger, Outcome
from ..engines.tsv.waiting import WaitingList
from ..errors import InvalidJob
from ..job import COMPLETED, FAILED, PAYLOAD_LIMIT, PENDING, Job, error_text, result_text
from .signals import PutBack, StopSignals, TimeLimit

if TYPE_CHECKING:
    import asyncio

log = logging.getLogger("dbbasic_queue")

Handler = Callable[[Any], Any]
Handlers = Mapping[str, Handler]
Timeout = float | Mapping[str, float] | None

POLL: Final = 0.01  # seconds between two looks at the table while there is nothing to do
LOOK_AGAIN: Final = 0.25  # seconds at least between two readings of the whole table
SHARE: Final = 20  # a reading is repeated after this many times what it took: 5 % at most
MARK_EVERY: Final = 5  # seconds between two notes that a worker is at work

_new_tuple = tuple.__new__  # without the call of Outcome.__new__, which is written in Python

_current: ContextVar[Job] = ContextVar("dbbasic_queue_job")


def current_job() -> Job:
    """The job whose handler is running, in that handler: its id, type, attempt number.

    Raises `LookupError` outside a handler.

    >>> def handler(payload):
    ...     job = current_job()
    ...     return f"attempt {job.attempt} of {job.id}"
    """
    try:
        return _current.get()
    except LookupError:
        raise LookupError("current_job() is for handlers: no job is running here") from None


class Summary:
    """What a run of the worker did, in numbers of jobs.

    `rescued` counts the jobs of dead workers that were taken back; one that had used up its
    attempts counts as failed, too. `stopped` is the number of the signal that ended the run, 0
    when the work was done.
    """

    __slots__ = ("completed", "failed", "rescued", "retried", "stopped")

    def __init__(
        self,
        completed: int = 0,
        retried: int = 0,
        failed: int = 0,
        rescued: int = 0,
        stopped: int = 0,
    ) -> None:
        self.completed = completed
        self.retried = retried
        self.failed = failed
        self.rescued = rescued
        self.stopped = stopped

    def as_dict(self) -> dict[str, int]:
        """The numbers by their names."""
        return {name: getattr(self, name) for name in self.__slots__}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Summary) and self.as_dict() == other.as_dict()

    __hash__ = None  # type: ignore[assignment]  # it changes

    def __repr__(self) -> str:
        return f"Summary({', '.join(f'{k}={v}' for k, v in self.as_dict().items())})"

    @property
    def attempts(self) -> int:
        """How many handlers were run to an end."""
        return self.completed + self.retried + self.failed

    def add(self, other: Summary) -> None:
        """Add the numbers of another run."""
        self.completed += other.completed
        self.retried += other.retried
        self.failed += other.failed
        self.rescued += other.rescued
        self.stopped = self.stopped or other.stopped


class Options(NamedTuple):
    """How a worker works; what each means is said at `Queue.process_jobs`."""

    max_attempts: int = 3
    types: Sequence[str] | None = None
    limit: int | None = None
    max_seconds: float | None = None
    linger: float = 0
    timeout: Timeout = None
    backoff: BackoffLike = Backoff()
    unknown: str = "fail"

    def check(self) -> Options:
        """These options; raises `ValueError` when one of them makes no sense."""
        _require_count("max_attempts", self.max_attempts, at_least=1)
        if self.limit is not None:
            _require_count("limit", self.limit, at_least=0)
        for name in ("max_seconds", "linger"):
            _require_seconds(name, getattr(self, name))
        timeouts = self.timeout.values() if isinstance(self.timeout, Mapping) else [self.timeout]
        for value in timeouts:
            _require_seconds("timeout", value)
            if value is not None and not 0 < value <= LONGEST:
                raise ValueError(f"timeout {value}: must be 0 to ten years in seconds, or None")
        if self.unknown not in ("fail", "skip"):
            raise ValueError(f'unknown {self.unknown!r}: must be "fail" or "skip"')
        if isinstance(self.types, str):
            raise ValueError(f"types {self.types!r}: must be a list of types")
        return self

    def share(self, number: int, count: int) -> Options:
        """The options of one of `count` workers, numbered from 0: the limit is shared out."""
        if self.limit is None:
            return self
        limit = self.limit // count + (number < self.limit % count)
        return self._replace(limit=limit)

    def timeout_of(self, job_type: str) -> float | None:
        """Seconds that a job of this type may run; None: for ever."""
        if self.timeout is None or isinstance(self.timeout, int | float):
            return self.timeout
        return self.timeout.get(job_type)


def _require_count(name: str, value: Any, *, at_least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < at_least:
        raise ValueError(f"{name} {value!r}: must be a whole number of {at_least} or more")


def _require_seconds(name: str, value: Any) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        raise ValueError(f"{name} {value!r}: must be 0 or more seconds")


class Runner:
    """Runs one handler at a time: coroutine functions, timeouts, whatever a handler raises."""

    def __init__(
        self,
        handlers: Handlers,
        options: Options,
        signals: StopSignals,
        now: Callable[[], int],
    ) -> None:
        if not isinstance(handlers, Mapping):
            raise TypeError(f"handlers: must be a dict of type -> callable, not {handlers!r:.60}")
        self._handlers = handlers
        self._options = options.check()
        self._signals = signals
        self._now = now
        self._loop: asyncio.Runner | None = None
        self._pid = os.getpid()
        if options.timeout and threading.current_thread() is not threading.main_thread():
            raise ValueError(
                "timeout works in the main thread only, as SIGALRM does: run the worker there, or"
                " in a process of its own"
            )

    def close(self) -> None:
        """Close the event loop, if a coroutine has needed one."""
        loop, self._loop = self._loop, None
        if loop is not None:
            loop.close()

    def run(self, attempt: Attempt) -> Outcome:
        """Run the handler of a job; never raises what the handler raised."""
        job = attempt.job
        token = _current.set(job)
        began = time.monotonic()
        try:
            result = self._call(attempt)
            text = "" if result is None else _text_of(job, result)
        except PutBack:
            return Outcome(attempt, PENDING, self._now(), error=job.error or "", refund=True)
        except BaseException as error:  # SystemExit, too, is a failure of the job only
            if os.getpid() != self._pid:
                _end_child(error)
            return self._failed(attempt, error, time.monotonic() - began)
        finally:
            _current.reset(token)
        if os.getpid() != self._pid:
            os._exit(0)
        duration = time.monotonic() - began
        return _new_tuple(
            Outcome, (attempt, COMPLETED, self._now(), "", text, False, duration, None)
        )

    def _call(self, attempt: Attempt) -> Any:
        job = attempt.job
        handler = self._handlers.get(job.type)
        if handler is None:
            raise LookupError(f"No handler for {job.type}")
        if attempt.spoiled:
            raise InvalidJob(f"the payload is not JSON: {job.payload:.200}")
        timeout = self._options.timeout_of(job.type) if self._options.timeout else None
        self._signals.interruptible = True
        try:
            if timeout is None:
                result = handler(job.payload)
                return None if result is None else self._finish(result)
            with TimeLimit(timeout):
                return self._finish(handler(job.payload))
        finally:
            self._signals.interruptible = False

    def _finish(self, result: Any) -> Any:
        """The result of a handler; when it is a coroutine, what that returns."""
        if not hasattr(result, "__await__"):
            if isinstance(result, GeneratorType | AsyncGeneratorType):
                raise TypeError("the handler is a generator function, so nothing of it has run")
            return result
        import asyncio  # slow to import, and most handlers are plain

        if self._loop is None:
            self._loop = asyncio.Runner()

        async def wait() -> Any:
            return await result

        try:
            value = self._loop.run(wait(), context=copy_context())
        except BaseException:
            self._end_tasks(broken=True)
            raise
        self._end_tasks()
        return value

    def _end_tasks(self, *, broken: bool = False) -> None:
        """See that nothing of this job runs on in the loop of the next, as asyncio.run does."""
        import asyncio

        if self._loop is None or os.getpid() != self._pid:
            return  # a child that the handler forked must not close what it shares
        if broken or asyncio.all_tasks(self._loop.get_loop()):
            self.close()

    def _failed(self, attempt: Attempt, error: BaseException, duration: float) -> Outcome:
        job, now = attempt.job, self._now()
        if job.attempts >= self._options.max_attempts:
            status, run_at = FAILED, now
        else:
            status, run_at = PENDING, now + seconds(self._options.backoff, job.attempts)
        return Outcome(
            attempt, status, run_at, error=error_text(error), seconds=duration, exception=error
        )


def _end_child(error: BaseException) -> NoReturn:
    """End a child that a handler forked, which is no worker, as Python would have ended it."""
    code = error.code if isinstance(error, SystemExit) else error
    if code is None:
        os._exit(0)
    if isinstance(code, int):
        os._exit(code & 0xFF)
    log.error("process %d, which a handler forked, failed: %s", os.getpid(), error, exc_info=error)
    os._exit(1)


def _text_of(job: Job, result: Any) -> str:
    """The result as JSON text. What JSON cannot hold does not undo the work that is done."""
    try:
        text = result_text(result)
    except Exception as error:  # whatever its methods raise
        log.warning(
            "the result of %s %s is no JSON (%s): its repr is stored",
            job.type,
            job.id,
            error,
            extra={"event": "result", "job_id": job.id, "job_type": job.type},
        )
        text = result_text(_repr(result))
    if len(text.encode()) <= PAYLOAD_LIMIT:
        return text
    log.warning(
        "the result of %s %s is over %d bytes of JSON: not stored",
        job.type,
        job.id,
        PAYLOAD_LIMIT,
        extra={"event": "result", "job_id": job.id, "job_type": job.type},
    )
    return result_text(f"(a result of {len(text.encode())} bytes was not stored)")


def _repr(value: Any) -> str:
    try:
        return repr(value)
    except BaseException as error:  # a __repr__ that raises does not undo the work either
        return f"<{type(value).__name__}, whose repr raised {type(error).__name__}>"


class Worker:
    """One run: from the first look at the table to the last job that was due."""

    def __init__(
        self, ledger: Ledger, handlers: Handlers, options: Options, signals: StopSignals
    ) -> None:
        self._ledger = ledger
        self._options = options
        self._signals = signals
        self._runner = Runner(handlers, options, signals, ledger.now)
        self._types = _types_to_take(handlers, options)
        self._agenda = WaitingList(ledger.table)
        self._summary = Summary()
        self._in_hand: Attempt | None = None
        self._limit = math.inf if options.limit is None else options.limit
        self._most = options.max_seconds
        self._taken = 0
        self._logs_all = False  # or only what went wrong
        self._began = time.monotonic()
        self._marked = -math.inf
        self._looked = 0.0  # time.monotonic() of the last look at the whole table
        self._read_state: object = None  # of the table when it was last read whole
        self._seen_state: object = None  # of the table before the last turn

    def run(self) -> Summary:
        """Work until nothing is due, or a limit, the lingering time or a signal ends it."""
        with self._ledger.table.writing():  # which makes the table and its folder when missing
            self._mark()
        self._look_at_all()
        try:
            self._work_off()
        finally:
            self._let_go()
            self._runner.close()
        if self._signals.received:
            number = self._signals.received
            log.info("signal %d: took no more jobs", number, extra={"event": "stopped"})
        self._ledger.table.compact_if_moved()
        self._summary.stopped = self._signals.received
        return self._summary

    def _work_off(self) -> None:
        """Turn after turn: write how a job ended, take the next, run it."""
        ledger, agenda, types, runner = self._ledger, self._agenda, self._types, self._runner
        lingers = self._options.linger > 0
        outcome: Outcome | None = None
        while True:
            if lingers:
                self._seen_state = ledger.table.state()
            take = self._may_take()
            self._in_hand = None  # it is the ledger's now
            self._in_hand = attempt = ledger.turn(agenda, outcome, take, types)
            if outcome is not None:
                self._count(outcome)
                outcome = None
            if attempt is not None:
                self._taken += 1
                self._logs_all = log.isEnabledFor(logging.INFO)
                if self._logs_all:
                    _log_start(attempt.job)
                outcome = runner.run(attempt)
                self._mark()
            elif not self._wait():
                break

    def _let_go(self) -> None:
        """Give up the job in hand when an error ends the run, for the next run to rescue."""
        if self._in_hand is not None:
            self._ledger.claims.release(self._in_hand.claim)

    def _may_take(self) -> bool:
        if self._signals.stopping() or self._taken >= self._limit:
            return False
        return self._most is None or self._elapsed() < self._most

    def _elapsed(self) -> float:
        return time.monotonic() - self._began

    def _mark(self) -> None:
        now = time.monotonic()
        if now - self._marked >= MARK_EVERY:
            self._marked = now
            self._ledger.claims.mark_run()

    def _look_at_all(self) -> None:
        """Read the whole table, and take back the jobs of dead workers."""
        self._read_state = self._ledger.table.state()
        self._agenda.read()
        self._rescue()

    def _rescue(self) -> None:
        options = self._options
        for rescued in self._ledger.rescue(self._agenda, options.max_attempts, options.backoff):
            self._summary.rescued += 1
            self._summary.failed += rescued.status == FAILED
        self._looked = time.monotonic()

    def _wait(self) -> bool:
        """Wait for something to do, as long as this run may; whether to try again."""
        if not self._may_take():
            return False
        if self._agenda.is_stale() or self._look_again():
            return True
        while self._elapsed() < self._options.linger and self._may_take():
            time.sleep(POLL)
            self._mark()
            if self._is_work_there() or self._look_again():
                return True
        return False

    def _is_work_there(self) -> bool:
        due = self._agenda.next_time()
        if due is not None and due <= self._ledger.now():
            return True
        return self._ledger.table.state() != self._seen_state

    def _look_again(self) -> bool:
        """What others have put back in place, and who has died, is seen only by looking again."""
        pause = max(LOOK_AGAIN, SHARE * self._agenda.read_cost)
        if time.monotonic() - self._looked < pause:
            return False
        if self._ledger.table.state() != self._read_state:
            self._look_at_all()
            return True
        if self._agenda.processing:
            self._rescue()
        return False

    def _count(self, outcome: Outcome) -> None:
        if outcome.status == COMPLETED:
            self._summary.completed += 1
        elif outcome.status == FAILED:
            self._summary.failed += 1
        elif not outcome.refund:
            self._summary.retried += 1
        if outcome.status != COMPLETED or self._logs_all:
            _log_end(outcome, self._options.max_attempts)


def _types_to_take(handlers: Handlers, options: Options) -> frozenset[bytes] | None:
    """The types that this worker takes; None for all."""
    wanted = None if options.types is None else set(options.types)
    if options.unknown == "skip":
        wanted = set(handlers) if wanted is None else wanted & set(handlers)
    return None if wanted is None else frozenset(name.encode() for name in wanted)


def _log_start(job: Job) -> None:
    log.info(
        "started %s %s, attempt %d",
        job.type,
        job.id,
        job.attempts,
        extra={**_fields(job), "event": "started"},
    )


def _log_end(outcome: Outcome, max_attempts: int) -> None:
    job = outcome.attempt.job
    fields = {**_fields(job), "seconds": round(outcome.seconds, 6)}
    if outcome.status == COMPLETED:
        fields["event"] = "completed"
        log.info("completed %s %s in %.3f s", job.type, job.id, outcome.seconds, extra=fields)
    elif outcome.refund:
        fields["event"] = "put back"
        log.warning("put back %s %s: broken off by a signal", job.type, job.id, extra=fields)
    elif outcome.status == FAILED:
        fields["event"] = "failed"
        log.error(
            "failed %s %s after attempt %d of %d: %s",
            job.type,
            job.id,
            job.attempts,
            max_attempts,
            outcome.error,
            exc_info=outcome.exception,
            extra=fields,
        )
    else:
        fields.update(event="retried", run_at=outcome.run_at)
        log.warning(
            "retried %s %s: attempt %d of %d failed, the next is at %s: %s",
            job.type,
            job.id,
            job.attempts,
            max_attempts,
            time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(outcome.run_at)),
            outcome.error,
            extra=fields,
        )


def _fields(job: Job) -> dict[str, Any]:
    return {"job_id": job.id, "job_type": job.type, "attempt": job.attempts}


def rescue(ledger: Ledger, options: Options) -> Summary:
    """Take back the jobs of dead workers, and do nothing else."""
    agenda = WaitingList(ledger.table)
    agenda.read()
    rescued = ledger.rescue(agenda, options.max_attempts, options.backoff)
    failed = sum(job.status == FAILED for job in rescued)
    return Summary(rescued=len(rescued), failed=failed)


def work(
    ledger: Ledger, handlers: Handlers, options: Options, signals: StopSignals | None = None
) -> Summary:
    """Work as `options` say; a signal ends the run, and what it did is returned all the same."""
    with signals or StopSignals() as caught:
        return Worker(ledger, handlers, options, caught).run()
