"""Handlers: found by their name, and run, one at a time.

A handler may be a plain function or a coroutine function; it may take too long, fork, or raise
whatever it likes. `Runner.run` turns all of that into an `Outcome`.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import sys
import threading
import time
import traceback
from collections import ChainMap
from collections.abc import Callable, Mapping, Sequence
from contextvars import copy_context
from sys import modules
from types import AsyncGeneratorType, GeneratorType
from typing import TYPE_CHECKING, Any, Final, NoReturn

from ..backoff import seconds
from ..engines.interface import Attempt, Outcome, Policy, Progress, Rescued, Seat
from ..errors import ConfigError, InvalidJob, JobCancelled, StorageError
from ..job import CANCELLED, COMPLETED, FAILED, PAYLOAD_LIMIT, PENDING, QUOTED, Job, result_text
from ..support.text import printable, shown
from .current import Pace, at_work, current
from .options import Options
from .signals import PutBack, StopSignals, TimeLimit
from .surroundings import Surroundings, flush
from .wishes import Discard, Snooze, wish_in

if TYPE_CHECKING:
    from .coroutines import Loop

log = logging.getLogger("dbbasic_queue")

Handler = Callable[[Any], Any]
Handlers = Mapping[str, Handler]

NAMED: Final = 20  # job types in the error of a job that has no handler

_new_tuple = tuple.__new__  # without the call of Outcome.__new__, which is written in Python

_process = object()  # another one in each child: asked faster than the kernel for the process's id


def run_alone(job: Job, handlers: Handlers) -> Any:
    """Run a job's handler outside of a worker's run; returns its result as JSON holds it.

    Raises what the handler raises. For programs that have their own way to take jobs.
    """
    return copy_context().run(_alone, job, handlers)


def _alone(job: Job, handlers: Handlers) -> Any:
    current.set((None, Attempt(job, None)))
    result = handlers[job.type](job.payload)
    if hasattr(type(result), "__await__"):
        from .coroutines import Loop

        loop = Loop()
        try:
            result = loop.run(result, copy_context())
        finally:
            loop.close()
    return None if result is None else json.loads(_text_of(job, result))


def load(name: str, folder: str) -> Handlers:
    """Import the handlers that `name` says: `MODULE:ATTRIBUTE`, a dict of job type -> function.

    Args:
        name: the attribute may have dots.
        folder: from where the module can be imported, besides the rest of `sys.path`.

    Raises `ConfigError`, which says what the application's own code raised, and where; also for a
    module that ends the program, and for a handler that cannot be called.

    >>> load("json:dumps", "/srv/app")
    Traceback (most recent call last):
    ...
    dbbasic_queue.errors.ConfigError: json:dumps is a function, not a dict of job type -> function
    """
    module_name, _, attribute = name.partition(":")
    if not (module_name and attribute):
        raise ConfigError(f"{name}: must be MODULE:ATTRIBUTE, such as myapp.jobs:HANDLERS")
    if module_name.endswith(".py") or "/" in module_name:
        module_name = module_name.removesuffix(".py").strip("./").replace("/", ".")
        raise ConfigError(f"{name}: name the module, not its file: {module_name}:{attribute}")
    _put_on_path(folder)
    try:
        module = importlib.import_module(module_name)
        found: Any = module
        for part in attribute.split("."):
            found = getattr(found, part)
        faults = _faults(found) if hasattr(found, "get") and hasattr(found, "keys") else None
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit, too
        raise ConfigError(f"cannot load {name}: {_where(error)}") from error
    if faults is None:
        kind = type(found).__name__
        article = "an" if kind[0] in "aeiou" else "a"
        meant = [each for each, value in vars(module).items() if _is_handlers(value)]
        hint = f"; did you mean {module_name}:{meant[0]}?" if meant else ""
        raise ConfigError(f"{name} is {article} {kind}, not a dict of job type -> function{hint}")
    if faults:
        raise ConfigError("\n".join(f"{name}: {fault}" for fault in faults))
    handlers: Handlers = found
    return handlers


def load_all(names: Sequence[str], folder: str) -> Handlers:
    """Import the handlers that these names say; several are one mapping then.

    Raises `ConfigError` as `load` does, and for a type of job that two of them have.

    >>> load_all(["shop.jobs:HANDLERS", "dbbasic_email:QUEUE_HANDLERS"], "/srv/none")
    Traceback (most recent call last):
    ...
    dbbasic_queue.errors.ConfigError: cannot load shop.jobs:HANDLERS: ModuleNotFoundError: ...
    """
    if len(names) == 1:
        return load(names[0], folder)
    parts: list[Handlers] = []
    whose: dict[str, str] = {}
    for name in names:
        found = load(name, folder)
        for job_type in found.keys():  # noqa: SIM118 - see `_faults`
            if job_type in whose:
                both = f"both {whose[job_type]} and {name}"
                raise ConfigError(f"{both} have a handler for {shown(job_type)}: take one out")
            whose[job_type] = name
        parts.append(found)
    return ChainMap(*parts)  # type: ignore[arg-type]  # which are never written to


def policies_of(handlers: Handlers) -> dict[str, Policy]:
    """What handlers say of their own types, in an attribute `policies`, as `Tasks` does."""
    if isinstance(handlers, ChainMap):  # of several modules
        found: dict[str, Policy] = {}
        for part in reversed(handlers.maps):
            found |= policies_of(part)
        return found
    said = getattr(handlers, "policies", None)
    return dict(said) if isinstance(said, Mapping) else {}


def tell_of_deaths(handlers: Handlers, rescued: Sequence[Rescued]) -> None:
    """Tell handlers of the jobs that have ended with their workers, and are not tried again."""
    for job, status, _ in rescued:
        if status in (FAILED, CANCELLED):
            tell_of_death(handlers, job)


def tell_of_death(handlers: Handlers, job: Job) -> None:
    """Tell handlers of one such job, by their method `worker_died(job)`, if they have it.

    It is called once a job, by the worker that took the job back. What it raises is logged.
    """
    if isinstance(handlers, ChainMap):  # of several modules
        for part in handlers.maps:
            tell_of_death(part, job)
    elif tell := getattr(handlers, "worker_died", None):
        try:
            tell(job)
        except (Exception, SystemExit):
            more = {"event": "worker_died", "job_id": job.id, "job_type": job.type}
            log.exception("worker_died of the handlers failed for %s", job.id, extra=more)


def _faults(handlers: Any) -> list[str]:
    """What makes a key or a value of the handlers useless."""
    faults = []
    for key in handlers.keys():  # noqa: SIM118 - all that is asked of a mapping of its own kind
        if not isinstance(key, str):
            faults.append(f"the key {shown(key)} is not a string")
        elif not callable(handlers.get(key)):
            value = shown(handlers.get(key))
            faults.append(f"the handler for {shown(key)} cannot be called: {value}")
    return faults


def _is_handlers(value: object) -> bool:
    return isinstance(value, dict) and bool(value) and not _faults(value)


def _put_on_path(folder: str) -> None:
    """Let modules be imported from this folder, but none in the place of one of Python's own."""
    home = os.path.dirname(os.__file__)
    own = [n for n, path in enumerate(sys.path) if path in (home, f"{home}/lib-dynload")]
    if folder not in sys.path:
        sys.path.insert(max(own, default=-1) + 1, folder)


