"""What a program or a person does with the jobs that they choose: a part of `Queue`.

Each of these takes the same filters (choice.py), and changes many jobs in one step of the engine.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ..errors import Unsupported
from ..job import CANCELLED, COMPLETED, FAILED, FINISHED, PENDING, PROCESSING, Job, check_time
from .interface import Engine

if TYPE_CHECKING:
    from typing import Unpack

    from .choice import Choice, Filters
    from .failures import Failures
    from .tsv.backup import Restored
    from .tsv.engine import TsvEngine
    from .verbs import Verb

log = logging.getLogger("dbbasic_queue")

States = str | Collection[str] | None


class Choosing:
    """The methods of `Queue` for jobs that are chosen by what they are."""

    engine: Engine
    max_payload: int

    # -- one job -------------------------------------------------------------------------------

    def cancel_job(self, job_id: str, *, running: bool = False) -> bool:
        """Cancel a pending job. True if it was pending, False if it is not or is unknown.

        Args:
            job_id: the job.
            running: also ask for the end of a job that is being run; true for that, too. Its worker
                looks once a second, raises `JobCancelled` in the handler, and ends the job as
                cancelled. A job that is completed before that stays completed.

        >>> import tempfile
        >>> from dbbasic_queue import Queue
        >>> queue = Queue(tempfile.mkdtemp() + "/queue.tsv")
        >>> queue.cancel_job(queue.enqueue("mail", {}), running=True)
        True
        """
        if running:
            return bool(self.cancel_jobs(ids=[job_id], running=True))
        return self._log_change(self.engine.cancel(job_id), CANCELLED, job_id)

    def retry_job(self, job_id: str, changes: Mapping[str, Any] | None = None) -> bool:
        """Put a failed or cancelled job back, due now, with no attempts counted.

        One that waits for its next attempt is due now, too; its attempts are kept. True if it was
        one of these, False if it is not or is unknown.

        Args:
            job_id: of the job.
            changes: keys of its payload, with the values that they have from now on.

        Raises `InvalidJob` for what its payload cannot be, `StorageError`.
        """
        done = self.engine.retry(job_id) if not changes else False
        if changes:
            from .choice import Choice

            done = bool(self.engine.act(self._retry(changes), Choice(ids=(job_id,))))
        return self._log_change(done, PENDING, job_id)

    def _retry(self, changes: Mapping[str, Any] | None) -> Verb:
        from .verbs import RETRY, retry_with

        return retry_with(changes, self.max_payload) if changes else RETRY

    def defer_job(self, job_id: str, run_at: float | datetime) -> bool:
        """Let a pending job wait until another time, as `enqueue` takes it.

        True if it was pending, False if it is not or is unknown. Raises `InvalidJob` for a time
        that is not one.
        """
        return bool(self.defer_jobs(run_at, ids=[job_id]))

    def wait(self, job_id: str, timeout: float | None = None) -> dict[str, Any] | None:
        """Wait until a job has ended, and return it as `get_job` does; None if it is unknown.

        Args:
            job_id: of the job.
            timeout: seconds; after them the job is returned as it is, not yet ended. None: for
                ever.

        Raises `ValueError` for a negative timeout, and `StorageError`.

        >>> import tempfile
        >>> from dbbasic_queue import Queue
        >>> queue = Queue(tempfile.mkdtemp() + "/queue.tsv")
        >>> queue.wait(queue.enqueue("greet", {}), timeout=0.1)["status"]
        'pending'
        """
        from .awaiting import wait

        if timeout is not None and not timeout >= 0:
            raise ValueError(f"timeout {timeout!r}: must be 0 or more seconds")
        job = wait(self.engine, job_id, timeout)
        return job.as_dict() if job is not None else None

    def _log_change(self, done: bool, status: str, job_id: str) -> bool:
        if done:
            log.info("%s %s", status, job_id, extra={"event": status, "job_id": job_id})
        return done

    # -- many jobs -----------------------------------------------------------------------------

    def list_jobs(
        self,
        status: States = None,
        job_type: States = None,
        limit: int | None = None,
        **filters: Unpack[Filters],
    ) -> Iterator[dict[str, Any]]:
        """The jobs, as `get_job` gives them, in the order of the file.

        Args:
            status: one state or several; None for all.
            job_type: one type or several, which may be globs such as `mail.*`; None for all.
            limit: how many at most.
            **filters: `ids` (of the jobs, whole), `error` (a glob for `Type: message`), `since`
                and `until` (of the last change: Unix seconds or an aware datetime) and `where` (a
                dict of values that keys of the payload have).

        Raises `ValueError` for an unknown status, a negative limit or a time that is not one.

        >>> import tempfile
        >>> from dbbasic_queue import Queue
        >>> queue = Queue(tempfile.mkdtemp() + "/queue.tsv")
        >>> _ = queue.enqueue_many([("mail", {"to": "Zoë"}), ("mail", {"to": "Ben"})])
        >>> [job["payload"] for job in queue.list_jobs(job_type="m*", where={"to": "Ben"})]
        [{'to': 'Ben'}]
        """
        from .choice import choose, chosen

        choice = choose(status, job_type, limit, **filters)
        return map(Job.as_dict, chosen(self.engine, choice))

    def list_errors(
        self,
        job_type: States = None,
        limit: int | None = None,
        **filters: Unpack[Filters],
    ) -> list[Failures]:
        """How jobs have failed, by type and error, most often first.

        Pending jobs that failed before and are tried again are among them. Numbers, ids and quoted
        words in an error make no difference; the `glob` of each is for `retry_jobs(error=...)`.

        Args:
            job_type: as `list_jobs` takes it; so are the other filters.
            limit: how many at most, of what is returned.
            **filters: see `list_jobs`.

        Raises what `list_jobs` does.

        >>> import tempfile
        >>> from dbbasic_queue import Queue
        >>> queue = Queue(tempfile.mkdtemp() + "/queue.tsv")
        >>> _ = queue.enqueue("divide", {"by": 0})
        >>> _ = queue.process_jobs({"divide": lambda payload: 1 / payload["by"]}, max_attempts=1)
        >>> [(each.number, each.error) for each in queue.list_errors()]
        [(1, 'ZeroDivisionError: division by zero')]
        """
        from .choice import choose, chosen
        from .failures import group

        choice = choose((FAILED, PENDING), job_type, None, **filters)
        return group(chosen(self.engine, choice))[:limit]

    def retry_jobs(
        self,
        status: States = FAILED,
        job_type: States = None,
        limit: int | None = None,
        *,
        dry_run: bool = False,
        changes: Mapping[str, Any] | None = None,
        **filters: Unpack[Filters],
    ) -> list[str]:
        """Put many jobs back, due now, in one step; returns their ids.

        Args:
            status: of failed, cancelled, and pending: those that wait for their next attempt, whose
                attempts are kept.
            job_type: as `list_jobs` takes it; so are `limit` and the other filters.
            limit: how many at most.
            dry_run: only return their ids.
            changes: keys of their payloads, with the values that they have from now on.
            **filters: see `list_jobs`.

        Raises what `list_jobs` does, `InvalidJob` for what a payload cannot be, `StorageError`.

        >>> import tempfile
        >>> from dbbasic_queue import Queue
        >>> queue = Queue(tempfile.mkdtemp() + "/queue.tsv")
        >>> queue.retry_jobs(error="TimeoutError*", since=1800000000)
        []
        """
        from .choice import choose

        choice = choose(status, job_type, limit, **filters)
        return self._act(self._retry(changes), choice, "pending", dry_run)

    def cancel_jobs(
        self,
        status: States = PENDING,
        job_type: States = None,
        limit: int | None = None,
        *,
        dry_run: bool = False,
        running: bool = False,
        **filters: Unpack[Filters],
    ) -> list[str]:
        """Cancel many pending jobs in one step; returns their ids.

        With `running`, those that run, too: see `cancel_job`. Takes the same arguments otherwise as
        `retry_jobs`, and raises the same.
        """
        from .calling_off import own_mark
        from .choice import choose
        from .verbs import cancel

        mark = own_mark(self.engine.now()) if running else ""
        if running and status == PENDING:
            status = (PENDING, PROCESSING)
        choice = choose(status, job_type, limit, **filters)
        return self._act(cancel("Cancelled by user", mark), choice, "cancelled", dry_run)

    def defer_jobs(
        self,
        run_at: float | datetime,
        job_type: States = None,
        limit: int | None = None,
        *,
        dry_run: bool = False,
        **filters: Unpack[Filters],
    ) -> list[str]:
        """Let many pending jobs wait until another time, in one step; returns their ids.

        Args:
            run_at: as `enqueue` takes it.
            job_type: as `list_jobs` takes it; so are `limit` and the other filters.
            limit: how many at most.
            dry_run: only return their ids.
            **filters: see `list_jobs`.

        Raises what `list_jobs` does, `InvalidJob` for a time that is not one, and `StorageError`.

        >>> import tempfile
        >>> from dbbasic_queue import Queue
        >>> queue = Queue(tempfile.mkdtemp() + "/queue.tsv")
        >>> queue.defer_jobs(2_000_000_000, "report") == []
        True
        """
        from .choice import choose
        from .verbs import defer

        due = check_time(run_at, self.engine.now())
        choice = choose(PENDING, job_type, limit, **filters)
        return self._act(defer(due), choice, "deferred", dry_run)

    def _act(self, verb: Verb, choice: Choice, done: str, dry_run: bool) -> list[str]:
        ids = [job.id for job in self.engine.act(verb, choice, dry_run=dry_run)]
        if ids and not dry_run:
            log.info("%s %d jobs", done, len(ids), extra={"event": done, "count": len(ids)})
        return ids

    def retry_failed(self, job_type: str | None = None) -> list[str]:
        """Put all failed jobs back, or those of one type; returns their ids.

        Raises `StorageError`.
        """
        return self.engine.retry_failed(job_type)

    # -- all of it -----------------------------------------------------------------------------

    def backup(self, file: str | os.PathLike[str]) -> int:
        """Write a copy of the queue, with what belongs to it, into a tar; returns its bytes.

        Producers wait for as long as the table is copied. It is compressed if the name ends in
        `.gz`. Raises `StorageError`, and `Unsupported` for a queue that is not in a file.
        """
        from .tsv.backup import backup

        return backup(self._in_a_file("backup"), Path(file))

    def restore(self, file: str | os.PathLike[str]) -> Restored:
        """Make the queue what it was when `backup` wrote this file; no worker is at work meanwhile.

        The queue as it was before is kept beside it. Raises `TableError` for a file that is not a
        backup, `StorageError` when a worker is at work or this user does not own the queue, and
        `Unsupported` for a queue that is not in a file.

        >>> import tempfile
        >>> from dbbasic_queue import Queue
        >>> folder = tempfile.mkdtemp()
        >>> queue = Queue(folder + "/queue.tsv")
        >>> _ = queue.enqueue("greet", {}), queue.backup(folder + "/backup.tar")
        >>> _ = queue.cancel_jobs()
        >>> queue.restore(folder + "/backup.tar").jobs["pending"]
        1
        """
        from .tsv.backup import restore

        return restore(self._in_a_file("restore"), Path(file))

    def _in_a_file(self, verb: str) -> TsvEngine:
        if "file" not in self.engine.can:
            raise Unsupported(
                f"{verb}: {self.engine.url} is not a file: its server has backups of its own (RDB,"
                " AOF); dbq migrate moves the jobs into a file"
            )
        return cast("TsvEngine", self.engine)

    # -- removing ------------------------------------------------------------------------------

    def prune_jobs(
        self,
        older_than: float | timedelta,
        statuses: Collection[str] = (COMPLETED, CANCELLED),
        *,
        dry_run: bool = False,
        job_type: States = None,
        limit: int | None = None,
        **filters: Unpack[Filters],
    ) -> int:
        """Remove finished jobs that last changed that long ago; returns how many.

        Args:
            older_than: seconds, or a `timedelta`.
            statuses: of completed, cancelled and failed.
            dry_run: only count them.
            job_type: as `list_jobs` takes it; so are `limit` and the other filters.
            limit: how many at most.
            **filters: see `list_jobs`.

        Raises `ValueError` for a negative age or another status, `StorageError` when the table
        cannot be written anew (which takes as much free space as the table is long).
        """
        wanted = [statuses] if isinstance(statuses, str) else statuses
        ages = dict.fromkeys(wanted, older_than)
        return self.prune_by_age(ages, dry_run=dry_run, job_type=job_type, limit=limit, **filters)

    def prune_by_age(
        self,
        ages: Mapping[str, float | timedelta],
        *,
        dry_run: bool = False,
        job_type: States = None,
        limit: int | None = None,
        **filters: Unpack[Filters],
    ) -> int:
        """`prune_jobs` with an age for each state: `{"completed": 86400, "failed": 2592000}`.

        Raises what that does.
        """
        seconds = _seconds(ages)
        ids = None
        if filters or limit is not None or job_type is not None:
            from .choice import choose

            found = prunable(self.engine, ages, choose(None, job_type, limit, **filters))
            ids = [job.id for job in found]
        pruned = self.engine.prune(seconds, dry_run, ids)
        if pruned and not dry_run:
            log.info("pruned %d jobs", pruned, extra={"event": "pruned", "count": pruned})
        return pruned


def prunable(
    engine: Engine, ages: Mapping[str, float | timedelta], choice: Choice
) -> Iterator[Job]:
    """Yield the jobs of a choice that ended long enough ago, by state."""
    from .choice import chosen
    from .interface import AHEAD
    from .moving import UNSURE

    seconds, now = _seconds(ages), engine.now()
    jobs = chosen(engine, choice.within(tuple(ages))._replace(limit=None))
    number = 0
    for job in jobs:
        age = seconds[job.status]
        if job.status == CANCELLED and (job.error or "").startswith(UNSURE):
            continue  # it is perhaps not where it goes yet
        if choice.limit is not None and number >= choice.limit:
            return
        if job.run_at <= now - age or job.run_at >= now + max(age, AHEAD):
            number += 1
            yield job


def _seconds(ages: Mapping[str, float | timedelta]) -> dict[str, float]:
    """The ages in seconds; raises `ValueError` for what cannot be one."""
    if not ages or not ages.keys() <= set(FINISHED):
        raise ValueError(f"statuses {sorted(ages)}: only {', '.join(FINISHED)} jobs can be pruned")
    return {status: _age(age) for status, age in ages.items()}


def _age(older_than: float | timedelta) -> float:
    age = older_than.total_seconds() if isinstance(older_than, timedelta) else older_than
    if isinstance(age, bool) or not isinstance(age, int | float) or not age >= 0:
        raise ValueError(f"older_than {older_than!r}: must be 0 or more seconds, or a timedelta")
    return age
