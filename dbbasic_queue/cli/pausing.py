"""The commands `dbq pause` and `dbq resume`."""

from __future__ import annotations

import argparse
from typing import Any, Final

from ..engines.pausing import LONGEST_WHY, Pause
from ..errors import StorageError
from ..queue import Queue
from ..support.text import dump_json, escape_control
from .common import DONE, REFUSED, Command, arg, complain, duration, json_option, queue_of


def fields_of(pause: Pause) -> dict[str, Any]:
    """Return a pause as JSON has it: times in Unix seconds, null for what it has not."""
    return {**pause._asdict(), "who": pause.who or None, "why": pause.why or None}


def tell_pauses(queue: Queue) -> None:
    """Say on standard error what is paused, if this user can see it."""
    try:
        pauses = queue.paused()
    except StorageError:
        return
    for pause in pauses:
        complain(str(pause), DONE)


def _pause(args: argparse.Namespace) -> int:
    queue = queue_of(args)
    until = queue.now() + duration(args.for_) if args.for_ else None
    queue.pause(*args.types, until=until, why=args.why or "")
    named = set(args.types or "*")
    _print([pause for pause in queue.paused() if pause.type in named], args)
    return DONE


def _resume(args: argparse.Namespace) -> int:
    queue = queue_of(args)
    ended = queue.resume(*args.types)
    if args.json:
        _print(ended, args)
    for pause in [] if args.json else ended:
        print(f"resumed {escape_control(pause.type)}")
    if not args.json:
        tell_pauses(queue)
    return DONE if ended else complain("none of these was paused", REFUSED)


def _print(pauses: list[Pause], args: argparse.Namespace) -> None:
    for pause in pauses:
        print(dump_json(fields_of(pause)) if args.json else escape_control(str(pause)))


PAUSE: Final = Command(
    "pause",
    "have workers begin no jobs, or none of some types; what runs is finished",
    _pause,
    "dbq pause\ndbq pause send_mail --for 2h --why 'the mail server is down'\ndbq pause 'mail.*'",
    (
        arg("types", metavar="TYPE", nargs="*", help="a type, or a glob such as 'mail.*'"),
        arg("--for", dest="for_", metavar="TIME", help="only so long, such as 2h"),
        arg("--why", metavar="TEXT", help=f"for people, {LONGEST_WHY} characters at most"),
        json_option("a JSON object a line"),
    ),
)
RESUME: Final = Command(
    "resume",
    "have workers begin jobs again that were paused",
    _resume,
    "dbq resume\ndbq resume send_mail",
    (
        arg("types", metavar="TYPE", nargs="*", help="as it was paused, or a glob; all if none"),
        json_option("a JSON object a line"),
    ),
)
