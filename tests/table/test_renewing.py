"""A table is written anew while others go on with it: the lock is held for what is left to do."""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tables import LONG, add, fields, look, own, states, write

from dbbasic_queue import Queue
from dbbasic_queue.engines.tsv import fsck
from dbbasic_queue.table import renewing, rewrite
from dbbasic_queue.table.compat import JobTable
from dbbasic_queue.table.line import HEADER, Row
from dbbasic_queue.table.scan import rows_in
from dbbasic_queue.table.table import Table

NOTE = b"a note of a person's\n"


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces of a few rows, and as many rounds as there may be."""
    monkeypatch.setattr(renewing, "FEW", -1)
    monkeypatch.setattr(rewrite, "CHUNK", 600)
    monkeypatch.setattr(renewing, "CHUNK", 600)


def filled(path: Path, count: int = 40) -> Table:
    """A table of rows in all states, with a note and a dead line among them."""
    lines, at = [], len(HEADER)
    for number in range(count):
        status = ("pending", "completed", "failed", "processing")[number % 4]
        lines.append(own(at, f"j{number}", status, error="E" * (number % 7)))
        if number % 9 == 0:
            lines += [NOTE, b"   \n"]
        at = len(HEADER) + sum(map(len, lines))
    write(path, *lines)
    return look(path)


def completed(offset: int, piece: bytes) -> list[int]:
    """What a prune of completed jobs takes."""
    return [row.offset for row in rows_in(piece, offset) if row.status == "completed"]


class Meanwhile:
    """Does something each time a renewal has synced what it has copied, before it looks again."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, table: Table, *acts: Callable[[], Any]
    ) -> None:
        self.left = list(acts)
        sync, busy = os.fsync, False

        def act(fd: int) -> None:
            nonlocal busy
            sync(fd)
            if self.left and not busy and not table.lock.is_mine():
                busy = True
                self.left.pop(0)()
                busy = False

        monkeypatch.setattr(os, "fsync", act)


def rows(path: Path) -> dict[bytes, Any]:
    return {row.id: fields(row) for row in look(path).rows()}


def change(path: Path, name: str, status: str, **more: Any) -> None:
    table = look(path)
    with table.writing():
        row = table.find(name.encode())
        assert row is not None
        table.change(row, status, 7, 3, **more)


