"""The commands of `dbq` that add and change jobs: enqueue, cancel, retry, prune."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from ..job import CANCELLED, COMPLETED, FINISHED
from ..queue import Queue
from .common import (
    DONE,
    REFUSED,
    Command,
    UsageError,
    arg,
    complain,
    config_of,
    counted,
    did_you_mean,
    duration,
    find_id,
    place_of,
    queue_of,
)

if TYPE_CHECKING:
    from ..config.sections import Config

# -- enqueue ---------------------------------------------------------------------------------------


def _enqueue(args: argparse.Namespace) -> int:
    payload = _payload(args.payload)
    theirs = place_of(args).address is None  # the queue is the config's
    config = config_of(args) if theirs else None
    queue = queue_of(args, config, must_exist=False)
    run_at: float | None = None
    if args.run_at is not None:
        run_at = point_in_time(args.run_at)
    elif args.delay is not None:
        run_at = queue.now() + duration(args.delay)
    print(queue.enqueue(args.type, payload, run_at, job_id=args.id))
    sys.stdout.flush()  # the id first, also where both streams are one
    if config is not None:
        _warn_of_unknown_type(config, args.type)
    return DONE


def _warn_of_unknown_type(config: Config, job_type: str) -> None:
    """Say that no handler knows this type, where the source of the handlers is plain."""
    from .types import types_in_source

    handlers, known = config.worker.handlers, frozenset[str]()
    if handlers is not None:
        found = types_in_source(config.directory, handlers)
        if found is None:
            return
        known = found
    known |= config.commands.keys()
    if job_type not in known:
        names = ", ".join(sorted(known)) or "no type"
        complain(
            f"warning: {handlers or '[commands]'} has no handler for {job_type}; there are handlers"
            f" for: {names}{did_you_mean(job_type, known)}",
            DONE,
        )


def _payload(text: str) -> Any:
    """The payload of an argument, or of standard input, which is UTF-8 in any locale."""
    try:
        if text == "-":
            text = sys.stdin.buffer.read().decode("utf-8-sig")
        else:
            text = os.fsencode(text).decode() if _has_surrogates(text) else text
        return json.loads(text)
    except RecursionError:
        raise UsageError("the payload is not JSON: nested too deeply") from None
    except ValueError as error:
        raise UsageError(f"the payload is not JSON: {error}: {text:.60}") from None


def _has_surrogates(text: str) -> bool:
    """Whether an argument has bytes that the locale cannot decode; JSON is UTF-8 in any locale."""
    return any("\ud800" <= character <= "\udfff" for character in text)


def point_in_time(text: str) -> float:
    """Return the Unix seconds of Unix seconds, or of a time in ISO 8601 (local if it has no zone).

    A local time that the clock skips is that much later, one that it shows twice is the first.
    Raises `UsageError`.

    >>> point_in_time("2030-03-17T17:46:40Z")
    1900000000.0
    """
    try:
        return float(text)
    except ValueError:
        pass
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        raise UsageError(
            f"--run-at {text}: neither Unix seconds nor a time such as 2027-01-01T09:00"
        ) from None


# -- cancel, retry ---------------------------------------------------------------------------------


def _cancel(args: argparse.Namespace) -> int:
    queue = queue_of(args)
    return _for_each(queue, args.ids, queue.cancel_job, "cancelled", "pending")


def _retry(args: argparse.Namespace) -> int:
    if bool(args.ids) == args.failed:
        raise UsageError("retry: name jobs by their ids, or say --failed")
    if args.type and not args.failed:
        raise UsageError("retry: --type goes with --failed")
    queue = queue_of(args)
    if not args.failed:
        return _for_each(queue, args.ids, queue.retry_job, "pending", "failed or cancelled")
    ids = queue.retry_failed(args.type)
    for job_id in ids:
        print(f"pending {job_id}")
    if not ids:
        kind = f" of the type {args.type}" if args.type else ""
        complain(f"no job{kind} has failed", DONE)
    return DONE


def _for_each(
    queue: Queue, ids: list[str], verb: Callable[[str], bool], done: str, allowed: str
) -> int:
    """Do it to each job; says which it was not possible for, and why."""
    code = DONE
    for text in ids:
        job_id, why = find_id(queue, text, to_change=True)
        if job_id is None:
            code = complain(why, REFUSED)
        elif verb(job_id):
            print(f"{done} {job_id}")
        else:
            job = queue.get_job(job_id)
            now = job["status"] if job else "gone"
            code = complain(f"job {job_id} is {now}, not {allowed}", REFUSED)
    return code


# -- prune -----------------------------------------------------------------------------------------


def _prune(args: argparse.Namespace) -> int:
    queue = queue_of(args)
    if args.scheduled and not _is_to_prune(queue, args):
        print("removed before: another machine was told to at the same time")
        return DONE
    removed = queue.prune_by_age(_ages(args), dry_run=args.dry_run)
    if not args.dry_run and "edit" in queue.engine.can:
        from ..engines.tsv.editor import remove_old_texts

        remove_old_texts(queue.path)
    print(f"{'would remove' if args.dry_run else 'removed'} {counted(removed, 'job')}")
    return DONE


def _is_to_prune(queue: Queue, args: argparse.Namespace) -> bool:
    from .slots import claim_prune

    config = config_of(args)
    return config is None or claim_prune(queue, config)


def _ages(args: argparse.Namespace) -> dict[str, int]:
    """After how many seconds the jobs of each state go: what is asked, or what the config says."""
    if args.older_than is not None:
        age = duration(args.older_than)
        return dict.fromkeys(args.status or (COMPLETED, CANCELLED), age)
    config = config_of(args)
    if config is None or config.prune is None:
        raise UsageError("prune: say --older-than, or have a [prune] section in the config")
    ages = {status: getattr(config.prune, status) for status in args.status or FINISHED}
    return {status: age for status, age in ages.items() if age is not None}


DURABILITY: Final = arg(
    "--durability",
    choices=("full", "normal", "none"),
    help="full: what is acknowledged survives a power cut; normal: a crash of processes; none, on"
    " a server only: whatever it is set up for",
)
ENQUEUE: Final = Command(
    "enqueue",
    "add a job and print its id",
    _enqueue,
    'dbq enqueue send_mail \'{"to": "zoe@example.com"}\'\n'
    "dbq enqueue report - < payload.json\n"
    "dbq enqueue remind '{}' --run-at 2027-01-01T09:00\n"
    "dbq enqueue welcome '{}' --id welcome-17",
    (
        arg("type", metavar="TYPE", help="which handler runs it"),
        arg(
            "payload",
            metavar="JSON",
            nargs="?",
            default="{}",
            help="a JSON object, {} if not given; - reads it from standard input",
        ),
        (
            arg(
                "--run-at",
                metavar="T",
                help="not before: Unix seconds or ISO 8601 (local time if it has no zone)",
            ),
            arg(
                "--in",
                dest="delay",
                metavar="TIME",
                help="not before that much later: 50s, 10min, 2h",
            ),
        ),
        arg("--id", metavar="ID", help="the job's id; adds nothing if a job has it already"),
        DURABILITY,
    ),
)
SHORT: Final = "; of one that dbq made, the first four characters or more will do"
CANCEL: Final = Command(
    "cancel",
    "cancel pending jobs",
    _cancel,
    "dbq cancel 5f2c9b1e8a7d4c30",
    (arg("ids", metavar="ID", nargs="+", help=f"the jobs' ids{SHORT}"),),
)
RETRY: Final = Command(
    "retry",
    "put failed or cancelled jobs back, due now, with no attempts counted",
    _retry,
    "dbq retry 5f2c9b1e8a7d4c30\ndbq retry --failed\ndbq retry --failed --type send_mail",
    (
        arg("ids", metavar="ID", nargs="*", help=f"the jobs' ids{SHORT}"),
        arg("--failed", action="store_true", help="all failed jobs"),
        arg("--type", metavar="TYPE", help="with --failed: only jobs of this type"),
    ),
)
PRUNE: Final = Command(
    "prune",
    "remove finished jobs",
    _prune,
    "dbq prune --older-than 7d\ndbq prune --older-than 30d --status failed --dry-run",
    (
        arg(
            "--older-than",
            metavar="TIME",
            help="how long ago they ended: 7d, 12h (default: the config's [prune])",
        ),
        arg(
            "--status",
            choices=FINISHED,
            action="append",
            help="only jobs in this state; may be repeated (default: completed and cancelled)",
        ),
        arg("--dry-run", action="store_true", help="only say how many"),
        arg(
            "--scheduled",
            action="store_true",
            help="for the scheduled entries: of the machines of one server, the first to ask does"
            " it, once for each time of [prune].schedule",
        ),
    ),
)
