"""Handlers with something around each call: what all that watches jobs is made of.

    class Timed(Around):
        @contextmanager
        def around(self, job_type, payload):
            began = time.monotonic()
            yield payload                       # what the handler gets
            print(job_type, time.monotonic() - began)

    HANDLERS = Timed({"mail": mail})

What the handler raises is raised at the `yield`. A coroutine runs inside, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from functools import update_wrapper
from inspect import iscoroutinefunction
from typing import Any

from ..engines.interface import Policy
from ..errors import JobCancelled
from ..job import Job
from ..worker.current import current_job
from ..worker.handlers import Handler, Handlers, policies_of, tell_of_death
from ..worker.signals import PutBack
from ..worker.wishes import Discard, Snooze, wish_in


class Around(Mapping[str, Handler]):
    """Handlers, each of which is called inside of `around`."""

    def __init__(self, handlers: Handlers) -> None:
        self._handlers = handlers

    def around(self, job_type: str, payload: Any) -> AbstractContextManager[Any]:
        """What is to be around a call; it yields the payload for the handler."""
        raise NotImplementedError

    @property
    def policies(self) -> Mapping[str, Policy]:
        """What the handlers inside say of their types."""
        return policies_of(self._handlers)

    def worker_died(self, job: Job) -> None:
        """Tell the handlers inside of a job that ended with its worker, and is not tried again."""
        tell_of_death(self._handlers, job)

    def __getitem__(self, job_type: str) -> Handler:
        handler = self._handlers[job_type]
        return _wrapped(self.around, job_type, handler)

    def __iter__(self) -> Iterator[str]:
        return iter(self._handlers)

    def __len__(self) -> int:
        return len(self._handlers)


def _wrapped(
    around: Callable[[str, Any], AbstractContextManager[Any]], job_type: str, handler: Handler
) -> Handler:
    async def awaited(payload: Any) -> Any:
        with around(job_type, payload) as given:
            return await handler(given)

    def called(payload: Any) -> Any:
        with around(job_type, payload) as given:
            return handler(given)

    wrapper = awaited if iscoroutinefunction(handler) else called
    try:
        return update_wrapper(wrapper, handler)  # `keeps_time` of a command goes along
    except TypeError:  # its attributes cannot be copied
        return wrapper


def is_final(error: BaseException) -> bool:
    """Whether the job in hand has failed for good by this, or is cancelled: no attempt follows.

    To be asked in the handler, or around it.
    """
    if isinstance(error, PutBack):
        return False
    wish = wish_in(error)
    if isinstance(wish, Snooze):
        return False
    job = current_job()
    used_up = job.max_attempts is not None and job.attempt >= job.max_attempts
    return used_up or isinstance(error, JobCancelled) or isinstance(wish, Discard)
