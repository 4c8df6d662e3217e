"""The commands of `dbq` that look at jobs: list, show, stats.

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
from ..support.durations import format_duration
from ..support.text import dump_json, escape_control
from .choosing import choice_of, filters, named, none_like
from .common import (
    DONE,
    REFUSED,
    Command,
    arg,
    complain,
    find_id,
    json_option,
    queue_of,
)
from .secrets import REVEAL, secrets_of

Job = dict[str, Any]

SAMPLE: Final = 1000  # jobs whose cells say how wide the columns are; those after them may be wider
LEAST: Final = 20  # columns of the terminal that the last column is given at least
GAP: Final = "  "


class Column(NamedTuple):
    """A column of `dbq list`."""

    title: str
    text: Callable[[Job], str]
    right: bool = False  # aligned


COLUMNS: Final = (
    Column("ID", lambda job: str(job["id"])),
    Column("TYPE", lambda job: escape_control(job["type"])),
    Column("STATUS", lambda job: str(job["status"])),
    Column("ATTEMPTS", lambda job: str(job["attempts"]), right=True),
    Column("DUE, BEGAN, ENDED", lambda job: local_time(job["run_at"])),
    Column("ERROR OR PAYLOAD", lambda job: _gist(job)),
)
STATUS: Final = 2  # which of them has a colour
COLOURS: Final = {FAILED: "31", COMPLETED: "32", PROCESSING: "36", CANCELLED: "2"}

# What the time in the column `run_at` is, by the job's status.
MEANING: Final = {PENDING: "due", PROCESSING: "began"}
ENDED: Final = "ended"


def _gist(job: Job) -> str:
    """How far a job is, its error, or else its payload."""
    progress = progress_of(job["status"], job["result"])
    text = str(progress) if progress else error_lines(job["error"])[0] or dump_json(job["payload"])
    return escape_control(text)


# -- list ------------------------------------------------------------------------------------------


def _list(args: argparse.Namespace) -> int:
    from ..engines.choice import chosen

    queue = queue_of(args)
    choice = choice_of(args, queue)
    ids, code = named(args, queue, to_change=False)
    if args.ids:
        choice = choice._replace(ids=tuple(ids))
    jobs = map(secrets_of(args), map(JobTuple.as_dict, chosen(queue.engine, choice)))
    if args.json:
        for job in jobs:
            print(dump_json(job))
    elif not print_table(jobs) and args.limit != 0 and not args.ids:
        complain(none_like(args, queue), DONE)
    return code


def print_table(jobs: Iterable[Job]) -> bool:
    """Print jobs, each a line below the titles; whether there are any."""
    jobs = iter(jobs)
    first = list(itertools.islice(jobs, SAMPLE))
    terminal = sys.stdout.isatty()
    lines = table(
        itertools.chain(first, jobs),
        first,
        most=width_of_terminal() if terminal else None,
        coloured=terminal and not os.environ.get("NO_COLOR"),
    )
    for line in lines if first else ():
        print(line)
    return bool(first)


def width_of_terminal() -> int:
    """Return how many columns the terminal has."""
    import shutil  # here, as it imports much that a worker does not need

    return shutil.get_terminal_size().columns


def table(
    jobs: Iterable[Job], sample: Sequence[Job], *, most: int | None, coloured: bool
) -> Iterator[str]:
    """Yield the lines of `dbq list`.

    Args:
        jobs: what to show.
        sample: the jobs whose cells say how wide the columns are.
        most: columns of the terminal, beyond which the last column is cut; None cuts nothing.
        coloured: whether the status has a colour.
    """
    titles = [column.title for column in COLUMNS]
    cells = [titles, *(_cells(job) for job in sample)]
    widths = [max(width_of(row[n]) for row in cells) for n in range(len(COLUMNS) - 1)]
    rest = None
    if most is not None:
        rest = max(LEAST, most - sum(widths) - len(GAP) * len(widths))
    yield _line(titles, widths, rest)
    for job in jobs:
        colour = COLOURS.get(job["status"]) if coloured else None
        yield _line(_cells(job), widths, rest, colour)


def _cells(job: Job) -> list[str]:
    return [column.text(job) for column in COLUMNS]


def _line(
    cells: Sequence[str], widths: Sequence[int], rest: int | None, colour: str | None = None
) -> str:
    parts = []
    for number, (cell, width) in enumerate(zip(cells, widths, strict=False)):
        space = " " * (width - width_of(cell))
        text = f"\x1b[{colour}m{cell}\x1b[0m" if colour and number == STATUS else cell
        parts.append(space + text if COLUMNS[number].right else text + space)
    return GAP.join([*parts, cells[-1] if rest is None else cut(cells[-1], rest)])


def width_of(text: str) -> int:
    """Return how many columns of a terminal a text takes.

    >>> width_of("Zoë"), width_of("数")
    (3, 2)
    """
    if text.isascii():
        return len(text)
    return sum(map(_columns, text))


def cut(text: str, most: int) -> str:
    """Return a text in at most `most` columns of a terminal.

    >>> cut("abcdef", 4)
    'abc…'
    """
    if width_of(text) <= most:
        return text
    taken = itertools.accumulate(map(_columns, text))
    return text[: sum(1 for columns in taken if columns < most)] + "…"


def _columns(character: str) -> int:
    import unicodedata

    if unicodedata.combining(character) or unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


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
    for name, text in _facts(job, _progress(queue, job)):
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


def _facts(job: Job, progress: str) -> Iterator[tuple[str, str]]:
    """What `dbq show` tells, each with its name."""
    yield "id", job["id"]
    yield "type", escape_control(job["type"])
    yield "status", f"{job['status']}{progress}"
    yield "attempts", str(job["attempts"])
    yield "created", _time(job["created_at"])
    yield MEANING.get(job["status"], ENDED), _time(job["run_at"])
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


def _time(seconds: float) -> str:
    return f"{local_time(seconds)}  ({seconds})"


# -- stats -----------------------------------------------------------------------------------------


def _stats(args: argparse.Namespace) -> int:
    stats = queue_of(args).stats()
    if args.json:
        print(dump_json(stats._asdict()))
        return DONE
    for status, number in stats.jobs.items():
        print(f"{status:11}{number:>12,}")
    last_run = "never" if stats.last_run is None else local_time(stats.last_run)
    print(f"{'ready':11}{stats.ready:>12,}  (pending and due)")
    print(f"{'latency':11}{stats.latency:>10,} s  (since the oldest of them was due)")
    print(f"{'last run':11}{last_run:>23}  (of a worker)")
    print(f"{'size':11}{stats.size:>12,}  bytes")
    return DONE


LIST: Final = Command(
    "list",
    "list jobs",
    _list,
    "dbq list\n"
    "dbq list --status failed --type send_mail\n"
    "dbq list --status pending --status processing\n"
    "dbq list --type 'mail.*' --where to=zoe@example.com --since 2h\n"
    "dbq list --json | jq .payload",
    (
        *filters(),
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
STATS: Final = Command(
    "stats",
    "show the queue in numbers",
    _stats,
    "dbq stats\ndbq stats --json",
    (json_option("a JSON object"),),
)
