"""What a click on the page does to the queue: each act by its name, and which of them work here."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from ..config.sections import Config
from ..errors import QueueError
from ..job import FAILED, PENDING
from ..queue import Queue
from ..support.text import counted

Fields = Mapping[str, str]
Act = Callable[[Fields], str]  # what was done, in a sentence

READ_ONLY: Final = "This page only shows: it was started with --read-only."
NO_RIGHT: Final = "This page only shows: its process has no permission to write the queue."


def acts_of(queue: Queue, config: Config | None = None) -> dict[str, Act]:
    """Return what may be done to a queue; nothing where this process cannot write it.

    Args:
        queue: to which it is done.
        config: that says which recurring jobs there are, if there is one.
    """
    if not may_write(queue):
        return {}
    found: dict[str, Act] = {
        "retry-kind": lambda fields: _retry(queue, fields),
        "cancel": lambda fields: _cancel(queue, fields["id"]),
        "hasten": lambda fields: _hasten(queue, fields["id"]),
    }
    if may_pause(queue):
        found["pause"] = lambda fields: _pause(queue, fields["type"])
        found["resume"] = lambda fields: _resume(queue, fields["type"])
    if config is not None and config.recurring:
        found["run-now"] = lambda fields: _run_now(queue, config, fields["name"])
    return found


def perform(acts: Mapping[str, Act], fields: Fields) -> str:
    """Do what a form says; returns what was done, or why it could not be.

    Raises `KeyError` for an act that there is not, or a field that its form lacks.
    """
    act = acts[fields["act"]]
    try:
        return act(fields)
    except QueueError as error:
        return f"It was not done: {error}"


def may_write(queue: Queue) -> bool:
    """Whether this process may change jobs: of a queue on a server, who may read it may."""
    path = queue.engine.path
    return path is None or (_writable(path) and _writable(path.with_suffix(".lock")))


def may_pause(queue: Queue) -> bool:
    """Whether this process may pause types of jobs."""
    path = queue.engine.path
    return path is None or _writable(path.with_suffix(".paused"))


def _writable(path: Path) -> bool:
    """Whether a file may be written; or be made, if there is none."""
    if path.exists():
        return os.access(path, os.R_OK | os.W_OK)
    return os.access(path.parent, os.W_OK | os.X_OK)


def _retry(queue: Queue, fields: Fields) -> str:
    states = (FAILED, PENDING) if fields["waiting"] != "0" else (FAILED,)
    ids = queue.retry_jobs(states, [fields["type"]], error=fields["error"])
    return f"{counted(len(ids), 'job')} put back, due now."


def _cancel(queue: Queue, job_id: str) -> str:
    job = queue.find_job(job_id)
    if not queue.cancel_job(job_id, running=True):
        return f"{job_id} was not cancelled: it neither waits nor runs any more."
    if job is not None and job.status == PENDING:
        return f"{job_id} is cancelled."
    return f"{job_id} is asked to end: its worker breaks it off within a second or two."


def _hasten(queue: Queue, job_id: str) -> str:
    if queue.defer_job(job_id, queue.now()):
        return f"{job_id} is due now."
    return f"{job_id} does not wait any more."


def _pause(queue: Queue, job_type: str) -> str:
    queue.pause(job_type, why="by the page")
    return f"{job_type} is paused: none of its jobs is begun until it is resumed."


def _resume(queue: Queue, job_type: str) -> str:
    return f"{job_type} is resumed." if queue.resume(job_type) else f"{job_type} was not paused."


def _run_now(queue: Queue, config: Config, name: str) -> str:
    job = config.recurring_jobs.find(name)
    return f"{name} is enqueued as {queue.enqueue(job.type, job.payload)}, due now."
