"""The backend of Django's tasks that keeps them in a queue of ours.

TASKS = {
    "default": {
        "BACKEND": "dbbasic_queue.django.QueueBackend",
        "OPTIONS": {"file": BASE_DIR / "data/{queue}.tsv", "enqueue_on_commit": True},
    }
}
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from functools import cache, partial
from typing import Any, Final

from django.core import checks
from django.db import transaction
from django.utils import timezone

from ...errors import ConfigError, InvalidJob, Unsupported
from ...job import PENDING, Job, check_type
from ...queue import Queue
from ...support.ids import new_id
from .api import InvalidTask, TaskResultDoesNotExist, backends, normalize_json, signals
from .registry import task_named
from .results import payload_of, result_of, time_of

PLACES: Final = ("file", "url", "config")
OPTIONS: Final = (*PLACES, "durability", "enqueue_on_commit")
HERE: Final = "{queue}"  # in `file`: a file for each queue
_NAME: Final = re.compile("[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}")


class QueueBackend(backends.BaseTaskBackend):  # type: ignore[misc]  # Django has no annotations
    """Tasks as jobs: the type is the task's module path, the payload `{"args", "kwargs"}`.

    OPTIONS, of which the first three exclude one another; without one, the config that the commands
    would find:

        file                the queue; `{queue}` in it stands for the name of the task's queue
        url                 or its server, such as `redis://10.0.0.5/0?name=shop`
        config              or the `dbq.toml` that says where it is
        durability          as `Queue` takes it
        enqueue_on_commit   true: in a transaction, a job is added when that is committed

    A worker runs them: `handlers = "dbbasic_queue.django:HANDLERS"`.
    """

    supports_defer = True
    supports_async_task = True
    supports_get_result = True
    supports_priority = False  # a type's priority is the config's to say, not a job's

    def __init__(self, alias: str, params: dict[str, Any]) -> None:
        super().__init__(alias, params)
        self.options: dict[str, Any] = self.options or {}

    def validate_task(self, task: Any) -> None:
        """Raise `InvalidTask` for a task that cannot be a job here."""
        super().validate_task(task)
        try:
            check_type(task.module_path)
        except InvalidJob as error:
            raise InvalidTask(str(error)) from None
        if HERE in str(self.options.get("file", "")) and not _NAME.fullmatch(task.queue_name):
            raise InvalidTask(
                f"Queue {task.queue_name!r} cannot be part of a file's name: use letters, digits,"
                " hyphens, underscores and dots"
            )

    def enqueue(self, task: Any, args: Any, kwargs: Any) -> Any:
        """Add a job for a task and return its `TaskResult`.

        With `enqueue_on_commit`, inside a transaction, the job is there once that is committed;
        until then the result has its id and no `enqueued_at`.

        Raises `InvalidTask`; `TypeError` for an argument that JSON cannot hold; `StorageError` when
        the disk or the server refuses.
        """
        self.validate_task(task)
        path = task.module_path
        declared = task_named(path)
        if declared is None:
            raise InvalidTask(f"{path} is not a task: give it the name of its function")
        payload = normalize_json(payload_of(task, declared, args, kwargs))
        queue = self.queue(task.queue_name)
        job = Job("", path, payload, PENDING, queue.now(), queue.now(), 0)
        result = result_of(declared, job)
        if self.options.get("enqueue_on_commit") and transaction.get_connection().in_atomic_block:
            object.__setattr__(result, "id", new_id(queue.engine.now()))
            object.__setattr__(result, "enqueued_at", None)
            transaction.on_commit(partial(self._add, queue, result, payload))
        else:
            self._add(queue, result, payload)
        return result

    def _add(self, queue: Queue, result: Any, payload: dict[str, Any]) -> None:
        """Add the job of a result that was made for it, and complete that."""
        due = result.task.run_after
        if due is not None and timezone.is_naive(due):
            due = timezone.make_aware(due)
        job_id = queue.enqueue(result.task.module_path, payload, due, job_id=result.id or None)
        job = queue.find_job(job_id)
        created_at = job.created_at if job is not None else queue.now()  # None: pruned already
        object.__setattr__(result, "id", job_id)
        object.__setattr__(result, "enqueued_at", time_of(created_at))
        signals.task_enqueued.send(type(self), task_result=result)

    def get_result(self, result_id: str) -> Any:
        """The `TaskResult` of a job by its id; raises `TaskResultDoesNotExist`."""
        for queue in self._queues() if isinstance(result_id, str) else ():
            job = queue.find_job(result_id)
            task = None if job is None else task_named(job.type)
            if job is None or task is None:
                continue
            try:
                return result_of(task, job)
            except ValueError:
                break
        raise TaskResultDoesNotExist(result_id)

    def queue(self, name: str) -> Queue:
        """The queue of ours that the tasks of a queue of this name are in."""
        file, url = self.options.get("file"), self.options.get("url")
        if not (file or url):
            config = self.options.get("config")
            return _configured(None if config is None else os.fspath(config), os.getcwd())
        address = str(url) if url else os.path.abspath(os.fspath(file)).replace(HERE, name)  # type: ignore[arg-type]
        return _opened(address, self.options.get("durability", "full"))

    def _queues(self) -> Iterator[Queue]:
        """All queues of this backend, each once."""
        names = sorted(self.queues)
        file = str(self.options.get("file", ""))
        if HERE not in file:
            names = names[:1] or [""]
        elif not names:  # any name is one
            names = _names_of(os.path.abspath(file))
        for name in names:
            yield self.queue(name)

    def check(self, **kwargs: Any) -> Iterator[checks.CheckMessage]:
        """What is wrong with OPTIONS, for `manage.py check`."""
        yield from super().check(**kwargs)
        for number, fault in self._faults():
            name = f"TASKS[{self.alias!r}]['OPTIONS']"
            yield checks.Error(f"{name}: {fault}", obj=self.alias, id=f"dbbasic_queue.E{number:03}")

    def _faults(self) -> Iterator[tuple[int, str]]:
        unknown = sorted(set(self.options) - set(OPTIONS))
        if unknown:
            yield 1, f"unknown: {', '.join(unknown)}; there are: {', '.join(OPTIONS)}"
        given = [name for name in PLACES if self.options.get(name)]
        if len(given) > 1:
            yield 2, f"{' and '.join(given)} are given: leave out all but one"
            return
        if "durability" in self.options and given[:1] not in (["file"], ["url"]):
            yield 3, "durability: the config says that; leave it out, or give file or url"
        if given == ["file"] and not str(self.options["file"]).endswith(".tsv"):
            yield 4, f"file {self.options['file']}: its name must end in .tsv"
        on_commit = self.options.get("enqueue_on_commit", False)
        if not isinstance(on_commit, bool):
            yield 5, f"enqueue_on_commit {on_commit!r}: must be True or False"
        try:
            next(self._queues(), None)
        except (ConfigError, Unsupported, ValueError) as error:
            yield 6, str(error)


@cache
def _opened(address: str, durability: str) -> Queue:
    """A queue, opened once: Django makes a backend for each thread and each request."""
    return Queue(address, durability)


@cache
def _configured(path: str | None, folder: str) -> Queue:
    """The queue of a config, which is read once."""
    return Queue.from_config(path)


def _names_of(file: str) -> list[str]:
    """The names of the queues whose files are there."""
    folder, pattern = os.path.split(file)
    begin, _, end = pattern.partition(HERE)
    try:
        files = os.listdir(folder)
    except FileNotFoundError:
        return []
    cut = slice(len(begin), -len(end) or None)
    return sorted(
        each[cut]
        for each in files
        if each.startswith(begin) and each.endswith(end) and _NAME.fullmatch(each[cut])
    )
