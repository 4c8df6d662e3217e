"""The command `dbq-health`, which also answers as the monitoring plugin `check_dbq`."""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar

from ..config import sections as configs
from ..config.search import SYSTEM_CONFIG
from ..config.whose import require_own
from ..engines.interface import Policies, Policy
from ..errors import QueueError
from ..health import formats
from ..health.advice import Advice
from ..health.judge import check_health
from ..health.measures import CRIT, RANGED, WARN
from ..health.push import FAILURE, SECONDS, START, SUCCESS, last_contact, ping, write_textfile
from ..health.report import (
    OK,
    UNKNOWN,
    WARNING,
    Expectation,
    Finding,
    HealthReport,
    Thresholds,
)
from ..health.thresholds import Range
from ..health.worked import by_type
from ..queue import DEFAULT_FILE, Queue
from ..support.account import Account
from ..support.address import masked
from ..support.child import ChildDied, ChildTimeout, call
from ..support.durations import format_duration, parse_duration
from ..version import VERSION
from .as_root import prepare, worker_of
from .common import TRIED, UsageError, Where, hold_descriptors, table_of, where

T = TypeVar("T")

AGES: Final = {
    "stuck_after": "a job is stuck when it is processing for longer",
    "overdue_after": "a due job is overdue when no worker takes it for longer",
    "silent_after": "workers are silent when none has run for longer",
    "failed_within": "how long a failed job counts",
}
NAMES: Final = (5, 20, 100, 1000)  # how many jobs of a kind are named, by the number of -v
TIMEOUT: Final = 10.0  # seconds

EPILOG: Final = """\
By default, any stuck job and any malformed line is CRITICAL, a failed job a WARNING and ten of them
CRITICAL, an overdue job a WARNING, silence CRITICAL when jobs are due and a WARNING otherwise.
Silence counts where a worker has run before, or a config says that one should, from the start of
the machine on. A config's recurring jobs that are not enqueued are a WARNING.
A RANGE is written as in the Monitoring Plugins' guidelines: 10 (alert outside 0 to 10), 10:, ~:10,
10:20, @10:20 (alert inside). ~: switches an alert off.
A TIME is 90, 50s, 10min, 1h30min or 7d.

examples:
  dbq-health --format text
  dbq-health --file /var/lib/myapp/queue.tsv --failed-warning 5 --failed-critical 50
  dbq-health --config /etc/myapp/dbq.toml --latency-critical 600
  dbq-health --config /etc/myapp/dbq.toml --report
  dbq-health --format json | jq .stuck
  dbq-health --textfile /var/lib/prometheus/node-exporter/dbq-myapp.prom

exit status, in every format:
  0  OK
  1  WARNING
  2  CRITICAL
  3  UNKNOWN: no readable queue, wrong arguments, a fault in the config, time-out, an error in the
     check itself; --help and --version, too"""


@dataclass(frozen=True)
class Settings:
    """What to check, and where to report it."""

    file: Path | None  # None: the queue is on a server
    given: str | None  # its address; None: that of `own`
    own: configs.Config | None  # the config whose queue it is
    url: str | None  # of a server, without its password
    queue: str
    thresholds: Thresholds
    expected: Expectation | None
    advice: Advice
    place: Where
    textfile: Path | None
    ping_url: str | None
    contact: int | None = None  # Unix seconds; when its server was last reached
    user: Account | None = None  # that the check becomes, if root runs it

    @property
    def address(self) -> str | Path:
        """The queue's address, which may be in a file that only the user can read."""
        return self.file or self.given or (self.own.address() if self.own else DEFAULT_FILE)

    @property
    def options(self) -> dict[str, Any]:
        """How the queue is opened."""
        return self.own.queue_options if self.own else {}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the check with these arguments (the process's own if None); returns the exit code.

    Whatever happens, that code is a state, and one clean line says what happened.
    """
    began = time.monotonic()
    hold_descriptors()
    options = argparse.Namespace(format=None, report=False, verbose=0, quiet=False)
    try:
        options = _parser().parse_args(arguments)
        if options.help or options.version:
            _print(_parser().format_help() if options.help else f"dbq-health {VERSION}\n", options)
            return UNKNOWN
        found = _run(options, began + options.timeout)
        if isinstance(found, str):
            if not options.quiet:
                _print(found, options)
            return OK
        report = found
    except UsageError as error:
        report = _no_report(f"{error}; see --help")
    except (ChildTimeout, ChildDied, QueueError) as error:
        report = _no_report(_reason(error, options))
    except KeyboardInterrupt:
        report = _no_report("interrupted")
    except Exception as error:  # an exit code of 1 would mean WARNING
        report = _no_report(f"error in the check: {type(error).__name__}: {error}")
    if not (options.quiet and report.state == OK):
        _print(_render(report, options), options)
    return report.state


def _no_report(reason: str) -> HealthReport:
    """Return the report of a check that could not be made."""
    finding = Finding("check", UNKNOWN, reason)
    return HealthReport("", Path(), int(time.time()), Thresholds(), None, None, (finding,))


# -- the arguments ---------------------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    """A parser whose mistakes do not end the program: its exit code, 2, would mean CRITICAL."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="dbq-health",
        description="Check the health of a queue, as a monitoring plugin does. Changes nothing.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        add_help=False,
    )
    parser.add_argument("-h", "--help", action="store_true", help="show this help, exit with 3")
    parser.add_argument("-V", "--version", action="store_true", help="show the version, likewise")
    _add_what(parser)
    _add_how(parser)
    _add_thresholds(parser)
    return parser


