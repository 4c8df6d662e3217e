"""Editing the table in an editor of one's own, while producers and workers go on.

Theory of operation
-------------------
A person gets a copy of the table, or of some jobs, without padding and dead lines and with dates in
the place of seconds, and no lock is held while they think. What came back is compared with what was
handed out, as two bags of lines, so that order, blank lines, line ends and white space at the end
of a line do not matter: only lines that are gone and lines that are new. Those of one id are a
changed job, the others a removed or an added one.

This difference, not the text, is applied, under one exclusive lock: each job that is changed or
removed has to stand in the table as it was handed out, else nothing is written at all. What others
appended or changed meanwhile is not part of the difference, and stays.

The table is written anew and renamed over the old one, as a prune does it (table/rewrite.py), so
that a crash leaves the one or the other.
"""

from __future__ import annotations

import json
import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ...errors import EditRefused, InvalidJob, QueueError
from ...job import (
    ERROR_LIMIT,
    PAYLOAD_LIMIT,
    PENDING,
    PROCESSING,
    TIME_LIMIT,
    check_payload,
    check_type,
    result_text,
    safe_error,
)
from ...support.text import shown
from ...table.line import (
    HEADER,
    Row,
    build_head,
    explain,
    parse_line,
)
from ...table.scan import ids_in, lines_in
from ...table.table import Table
from . import dates, editor
from .engine import TsvEngine

log = logging.getLogger("dbbasic_queue")


class Changes(NamedTuple):
    """How many lines an edit has changed, removed and added."""

    changed: int
    removed: int
    added: int


class Fault(NamedTuple):
    """What is wrong with the edited text, in which line; 0 for one that is gone."""

    line: int
    why: str

    def said(self, name: str) -> str:
        """The fault as a message, `FILE:LINE: why`."""
        return f"{name}:{self.line}: {self.why}" if self.line else f"{name}: {self.why}"


class _Difference(NamedTuple):
    """What a person did to the text."""

    old: dict[bytes, Row]  # jobs that did not come back as they were, by id
    new: dict[bytes, Row]  # what came back of them, and jobs that were not there
    lines: dict[bytes, int]  # id -> number of the line, of `new` at least
    others: Counter[bytes]  # malformed lines that did not come back
    faults: list[Fault]


def edit(
    engine: TsvEngine,
    command: Sequence[str],
    max_payload: int = PAYLOAD_LIMIT,
    *,
    ids: Collection[str] | None = None,
    again: Callable[[str], bool] | None = None,
) -> Changes:
    """Have jobs edited by a command, and put what it has changed into the table.

    Args:
        engine: the queue; its table has to be there.
        command: the editor's words, as `editor.editor` returns them.
        max_payload: bytes of JSON a payload may have.
        ids: the jobs; None for all of the table.
        again: asked with the reasons whether to open the editor again at a refused line, if any.

    Raises `EditRefused` (a reason a line) and `StorageError`: nothing was written, and their notes
    (PEP 678) tell where the text is kept. For the main thread: the editor gets its Ctrl-C.

    >>> import tempfile
    >>> engine = TsvEngine(tempfile.mkdtemp() + "/queue.tsv")
    >>> from dbbasic_queue.engines.interface import Order
    >>> _ = engine.add([Order("a1", "mail", '{"to": "Zoe"}', due=5, keyed=True)], now=5)
    >>> edit(engine, ["sed", "-i", "s/Zoe/Ben/"])
    Changes(changed=1, removed=0, added=0)
    >>> engine.find("a1").payload
    {'to': 'Ben'}
    """
    engine.table.require_owner("edit")
    before = hand_out(engine, ids)
    dated = dates.with_dates(before)
    path = editor.write_out(engine.table.data_file, dated)

    def take(text: bytes) -> Changes:
        after = dates.in_seconds(text, dated, before)
        return take_back(engine, before, after, str(path), max_payload)

    try:
        changes = _edited(command, path, take, again)
    except QueueError as error:
        _keep(path, dated, error)
        raise
    editor.remove(path)
    return changes


