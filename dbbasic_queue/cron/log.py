"""When cron last ran a command, as far as the journal tells.

cron keeps no record of its own: it logs `(USER) CMD (COMMAND)` when it starts one (cron(8), -L).
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from .quoting import as_logged, as_run

_SECONDS = 20
_JOURNAL = (
    *("journalctl", "--quiet", "--no-pager", "--identifier=CRON", "--output=json"),
    *("--output-fields=MESSAGE", "--since=-8d", "--reverse", "--lines=20000"),
)


def last_runs(commands: Iterable[bytes]) -> dict[bytes, datetime]:
    """The last start of each command, given as it stands in the crontab; those unknown are absent.

    Empty where there is no journal, or none that the caller may read. That is not told apart from
    a command that did not run in eight days.
    """
    wanted = {as_logged(as_run(command)): command for command in commands}
    found: dict[bytes, datetime] = {}
    for message, when in _messages():
        match = re.fullmatch(rb"\([^)]*\) CMD \((.*)\)", message, re.DOTALL)
        command = wanted.get(match[1]) if match else None
        if command is not None:
            found.setdefault(command, when)
        if len(found) == len(wanted):
            break
    return found


def _messages() -> Iterator[tuple[bytes, datetime]]:
    """cron's messages, the newest first (systemd.journal-fields(7))."""
    try:
        done = subprocess.run(_JOURNAL, capture_output=True, timeout=_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return
    for line in done.stdout.splitlines():
        try:
            record = json.loads(line)
            microseconds = int(record["__REALTIME_TIMESTAMP"])
        except (ValueError, KeyError, TypeError):
            continue
        message = record.get("MESSAGE")
        if isinstance(message, str):
            yield message.encode(), datetime.fromtimestamp(microseconds / 1e6, UTC).astimezone()
