"""How a line is turned into a dead one: by one write inside one sector, then the rest."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tables import look, own

from dbbasic_queue.table.line import SECTOR, parse_line
from dbbasic_queue.table.table import Table


def killed(table: Table, payload: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is written and synced, in order, when a row with this payload is killed."""
    calls: list[str] = []
    write, sync = os.pwrite, os.fdatasync

    def noted(fd: int, data: bytes, offset: int) -> int:
        calls.append(f"write {data.strip(b' ')!r} {offset} {offset + len(data)}")
        return write(fd, data, offset)

    with table.writing():
        line = own(table.size, "a1", payload=payload)
        row = parse_line(line, table.append(line))
        assert row is not None
        with monkeypatch.context() as watched:
            watched.setattr(os, "pwrite", noted)
            watched.setattr(os, "fdatasync", lambda fd: (calls.append("sync"), sync(fd)))
            table.kill(row)
    return calls


def test_the_rest_of_a_line_is_blanked_when_the_strike_is_on_disk(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blanks further back alone would be a malformed line after a power cut."""
    table = look(path)
    calls = killed(table, '"' + "x" * 2 * SECTOR + '"', monkeypatch)
    assert [call.split()[0] for call in calls] == ["write", "sync", "write"]
    assert int(calls[0].split()[-1]) % SECTOR == 0
    assert calls[2].split()[-2] == calls[0].split()[-1]


@pytest.mark.parametrize("shift", range(4))
def test_a_strike_leaves_no_half_of_a_character(
    path: Path, monkeypatch: pytest.MonkeyPatch, shift: int
) -> None:
    """A kill after the strike leaves a file that is UTF-8, which 1.0.0 can read."""
    table = look(path)
    struck: list[bytes] = []
    blank = Table._blank
    monkeypatch.setattr(
        Table, "_blank", lambda self, row: (struck.append(path.read_bytes()), blank(self, row))
    )
    killed(table, '"' + "x" * shift + "€" * SECTOR + '"', monkeypatch)
    assert struck[0].decode().count("€") < SECTOR
