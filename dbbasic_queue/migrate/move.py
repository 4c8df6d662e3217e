"""Jobs moved from one queue into another, while producers and workers go on at both.

Theory of operation
-------------------
A job is never runnable in two places, and never nowhere for good:

    1  at the source: cancelled, with the note "Moving to ..."  (engines/moving.py)
    2  at the target: adopted, in all nine columns; one that is there already is left alone
    3  at the source: the note says "Moved to ..."

in batches, each step kept before the next begins. Killed after 1, the next run finds the note and
goes on with 2; killed after 2, it repeats 2, which does nothing. A worker of the source that was
faster than 1 keeps its job, and what it becomes is moved later.

What is completed never changes again: it is copied, so that its id stays known. What is processing
stays until it has ended. The mark of each recurring job's last slot moves along, and so do pauses:
before the first job, so that none is begun at the target that was held back at the source.

`finish` closes the source: first its last jobs are moved, then it refuses new ones, then what came
in between is moved, the history goes along, and the notes are removed. Until then the way back is
open at any moment: the same with the names exchanged.
"""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from ..engines.interface import Engine
from ..engines.moving import MOVABLE, departed, note_of
from ..engines.pausing import ALL
from ..errors import MigrationError
from ..job import CANCELLED, COMPLETED, FAILED, PENDING, PROCESSING, STATUSES, Job
from .history import carry_history
from .pauses import carry_pauses
from .slots import carry_slots

BATCH: Final = 2000  # jobs that are taken out at a time

Tell = Callable[[int], None]  # is called with the number of jobs that were just moved


class Left(NamedTuple):
    """What is still to be moved."""

    jobs: dict[str, int]  # by state; with what a killed run has taken out, as it was before
    moved: int  # notes of those that are elsewhere for certain
    newest: int  # Unix seconds: when the last job came; 0: none ever did

    @property
    def waiting(self) -> int:
        """How many jobs could be moved now."""
        return sum(self.jobs[status] for status in MOVABLE)


def move(source: Engine, target: Engine, tell: Tell = lambda count: None) -> int:
    """Move all jobs but those that are processing; returns how many were new at the target.

    Can be killed at any moment, and repeated: what was begun is ended first.

    Args:
        source: where they are.
        target: where they shall be. It is opened if it had been closed for the source.
        tell: of the progress.

    Raises `MigrationError` when the jobs of the target are on their way to another queue, or the
    two are one, and, once all others are moved, when some are on their way from the source to an
    address other than the target's; `StorageError`.

    >>> import tempfile
    >>> from ..queue import Queue
    >>> old, new = (Queue(f"{tempfile.mkdtemp()}/queue.tsv") for _ in range(2))
    >>> job_id = old.enqueue("mail", {"to": "zoe@example.com"})
    >>> move(old.engine, new.engine), new.get_job(job_id)["status"]
    (1, 'pending')
    >>> old.get_job(job_id)["status"]
    'cancelled'
    """
    _require_way(source, target)
    carry_pauses(source, target)
    new, elsewhere = _go_on(source, target, tell)
    new += sum(_adopt(target, jobs, tell) for jobs in batches(source.jobs([COMPLETED]), BATCH))
    # Before those that are taken out now, whose notes would only be looked through.
    new += _withdraw(source, target, (CANCELLED,), tell)
    new += move_waiting(source, target, tell)
    carry_slots(source, target)
    _require_none_elsewhere(source, elsewhere)
    return new


def move_waiting(source: Engine, target: Engine, tell: Tell = lambda count: None) -> int:
    """Move what came since `move`, which has to have been called; returns how many.

    Looks neither at what is completed or cancelled nor for what a killed run has left: cheap enough
    to be called each second. Raises `StorageError`.
    """
    return _withdraw(source, target, (PENDING, FAILED), tell)


def _withdraw(source: Engine, target: Engine, statuses: tuple[str, ...], tell: Tell) -> int:
    new = 0
    while jobs := source.withdraw(BATCH, lambda job: note_of(job, target.url), statuses):
        new += _hand_over(source, target, jobs, tell)
    return new


def finish(source: Engine, target: Engine, idle: int, tell: Tell = lambda count: None) -> int:
    """Move all that is left, and close the source for the target; returns as `move` does.

    Args:
        source: where the jobs are; it refuses new ones from then on.
        target: where they shall be.
        idle: seconds for which no job has come to the source; else there is a producer still.
        tell: of the progress.

    Raises `MigrationError` when a job is processing or came lately, and what `move` raises. All
    other jobs are moved then; call it again.
    """
    new = move(source, target, tell)
    if not source.closed_for():
        _require_idle(source, target, idle)
    source.close_for(target.url)
    new += move_waiting(source, target, tell)
    new += _withdraw(source, target, (CANCELLED,), tell)
    _require_none_runs(source, source.counts())
    new += sum(_adopt(target, jobs, tell) for jobs in batches(source.jobs([COMPLETED]), BATCH))
    carry_history(source, target)
    source.forget_moved()
    if source.paused():
        source.resume([ALL])  # what holds now is said at the target
    return new


