"""What is wrong with a table, and how it is put right: nothing is ever deleted."""

from __future__ import annotations

import errno
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Final

from ...errors import StorageError
from ...job import PROCESSING
from ...table.line import HEADER, Row, explain
from ...table.scan import OVERLONG, TOO_LONG, ids_of, lines_in
from ...table.table import Table
from . import hint, history, paused, rates
from .engine import TsvEngine

MALFORMED: Final = "malformed"
TORN: Final = "torn"
DUPLICATE: Final = "duplicate"
ORPHAN: Final = "orphan"
PAUSES: Final = "paused"
RATES: Final = "rates"
HISTORY: Final = "history"
HINT: Final = "hint"
BESIDE: Final = (PAUSES, RATES, HISTORY, HINT)
TRIES: Final = 3

_BITS: Final = 27
_MASK: Final = (1 << _BITS) - 1


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong with a line of the table (counted from 1, the header being line 1), or of a
    file beside it, whose ending is the `kind` then."""

    kind: str  # malformed, torn, duplicate, orphan; paused and the other endings
    line: int
    message: str
    offset: int  # in bytes, of the line


def check(engine: TsvEngine) -> list[Finding]:
    """All that is wrong with the table, in the order of its lines. Reads only.

    * malformed: a line that is not a row. It is kept, and workers skip it.
    * torn: the last line, cut off while it was being written.
    * duplicate: a row of which a later one of the same id is alive; the later one counts.
    * orphan: a job that is processing, but whose worker is dead. The next worker takes it back.
    * paused: a line of `queue.paused` that says nothing, and so pauses nothing.
    * rates, history: a line of `queue.rates` or `queue.history` that counts nothing.
    * hint: a line of `queue.hint` that says nothing, and so spares no worker anything.

    >>> import tempfile
    >>> check(TsvEngine(tempfile.mkdtemp() + "/queue.tsv"))
    []
    """
    beside = _beside(engine)
    for _ in range(TRIES):
        findings = _look(engine)
        if findings is not None:
            return findings + beside
    with engine.table.reading():  # it is written anew faster than it is read: hold it
        return (_look(engine) or []) + beside


def _beside(engine: TsvEngine) -> list[Finding]:
    """What is wrong with the files beside the table."""
    sibling = engine.table.sibling
    pauses = paused.bad_lines(paused.read(sibling("paused")))
    spent = rates.bad_lines(rates.read(sibling("rates")))
    ended, hints = history.bad_lines(engine.table), hint.bad_lines(engine.table)
    found = zip(BESIDE, (pauses, spent, ended, hints), strict=True)
    return [Finding(kind, number, why, 0) for kind, lines in found for number, why in lines]


def _look(engine: TsvEngine) -> list[Finding] | None:
    """Read the table, a piece at a time; None when it was written anew meanwhile.

    What is found without the lock is looked at again under it, a few lines at a time.
    """
    table = engine.table
    size = table.snapshot()[1]
    generation = table.generation
    repeated = _repeated(table, size)
    found: list[Finding] = []
    last: dict[bytes, tuple[int, Row]] = {}  # of the ids that may be repeated
    running: dict[bytes, tuple[int, Row]] = {}
    for number, offset, line, row in _numbered_lines(table, size):
        if row is not None:
            if row.id in repeated:
                if row.id in last:
                    found.append(_duplicate(*last[row.id], later=number))
                last[row.id] = number, row
            running.pop(row.id, None)
            if row.status == PROCESSING:
                running[row.id] = number, row
        elif line is OVERLONG:
            found.append(Finding(MALFORMED, number, TOO_LONG, offset))
        elif number > 1 and not line.startswith(b" ") and not line.isspace():
            found.append(Finding(MALFORMED, number, explain(line), offset))
    found += [
        Finding(ORPHAN, number, f"{_name(row)}: processing, but its worker is dead", row.offset)
        for number, row in running.values()
    ]
    found = [finding for finding in found if _is_still(engine, finding)]
    found += _torn_end(table)
    if table.generation != generation:
        return None
    return sorted(found, key=lambda finding: (finding.line, finding.kind))


def _is_still(engine: TsvEngine, finding: Finding) -> bool:
    """Say whether a line is still what it was when it was found."""
    with engine.table.reading():
        row = engine.table.read_row(finding.offset)
    if finding.kind == ORPHAN:
        return row is not None and row.status == PROCESSING and not engine.claims.is_held(row.id)
    return (row is None) == (finding.kind == MALFORMED)


def _repeated(table: Table, size: int) -> set[bytes]:
    """Return the ids that more than one line may have, and a few more, in 16 MiB for any table.

    Each id sets two of the bits. One that finds both set may have been there before.
    """
    bits = bytearray(1 << 24)
    found = set()
    for _, piece in table.pieces(end=size):
        for job_id in ids_of(piece):
            value = hash(job_id)
            known = True
            for bit in (value & _MASK, value >> _BITS & _MASK):
                known = known and bool(bits[bit >> 3] & 1 << (bit & 7))
                bits[bit >> 3] |= 1 << (bit & 7)
            if known:
                found.add(job_id)
    return found


def _numbered_lines(table: Table, size: int) -> Iterator[tuple[int, int, bytes, Row | None]]:
    number = 0
    for start, piece in table.pieces(end=size, overlong=True):
        if piece is OVERLONG:
            number += 1
            yield number, start, piece, None
            continue
        offset = start
        for line, row in lines_in(piece, start):
            number += 1
            if not (number == 1 and line.rstrip(b"\r\n") == HEADER.rstrip()):
                yield number, offset, line, row
            offset += len(line)


def _torn_end(table: Table) -> list[Finding]:
    with table.reading():
        number, line, offset = table.last_line()
        if not line or line.endswith(b"\n") or not table.is_torn(line, offset):
            return []
    return [Finding(TORN, number, f"cut off while it was being written: {explain(line)}", offset)]


def _duplicate(number: int, row: Row, later: int) -> Finding:
    return Finding(DUPLICATE, number, f"{_name(row)}: out of date, see line {later}", row.offset)


def _name(row: Row) -> str:
    return f"{row.type.decode(errors='replace')} {row.id.decode()}"


def repair(engine: TsvEngine) -> list[Finding]:
    """Put right what `check` finds; returns what was found.

    Malformed, torn and outdated lines, and those of the files beside it that say nothing, are moved
    into `queue.torn` beside the table. Orphans are left to the next worker,
    which knows how often a job may be tried. A table that has a second name gets a file of its own.
    Raises `StorageError`.
    """
    table = engine.table
    table.renews = True
    for _ in range(TRIES):
        with table.writing():  # which mends a torn end
            generation = table.generation
        findings = check(engine)
        bad = [finding for finding in findings if finding.kind in (MALFORMED, DUPLICATE)]
        kinds = {finding.kind for finding in findings}
        if bad or kinds.intersection(BESIDE):
            table.require_owner("fsck --repair")
        _mend_beside(engine, kinds)
        aside = {finding.offset for finding in bad if not _runs(engine, finding)}
        if not aside or table.set_lines_aside(aside, generation):
            return findings
    raise StorageError(
        errno.EBUSY, f"the queue {engine.path} is written anew again and again: try it later"
    )


def _mend_beside(engine: TsvEngine, kinds: Collection[str]) -> None:
    if PAUSES in kinds:
        paused.Changes(engine.table).mend(int(engine.now()))
    if RATES in kinds:
        rates.mend(engine.table)
    if HISTORY in kinds:
        history.mend(engine.table, engine.claims)
    if HINT in kinds:
        hint.mend(engine.table)


def _runs(engine: TsvEngine, finding: Finding) -> bool:
    """Whether a line is that of a job at which a worker is, who will write how it ended there."""
    with engine.table.reading():
        row = engine.table.read_row(finding.offset)
        return row is not None and row.status == PROCESSING and engine.claims.is_held(row.id)
