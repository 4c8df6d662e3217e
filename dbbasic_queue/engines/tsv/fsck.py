"""What is wrong with a table, and how it is put right: nothing is ever deleted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from ...job import PROCESSING
from ...table.line import HEADER, Row, explain
from ...table.scan import lines_in
from .engine import TsvEngine

MALFORMED: Final = "malformed"
TORN: Final = "torn"
DUPLICATE: Final = "duplicate"
ORPHAN: Final = "orphan"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong with a line of the table (counted from 1, the header being line 1)."""

    kind: str  # malformed, torn, duplicate, orphan
    line: int
    message: str
    offset: int  # in bytes, of the line


def check(engine: TsvEngine) -> list[Finding]:
    """All that is wrong with the table, in the order of its lines. Reads only.

    * malformed: a line that is no row. It is kept, skipped by workers.
    * torn: the last line, cut off while it was being written.
    * duplicate: a row of which a later one of the same id is alive; the later one counts.
    * orphan: a job that is processing, but whose worker is dead. The next worker takes it back.

    >>> import tempfile
    >>> check(TsvEngine(tempfile.mkdtemp() + "/queue.tsv"))
    []
    """
    findings = []
    last: dict[bytes, tuple[int, Row]] = {}
    with engine.table.reading():
        for number, offset, line, row in _numbered_lines(engine):
            if row is not None:
                if row.id in last:
                    findings.append(_duplicate(*last[row.id], later=number))
                last[row.id] = number, row
            elif number > 1 and not line.startswith(b" ") and not line.isspace():
                findings.append(Finding(MALFORMED, number, explain(line), offset))
        findings += _torn_end(engine)
        findings += [
            Finding(ORPHAN, number, f"{_name(row)}: processing, but its worker is dead", row.offset)
            for number, row in last.values()
            if row.status == PROCESSING and not engine.claims.is_held(row.id)
        ]
    return sorted(findings, key=lambda finding: (finding.line, finding.kind))


def _numbered_lines(engine: TsvEngine) -> Iterator[tuple[int, int, bytes, Row | None]]:
    number = 0
    for start, piece in engine.table.pieces():
        offset = start
        for line, row in lines_in(piece, start):
            number += 1
            if not (number == 1 and line.rstrip(b"\r\n") == HEADER.rstrip()):
                yield number, offset, line, row
            offset += len(line)


def _torn_end(engine: TsvEngine) -> list[Finding]:
    number, line, offset = engine.table.last_line()
    if not line or line.endswith(b"\n") or not engine.table.is_torn(line, offset):
        return []
    return [Finding(TORN, number, f"cut off while it was being written: {explain(line)}", offset)]


def _duplicate(number: int, row: Row, later: int) -> Finding:
    return Finding(DUPLICATE, number, f"{_name(row)}: out of date, see line {later}", row.offset)


def _name(row: Row) -> str:
    return f"{row.type.decode(errors='replace')} {row.id.decode()}"


def repair(engine: TsvEngine) -> list[Finding]:
    """Put right what `check` finds; returns what was found.

    Malformed, torn and outdated lines are moved into `queue.torn` beside the table. Orphans are
    left to the next worker, which knows how often a job may be tried. A table that has a second
    name gets a file of its own. Raises `StorageError`.
    """
    engine.table.renews = True
    with engine.table.writing():  # which mends a torn end
        findings = check(engine)
        aside = {finding.offset for finding in findings if finding.kind in (MALFORMED, DUPLICATE)}
        if aside:
            engine.table.require_owner("fsck --repair")
            engine.table.set_lines_aside(aside)
    return findings
