"""The command `dbq-health`, which also answers as the monitoring plugin `check_dbq`."""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, NoReturn, TypeVar

from ..config import sections as configs
from ..errors import QueueError
from ..health import formats
from ..health.judge import Advice, Expectation, check_health
from ..health.measures import CRIT, RANGED, WARN
from ..health.push import FAILURE, SECONDS, START, SUCCESS, ping, write_textfile
from ..health.report import OK, UNKNOWN, Finding, HealthReport, Thresholds
from ..health.thresholds import Range
from ..queue import DEFAULT_FILE
from ..support.child import ChildDied, ChildTimeout, call
from ..support.durations import format_duration, parse_duration
from ..version import VERSION
from .common import DEFAULT_CONFIG

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
By itself, any stuck job and any malformed line is CRITICAL, a failed job a WARNING and ten of them
CRITICAL, an overdue job a WARNING, silence CRITICAL when jobs are due and a WARNING otherwise.
Silence counts where a worker has run before, or a config says that one should.
A RANGE is one of the Monitoring Plugins' guidelines: 10 (alert outside of 0 to 10), 10:, ~:10,
10:20, @10:20 (alert inside). ~: switches an alert off.
A TIME is 90, 50s, 10min, 1h30min or 7d.

examples:
  dbq-health --format text
  dbq-health --file /var/lib/myapp/queue.tsv --failed-warning 5 --failed-critical 50
  dbq-health --config /etc/myapp/dbq.toml --no-report --latency-critical 600
  dbq-health --format json | jq .stuck
  dbq-health --textfile /var/lib/prometheus/node-exporter/dbq-myapp.prom

exit status, in every format:
  0  OK
  1  WARNING
  2  CRITICAL
  3  UNKNOWN: no readable queue, wrong arguments, a fault in the config, time-out, an error in the
     check itself; --help and --version, too"""


class UsageError(Exception):
    """A mistake in the arguments."""


@dataclass(frozen=True)
class Settings:
    """What to check, and who is told."""

    file: Path
    queue: str
    thresholds: Thresholds
    expected: Expectation | None
    advice: Advice
    textfile: Path | None
    ping_url: str | None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the check with these arguments (the process's own if None); returns the exit code.

    Whatever happens, that code is a state, and there is one clean line that says what happened.
    """
    began = time.monotonic()
    options = argparse.Namespace(format="nagios", verbose=0)
    try:
        options = _parser().parse_args(arguments)
        if options.help or options.version:
            _print(_parser().format_help() if options.help else f"dbq-health {VERSION}\n")
            return UNKNOWN
        report = _run(options, began + options.timeout)
    except UsageError as error:
        report = _no_report(f"{error}; see --help")
    except (ChildTimeout, ChildDied, QueueError) as error:
        report = _no_report(_reason(error, options))
    except KeyboardInterrupt:
        report = _no_report("interrupted")
    except Exception as error:  # an exit code of 1 would mean WARNING
        report = _no_report(f"error in the check: {type(error).__name__}: {error}")
    _print(_render(report, options))
    return report.state


def _no_report(reason: str) -> HealthReport:
    """The report of a check that could not be made."""
    finding = Finding("check", UNKNOWN, reason)
    return HealthReport("", Path(), int(time.time()), Thresholds(), None, None, (finding,))


# -- the arguments ---------------------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    """Whose own exit code, 2, would mean CRITICAL."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="dbq-health",
        description="Check the health of a queue, as a monitoring plugin does. Only looks.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        add_help=False,
    )
    parser.add_argument("-h", "--help", action="store_true", help="show this help, exit with 3")
    parser.add_argument("-V", "--version", action="store_true", help="show the version, likewise")
    _add_what(parser)
    _add_thresholds(parser)
    return parser


