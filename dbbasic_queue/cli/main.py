"""The command `dbq`: parse the arguments, make one or two calls of the library, print."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from typing import Final

from ..errors import JobExists, QueueError
from ..version import VERSION
from . import jobs as cli_jobs
from . import setup as cli_setup
from . import work as cli_work
from .common import DONE, EXIT_CODES, REFUSED, WRONG, UsageError, complain

EXAMPLES: Final = """\
examples:
  dbq enqueue send_mail '{"to": "zoe@example.com"}'
  dbq enqueue report '{"month": 5}' --in 10min
  dbq list --status failed
  dbq work myapp.jobs:HANDLERS
  dbq prune --older-than 7d"""


def main(argv: list[str] | None = None) -> int:
    """Run `dbq` with these arguments (the process's own if None); returns the exit code."""
    args = _parser().parse_args(argv)
    try:
        run: Callable[[argparse.Namespace], int] = args.run
        code = run(args)
        sys.stdout.flush()
        return code
    except UsageError as error:
        return complain(f"{error}", WRONG)
    except JobExists as error:
        return complain(f"{error}", REFUSED)
    except QueueError as error:
        return complain(f"{error}", WRONG)
    except BrokenPipeError:  # dbq list | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except OSError as error:
        return complain(f"{error}", WRONG)
    except KeyboardInterrupt:
        return 130  # as the shell has it: 128 + SIGINT


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dbq",
        description="A job queue in one plain-text file: add jobs, look at them, run them.",
        epilog=f"{EXAMPLES}\n\n{EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"dbq {VERSION}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for add in (
        cli_jobs.add_enqueue,
        cli_jobs.add_list,
        cli_jobs.add_show,
        cli_jobs.add_cancel,
        cli_jobs.add_retry,
        cli_jobs.add_prune,
        cli_jobs.add_stats,
        cli_work.add_work,
        cli_jobs.add_edit,
        cli_jobs.add_fsck,
        cli_setup.add_init,
        cli_setup.add_check,
        cli_setup.add_enqueue_recurring,
    ):
        add(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
