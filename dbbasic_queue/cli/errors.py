"""The command `dbq errors`: which jobs have failed, and the command that retries them."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from ..job import FAILED, PENDING
from ..queue import Queue
from ..support.columns import cut
from ..support.text import counted, dump_json, escape_control
from .choosing import choice_of, filters, named
from .common import Command, complain, json_option, queue_of
from .look import local_time
from .secrets import REVEAL, error_hider, secrets_of
from .terminal import width_of_terminal

if TYPE_CHECKING:
    from ..engines.failures import Failures

INDENT: Final = " " * 8


def _errors(args: argparse.Namespace) -> int:
    from ..engines.choice import chosen
    from ..engines.failures import group

    queue = queue_of(args)
    choice = choice_of(args, queue)._replace(limit=None)
    ids, code = named(args, queue, to_change=False)
    if args.ids:
        choice = choice._replace(ids=tuple(ids))
    jobs = chosen(queue.engine, choice.within((FAILED, PENDING)))
    found = group(map(error_hider(secrets_of(args)), jobs))
    for each in found[: args.limit]:
        command = _command(each, queue, args)
        if args.json:
            print(dump_json({**each._asdict(), "retry": command}))
        else:
            print("\n".join([*_lines(each), escape_control(INDENT + command)]))
    if not found and not args.json:
        complain(f"no job has failed, of those that are meant, in {queue.engine.url}", code)
    elif args.limit is not None and len(found) > args.limit and not args.json:
        complain(f"and {counted(len(found) - args.limit, 'other error')}", code)
    return code


def _lines(each: Failures) -> Iterator[str]:
    """What is said of one kind, less the command."""
    first = f"{each.number:6,}  {escape_control(each.type)}  {escape_control(each.error)}"
    yield cut(first, width_of_terminal()) if sys.stdout.isatty() else first
    facts = []
    if each.first is not None and each.last is not None:
        facts = [f"first {_minute(each.first)}", f"last {_minute(each.last)}"]
    yield INDENT + ", ".join([*facts, f"such as {each.example}"])
    if each.next is not None:
        wait = "1 waits" if each.waiting == 1 else f"{each.waiting:,} wait"
        yield f"{INDENT}{wait} for the next attempt, from {_minute(each.next)} on"


def _minute(seconds: int) -> str:
    return local_time(seconds)[:16]


def _command(each: Failures, queue: Queue, args: argparse.Namespace) -> str:
    """The command that puts back the jobs of one kind, of those that are meant."""
    words = ["dbq", "retry"]
    for option, values in (
        ("--file", [args.file]),
        ("--url", [args.url and queue.engine.url]),
        ("--config", [args.config]),
        ("--status", [FAILED, PENDING] if 0 < each.waiting < each.number else [PENDING]),
        ("--type", [each.type]),
        ("--error", [each.glob]),
        ("--since", [args.since]),
        ("--until", [args.until]),
        ("--where", args.where or []),
    ):
        if option == "--status" and not each.waiting:
            continue
        for value in values:
            if value is not None:
                words += [f"{option}={value}"] if value.startswith("-") else [option, value]
    return shlex.join([*words, *args.ids])


ERRORS: Final = Command(
    "errors",
    "show how jobs have failed, most often first, with the command that retries them",
    _errors,
    "dbq errors\ndbq errors --since 1d --limit 3\ndbq errors --type 'mail.*' --json",
    (
        *filters((FAILED, PENDING), " (pending: those that failed and are tried again)"),
        json_option("a JSON object a line"),
        REVEAL,
    ),
)
