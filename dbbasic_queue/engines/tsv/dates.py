"""The times of a table as dates, for a person who edits it, and back.

    a1  mail  {}  pending  1795640400                 1795640400                 0
    a1  mail  {}  pending  2026-11-25T22:00:00+01:00  2026-11-25T22:00:00+01:00  0

Seconds may be written all the same, and a date without a zone is local time.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Final

COLUMNS: Final = {4: "created_at", 5: "run_at"}


def with_dates(text: bytes) -> bytes:
    """Return the lines of an edit with dates in the place of seconds, wherever there is a date.

    >>> with_dates(b"...\\na1\\tmail\\t{}\\tpending\\t99999999999999\\t9999999\\t0\\t\\t")[4:37]
    b'a1\\tmail\\t{}\\tpending\\t99999999999999'
    """
    lines = text.split(b"\n")
    return b"\n".join([lines[0], *map(_dated, lines[1:])])


def in_seconds(after: bytes, shown: bytes, before: bytes) -> bytes:
    """Return what a person made of `shown`, with seconds in the place of dates.

    Args:
        after: the text that came back.
        shown: the text that went out, as `with_dates` returned it.
        before: the same with seconds. A line that came back as it was is that of `before`, also
            one that is not a job and merely looks as if it had dates.
    """
    known = dict(zip(map(_key, shown.split(b"\n")), before.split(b"\n"), strict=True))
    lines = after.split(b"\n")
    return b"\n".join([lines[0], *_undated(lines[1:], known)])


def _dated(line: bytes) -> bytes:
    fields = line.split(b"\t")
    if len(fields) == 9:  # as each job is handed out
        for column in COLUMNS:
            fields[column] = _date(fields[column])
    return b"\t".join(fields)


def _date(seconds: bytes) -> bytes:
    """A local time with its distance from UTC; the digits where that would not be exact."""
    try:
        moment = datetime.fromtimestamp(int(seconds)).astimezone()
        text = moment.isoformat()
        if datetime.fromisoformat(text).timestamp() == int(seconds):
            return text.encode()
    except (ValueError, OverflowError, OSError):
        pass
    return seconds


def _undated(lines: list[bytes], known: dict[bytes, bytes]) -> Iterator[bytes]:
    for line in lines:
        was = known.get(_key(line))
        if was is not None:
            yield was
            continue
        fields = line.split(b"\t")
        for column in COLUMNS:
            if column < len(fields):
                fields[column] = _seconds(fields[column])
        yield b"\t".join(fields)


def _seconds(field: bytes) -> bytes:
    """The seconds of a date; anything else as it is."""
    text = field.decode(errors="replace").strip(' "')
    try:
        return field if text.isdecimal() else b"%d" % int(datetime.fromisoformat(text).timestamp())
    except (ValueError, OverflowError):
        return field


def why_no_time(line: bytes) -> str | None:
    """Return what is wrong with the times of a line that is not a job; None if nothing is."""
    fields = line.split(b"\t")
    for column, name in COLUMNS.items():
        if column < len(fields) and not fields[column].strip(b' "').isdigit():
            text = fields[column].decode(errors="replace")
            return (
                f"{name} {text!r:.60} is not a time; write one such as 2027-01-01T09:00:00 (local"
                " time), or Unix seconds"
            )
    return None


def _key(line: bytes) -> bytes:
    """A line without what editors do to its end."""
    return line.rstrip(b" \r\n")
