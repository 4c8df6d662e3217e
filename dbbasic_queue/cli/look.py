"""The commands of `dbq` that look at jobs: list, show.

A column of `dbq list` is a row of `COLUMNS`, below, and nothing else.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

from ..engines.progress import progress_of
from ..job import CANCELLED, COMPLETED, FAILED, PENDING, PROCESSING, error_lines
from ..job import Job as JobTuple
from ..queue import Queue
from ..support.columns import cut, fitted, width_of
from ..support.durations import format_duration
from ..support.text import dump_json, escape_control, printable
from .choosing import choice_of, filters, named, none_like
from .common import (
    DONE,
    REFUSED,
    Command,
    arg,
    complain,
    count,
    find_id,
    json_option,
    queue_of,
)
from .pausing import tell_pauses
from .secrets import REVEAL, secrets_of
from .terminal import is_coloured, painted, print_lines, relative, width_of_terminal

Job = dict[str, Any]

SAMPLE: Final = 1000  # jobs whose cells say how wide the columns are; those after them may be wider
LEAST: Final = 20  # columns of the terminal that the last column is given at least
NARROW: Final = {"TYPE": 8, "ID": 9}  # to which these are cut for that, in this order
GAP: Final = "  "


class Column(NamedTuple):
    """A column of `dbq list`."""

    title: str
    text: Callable[[Job], str]
    right: bool = False  # aligned
    coloured: bool = False  # by the job's status
    glance: Callable[[Job, float], str] | None = None  # its text on a terminal, at a time
    short: str = ""  # its title there


COLUMNS: Final = (
    Column("ID", lambda job: str(job["id"])),
    Column("TYPE", lambda job: printable(job["type"])),
    Column("STATUS", lambda job: str(job["status"]), coloured=True),
    Column("ATTEMPTS", lambda job: str(job["attempts"]), right=True, short="TRY"),
    Column(
        "DUE, BEGAN, ENDED",
        lambda job: local_time(job["run_at"]),
        glance=lambda job, now: relative(job["run_at"], now),
        short="WHEN",
    ),
    Column("ERROR OR PAYLOAD", lambda job: _gist(job)),
)
COLOURS: Final = {FAILED: "31", COMPLETED: "32", PROCESSING: "36", CANCELLED: "2"}

# What the time in the column `run_at` is, by the job's status.
MEANING: Final = {PENDING: "due", PROCESSING: "began"}
ENDED: Final = "ended"


def _gist(job: Job) -> str:
    """How far a job is, its error, or else its payload."""
    progress = progress_of(job["status"], job["result"])
    said = str(progress) if progress else job["error"] and error_lines(job["error"])[0]
    return escape_control(said) if said else dump_json(job["payload"])


# -- list ------------------------------------------------------------------------------------------


def _list(args: argparse.Namespace) -> int:
    from ..engines.choice import chosen

    user = os.geteuid()
    queue = queue_of(args)
    paged = os.geteuid() == user  # what root starts as another user must not have its terminal
    choice = choice_of(args, queue)
    ids, code = named(args, queue, to_change=False)
    if args.ids:
        choice = choice._replace(ids=tuple(ids))
    found: Iterable[JobTuple] = chosen(queue.engine, choice)
    if args.last is not None:
        found = _last(found, args.last)
    jobs = map(secrets_of(args), map(JobTuple.as_dict, found))
    empty = 0 in (args.limit, args.last)
    if args.json:
        for job in jobs:
            print(dump_json(job))
    elif not print_table(jobs, queue.now(), paged=paged) and not empty and not args.ids:
        complain(none_like(args, queue), DONE)
    if not args.json:
        tell_pauses(queue)
    return code


def _last(jobs: Iterable[JobTuple], number: int) -> Iterator[JobTuple]:
    """Yield the jobs that were added last, the newest at the end."""
    import heapq

    # Of those that were added in one second, the last ones that the engine names.
    newest = heapq.nlargest(number, enumerate(jobs), lambda each: (each[1].created_at, each[0]))
    return (job for _, job in reversed(newest))


def print_table(jobs: Iterable[Job], now: float | None = None, *, paged: bool = False) -> bool:
    """Print jobs, each a line below the titles; whether there are any.

    Args:
        jobs: what to print.
        now: Unix seconds; on a terminal, times are told beside it.
        paged: whether a terminal that they do not fit has them in a pager.
    """
    jobs = iter(jobs)
    first = list(itertools.islice(jobs, SAMPLE))
    terminal = sys.stdout.isatty()
    lines = table(
        itertools.chain(first, jobs),
        first,
        most=width_of_terminal() if terminal else None,
        coloured=is_coloured(sys.stdout),
        now=now if terminal else None,
    )
    if first:
        print_lines(lines, paged=paged)
    return bool(first)


def table(
    jobs: Iterable[Job],
    sample: Sequence[Job],
    *,
    most: int | None,
    coloured: bool,
    now: float | None = None,
) -> Iterator[str]:
    """Yield the lines of `dbq list`.

    Args:
        jobs: what to show.
        sample: the jobs whose cells say how wide the columns are.
        most: columns of the terminal, which no line is longer than; None cuts nothing.
        coloured: whether the status has a colour.
        now: Unix seconds, beside which times are told for a glance; None tells them in full.
    """

    def cells_of(job: Job) -> list[str]:
        return [
            each.text(job) if now is None or each.glance is None else each.glance(job, now)
            for each in COLUMNS
        ]

    titles = [each.title if now is None else each.short or each.title for each in COLUMNS]
    cells = [titles, *map(cells_of, sample)]
    widths = [max(width_of(row[n]) for row in cells) for n in range(len(COLUMNS) - 1)]
    if most is not None:
        _narrow(widths, most)
    yield _line(titles, widths, most)
    for job in jobs:
        yield _line(cells_of(job), widths, most, COLOURS.get(job["status"]) if coloured else None)


def _narrow(widths: list[int], most: int) -> None:
    """Take from the columns that can be cut, until the last one has `LEAST`, if that will do."""
    for title, least in NARROW.items():
        number = next(n for n, column in enumerate(COLUMNS) if column.title == title)
        missing = LEAST - (most - sum(widths) - len(GAP) * len(widths))
        widths[number] = max(min(widths[number], least), widths[number] - max(0, missing))


def _line(
    cells: Sequence[str], widths: Sequence[int], most: int | None, colour: str | None = None
) -> str:
    """A line of the table: with `most`, cells are cut to their widths, and the whole to that."""
    parts, left = [], most
    for number, cell in enumerate(cells):
        right, coloured = COLUMNS[number].right, COLUMNS[number].coloured
        if number == len(widths):
            text = cell if left is None else cut(cell, left)
        elif left is None:  # whole, however long
            text = _padded(cell, widths[number], right)
        else:
            text = fitted(cell, min(widths[number], left), right=right)
            left = max(0, left - widths[number] - len(GAP))
        if coloured and colour:
            text = painted(text, colour)
        parts.append(text)
        if left == 0:
            break
    return GAP.join(parts)


def _padded(cell: str, width: int, right: bool) -> str:
    """A whole cell with spaces up to a width."""
    if cell.isascii():  # of a pipe's many lines, most cells
        return cell.rjust(width) if right else cell.ljust(width)
    return fitted(cell, max(width, width_of(cell)), right=right)


def local_time(seconds: float) -> str:
    """Return a time in Unix seconds as the machine's clock shows it."""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
    except (OverflowError, ValueError, OSError):  # a hand-written time beyond all calendars
        return f"{seconds}"


