"""A job as the result of a Django task, and back: its payload, its error, its times.

column       of a job                     of a result
type         shop.tasks.send              the task, by its module path
payload      {"args", "kwargs"}           args, kwargs; beside them what differs from the task
                                          as it was declared: queue_name, backend, run_after
status       pending                      READY
             processing                   RUNNING
             completed                    SUCCESSFUL
             failed, cancelled            FAILED
created_at                                enqueued_at
run_at       while it runs: its begin     started_at, last_attempted_at
             once it has ended: its end   finished_at; its begin is not kept, so the other two
                                          have the same time
attempts                                  worker_ids: one for each, by its number
error        Type: message, and places    errors, one: the class and the traceback
"""

from __future__ import annotations

import builtins
import dataclasses
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from django import conf
from django.utils import timezone

from ... import errors
from ...job import CANCELLED, COMPLETED, FAILED, PENDING, PROCESSING, Job, error_lines
from .api import Status, base

CLASS: Final = "class "  # what the note begins with that tells the class of an exception
STATUSES: Final = {
    PENDING: Status.READY,
    PROCESSING: Status.RUNNING,
    COMPLETED: Status.SUCCESSFUL,
    FAILED: Status.FAILED,
    CANCELLED: Status.FAILED,
}


def payload_of(task: Any, declared: Any, args: Any, kwargs: Any) -> dict[str, Any]:
    """The payload of a job for this task: the arguments, and what differs from the declaration."""
    payload = {"args": list(args), "kwargs": kwargs}
    for name in ("queue_name", "backend"):
        if getattr(task, name) != getattr(declared, name):
            payload[name] = getattr(task, name)
    if task.run_after is not None:
        payload["run_after"] = task.run_after.isoformat()
    return payload


def task_of(declared: Any, payload: Mapping[str, Any]) -> Any:
    """The task as it was enqueued. Not validated anew: the settings may be others by now."""
    changes = {name: payload[name] for name in ("queue_name", "backend") if name in payload}
    if "run_after" in payload:
        changes["run_after"] = datetime.fromisoformat(payload["run_after"])
    if not changes:
        return declared
    task = object.__new__(type(declared))
    for field in dataclasses.fields(declared):
        value = changes.get(field.name, getattr(declared, field.name))
        object.__setattr__(task, field.name, value)
    return task


def result_of(declared: Any, job: Job) -> Any:
    """The `TaskResult` of a job, from its row; raises `ValueError` for another kind of payload."""
    payload = job.payload
    if not isinstance(payload, dict) or not {"args", "kwargs"} <= payload.keys():
        raise ValueError(f"job {job.id}: its payload is not that of a Django task")
    task = task_of(declared, payload)
    began = ended = None
    if job.status == PROCESSING:
        began = time_of(job.run_at)
    elif job.status != PENDING:
        ended = time_of(job.run_at)
        began = ended if job.attempts else None
    result = base.TaskResult(
        task=task,
        id=job.id,
        status=STATUSES[job.status],
        enqueued_at=time_of(job.created_at),
        started_at=began,
        last_attempted_at=began,
        finished_at=ended,
        args=payload["args"],
        kwargs=payload["kwargs"],
        backend=task.backend,
        errors=[_error_of(job)] if job.error and job.status != COMPLETED else [],
        worker_ids=[f"attempt-{number + 1}" for number in range(job.attempts)],
    )
    if job.status == COMPLETED:
        object.__setattr__(result, "_return_value", job.result)
    return result


def time_of(seconds: float) -> datetime:
    """A time as the project has its times: aware, or local where `USE_TZ` is false."""
    moment = datetime.fromtimestamp(seconds, UTC)
    return moment if conf.settings.USE_TZ else timezone.make_naive(moment)


def path_of(error: BaseException) -> str:
    """The dotted path of the class of an exception."""
    return f"{type(error).__module__}.{type(error).__qualname__}"


def _error_of(job: Job) -> Any:
    """The error column as a `TaskError`: its class, and a traceback of the places it names."""
    said, *more = error_lines(job.error)
    path = ""
    lines = []
    for line in more:
        if line.startswith(f"note: {CLASS}") and not path:
            path = line.removeprefix(f"note: {CLASS}")
        elif line.startswith("at "):
            place, _, name = line.removeprefix("at ").rpartition(" in ")
            file, _, number = place.rpartition(":")
            lines.append(f'  File "{file}", line {number}, in {name}\n')
        else:
            lines.append(f"  {line}\n")
    path = path or _class_named(said.partition(":")[0], job.status)
    head = "Traceback (most recent call last):\n" if lines else ""
    return base.TaskError(exception_class_path=path, traceback=f"{head}{''.join(lines)}{said}\n")


def _class_named(name: str, status: str) -> str:
    """The path of an exception's class by its name alone: Python's own, ours, or our base class."""
    if status == CANCELLED:
        return "dbbasic_queue.errors.JobCancelled"
    for module in (builtins, errors):
        found = getattr(module, name, None)
        if isinstance(found, type) and issubclass(found, BaseException):
            return f"{module.__name__}.{name}"
    return "dbbasic_queue.errors.QueueError"
