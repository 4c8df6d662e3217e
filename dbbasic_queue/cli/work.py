"""The command `dbq work`: the worker, from the arguments and the config."""

from __future__ import annotations

import argparse
import logging
import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ..engines.interface import Policies, Policy
from ..errors import QueueError
from ..log import JsonFormatter, TextFormatter
from ..queue import DEFAULT_FILE, Queue
from ..support.durations import format_duration
from ..support.files import given_path
from ..worker.handlers import Handlers
from ..worker.loop import Summary, work
from ..worker.options import Options
from ..worker.records import keep
from ..worker.signals import StopSignals
from ..worker.status import service_manager
from ..worker.surroundings import end_in_time
from .common import (
    DONE,
    DURABILITY,
    WRONG,
    Command,
    UsageError,
    arg,
    complain,
    config_of,
    count,
    duration,
    place_of,
    positive,
    queue_of,
    reason,
    table_of,
)
from .handlers import handlers_of
from .log_file import LogFile, StderrLog, set_up, to_terminal

if TYPE_CHECKING:
    from ..config.sections import Config

log = logging.getLogger("dbbasic_queue")

PAUSE: Final = 30  # seconds from an error of a worker that runs forever to its end


def _work(args: argparse.Namespace) -> int:
    if not args.forever or to_terminal():
        return _run_jobs(args)
    try:
        return _run_jobs(args)
    except (UsageError, QueueError, OSError) as error:
        code = complain(reason(error), WRONG)
    except Exception:
        sys.excepthook(*sys.exc_info())
        code = WRONG
    complain(f"ends in {PAUSE} s; what starts it again need not do so sooner", code)
    time.sleep(PAUSE)
    return code


def _run_jobs(args: argparse.Namespace) -> int:
    """Run the jobs as the arguments and the config say; returns the exit code."""
    config = config_of(args)
    if os.geteuid() == 0:
        settle_as_root(args, config)
    if config is not None:
        _set_umask(config)
    _set_up_log(args, config)
    if config is not None and not config.worker.enabled and not args.handlers:
        return _off(args, config)
    handlers = handlers_of(args.handlers, config)
    if handlers is None:
        raise UsageError("work: name the handlers, such as myapp.jobs:HANDLERS, or a --config")
    options = _options(args, config)
    queue = queue_of(args, config, must_exist=False)
    if config is not None and any(job.catch_up for job in config.recurring):
        from ..schedule.recurring import catch_up
        from .slots import server_slots

        catch_up(config.recurring_jobs, queue.enqueue, queue.now(), server_slots(queue))
    watched = to_terminal()
    if watched and options.linger:
        linger = "" if args.forever else f" {format_duration(int(options.linger))}"
        complain(f"run what is due, then wait{linger} for more; Ctrl-C ends it", DONE)
    at_once = args.places or _concurrency(args, config)
    alone = args.places is not None
    with _foot(args, queue, options):
        summary, failed = _run(queue, handlers, options, at_once, alone, _came_by(args, config))
    _log_summary(summary)
    done = summary.attempts or summary.rescued or summary.stopped or summary.cancelled
    if watched and not (done or failed):
        complain("there was nothing to do", DONE)
    code = WRONG if failed else DONE
    end_in_time(code)
    return code


def _off(args: argparse.Namespace, config: Config) -> int:
    """Say that the config switches its worker off; returns the exit code."""
    log.info(
        "off, by enabled = false in [worker] of %s; dbq work MODULE:ATTR works all the same",
        config.path,
        extra={"event": "off"},
    )
    if args.forever and not to_terminal():
        time.sleep(PAUSE)  # an entry of before, which is started again each time
    return DONE


def _foot(args: argparse.Namespace, queue: Queue, options: Options) -> AbstractContextManager[None]:
    """Return what keeps a line at the foot of the terminal; nothing where none is wanted."""
    if args.quiet or args.log_format != "text" or not _has_features():
        return nullcontext()
    from .foot import line_at_the_foot
    from .terminal import is_coloured

    return line_at_the_foot(queue.engine, options.types, is_coloured(sys.stderr))


def _has_features() -> bool:
    """Whether standard error is a terminal that does more than a typewriter."""
    return to_terminal() and os.environ.get("TERM", "dumb") != "dumb"


