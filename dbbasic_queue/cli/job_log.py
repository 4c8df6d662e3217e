"""The command `dbq log`: what the worker's log has of one job."""

from __future__ import annotations

import argparse
import json
import re
import time
from pathlib import Path
from typing import Any, Final

from ..errors import QueueError
from ..job import check_id
from ..log import read_log
from ..queue import Queue
from ..support.text import dump_json, escape_control
from .common import (
    DONE,
    REFUSED,
    Command,
    UsageError,
    arg,
    complain,
    config_of,
    find_id,
    json_option,
    queue_of,
)

# A line of `TextFormatter`.
_LINE: Final = re.compile(
    r"(?P<time>[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}),(?P<milli>[0-9]{3}) "
    r"(?P<level>[A-Z]+) \[(?P<pid>[0-9]+)\] (?P<message>.*)"
)


def _log(args: argparse.Namespace) -> int:
    check_id(args.id)
    config = config_of(args)
    file = (
        Path(args.log_file) if args.log_file else config.log.file if config and config.log else None
    )
    if file is None:
        where = f"{config.path} has no [log]" if config else "there is no config"
        raise UsageError(
            f"log: {where}: name the log by --log-file; what a worker says to the journal, "
            f"journalctl --grep {args.id} finds"
        )
    job_id, why = _whole(queue_of(args, config, must_exist=False), args.id)
    found = read_log(file, job_id)
    for record in found:
        if args.json:
            print(dump_json(as_dict(record)))
        else:
            print("\n".join(escape_control(line) for line in record.split("\n")))
    if not found:
        return complain(f"the log {file} has nothing of job {job_id}{why}", REFUSED)
    return DONE


def _whole(queue: Queue, text: str) -> tuple[str, str]:
    """The id that a part of one stands for, if the queue has it still, and why it stands for none.

    The log may be asked also while the queue cannot be.
    """
    try:
        job_id, why = find_id(queue, text)
    except QueueError as error:
        return text, f"; {error}"
    return job_id or text, f"; {why}" if why else ""


def as_dict(record: str) -> dict[str, Any]:
    """Return what a record of a log says, as `JsonFormatter` does; its time is in UTC.

    >>> as_dict('{"level": "info", "message": "started mail 5f2c"}')["message"]
    'started mail 5f2c'
    """
    try:
        known = json.loads(record)
        if isinstance(known, dict):
            return known
    except ValueError:
        pass
    line, _, below = record.partition("\n")
    parts = _LINE.fullmatch(line)
    if parts is None:
        return {"message": record}
    try:
        local = time.mktime(time.strptime(parts["time"], "%Y-%m-%d %H:%M:%S"))
    except (ValueError, OverflowError):  # another program's line, of a 13th month
        return {"message": record}
    at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(local))
    found: dict[str, Any] = {
        "time": f"{at}.{parts['milli']}Z",
        "level": parts["level"].lower(),
        "message": parts["message"],
        "pid": int(parts["pid"]),
    }
    if below:
        found["traceback"] = "\n".join(each.removeprefix("    ") for each in below.split("\n"))
    return found


LOG: Final = Command(
    "log",
    "show what the worker's log has of one job, and what its handler has logged",
    _log,
    "dbq log mh3k9x2a7d4c30qz\n"
    "dbq log 30qz --config /etc/myapp/dbq.toml\n"
    "dbq log mh3k9x2a7d4c30qz --log-file work.log --json",
    (
        arg("id", metavar="ID", help="the job's id, or how it begins or ends"),
        arg("--log-file", metavar="PATH", help="the log (default: the config's [log].file)"),
        json_option("a JSON object a line"),
    ),
)
