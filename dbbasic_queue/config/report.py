"""`[report]`: a page that shows the queue, written by the clock."""

# ruff: noqa: RUF009 - the calls do return dataclasses.field()

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..schedule.schedule import Schedule
from . import values
from .reader import key, needed


@dataclass(frozen=True)
class ReportConfig:
    """`[report]`: one HTML file that shows the queue as it was when it was written."""

    file: Path = needed(
        values.file(".html"),
        about="the page, for those with read permission",
        example="/var/lib/shop/queue.html",
        more="It has mode 0640. Its name ends in .html.",
    )
    schedule: Schedule = key(
        values.schedule, "*/15 * * * *", about="when it is written anew", live=True
    )
    payloads: bool = key(
        values.boolean,
        False,
        about="show the payloads of jobs that run, and of one of each kind of failure",
        example=True,
        otherwise="false",
    )
    enabled: bool = key(
        values.boolean,
        True,
        about="false: the schedule writes nothing",
        example=False,
        otherwise="true",
        more="It takes effect at once; the entries stay as they are installed.",
    )