def _came_by(args: argparse.Namespace, config: Config | None) -> list[str]:
    """The paths that lead to the code: one may be a link that deployments turn."""
    if config is None or args.handlers:
        return [str(given_path(os.curdir))]
    return [str(config.path), str(config.directory)]


def settle_as_root(args: argparse.Namespace, config: Config | None, verb: str = "work") -> None:
    """Become the worker's user and never return; or make sure that handlers may run as root."""
    from .as_root import require_roots_alone, work_as_worker, worker_of

    account = worker_of(config) if config is not None else None
    if config is not None and account is not None:
        complain(f"working as {account.name} ([worker].user), not as root", DONE)
        work_as_worker(config, account, args.words, verb)
    place = place_of(args)
    if place.address is None and config is not None:
        table = config.queue.file
    else:
        table = table_of(place.address or DEFAULT_FILE)
    own = getattr(args, "handlers", None)
    folder = config.directory if config and not own else Path.cwd()
    require_roots_alone(config, table, folder)
    if to_terminal():
        complain("working as root, whose alone the queue and the handlers are", DONE)


def _options(args: argparse.Namespace, config: Config | None) -> Options:
    """What the arguments say, what the config says where they are silent, the defaults."""
    worker = config.worker if config else None
    linger: float = worker.linger if worker else 0
    if args.linger is not None:
        linger = duration(args.linger)
    timeout = worker.timeout if worker else None
    # A run that the clock starts ends by itself, and the rest would wait for the next one.
    most, age = (worker.max_jobs, worker.max_age) if worker and args.forever else (None, None)
    try:
        return Options(
            max_attempts=args.max_attempts or (worker.max_attempts if worker else 3),
            types=args.types.split(",") if args.types else None,
            limit=most if args.limit is None else args.limit,
            max_seconds=age if args.max_seconds is None else args.max_seconds,
            linger=math.inf if args.forever else linger,
            timeout=timeout if args.timeout is None else duration(args.timeout),
            unknown="skip" if args.skip_unknown else "fail",
            policies=_policies(args, config),
        ).check()
    except ValueError as error:
        raise UsageError(f"work: {error}") from None


def _policies(args: argparse.Namespace, config: Config | None) -> Policies:
    """What the config says of types, but for what the arguments say for all."""
    return Policies(
        {
            name: Policy(
                max_attempts=said.max_attempts if args.max_attempts is None else None,
                timeout=said.timeout if args.timeout is None else None,
                backoff=said.backoff,
                priority=said.priority,
                expires=said.expires,
                concurrency=said.concurrency,
                rate=said.rate,
            )
            for name, said in (config.types if config else {}).items()
        }
    )


def _concurrency(args: argparse.Namespace, config: Config | None) -> int | None:
    """How many processes at most, with those of other runs; None: this one, whatever others do."""
    if args.concurrency is not None:
        return int(args.concurrency)
    if args.forever:  # each of its processes is started by a service manager
        return None
    return config.worker.concurrency if config else None


def _run(
    queue: Queue,
    handlers: Callable[[], Handlers],
    options: Options,
    count: int | None,
    alone: bool = False,
    came_by: Sequence[str] = (),
) -> tuple[Summary, int]:
    """Work in one process or several; returns what was done, and how many processes failed.

    With `alone`, this process is one of the `count`.
    """
    engine = queue.engine

    def run(options: Options, signals: StopSignals) -> Summary:
        # Before the handlers are loaded: code that is new from then on is not theirs.
        renewal = None
        if options.linger:
            from ..worker.renewal import Renewal  # here, as a run of the timer's does not linger

            renewal = Renewal(engine.restart_mark, came_by)
        return work(engine, handlers(), options, signals, count, queue, renewal)

    tell_manager = service_manager()
    if count is None or count == 1 or alone:
        signals = StopSignals(_tell if to_terminal() else None)
        signals.status = tell_manager
        return run(options, signals), 0
    from ..worker.loop import rescue  # not needed by a single worker, which should start fast
    from ..worker.processes import WorkerProcesses

    def child(number: int, signals: StopSignals) -> Summary:
        # Loaded here, so that the processes share no connection that the application opens.
        return run(options.share(number, count), signals)

    processes = WorkerProcesses(count, child, _tell, tell_manager)
    summary, failed = processes.run()
    if processes.lost:
        # In a child again: the handlers may say how often their jobs are tried.
        again = WorkerProcesses(1, lambda number, signals: rescue(engine, handlers(), options))
        rescued, more = again.run()
        summary.add(rescued)
        failed += more
    return summary, failed


