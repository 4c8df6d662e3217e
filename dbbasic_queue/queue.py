"""The public face: `Queue`, and the functions of dbbasic-queue 1.0.0 on the default queue.

The default queue is `QUEUE_FILE` below the working directory; `$DBQ_FILE` overrides it, unless a
program has assigned another `QUEUE_FILE` to this module, as programs for 1.0.0 do.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

from .backoff import Backoff, BackoffLike
from .engines.tsv.engine import Ledger
from .worker.loop import Handlers, Options, Summary, Timeout, work
from .worker.signals import StopSignals

DEFAULT_FILE: Final = "data/queue.tsv"
QUEUE_FILE = DEFAULT_FILE
MAX_ATTEMPTS = 3


class Queue(Ledger):
    """A job queue in one TSV file.

    Args:
        path: the file; made, with its folder, by the first job.
        durability: "full" (default): what is acknowledged survives a power cut, at one sync a
            job. "normal": it survives any crash of processes, but the last seconds may be lost
            in a crash of the machine.
        max_payload: bytes of JSON a payload may have, 1 MiB if not given.
        clock: the time in Unix seconds; for tests.

    Cheap to make, may be used from several threads, survives `fork`.

    >>> import tempfile
    >>> queue = Queue(tempfile.mkdtemp() + "/queue.tsv")
    >>> job_id = queue.enqueue("greet", {"name": "Zoë"})
    >>> queue.process_jobs({"greet": lambda payload: "Hello " + payload["name"]}).completed
    1
    >>> queue.get_job(job_id)["result"]
    'Hello Zoë'
    """

    def process_jobs(
        self,
        handlers: Handlers,
        max_attempts: int = MAX_ATTEMPTS,
        *,
        types: Sequence[str] | None = None,
        limit: int | None = None,
        max_seconds: float | None = None,
        linger: float = 0,
        timeout: Timeout = None,
        backoff: BackoffLike | None = None,
        unknown: str = "fail",
    ) -> Summary:
        """Run the jobs that are due, one after the other, and return what became of them.

        Args:
            handlers: type -> callable, plain or a coroutine function. It gets the payload; what
                it returns is the job's result; what it raises makes the attempt fail.
            max_attempts: how often a job is tried in all before it is `failed`.
            types: take only these; None for all.
            limit: take at most so many jobs.
            max_seconds: take no more jobs after so many seconds.
            linger: seconds to keep waiting for new work.
            timeout: seconds a handler may run, for all or by type; it fails with `JobTimeout`.
                Works in the main thread only.
            backoff: from the attempts so far to seconds until the next: a callable, or an object
                with base, factor, cap and jitter. `Backoff()` if None: 120 s, 240 s, …
            unknown: "fail": a job without a handler counts as a failed attempt; "skip": it is
                left to others.

        SIGTERM and SIGINT in the main thread let the job in hand finish and then end the program
        with exit code 0 (or call the handler that the program had set); a second one breaks the
        job off and puts it back with its attempt refunded.

        Raises `ValueError` for an option that makes no sense, `StorageError` when the disk
        refuses.
        """
        options = Options(
            max_attempts=max_attempts,
            types=types,
            limit=limit,
            max_seconds=max_seconds,
            linger=linger,
            timeout=timeout,
            backoff=Backoff() if backoff is None else backoff,
            unknown=unknown,
        )
        signals = StopSignals()
        summary = work(self, handlers, options, signals)
        signals.pass_on()
        return summary


_default: tuple[str, Queue] | None = None


def default_queue() -> Queue:
    """The queue that the functions of this module use."""
    global _default
    name = QUEUE_FILE
    if name == DEFAULT_FILE:
        name = os.environ.get("DBQ_FILE") or DEFAULT_FILE
    path = os.path.abspath(name)
    if _default is None or _default[0] != path:
        _default = path, Queue(path)
    return _default[1]


def enqueue(
    job_type: str, payload: dict[str, Any], run_at: Any = None, *, job_id: str | None = None
) -> str:
    """Add a job to the default queue and return its id; see `Queue.enqueue`."""
    return default_queue().enqueue(job_type, payload, run_at, job_id=job_id)


def enqueue_many(jobs: Iterable[Sequence[Any] | Mapping[str, Any]]) -> list[str]:
    """Add many jobs to the default queue, all or none; see `Queue.enqueue_many`."""
    return default_queue().enqueue_many(jobs)


def process_jobs(
    handlers: Handlers,
    max_attempts: int = MAX_ATTEMPTS,
    *,
    types: Sequence[str] | None = None,
    limit: int | None = None,
    max_seconds: float | None = None,
    linger: float = 0,
    timeout: Timeout = None,
    backoff: BackoffLike | None = None,
    unknown: str = "fail",
) -> Summary:
    """Run the jobs of the default queue that are due; see `Queue.process_jobs`."""
    return default_queue().process_jobs(
        handlers,
        max_attempts,
        types=types,
        limit=limit,
        max_seconds=max_seconds,
        linger=linger,
        timeout=timeout,
        backoff=backoff,
        unknown=unknown,
    )


def get_job(job_id: str) -> dict[str, Any] | None:
    """A job of the default queue; see `Queue.get_job`."""
    return default_queue().get_job(job_id)


def cancel_job(job_id: str) -> bool:
    """Cancel a pending job of the default queue; see `Queue.cancel_job`."""
    return default_queue().cancel_job(job_id)


def retry_job(job_id: str) -> bool:
    """Put a failed or cancelled job of the default queue back; see `Queue.retry_job`."""
    return default_queue().retry_job(job_id)


def list_jobs(
    status: str | None = None, job_type: str | None = None, limit: int | None = None
) -> Iterator[dict[str, Any]]:
    """The jobs of the default queue; see `Queue.list_jobs`."""
    return default_queue().list_jobs(status, job_type, limit)


def count_jobs() -> dict[str, int]:
    """How many jobs of the default queue are in each state; see `Queue.count_jobs`."""
    return default_queue().count_jobs()


def prune_jobs(
    older_than: float | timedelta, statuses: Collection[str] = ("completed", "cancelled")
) -> int:
    """Remove finished jobs from the default queue; see `Queue.prune_jobs`."""
    return default_queue().prune_jobs(older_than, statuses)
