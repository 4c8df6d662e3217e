"""The commands of `dbq` that change jobs that are there: cancel, retry, defer."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Final, NamedTuple

from ..job import CANCELLED, FAILED, PENDING, PROCESSING, Job, check_time
from ..queue import Queue
from ..support.text import counted, dump_json, escape_control
from .choosing import (
    CHANGING,
    MANY,
    agreed,
    change_of,
    choice_of,
    filters,
    is_chosen,
    named,
    none_like,
)
from .common import (
    DONE,
    REFUSED,
    Command,
    UsageError,
    arg,
    complain,
    duration,
    point_in_time,
    queue_of,
)
from .secrets import secrets_of

if TYPE_CHECKING:
    from ..engines.choice import Choice
    from ..engines.verbs import Verb

# What chooses jobs is imported when it is used: a worker, which should start fast, needs none.


class Deed(NamedTuple):
    """What a command does to jobs, in the words that it says."""

    name: str  # the command
    verb: Verb
    done: str  # what stands before the id of each
    many: str  # what has been done to many
    allowed: str  # what a job must be
    usual: tuple[str, ...]  # the states that are meant where no id is given


def _cancel(args: argparse.Namespace) -> int:
    from ..engines.calling_off import own_mark
    from ..engines.verbs import cancel

    queue = _queue("cancel", args)
    verb = cancel("Cancelled by user", own_mark(queue.now()) if args.running else "")
    allowed = " or ".join(verb.takes)
    return _do(Deed("cancel", verb, "cancelled", "cancelled", allowed, verb.takes), queue, args)


def _retry(args: argparse.Namespace) -> int:
    from ..engines.verbs import RETRY as VERB
    from ..engines.verbs import retry_with

    if args.failed:
        if args.ids:
            raise UsageError("retry: name jobs by their ids, or say --failed")
        args.status = [*(args.status or ()), FAILED]
    allowed = "failed, cancelled or waiting for its next attempt"
    queue = _queue("retry", args)
    changes = dict(map(change_of, args.changes or ()))
    verb = retry_with(changes, queue.max_payload) if changes else VERB
    return _do(Deed("retry", verb, "pending", "put back", allowed, (FAILED,)), queue, args)


def _defer(args: argparse.Namespace) -> int:
    from ..engines.verbs import defer

    if args.run_at is None and args.delay is None:
        raise UsageError("defer: say until when, by --in or --run-at")
    queue = _queue("defer", args)
    now = queue.now()
    due = now + duration(args.delay) if args.run_at is None else point_in_time(args.run_at)
    verb = defer(check_time(due, now))
    return _do(Deed("defer", verb, "deferred", "deferred", "pending", (PENDING,)), queue, args)


def _queue(name: str, args: argparse.Namespace) -> Queue:
    if not is_chosen(args):
        raise UsageError(
            f"{name}: name jobs by their ids, or choose them, such as by --type: see --help"
        )
    return queue_of(args)


def _do(deed: Deed, queue: Queue, args: argparse.Namespace) -> int:
    """Do the deed to the jobs that are chosen; says of each that is named why it was not done."""
    choice = choice_of(args, queue)
    if wrong := set(choice.statuses or ()) - set(deed.verb.takes):
        raise UsageError(f"{deed.name}: a job must be {deed.allowed}, not {min(wrong)}")
    ids, code = named(args, queue, to_change=True)
    if args.ids:
        choice = choice._replace(ids=tuple(ids))
    elif choice.statuses is None:
        choice = choice._replace(statuses=deed.usual)
    jobs = _done(deed, queue, choice, args)
    if jobs is None:
        return complain(f"nothing was {deed.many}", REFUSED)
    for job in _left(ids, jobs) if choice.limit is None else ():
        code = complain(_why_not(deed, queue, choice, job), REFUSED)
    if not args.ids and not jobs:
        complain(_why_none(deed, queue, choice, args), DONE)
    running = [] if args.dry_run else [job for job in jobs if job.status == PROCESSING]
    if running:
        from .cancelling import told

        told_code, ended = told(queue, running, secrets_of(args) if args.json else None)
        code = max(code, told_code)
        jobs = [*(job for job in jobs if job.status != PROCESSING), *ended]
    if not args.ids and (jobs or running):
        asked = sum(job.status == PROCESSING for job in jobs) if running else 0
        done = f"{counted(len(jobs) - asked, 'job')} {'to be ' * args.dry_run}{deed.many}"
        complain(f"{done}, {asked} asked" if asked else done, DONE)
    if deed.name == "retry" and args.status is None and not args.ids:
        _tell_waiting(queue, choice)
    return code


def _tell_waiting(queue: Queue, choice: Choice) -> None:
    """Say what else is like the failed jobs that were chosen, but is tried again anyway."""
    from ..engines.choice import chosen
    from ..engines.verbs import RETRY as VERB
    from .look import local_time

    now = int(queue.now())
    others = chosen(queue.engine, choice._replace(statuses=(PENDING,), limit=None))
    times = [job.run_at for job in others if VERB.apply(job, now)]
    if times:
        wait = "1 waits" if len(times) == 1 else f"{len(times):,} wait"
        when = local_time(min(times))[:16]
        complain(
            f"{wait} for the next attempt, from {when} on; to retry these: --status pending", DONE
        )


def _done(deed: Deed, queue: Queue, choice: Choice, args: argparse.Namespace) -> list[Job] | None:
    """Do the deed, and print the jobs; None if a person did not agree."""
    if args.dry_run or not args.yes:
        found = queue.engine.act(deed.verb, choice, dry_run=True)
        if args.dry_run:
            print_jobs(found, args, queue.now())
            return found
        if len(found) > MANY and not agreed(deed.name, len(found)):
            return None
    hide = secrets_of(args)  # what may be refused, before anything is done
    jobs = queue.engine.act(deed.verb, choice)
    for job in jobs:
        if job.status != PROCESSING:  # of which more is to be told
            print(dump_json(hide(job.as_dict())) if args.json else f"{deed.done} {job.id}")
    return jobs


def print_jobs(jobs: list[Job], args: argparse.Namespace, now: float) -> None:
    """Print jobs as `dbq list` does."""
    from .look import print_table

    shown = map(secrets_of(args), map(Job.as_dict, jobs))
    if args.json:
        for job in shown:
            print(dump_json(job))
    else:
        print_table(shown, now)


def _left(ids: list[str], jobs: list[Job]) -> list[str]:
    done = {job.id for job in jobs}
    return [job_id for job_id in dict.fromkeys(ids) if job_id not in done]


def _why_not(deed: Deed, queue: Queue, choice: Choice, job_id: str) -> str:
    """Why it was not done to a job that is named."""
    job = queue.find_job(job_id)
    if job is None:
        return f"job {job_id} is gone, not {deed.allowed}"
    if not choice.takes(job):
        return f"job {job_id} is not one that the other options choose"
    if deed.name == "retry" and job.status in (FAILED, CANCELLED):
        return f"job {job_id} is left {job.status}: {_why_left(queue, job)}"
    hint = ""
    if (deed.name, job.status) == ("cancel", PROCESSING):
        hint = f"; to break it off: dbq cancel --running {job_id}"
    return f"job {job_id} is {job.status}, not {deed.allowed}{hint}"


def _why_left(queue: Queue, job: Job) -> str:
    """Why a job that has ended was not put back."""
    from ..engines.moving import is_moved
    from ..engines.unique import key_of

    if is_moved(job):
        return escape_control(job.error or "")
    key = key_of(job.id)
    others = queue.engine.jobs((PENDING, PROCESSING)) if key else iter(())
    other = next((each.id for each in others if key_of(each.id) == key), "")
    if other:
        return f"another one of its key, {other}, does the same work"
    return "it has changed meanwhile"


def _why_none(deed: Deed, queue: Queue, choice: Choice, args: argparse.Namespace) -> str:
    """Why there was no job to do it to: none is like that, or none of those can be."""
    from ..engines.choice import chosen

    left = next(chosen(queue.engine, choice._replace(limit=None)), None)
    if left is None or choice.limit == 0:
        return none_like(args, queue, deed.usual)
    return _why_not(deed, queue, choice, left.id)


CANCEL: Final = Command(
    "cancel",
    "cancel pending jobs, or running ones",
    _cancel,
    "dbq cancel mh3k9x2a7d4c30qz\ndbq cancel --type 'mail.*' --where to=zoe@example.com --dry-run\n"
    "dbq cancel --running mh3k9x2a7d4c30qz",
    (
        *filters(default=" (pending; with --running, also processing)"),
        arg(
            "--running",
            action="store_true",
            help="also break off jobs that run: their workers look once a second",
        ),
        *CHANGING,
    ),
)
RETRY: Final = Command(
    "retry",
    "put jobs back, due now: failed or cancelled ones, with no attempts counted, and those that"
    " wait for their next attempt",
    _retry,
    "dbq retry mh3k9x2a7d4c30qz\ndbq retry --failed\ndbq retry --type send_mail --since 2h\n"
    "dbq retry --error 'TimeoutError: *' --dry-run\ndbq retry --status pending --type send_mail\n"
    "dbq retry 5f2c --with to=zoe@example.com",
    (
        *filters(default=" (without it and without ids: failed)"),
        arg("--failed", action="store_true", help="all failed jobs; the same as --status failed"),
        arg(
            "--with",
            dest="changes",
            metavar="KEY=VALUE",
            action="append",
            help="with this in the payload: VALUE is JSON, or else a string; may be repeated",
        ),
        *CHANGING,
    ),
)
DEFER: Final = Command(
    "defer",
    "let pending jobs wait until another time",
    _defer,
    "dbq defer mh3k9x2a7d4c30qz --in 2h\ndbq defer --type report --run-at 2027-01-01T09:00\n"
    "dbq defer 30qz --in 0s",
    (
        *filters(default=" (only pending jobs can wait)"),
        (
            arg(
                "--run-at",
                metavar="T",
                help="until then: Unix seconds or ISO 8601 (local time if it has no zone)",
            ),
            arg("--in", dest="delay", metavar="TIME", help="so long, from now: 50s, 10min, 2h"),
        ),
        *CHANGING,
    ),
)
