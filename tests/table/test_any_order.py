"""Anything, in any order: the table agrees with a dict."""

from __future__ import annotations

import csv
import io
import os
import re
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tables import (
    LONG,
    add,
    change,
    look,
    overwrite,
)

from dbbasic_queue.table.compat import JobTable

STEP = st.tuples(
    st.sampled_from(["add", "change", "change", "change", "drop", "rewrite", "strip", "reopen"]),
    st.integers(0, 5),
    st.sampled_from(["pending", "processing", "completed", "failed"]),
    st.sampled_from(["", "E: x", 'E: "quoted" ' + "y" * 90, "é" * 300]),
    st.sampled_from(["", ' "ok"', "{}", '{"a": "b c"}', LONG, "[" + "1, " * 40 + "1]"]),
)


@given(steps=st.lists(STEP, max_size=30))
@settings(max_examples=60)
def test_any_sequence_of_changes_agrees_with_a_dict(steps: list[tuple[Any, ...]]) -> None:
    """After any changes, moves and rewrites, we, split and csv read what a dict would hold."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as unsynced:
        for name in ("fsync", "fdatasync"):
            unsynced.setattr(os, name, lambda fd: None)
        path = Path(folder) / "queue.tsv"
        table, model = look(path), {}
        for verb, number, status, error, result in steps:
            job_id = f"a{number}"
            if verb == "reopen":
                table = look(path)
            elif verb == "rewrite":
                with table.writing():
                    table.rewrite()
            elif verb == "strip" and path.exists():
                overwrite(path, re.sub(rb" *\n", b"\n", path.read_bytes()))
            elif verb == "drop":
                assert JobTable(path, "normal").delete(id=job_id) == (job_id in model)
                model.pop(job_id, None)
            elif verb == "add" and job_id not in model:
                add(table, job_id, payload='{"n": "' + "z" * 40 * number + '"}')
                model[job_id] = ("pending", "", "")
            elif verb == "change" and job_id in model:
                change(table, job_id, status, error, result)
                model[job_id] = (status, error, result.strip())
            assert_reads(path, model)


def assert_reads(path: Path, model: dict[str, tuple[str, str, str]]) -> None:
    if not path.exists():
        return
    rows = list(look(path).rows())
    ours = {row.id.decode(): row for row in rows}
    assert len(ours) == len(rows)
    assert {
        name: (row.status, row.error.decode(), row.result.decode().strip())
        for name, row in ours.items()
    } == model
    content = path.read_text()
    live = [line for line in content.split("\n")[1:] if line.strip() and line[0] != " "]
    split = [line.split("\t") for line in live]
    as_csv = list(csv.reader(io.StringIO("\n".join(live), newline=""), delimiter="\t"))
    assert split == as_csv
    assert {row[0]: (row[3], row[7], row[8].strip()) for row in split} == model
