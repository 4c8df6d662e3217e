"""What a worker runs of a Django project: `handlers = "dbbasic_queue.django:HANDLERS"`.

A worker is a process that lives between requests: `django.setup()` is called once, database
connections that are too old or broken are closed before and after each job, and the log of queries
that DEBUG keeps is emptied. The signals `task_started` and `task_finished` are sent here, the
second one when a job is done or has failed for good. Where a worker died at a job's last attempt,
the worker that takes the job back sends it.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Mapping
from inspect import iscoroutinefunction
from typing import Any

import django
from asgiref.sync import sync_to_async
from django.apps import apps
from django.db import close_old_connections, reset_queries
from django.utils import timezone

from ...job import Job
from ...worker.current import current_job
from ...worker.handlers import Handler
from ...worker.signals import PutBack
from ...worker.wishes import Discard, Wish
from ..wrapping import is_final
from .api import Status, base, normalize_json, signals, tasks
from .registry import all_tasks, task_named
from .results import CLASS, path_of, result_of


class DjangoHandlers(Mapping[str, Handler]):
    """The tasks of the project, by their module paths; what is not a task is not found."""

    def __init__(self) -> None:
        self._known: list[str] | None = None

    def __getitem__(self, job_type: str) -> Handler:
        _set_up()
        task = task_named(job_type)
        if task is None:
            raise KeyError(job_type)
        return _coroutine_handler(task) if iscoroutinefunction(task.func) else _handler(task)

    def worker_died(self, job: Job) -> None:
        """Send `task_finished` for a job that ended with its worker, and is not tried again."""
        _set_up()
        task = task_named(job.type)
        if task is None:
            return
        _tidy()
        try:
            _send(result_of(task, job))
        finally:
            _tidy()

    def __iter__(self) -> Iterator[str]:
        return iter(self._listed())

    def __len__(self) -> int:
        return len(self._listed())

    def _listed(self) -> list[str]:
        if self._known is None:
            _set_up()
            self._known = all_tasks()
        return self._known


def _set_up() -> None:
    if not apps.ready:
        django.setup()


def _handler(task: Any) -> Handler:
    def run(payload: Any) -> Any:
        _tidy()
        result, args = _begun(task)
        try:
            value = _plain(task.func(*args, **result.kwargs))
        except BaseException as error:
            _failed(result, error, _send)
            raise
        else:
            _succeeded(result, value, _send)
            return value
        finally:
            _tidy()

    return run


def _coroutine_handler(task: Any) -> Handler:
    """Return the handler of a coroutine task, which runs on the worker's own event loop."""

    async def run(payload: Any) -> Any:
        await sync_to_async(_tidy)()
        result, args = await sync_to_async(_begun)(task)
        sent: list[Any] = []
        try:
            value = _plain(await task.func(*args, **result.kwargs))
        except BaseException as error:
            place = error.__traceback__  # to which asgiref adds its own frames
            _failed(result, error, sent.append)
            await clean_up(sent)
            raise error.with_traceback(place)  # noqa: B904 - it is the same one
        _succeeded(result, value, sent.append)
        await clean_up(sent)
        return value

    async def clean_up(sent: list[Any]) -> None:
        """Send and tidy up in Django's thread for synchronous code: receivers use the database."""
        for result in sent:
            await sync_to_async(_send)(result)
        await sync_to_async(_tidy)()

    return run


def _begun(task: Any) -> tuple[Any, list[Any]]:
    """The result of the job in hand, which runs now, and the arguments of the function."""
    result = result_of(task, current_job())
    now = timezone.now()
    object.__setattr__(result, "started_at", now)
    object.__setattr__(result, "last_attempted_at", now)
    signals.task_started.send(_sender(result), task_result=result)
    context = [base.TaskContext(task_result=result)] if task.takes_context else []
    return result, context + result.args


def _plain(value: Any) -> Any:
    """What a task returned, as JSON holds it; what JSON cannot hold is a failure, but only once."""
    try:
        return normalize_json(value)
    except TypeError as error:
        raise Discard from error


def _succeeded(result: Any, value: Any, send: Callable[[Any], object]) -> None:
    object.__setattr__(result, "_return_value", value)
    object.__setattr__(result, "finished_at", timezone.now())
    object.__setattr__(result, "status", Status.SUCCESSFUL)
    send(result)


def _failed(result: Any, error: BaseException, send: Callable[[Any], object]) -> None:
    """Note the class of what a task raised; tell receivers if it has failed for good."""
    path = path_of((isinstance(error, Wish) and error.__cause__) or error)
    if path != f"builtins.{type(error).__name__}" and not isinstance(error, PutBack):
        error.add_note(f"{CLASS}{path}")  # kept in the job's error
    if is_final(error):
        text = "".join(traceback.format_exception(error))
        result.errors[:] = [base.TaskError(exception_class_path=path, traceback=text)]
        object.__setattr__(result, "finished_at", timezone.now())
        object.__setattr__(result, "status", Status.FAILED)
        send(result)


def _send(result: Any) -> None:
    signals.task_finished.send(_sender(result), task_result=result)


def _sender(result: Any) -> Any:
    """The class of the backend that the task is for, as Django's own backends send it."""
    return type(tasks.task_backends[result.task.backend])


def _tidy() -> None:
    close_old_connections()
    reset_queries()


HANDLERS = DjangoHandlers()
