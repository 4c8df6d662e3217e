"""Handlers: found by their name, and run, one at a time.

A handler may be a plain function or a coroutine function; it may take too long, fork, or raise
whatever it likes. `Runner.run` turns all of that into an `Outcome`.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from contextvars import ContextVar, copy_context
from types import AsyncGeneratorType, GeneratorType
from typing import TYPE_CHECKING, Any, NoReturn

from ..backoff import seconds
from ..engines.interface import Attempt, Outcome
from ..errors import ConfigError, InvalidJob
from ..job import COMPLETED, FAILED, PAYLOAD_LIMIT, PENDING, Job, error_text, result_text
from .options import Options
from .signals import PutBack, StopSignals, TimeLimit

if TYPE_CHECKING:
    import asyncio

log = logging.getLogger("dbbasic_queue")

Handler = Callable[[Any], Any]
Handlers = Mapping[str, Handler]

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


def load(name: str, folder: str) -> Handlers:
    """Import the handlers that `name` says: `MODULE:ATTRIBUTE`, a dict of type -> callable.

    Args:
        name: the attribute may have dots.
        folder: from where the module can be imported, besides the rest of `sys.path`.

    Raises `ConfigError`, which says what the application's own code raised, and where.

    >>> load("json:decoder", "/srv/app")
    Traceback (most recent call last):
    ...
    dbbasic_queue.errors.ConfigError: json:decoder is module, not a dict of type -> callable
    """
    module_name, _, attribute = name.partition(":")
    if not (module_name and attribute):
        raise ConfigError(f"{name}: must be MODULE:ATTRIBUTE, such as myapp.jobs:HANDLERS")
    _put_on_path(folder)
    try:
        found: Any = importlib.import_module(module_name)
        for part in attribute.split("."):
            found = getattr(found, part)
    except Exception as error:
        raise ConfigError(f"cannot load {name}: {_where(error)}") from error
    if not hasattr(found, "get") or not hasattr(found, "keys"):
        raise ConfigError(f"{name} is {type(found).__name__}, not a dict of type -> callable")
    handlers: Handlers = found
    return handlers


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
