"""Handlers as Celery tasks, for a shop that runs Celery anyway: `register(app, HANDLERS)`.

This is not an engine: a broker is not a table, so Celery has no answer to most of what a queue is
asked. docs/machines.md has the list of what is given up; it is long.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .backoff import Backoff, BackoffLike, seconds
from .job import PROCESSING, Job, error_text
from .worker.handlers import Handlers, run_alone
from .worker.options import Options
from .worker.wishes import Discard, Snooze, wish_in

if TYPE_CHECKING:
    from celery import Celery, Task


def register(
    app: Celery,
    handlers: Handlers,
    max_attempts: int = 3,
    *,
    backoff: BackoffLike | None = None,
    **options: Any,
) -> dict[str, Task]:
    """Make a Celery task of each handler, named like its job type, with our retry schedule.

    A task takes the payload: `app.send_task("mail", [{"to": "zoe@example.com"}])`. What raises is
    tried again after the backoff, `max_attempts` times in all. Coroutine functions, `Retry`,
    `Snooze`, `Discard` and `current_job()` work; the id is Celery's. What JSON cannot hold of a
    result is kept as its repr.

    A task is acknowledged when it has ended (`acks_late`) and goes back when its process dies
    (`task_reject_on_worker_lost`), since by Celery's defaults a dead worker's job is lost. On Redis
    it comes back after `visibility_timeout`, one hour: a job that runs, or waits, for longer is run
    more than once.

    Args:
        app: of the shop.
        handlers: type -> function.
        max_attempts: attempts in total; 1 for none but the first.
        backoff: as `Queue.process_jobs` takes it; 120 s, 240 s, ... if None.
        options: of `app.task`, such as `soft_time_limit`, `queue` or `acks_late=False`.

    Raises `ValueError` for an option that makes no sense.

    Example: `register(Celery("shop", broker="redis://10.0.0.5/0"), HANDLERS, max_attempts=5)`
    """
    backoff = Backoff() if backoff is None else backoff
    Options(max_attempts=max_attempts, backoff=backoff).check()
    settings = {"acks_late": True, "reject_on_worker_lost": True} | options
    return {
        job_type: app.task(
            _body(job_type, handlers, max_attempts, backoff),
            name=job_type,
            bind=True,
            max_retries=None,  # counted here, as the attempts of an exported job count, too
            **settings,
        )
        for job_type in handlers
    }


def _body(job_type: str, handlers: Handlers, max_attempts: int, backoff: BackoffLike) -> Any:
    def run(task: Any, payload: Any) -> Any:
        from celery.exceptions import Ignore, TaskPredicate

        attempts = task.request.retries + 1
        job = Job(task.request.id or "", job_type, payload, PROCESSING, 0, 0, attempts)
        try:
            return run_alone(job, handlers)
        except (TaskPredicate, KeyboardInterrupt):  # Celery's own: Retry, Ignore, Reject
            raise
        except BaseException as error:
            # SystemExit, too, is a failure of the job only; of it Celery would end the worker.
            fault = error if isinstance(error, Exception) else RuntimeError(error_text(error))
            wish = wish_in(error)
            if isinstance(wish, Snooze):  # which Celery's own retry would count
                again = task.signature_from_request(countdown=wish.seconds, retries=attempts - 1)
                again.apply_async()
                raise Ignore from error
            if attempts >= max_attempts or isinstance(wish, Discard):
                raise fault from error
            delay = getattr(wish, "seconds", None)
            if delay is None:
                delay = seconds(backoff, attempts)
            raise task.retry(exc=fault, countdown=delay) from error

    run.__name__ = run.__qualname__ = job_type
    run.__doc__ = getattr(handlers[job_type], "__doc__", None)
    return run
