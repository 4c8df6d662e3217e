"""The commands of `dbq` that add, show and change jobs."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import time
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ..errors import EditRefused, QueueError
from ..job import FINISHED, STATUSES
from ..queue import Queue
from ..support.text import dump_json, escape_control
from .common import (
    DONE,
    REFUSED,
    WRONG,
    UsageError,
    add_command,
    add_json,
    complain,
    config_of,
    count,
    duration,
    queue_of,
)

if TYPE_CHECKING:
    from ..engines.tsv.fsck import Finding


def add_enqueue(commands: Any) -> None:
    parser = add_command(
        commands,
        "enqueue",
        _enqueue,
        "add a job and print its id",
        'dbq enqueue send_mail \'{"to": "zoe@example.com"}\'\n'
        "dbq enqueue report - < payload.json\n"
        "dbq enqueue remind '{}' --run-at 2027-01-01T09:00\n"
        "dbq enqueue welcome '{}' --id welcome-17",
    )
    parser.add_argument("type", metavar="TYPE", help="which handler runs it")
    parser.add_argument(
        "payload", metavar="JSON", nargs="?", default="{}", help="a JSON object; - reads it"
    )
    when = parser.add_mutually_exclusive_group()
    when.add_argument(
        "--run-at", metavar="T", help="not before: Unix seconds or ISO 8601 (local time if bare)"
    )
    when.add_argument("--in", dest="delay", metavar="TIME", help="not before that: 50s, 10min, 2h")
    parser.add_argument("--id", metavar="ID", help="add nothing if a job has this id already")
    parser.add_argument(
        "--durability", choices=("full", "normal"), help="full: on disk when this returns"
    )


def add_list(commands: Any) -> None:
    parser = add_command(
        commands,
        "list",
        _list,
        "list jobs",
        "dbq list\ndbq list --status failed --type send_mail\ndbq list --json | jq .payload",
    )
    parser.add_argument("--status", choices=STATUSES, help="only these")
    parser.add_argument("--type", metavar="TYPE", help="only these")
    parser.add_argument("--limit", metavar="N", type=count, help="the first N")
    add_json(parser, "a JSON object a line")


def add_show(commands: Any) -> None:
    parser = add_command(
        commands,
        "show",
        _show,
        "show all of a job",
        "dbq show 5f2c9b1e8a7d4c30\ndbq show ID --json",
    )
    parser.add_argument("id", metavar="ID")
    add_json(parser, "a JSON object")


def add_cancel(commands: Any) -> None:
    parser = add_command(
        commands, "cancel", _cancel, "cancel pending jobs", "dbq cancel 5f2c9b1e8a7d4c30"
    )
    parser.add_argument("ids", metavar="ID", nargs="+")


def add_retry(commands: Any) -> None:
    parser = add_command(
        commands,
        "retry",
        _retry,
        "put failed or cancelled jobs back, due now, with no attempts counted",
        "dbq retry 5f2c9b1e8a7d4c30\ndbq retry --failed\ndbq retry --failed --type send_mail",
    )
    parser.add_argument("ids", metavar="ID", nargs="*")
    parser.add_argument("--failed", action="store_true", help="all that failed")
    parser.add_argument("--type", metavar="TYPE", help="with --failed: only these")


def add_prune(commands: Any) -> None:
    parser = add_command(
        commands,
        "prune",
        _prune,
        "remove finished jobs",
        "dbq prune --older-than 7d\ndbq prune --older-than 30d --status failed --dry-run",
    )
    parser.add_argument(
        "--older-than",
        metavar="TIME",
        help="finished that long ago: 7d, 12h (if not given, what [prune] in the config says)",
    )
    parser.add_argument(
        "--status",
        choices=FINISHED,
        action="append",
        help="only these; may be repeated (completed and cancelled if not given)",
    )
    parser.add_argument("--dry-run", action="store_true", help="only say how many")


def add_stats(commands: Any) -> None:
    parser = add_command(
        commands, "stats", _stats, "show the queue in numbers", "dbq stats\ndbq stats --json"
    )
    add_json(parser, "a JSON object")


def add_edit(commands: Any) -> None:
    add_command(
        commands,
        "edit",
        _edit,
        "edit jobs in an editor ($VISUAL, $EDITOR), while producers and workers go on",
        "dbq edit\nEDITOR=nano dbq edit\nEDITOR='code --wait' dbq edit\n"
        "EDITOR='sed -i s/old@example.com/new@example.com/' dbq edit",
    )


def add_fsck(commands: Any) -> None:
    parser = add_command(
        commands,
        "fsck",
        _fsck,
        "look for malformed lines, torn ends, duplicates and orphans",
        "dbq fsck\ndbq fsck --repair",
    )
    parser.add_argument(
        "--repair", action="store_true", help="set bad lines aside, in queue.torn; delete nothing"
    )
    add_json(parser, "a JSON object a line")


def _enqueue(args: argparse.Namespace) -> int:
    text = sys.stdin.read() if args.payload == "-" else args.payload
    try:
        payload = json.loads(text)
    except ValueError as error:
        raise UsageError(f"the payload is no JSON: {error}: {text:.60}") from None
    queue = queue_of(args, must_exist=False)
    run_at: int | float | datetime | None = None
    if args.run_at is not None:
        run_at = _point_in_time(args.run_at)
    elif args.delay is not None:
        run_at = queue.now() + duration(args.delay)
    print(queue.enqueue(args.type, payload, run_at, job_id=args.id))
    return DONE


def _point_in_time(text: str) -> float | datetime:
    with contextlib.suppress(ValueError):
        return float(text)
    try:
        return datetime.fromisoformat(text).astimezone()
    except ValueError:
        raise UsageError(
            f"--run-at {text}: neither Unix seconds nor a time such as 2027-01-01T09:00"
        ) from None


def _list(args: argparse.Namespace) -> int:
    jobs = queue_of(args).list_jobs(args.status, args.type, args.limit)
    if args.json:
        for job in jobs:
            print(dump_json(job))
        return DONE
    colours = _colours()
    print(f"{'ID':16}  {'TYPE':16}  {'STATUS':10}  {'TRIES':>5}  {'TIME':19}  ERROR OR PAYLOAD")
    for job in jobs:
        print(_line_of(job, colours))
    return DONE


def _line_of(job: dict[str, Any], colours: dict[str, str]) -> str:
    rest = escape_control(job["error"] or dump_json(job["payload"]))
    status = f"{job['status']:10}"
    if job["status"] in colours:
        status = f"\x1b[{colours[job['status']]}m{status}\x1b[0m"
    return (
        f"{job['id']:16}  {escape_control(job['type']):16}  {status}  {job['attempts']:>5}"
        f"  {_local(job['run_at'])}  {rest if len(rest) <= 60 else rest[:59] + '…'}"
    )


def _colours() -> dict[str, str]:
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR"):
        return {}
    return {"failed": "31", "completed": "32", "processing": "36", "cancelled": "2"}


def _local(seconds: float) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
    except (OverflowError, ValueError, OSError):  # a hand-written time beyond all calendars
        return f"{seconds:<19}"


def _show(args: argparse.Namespace) -> int:
    job = queue_of(args).get_job(args.id)
    if job is None:
        return complain(f"there is no job {args.id}", REFUSED)
    if args.json:
        print(dump_json(job))
        return DONE
    for name, value in job.items():
        print(f"{name:10}  {_shown(name, value)}")
    return DONE


def _shown(name: str, value: Any) -> str:
    if name in ("created_at", "run_at"):
        return f"{_local(value)}  ({value})"
    if name in ("payload", "result") and value is not None:
        return dump_json(value)
    return escape_control(str(value)) if value is not None else ""


def _cancel(args: argparse.Namespace) -> int:
    return _for_each(args, queue_of(args).cancel_job, "cancelled", "pending")


def _for_each(
    args: argparse.Namespace, verb: Callable[[str], bool], done: str, allowed: str
) -> int:
    code = DONE
    queue = queue_of(args)
    for job_id in args.ids:
        if verb(job_id):
            print(f"{done} {job_id}")
            continue
        job = queue.get_job(job_id)
        why = f"is {job['status']}, not {allowed}" if job else "does not exist"
        code = complain(f"job {job_id} {why}", REFUSED)
    return code


def _retry(args: argparse.Namespace) -> int:
    if bool(args.ids) == args.failed:
        raise UsageError("retry: name jobs by their ids, or say --failed")
    if args.type and not args.failed:
        raise UsageError("retry: --type goes with --failed")
    queue = queue_of(args)
    if not args.failed:
        return _for_each(args, queue.retry_job, "pending", "failed or cancelled")
    for job_id in queue.retry_failed(args.type):
        print(f"pending {job_id}")
    return DONE


def _prune(args: argparse.Namespace) -> int:
    removed = queue_of(args).prune_by_age(_ages(args), dry_run=args.dry_run)
    print(f"{'would remove' if args.dry_run else 'removed'} {removed} jobs")
    return DONE


def _ages(args: argparse.Namespace) -> dict[str, int]:
    """After how many seconds the jobs of each state go: what is asked, or what the config says."""
    if args.older_than is not None:
        age = duration(args.older_than)
        return dict.fromkeys(args.status or ("completed", "cancelled"), age)
    config = config_of(args)
    if config is None or config.prune is None:
        raise UsageError("prune: say --older-than, or have a [prune] section in the config")
    ages = {
        "completed": config.prune.completed,
        "cancelled": config.prune.cancelled,
        "failed": config.prune.failed,
    }
    wanted = args.status or tuple(ages)
    return {name: age for name, age in ages.items() if age is not None and name in wanted}


def _stats(args: argparse.Namespace) -> int:
    stats = queue_of(args).stats()
    if args.json:
        print(dump_json(stats._asdict()))
        return DONE
    for status, number in stats.jobs.items():
        print(f"{status:11}{number:>12,}")
    last_run = "never" if stats.last_run is None else _local(stats.last_run)
    print(f"{'ready':11}{stats.ready:>12,}  (pending and due)")
    print(f"{'latency':11}{stats.latency:>10,} s  (since the oldest of them was due)")
    print(f"{'last run':11}{last_run:>23}  (of a worker)")
    print(f"{'size':11}{stats.size:>12,}  bytes")
    return DONE


def _edit(args: argparse.Namespace) -> int:
    from ..engines.tsv import edit  # not needed by a worker, which should start fast

    try:
        command = edit.editor(os.environ)
    except ValueError as error:
        raise UsageError(f"edit: {error}") from None
    try:
        changes = edit.edit(queue_of(args), command)
    except QueueError as error:
        code = complain(f"{error}", REFUSED if isinstance(error, EditRefused) else WRONG)
        for note in getattr(error, "__notes__", ()):
            complain(note, code)
        return code
    if any(changes):
        print("changed {}, removed {}, added {} lines".format(*changes))
    else:
        print("nothing changed")
    return DONE


def _fsck(args: argparse.Namespace) -> int:
    from ..engines.tsv import fsck  # not needed by a worker, which should start fast

    queue = queue_of(args)
    findings = fsck.repair(queue) if args.repair else fsck.check(queue)
    for finding in findings:
        print(_finding(finding, queue, as_json=args.json))
    if not findings and not args.json:
        print("nothing found")
    left = [finding for finding in findings if not args.repair or finding.kind == fsck.ORPHAN]
    if args.repair and len(left) < len(findings):
        aside = queue.table.sibling("torn")
        print(f"dbq: set aside in {aside}: {len(findings) - len(left)} lines", file=sys.stderr)
    return REFUSED if left else DONE


def _finding(finding: Finding, queue: Queue, *, as_json: bool) -> str:
    if as_json:
        return dump_json({"kind": finding.kind, "line": finding.line, "message": finding.message})
    return f"{queue.path}:{finding.line}: {finding.kind}: {escape_control(finding.message)}"
