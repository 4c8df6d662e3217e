"""Typed tasks: functions that are enqueued with their own arguments, which type checkers check.

    tasks = Tasks(Queue("data/queue.tsv"))

    @tasks.task(max_attempts=5)
    def greet(name: str, times: int = 1) -> str: ...

    greet.enqueue("Zoë", times=2)    # a job `greet` with the payload {"name": "Zoë", "times": 2}
    greet("Zoë")                     # the function itself, at once

`tasks` is what a worker takes as its handlers, `handlers = "shop.jobs:tasks"`. A task is a job type
like any other: `dbq enqueue greet '{"name": "Zoë"}'` adds one, too. To rename an argument is to
change the payload: jobs that wait have it under its old name.
"""

from __future__ import annotations

import hashlib
import inspect
import re
import string
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import Any, Final, Generic, ParamSpec, TypeVar, overload

from .backoff import BackoffLike
from .engines import unique as keys
from .engines.interface import Policies, Policy
from .errors import InvalidJob
from .job import check_type
from .queue import Queue, default_queue
from .support.text import dump_json, shown
from .worker.handlers import Handler

P = ParamSpec("P")
R = TypeVar("R")

_PLAIN: Final = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


class Order(Generic[P]):
    """How a task is to be enqueued, other than at once: made by `Task.options`."""

    def __init__(self, task: Task[P, Any], options: Mapping[str, Any]) -> None:
        self._task = task
        self._options = options

    def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """Add a job with these arguments and return its id, as `Task.enqueue` does."""
        queue, payload, options = self._task._prepared(args, kwargs, self._options)
        return queue.enqueue(self._task.type, payload, **options)

    async def aenqueue(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """`enqueue` for a coroutine."""
        queue, payload, options = self._task._prepared(args, kwargs, self._options)
        return await queue.aenqueue(self._task.type, payload, **options)


class Task(Generic[P, R]):
    """A function that can be enqueued; called, it is the function. Made by `Tasks.task`.

    `type` is its job type.
    """

    def __init__(
        self,
        function: Callable[P, R],
        queue: Queue | None,
        job_type: str,
        unique: str | bool,
        unique_until: str | float | timedelta,
    ) -> None:
        self.function = function
        self.type = job_type
        self._queue = queue
        self._unique = unique
        self._unique_until = unique_until
        self._signature = inspect.signature(function)
        parameters = self._signature.parameters
        self._is_plain = all(each.kind in _PLAIN for each in parameters.values())
        if isinstance(unique, str):
            _check_template(unique, parameters)
        # As functools.wraps does, for pydoc and for what looks at signatures.
        self.__wrapped__ = function
        self.__name__ = function.__name__
        self.__qualname__ = function.__qualname__
        self.__module__ = function.__module__
        self.__doc__ = function.__doc__

    def __repr__(self) -> str:
        return f"<task {self.type}>"

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.function(*args, **kwargs)

    def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """Add a job with these arguments and return its id.

        Raises `TypeError` for arguments that the function does not take, `InvalidJob` for one that
        JSON cannot hold, `StorageError` when the disk refuses.
        """
        return Order(self, {}).enqueue(*args, **kwargs)

    async def aenqueue(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """`enqueue` for a coroutine."""
        return await Order(self, {}).aenqueue(*args, **kwargs)

    def options(
        self,
        *,
        run_at: Any = None,
        job_id: str | None = None,
        unique: str | None = None,
        unique_until: str | float | timedelta | None = None,
    ) -> Order[P]:
        """How `Queue.enqueue` is to add this job, for one call: `greet.options(run_at=...)`.

        Args:
            run_at, job_id, unique, unique_until: as `Queue.enqueue` takes them; in place of what
                the task says.

        >>> greet = Tasks().task(lambda name: f"Hello {name}", name="greet")
        >>> later = greet.options(run_at=2_000_000_000)
        """
        options = {"run_at": run_at, "job_id": job_id, "unique": unique}
        if unique_until is not None:
            options["unique_until"] = unique_until
        return Order(self, options)

    def payload(self, *args: P.args, **kwargs: P.kwargs) -> dict[str, Any]:
        """The payload of a job with these arguments: each by its name; of `*args` a list.

        What the function has a default for, and is not given, is not in it.

        >>> Tasks().task(lambda name, times=1: name, name="greet").payload("Zoë")
        {'name': 'Zoë'}
        """
        payload = dict(self._signature.bind(*args, **kwargs).arguments)
        if not self._is_plain:
            for name, value in payload.items():
                if self._signature.parameters[name].kind is inspect.Parameter.VAR_POSITIONAL:
                    payload[name] = list(value)
        return payload

    def run(self, payload: Any) -> R:
        """Call the function with the payload of a job: the handler that a worker calls."""
        function: Callable[..., R] = self.function
        if self._is_plain:
            return function(**payload)
        unknown = payload.keys() - self._signature.parameters.keys()
        if unknown:
            raise TypeError(f"{self.__name__}() has no argument {shown(min(unknown))}")
        bound = inspect.BoundArguments(self._signature, payload)
        return function(*bound.args, **bound.kwargs)

    async def run_coroutine(self, payload: Any) -> Any:
        """`run` for a coroutine function, so that what wraps handlers sees that it is one."""
        result: Any = self.run(payload)
        return await result

    @property
    def handler(self) -> Handler:
        """What a worker calls with the payload."""
        return self.run_coroutine if inspect.iscoroutinefunction(self.function) else self.run

    def _prepared(
        self, args: Any, kwargs: Any, options: Mapping[str, Any]
    ) -> tuple[Queue, dict[str, Any], dict[str, Any]]:
        """The queue, the payload and the options of `Queue.enqueue`."""
        payload = self.payload(*args, **kwargs)
        found = dict(options)
        if self._unique and not found.get("unique") and not found.get("job_id"):
            found["unique"] = self._key(payload)
            found.setdefault("unique_until", self._unique_until)
        return self._queue or default_queue(), payload, found

    def _key(self, payload: dict[str, Any]) -> str:
        if isinstance(self._unique, str):
            values = inspect.BoundArguments(self._signature, dict(payload))
            values.apply_defaults()
            return _key_of(self._unique.format_map(values.arguments))
        try:
            return _digest(dump_json([self.type, sorted(payload.items())]), 40)
        except (TypeError, ValueError) as error:
            raise InvalidJob(f"{self.type}: arguments that JSON cannot hold: {error}") from None


class Tasks(Mapping[str, Handler]):
    """The tasks of an application: a decorator, and the handlers for a worker.

    Args:
        queue: where the jobs go; if None, the default queue, found anew at each `enqueue`.

    >>> import tempfile
    >>> queue = Queue(tempfile.mkdtemp() + "/queue.tsv")
    >>> tasks = Tasks(queue)
    >>> @tasks.task(max_attempts=5)
    ... def greet(name: str, times: int = 1) -> str:
    ...     return f"Hello {name}! " * times
    >>> job_id = greet.enqueue("Zoë", times=2)
    >>> queue.process_jobs(tasks).completed
    1
    >>> queue.get_job(job_id)["result"]
    'Hello Zoë! Hello Zoë! '
    """

    def __init__(self, queue: Queue | None = None) -> None:
        self.queue = queue
        self._tasks: dict[str, Task[..., Any]] = {}
        self._handlers: dict[str, Handler] = {}
        self.policies: dict[str, Policy] = {}  # which a worker asks for

    @overload
    def task(self, function: Callable[P, R], /, *, name: str | None = None) -> Task[P, R]: ...

    @overload
    def task(
        self,
        /,
        *,
        name: str | None = None,
        max_attempts: int | None = None,
        timeout: float | None = None,
        backoff: BackoffLike | None = None,
        unique: str | bool = False,
        unique_until: str | float | timedelta = "end",
    ) -> Callable[[Callable[P, R]], Task[P, R]]: ...

    def task(
        self,
        function: Callable[..., Any] | None = None,
        /,
        *,
        name: str | None = None,
        max_attempts: int | None = None,
        timeout: float | None = None,
        backoff: BackoffLike | None = None,
        unique: str | bool = False,
        unique_until: str | float | timedelta = "end",
    ) -> Any:
        """Make a task of a function, plain or a coroutine function: `@tasks.task(...)`.

        Args:
            name: the job type; if None, the function's name.
            max_attempts, timeout, backoff: as a `Policy` has them; each as the worker has it, if
                None. What the config says of this type in `[types]` comes first.
            unique: one job at a time: True for the same arguments, or a text in which arguments
                stand by their names, such as `"sync-{customer}"`. While there is such a job,
                `enqueue` adds none and returns its id.
            unique_until: for how long, as `Queue.enqueue` takes it.

        Raises `ValueError` for a second task of a type and for an option that makes no sense,
        `InvalidJob` for a type that cannot be one.
        """

        def decorate(function: Callable[..., Any]) -> Task[..., Any]:
            job_type = check_type(name or function.__name__)
            if job_type in self._tasks:
                first = self._tasks[job_type]
                raise ValueError(
                    f"{first.__module__}.{first.__qualname__} is the task {job_type} already: give"
                    f" {function.__module__}.{function.__qualname__} another name"
                )
            task = Task(function, self.queue, job_type, unique, unique_until)
            if policy != Policy():
                self.policies[job_type] = policy
            self._tasks[job_type], self._handlers[job_type] = task, task.handler
            return task

        policy = Policy(max_attempts, timeout, backoff)
        Policies({name or "*": policy})  # raises for what makes no sense
        return decorate if function is None else decorate(function)

    def __getitem__(self, job_type: str) -> Handler:
        return self._handlers[job_type]

    def __iter__(self) -> Iterator[str]:
        return iter(self._handlers)

    def __len__(self) -> int:
        return len(self._handlers)


def _key_of(text: str) -> str:
    """A key for `Queue.enqueue(unique=)` of any text; one that can be a key is its own.

    >>> _key_of("sync-17"), _key_of("mail zoe@example.com")
    ('sync-17', 'mail-zoe-example-com-77dd80026de9')
    """
    readable = re.sub("[^A-Za-z0-9_-]", "-", text)
    if readable == text and 1 <= len(text) <= keys.LONGEST:
        return text
    return f"{readable[:40]}-{_digest(text, 12)}"


def _digest(text: str, length: int) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:length]


def _check_template(text: str, parameters: Mapping[str, Any]) -> None:
    """Raise `ValueError` unless each name in the text is one of the function's arguments."""
    for _, field, _, _ in string.Formatter().parse(text):
        name = None if field is None else field.partition(".")[0].partition("[")[0]
        if name is not None and name not in parameters:
            known = ", ".join(parameters) or "none"
            raise ValueError(f"unique {text!r}: {{{name}}} is not an argument; there are: {known}")
