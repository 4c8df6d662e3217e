"""What the parts of the command `dbq` share: exit codes, the config, the queue."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ..queue import DEFAULT_FILE, Queue
from ..support.durations import parse_duration
from ..support.text import escape_control

if TYPE_CHECKING:
    from ..config.sections import Config

DONE: Final = 0
REFUSED: Final = 1
WRONG: Final = 2

EXIT_CODES: Final = """\
exit codes:
  0  done
  1  not found, or refused
  2  wrong usage, or the queue cannot be read or written"""

DEFAULT_CONFIG: Final = "dbq.toml"


def add_command(
    commands: Any, name: str, run: Callable[[argparse.Namespace], int], about: str, examples: str
) -> argparse.ArgumentParser:
    """Add a command to `dbq`, with what all commands have."""
    shown = "\n".join(f"  {line}" for line in examples.splitlines())
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=about,
        description=about[0].upper() + about[1:] + ".",
        epilog=f"examples:\n{shown}\n\n{EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--config", metavar="PATH", help="the dbq.toml ($DBQ_CONFIG; ./dbq.toml if there)"
    )
    parser.add_argument(
        "--file",
        metavar="PATH",
        help=f"the queue ($DBQ_FILE; the config's; {DEFAULT_FILE} if none of these)",
    )
    parser.set_defaults(run=run)
    return parser


def add_json(parser: argparse.ArgumentParser, what: str) -> None:
    """Add the option --json."""
    parser.add_argument("--json", action="store_true", help=f"print {what}")


class UsageError(Exception):
    """A mistake in the arguments that argparse cannot see."""


def complain(message: str, code: int) -> int:
    """Say on standard error what is wrong; returns the exit code."""
    for line in message.splitlines() or [""]:
        print(f"dbq: {escape_control(line)}", file=sys.stderr)
    return code


def duration(text: str) -> int:
    """Seconds of `10min`; raises `UsageError`."""
    try:
        return parse_duration(text)
    except ValueError as error:
        raise UsageError(f"{error}") from None


def config_of(args: argparse.Namespace, *, required: bool = False) -> Config | None:
    """The config that --config, $DBQ_CONFIG or the working directory names.

    None when none is named; raises `ConfigError` when `required`, or for its faults.
    """
    name = args.config or os.environ.get("DBQ_CONFIG") or ""
    if not name and (required or Path(DEFAULT_CONFIG).exists()):
        name = DEFAULT_CONFIG
    if not name:
        return None
    from ..config.sections import (
        load,  # not needed by a worker without one, which should start fast
    )

    return load(name)


def queue_of(
    args: argparse.Namespace, config: Config | None = None, *, must_exist: bool = True
) -> Queue:
    """The queue: --file, --config's, $DBQ_FILE, the config's that was found, data/queue.tsv."""
    path: str | Path | None = args.file
    if path is None and not args.config:
        path = os.environ.get("DBQ_FILE") or None
    if path is None:
        config = config or config_of(args)
        path = config.queue.file if config else DEFAULT_FILE
    durability = getattr(args, "durability", None) or (config and config.queue.durability)
    queue = Queue(path, durability=durability or "full")
    if must_exist and not queue.path.exists():
        raise UsageError(
            f"there is no queue {queue.path}; name it with --file or $DBQ_FILE"
            " (the first `dbq enqueue` makes it)"
        )
    return queue


def count(text: str) -> int:
    """A whole number, for argparse."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number")
    return int(text)


def positive(text: str) -> int:
    """A whole number of 1 or more, for argparse."""
    if not (text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of 1 or more")
    return int(text)
