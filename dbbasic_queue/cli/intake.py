"""`dbq enqueue --from`: many jobs, a JSON object a line, all or none."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from ..errors import InvalidJob
from ..job import PENDING, Job
from ..support.text import counted, dump_json
from .common import DONE, UsageError, complain, queue_of

KEYS: Final = frozenset({*Job._fields, "job_type", "job_id"})


def enqueue_from(args: argparse.Namespace) -> int:
    """Add the jobs of a file or of standard input, and print their ids."""
    given = {"TYPE": args.type, "--run-at": args.run_at, "--in": args.delay, "--id": args.id}
    for name, value in given.items():
        if value is not None:
            raise UsageError(f"enqueue: {name} does not go with --from, whose lines say it")
    if args.unique is not None or args.until is not None:
        raise UsageError("enqueue: --unique and --until are for one job, and do not go with --from")
    place = "standard input" if args.source == "-" else args.source
    data = sys.stdin.buffer.read() if args.source == "-" else Path(args.source).read_bytes()
    try:
        jobs = list(_jobs(data.decode("utf-8-sig").splitlines()))
    except UnicodeDecodeError as error:
        raise UsageError(f"{place}: not UTF-8: {error.reason}") from None
    except ValueError as error:
        raise UsageError(f"{place}: {error}; none was added") from None
    queue = queue_of(args, must_exist=False)
    try:
        ids = queue.enqueue_many(jobs)
    except InvalidJob as error:
        raise UsageError(f"{place}: {error}") from None
    for job_id in ids:
        print(job_id)
    complain(f"{counted(len(ids), 'job')} enqueued, or there by that id before", DONE)
    return DONE


def _jobs(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    """The jobs of the lines, as `enqueue_many` takes them; `ValueError` names the line."""
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            job = json.loads(line)
        except RecursionError:
            raise ValueError(f"line {number}: nested too deeply") from None
        except ValueError as error:
            raise ValueError(f"line {number}: not JSON: {error}") from None
        if not isinstance(job, dict):
            raise ValueError(f"line {number}: not a JSON object")
        if hidden := job.get("hidden"):
            raise ValueError(
                f"line {number}: values of the payload are hidden, {dump_json(hidden)}:"
                " list the job with --reveal"
            )
        unknown = sorted(job.keys() - KEYS)
        if unknown:
            raise ValueError(
                f"line {number}: there is no key {unknown[0]}; write type, payload, run_at, id"
            )
        found = {
            "job_type": job.get("type", job.get("job_type")),
            "payload": job.get("payload", {}),
        }
        job_id = job.get("id", job.get("job_id"))
        if job_id is not None:
            found["job_id"] = job_id
        # What a job that has ended has there is when it ended.
        if job.get("run_at") is not None and job.get("status", PENDING) == PENDING:
            found["run_at"] = job["run_at"]
        yield found