def _edited(
    command: Sequence[str],
    path: Path,
    take: Callable[[bytes], Changes],
    again: Callable[[str], bool] | None,
) -> Changes:
    """Run the editor until its text is taken, or the person gives up."""
    line = None
    while True:
        editor.run(command, path, line)
        try:
            return take(editor.read(path))
        except EditRefused as error:
            line = error.line
            if line is None or again is None or not again(str(error)):
                raise


def _keep(path: Path, handed_out: bytes, error: QueueError) -> None:
    """Keep the text of an edit that failed, if there is something in it, and add to the error."""
    if isinstance(error, EditRefused):
        error.add_note("nothing was changed")
    try:
        is_worth_keeping = editor.read(path).strip() not in (b"", handed_out.strip())
    except EditRefused:
        is_worth_keeping = path.exists()
    if is_worth_keeping:
        error.add_note(f"the edited text is kept for a week in {path}")
    else:
        editor.remove(path)


# -- what goes out, and what comes back ------------------------------------------------------------


def hand_out(engine: TsvEngine, ids: Collection[str] | None = None) -> bytes:
    """Return the table as text for a person: a header, and each job in a line without padding.

    Malformed lines are there, too, as they are. Of two lines of one id only the later one, which is
    the job. With `ids`, only those jobs. Raises `StorageError`, `TableError`.
    """
    wanted = None if ids is None else {job_id.encode() for job_id in ids}
    with engine.table.reading():
        pieces = list(engine.table.pieces())
    lines: list[bytes] = []
    places: dict[bytes, int] = {}  # of each job in `lines`
    for offset, piece in pieces:
        for number, (line, row) in enumerate(lines_in(piece, offset)):
            if row is not None:
                if wanted is not None and row.id not in wanted:
                    continue
                if row.id in places:
                    lines[places[row.id]] = b""
                places[row.id] = len(lines)
                lines.append(_text(row))
            elif wanted is None and not (line.startswith((b" ", b"\n")) or offset == number == 0):
                lines.append(line)
    return HEADER + b"".join(lines)


def take_back(
    engine: TsvEngine,
    before: bytes,
    after: bytes,
    name: str = "the edited text",
    max_payload: int = PAYLOAD_LIMIT,
) -> Changes:
    """Do to the table what a person did to the text: all of it, or nothing.

    Args:
        engine: the queue.
        before: what `hand_out` returned.
        after: what the person made of it.
        name: of the file that holds it, for messages.
        max_payload: bytes of JSON a payload may have.

    Raises:
        EditRefused: a line is not a job (`line` is its number), or a job has changed since it was
            handed out; the message has all reasons, one a line. Nothing was written.
        StorageError: the disk refused.
    """
    difference = _compare(before, after, name, max_payload)
    if difference.faults:
        raise _refusal(difference.faults, name)
    old, new, others = difference.old, difference.new, difference.others
    changes = Changes(
        len(old.keys() & new.keys()),
        len(old.keys() - new.keys()) + others.total(),
        len(new.keys() - old.keys()),
    )
    if any(changes):
        with engine.table.writing():
            _apply(engine.table, difference, name)
        _announce(engine, changes, new)
    return changes


def _refusal(faults: Sequence[Fault], name: str) -> EditRefused:
    refused = EditRefused("\n".join(fault.said(name) for fault in faults))
    refused.line = next((fault.line for fault in faults if fault.line), None)
    return refused


def _announce(engine: TsvEngine, changes: Changes, new: Mapping[bytes, Row]) -> None:
    now = int(engine.now())
    if any(row.status == PENDING and row.run_at <= now for row in new.values()):
        engine.wake_up(now)
    log.info(
        "edited: %d changed, %d removed, %d added",
        *changes,
        extra={"event": "edited", "count": sum(changes)},
    )


def _text(row: Row) -> bytes:
    """A job's line without padding."""
    return b"%b\t%b\t%d\t%d\t%d\t%b\t%b\n" % (
        build_head(row, moved=False),
        row.status.encode(),
        row.created_at,
        row.run_at,
        row.attempts,
        row.error,
        row.result,
    )


def _key(line: bytes) -> bytes:
    """A line without what editors do to its end."""
    return line.rstrip(b" \r\n")


# -- the difference --------------------------------------------------------------------------------