def _log_summary(summary: Summary) -> None:
    if summary.attempts or summary.rescued or summary.cancelled:
        log.info(
            "done: %d completed, %d to be retried, %d failed, %d rescued%s",
            summary.completed,
            summary.retried,
            summary.failed,
            summary.rescued,
            f", {summary.cancelled} cancelled" if summary.cancelled else "",
            extra={"event": "done"},
        )


def _tell(job_id: str) -> None:
    """Answer a person's Ctrl-C. In a signal handler, so without the locks of print and logging."""
    if to_terminal():
        message = f"\ndbq: finishing {job_id}; once more to break it off\n"
        os.write(sys.stderr.fileno(), message.encode("ascii", "backslashreplace"))


def _set_umask(config: Config) -> None:
    """Set the umask to [worker].umask, else to one that gives new files the folder's rights.

    So those who may look into the queue's folder may read what the jobs write there, whatever umask
    cron, systemd or a shell has.
    """
    umask, table = config.worker.umask, config.queue.file
    if umask is None and table is not None:
        with suppress(FileNotFoundError):  # the folder will be made with the rights of the umask
            umask = ~table.parent.stat().st_mode & 0o777
    if umask is not None:
        os.umask(umask)


def _set_up_log(args: argparse.Namespace, config: Config | None) -> None:
    """Log to --log-file, the config's, or standard error; on a terminal there in any case."""
    path: str | Path | None = args.log_file
    if path is None and config is not None and config.log is not None:
        path = config.log.file
    if path == "-":
        path = None
    formatter = JsonFormatter() if args.log_format == "json" else TextFormatter()
    handlers: list[logging.Handler] = []
    if path is not None:
        handlers.append(LogFile(path, formatter))
    if path is None or to_terminal():
        handlers.append(StderrLog(_coloured(formatter)))
    set_up(handlers, logging.WARNING if args.quiet else logging.INFO)
    keep(handlers[0], unheard=path is None)


def _coloured(formatter: logging.Formatter) -> logging.Formatter:
    """The formatter for standard error: on a terminal, text has colours."""
    if not isinstance(formatter, TextFormatter) or not _has_features():
        return formatter
    from .foot import ColourFormatter
    from .terminal import is_coloured

    return ColourFormatter() if is_coloured(sys.stderr) else formatter


WORK: Final = Command(
    "work",
    "run the jobs that are due, and exit",
    _work,
    "dbq work myapp.jobs:HANDLERS\n"
    "dbq work --config /etc/myapp/dbq.toml\n"
    "dbq work myapp.jobs:HANDLERS --linger 50s --concurrency 4\n"
    "dbq work myapp.jobs:HANDLERS --types send_mail,report --timeout 10min",
    (
        arg(
            "handlers",
            metavar="MODULE:ATTR",
            nargs="*",
            help="a dict of job type -> function, importable from the working directory; or"
            " several (default: the config's [worker].handlers); the config's [commands] are run"
            " besides",
        ),
        arg("--types", metavar="A,B", help="take only jobs of these types"),
        arg(
            "--concurrency",
            metavar="N",
            type=positive,
            help="how many processes work, together with other runs that say so"
            " (default: this one)",
        ),
        arg(
            "--places",
            metavar="N",
            type=positive,
            help="work in this process alone, and only while fewer than N others do that say so",
        ),
        (
            arg("--linger", metavar="TIME", help="how long to keep waiting for new jobs"),
            arg(
                "--forever",
                action="store_true",
                help="keep waiting until it is stopped, in this process alone: for a service",
            ),
        ),
        arg("--limit", metavar="N", type=count, help="take at most N jobs"),
        arg("--max-seconds", metavar="N", type=float, help="take no more jobs after that"),
        arg("--timeout", metavar="TIME", help="how long one job may run"),
        arg("--max-attempts", metavar="N", type=positive, help="attempts in total (3)"),
        DURABILITY,
        arg("--skip-unknown", action="store_true", help="leave jobs without a handler to others"),
        arg("--log-file", metavar="PATH", help="log there; -: on standard error"),
        arg(
            "--log-format",
            choices=("text", "json"),
            default="text",
            help="the format of the log (text)",
        ),
        arg("-q", "--quiet", action="store_true", help="log only what goes wrong"),
    ),
)
