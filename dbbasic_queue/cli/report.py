"""The command `dbq report`: the queue as one HTML page that needs nothing else."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ..errors import ConfigError
from .common import (
    DONE,
    Command,
    UsageError,
    arg,
    config_of,
    config_path,
    load_config,
    set_up_output,
)
from .seeing import reader_of

if TYPE_CHECKING:
    from ..config.report import ReportConfig


def _report(args: argparse.Namespace) -> int:
    from ..views.report import report, write_report

    if args.scheduled and args.output:
        raise UsageError("--scheduled writes where [report] says: leave out --output")
    section = _section(args)
    if args.scheduled and section is not None and not section.enabled:
        print("off, by enabled = false in [report]; --output writes all the same")
        return DONE
    payloads = args.payloads or (section is not None and section.payloads)
    reader = reader_of(args, payloads=payloads, must_exist=not args.scheduled)
    html = report(reader.read(), reader.advice, payloads=payloads)
    file = section.file if args.scheduled and section is not None else args.output
    if file is not None:
        write_report(Path(file), html)
    else:
        set_up_output(json=True)  # UTF-8 in any locale, as the page says of itself
        sys.stdout.write(html)
    return DONE


def _section(args: argparse.Namespace) -> ReportConfig | None:
    """`[report]`; None where the queue has no config, or that has no such section."""
    if not args.scheduled:
        config = config_of(args)
        return config.report if config is not None else None
    config = load_config(config_path(args.config))
    if config.report is None:
        raise ConfigError(f"{config.path}: has no [report], which says where to write")
    return config.report


REPORT: Final = Command(
    "report",
    "write the queue as one HTML page, which needs no server, no script and no network",
    _report,
    "dbq report > queue.html\ndbq report --output /srv/www/queue.html\n"
    "dbq report --config /etc/myapp/dbq.toml --scheduled",
    (
        arg("--output", metavar="FILE", help="write there, whole or not at all; else print it"),
        arg(
            "--scheduled",
            action="store_true",
            help="write the file of [report] in the config: what its schedule does",
        ),
        arg(
            "--payloads",
            action="store_true",
            help="show payloads, too, less what [types] redact in the config hides",
        ),
    ),
)
