"""Writing a table anew: nothing that lives is lost, whatever stands around it."""

from __future__ import annotations

import errno
import itertools
import os
import signal
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tables import (
    MALFORMED,
    add,
    fields,
    fill,
    get,
    look,
    names,
    overwrite,
    own,
    states,
    text,
    write,
)

from dbbasic_queue import Queue, StorageError
from dbbasic_queue.engines.tsv import fsck
from dbbasic_queue.table import renewing as store
from dbbasic_queue.table import rewrite, scan
from dbbasic_queue.table.line import HEADER, SECTOR, Row, in_place, parse_line
from dbbasic_queue.table.table import Table

LINES = st.lists(
    st.one_of(
        st.tuples(
            st.sampled_from(["pending", "processing", "completed", "failed"]),
            st.integers(0, 400),
            st.sampled_from(["", "E: x", "E: " + "y" * 200]),
        ),
        st.sampled_from([*MALFORMED[:-1], b"   \n", b" " * 600 + b"\n", b"\n", b"half\n"]),
    ),
    max_size=15,
)


@given(LINES, st.sampled_from([1, 200, 1000, 1 << 16]), st.sets(st.integers(0, 14)))
@example([("pending", n % 7, "") for n in range(14)], 1, {0})
def test_a_rewrite_keeps_all_that_lives(lines: list[Any], stretch: int, unwanted: set[int]) -> None:
    """Whatever is copied, and in what stretches: rows, their sectors, and malformed lines stay.

    A second rewrite changes nothing.
    """
    content, wanted, drop, malformed = HEADER, {}, [], b""
    for number, line in enumerate(lines):
        if isinstance(line, bytes):
            malformed += b"" if line.startswith(b" ") else line
        else:
            status, length, error = line
            payload = '{"n": "' + "z" * length + '"}'
            line = own(len(content), f"j{number}", status, payload=payload, error=error)
            if number in unwanted:
                drop.append(len(content))
            else:
                wanted[f"j{number}".encode()] = fields(parse_line(line))
        content += line
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patched:
        for name in ("fsync", "fdatasync"):
            patched.setattr(os, name, lambda fd: None)
        patched.setattr(rewrite, "LONG_STRETCH", stretch)
        path = Path(folder) / "queue.tsv"
        write(path, content, header=b"")
        table = look(path)
        with table.writing():
            assert table.rewrite(drop) == len(drop)
            once = path.read_bytes()
            assert table.rewrite() == 0
        assert path.read_bytes() == once
        rows = list(table.rows())
        assert {row.id: fields(row) for row in rows} == wanted
        assert [row.id for row in rows] == list(wanted)
        assert all(in_place(row, "failed", 6, 9, b"", b"") for row in rows if not is_done(row))
        dead = b"".join(line for line in once.splitlines(True)[1:] if line[:1] == b" ")
        assert len(dead) < 520 * (len(lines) + 1)
        live = [row.line for row in rows]
        others = [line for line in once.split(b"\n")[1:-1] if line[:1] != b" "]
        assert b"".join(line + b"\n" for line in others if line + b"\n" not in live) == malformed


def is_done(row: Row) -> bool:
    """Whether a row never changes again, or is too long for one sector."""
    return row.status == "completed" or len(row.line) - row.tail > SECTOR


def test_a_table_that_cannot_be_read_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that fails while the old file is read: a clear error, and all is as it was."""
    path = tmp_path / "queue.tsv"
    before = write(path, own(len(HEADER)))
    table = look(path)

    def fail(fd: int, end: int) -> Any:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(rewrite, "whole_lines", fail)
    with pytest.raises(StorageError, match=r"cannot rewrite the queue .*"), table.writing():
        table.rewrite()
    assert path.read_bytes() == before
    assert names(tmp_path) == {"queue.tsv", "queue.lock"}


@given(st.lists(st.integers(1, 40), max_size=9), st.integers(0, 12), st.integers(1, 9))
def test_whole_lines_make_up_the_file(lengths: list[int], rest: int, piece: int) -> None:
    """However long lines and pieces are, no line is cut, left out or given twice."""
    whole = b"".join(b"x" * (length - 1) + b"\n" for length in lengths)
    with tempfile.TemporaryFile() as file, pytest.MonkeyPatch.context() as patched:
        patched.setattr(scan, "PIECE", piece)
        file.write(whole + b"y" * rest)
        file.flush()
        found = list(scan.whole_lines(file.fileno(), len(whole) + rest))
    assert b"".join(lines for _, lines in found) == whole
    assert all(lines.endswith(b"\n") for _, lines in found)
    starts = [0, *itertools.accumulate(len(lines) for _, lines in found)]
    assert [offset for offset, _ in found] == starts[: len(found)]


def test_a_file_shorter_than_it_was_has_an_end() -> None:
    """A table that another program has cut off meanwhile does not hold a rewrite up for ever."""
    with tempfile.TemporaryFile() as file:
        file.write(b"one\ntwo")
        file.flush()
        assert list(scan.whole_lines(file.fileno(), 1000)) == [(0, b"one\n")]


# -- by the table ----------------------------------------------------------------------------------


def test_a_rewrite_keeps_owner_mode_and_attributes(table: Table, path: Path) -> None:
    """Prune and compaction leave owner, group, mode and extended attributes as they were."""
    add(table, "a1")
    path.chmod(0o640)
    os.setxattr(path, "user.note", b"kept")
    if os.getuid() == 0:
        os.chown(path.parent, 12345, 23456)
        os.chown(path, 12345, 23456)
    before = path.stat()
    with table.writing():
        assert table.rewrite([get(table, "a1").offset]) == 1
    after = path.stat()
    assert after.st_ino != before.st_ino
    assert (after.st_uid, after.st_gid) == (before.st_uid, before.st_gid)
    assert after.st_mode == before.st_mode
    assert os.getxattr(path, "user.note") == b"kept"


def test_temporary_names_are_unique(
    table: Table, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every rewrite has a temporary file of its own, beside the table, gone afterwards."""
    add(table, "a1")
    rename, seen = os.rename, []

    def watch(source: str, target: str, *, src_dir_fd: int, dst_dir_fd: int) -> None:
        seen.append(source)
        assert src_dir_fd == dst_dir_fd
        assert os.path.samestat(os.fstat(src_dir_fd), path.parent.stat())
        rename(source, target, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)

    monkeypatch.setattr(os, "rename", watch)
    for _ in range(20):
        with table.writing():
            table.rewrite()
    assert len(set(seen)) == 20
    assert not {"queue.tmp", "queue.tsv.tmp"} & set(seen)
    assert names(path.parent) == {"queue.tsv", "queue.lock"}


