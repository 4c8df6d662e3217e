"""`[notify]`: who is told when the verdict of the health check changes."""

# ruff: noqa: RUF009 - the calls do return dataclasses.field()

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from . import values
from .reader import key


@dataclass(frozen=True)
class NotifyConfig:
    """`[notify]`: who is told when the verdict of the health check changes. `repeat` in seconds."""

    command: tuple[str, ...] = key(
        values.words,
        about="a program that is told, as JSON on its standard input; no shell reads it",
        example=["/usr/local/bin/page-us"],
        otherwise="no program is started",
        value=(),
    )
    urls: tuple[str, ...] = key(
        values.words,
        about="services that are told by Apprise (the extra notify), see its list of URLs",
        example=["mailto://user:secret@example.com"],
        otherwise="no service is told",
        more="They hold secrets: give the config mode 0640 then.",
        value=(),
    )
    repeat: int = key(
        values.duration(1), "1d", about="tell again what still is wrong after this long"
    )
    payloads: bool = key(
        values.boolean,
        False,
        about="send along the payloads of the jobs that are named",
        example=True,
        otherwise="false",
    )
    remember: Path | None = key(
        values.file(),
        about="the file that keeps what was said last",
        example="/var/lib/shop/dbq.notified",
        otherwise="beside the queue",
        more="For a queue on a server it must be given: it is needed while the server is away.",
        hidden=True,
    )
