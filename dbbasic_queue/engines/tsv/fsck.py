"""What is wrong with a table, and how it is put right: nothing is ever deleted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from ...job import PROCESSING
from ...table.line import HEADER, Row, explain
from ...table.scan import lines_in
from .engine import Ledger

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


def check(ledger: Ledger) -> list[Finding]:
    """All that is wrong with the table, in the order of its lines. Reads only.

    * malformed: a line that is no row. It is kept, skipped by workers.
    * torn: the last line, cut off while it was being written.
    * duplicate: a row of which a later one of the same id is alive; the later one counts.
    * orphan: a job that is processing, but whose worker is dead. The next worker takes it back.

    >>> import tempfile
    >>> check(Ledger(tempfile.mkdtemp() + "/queue.tsv"))
    []
    """
    findings = []
    last: dict[bytes, tuple[int, Row]] = {}
    with ledger.table.reading():
        for number, offset, line, row in _numbered_lines(ledger):
            if row is not None:
                if row.id in last:
                    findings.append(_duplicate(*last[row.id], later=number))
                last[row.id] = number, row
            elif number > 1 and not line.startswith(b" ") and not line.isspace():
                findings.append(Finding(MALFORMED, number, explain(line), offset))
        findings += _torn_end(ledger)
        findings += [
            Finding(ORPHAN, number, f"{_name(row)}: processing, but its worker is dead", row.offset)
            for number, row in last.values()
            if row.status == PROCESSING and not ledger.claims.is_held(row.id)
        ]
    return sorted(findings, key=lambda finding: (finding.line, finding.kind))


def _numbered_lines(ledger: Ledger) -> Iterator[tuple[int, int, bytes, Row | None]]:
    number = 0
    for start, piece in ledger.table.pieces():
        offset = start
        for line, row in lines_in(piece, start):
            number += 1
            if not (number == 1 and line.rstrip(b"\r\n") == HEADER.rstrip()):
                yield number, offset, line, row
            offset += len(line)


def _torn_end(ledger: Ledger) -> list[Finding]:
    number, line, offset = ledger.table.last_line()
    if not line or line.endswith(b"\n") or not ledger.table.is_torn(line, offset):
        return []
    return [Finding(TORN, number, f"cut off while it was being written: {explain(line)}", offset)]


def _duplicate(number: int, row: Row, later: int) -> Finding:
    return Finding(DUPLICATE, number, f"{_name(row)}: out of date, see line {later}", row.offset)


def _name(row: Row) -> str:
    return f"{row.type.decode(errors='replace')} {row.id.decode()}"


def repair(ledger: Ledger) -> list[Finding]:
    """Put right what `check` finds; returns what was found.

    Malformed, torn and outdated lines are moved into `queue.torn` beside the table. Orphans are
    left to the next worker, which knows how often a job may be tried. Raises `StorageError`.
    """
    with ledger.table.writing():  # which mends a torn end
        findings = check(ledger)
        aside = {finding.offset for finding in findings if finding.kind in (MALFORMED, DUPLICATE)}
        if aside:
            ledger.table.set_lines_aside(aside)
    return findings