def test_a_prune_takes_only_what_is_old_when_it_holds_the_lock(
    queue: Queue, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What changes, moves or shifts between the search for old jobs and the lock is kept."""
    fill(queue)
    writing, done = Table.writing, []

    def meanwhile(table: Table) -> Any:
        if not done and table is queue.engine.table:
            done.append(True)
            other = Queue(path, "normal", clock=lambda: time.time() + 30)
            assert other.retry_job("failed")
            assert other.process_jobs({"bad": lambda payload: "good"}, types=["bad"]).completed
            content = path.read_bytes()
            overwrite(path, content.replace(b"\nlong\t", b"\n# a line more\nlong\t"))
        return writing(table)

    before = states(queue.engine.table)
    monkeypatch.setattr(Table, "writing", meanwhile)
    pruned = queue.prune_jobs(0, ["failed", "completed", "cancelled"])
    assert done
    after = states(look(path))
    gone = {"long", "string", "object", "cancelled"}
    assert after == {
        **{name: before[name] for name in before.keys() & after},
        "failed": "completed",
    }
    assert before.keys() - after <= gone
    assert pruned == len(before) - len(after)
    assert [found.kind for found in fsck.check(queue.engine)] == ["malformed"]  # the line more


def test_what_a_killed_rewrite_has_left_is_removed(queue: Queue, path: Path) -> None:
    """`kill -9` in a prune leaves the table as it was; the next prune removes the half new file."""
    fill(queue)
    content = path.read_bytes()
    pid = os.fork()
    if pid == 0:
        os.rename = lambda *args, **kwargs: os.kill(os.getpid(), signal.SIGKILL)
        queue.prune_jobs(0)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL
    assert path.read_bytes() == content
    litter = names(path.parent) - {"queue.tsv", "queue.lock", "queue.claims", "queue.history"}
    assert len(litter) == 1
    others = {".queue.tsv.swp", ".queue2.tsv.0123456789ab.tmp", "queue.tmp"}
    for name in others:
        (path.parent / name).touch()
    assert queue.prune_jobs(0) == 4
    assert (
        names(path.parent) == {"queue.tsv", "queue.lock", "queue.claims", "queue.history"} | others
    )


@pytest.mark.parametrize("call", ["fsync", "rename", "pwrite", "fchown", "open"])
def test_a_rewrite_that_fails_changes_nothing(
    queue: Queue, path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """A prune that the disk refuses at any step raises, leaves the table and no litter."""
    fill(queue)
    content = path.read_bytes()
    before = names(path.parent)
    original = getattr(os, call)

    def fail(*args: Any, **kwargs: Any) -> Any:
        if call == "open" and not args[1] & os.O_EXCL:
            return original(*args, **kwargs)
        raise OSError(errno.EIO, "broken")

    with monkeypatch.context() as broken:
        broken.setattr(os, call, fail)
        with pytest.raises(StorageError, match="broken") as caught:
            queue.prune_jobs(0)
        assert caught.value.errno == errno.EIO
    assert path.read_bytes() == content
    assert names(path.parent) == before
    assert queue.prune_jobs(0) > 0


@pytest.mark.parametrize(
    ("dead", "live", "compacted"),
    [
        (store.WORTH_COMPACTING - 5000, 0, False),  # less than 1 MiB
        (store.WORTH_COMPACTING + 5000, 0, True),
        (store.WORTH_COMPACTING + 5000, 4 * store.WORTH_COMPACTING, False),  # less than a quarter
        (store.WORTH_COMPACTING * 3 // 2, 3 * store.WORTH_COMPACTING, True),
    ],
)
def test_compaction_runs_when_it_is_worth_it(
    path: Path, dead: int, live: int, compacted: bool
) -> None:
    """The table is written anew when dead lines exceed 1 MiB and a quarter of it, not before."""
    job = text("a1", "completed", result='{"text": "' + "x" * 50_000 + '"}')
    blank = b" " * 999 + b"\n"
    write(path, blank * (dead // 2000), *[job] * (live // len(job)), blank * (dead // 2000))
    table, size = look(path), path.stat().st_size
    assert table.compact() is compacted
    kept = len(HEADER) + live // len(job) * len(job)
    expected = range(kept, kept + SECTOR) if compacted else [size]  # a dead line puts rows right
    assert path.stat().st_size in expected


def test_a_worker_compacts_what_it_has_moved(queue: Queue, path: Path) -> None:
    """Long results leave dead lines behind, which the worker that made them clears away."""
    queue.enqueue_many([("mail", {"text": "x" * 20_000})] * 60)
    queue.process_jobs({"mail": lambda payload: payload})
    assert path.stat().st_size < 60 * 40_500
    assert Counter(states(look(path)).values()) == {"completed": 60}