# -- show ------------------------------------------------------------------------------------------


def _show(args: argparse.Namespace) -> int:
    queue = queue_of(args)
    job_id, why = find_id(queue, args.id)
    job = queue.get_job(job_id) if job_id else None
    if job is None:
        return complain(why, REFUSED)
    job = secrets_of(args)(job)
    if args.json:
        print(dump_json(job))
        return DONE
    now = queue.now() if sys.stdout.isatty() else None
    colour = COLOURS.get(job["status"]) if is_coloured(sys.stdout) else None
    for name, text in _facts(job, _progress(queue, job), now, colour):
        print(f"{name:8}  {text}".rstrip())
    return DONE


def _progress(queue: Queue, job: Job) -> str:
    """For how long a job has been running, and who runs it; empty for one that is not."""
    if job["status"] != PROCESSING:
        return ""
    took = format_duration(max(0, int(queue.now() - job["run_at"])))
    found = [each for each in queue.engine.running() if each.job.id == job["id"]]
    if not found:
        return f" for {took}"  # and over since it was read
    if found[0].alive is None:
        return f" for {took}; whether its worker lives cannot be seen as this user"
    if not found[0].alive:
        return f" since {took}, but its worker is dead; the next worker run takes it back"
    if found[0].process is None:
        where = "a process of another user" if queue.engine.path else "a worker of another machine"
        return f" for {took}, by {where}"
    return f" for {took}, by process {found[0].process}"


def _facts(
    job: Job, progress: str, now: float | None, colour: str | None
) -> Iterator[tuple[str, str]]:
    """What `dbq show` tells, each with its name; with the time of now, times also beside it."""
    yield "id", job["id"]
    yield "type", escape_control(job["type"])
    yield "status", f"{painted(job['status'], colour)}{progress}"
    yield "attempts", str(job["attempts"])
    yield "created", _time(job["created_at"], now)
    yield MEANING.get(job["status"], ENDED), _time(job["run_at"], now)
    yield "payload", dump_json(job["payload"])
    told = progress_of(job["status"], job["result"])
    if told is not None:
        yield "progress", escape_control(str(told))
    name = "error"
    for line in error_lines(job["error"]):
        yield name, escape_control(line)
        name = ""
    if told is None:
        yield "result", "" if job["result"] is None else dump_json(job["result"])


def _time(seconds: float, now: float | None) -> str:
    beside = str(seconds) if now is None else relative(seconds, now)
    return f"{local_time(seconds)}  ({beside})"


LIST: Final = Command(
    "list",
    "list jobs",
    _list,
    "dbq list\n"
    "dbq list --status failed --type send_mail\n"
    "dbq list --status pending --status processing\n"
    "dbq list --last 20\n"
    "dbq list --type 'mail.*' --where to=zoe@example.com --since 2h\n"
    "dbq list --json | jq .payload",
    (
        *filters()[:-1],
        (
            filters()[-1],
            arg("--last", metavar="N", type=count, help="the last N that were added"),
        ),
        json_option("a JSON object a line"),
        REVEAL,
    ),
)
SHOW: Final = Command(
    "show",
    "show all of a job",
    _show,
    "dbq show mh3k9x2a7d4c30qz\ndbq show 30qz --json",
    (
        arg("id", metavar="ID", help="the job's id, or how it begins or ends"),
        json_option("a JSON object"),
        REVEAL,
    ),
)