def _add_what(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config",
        metavar="PATH",
        help=f"the config, for the queue and its [health] ($DBQ_CONFIG; ./dbq.toml;"
        f" {SYSTEM_CONFIG})",
    )
    parser.add_argument(
        "--file", metavar="PATH", help=f"the queue ($DBQ_FILE; the config's; {DEFAULT_FILE})"
    )
    parser.add_argument(
        "--url", metavar="URL", help="the queue on a server ($DBQ_URL; the config's)"
    )


def _add_how(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--format",
        choices=("nagios", "text", "prometheus", "json"),
        help="of the output (nagios; with --report: text)",
    )
    parser.add_argument(
        "--report",
        action="store_true",
        help="write the config's textfile and call its ping_url: for the scheduled check",
    )
    parser.add_argument(
        "--no-report",
        dest="report",
        action="store_false",
        help="leave them alone, as without --report",
    )
    parser.add_argument(
        "--textfile", metavar="PATH", help="write Prometheus's format there, for node_exporter"
    )
    parser.add_argument(
        "-t",
        "--timeout",
        metavar="SECONDS",
        type=_seconds,
        default=TIMEOUT,
        help=f"give up after that, with 3 ({TIMEOUT:g})",
    )
    parser.add_argument(
        "-v", "--verbose", action="count", default=0, help="name more jobs; may be repeated"
    )
    parser.add_argument(
        "-q",
        "--quiet",
        action="store_true",
        help="print nothing if all is well (cron would mail it)",
    )


