"""What a worker is at, told to the service manager: the `Status:` line of `systemctl status`.

A job that is over within a second costs nothing: the watch's thread looks once a second. Of several
processes the parent tells, as only the main process of a unit is believed (`NotifyAccess=main`).
The protocol is that of sd_notify(3): a datagram to the socket that `$NOTIFY_SOCKET` names.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable
from typing import Final

from ..job import Job
from ..support.text import printable

log = logging.getLogger("dbbasic_queue")

IDLE: Final = "no job is running"
SLOT: Final = 512  # bytes in which a process of several writes its line
LONGEST: Final = 2000  # bytes of a status

Tell = Callable[[str], None]


def service_manager() -> Tell | None:
    """What tells the service manager a status; None where none listens.

    The variable is taken out of the environment: a program that a handler starts would else speak
    for the worker, or wait for an answer.

    >>> os.environ.pop("NOTIFY_SOCKET", None) and None
    >>> service_manager()
    """
    path = os.environ.pop("NOTIFY_SOCKET", "")
    if path[:1] not in ("/", "@") or len(path) < 2:
        return None
    address = "\0" + path[1:] if path[0] == "@" else path
    said, heard = IDLE, ""  # which need not be said at the beginning

    def tell(text: str) -> None:
        nonlocal said, heard
        if text == said:
            return
        said = text
        import socket  # not needed before a job has run for a second

        data = b"STATUS=" + text.encode("utf-8", "replace")[:LONGEST]
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.setblocking(False)  # it is not worth waiting for
                sender.sendto(data, address)
        except OSError as error:
            if str(error) != heard:
                heard = str(error)
                log.debug("cannot tell the service manager: %s", error)

    return tell


def line(job: Job | None) -> str:
    """What is told of a job that runs; `IDLE` for None.

    >>> line(Job("a1", "mail", {}, "processing", 5, 1767225600, 2))[:16]
    'mail a1, attempt'
    """
    if job is None:
        return IDLE
    since = time.strftime("%H:%M:%S", time.localtime(job.run_at))
    return f"{printable(job.type)} {job.id}, attempt {job.attempts}, since {since}"


def of_several(lines: Iterable[str]) -> str:
    """What is told of several processes, by the line of each; empty for one that has said nothing.

    >>> of_several(["mail a1, attempt 1, since 10:00:00", IDLE, ""])
    'mail a1, attempt 1, since 10:00:00'
    >>> of_several(["mail a1, attempt 1, since 10:00:00", "sync b2, attempt 3, since 10:00:07"])
    '2 jobs: mail a1, attempt 1, since 10:00:00; sync b2, attempt 3, since 10:00:07'
    """
    busy = [text for text in lines if text and text != IDLE]
    if len(busy) > 1:
        return f"{len(busy)} jobs: {'; '.join(busy)}"
    return busy[0] if busy else IDLE
