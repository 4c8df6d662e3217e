"""Pauses: types of jobs that no worker begins for a while. A part of `Queue`, and of each engine.

Theory of operation
-------------------
A pause is for one type, or for all that a glob matches; `*` is all. What runs is finished, what
waits keeps waiting, and jobs can be added meanwhile. The engine keeps the pauses where a worker
sees them in the step in which it begins a job, so that none is begun once `pause` has returned.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any, Final, NamedTuple

from ..errors import InvalidJob
from ..job import check_time, check_type
from ..support.opening import user_name
from ..support.text import escape_control, printable, shown

ALL: Final = "*"
LONGEST_WHY: Final = 200  # characters
KNOWN: Final = 1000  # types of which a worker remembers whether they are held
NEVER: Final = "-"  # stands for no time, and for no text

log = logging.getLogger("dbbasic_queue")


class Pause(NamedTuple):
    """A type of jobs that no worker begins, or a glob for several. Times in Unix seconds."""

    type: str
    since: int
    until: int | None = None  # None: until it is resumed
    who: str = ""
    why: str = ""

    def __str__(self) -> str:
        """For people, on one line."""
        from time import localtime, strftime

        def moment(seconds: int) -> str:
            return strftime("%Y-%m-%d %H:%M:%S", localtime(seconds))

        what = "all types" if self.type == ALL else self.type
        until = f" until {moment(self.until)}" if self.until is not None else ""
        by = f" by {self.who}" if self.who else ""
        why = f": {self.why}" if self.why else ""
        return f"{what} paused since {moment(self.since)}{by}{until}{why}"

    def fields(self) -> tuple[str, ...]:
        """As texts, for a line of a file or a value on a server."""
        until = NEVER if self.until is None else utc(self.until)
        return self.type, utc(self.since), until, self.who or NEVER, self.why or NEVER


def from_fields(fields: Sequence[str]) -> Pause:
    """Return the pause of these texts; raises `ValueError` for what is not one.

    >>> from_fields(["mail.*", "2026-11-26T05:10:00Z", "-", "zoe", "-"]).who
    'zoe'
    """
    if len(fields) != 5:
        raise ValueError("five fields belong to a pause")
    job_type, since, until, who, why = fields
    try:
        check_type(job_type)
    except InvalidJob as error:
        raise ValueError(str(error)) from None
    ends = None if until == NEVER else _seconds(until)
    who, why = ("" if text == NEVER else text for text in (who, why))
    return Pause(job_type, _seconds(since), ends, who, why)


def matches(job_type: str, glob: str) -> bool:
    """Say whether a pause of `glob` is one of this type.

    >>> matches("mail.send", "mail.*"), matches("a[1]", "a[1]"), matches("mail", "mail.*")
    (True, True, False)
    """
    return job_type == glob or fnmatchcase(job_type, glob)


def paused_at(pauses: Iterable[Pause], now: float) -> list[Pause]:
    """Those of the pauses that are not over."""
    return [pause for pause in pauses if pause.until is None or pause.until > now]


class Held:
    """What a worker must not begin now: asked by `in`, with a type.

    Args:
        pauses: of them at least one; all hold now.

    >>> held = Held([Pause("mail.*", 5)])
    >>> "mail.send" in held, "report" in held, held.all
    (True, False, False)
    """

    def __init__(self, pauses: Sequence[Pause]) -> None:
        self.pauses = tuple(pauses)
        self.all = any(pause.type == ALL for pause in pauses)
        ends = (pause.until for pause in pauses if pause.until is not None)
        self.ends: float = min(ends, default=math.inf)  # Unix seconds: when to look again
        self._known: dict[str, bool] = {}

    def __contains__(self, job_type: str) -> bool:
        held = self._known.get(job_type)
        if held is None:
            if len(self._known) >= KNOWN:
                self._known.clear()
            held = any(matches(job_type, pause.type) for pause in self.pauses)
            self._known[job_type] = held
        return held


def tell_pauses(held: Held | None, before: Held | None) -> None:
    """Say which pauses a worker meets that it had not met before."""
    for pause in held.pauses if held is not None else ():
        if before is None or pause not in before.pauses:
            log.info("%s", printable(str(pause)), extra={"event": "paused"})


class Pausing:
    """The methods of `Queue` for pauses."""

    engine: Any

    def pause(self, *types: str, until: float | datetime | None = None, why: str = "") -> None:
        """Have workers begin no jobs of these types; of none, if no type is given.

        When this returns, no worker begins one any more. What runs is finished. A type that is
        paused already gets the new time and reason.

        Args:
            types: each a type, or a glob such as `mail.*`.
            until: Unix seconds or an aware datetime; None: until `resume`.
            why: for people, 200 characters at most.

        Raises `InvalidJob` for a type or a time that is not one, `StorageError`.

        >>> import tempfile
        >>> from dbbasic_queue import Queue
        >>> queue = Queue(tempfile.mkdtemp() + "/queue.tsv")
        >>> job_id = queue.enqueue("mail.send", {})
        >>> queue.pause("mail.*", why="the mail server is down")
        >>> queue.process_jobs({"mail.send": bool}).completed, queue.paused()[0].why
        (0, 'the mail server is down')
        >>> [pause.type for pause in queue.resume()]
        ['mail.*']
        """
        now = int(self.engine.now())
        ends = None if until is None else check_time(until, now)
        if ends is not None and ends <= now:
            raise InvalidJob(f"until {shown(until)}: a pause must end in time to come")
        if len(why) > LONGEST_WHY:
            raise InvalidJob(f"why {shown(why)}: must be {LONGEST_WHY} characters at most")
        text = escape_control(why).strip()
        self.engine.pause(
            [Pause(check_type(each), now, ends, me(), text) for each in types or (ALL,)]
        )

    def resume(self, *types: str) -> list[Pause]:
        """End the pauses of these types, of all if none is given; returns those that were ended.

        Args:
            types: each what a pause was given, or a glob that matches that.

        Raises `InvalidJob` for what is neither, `StorageError`.
        """
        ended: list[Pause] = self.engine.resume([check_type(each) for each in types or (ALL,)])
        return ended

    def paused(self) -> list[Pause]:
        """The pauses that hold now, in the order of their types.

        Raises `StorageError` where this user cannot read them.
        """
        found: list[Pause] = self.engine.paused()
        return found


def me() -> str:
    """The name of this process's user, for a line that others read."""
    return escape_control(user_name(os.geteuid()))


def utc(seconds: int) -> str:
    """A moment in Unix seconds as it stands in a file."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _seconds(text: str) -> int:
    moment = datetime.fromisoformat(text)
    try:
        seconds = int((moment if moment.tzinfo else moment.astimezone()).timestamp())
        can_be_written = bool(seconds >= 0 and utc(seconds))
    except (OverflowError, ValueError):  # in the zone of this machine, or in UTC, after 9999
        can_be_written = False
    if not can_be_written:
        raise ValueError(f"{text}: not a time between 1970 and the year 9999")
    return seconds
