"""The command `dbq`: parse the arguments, make one or two calls of the library, print."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from typing import Final

from ..errors import JobExists, QueueError
from ..version import VERSION
from . import jobs, look, setup, upkeep, work
from .common import (
    DONE,
    EXIT_CODES,
    INTERRUPTED,
    REFUSED,
    WRONG,
    Command,
    UsageError,
    complain,
    reason,
    set_up_output,
)

EXAMPLES: Final = """\
examples:
  dbq enqueue send_mail '{"to": "zoe@example.com"}'
  dbq enqueue report '{"month": 5}' --in 10min
  dbq list --status failed
  dbq work myapp.jobs:HANDLERS
  dbq prune --older-than 7d"""

COMMANDS: Final[tuple[Command, ...]] = (
    jobs.ENQUEUE,
    look.LIST,
    look.SHOW,
    jobs.CANCEL,
    jobs.RETRY,
    jobs.PRUNE,
    look.STATS,
    work.WORK,
    upkeep.EDIT,
    upkeep.FSCK,
    setup.INIT,
    setup.CHECK,
    setup.ENQUEUE_RECURRING,
)


def main(argv: list[str] | None = None) -> int:
    """Run `dbq` with these arguments (the process's own if None); returns the exit code."""
    set_up_output()
    args = _parser().parse_args(argv)
    set_up_output(json=args.json)
    try:
        run: Callable[[argparse.Namespace], int] = args.run
        code = run(args)
        sys.stdout.flush()
        return code
    except JobExists as error:
        return complain(reason(error), REFUSED)
    except BrokenPipeError:  # dbq list | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except (UsageError, QueueError, OSError) as error:
        return complain(reason(error), WRONG)
    except KeyboardInterrupt:
        return INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dbq",
        description="A job queue in one plain-text file: add jobs, look at them, run them.",
        epilog=f"{EXAMPLES}\n\n{EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"dbq {VERSION}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add_to(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
