"""The commands of `dbq` that need the queue's file itself: edit, fsck."""

from __future__ import annotations

import argparse
import os
import sys
from functools import partial
from typing import TYPE_CHECKING, Final, cast

from ..errors import EditRefused, QueueError, Unsupported
from ..queue import Queue
from ..support.text import counted, dump_json, escape_control
from .common import (
    DONE,
    REFUSED,
    WRONG,
    Command,
    UsageError,
    arg,
    complain,
    find_id,
    json_option,
    queue_of,
    reason,
)

if TYPE_CHECKING:
    from ..engines.tsv.engine import TsvEngine
    from ..engines.tsv.fsck import Finding


# What to do with a queue on a server instead.
_INSTEAD: Final = {
    "edit": "cancel the job and enqueue it anew, by dbq cancel and dbq enqueue",
    "fsck": "its server keeps it in order; dbq check asks how the server is, dbq-health the queue",
}

_OF_THE_CLOCK: Final = ("recurring", "notified")  # files beside a queue, by their endings
LONG: Final = 32 << 20  # bytes of a table; others hardly notice it when a shorter one is edited
PACE: Final = 200e6  # bytes of a table that are written anew in a second


def _edit(args: argparse.Namespace) -> int:
    from ..engines.tsv import edit, editor  # not needed by a worker, which should start fast

    try:
        command = editor.editor(os.environ)
    except ValueError as error:
        raise UsageError(f"edit: {error}") from None
    queue = queue_of(args, starts_programs=True)
    engine = _file_engine(queue, "edit")
    ids = []
    for text in args.ids:
        job_id, why = find_id(queue, text)
        if job_id is None:
            return complain(why, REFUSED)
        ids.append(job_id)
    watched = sys.stdin.isatty() and sys.stderr.isatty()
    size = engine.table.snapshot()[1]
    if size > LONG:
        wait = max(1, round(size / PACE))
        print(
            f"dbq: the queue has {size >> 20} MiB: while a change is written, others wait for about"
            f" {wait} s",
            file=sys.stderr,
        )
    try:
        changes = edit.edit(
            engine, command, queue.max_payload, ids=ids or None, again=_again if watched else None
        )
    except QueueError as error:
        code = complain(reason(error), REFUSED if isinstance(error, EditRefused) else WRONG)
        for note in getattr(error, "__notes__", ()):
            complain(note, code)
        return code
    if any(changes):
        changed, removed, added = changes
        print(f"{counted(changed, 'job')} changed, {removed} removed, {added} added")
    else:
        print("nothing changed")
    return DONE


def _again(reasons: str) -> bool:
    """Ask whether to open the editor again, as visudo(8) does."""
    complain(reasons, REFUSED)
    print("dbq: edit it again, at that line? [Y/n] ", end="", file=sys.stderr, flush=True)
    try:
        answer = sys.stdin.readline()
    except KeyboardInterrupt:
        answer = ""
    return answer.endswith("\n") and answer.strip().lower() in ("", "y", "yes", "e")


def _fsck(args: argparse.Namespace) -> int:
    from ..engines.tsv import fsck  # not needed by a worker, which should start fast

    queue = queue_of(args)
    engine = _file_engine(queue, "fsck")
    findings = fsck.repair(engine) if args.repair else fsck.check(engine)
    findings += _of_the_clock(engine, repair=args.repair)
    for finding in findings:
        print(_finding(finding, queue, as_json=args.json))
    if not findings and not args.json:
        print("nothing found")
    left = [finding for finding in findings if not args.repair or finding.kind == fsck.ORPHAN]
    if args.repair and len(left) < len(findings):
        aside = queue.path.with_suffix(".torn")
        print(
            f"dbq: set aside in {aside}: {counted(len(findings) - len(left), 'line')}",
            file=sys.stderr,
        )
    return REFUSED if left else DONE


def _of_the_clock(engine: TsvEngine, *, repair: bool) -> list[Finding]:
    """What is wrong with the files of what the clock starts; with `repair` it is set aside."""
    from ..engines.tsv.aside import set_aside
    from ..engines.tsv.fsck import Finding
    from ..health import notify
    from ..schedule import marks

    found: list[Finding] = []
    for kind, module in zip(_OF_THE_CLOCK, (marks, notify), strict=True):
        path = engine.table.sibling(kind)
        bad = module.bad_lines(path)
        if bad and repair:
            engine.table.require_owner("fsck --repair")
            module.mend(path, partial(set_aside, engine.table))
        found += (Finding(kind, number, why, 0) for number, why in bad)
    return found


def _file_engine(queue: Queue, verb: str) -> TsvEngine:
    """The engine of a queue that can do this; raises `Unsupported` for one that cannot."""
    if verb not in queue.engine.can:
        raise Unsupported(f"{verb}: {queue.engine.url} is not a file: {_INSTEAD[verb]}")
    return cast("TsvEngine", queue.engine)


def _finding(finding: Finding, queue: Queue, *, as_json: bool) -> str:
    from ..engines.tsv.fsck import BESIDE

    if as_json:
        return dump_json({"kind": finding.kind, "line": finding.line, "message": finding.message})
    path = queue.path
    if finding.kind in (*BESIDE, *_OF_THE_CLOCK):
        path = path.with_suffix(f".{finding.kind}")
    return f"{path}:{finding.line}: {finding.kind}: {escape_control(finding.message)}"


EDIT: Final = Command(
    "edit",
    "edit jobs in an editor ($VISUAL, $EDITOR), while producers and workers go on",
    _edit,
    "dbq edit\ndbq edit 30qz\nEDITOR=nano dbq edit\nEDITOR='code --wait' dbq edit\n"
    "EDITOR='sed -i s/old@example.com/new@example.com/' dbq edit",
    (
        arg(
            "ids",
            metavar="ID",
            nargs="*",
            help="only these jobs, by their ids or how these begin or end",
        ),
    ),
)
FSCK: Final = Command(
    "fsck",
    "look for malformed lines, torn ends, duplicates, orphans, and in the files beside the queue",
    _fsck,
    "dbq fsck\ndbq fsck --repair",
    (
        arg(
            "--repair",
            action="store_true",
            help="move bad lines to queue.torn; nothing is deleted",
        ),
        json_option("a JSON object a line"),
    ),
)
