"""The commands of `dbq` that copy a queue elsewhere and back: backup, restore."""

from __future__ import annotations

import argparse
from contextlib import suppress
from importlib import import_module
from typing import Final

from ..support.text import counted, dump_json
from .common import DONE, Command, arg, complain, json_option, queue_of


def _prepare() -> None:
    """Import what the copy needs before root becomes a user who perhaps cannot read it."""
    import_module("..engines.tsv.backup", __package__)
    for name in ("gzip", "bz2", "lzma"):
        with suppress(ImportError):  # a Python that was built without it
            import_module(name)


def _backup(args: argparse.Namespace) -> int:
    _prepare()
    size = queue_of(args).backup(args.path)
    print(
        dump_json({"path": args.path, "size": size})
        if args.json
        else f"{args.path}: {size:,} bytes"
    )
    return DONE


def _restore(args: argparse.Namespace) -> int:
    _prepare()
    queue = queue_of(args, must_exist=False)
    found = queue.restore(args.path)
    if args.json:
        print(dump_json({**found._asdict(), "aside": found.aside and str(found.aside)}))
        return DONE
    states = ", ".join(f"{number:,} {status}" for status, number in found.jobs.items() if number)
    print(f"restored {counted(sum(found.jobs.values()), 'job')}{': ' * bool(states)}{states}")
    if found.aside is not None:
        print(f"the queue as it was is {found.aside}")
    if found.findings:
        complain(f"{counted(found.findings, 'fault')} in its lines: see dbq fsck", DONE)
    return DONE


BACKUP: Final = Command(
    "backup",
    "copy the queue, and what belongs to it, into one file",
    _backup,
    "dbq backup /backup/queue.tar\ndbq backup queue-$(date +%F).tar.gz",
    (
        arg("path", metavar="PATH", help="the file, a tar; compressed if it ends in .gz"),
        json_option("a JSON object"),
    ),
)
RESTORE: Final = Command(
    "restore",
    "make the queue what it was at a backup, while no worker is at work",
    _restore,
    "dbq restore /backup/queue.tar",
    (
        arg("path", metavar="PATH", help="a file that dbq backup has written"),
        json_option("a JSON object"),
    ),
)