@pytest.mark.usefixtures("small")
def test_what_changes_meanwhile_is_in_the_new_table(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In place, moved, killed, appended, become malformed: before the lock and in each round."""
    table = filled(path)

    def kill(name: str) -> None:
        other = look(path)
        with other.writing():
            row = other.find(name.encode())
            assert row is not None
            other.kill(row)

    def spoil(name: bytes) -> None:
        content = path.read_bytes()
        at = content.index(b"pending", content.index(b"\n" + name + b"\t"))
        with path.open("r+b") as file:
            file.seek(at)
            file.write(b"doubled")

    acts = (
        lambda: change(path, "j0", "completed"),
        lambda: change(path, "j4", "pending", result=LONG.encode()),  # moves
        lambda: (change(path, "j6", "pending"), change(path, "j2", "pending")),
        lambda: kill("j8"),
        lambda: add(look(path), "new1"),
        lambda: (change(path, "j4", "failed", error=b"E" * 300), add(look(path), "new2")),
        lambda: spoil(b"j12"),
        lambda: [change(path, f"j{number}", "completed") for number in range(16, 40, 4)],
    )
    meanwhile = Meanwhile(monkeypatch, table, *acts)
    assert table.renew() == 0
    now = rows(path)
    assert (now[b"j0"][3], now[b"j6"][3]) == ("completed", "pending")
    assert now[b"j4"][3:7] == ("failed", 5, 7, 3)
    assert b"j8" not in now
    assert b"j12" not in now
    assert {b"new1", b"new2"} <= now.keys()
    assert all(now[b"j%d" % number][3] == "completed" for number in range(16, 40, 4))
    found = [finding.message for finding in fsck.check(Queue(path).engine)]
    assert sum("second line" in message for message in found) == 1
    assert len([message for message in found if "fields" in message]) == 5  # the notes
    assert len(now) == 40
    assert not meanwhile.left


@pytest.mark.usefixtures("small")
def test_what_is_put_back_meanwhile_is_not_pruned(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what has ended meanwhile may go."""
    queue = Queue(path, "normal")
    names = [queue.enqueue("x", {"n": number}) for number in range(30)]
    queue.process_jobs({"x": lambda payload: 1 / (payload["n"] % 2)}, 1)
    failed = names[::2]
    Meanwhile(monkeypatch, queue.engine.table, lambda: Queue(path).retry_job(failed[3]))
    assert queue.prune_jobs(0, ["failed"]) == len(failed) - 1
    assert queue.get_job(failed[3])["status"] == "pending"
    assert queue.count_jobs()["completed"] == 15
    assert queue.process_jobs({"x": bool}).completed == 1


def test_a_table_that_is_replaced_meanwhile_is_begun_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when it is replaced each time; then the lock is held in the end."""
    table = filled(path)

    def replace() -> None:
        other = look(path)
        with other.writing():
            other.rewrite()

    Meanwhile(monkeypatch, table, *[replace] * 20)
    assert table.renew(completed) == 10
    assert "completed" not in states(table).values()
    assert len(states(table)) == 30


def test_a_table_that_is_replaced_at_the_last_moment_is_begun_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the last look and the lock: what another process has written is not lost."""
    table, calls = filled(path), []
    writing = table.writing

    def late() -> Any:
        calls.append(1)
        if len(calls) == 2:
            other = look(path)
            add(other, "new1")
            with other.writing():
                other.rewrite()
        return writing()

    monkeypatch.setattr(table, "writing", late)
    assert table.renew() == 0
    assert len(calls) == 4
    assert "new1" in states(table)


@pytest.mark.usefixtures("small")
def test_only_the_rest_is_written_under_the_lock(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a long table that nobody changes, nothing is copied while others have to wait."""
    table = filled(path, 400)
    copied = []
    copy, refresh = rewrite.Rewrite._copy_piece, rewrite.Rewrite._refresh
    monkeypatch.setattr(
        rewrite.Rewrite,
        "_copy_piece",
        lambda self, *args: (copied.append(table.lock.is_mine()), copy(self, *args))[1],
    )
    monkeypatch.setattr(
        rewrite.Rewrite,
        "_refresh",
        lambda self, *args: (copied.append(table.lock.is_mine()), refresh(self, *args))[1],
    )
    assert table.renew(completed) == 100
    assert len(copied) > 50
    assert not any(copied)


def test_what_a_living_process_writes_is_not_taken_for_left(path: Path) -> None:
    """Another writer removes what killed processes left, and not the new file of a renewal."""
    table = filled(path)
    with renewing.Staged(renewing.NewFile(path, b"")) as new:
        add(look(path), "new1")
        assert table.renew() == 0
        assert os.fstat(new.fd).st_nlink == 1
    (path.parent / ".queue.tsv.0123456789ab.tmp~").touch()
    assert table.renew() == 0
    assert {name.name for name in path.parent.iterdir()} == {"queue.tsv", "queue.lock"}


def test_a_completed_row_that_is_updated_is_in_the_new_table(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What else than a worker changes a row writes the table anew, so that it is begun again."""
    table = filled(path)
    update = {"payload": '{"by": "hand"}'}
    Meanwhile(monkeypatch, table, lambda: JobTable(path).update({"id": "j1"}, update))
    table.renew()
    assert rows(path)[b"j1"][2] == b'{"by": "hand"}'
    assert [row.id for row in look(path).rows()].count(b"j1") == 1


def acts(draw: st.DataObject) -> Iterator[Callable[[Path, dict[bytes, Row]], None]]:
    """Changes that other processes make."""
    chance = random.Random(draw.draw(st.integers(0, 10**6)))
    for _ in range(draw.draw(st.integers(0, 12))):
        verb = chance.choice(["change", "change", "move", "add", "kill"])
        name = f"j{chance.randrange(40)}"

        def act(path: Path, known: Any, verb: str = verb, name: str = name) -> None:
            table = look(path)
            with table.writing():
                row = table.find(name.encode())
                if verb == "add":
                    fresh = f"n{len(known)}-{table.size}"
                    line = own(table.size, fresh, payload='{"a": "' + "b" * len(known) + '"}')
                    table.append(line)
                elif row is None or row.status == "completed":  # which never changes
                    return
                elif verb == "kill":
                    table.kill(row)
                else:
                    result = LONG.encode() if verb == "move" else b""
                    status = chance.choice(["pending", "completed", "failed", "processing"])
                    table.change(row, status, chance.randrange(99), 1, b"E" * 3, result)

        yield act


@given(st.data())
def test_whatever_others_do_the_table_is_what_they_left(data: st.DataObject) -> None:
    """A renewal that takes nothing away changes no job, whatever happens meanwhile."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patched:
        for module in (rewrite, renewing):
            patched.setattr(module, "CHUNK", data.draw(st.sampled_from([1, 600, 1 << 16])))
        patched.setattr(rewrite, "LONG_STRETCH", data.draw(st.sampled_from([1, 700, 1 << 14])))
        path = Path(folder) / "queue.tsv"
        table = filled(path)
        wanted: dict[bytes, Any] = {}
        pending = list(acts(data))

        def sync(fd: int) -> None:
            if ".tmp~" in os.readlink(f"/proc/self/fd/{fd}") and pending:
                pending.pop()(path, wanted)

        patched.setattr(os, "fsync", sync)
        patched.setattr(os, "fdatasync", lambda fd: None)
        put = Table._put

        def look_last(self: Table, new: Any) -> None:
            wanted.clear()
            wanted.update({row.id: fields(row) for row in self.rows()})
            pending.clear()
            put(self, new)

        patched.setattr(Table, "_put", look_last)
        table.renew()
        assert rows(path) == wanted
        assert path.read_bytes().count(NOTE) == 5
