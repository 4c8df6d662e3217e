"""The options by which each command of `dbq` chooses jobs, and what they choose."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final

from ..job import STATUSES
from ..queue import Queue
from ..support.durations import parse_duration
from ..support.text import counted, escape_control
from .common import (
    DONE,
    REFUSED,
    Argument,
    UsageError,
    arg,
    complain,
    count,
    find_ids,
    json_option,
    point_in_time,
)

if TYPE_CHECKING:
    from ..engines.choice import Choice

MANY: Final = 100  # jobs, above which a person is asked

SHORT: Final = "; of one that dbq made, its first or last four characters or more will do"
OF_TYPE: Final = arg(
    "--type",
    metavar="GLOB",
    action="append",
    help="only jobs of this type, such as send_mail or 'mail.*'; may be repeated",
)


def filters(statuses: Iterable[str] = STATUSES, default: str = "") -> tuple[Argument, ...]:
    """Describe the arguments that choose jobs.

    Args:
        statuses: the states that --status takes.
        default: which states are meant without it, for the help.
    """
    return (
        arg("ids", metavar="ID", nargs="*", help=f"these jobs, by their ids{SHORT}"),
        arg(
            "--status",
            choices=tuple(statuses),
            action="append",
            help=f"only jobs in this state; may be repeated{default}",
        ),
        OF_TYPE,
        arg(
            "--error",
            metavar="GLOB",
            help="only jobs with this error, such as 'TimeoutError: *'",
        ),
        arg(
            "--since",
            metavar="TIME",
            help="only jobs that changed then or later: a time as --run-at takes it, or 2h for two"
            " hours ago; one that waits changed when it was added",
        ),
        arg("--until", metavar="TIME", help="only jobs that changed then or before"),
        arg(
            "--where",
            metavar="KEY=VALUE",
            action="append",
            help="only jobs whose payload has this key with this value; may be repeated",
        ),
        arg("--limit", metavar="N", type=count, help="the first N"),
    )


CHANGING: Final = (
    arg("--dry-run", action="store_true", help="only list the jobs, as `dbq list` does"),
    arg("--yes", action="store_true", help=f"do not ask, however many there are (above {MANY})"),
    json_option("a JSON object a line: the jobs"),
    arg("--reveal", action="store_true", help="print also what [types] redact hides"),
)


def choice_of(args: argparse.Namespace, queue: Queue) -> Choice:
    """Return what the options choose, without the ids. Raises `UsageError`."""
    from ..engines.choice import choose

    now = queue.now()
    choice = choose(
        args.status,
        args.type,
        args.limit,
        error=args.error,
        since=time_of("--since", args.since, now),
        until=time_of("--until", args.until, now),
    )
    return choice._replace(where=tuple(map(_where, args.where)) if args.where else None)


def is_chosen(args: argparse.Namespace) -> bool:
    """Say whether any option chooses jobs, or an id names one."""
    named = (args.ids, args.status, args.type, args.error, args.since, args.until, args.where)
    return any(named) or args.limit is not None


def named(args: argparse.Namespace, queue: Queue, *, to_change: bool) -> tuple[list[str], int]:
    """Return the ids of the jobs that are named, and the exit code; says which are not there."""
    ids, code = [], DONE
    for job_id, why in find_ids(queue, args.ids, to_change=to_change):
        if job_id is None:
            code = complain(why, REFUSED)
        else:
            ids.append(job_id)
    return ids, code


def none_like(args: argparse.Namespace, queue: Queue, usual: Iterable[str] = ()) -> str:
    """Return what is said when no job is chosen; `usual` are the states meant without --status."""
    total = sum(queue.count_jobs().values())
    if not total:
        return f"there are no jobs in {queue.engine.url}"
    sort = " or ".join(args.status or usual) + " " if args.status or usual else ""
    types = " or ".join(map(escape_control, args.type or ()))
    kind = f" of the type {types}" if types else ""
    others = args.error or args.since or args.until or args.where
    like = " that the options choose" if others else ""
    return f"no {sort}jobs{kind}{like}, of {counted(total, 'job')} in {queue.engine.url}"


def agreed(verb: str, number: int) -> bool:
    """Ask a person on a terminal whether so many jobs are meant; whether they are."""
    if number <= MANY or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return True
    print(f"dbq: {verb} {counted(number, 'job')}? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def time_of(option: str, text: str | None, now: float) -> float | None:
    """Return the Unix seconds of a time, or of a time ago. Raises `UsageError`."""
    if text is None:
        return None
    try:
        return point_in_time(text, option)
    except UsageError:
        pass
    try:
        return now - parse_duration(text)
    except ValueError:
        raise UsageError(
            f"{option} {text}: neither a time such as 2027-01-01T09:00 nor how long ago, such as"
            " 2h or 7d"
        ) from None


def _where(text: str) -> tuple[str, tuple[Any, ...]]:
    """A key of a payload, and the values that are meant: the text, and what it is as JSON."""
    key, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f"--where {text}: write it as KEY=VALUE")
    return key, (value, *_as_json(value))


def change_of(text: str) -> tuple[str, Any]:
    """Return a key of a payload and its value, which is JSON or else a string.

    >>> change_of("n=5"), change_of("to=zoe")
    (('n', 5), ('to', 'zoe'))
    """
    key, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f"--with {text}: write it as KEY=VALUE")
    return key, next(_as_json(value), value)


def _as_json(text: str) -> Iterator[Any]:
    try:
        yield json.loads(text)
    except (ValueError, RecursionError):
        return
