"""The command `dbq restart`: new code for the workers that wait for jobs."""

from __future__ import annotations

import argparse
import math
from typing import Final

from .common import (
    DONE,
    EXIT_CODES_OF_WAIT,
    TIME_IS_UP,
    Command,
    UsageError,
    arg,
    complain,
    duration,
    queue_of,
)


def _restart(args: argparse.Namespace) -> int:
    if args.timeout is not None and not args.wait:
        raise UsageError("restart: --timeout says how long to --wait")
    wait = math.inf if args.timeout is None else duration(args.timeout)
    queue = queue_of(args)
    ended = queue.restart_workers(wait if args.wait else 0)
    if ended:
        print("no worker is left that began before")
    elif args.wait:
        return complain(
            f"workers that began before are still at work after {args.timeout}", TIME_IS_UP
        )
    else:
        print("workers that are at work end between two jobs")
    return DONE


RESTART: Final = Command(
    "restart",
    "have workers that wait for jobs end between two of them, and begin anew with new code",
    _restart,
    "dbq restart\ndbq restart --wait --timeout 10min",
    (
        arg(
            "--wait",
            action="store_true",
            help="wait until the workers that began before have ended",
        ),
        arg("--timeout", metavar="TIME", help="wait no longer than that; then exit with 3"),
    ),
    exit_codes=EXIT_CODES_OF_WAIT,
)
