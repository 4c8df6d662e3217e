"""Pending jobs handed over to Celery, one way: `dbq migrate FILE celery+redis://...`

A broker keeps no table, so this is less than a move. Only pending jobs go; what they were stays at
the source as a note. The target cannot be asked whether it has a job, so of a run that is killed
the last batch is sent again, and runs twice. There is no way back.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from ..engines.interface import Engine
from ..engines.moving import departed, note_of
from ..errors import ConfigError, StorageError
from ..job import CANCELLED, PENDING, Job
from ..support.address import masked
from .move import Tell, batches

if TYPE_CHECKING:
    from celery import Celery

PREFIX: Final = "celery+"
BATCH: Final = 100  # jobs that a kill may have sent twice


def is_celery(address: str) -> bool:
    """Whether an address is that of a broker.

    >>> is_celery("celery+redis://10.0.0.5/0"), is_celery("redis://10.0.0.5/0")
    (True, False)
    """
    return address.startswith(PREFIX)


def export(source: Engine, address: str, tell: Tell = lambda count: None) -> int:
    """Send all pending jobs to a broker as tasks named like their type; returns how many.

    The task's id is the job's, its only argument the payload; its time and its attempts so far go
    along. `dbbasic_queue.celery.register` makes the tasks.

    Args:
        source: where the jobs are.
        address: `celery+` and the broker's URL.
        tell: of the progress.

    Raises `ConfigError` without Celery, `StorageError` when the broker or the source refuses.
    """
    app, to = _app(address), shown(address)
    sent = 0
    begun = [
        gone.job
        for job in source.jobs([CANCELLED])
        if (gone := departed(job)) and not gone.sure and gone.to == to
    ]
    for some in batches(begun, BATCH):
        sent += _send(source, app, to, some, tell)
    while jobs := source.withdraw(BATCH, lambda job: note_of(job, to), (PENDING,)):
        sent += _send(source, app, to, jobs, tell)
    return sent


def shown(address: str) -> str:
    """The address without its password.

    >>> shown("celery+redis://:secret@10.0.0.5:6379/0")
    'celery+redis://10.0.0.5:6379/0'
    """
    return re.sub("(?<=://).*@", "", masked(address))


def _app(address: str) -> Celery:
    try:
        from celery import Celery
    except ImportError:
        raise ConfigError(
            "celery+…: the Python package celery is not installed; install it:"
            " pip install 'dbbasic-queue[celery]'"
        ) from None
    return Celery("dbbasic_queue", broker=address.removeprefix(PREFIX), set_as_current=False)


def _send(source: Engine, app: Celery, to: str, jobs: list[Job], tell: Tell) -> int:
    now = source.now()
    try:
        with app.producer_or_acquire() as producer:
            for job in jobs:
                app.send_task(
                    job.type,
                    args=[job.payload],
                    task_id=job.id,
                    eta=datetime.fromtimestamp(job.run_at, UTC) if job.run_at > now else None,
                    retries=job.attempts,
                    producer=producer,
                    ignore_result=True,
                )
    except Exception as error:  # of the broker's client, whichever that is
        raise StorageError(f"cannot send jobs to {to}: {error}") from error
    source.renote({job.id: note_of(job, to, sure=True) for job in jobs})
    tell(len(jobs))
    return len(jobs)