def _add_thresholds(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("thresholds (they win over the config's)")
    usual = configs.HealthConfig()
    for name, what in AGES.items():
        group.add_argument(
            f"--{name.replace('_', '-')}",
            metavar="TIME",
            type=_duration,
            help=f"{what} ({format_duration(getattr(usual, name))})",
        )
    for name, measure in RANGED.items():
        for level, ranges in (("warning", WARN), ("critical", CRIT)):
            default = f" ({ranges[name]})" if name in ranges else ""
            group.add_argument(
                f"--{name}-{level}",
                metavar="RANGE",
                type=_range,
                help=f"{level.upper()} when {measure.means} is outside it{default}",
            )


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= 86_400:
        raise argparse.ArgumentTypeError(f"{text!r:.60} is not a number of seconds from 1 to 86400")
    return seconds


def _duration(text: str) -> int:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _range(text: str) -> Range:
    try:
        return Range.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


# -- one run ---------------------------------------------------------------------------------------


def _run(options: argparse.Namespace, until: float) -> HealthReport | str:
    """Find out what to check, report that it begins, check, report how it went.

    Where the config says that the schedule is to report nothing, that is returned in words.
    """
    for_ping = min(SECONDS, options.timeout / 4)
    settings = _in_time(lambda: _settings(options), until)
    health = settings.own.health if settings.own else None
    if options.report and health is not None and not health.enabled:
        return "off, by enabled = false in [health]; without --report it looks all the same\n"
    url = settings.ping_url
    if url:
        ping(url, START, seconds=for_ping)
    try:
        names = NAMES[min(options.verbose, len(NAMES) - 1)]
        if settings.user:
            prepare(server=settings.url is not None)
        until -= for_ping if url else 0
        metrics = options.format == "prometheus"
        report = _in_time(lambda: _examine(settings, names, metrics), until, settings.user)
    except (ChildTimeout, ChildDied, QueueError) as error:
        report = _no_report(_reason(error, options))
    report = replace(report, queue=settings.queue, path=settings.file or Path(), url=settings.url)
    if url:  # a warning is for a person to read, not to be woken up by
        kind = SUCCESS if report.state in (OK, WARNING) else FAILURE
        ping(url, kind, formats.headline(report), seconds=for_ping)
    if options.report and settings.own and settings.own.notify:
        _notify(settings, settings.own, report)
    return report


def _notify(settings: Settings, config: configs.Config, report: HealthReport) -> None:
    """Tell those that [notify] names, as the worker's user."""
    from ..health.notify import tell

    def payload_of(job_id: str) -> Any:
        job = Queue(settings.address, **settings.options).find_job(job_id)
        return job.payload if job is not None else None

    notify, table = config.notify, config.queue.file
    file = notify.remember if notify else None
    if file is None and table is not None:
        file = table.with_suffix(".notified")
    if notify is not None and file is not None:  # a server's has one, or it was refused
        tell(notify, report, file, payload_of, settings.user)


def _reason(error: Exception, options: argparse.Namespace) -> str:
    if isinstance(error, ChildTimeout):
        return f"no answer within {options.timeout:g} s"
    if isinstance(error, ChildDied):
        return f"the check {error}"
    return "; ".join(str(error).splitlines())


def _in_time(function: Callable[[], T], until: float, user: Account | None = None) -> T:
    return call(function, max(0.001, until - time.monotonic()), user=user)


def _examine(settings: Settings, names: int, metrics: bool = False) -> HealthReport:
    """Check the queue, and write the textfile; with `metrics`, tell also what workers did."""
    report = check_health(
        settings.address,
        settings.thresholds,
        queue=settings.queue,
        expected=settings.expected,
        advice=settings.advice,
        names=names,
        options=settings.options,
        contact=settings.contact,
    )
    if not settings.place.named and settings.file and not os.path.lexists(settings.file):
        (finding,) = report.findings
        tried = f"tried {', '.join(TRIED)}"
        report = replace(report, findings=(replace(finding, advice=(tried, *finding.advice)),))
    if metrics or settings.textfile is not None:
        report = _with_history(report, settings)
    if settings.textfile is not None:
        try:
            write_textfile(settings.textfile, formats.prometheus(report))
        except QueueError as error:
            summary = getattr(error, "strerror", None) or str(error)
            finding = Finding("textfile", WARNING, summary)
            return replace(report, findings=(*report.findings, finding))
    return report


def _with_history(report: HealthReport, settings: Settings) -> HealthReport:
    """Add what workers did, if it can be read; the queue could be, else that is told already."""
    if report.snapshot is None:
        return report
    try:
        hours = Queue(settings.address, **settings.options).engine.history()
    except QueueError as error:
        finding = Finding("history", WARNING, getattr(error, "strerror", None) or str(error))
        return replace(report, findings=(*report.findings, finding))
    return replace(report, worked=by_type(hours))


def _settings(options: argparse.Namespace) -> Settings:
    """Put together the arguments, the environment and the config."""
    place = where(options.file, options.config, url=options.url)
    # A queue that is named by itself needs no config, so only one that is named beside it counts.
    config_path = options.config if options.file or options.url else place.config
    config = configs.load(config_path) if config_path else None
    ages = (config and config.health) or configs.HealthConfig()
    given = {name: value for name in AGES if (value := getattr(options, name)) is not None}
    address = place.address or DEFAULT_FILE
    own = config if place.address is None else None  # the config whose queue it is
    if own and config_path:
        file, named_by = own.queue.file, ["--config", config_path]
    else:
        file = table_of(address)
        named_by = ["--file", str(file)] if file else _naming(place)
    if file and config and config.queue.file:
        same = os.path.realpath(file) == os.path.realpath(config.queue.file)
        own = config if same else None
    url = None if file else own.shown_address if own else masked(address)
    told = ages if own and options.report else configs.HealthConfig()
    user = worker_of(own) if own and os.geteuid() == 0 else None
    reports = told.textfile or told.ping_url or (options.report and own and own.notify)
    if own and user is None and os.geteuid() == 0 and reports:
        require_own(own.path, "the config", None)
    configured = own.health.textfile if own and own.health else None
    textfile = Path(options.textfile) if options.textfile else configured
    return Settings(
        file=file,
        given=place.address,
        own=own,
        url=url,
        queue=own.name if own else url or os.path.abspath(file or address),
        thresholds=Thresholds(
            replace(ages, **given),
            {**WARN, **_ranges(options, "warning")},
            {**CRIT, **_ranges(options, "critical")},
        ),
        expected=_expectation(own, user) if own else None,
        advice=Advice(named_by),
        place=place,
        textfile=textfile if options.textfile else told.textfile,
        ping_url=told.ping_url,
        contact=_last_contact(own, textfile) if url else None,
        user=user,
    )


def _last_contact(own: configs.Config | None, textfile: Path | None) -> int | None:
    """Return when the server was last reached, by what the checks before have left."""
    found = [last_contact(textfile)] if textfile else []
    if own and own.notify and own.notify.remember:
        from ..health import notify

        found.append(notify.last_contact(own.notify.remember))
    return max((at for at in found if at is not None), default=None)


def checker(args: argparse.Namespace) -> tuple[Callable[[], HealthReport], Advice]:
    """Return what checks the queue of a command of `dbq`, and the commands to type next.

    It neither reports nor notifies. It may be called again and again, and remembers when it last
    reached the queue's server. Raises `UsageError`, `ConfigError`.
    """
    options = _parser().parse_args([])
    options.file, options.config, options.url = args.file, args.config, args.url
    settings = _settings(options)
    contact = settings.contact

    def check() -> HealthReport:
        nonlocal contact
        report = _examine(replace(settings, contact=contact), NAMES[0])
        contact = report.contact
        return report

    return check, settings.advice


def _naming(place: Where) -> list[str]:
    """The option that names a server as the user did; none where a variable does, or a secret."""
    shown = place.by == "--url" and place.address and masked(place.address) == place.address
    return ["--url", str(place.address)] if shown else []


def _expectation(config: configs.Config, user: Account | None) -> Expectation:
    account = user or Account.find(config.worker.user)
    is_worker = account is not None and (account is user or account.is_me)
    return Expectation(
        since=config.path.stat().st_mtime,
        worker=config.worker.schedule,
        checks=config.health.schedule if config.health else None,
        recurring=config.recurring_jobs,
        log=config.log.file if config.log and is_worker else None,
        always=config.queue.file is None and config.worker.enabled and _is_in_units(config),
        policies=Policies(
            {
                name: Policy(concurrency=said.concurrency, rate=said.rate)
                for name, said in config.types.items()
            }
        ),
    )


def _is_in_units(config: configs.Config) -> bool:
    """Whether systemd runs the workers of this config, all the time."""
    from ..install.manifest import likely_sites, manifests  # not needed by a queue in a file

    found: list[str] = []
    with suppress(QueueError, OSError):
        for site in likely_sites(config.worker.user):
            found += [each.kind for each in manifests(site) if each.name == config.name]
    return any(kind.startswith("systemd") for kind in found)


def _ranges(options: argparse.Namespace, level: str) -> dict[str, Range]:
    given = {name: getattr(options, f"{name}_{level}") for name in RANGED}
    return {name: value for name, value in given.items() if value is not None}


# -- what is printed -------------------------------------------------------------------------------


def _render(report: HealthReport, options: argparse.Namespace) -> str:
    """Return the report in the format of the options; a scheduled check is read by people."""
    if options.format == "prometheus":
        return formats.prometheus(report)
    if options.format == "json":
        return formats.as_json(report)
    in_words = options.format == "text" or (options.report and options.format is None)
    render = formats.text if in_words else formats.nagios
    return render(report, verbose=options.verbose > 0)


def _print(text: str, options: argparse.Namespace) -> None:
    """Print it in the locale's encoding; what machines read is UTF-8 in any locale.

    That no process reads it, or the disk is full, does not change the exit code.
    """
    try:
        for_machines = options.format in ("json", "prometheus")
        encoding = "utf-8" if for_machines else sys.stdout.encoding
        sys.stdout.buffer.write(text.encode(encoding, "backslashreplace"))
        sys.stdout.flush()
    except (OSError, AttributeError):  # a closed pipe, a full disk; no standard output at all
        sys.stdout = None


if __name__ == "__main__":
    sys.exit(main())