def look(source: Engine) -> Left:
    """What there is to be moved. Changes nothing. Raises `StorageError`."""
    jobs = dict.fromkeys(STATUSES, 0)
    moved = newest = 0
    for job in source.jobs():
        newest = max(newest, job.created_at)
        gone = departed(job)
        if gone is None:
            jobs[job.status] += 1
        elif gone.sure:
            moved += 1
        else:  # a run that was killed has taken it out
            jobs[gone.job.status] += 1
    return Left(jobs, moved, newest)


def _require_way(source: Engine, target: Engine) -> None:
    if _is_one(source, target):
        raise MigrationError(f"{source.url}: the two queues are one; name another")
    for job in target.jobs([CANCELLED]):
        gone = departed(job)
        if gone is not None and not gone.sure:
            raise MigrationError(
                f"job {job.id} of {target.url} is on its way to {gone.to}; first end that:"
                f" dbq migrate {target.url} {gone.to}"
            )
    closed = target.closed_for()
    if closed == source.url:
        target.close_for("")
    elif closed:
        raise MigrationError(
            f"{target.url} was moved to {closed}, so it takes no jobs; move them there, or first"
            f" move that back: dbq migrate {closed} {target.url}"
        )


def _is_one(source: Engine, target: Engine) -> bool:
    """Whether two addresses are of one queue, as `localhost` and `127.0.0.1` may be."""
    if source.url == target.url:
        return True
    if source.path is not None and target.path is not None:
        return os.path.realpath(source.path) == os.path.realpath(target.path)
    if source.path is not None or target.path is not None:
        return False
    servers = source.server(), target.server()
    here, there = (server.identity if server else "" for server in servers)
    return bool(here) and here == there


def _go_on(source: Engine, target: Engine, tell: Tell) -> tuple[int, Counter[str]]:
    """Hand over what a killed run has taken out; also tells what is on its way elsewhere."""
    begun: list[Job] = []  # listed first: to hand over changes what is looked at
    elsewhere: Counter[str] = Counter()
    for job in source.jobs([CANCELLED]):
        gone = departed(job)
        if gone is None or gone.sure:
            continue
        if gone.to == target.url:
            begun.append(gone.job)
        else:
            elsewhere[gone.to] += 1
    new = sum(_hand_over(source, target, jobs, tell) for jobs in batches(begun, BATCH))
    return new, elsewhere


def _require_none_elsewhere(source: Engine, elsewhere: Counter[str]) -> None:
    for to, count in elsewhere.items():
        what = "a job is" if count == 1 else f"{count} jobs are"
        raise MigrationError(
            f"{source.url}: {what} on the way to {to} since a run that was killed; all others were"
            f" moved. End that, too: dbq migrate {source.url} {to}"
        )


def _hand_over(source: Engine, target: Engine, jobs: list[Job], tell: Tell) -> int:
    new = _adopt(target, jobs, tell)
    source.renote({job.id: note_of(job, target.url, sure=True) for job in jobs})
    return new


def _adopt(target: Engine, jobs: list[Job], tell: Tell) -> int:
    new = target.adopt(jobs, over=lambda there: departed(there) is not None)
    tell(len(jobs))
    return new


def batches(jobs: Iterable[Job], size: int) -> Iterator[list[Job]]:
    """Yield jobs in lists of `size`; the last one may be shorter."""
    rest = iter(jobs)
    while some := list(itertools.islice(rest, size)):
        yield some


def _require_idle(source: Engine, target: Engine, idle: int) -> None:
    left = look(source)
    _require_none_runs(source, left.jobs)
    ago = int(source.now()) - left.newest
    if left.newest and ago < idle:
        raise MigrationError(
            f"{source.url} got a job {max(ago, 0)} s ago, so a producer still adds there: point it"
            f" to {target.url}. It is closed once none has come for {idle} s (--idle)"
        )


def _require_none_runs(source: Engine, jobs: Mapping[str, int]) -> None:
    runs = jobs[PROCESSING]
    if runs or jobs[PENDING]:
        what = "is processing a job" if runs == 1 else f"is processing {runs} jobs"
        raise MigrationError(
            f"{source.url} {what}: stop its workers, wait until that has ended, and finish again"
            if runs
            else f"{source.url}: jobs became pending again meanwhile; finish again"
        )