def _compare(before: bytes, after: bytes, name: str, max_payload: int) -> _Difference:
    """What was done to the text, and what is wrong with it."""
    lines = after.split(b"\n")
    if not after.strip():
        raise EditRefused(f"{name}: it is empty; to remove all jobs, leave the header")
    if _key(lines[0]) != _key(HEADER):
        first = lines[0][:80].decode(errors="backslashreplace")
        wanted = HEADER.decode().strip()
        why = f"the first line is {first!r}; it has to be the header {wanted!r}"
        raise _refusal([Fault(1, why)], name)
    left = Counter(_key(line) for line in before.split(b"\n")[1:])
    fresh: list[tuple[int, bytes]] = []
    for number, line in enumerate(lines[1:], 2):
        key = _key(line)
        if left[key] > 0:
            left[key] -= 1
        elif key.strip():
            fresh.append((number, key))
    found = _Difference({}, {}, _unchanged_of(lines, fresh), Counter(), [])
    _note_gone(found, before, +left)
    for number, line in fresh:
        _note_fresh(found, number, line, max_payload)
    _note_running(found)
    return found


def _unchanged_of(lines: list[bytes], fresh: list[tuple[int, bytes]]) -> dict[bytes, int]:
    """The lines that came back as they were and bear an id that a fresh one bears as well."""
    numbers = {number for number, _ in fresh}
    wanted = {line.partition(b"\t")[0] for _, line in fresh}
    return {
        job_id: number
        for number, line in enumerate(lines[1:], 2)
        if (job_id := line.partition(b"\t")[0]) in wanted
        and number not in numbers
        and parse_line(_key(line)) is not None
    }


def _note_gone(found: _Difference, before: bytes, gone: Counter[bytes]) -> None:
    for line in before.split(b"\n")[1:]:
        key = _key(line)
        if key in gone and key:
            row = parse_line(line)
            if row is None:
                found.others[key] = gone[key]
            else:
                found.old[row.id] = row


def _note_fresh(found: _Difference, number: int, line: bytes, max_payload: int) -> None:
    row = parse_line(line)
    if row is None:
        found.faults.append(Fault(number, _why_no_row(line)))
        return
    if row.id in found.lines:
        why = (
            f"job {row.id.decode()} is on line {found.lines[row.id]} already; a copy needs an id of"
            " its own"
        )
        found.faults.append(Fault(number, why))
        return
    found.lines[row.id] = number
    old = found.old.get(row.id)
    if old is not None and _text(row) == _text(old):  # but for quotes and cut off fields
        del found.old[row.id]
        return
    row, faults = _checked(row, old, max_payload)
    found.new[row.id] = row
    found.faults.extend(Fault(number, why) for why in faults)


def _note_running(found: _Difference) -> None:
    for job_id, row in found.old.items():
        if row.status == PROCESSING:
            why = (
                f"job {job_id.decode()} is processing: its worker will write into this line, so it"
                " cannot be changed or removed now (if the worker has died, `dbq work` takes the"
                " job back)"
            )
            found.faults.append(Fault(found.lines.get(job_id, 0), why))


def _why_no_row(line: bytes) -> str:
    if line.startswith(b" "):
        return "begins with a space, as dead lines do; to remove a job, delete its line"
    return dates.why_no_time(line) or explain(line)


# -- the rules of a line ---------------------------------------------------------------------------


def _checked(row: Row, old: Row | None, max_payload: int) -> tuple[Row, list[str]]:
    """A row as it may be written, and what is wrong with it.

    What the person has not touched stays as it was, even if it would not be taken today.
    """
    try:
        row.line.decode()
    except UnicodeDecodeError as error:
        return row, [f"is not UTF-8: byte {error.object[error.start]:#x} at {error.start}"]
    faults: list[str] = []
    try:
        if old is None or row.type != old.type:
            check_type(row.type.decode())
        if old is None or row.payload.strip() != old.payload.strip():
            payload = _json(row.payload.strip() or b"{}", "payload")
            row = row._replace(payload=check_payload(payload, max_payload).encode())
    except InvalidJob as error:
        faults.append(str(error))
    try:
        if old is None or row.result.strip() != old.result.strip():
            row = row._replace(result=_checked_result(row.result.strip()))
    except InvalidJob as error:
        faults.append(str(error))
    return row, faults + list(_plain_faults(row, old))


