"""The command `dbq`: parse the arguments, make one or two calls of the library, print."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import logging
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from . import __version__
from .durations import parse_duration
from .errors import JobExists, QueueError
from .job import FINISHED, STATUSES
from .log import JsonFormatter, TextFormatter
from .queue import DEFAULT_FILE, Queue
from .tsv import dump_json, escape_control
from .worker import Handlers, Options, Signals, Summary, work

if TYPE_CHECKING:
    from .fsck import Finding

DONE: Final = 0
REFUSED: Final = 1
WRONG: Final = 2

EXIT_CODES: Final = """\
exit codes:
  0  done
  1  not found, or refused
  2  wrong usage, or the queue cannot be read or written"""

EXAMPLES: Final = """\
examples:
  dbq enqueue send_mail '{"to": "zoe@example.com"}'
  dbq enqueue report '{"month": 5}' --in 10min
  dbq list --status failed
  dbq work myapp.jobs:HANDLERS
  dbq prune --older-than 7d"""


class UsageError(Exception):
    """A mistake in the arguments that argparse cannot see."""


def main(argv: list[str] | None = None) -> int:
    """Run `dbq` with these arguments (the process's own if None); returns the exit code."""
    args = _parser().parse_args(argv)
    try:
        run: Callable[[argparse.Namespace], int] = args.run
        code = run(args)
        sys.stdout.flush()
        return code
    except UsageError as error:
        return _complain(f"{error}", WRONG)
    except JobExists as error:
        return _complain(f"{error}", REFUSED)
    except QueueError as error:
        return _complain(f"{error}", WRONG)
    except BrokenPipeError:  # dbq list | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except OSError as error:
        return _complain(f"{error}", WRONG)
    except KeyboardInterrupt:
        return 130  # as the shell has it: 128 + SIGINT


def _complain(message: str, code: int) -> int:
    print(f"dbq: {escape_control(message)}", file=sys.stderr)
    return code


# -- the arguments -----------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dbq",
        description="A job queue in one plain-text file: add jobs, look at them, run them.",
        epilog=f"{EXAMPLES}\n\n{EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"dbq {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for add in (
        _add_enqueue,
        _add_list,
        _add_show,
        _add_cancel,
        _add_retry,
        _add_prune,
        _add_stats,
        _add_work,
        _add_fsck,
    ):
        add(commands)
    return parser


def _command(
    commands: Any, name: str, run: Callable[[argparse.Namespace], int], about: str, examples: str
) -> argparse.ArgumentParser:
    shown = "\n".join(f"  {line}" for line in examples.splitlines())
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=about,
        description=about[0].upper() + about[1:] + ".",
        epilog=f"examples:\n{shown}\n\n{EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--file", metavar="PATH", help=f"the queue ($DBQ_FILE; {DEFAULT_FILE} if neither)"
    )
    parser.set_defaults(run=run)
    return parser


def _add_json(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("--json", action="store_true", help=f"print {what}")


def _add_enqueue(commands: Any) -> None:
    parser = _command(
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
        "--durability", choices=("full", "normal"), default="full", help="sync it, or not"
    )


def _add_list(commands: Any) -> None:
    parser = _command(
        commands,
        "list",
        _list,
        "list jobs",
        "dbq list\ndbq list --status failed --type send_mail\ndbq list --json | jq .payload",
    )
    parser.add_argument("--status", choices=STATUSES, help="only these")
    parser.add_argument("--type", metavar="TYPE", help="only these")
    parser.add_argument("--limit", metavar="N", type=_count, help="the first N")
    _add_json(parser, "a JSON object a line")


def _add_show(commands: Any) -> None:
    parser = _command(
        commands,
        "show",
        _show,
        "show all of a job",
        "dbq show 5f2c9b1e8a7d4c30\ndbq show ID --json",
    )
    parser.add_argument("id", metavar="ID")
    _add_json(parser, "a JSON object")


def _add_cancel(commands: Any) -> None:
    parser = _command(
        commands, "cancel", _cancel, "cancel pending jobs", "dbq cancel 5f2c9b1e8a7d4c30"
    )
    parser.add_argument("ids", metavar="ID", nargs="+")


def _add_retry(commands: Any) -> None:
    parser = _command(
        commands,
        "retry",
        _retry,
        "put failed or cancelled jobs back, due now, with no attempts counted",
        "dbq retry 5f2c9b1e8a7d4c30\ndbq retry --failed\ndbq retry --failed --type send_mail",
    )
    parser.add_argument("ids", metavar="ID", nargs="*")
    parser.add_argument("--failed", action="store_true", help="all that failed")
    parser.add_argument("--type", metavar="TYPE", help="with --failed: only these")


def _add_prune(commands: Any) -> None:
    parser = _command(
        commands,
        "prune",
        _prune,
        "remove finished jobs",
        "dbq prune --older-than 7d\ndbq prune --older-than 30d --status failed --dry-run",
    )
    parser.add_argument(
        "--older-than", metavar="TIME", required=True, help="finished that long ago: 7d, 12h"
    )
    parser.add_argument(
        "--status",
        choices=FINISHED,
        action="append",
        help="only these; may be repeated (completed and cancelled if not given)",
    )
    parser.add_argument("--dry-run", action="store_true", help="only say how many")


def _add_stats(commands: Any) -> None:
    parser = _command(
        commands, "stats", _stats, "show the queue in numbers", "dbq stats\ndbq stats --json"
    )
    _add_json(parser, "a JSON object")


def _add_work(commands: Any) -> None:
    parser = _command(
        commands,
        "work",
        _work,
        "run the jobs that are due, and exit",
        "dbq work myapp.jobs:HANDLERS\n"
        "dbq work myapp.jobs:HANDLERS --linger 50s --concurrency 4\n"
        "dbq work myapp.jobs:HANDLERS --types send_mail,report --timeout 10min",
    )
    parser.add_argument(
        "handlers",
        metavar="MODULE:ATTR",
        help="a dict of type -> callable, importable from the working directory",
    )
    parser.add_argument("--types", metavar="A,B", help="take only jobs of these types")
    parser.add_argument(
        "--concurrency",
        metavar="N",
        type=_positive,
        help="so many processes, together with other runs that say so (one if not given)",
    )
    parser.add_argument("--linger", metavar="TIME", default="0", help="keep waiting for new work")
    parser.add_argument("--limit", metavar="N", type=_count, help="take at most N jobs")
    parser.add_argument("--max-seconds", metavar="N", type=float, help="take no more after that")
    parser.add_argument("--timeout", metavar="TIME", help="that a job may run")
    parser.add_argument(
        "--max-attempts", metavar="N", type=_positive, default=3, help="tries in all (3)"
    )
    parser.add_argument(
        "--durability",
        choices=("full", "normal"),
        default="full",
        help="full: what is done survives a power cut; normal: a crash of processes",
    )
    parser.add_argument(
        "--skip-unknown", action="store_true", help="leave jobs without a handler to others"
    )
    parser.add_argument("--log-file", metavar="PATH", help="log there, not on standard error")
    parser.add_argument("--log-format", choices=("text", "json"), default="text")
    parser.add_argument("-q", "--quiet", action="store_true", help="log only what goes wrong")


def _add_fsck(commands: Any) -> None:
    parser = _command(
        commands,
        "fsck",
        _fsck,
        "look for malformed lines, torn ends, duplicates and orphans",
        "dbq fsck\ndbq fsck --repair",
    )
    parser.add_argument(
        "--repair", action="store_true", help="set bad lines aside, in queue.torn; delete nothing"
    )
    _add_json(parser, "a JSON object a line")


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number")
    return int(text)


def _positive(text: str) -> int:
    if not (text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of 1 or more")
    return int(text)


def _duration(text: str) -> int:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise UsageError(f"{error}") from None


# -- the commands ------------------------------------------------------------------------------


def _queue(args: argparse.Namespace, *, must_exist: bool = True) -> Queue:
    path = args.file or os.environ.get("DBQ_FILE") or DEFAULT_FILE
    queue = Queue(path, durability=getattr(args, "durability", "full"))
    if must_exist and not queue.path.exists():
        raise UsageError(
            f"there is no queue {queue.path}; name it with --file or $DBQ_FILE"
            " (the first `dbq enqueue` makes it)"
        )
    return queue


def _enqueue(args: argparse.Namespace) -> int:
    text = sys.stdin.read() if args.payload == "-" else args.payload
    try:
        payload = json.loads(text)
    except ValueError as error:
        raise UsageError(f"the payload is no JSON: {error}: {text:.60}") from None
    queue = _queue(args, must_exist=False)
    run_at: int | float | datetime | None = None
    if args.run_at is not None:
        run_at = _point_in_time(args.run_at)
    elif args.delay is not None:
        run_at = queue.now() + _duration(args.delay)
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
    jobs = _queue(args).list_jobs(args.status, args.type, args.limit)
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
    job = _queue(args).get_job(args.id)
    if job is None:
        return _complain(f"there is no job {args.id}", REFUSED)
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
    return _for_each(args, _queue(args).cancel_job, "cancelled", "pending")


def _for_each(
    args: argparse.Namespace, verb: Callable[[str], bool], done: str, allowed: str
) -> int:
    code = DONE
    queue = _queue(args)
    for job_id in args.ids:
        if verb(job_id):
            print(f"{done} {job_id}")
            continue
        job = queue.get_job(job_id)
        why = f"is {job['status']}, not {allowed}" if job else "does not exist"
        code = _complain(f"job {job_id} {why}", REFUSED)
    return code


def _retry(args: argparse.Namespace) -> int:
    if bool(args.ids) == args.failed:
        raise UsageError("retry: name jobs by their ids, or say --failed")
    if args.type and not args.failed:
        raise UsageError("retry: --type goes with --failed")
    queue = _queue(args)
    if not args.failed:
        return _for_each(args, queue.retry_job, "pending", "failed or cancelled")
    for job_id in queue.retry_failed(args.type):
        print(f"pending {job_id}")
    return DONE


def _prune(args: argparse.Namespace) -> int:
    statuses = args.status or ("completed", "cancelled")
    age = _duration(args.older_than)
    count = _queue(args).prune_jobs(age, statuses, dry_run=args.dry_run)
    print(f"{'would remove' if args.dry_run else 'removed'} {count} jobs")
    return DONE


def _stats(args: argparse.Namespace) -> int:
    stats = _queue(args).stats()
    if args.json:
        print(dump_json(stats._asdict()))
        return DONE
    for status, count in stats.jobs.items():
        print(f"{status:11}{count:>12,}")
    last_run = "never" if stats.last_run is None else _local(stats.last_run)
    print(f"{'ready':11}{stats.ready:>12,}  (pending and due)")
    print(f"{'latency':11}{stats.latency:>10,} s  (since the oldest of them was due)")
    print(f"{'last run':11}{last_run:>23}  (of a worker)")
    print(f"{'size':11}{stats.size:>12,}  bytes")
    return DONE


def _fsck(args: argparse.Namespace) -> int:
    from . import fsck  # not needed by a worker, which should start fast

    queue = _queue(args)
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


# -- work ----------------------------------------------------------------------------------------


def _work(args: argparse.Namespace) -> int:
    _set_up_log(args)
    handlers = _load_handlers(args.handlers)
    options = _options(args)
    queue = _queue(args, must_exist=False)
    if args.concurrency is None:
        summary, failed = work(queue, handlers, options), 0
    else:
        summary, failed = _work_together(queue, handlers, options, args.concurrency)
    _log_summary(summary)
    return WRONG if failed else DONE


def _options(args: argparse.Namespace) -> Options:
    try:
        return Options(
            max_attempts=args.max_attempts,
            types=args.types.split(",") if args.types else None,
            limit=args.limit,
            max_seconds=args.max_seconds,
            linger=_duration(args.linger),
            timeout=_duration(args.timeout) if args.timeout else None,
            unknown="skip" if args.skip_unknown else "fail",
        ).check()
    except ValueError as error:
        raise UsageError(f"work: {error}") from None


def _work_together(
    queue: Queue, handlers: Handlers, options: Options, count: int
) -> tuple[Summary, int]:
    from .crew import Crew  # not needed by a single worker, which should start fast
    from .worker import rescue

    def child(number: int, signals: Signals) -> Summary:
        if queue.claims.take_slot(count) is None:
            logging.getLogger("dbbasic_queue").info("%d workers are at work already", count)
            return Summary()
        return work(queue, handlers, options.share(number, count), signals)

    crew = Crew(count, child)
    summary, failed = crew.run()
    if crew.killed:
        summary.add(rescue(queue, options))
    return summary, failed


def _log_summary(summary: Summary) -> None:
    if summary.attempts or summary.rescued:
        logging.getLogger("dbbasic_queue").info(
            "done: %d completed, %d to be retried, %d failed, %d rescued",
            summary.completed,
            summary.retried,
            summary.failed,
            summary.rescued,
            extra={"event": "done"},
        )


def _set_up_log(args: argparse.Namespace) -> None:
    handler: logging.Handler
    if args.log_file:
        # Opened by name at each run, so that logrotate needs to tell nobody.
        handler = logging.FileHandler(args.log_file, encoding="utf-8", errors="backslashreplace")
    else:
        handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if args.log_format == "json" else TextFormatter())
    log = logging.getLogger("dbbasic_queue")
    log.addHandler(handler)
    log.setLevel(logging.WARNING if args.quiet else logging.INFO)
    log.propagate = False


def _load_handlers(name: str) -> Handlers:
    module_name, _, attribute = name.partition(":")
    if not (module_name and attribute):
        raise UsageError(f"{name}: must be MODULE:ATTRIBUTE, such as myapp.jobs:HANDLERS")
    sys.path.insert(0, os.getcwd())
    try:
        found: Any = importlib.import_module(module_name)
        for part in attribute.split("."):
            found = getattr(found, part)
    except Exception as error:
        raise UsageError(f"cannot load {name}: {_where(error)}") from error
    if not hasattr(found, "get") or not hasattr(found, "keys"):
        raise UsageError(f"{name} is {type(found).__name__}, not a dict of type -> callable")
    handlers: Handlers = found
    return handlers


def _where(error: Exception) -> str:
    """What went wrong, and at which line of the application."""
    frames: Iterable[traceback.FrameSummary] = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if "importlib" not in f.filename and f.filename != __file__]
    place = f" ({own[-1].filename}, line {own[-1].lineno})" if own else ""
    return f"{type(error).__name__}: {error}{place}"


if __name__ == "__main__":
    sys.exit(main())
