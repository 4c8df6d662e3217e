"""The command `dbq history`: what workers did, by type, and hour by hour as a curve."""

from __future__ import annotations

import argparse
import sys
from typing import Final

from ..support.columns import fitted
from ..support.text import dump_json, escape_control
from .choosing import OF_TYPE, time_of
from .common import DONE, Command, arg, complain, json_option, queue_of

CURVE: Final = 24  # hours that it shows
BARS: Final = "▁▂▃▄▅▆▇█"
PLAIN: Final = "_.-~=+*#"  # the same where the output has no such characters
NAME: Final = 15  # characters of a type that are shown


def _history(args: argparse.Namespace) -> int:
    queue = queue_of(args)
    now = queue.now()
    history = queue.history(args.type, time_of("--since", args.since, now) or 0)
    if args.json:
        for hour in history:
            print(dump_json(hour.as_dict()))
        return DONE
    if not history:
        complain(f"{queue.engine.url}: no worker has run such a job in that time", DONE)
        return DONE
    head = f"{'TYPE':<{NAME}} {'DONE':>8} {'RETRIED':>7} {'FAILED':>6} {'WAIT':>5} {'RUN':>5}"
    print(f"{head}  LAST {CURVE} HOURS")
    for total in history.by_type():
        name = fitted(escape_control(total.type), NAME)
        mine = type(history)(hour for hour in history if hour.type == total.type)
        numbers = [hour.attempts for hour in mine.by_hour(now, CURVE)]
        print(
            f"{name} {total.completed:>8} {total.retried:>7} {total.failed:>6}"
            f" {short(total.waited.quantile(0.95)):>5} {short(total.ran.quantile(0.95)):>5}"
            f"  {curve(numbers, _bars())}"
        )
    complain("WAIT and RUN: 95 of 100 did not wait or run longer", DONE)
    return DONE


def short(seconds: float | None) -> str:
    """Write a time in at most five characters.

    >>> short(0.04), short(0.0004), short(95), short(7200), short(3 * 86400), short(None)
    ('40ms', '<1ms', '95s', '2h', '3d', '-')
    """
    if seconds is None:
        return "-"
    if seconds < 0.001:
        return "<1ms" if seconds else "0s"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f}ms"
    for unit, length, up_to in (("s", 1, 100), ("min", 60, 100), ("h", 3600, 48)):
        number = seconds / length
        if number < up_to:
            return (
                f"{number:.1f}".removesuffix(".0") + unit
                if number < 9.95
                else f"{number:.0f}{unit}"
            )
    return f"{seconds / 86400:.0f}d"


def curve(numbers: list[int], bars: str = BARS) -> str:
    """Draw numbers as bars of eight heights, the highest for the largest; a blank for none.

    >>> curve([0, 1, 4, 8])
    ' ▁▄█'
    """
    most = max(numbers, default=0) or 1
    return "".join(bars[-(-8 * number // most) - 1] if number else " " for number in numbers)


def _bars() -> str:
    try:
        BARS.encode(sys.stdout.encoding)
    except (UnicodeEncodeError, LookupError):
        return PLAIN
    return BARS


HISTORY: Final = Command(
    "history",
    "show what workers did: how many jobs of each type, how long they waited and ran",
    _history,
    "dbq history\ndbq history --type 'mail.*' --since 7d\ndbq history --json",
    (
        OF_TYPE,
        arg(
            "--since",
            metavar="TIME",
            help="only hours that had not ended then: a time as `dbq enqueue --run-at` takes it,"
            " or 7d for a week ago (default: all)",
        ),
        json_option("a JSON object a line: an hour and type"),
    ),
)
