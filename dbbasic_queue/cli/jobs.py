"""The commands of `dbq` that add and remove jobs: enqueue, prune."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ..job import CANCELLED, COMPLETED, FINISHED
from ..queue import Queue
from ..support.text import counted
from .choosing import CHANGING, agreed, choice_of, filters, named
from .common import (
    DONE,
    DURABILITY,
    REFUSED,
    Command,
    UsageError,
    arg,
    complain,
    config_of,
    did_you_mean,
    duration,
    place_of,
    point_in_time,
    queue_of,
)

if TYPE_CHECKING:
    from ..config.sections import Config
    from ..engines.choice import Choice

# -- enqueue ---------------------------------------------------------------------------------------


def _enqueue(args: argparse.Namespace) -> int:
    if args.source is not None:
        from .intake import enqueue_from

        return enqueue_from(args)
    if args.type is None:
        raise UsageError("enqueue: name the TYPE of the job, or a file of jobs by --from")
    payload = _payload(args.payload)
    theirs = place_of(args).address is None  # the queue is the config's
    config = config_of(args) if theirs else None
    queue = queue_of(args, config, must_exist=False)
    run_at: float | None = None
    if args.run_at is not None:
        run_at = point_in_time(args.run_at)
    elif args.delay is not None:
        run_at = queue.now() + duration(args.delay)
    once: dict[str, Any] = {}
    if args.unique is not None:
        until = "end" if args.until is None else args.until
        until = until if until in ("start", "end") else duration(until)
        once = {"unique": args.unique, "unique_until": until}
    elif args.until is not None:
        raise UsageError("enqueue: --until goes with --unique KEY")
    print(queue.enqueue(args.type, payload, run_at, job_id=args.id, **once))
    sys.stdout.flush()  # the id first, also where both streams are one
    if config is not None:
        _warn_of_unknown_type(config, args.type)
    return DONE


def _warn_of_unknown_type(config: Config, job_type: str) -> None:
    """Say that no handler knows this type, where the source of the handlers is plain."""
    from .types import types_in_source

    sources = config.worker.handlers or ("[commands]",)
    known: set[str] = set()
    for source in config.worker.handlers or ():
        types = types_in_source(config.directory, source)
        if types is None:
            return
        known |= types
    known |= config.commands.keys()
    if job_type not in known:
        names = ", ".join(sorted(known)) or "no type"
        complain(
            f"warning: {' and '.join(sources)} {'has' if len(sources) == 1 else 'have'} no handler"
            f" for {job_type}; there are handlers for: {names}{did_you_mean(job_type, known)}",
            DONE,
        )


def _payload(text: str) -> Any:
    """The payload of an argument, a file or standard input, which are UTF-8 in any locale."""
    try:
        if text == "-":
            text = sys.stdin.buffer.read().decode("utf-8-sig")
        elif text.startswith("@"):
            text = Path(text[1:]).read_text("utf-8-sig")
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


# -- prune -----------------------------------------------------------------------------------------


def _prune(args: argparse.Namespace) -> int:
    queue = queue_of(args)
    if args.older_than is None and args.until is None and not args.ids and _is_off(args):
        return DONE
    if args.scheduled and not _is_to_prune(queue, args):
        print("removed before: another machine was told to at the same time")
        return DONE
    ids, code = named(args, queue, to_change=True)
    choice = choice_of(args, queue)._replace(statuses=None, ids=tuple(ids) if args.ids else None)
    ages, removed = _ages(args), None
    if any(each is not None for each in choice) or args.json:
        removed = _prune_chosen(queue, ages, choice, args)
    else:
        removed = queue.prune_by_age(ages, dry_run=args.dry_run)
    if removed is None:
        return complain("nothing was removed", REFUSED)
    if not args.dry_run:
        _fold_history(queue, args)
    if not args.dry_run and "edit" in queue.engine.can:
        from ..engines.tsv.editor import remove_old_texts

        remove_old_texts(queue.path)
    if not args.json:
        print(f"{'would remove' if args.dry_run else 'removed'} {counted(removed, 'job')}")
    return code


def _fold_history(queue: Queue, args: argparse.Namespace) -> None:
    """Add up what is older of the history than it is kept by the hour."""
    from ..engines.history import KEEP

    config = config_of(args)
    keep = config.history.keep if config is not None and config.history else KEEP
    queue.engine.fold_history(queue.now() - keep)


def _prune_chosen(
    queue: Queue, ages: dict[str, int], choice: Choice, args: argparse.Namespace
) -> int | None:
    """Remove the jobs that the options choose; returns how many, None if a person did not agree."""
    from ..engines.choosing import prunable
    from .by_hand import print_jobs

    jobs = list(prunable(queue.engine, ages, choice))
    if args.dry_run or args.json:
        print_jobs(jobs, args, queue.now())
    if args.dry_run or not jobs:
        return len(jobs)
    if not args.yes and not agreed("prune", len(jobs)):
        return None
    return queue.engine.prune(ages, ids=[job.id for job in jobs])


def _is_off(args: argparse.Namespace) -> bool:
    """Whether the config says that nothing is to be removed by its ages; if so, say that."""
    config = config_of(args)
    if config is None or config.prune is None or config.prune.enabled:
        return False
    print(f"off, by enabled = false in [prune] of {config.path}; --older-than removes all the same")
    return True


def _is_to_prune(queue: Queue, args: argparse.Namespace) -> bool:
    from .slots import claim_prune

    config = config_of(args)
    return config is None or claim_prune(queue, config)


def _ages(args: argparse.Namespace) -> dict[str, int]:
    """After how many seconds the jobs of each state go: what is asked, or what the config says."""
    if args.older_than is not None:
        age = duration(args.older_than)
        return dict.fromkeys(args.status or (COMPLETED, CANCELLED), age)
    if args.ids or args.until is not None:
        return dict.fromkeys(args.status or FINISHED, 0)
    config = config_of(args)
    if config is None or config.prune is None:
        raise UsageError("prune: say --older-than, or have a [prune] section in the config")
    ages = {status: getattr(config.prune, status) for status in args.status or FINISHED}
    return {status: age for status, age in ages.items() if age is not None}


ENQUEUE: Final = Command(
    "enqueue",
    "add a job and print its id",
    _enqueue,
    'dbq enqueue send_mail \'{"to": "zoe@example.com"}\'\n'
    "dbq enqueue report - < payload.json\n"
    "dbq enqueue report @payload.json\n"
    "dbq list --status failed --json --file old.tsv | dbq enqueue --from - --file new.tsv\n"
    "dbq enqueue remind '{}' --run-at 2027-01-01T09:00\n"
    "dbq enqueue welcome '{}' --id welcome-17\n"
    "dbq enqueue sync '{}' --unique sync-42",
    (
        arg("type", metavar="TYPE", nargs="?", help="which handler runs it"),
        arg(
            "payload",
            metavar="JSON",
            nargs="?",
            default="{}",
            help="a JSON object, {} if not given; - reads it from standard input, @PATH from a"
            " file",
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
        arg(
            "--from",
            dest="source",
            metavar="PATH",
            help="add all jobs of a file, or of standard input (-), or none: a JSON object a line,"
            " as `dbq list --json` prints them",
        ),
        (
            arg("--id", metavar="ID", help="the job's id; adds nothing if a job has it already"),
            arg(
                "--unique",
                metavar="KEY",
                help="add nothing while a job with this key is there, and print the id of that",
            ),
        ),
        arg(
            "--until",
            metavar="WHEN",
            help="with --unique: such a job counts as there until its start, its end (default), or"
            " for a time since it was added: 10min",
        ),
        DURABILITY,
    ),
)
PRUNE: Final = Command(
    "prune",
    "remove finished jobs",
    _prune,
    "dbq prune --older-than 7d\ndbq prune --older-than 30d --status failed --dry-run\n"
    "dbq prune --older-than 0s --type 'import.*' --where file=a.csv",
    (
        arg(
            "--older-than",
            metavar="TIME",
            help="how long ago they ended: 7d, 12h (default: the config's [prune]; with ids or"
            " --until, however long)",
        ),
        *filters(FINISHED, " (default: completed and cancelled)"),
        *CHANGING,
        arg(
            "--scheduled",
            action="store_true",
            help="for the scheduled entries: of the machines of one server, the first to ask does"
            " it, once for each time of [prune].schedule",
        ),
    ),
)
