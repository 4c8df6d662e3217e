"""The worker's loop: settles one job, takes the next, runs its handler.

    work(engine, handlers, options)    drain what is due, return a Summary
        ├─ seat.turn                   settle the last job, take the next     engines/
        └─ runner.run                  run the handler                        handlers.py

What breaks a job off (a second signal, a timeout) is in signals.py; one that a signal broke off is
put back, with its attempt refunded.
"""

from __future__ import annotations

import logging
import math
import os
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

from ..engines.interface import Engine, Outcome, Seat
from ..job import CANCELLED, COMPLETED, FAILED, Job, error_lines
from ..support.text import printable
from .handlers import Handlers, Runner, policies_of, tell_of_deaths
from .options import Options
from .signals import StopSignals
from .tally import Tally
from .watch import Watch

if TYPE_CHECKING:
    from .renewal import Renewal

log = logging.getLogger("dbbasic_queue")

LONGEST_TEXT: Final = 10_000  # characters of an exception's text in the log
_OWN: Final = str(Path(__file__).parent) + os.sep  # where the worker's own code is
LOOK_FOR_PLACE: Final = 0.5  # seconds between two looks whether a place is free
WAIT: Final = 0.05  # seconds between two looks at the signals while there is nothing to do


class Summary(SimpleNamespace):
    """What a run of the worker did, in numbers of jobs.

    `rescued` counts the jobs of dead workers that were taken back; one that had used up its
    attempts counts as failed, too. `cancelled` counts those that were broken off, as you had them
    cancelled while they ran. `stopped` is the number of the signal that ended the run, 0
    when the work was done.
    """

    completed: int
    retried: int
    failed: int
    rescued: int
    stopped: int
    cancelled: int

    def __init__(
        self,
        completed: int = 0,
        retried: int = 0,
        failed: int = 0,
        rescued: int = 0,
        stopped: int = 0,
        cancelled: int = 0,
    ) -> None:
        super().__init__(
            completed=completed,
            failed=failed,
            rescued=rescued,
            retried=retried,
            stopped=stopped,
            cancelled=cancelled,
        )

    def as_dict(self) -> dict[str, int]:
        """The numbers by their names."""
        return dict(vars(self))

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
        self.cancelled += other.cancelled
        self.stopped = self.stopped or other.stopped


def work(
    engine: Engine,
    handlers: Handlers,
    options: Options,
    signals: StopSignals | None = None,
    places: int | None = None,
    queue: Any = None,
    renewal: Renewal | None = None,
) -> Summary:
    """Work as `options` say; a signal ends the run, and what it did is returned all the same.

    `queue` is what handlers are given as `current_job().queue`.

    With `places`, at most so many workers that say so are at work at once; one too many does
    nothing, or waits for a place if it is to linger for ever.

    A worker that lingers ends between two jobs for new code. What loads the handlers hands over a
    `renewal` that was made before.
    """
    with signals or StopSignals() as caught:
        worker = Worker(engine, handlers, options, caught, queue)
        if options.linger:
            from .renewal import Renewal  # here, as a run of the timer's does not linger

            worker.renewal = renewal or Renewal(engine.restart_mark)
        seat = engine.seat(places)
        if seat is None and options.linger == math.inf:
            log.info("%d at work already: this one waits for a place", places)
            while seat is None and worker.may_take():
                time.sleep(LOOK_FOR_PLACE)
                seat = engine.seat(places)
        if seat is None:
            if worker.may_take():
                log.info("%d at work already: nothing to do for this one", places)
            return Summary(stopped=caught.received)
        if worker.renewal is not None:
            worker.renewal.look()  # a seat says that it has heard what was said until now
        return worker.run(seat)


def rescue(engine: Engine, handlers: Handlers, options: Options) -> Summary:
    """Take back the jobs of dead workers, and do nothing else."""
    options = options.with_own(policies_of(handlers))
    tally = Tally(engine, list(handlers))
    seat = engine.seat()
    assert seat is not None  # as no number of places was named
    try:
        rescued = seat.rescue(options.max_attempts, options.backoff, options.policies)
    finally:
        seat.leave()
    tally.note_rescued(rescued)
    tally.save()
    tell_of_deaths(handlers, rescued)
    failed = sum(job.status == FAILED for job in rescued)
    return Summary(rescued=len(rescued), failed=failed)