def _where(error: BaseException) -> str:
    """What went wrong, and at which line of the application."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if "importlib" not in f.filename and f.filename != __file__]
    place = f" ({own[-1].filename}, line {own[-1].lineno})" if own else ""
    return f"{type(error).__name__}: {error}{place}"


class Runner:
    """Runs one handler at a time: coroutine functions, timeouts, whatever a handler raises."""

    def __init__(
        self,
        handlers: Handlers,
        options: Options,
        signals: StopSignals,
        now: Callable[[], float],
        queue: Any = None,
    ) -> None:
        if not isinstance(handlers, Mapping):
            raise TypeError(f"handlers: must be a dict of type -> callable, not {handlers!r:.60}")
        self._handlers = handlers
        self._options = options.check()
        self._signals = signals
        self._now = now
        self.queue = queue  # for `current_job().queue`
        self.attempt: Attempt  # in hand, or the last one
        self._seat: Seat | None = None
        self._pace = Pace()
        self._loop: Loop | None = None
        self._process = _process
        self.surroundings: Surroundings  # as they were before the first job
        self._is_timed = options.is_timed
        if self._is_timed and threading.current_thread() is not threading.main_thread():
            raise ValueError(
                "timeout works in the main thread only, as SIGALRM does: run the worker there, or"
                " in a process of its own"
            )

    @property
    def is_running(self) -> bool:
        """Whether a handler is running."""
        return self._signals.interruptible

    def max_attempts_of(self, job_type: str) -> int:
        """Attempts in total before a job of this type counts as `failed`."""
        return self._options.max_attempts_of(job_type)

    def note(self, attempt: Attempt, progress: Progress) -> None:
        """Write how far a job is, unless that was done less than a second ago."""
        seat = self._seat
        if seat is None or not self._pace.allows(attempt):
            return
        try:
            seat.note(attempt, progress)
        except StorageError as error:
            log.warning(
                "the progress of %s is not written: %s",
                attempt.job.id,
                error,
                extra={"event": "progress", "job_id": attempt.job.id},
            )

    def open(self, seat: Seat) -> None:
        """Let handlers, and the threads of handlers, ask for the job."""
        self._seat = seat
        at_work.append(self)

    def begin(self) -> None:
        """Note what the first job finds around it, as the others are to find the same."""
        self.surroundings = Surroundings()

    def close(self) -> None:
        """Close the event loop, if a coroutine has needed one."""
        at_work.remove(self)
        self._seat = None
        loop, self._loop = self._loop, None
        if loop is not None:
            loop.close()

    def run(self, attempt: Attempt) -> Outcome:
        """Run the handler of a job; never raises what the handler raised."""
        job = attempt.job
        began = time.monotonic()
        self._signals.job = job
        try:
            # In a context of its own: what a handler sets is not set for the next one.
            result = copy_context().run(self._call, attempt)
            text = "" if result is None else _text_of(job, result)
        except PutBack:
            return Outcome(attempt, PENDING, int(self._now()), error=job.error or "", refund=True)
        except BaseException as error:  # SystemExit, too, is a failure of the job only
            if _process is not self._process:
                _end_child(error)
            return self._failed(attempt, error, time.monotonic() - began)
        finally:
            if _process is self._process:
                self.surroundings.restore(began)
        if _process is not self._process:  # a child that the handler has forked
            flush()
            os._exit(0)
        duration = time.monotonic() - began
        return _new_tuple(
            Outcome, (attempt, COMPLETED, int(self._now()), "", text, False, duration, None)
        )

    def _call(self, attempt: Attempt) -> Any:
        job, _, spoiled, _ = attempt
        self.attempt = attempt
        current.set((self, attempt))
        handler = self._handlers.get(job.type)
        if handler is None:
            raise LookupError(_no_handler(job.type, self._handlers))
        if spoiled:
            raise InvalidJob(f"the payload is not JSON: {job.payload[:QUOTED]}")
        if "decimal" in modules:
            _own_decimals()
        timeout = self._options.timeout_of(job.type) if self._is_timed else None
        if timeout is not None and getattr(handler, "keeps_time", False):
            timeout = None  # a command with a timeout of its own
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
        # Asked of the type, as `await` does: a dict whose keys are attributes has any attribute.
        if not hasattr(type(result), "__await__"):
            if isinstance(result, GeneratorType | AsyncGeneratorType):
                raise TypeError("the handler is a generator function, so nothing of it has run")
            return result
        if self._loop is None:
            from .coroutines import Loop  # slow to import, and most handlers are plain

            self._loop = Loop()
        return self._loop.run(result, copy_context())

    def _failed(self, attempt: Attempt, error: BaseException, duration: float) -> Outcome:
        job, now = attempt.job, int(self._now())
        note = _called_off(error)
        if note:
            return Outcome(attempt, CANCELLED, now, error=note, seconds=duration)
        wish = wish_in(error)
        if isinstance(wish, Snooze):
            return Outcome(
                *(attempt, PENDING, now + wish.seconds, job.error or ""),
                refund=True,
                seconds=duration,
                exception=wish,
            )
        from .places import failure_text  # which most jobs do not need

        error = wish or error
        if isinstance(wish, Discard) or job.attempts >= self.max_attempts_of(job.type):
            status, run_at = FAILED, now
        else:
            delay = getattr(wish, "seconds", None)
            if delay is None:
                delay = seconds(self._options.backoff_of(job.type), job.attempts)
            status, run_at = PENDING, now + delay
        return Outcome(
            attempt, status, run_at, error=failure_text(error), seconds=duration, exception=error
        )


def _called_off(error: BaseException) -> str:
    """The note of the `JobCancelled` in what a handler raised, as from a `TaskGroup`, if any."""
    while isinstance(error, BaseExceptionGroup):
        part = error.subgroup(JobCancelled)
        if part is None:
            return ""
        error = part.exceptions[0]
    return str(error) if isinstance(error, JobCancelled) else ""


def _own_decimals() -> None:
    """Give this context a decimal context of its own: handlers change the one they find."""
    import decimal

    decimal.setcontext(decimal.getcontext().copy())


def _no_handler(job_type: str, handlers: Handlers) -> str:
    """The error of a job that has no handler: which there are."""
    names = sorted(map(str, handlers))
    there = ", ".join(names[:NAMED]) + (", ..." if len(names) > NAMED else "")
    return f"No handler for {job_type}; there are handlers for: {there or 'no type'}"


def _after_fork() -> None:
    global _process
    _process = object()


os.register_at_fork(after_in_child=_after_fork)


def _end_child(error: BaseException) -> NoReturn:
    """End a child that a handler forked, as Python ends a program: it is not a worker."""
    code = error.code if isinstance(error, SystemExit) else error
    if code is None or isinstance(code, int):
        flush()
        os._exit((code or 0) & 0xFF)
    log.error("process %d, which a handler forked, failed: %s", os.getpid(), error, exc_info=error)
    flush()
    os._exit(1)


def _text_of(job: Job, result: Any) -> str:
    """The result as JSON text. What JSON cannot hold does not undo the work that is done."""
    try:
        text = result_text(result)
    except Exception as error:  # whatever its methods raise
        log.warning(
            "the result of %s %s cannot be JSON (%s): its repr is stored",
            printable(job.type),
            job.id,
            error,
            extra={"event": "result", "job_id": job.id, "job_type": job.type},
        )
        text = result_text(_repr(result))
    if len(text.encode()) <= PAYLOAD_LIMIT:
        return text
    log.warning(
        "the result of %s %s is over %d bytes of JSON: not stored",
        printable(job.type),
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
