"""The command `dbq wait`."""

from __future__ import annotations

import argparse
import sys
import time
from typing import Final

from ..job import COMPLETED, FINISHED
from ..support.text import dump_json
from .choosing import SHORT
from .common import (
    DONE,
    EXIT_CODES_OF_WAIT,
    REFUSED,
    TIME_IS_UP,
    Command,
    arg,
    complain,
    duration,
    find_ids,
    json_option,
    queue_of,
)
from .secrets import REVEAL, secrets_of


def _wait(args: argparse.Namespace) -> int:
    queue = queue_of(args)
    seconds = None if args.timeout is None else duration(args.timeout)
    ends = None if seconds is None else time.monotonic() + seconds
    code, hide = DONE, secrets_of(args)
    for job_id, why in find_ids(queue, args.ids):
        if job_id is None:
            code = max(code, complain(why, REFUSED))
            continue
        job = queue.wait(job_id, None if ends is None else max(0.0, ends - time.monotonic()))
        if job is None:
            code = max(code, complain(f"job {job_id} is gone", REFUSED))
        elif job["status"] not in FINISHED:
            code = complain(f"job {job_id} is {job['status']} after {args.timeout}", TIME_IS_UP)
        else:
            print(dump_json(hide(job)) if args.json else f"{job['status']} {job_id}")
            sys.stdout.flush()  # each as soon as it is known
            if job["status"] != COMPLETED:
                code = max(code, REFUSED)
    return code


WAIT: Final = Command(
    "wait",
    "wait until jobs have ended; exit code 0 if all have completed, 1 if one has not",
    _wait,
    "dbq wait 5f2c9b1e8a7d4c30\ndbq wait 5f2c --timeout 10min --json\n"
    "dbq wait $(dbq enqueue report '{\"month\": 5}') && echo done",
    (
        arg("ids", metavar="ID", nargs="+", help=f"the jobs' ids{SHORT}"),
        arg("--timeout", metavar="TIME", help="wait no longer than that: 50s, 10min (for ever)"),
        json_option("a JSON object a line: each job, when it has ended"),
        REVEAL,
    ),
    exit_codes=EXIT_CODES_OF_WAIT,
)