class Worker:
    """One run: from the first look at the queue to the last job that was due."""

    def __init__(
        self,
        engine: Engine,
        handlers: Handlers,
        options: Options,
        signals: StopSignals,
        queue: Any = None,
    ) -> None:
        options = options.with_own(policies_of(handlers))
        self._options = options
        self._signals = signals
        self._handlers = handlers
        self._runner = Runner(handlers, options, signals, engine.now, queue)
        self._types = _types_to_take(handlers, options)
        self._handled = list(handlers)
        self._tally = Tally(engine, self._handled)
        self._summary = Summary()
        self._limit = math.inf if options.limit is None else options.limit
        self._most = options.max_seconds
        self.renewal: Renewal | None = None  # new code, for a worker that lingers
        self._taken = 0
        self._logs_all = False  # or only what went wrong
        self._began = time.monotonic()
        self._watch: Watch | None = None

    def run(self, seat: Seat) -> Summary:
        """Work until nothing is due, or a limit, the lingering time or a signal ends it."""
        self._signals.answer = self._answer
        self._runner.open(seat)
        seat.stopping = self._signals.stopping
        self._watch = Watch(seat, self._signals, self._tally.save_in_time)
        try:
            seat.introduce(self._handled)
            seat.govern(self._options.policies)
            self._rescue(seat)
            self._work_off(seat)
            if self._signals.received:
                number = self._signals.received
                log.info("signal %d: took no more jobs", number, extra={"event": "stopped"})
        finally:
            self._signals.answer = None
            self._watch.stop()
            self._runner.close()
            seat.leave()
            self._tally.save()
        self._summary.stopped = self._signals.received
        return self._summary

    def _work_off(self, seat: Seat) -> None:
        """Turn after turn: write how a job ended, take the next, run it."""
        types, runner, noted = self._types, self._runner, self._tally.noted
        outcome: Outcome | None = None
        while True:
            attempt = seat.turn(outcome, self.may_take(), types)
            if outcome is not None:
                if outcome.status == COMPLETED and not self._logs_all:  # as most of them end
                    self._summary.completed += 1
                    job, _, _, due = outcome.attempt  # `Tally.note` in short
                    noted.append((job.type, COMPLETED, job.run_at, due, outcome.seconds))
                else:
                    self._count(outcome)
                outcome = None
            if attempt is not None:
                self._taken += 1
                if self._taken == 1 and self._watch is not None:
                    runner.begin()
                    self._watch.start()
                self._logs_all = log.isEnabledFor(logging.INFO)
                if self._logs_all:
                    _log_start(attempt.job)
                outcome = runner.run(attempt)
                if runner.surroundings.spoiled:
                    self._limit = self._taken
            elif not self._wait(seat):
                break

    def _answer(self, number: int) -> None:
        """Say what the first signal has to wait for."""
        job = self._signals.job
        if job is not None:
            log.info(
                "signal %d: finishing %s %s first; a second signal breaks it off",
                number,
                printable(job.type),
                job.id,
                extra={**_fields(job), "event": "stopping"},
            )

    def may_take(self) -> bool:
        """Whether this worker may take another job."""
        if self._signals.stopping() or self._taken >= self._limit:
            return False
        if self.renewal is not None and self.renewal.due():
            return False
        return self._most is None or self._elapsed() < self._most

    def _elapsed(self) -> float:
        return time.monotonic() - self._began

    def _rescue(self, seat: Seat) -> bool:
        options = self._options
        rescued = seat.rescue(options.max_attempts, options.backoff, options.policies)
        self._summary.rescued += len(rescued)
        self._summary.failed += sum(job.status == FAILED for job in rescued)
        self._tally.note_rescued(rescued)
        tell_of_deaths(self._handlers, rescued)
        return bool(rescued)

    def _wait(self, seat: Seat) -> bool:
        """Wait for something to do, as long as this run may; returns whether there may be a job."""
        while self.may_take():
            self._tally.save_in_time()
            left = max(0, self._options.linger - self._elapsed())
            if seat.wait(min(left, WAIT)) or self._rescue(seat):
                return True
            if not left:
                return False
        return False

    def _count(self, outcome: Outcome) -> None:
        if outcome.status == COMPLETED:
            self._summary.completed += 1
        elif outcome.status == FAILED:
            self._summary.failed += 1
        elif outcome.status == CANCELLED:
            self._summary.cancelled += 1
        elif not outcome.refund:
            self._summary.retried += 1
        self._tally.note(outcome)
        if outcome.status != COMPLETED or self._logs_all:
            _log_end(outcome, self._options.max_attempts_of(outcome.attempt.job.type))