def _plain_faults(row: Row, old: Row | None) -> Iterator[str]:
    if row.status == PROCESSING and (old is None or old.status != PROCESSING):
        yield "status processing: only a worker that takes the job may write that"
    for name, value in (("created_at", row.created_at), ("run_at", row.run_at)):
        if value > TIME_LIMIT:
            yield f"{name} {value}: after the year 5138; it is a date, or in seconds"
    error = row.error.decode()
    if (old is None or row.error != old.error) and safe_error(error) != error:
        yield f"the error has control characters, or more than {ERROR_LIMIT} characters"


def _json(text: bytes, column: str) -> object:
    try:
        value: object = json.loads(text)
    except (ValueError, RecursionError) as error:
        why = "nested too deeply" if isinstance(error, RecursionError) else error
        raise InvalidJob(
            f"{column}: not JSON: {why}: {shown(text[:80].decode(errors='replace'))}"
        ) from None
    return value


def _checked_result(text: bytes) -> bytes:
    if not text:
        return b""
    value = _json(text, "result")
    try:
        result = result_text(value).encode()
    except (ValueError, RecursionError) as error:  # NaN, nested too deeply
        raise InvalidJob(f"result: {error}") from None
    if len(result) > PAYLOAD_LIMIT:
        raise InvalidJob(f"result: {len(result)} bytes, over {PAYLOAD_LIMIT}")
    return result


# -- the table, under its lock ---------------------------------------------------------------------


def _apply(table: Table, difference: _Difference, name: str) -> None:
    """Write the table anew, with the difference; raises `EditRefused` where it does not fit."""
    old, new = difference.old, difference.new
    rows = _rows_of(table, old.keys() | new.keys())
    lines, conflicts = _other_lines(table, difference.others)
    for job_id, row in old.items():
        conflicts += _conflicts(job_id, row, rows.get(job_id, []))
    conflicts += [
        f"{name}:{difference.lines[job_id]}: job {job_id.decode()} is in the queue already"
        for job_id in new.keys() - old.keys()
        if job_id in rows
    ]
    if conflicts:
        raise EditRefused("\n".join(conflicts))
    instead: dict[int, Row] = {}
    for job_id in old:
        lines += [row.offset for row in rows[job_id]]
        if job_id in new:
            instead[rows[job_id][-1].offset] = new[job_id]
    added = [row for job_id, row in new.items() if job_id not in old]
    table.rewrite(sorted(lines), None, instead, added)


def _rows_of(table: Table, wanted: Container[bytes]) -> dict[bytes, list[Row]]:
    """All live lines of some jobs, in the order of the file."""
    found: dict[bytes, list[Row]] = defaultdict(list)
    for offset, piece in table.pieces(end=table.size):
        for start, job_id in ids_in(piece, wanted):
            row = parse_line(piece[start : piece.find(b"\n", start) + 1], offset + start)
            if row is not None:
                found[job_id].append(row)
    return found


def _conflicts(job_id: bytes, handed: Row, lines: list[Row]) -> Iterator[str]:
    """Why a job cannot be changed or removed: it is not what it was when it was handed out."""
    job = f"job {job_id.decode()}"
    if not lines:
        yield f"{job} is gone meanwhile: it was pruned or removed"
    elif lines[-1].status != handed.status:
        yield f"{job} changed meanwhile: it is {lines[-1].status} now"
    elif _text(lines[-1]) != _text(handed):
        yield f"{job} changed meanwhile: it is {handed.status} still, but another line"


def _other_lines(table: Table, wanted: Counter[bytes]) -> tuple[list[int], list[str]]:
    """Offsets of malformed lines to remove, and those no longer in the table."""
    found = []
    left = Counter(wanted)
    for offset, piece in table.pieces(end=table.size) if wanted else ():
        at = offset
        for line, row in lines_in(piece, offset):
            if row is None and at > 0 and left[_key(line)] > 0:
                left[_key(line)] -= 1
                found.append(at)
            at += len(line)
    return found, [f"this line is gone meanwhile: {shown(line)}" for line in +left]
