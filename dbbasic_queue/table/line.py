"""Job <-> line: how a job is written as one line of `queue.tsv`, and read back.

Specification of the line
-------------------------
    id  type  payload  status  created_at  run_at  attempts  error  result

Nine fields, tabs between them, a newline at the end, UTF-8.

* No field holds a tab, newline or carriage return, and none begins with `"`, so that a naive
  `split("\\t")` and Python's `csv` module read the same row.
* `payload` and `result` are JSON. A result that is a JSON string has one space before it. The
  payload may have spaces after it (see below), or before it: those mark a row that was moved from
  elsewhere in the file, of which an older line may still be there after a crash.
* `error` is `Type: message` with control characters escaped.
* Times are Unix seconds.
* From the status on, the line is its *tail*: the part that changes. It ends in spaces, the
  reserve, and lies inside one 512-byte sector of the file, which a disk writes whole or not at
  all, so that a change of state is one small write in place.
* A line that begins with a space is dead. An empty line is nothing. Any other line that does not
  fit this is malformed: kept as it is, and reported.

What other programs wrote is read too: rows that `csv` has quoted (plain dbbasic-tsv), rows that
end in CRLF, rows whose empty last fields an editor has cut off.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from ..job import COMPLETED, PENDING, PROCESSING, STATUSES, Job
from ..support.text import STRICT_JSON, shown

COLUMNS: Final = (
    "id",
    "type",
    "payload",
    "status",
    "created_at",
    "run_at",
    "attempts",
    "error",
    "result",
)
HEADER: Final = "\t".join(COLUMNS).encode() + b"\n"
SECTOR: Final = 512  # bytes a disk writes whole or not at all
TAIL: Final = 112  # bytes of a new row's tail, newline included: room for a short error and result
# How the payload of a moved row begins: a space, or two before a JSON string, as a result that is
# a JSON string has one. The reserve of an empty result is spaces and a newline, so does not match.
MOVED: Final = re.compile(rb'\t (?:[^ \t\n"]| ")')

# The fields that a table's readers go by, as parts of the patterns here and in scan.py.
ID: Final = rb"[A-Za-z0-9_-]{1,64}"
ANY_STATUS: Final = "|".join(STATUSES).encode()
ATTEMPTS_LIMIT: Final = 10**9 - 1  # what nine digits hold; there the count stays
DOUBLED: Final = b"doubled"  # in the place of a state: a worker has found another line of the id
_TIMES = rb"(\d{1,15})\t(\d{1,15})\t(\d{1,9})"  # created_at, run_at, attempts

# A whole line. Groups: the nine fields; the last two may be missing, as some editors cut off
# white space at the end. No NUL: that is what a power cut leaves where nothing was written.
_LINE = (
    rb"(%b)\t([^\t\n\0]+)\t([^\t\n\0]*)\t(%b)\t%b(?:\t([^\t\n\0]*))?(?:\t([^\t\n\0]*))?\r?"
) % (ID, ANY_STATUS, _TIMES)
# The same of a line as we write it: all fields there, none beginning with a quote. Excludes no
# more than a tab within a field, which is twice as fast; NUL and line ends are looked for apart.
_OWN = (
    rb'(%b)\t([^\t"][^\t]*)\t((?:[^\t"][^\t]*)?)\t(%b)\t%b\t((?:[^\t"][^\t]*)?)\t((?:[^\t"][^\t]*)?)'
    % (ID, ANY_STATUS, _TIMES)
)
# A pending line as we write it. Its end is its reserve: there is no result. The payload, which may
# be long, excludes no more than a tab, too: what else must not be in it, `begin` finds.
_PENDING = (
    rb'(%b)\t([^\t"\r\n\0][^\t\r\0]*)\t([^\t"][^\t]*)\t%b\t%b\t((?:[^\t"\r\0][^\t\r\0]*)?)\t *\n'
    % (ID, PENDING.encode(), _TIMES)
)


# Each is compiled by its first use, and takes its own place then: a worker without work starts
# half a millisecond sooner, and one with work has nothing to ask.
def _match_line(line: bytes) -> re.Match[bytes] | None:
    return _compile("_match_line", _LINE + rb"\n?")(line)


def _match_own(line: bytes) -> re.Match[bytes] | None:
    return _compile("_match_own", _OWN)(line)


def _match_pending(line: bytes) -> re.Match[bytes] | None:
    return _compile("_match_pending", _PENDING)(line)


def _compile(name: str, pattern: bytes) -> Callable[[bytes], re.Match[bytes] | None]:
    match = globals()[name] = re.compile(pattern).fullmatch
    return match


_STATUS = {name.encode(): name for name in STATUSES}

_RETURN: Final = 13  # as a number, since `in` finds one in bytes ten times faster
_new_tuple = tuple.__new__  # a Row without the call of Row.__new__, which is written in Python
# What raw_decode calls, which is written in Python: StopIteration where no value begins.
_decode: Callable[[str, int], tuple[Any, int]] = STRICT_JSON.scan_once  # type: ignore[attr-defined]


class Row(NamedTuple):
    """A line that parsed, and where it stands. Payload, error and result are still text."""

    offset: int  # of the line's first byte in the file
    line: bytes  # as it stands there, newline included
    tail: int  # of the tail's first byte, counted from the line's
    id: bytes
    type: bytes
    payload: bytes
    status: str
    created_at: int
    run_at: int
    attempts: int
    error: bytes
    result: bytes


def build_line(
    offset: int,
    head: bytes,
    status: str,
    created_at: int,
    run_at: int,
    attempts: int,
    error: bytes = b"",
    result: bytes = b"",
) -> bytes:
    """The line of a job that will stand at `offset`, its tail inside one sector where it fits.

    `head` is `id TAB type TAB payload`, as bytes.
    """
    tail = b"\t%b\t%d\t%d\t%d\t%b\t%b" % (
        status.encode(),
        created_at,
        run_at,
        attempts,
        error,
        result,
    )
    # One byte more than TAIL, as the tab in front is not part of the tail.
    tail = tail.ljust(TAIL)
    start = (offset + len(head) + 1) % SECTOR
    if start + len(tail) > SECTOR >= len(tail):
        head += b" " * (SECTOR - start)
    return head + tail + b"\n"


def pending_line(offset: int, head: bytes, created_at: int, run_at: int) -> bytes:
    """Return the line of a new job, as `build_line` does, in half the time.

    >>> pending_line(9, b"a1\\tm\\t{}", 5, 5) == build_line(9, b"a1\\tm\\t{}", PENDING, 5, 5, 0)
    True
    """
    start = (offset + len(head) + 1) % SECTOR
    if start > SECTOR - TAIL:
        head += b" " * (SECTOR - start)
    return head + _pending_tail(created_at, run_at)


@functools.lru_cache(8)  # many jobs are made in one second, and due at once
def _pending_tail(created_at: int, run_at: int) -> bytes:
    return (b"\t%b\t%d\t%d\t0\t\t" % (PENDING.encode(), created_at, run_at)).ljust(TAIL) + b"\n"


def build_head(row: Row, *, moved: bool) -> bytes:
    """`id TAB type TAB payload` of a row, with the mark of a moved row or without it."""
    payload = row.payload.strip() or b"{}"
    spaces = b" " * (moved + payload.startswith(b'"'))
    return b"%b\t%b\t%b" % (row.id, row.type, spaces + payload)


def is_moved(row: Row) -> bool:
    """Whether a row bears the mark of a moved one."""
    return row.payload.startswith(b" ") and not row.payload.startswith(b' "')


def is_outdated(older: Row, newer: Row) -> bool:
    """Say whether a line is what a move has left, of which `newer` is the job now.

    That has the same work to do; and a job that was completed does not become anything else.
    """
    if (older.type, older.payload.strip()) != (newer.type, newer.payload.strip()):
        return False
    return older.status != COMPLETED or newer.status == COMPLETED


def new_line(offset: int, row: Row, *, moved: bool) -> bytes:
    """The line of `row` written anew at `offset`, with reserve and inside one sector."""
    head = build_head(row, moved=moved)
    return build_line(
        offset,
        head,
        row.status,
        row.created_at,
        row.run_at,
        row.attempts,
        row.error,
        row.result,
    )


def new_tail(
    at: int,
    room: int,
    status: str,
    created_at: int,
    run_at: int,
    attempts: int,
    error: bytes = b"",
    result: bytes = b"",
) -> bytes | None:
    """The tail of a line in a new state, `room` bytes long, as it may stand `at` in the file.

    None when that cannot be one write inside one sector; the row has to move then.
    """
    tail = _state(status, created_at, run_at, attempts) + error + b"\t" + result
    if len(tail) > room or at % SECTOR + room >= SECTOR:
        return None
    return tail.ljust(room)


@functools.lru_cache(16)  # jobs of one second, worked off in one second, have the same
def _state(status: str, created_at: int, run_at: int, attempts: int) -> bytes:
    return b"%b\t%d\t%d\t%d\t" % (status.encode(), created_at, run_at, attempts)


def in_place(
    row: Row, status: str, run_at: int, attempts: int, error: bytes, result: bytes
) -> Row | None:
    """`row` in a new state, its line of the same length; only the tail of it differs.

    None when that cannot be one write inside one sector.
    """
    offset, line, tail_at, job_id, job_type, payload, _, created_at, _, _, _, _ = row
    room = len(line) - tail_at - 1
    tail = new_tail(offset + tail_at, room, status, created_at, run_at, attempts, error, result)
    if tail is None:
        return None
    return _new_tuple(
        Row,
        (
            offset,
            line[:tail_at] + tail + b"\n",
            tail_at,
            job_id,
            job_type,
            payload,
            status,
            created_at,
            run_at,
            attempts,
            error,
            result,
        ),
    )


def parse_line(line: bytes, offset: int = 0) -> Row | None:
    """The row that `line` holds, or None for a line that is dead, empty or malformed.

    `line` ends with its newline, or is the last line of the file without one.

    >>> parse_line(b'a1\\tmail\\t{}\\tpending\\t5\\t5\\t0\\t\\t\\n').status
    'pending'
    """
    match = _match_own(line)
    if match is not None and b"\0" not in line and line.splitlines()[0] + b"\n" == line:
        fields = match.groups()
    else:
        match = _match_line(line)
        if match is None:
            return None
        fields = match.groups(b"")
        if b'\t"' in line or b"\r" in line:
            fields = _fields_of_others(*fields)
    job_id, job_type, payload, status, created_at, run_at, attempts, error, result = fields
    return _new_tuple(
        Row,
        (
            offset,
            line,
            match.start(4),
            job_id,
            job_type,
            payload,
            _STATUS[status],
            int(created_at),
            int(run_at),
            int(attempts),
            error,
            result.rstrip(b" \n"),
        ),
    )


def _fields_of_others(
    job_id: bytes, job_type: bytes, payload: bytes, *changing: bytes
) -> tuple[bytes, ...]:
    """The fields of a row that another program wrote, without its quotes and line end."""
    *times, error, result = changing
    error, result = _guarded(_unquote(error)), _guarded(_unquote(result))
    return job_id, _unquote(job_type), _unquote(payload), *times, error, result


def explain(line: bytes) -> str:
    """Why a line is malformed, in words.

    >>> explain(b"a1\\tmail\\t{}\\tdone\\t5\\t5\\t0\\t\\t\\n")
    "status 'done' is none of pending, processing, completed, failed, cancelled"
    """
    if b"\0" in line:
        return "holds NUL bytes, as a power cut leaves them"
    fields = line.rstrip(b"\r\n").split(b"\t")
    if not 7 <= len(fields) <= 9:
        return f"has {len(fields)} fields, not 9: {_shown(line)}"
    if not re.fullmatch(ID, fields[0]):
        return f"id {_shown(fields[0])} is not 1 to 64 letters, digits, - or _"
    if not fields[1]:
        return "the type is empty"
    if fields[3].rstrip(b" ") == DOUBLED:
        return (
            f"is a second line of the job {fields[0].decode()}, so it was not run; delete it, or"
            " give it an id of its own and the status pending"
        )
    if fields[3] not in _STATUS:
        return f"status {_shown(fields[3])} is none of {', '.join(STATUSES)}"
    for name, field in zip(COLUMNS[4:7], fields[4:7], strict=True):
        if not re.fullmatch(rb"\d{1,15}", field):
            return f"{name} {_shown(field)} is not a whole number"
    return f"is not a row of this table: {_shown(line)}"


def _shown(text: bytes) -> str:
    return shown(text[:400].rstrip(b"\r\n").decode(errors="backslashreplace"))


def _unquote(field: bytes) -> bytes:
    """A field without csv's quotes, or as it is: perhaps the bare JSON string that 1.0.0 wrote.

    csv's writer quotes a field of ours only when it holds a quote, which it then doubles. A JSON
    string never holds two quotes in a row, but for the empty one, which 1.0.0 never wrote.
    """
    text = field.rstrip(b" \r")
    if not (len(text) > 1 and text[:1] == text[-1:] == b'"' and b'""' in text[1:-1]):
        return text
    return text[1:-1].replace(b'""', b'"')


def _guarded(field: bytes) -> bytes:
    """A field as we may write it again: not beginning with a quote."""
    return b" " + field if field.startswith(b'"') else field


@functools.cache  # compiled when it is wanted: a worker that only works starts faster
def row_status() -> re.Pattern[bytes]:
    """The pattern of a whole line, as `parse_line` sees it; its one group is the status.

    For counting without building rows.
    """
    groups = rb"\((?!\?|%b)" % STATUSES[0].encode()
    return re.compile(rb"(?m)^%b$" % re.sub(groups, rb"(?:", _LINE))


def to_job(row: Row) -> Job:
    """The job of a row. A payload or result that is not JSON is handed on as its text.

    >>> to_job(parse_line(b'a1\\tmail\\t{"n": 1}\\tfailed\\t5\\t5\\t3\\tE: x\\t\\n')).payload
    {'n': 1}
    """
    _, _, _, job_id, job_type, payload, status, created_at, run_at, attempts, error, result = row
    return _new_tuple(
        Job,
        (
            job_id.decode(),
            job_type.decode(errors="replace"),
            _read_json(payload, {}),
            status,
            created_at,
            run_at,
            attempts,
            (error.decode(errors="replace").strip() or None) if error else None,
            _read_json(result, None) if result else None,
        ),
    )


def begin(line: bytes, offset: int, now: int) -> tuple[bytes, Job, int, bytes, int] | None:
    """What begins the attempt at a pending job: its id, the job as it is then, where in the line
    its tail begins, the new tail, and when it was due.

    None when the line is not just as we write it, the job not due at `now`, or the new tail too
    long: that is for `parse_line`, `in_place` and `to_job`, which say the same of all other lines
    (a test holds them to it), but take half as long again.

    >>> begin(build_line(0, b"a1\\tmail\\t{}", "pending", 5, 5, 0), 0, now=6)[1].attempts
    1
    """
    match = _match_pending(line)
    if match is None:
        return None
    job_id, job_type, payload, created, run_at, attempts, error = match.groups()
    due = int(run_at)
    if due > now or _RETURN in payload:
        return None
    try:
        type_text, text = job_type.decode(), payload.decode().strip(" ")
        value, end = _decode(text, 0)  # which refuses a NUL anywhere
    except (ValueError, RecursionError, StopIteration):
        return None
    if end != len(text):
        return None
    tail_at, created_at, tried = match.end(3) + 1, int(created), int(attempts) + 1
    if tried > ATTEMPTS_LIMIT:
        tried = ATTEMPTS_LIMIT
    room = len(line) - tail_at - 1
    tail = new_tail(offset + tail_at, room, PROCESSING, created_at, now, tried, error)
    if tail is None:
        return None
    before = (error.decode(errors="replace").strip() or None) if error else None
    job = _new_tuple(
        Job,
        (job_id.decode(), type_text, value, PROCESSING, created_at, now, tried, before, None),
    )
    return job_id, job, tail_at, tail, due


def _read_json(text: bytes, empty: Any) -> Any:
    try:
        json = text.decode().strip(" ")
        value, end = _decode(json, 0)  # without the white space, half the time of json.loads
        if end == len(json):
            return value
    except (ValueError, RecursionError, StopIteration):
        pass
    return text.decode(errors="replace").strip() or empty
