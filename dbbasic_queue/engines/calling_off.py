"""The mark on a job that runs and is to be broken off, and what becomes of it.

    CancelAsked: 2026-11-26T05:20:00Z zoe

It stands in the place of the job's error, while the job stays `processing`. Its worker looks at its
job once a second, breaks it off, and ends it as `cancelled`. Whatever else ends such an attempt,
a failure or the death of the worker, cancels the job, too; but what was completed first stays so.
"""

from __future__ import annotations

import os
import re
import time
from typing import Final

from ..support.opening import user_name

_MARK: Final = r"CancelAsked: \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ (\S+)"
_LONGEST: Final = 32  # characters of a user's name: so the mark fits into a row as it stands


def mark_of(now: float, user: str) -> str:
    """The mark that `user` leaves at `now`, in Unix seconds.

    >>> mark_of(1700000000, "zoe")
    'CancelAsked: 2023-11-14T22:13:20Z zoe'
    """
    name = re.sub(r"[^\w.@+-]", "_", user, flags=re.ASCII)[:_LONGEST] or "_"
    return f"CancelAsked: {time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(now))} {name}"


def own_mark(now: float) -> str:
    """The mark that the user of this process leaves at `now`, in Unix seconds."""
    return mark_of(now, user_name(os.geteuid()))


def note_of(error: str | None) -> str:
    """The error that a job with this mark ends with; empty when it is not a mark.

    >>> note_of(mark_of(1700000000, "zoe")), note_of("ValueError: no"), note_of(None)
    ('Cancelled by zoe while it ran', '', '')
    """
    found = re.fullmatch(_MARK, error) if error else None
    return f"Cancelled by {found[1]} while it ran" if found else ""
