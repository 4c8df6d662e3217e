"""The packaged config and the JSON Schema of all configs: made of what the library says of keys.

    python3 packaging/tools/samples.py

writes packaging/dbq.toml and dbbasic_queue/config/dbq.schema.json. A test holds both to what is
made here.
"""

from __future__ import annotations

import json
from pathlib import Path

from dbbasic_queue.config.schema import schema
from dbbasic_queue.config.starter import SCHEMA, sample

PACKAGING = Path(__file__).resolve().parents[1]
HEADER = """\
#:schema /usr/lib/dbbasic-queue/dbbasic_queue/config/dbq.schema.json
# (By the line above an editor that knows TOML completes the keys, and checks them.)
#
# The system's job queue: what dbbasic-queue does here, and when. See dbq.toml(5).
#
# From "installed" to "my application's jobs run":
#
#     sudoedit /etc/dbbasic-queue/dbq.toml                         # [worker], below
#     dbq check --config /etc/dbbasic-queue/dbq.toml               # as root: would it work?
#     dbq-install-systemd --config /etc/dbbasic-queue/dbq.toml     # as root; or dbq-install-cron
#
# Nothing runs before that. After a change of this file, the last two again.
#
# Lines that begin with # say what a key is for, or show one that you may set: take the # away.
# Paths are relative to this file. Durations are "50s", "10min", "1h30min" or "7d". Schedules are
# "every 5 minutes", @hourly, @daily, @weekly, @monthly, or the five fields of cron: "0 2 * * *" is
# each night at two.
"""
LIVE = {
    "name": "main",
    "queue.file": "/var/lib/dbbasic-queue/main/queue.tsv",
    "worker.python": "/usr/bin/python3",
    "worker.user": "_dbbasic-queue",
    "worker.linger": None,
    # Packaged units know no machine's time zone; of these minutes no zone skips one.
    "prune.schedule": "30 4 * * *",
    "log.file": "/var/log/dbbasic-queue/main.log",
}
EXAMPLES = {
    "worker.environment_file": "/etc/dbbasic-queue/env",
    "worker.writable": ["/srv/myapp/uploads"],
    "health.textfile": "/var/lib/prometheus/node-exporter/dbq-main.prom",
}
WORDS = {
    "name": "of the units, dbq-main-worker.service and so on",
    "queue.file": "The queue; its lock and other files are kept next to it. The folder is the "
    "worker's alone; the group _dbbasic-queue enqueues, the group _dbbasic-queue-read looks, no "
    "one else sees a payload.",
    "worker.handlers": "module:attribute of a dict: job type -> function of the payload. "
    "TO BE CHANGED.",
    "worker.python": "the Python interpreter that has your application's packages, such as "
    '"/srv/myapp/venv/bin/python"; it needs no dbbasic-queue of its own',
    "worker.user": "the user that jobs run as, whose the queue's folder is; another one needs "
    "a folder of its own",
    "worker.linger": "with cron: keep the worker waiting for new jobs, so that they start at once",
    "log": "the worker's log, rotated by /etc/logrotate.d/dbbasic-queue",
}


def files() -> dict[Path, str]:
    """What is made, by where it belongs."""
    return {
        PACKAGING / "dbq.toml": sample(HEADER, LIVE, EXAMPLES, WORDS),
        SCHEMA: json.dumps(schema(), indent=2, ensure_ascii=False) + "\n",
    }


if __name__ == "__main__":
    for path, text in files().items():
        path.write_text(text, encoding="utf-8")
        print(path)
