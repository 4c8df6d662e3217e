"""The `dbq.toml` that `dbq init` writes: every key with what it is for, ready to be changed."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from ..errors import ConfigError
from ..support.files import NewFile, create, refusing
from .sections import name_from_folder, parse

TEXT = """\
# What dbbasic-queue does for this application, and when.
#
# When this file was changed:   dbq check
# Then put it into force:       dbq-install-cron, or dbq-install-systemd
#
# Relative paths are relative to this file. A schedule is five cron fields ("0 2 * * *"), @hourly,
# @daily, @weekly, @monthly, or "every 5 minutes". A duration is "50s", "10min", "1h30min" or "7d".

name = {name}

[queue]
file = "data/queue.tsv"     # all jobs, as plain text; what belongs to it lies beside it
durability = "full"         # full: a job outlives a power cut. normal: faster, but it may not

[worker]
# module:attribute, a dict of job type -> function of the payload
handlers = {handlers}
schedule = "* * * * *"      # looks for jobs every minute
# the interpreter that has the application's packages
python = {python}
{user}
# directory = "."           # where jobs run
# environment = {{ DJANGO_SETTINGS_MODULE = "myapp.settings" }}
# environment_file = "env"  # NAME=value lines, as systemd's EnvironmentFile=
max_attempts = 3            # so often a job is tried in all
timeout = "10min"           # so long a job may run
concurrency = 1             # so many jobs at once
linger = "50s"              # wait for more jobs, so that they begin at once and not at the minute
hardening = "network"       # under systemd: isolated (no network), network, or compat

# A job that comes back; one such section for each.
# [[recurring]]
# name = "nightly-report"
# type = "generate_report"
# payload = {{ report = "sales" }}
# schedule = "0 2 * * *"
# jitter = "5min"           # up to so much later, always the same on this machine
# catch_up = true           # missed while the machine was off: made up for once

[prune]                     # how long jobs stay in the file once they have ended
schedule = "30 3 * * *"
completed = "7d"
cancelled = "7d"
failed = "30d"

[health]                    # dbq-health says so if ...
schedule = "*/5 * * * *"
stuck_after = "30min"       # a job has run for so long
overdue_after = "5min"      # a job was due for so long and no worker took it
silent_after = "10min"      # no worker has run for so long
failed_within = "24h"       # a job has failed since
# textfile = "/var/lib/prometheus/node-exporter/dbq-{bare_name}.prom"
# ping_url = "https://hc.example/abc"

[log]                       # dbq-install-logrotate has it rotated
file = "data/dbq.log"
frequency = "daily"
rotate = 14                 # so many old ones are kept
"""


def first_config(
    folder: Path,
    *,
    name: str | None = None,
    handlers: str | None = None,
    user: str | None = None,
    python: str = sys.executable,
) -> str:
    """Return the text of a `dbq.toml` for the application in `folder`.

    Args:
        folder: where the file will lie.
        name: the folder's name, made to fit, if None.
        handlers: `module:attribute`; `NAME.jobs:HANDLERS` if None.
        user: whom the worker runs as on a system's installation; left open if None.
        python: the interpreter with the application's packages.

    Raises `ConfigError` if one of them cannot stand in a config.

    >>> print(first_config(Path("/srv/My Shop")).splitlines()[8])
    name = "my-shop"
    """
    folder = Path(os.path.abspath(folder))
    known = name or name_from_folder(folder)
    if known is None:
        raise ConfigError(f"{folder} is no name for a config; give one with --name")
    run_as = '# user = "www-data"         # whom jobs run as; system units need it'
    text = TEXT.format(
        name=_quoted(known),
        bare_name=known,
        handlers=_quoted(handlers or f"{known.replace('-', '_')}.jobs:HANDLERS"),
        python=_quoted(_interpreter(python, folder)),
        user=f"user = {_quoted(user)}" if user else run_as,
    )
    parse(text, folder / "dbq.toml")
    return text


def write_first_config(path: Path, text: str) -> None:
    """Write `text` to the new file `path`, whole or not at all.

    Raises `ConfigError` if there is such a file already, or it cannot be written.
    """
    with refusing(path, "cannot write", ConfigError):
        try:
            create(NewFile(path, text.encode(), mode=None, synced=False))
        except FileExistsError:
            raise ConfigError(f"{path}: is there already, and was left as it is") from None


def _interpreter(python: str, folder: Path) -> str:
    """Relative if it lies in the folder, as a virtual environment does, so that both can move."""
    if Path(python).is_relative_to(folder):
        return str(Path(python).relative_to(folder))
    return python


def _quoted(text: str) -> str:
    """A TOML basic string, whose escapes are JSON's."""
    return json.dumps(text, ensure_ascii=False)
