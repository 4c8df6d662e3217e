"""What more than one test is tried on: a config with everything in it, awkward texts, edits."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable
from dataclasses import replace

from dbbasic_queue.config.sections import Config, parse
from dbbasic_queue.table.line import HEADER

TOML = """
name = "app"
[queue]
file = "/var/lib/app/queue.tsv"
[worker]
handlers = "app.jobs:HANDLERS"
python = "/srv/app/venv/bin/python"
directory = "/srv/app"
user = "zoe"
environment_file = "/etc/app/env"
timeout = "10min"
[[recurring]]
name = "nightly"
type = "report"
schedule = "0 2 * * *"
jitter = "5min"
catch_up = true
[[recurring]]
name = "hourly"
type = "report"
schedule = "@hourly"
[prune]
completed = "7d"
[health]
textfile = "/var/lib/metrics/app.prom"
[report]
file = "/var/lib/metrics/queue.html"
[log]
file = "/var/log/app/dbq.log"
"""


PROFILES = ("isolated", "network", "compat")


def load(text: str = TOML) -> Config:
    return parse(text, "/etc/app/dbq.toml")


def with_worker(config: Config, **changes: object) -> Config:
    """The config with some keys of `[worker]` changed."""
    return replace(config, worker=replace(config.worker, **changes))  # type: ignore[arg-type]


AWKWARD = (
    "",
    " ",
    '"',
    '""',
    "'",
    '"quoted"',
    '" "',
    '","',
    "\\",
    '\\"',
    "\\n",
    "tab\there",
    "two\nlines",
    "DOS\r\nlines",
    "old\rMac",
    "\x00",
    "\x07\x1b[31m",
    "\x0b\x0c\x1c\x1d\x1e",
    "\x7f\x80\x85\x9f",
    "\u2028\u2029",
    "\ufeff",
    "\u202e",
    "Zoë",
    "日本語",
    "🐍",
    "\U0010ffff",
    "\ud800",
    "\udcff\ud83d",
    "\ud83d\udc0d",  # a pair in pieces, which JSON joins
    "#",
    "pending\t5\t5\t",
    "NaN",
)


EDITS: dict[str, Callable[[bytes], bytes]] = {
    "reserve cut off": lambda text: re.sub(rb" +\n", b"\n", text),
    "white space cut off": lambda text: re.sub(rb"[ \t]+\n", b"\n", text),
    "CRLF": lambda text: text.replace(b"\n", b"\r\n"),
    "white space cut off, CRLF": lambda text: re.sub(rb"[ \t]*\n", b"\r\n", text),
    "no newline at the end": lambda text: text[:-1],
    "stripped": lambda text: text.strip(),
    "empty lines": lambda text: text.replace(b"\n", b"\n\n \n\t\n"),
    "comments": lambda text: text.replace(b"\n", b"\n# --- \xff\n"),
    "sorted": lambda text: HEADER + b"".join(sorted(text.splitlines(True)[1:])),
    "quoted by csv": lambda text: requoted(text),
}


def requoted(text: bytes) -> bytes:
    """The table as Python's csv module writes it, which is how plain dbbasic-tsv does."""
    out = io.StringIO()
    rows = csv.reader(io.StringIO(text.decode(), newline=""), delimiter="\t")
    csv.writer(out, delimiter="\t", lineterminator="\n").writerows(rows)
    return out.getvalue().encode()