def _add_what(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config",
        metavar="PATH",
        help="the config, for the queue and its [health] ($DBQ_CONFIG; ./dbq.toml if it is there)",
    )
    parser.add_argument(
        "--file",
        metavar="PATH",
        help=f"the queue ($DBQ_FILE; the config's; {DEFAULT_FILE} if none of these)",
    )
    parser.add_argument(
        "--format",
        choices=("nagios", "text", "prometheus", "json"),
        default="nagios",
        help="of the output (nagios)",
    )
    parser.add_argument(
        "--textfile", metavar="PATH", help="also write Prometheus's format there, for node_exporter"
    )
    parser.add_argument(
        "--no-report",
        action="store_true",
        help="leave the config's textfile and ping_url alone: for a second monitoring system",
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
                help=f"{level.upper()} when {measure.means} is outside of it{default}",
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


def _run(options: argparse.Namespace, until: float) -> HealthReport:
    """Find out what to check, tell that it begins, check, tell how it went."""
    for_ping = min(SECONDS, options.timeout / 4)
    settings = _in_time(lambda: _settings(options), until)
    url = settings.ping_url
    if url:
        ping(url, START, seconds=for_ping)
    try:
        names = NAMES[min(options.verbose, len(NAMES) - 1)]
        report = _in_time(lambda: _examine(settings, names), until - (for_ping if url else 0))
    except (ChildTimeout, ChildDied, QueueError) as error:
        report = _no_report(_reason(error, options))
    report = replace(report, queue=settings.queue, path=settings.file)
    if url:
        kind = SUCCESS if report.state == OK else FAILURE
        ping(url, kind, formats.headline(report), seconds=for_ping)
    return report


def _reason(error: Exception, options: argparse.Namespace) -> str:
    if isinstance(error, ChildTimeout):
        return f"no answer within {options.timeout:g} s"
    if isinstance(error, ChildDied):
        return f"the check {error}"
    return "; ".join(str(error).splitlines())


def _in_time(function: Callable[[], T], until: float) -> T:
    return call(function, max(0.001, until - time.monotonic()))


def _examine(settings: Settings, names: int) -> HealthReport:
    """Check the queue, and write the textfile."""
    report = check_health(
        settings.file,
        settings.thresholds,
        queue=settings.queue,
        expected=settings.expected,
        advice=settings.advice,
        names=names,
    )
    if settings.textfile is not None:
        try:
            write_textfile(settings.textfile, formats.prometheus(report))
        except QueueError as error:
            summary = getattr(error, "strerror", None) or str(error)
            finding = Finding("textfile", UNKNOWN, summary)
            return replace(report, findings=(*report.findings, finding))
    return report


def _settings(options: argparse.Namespace) -> Settings:
    """Put together the arguments, the environment and the config."""
    file, config_path = _where(options)
    config = configs.load(config_path) if config_path else None
    ages = (config and config.health) or configs.HealthConfig()
    given = {name: value for name in AGES if (value := getattr(options, name)) is not None}
    if file is None and config_path and config:
        file, where = str(config.queue.file), ["--config", config_path]
    else:
        file, where = file or DEFAULT_FILE, ["--file", file or DEFAULT_FILE]
    own = config if config and _is_same(file, config.queue.file) else None  # whose queue it is
    told = ages if own and not options.no_report else configs.HealthConfig()
    return Settings(
        file=Path(file),
        queue=own.name if own else os.path.abspath(file),
        thresholds=Thresholds(
            replace(ages, **given),
            {**WARN, **_ranges(options, "warning")},
            {**CRIT, **_ranges(options, "critical")},
        ),
        expected=_expectation(own) if own else None,
        advice=Advice(where),
        textfile=Path(options.textfile) if options.textfile else told.textfile,
        ping_url=told.ping_url,
    )


def _where(options: argparse.Namespace) -> tuple[str | None, str | None]:
    """The queue and the config that are named, by arguments or the environment, as for dbq.

    A queue that is named by --file needs no config, so only one that is named beside it counts.
    """
    config = options.config
    if not (config or options.file):
        config = os.environ.get("DBQ_CONFIG") or None
        if config is None and os.path.exists(DEFAULT_CONFIG):
            config = DEFAULT_CONFIG
    file = options.file or (None if options.config else os.environ.get("DBQ_FILE"))
    return file or None, config


def _is_same(file: str, other: Path) -> bool:
    return os.path.realpath(file) == os.path.realpath(other)


def _expectation(config: configs.Config) -> Expectation:
    return Expectation(config.path.stat().st_mtime, config.worker.schedule)


def _ranges(options: argparse.Namespace, level: str) -> dict[str, Range]:
    given = {name: getattr(options, f"{name}_{level}") for name in RANGED}
    return {name: value for name, value in given.items() if value is not None}


# -- what is printed -------------------------------------------------------------------------------


def _render(report: HealthReport, options: argparse.Namespace) -> str:
    if options.format == "prometheus":
        return formats.prometheus(report)
    if options.format == "json":
        return formats.as_json(report)
    render = formats.text if options.format == "text" else formats.nagios
    return render(report, verbose=options.verbose > 0)


def _print(text: str) -> None:
    """Print it as well as the terminal can; nobody listening is no reason for another exit code."""
    try:
        sys.stdout.buffer.write(text.encode(sys.stdout.encoding, "backslashreplace"))
        sys.stdout.flush()
    except (OSError, AttributeError):  # a closed pipe, a full disk; no standard output at all
        sys.stdout = None


if __name__ == "__main__":
    sys.exit(main())
