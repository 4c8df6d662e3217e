"""The history on its way to another queue: as lines beside the hours, which are not hours.

Theory of operation
-------------------
What a queue's workers did is to be counted in one queue, once, wherever `dbq migrate` is killed:

    1  at the source: each hour becomes a line "leaving CALL ..."   counted nowhere now
    2  at the target: the hours are added, with a line "adopted CALL", unless that is there
    3  at the source: the lines of the call are removed

each step in one change. The call is made up anew each time, and stands in the lines: so a later run
finds what was begun, and repeats 2 and 3. An hour that a worker adds meanwhile is one of the source
and leaves with the next call.
"""

from __future__ import annotations

from typing import Final

from .history import Hour, parse_line, to_line

LEAVING: Final = "leaving"
ADOPTED: Final = "adopted"


def leaving_line(call: str, hour: Hour) -> str:
    """The line of an hour that is on its way.

    >>> leaving_line("f3", Hour(7200, "mail", 1))[:35].split("\\t")
    ['leaving', 'f3', '1970-01-01T02:00Z', 'mail', '1']
    """
    return f"{LEAVING}\t{call}\t{to_line(hour)}"


def adopted_line(call: str) -> str:
    """The line that tells that the hours of a call are there."""
    return f"{ADOPTED}\t{call}"


def parse_leaving(line: str) -> tuple[str, Hour] | None:
    """The call and the hour of a line; None for another line.

    >>> parse_leaving(leaving_line("f3", Hour(7200, "mail", 1)))[1].type
    'mail'
    >>> parse_leaving(adopted_line("f3"))
    """
    word, _, rest = line.partition("\t")
    call, _, rest = rest.partition("\t")
    hour = parse_line(rest) if word == LEAVING else None
    return None if hour is None else (call, hour)


def tells_of_a_move(line: str) -> bool:
    """Whether a line that is not an hour is one of these.

    >>> tells_of_a_move(adopted_line("f3")), tells_of_a_move("tomorrow")
    (True, False)
    """
    return line.startswith(f"{ADOPTED}\t") or parse_leaving(line) is not None


def by_call(lines: list[str]) -> dict[str, list[Hour]]:
    """The hours that are on their way, by call, of all lines that are not hours."""
    found: dict[str, list[Hour]] = {}
    for call, hour in filter(None, map(parse_leaving, lines)):
        found.setdefault(call, []).append(hour)
    return found
