"""What `dbq top` does to the entry that is chosen: retry, cancel, pause; what it asks before."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, NamedTuple

from ..engines.pausing import Pause, matches
from ..job import FAILED, PENDING
from ..queue import Queue
from ..support.text import counted
from ..views.reading import Failing, RunningJob, TypeSeen, WaitingJob
from ..views.screen import Entry

NOTHING: Final = "there is nothing to choose"


class Deed(NamedTuple):
    """Something that can be done, after a person has agreed."""

    question: str
    act: Callable[[], str]  # does it, and returns what is said of it


def deed_of(key: str, entry: Entry | None, queue: Queue) -> Deed | str:
    """Return what a key does to an entry; or why it does nothing, as a sentence.

    Args:
        key: r, c or p.
        entry: the one that is chosen; None if there is none.
        queue: where it is done.
    """
    if entry is None:
        return NOTHING
    return {"r": _retry, "c": _cancel, "p": _pause}[key](entry, queue)


def _retry(entry: Entry, queue: Queue) -> Deed | str:
    about, job_type = entry.about, entry.type
    if isinstance(about, Failing):
        kind = about.kind
        states = [FAILED, *([PENDING] if kind.waiting else [])]
        return Deed(
            f"retry {counted(kind.number, 'job')} of {job_type} with this error?",
            lambda: _done("retried", queue.retry_jobs(states, _just(job_type), error=kind.glob)),
        )
    if isinstance(about, TypeSeen) and about.failed:
        return Deed(
            f"retry {counted(about.failed, 'failed job')} of {job_type}?",
            lambda: _done("retried", queue.retry_jobs(FAILED, _just(job_type))),
        )
    if isinstance(about, WaitingJob) and about.attempts:
        return Deed(
            f"retry {about.id} now?", lambda: _one("retried", about.id, queue.retry_job(about.id))
        )
    return "r retries what has failed, and this has not"


def _cancel(entry: Entry, queue: Queue) -> Deed | str:
    about, job_type = entry.about, entry.type
    if isinstance(about, RunningJob):
        return Deed(
            f"cancel {about.id} while it runs?",
            lambda: _one(
                "its worker is asked to break off",
                about.id,
                queue.cancel_job(about.id, running=True),
            ),
        )
    if isinstance(about, WaitingJob):
        return Deed(
            f"cancel {about.id}?", lambda: _one("cancelled", about.id, queue.cancel_job(about.id))
        )
    if isinstance(about, TypeSeen) and about.pending:
        return Deed(
            f"cancel {counted(about.pending, 'pending job')} of {job_type}?",
            lambda: _done("cancelled", queue.cancel_jobs(PENDING, _just(job_type))),
        )
    if isinstance(about, Failing) and about.kind.waiting:
        kind = about.kind
        return Deed(
            f"cancel {counted(kind.waiting, 'job')} of {job_type} that would be tried again?",
            lambda: _done(
                "cancelled", queue.cancel_jobs(PENDING, _just(job_type), error=kind.glob)
            ),
        )
    return "c cancels what waits or runs, and this has ended"


def _pause(entry: Entry, queue: Queue) -> Deed | str:
    job_type = entry.type
    held = [each for each in queue.paused() if matches(job_type, each.type)]
    if not held:
        return Deed(
            f"pause {job_type}? Workers begin none until it is resumed",
            lambda: _paused(queue, job_type),
        )
    names = [each.type for each in held]
    return Deed(f"resume {', '.join(names)}?", lambda: _resumed(queue.resume(*names)))


def _paused(queue: Queue, job_type: str) -> str:
    queue.pause(job_type)
    return f"paused {job_type}"


def _resumed(ended: list[Pause]) -> str:
    return (
        f"resumed {', '.join(each.type for each in ended)}" if ended else "it was resumed already"
    )


def _just(job_type: str) -> str:
    """A glob that this type matches, and no other.

    >>> _just("mail"), _just("a[1]*")
    ('mail', 'a[[]1][*]')
    """
    return re.sub(r"[*?[]", r"[\g<0>]", job_type)


def _done(what: str, ids: list[str]) -> str:
    return f"{what} {counted(len(ids), 'job')}"


def _one(what: str, job_id: str, done: bool) -> str:
    return f"{what} {job_id}" if done else f"{job_id} has changed meanwhile: nothing was done"