def _types_to_take(handlers: Handlers, options: Options) -> frozenset[str] | None:
    """The types that this worker takes; None for all."""
    wanted = None if options.types is None else set(options.types)
    if options.unknown == "skip":
        wanted = set(handlers) if wanted is None else wanted & set(handlers)
    return None if wanted is None else frozenset(wanted)


def _log_start(job: Job) -> None:
    log.info(
        "started %s %s, attempt %d",
        printable(job.type),
        job.id,
        job.attempts,
        extra={**_fields(job), "event": "started"},
    )


def _log_end(outcome: Outcome, max_attempts: int) -> None:
    job = outcome.attempt.job
    name = printable(job.type)
    fields = {**_fields(job), "seconds": round(outcome.seconds, 6)}
    if outcome.status == COMPLETED:
        fields["event"] = "completed"
        log.info("completed %s %s in %.3f s", name, job.id, outcome.seconds, extra=fields)
    elif outcome.refund and outcome.exception is not None:
        fields.update(event="snoozed", run_at=outcome.run_at)
        why = f": {printable(str(outcome.exception))}" if str(outcome.exception) else ""
        log.info("snoozed %s %s until %s%s", name, job.id, _time(outcome), why, extra=fields)
    elif outcome.status == CANCELLED:
        fields["event"] = "cancelled"
        text = "cancelled %s %s after %.3f s: %s"
        log.warning(text, name, job.id, outcome.seconds, outcome.error, extra=fields)
    elif outcome.refund:
        fields["event"] = "put back"
        log.warning("put back %s %s: broken off by a signal", name, job.id, extra=fields)
    elif outcome.status == FAILED:
        fields["event"] = "failed"
        log.error(
            "failed %s %s after attempt %d of %d: %s",
            name,
            job.id,
            job.attempts,
            max_attempts,
            error_lines(outcome.error)[0],
            exc_info=_shown_exception(outcome),
            extra=fields,
        )
    else:
        fields.update(event="retried", run_at=outcome.run_at)
        log.warning(
            "retried %s %s: attempt %d of %d failed, the next is at %s: %s",
            name,
            job.id,
            job.attempts,
            max_attempts,
            _time(outcome),
            error_lines(outcome.error)[0],
            exc_info=_shown_exception(outcome),
            extra=fields,
        )


def _time(outcome: Outcome) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(outcome.run_at))


def _shown_exception(outcome: Outcome) -> Any:
    """The exception for the log: from where the application's code begins, its text in bounds."""
    error = outcome.exception
    if error is None:
        return None
    place = error.__traceback__
    while place is not None and place.tb_frame.f_code.co_filename.startswith(_OWN):
        place = place.tb_next
    if place is None:
        return None  # it was raised here, and says all there is to say
    if not _is_long(error):
        return type(error), error, place
    _, _, text = error_lines(outcome.error)[0].partition(": ")
    return type(error), Exception(text), place  # without those that it came from


def _is_long(error: BaseException) -> bool:
    """Whether an exception's text or notes are too long for a log, or those of one it came from.

    Or of a member of a group. A log tells all of these.
    """
    found = [error]
    for each in found:  # which grows meanwhile
        notes = getattr(each, "__notes__", None)
        length = 0
        for text in (each, *(notes if isinstance(notes, list | tuple) else ())):
            with suppress(BaseException):  # its __str__ raises, which those of tracebacks expect
                length += len(str(text))
        if length > LONGEST_TEXT or len(found) > 100:
            return True
        came_from = each.__cause__ or each.__context__
        if came_from is not None:
            found.append(came_from)
        if isinstance(each, BaseExceptionGroup):
            found += each.exceptions[:15]  # as many as a traceback shows
    return False


def _fields(job: Job) -> dict[str, Any]:
    return {"job_id": job.id, "job_type": job.type, "attempt": job.attempts}
