"""JobTable is a dbbasic.tsv.TSV, without the flaws of the plain class, which are shown beside."""

from __future__ import annotations

import csv
import fcntl
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dbbasic.tsv import TSV
from released import plain_tsv
from tables import add, fill, names, own, states, text, write

from dbbasic_queue import Queue, StorageError, TableError
from dbbasic_queue.job import error_lines
from dbbasic_queue.table.compat import JobTable
from dbbasic_queue.table.line import COLUMNS, HEADER, SECTOR

pytestmark = pytest.mark.filterwarnings("ignore:.*utcnow:DeprecationWarning")


@pytest.fixture
def plain(path: Path) -> Callable[[], Any]:
    """Makes plain table objects of dbbasic-tsv 1.0.2 on the same path, as other processes would."""
    module = plain_tsv()
    return lambda: module.TSV("queue", list(COLUMNS), path.parent)


def record(job_id: str = "a1", **fields: Any) -> dict[str, Any]:
    """A job as a record of the TSV interface."""
    names = ("created_at", "run_at", "attempts")
    return {"id": job_id, "type": "mail", "payload": "{}", "status": "pending"} | dict.fromkeys(
        names, 5
    ) | fields  # fmt: skip


def is_locked(path: Path) -> bool:
    fd = os.open(path.with_suffix(".lock"), os.O_RDWR)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


# -- the interface ---------------------------------------------------------------------------------


def look(path: Path) -> JobTable:
    """A table object that knows nothing yet."""
    return JobTable(path, "normal")


def ours(queue: Queue) -> JobTable:
    """The table of a queue as programs see it that know dbbasic-tsv."""
    return JobTable(queue.path, "normal")


@pytest.fixture
def table(path: Path) -> JobTable:
    """A table that is not there yet."""
    return JobTable(path, "normal")


def test_it_is_a_tsv(table: JobTable, path: Path) -> None:
    """What takes a TSV takes the job table: same class, file, columns and lock."""
    assert isinstance(table, TSV)
    assert (table.data_file, table.lock_file) == (path, path.with_suffix(".lock"))
    assert (table.table_name, table.columns) == ("queue", list(COLUMNS))


def test_every_public_method_is_replaced_or_harmless() -> None:
    """No method of the plain class that opens, locks or writes is inherited as it is."""
    kept = {
        name
        for name in vars(TSV)
        if callable(getattr(TSV, name)) and getattr(JobTable, name) is getattr(TSV, name)
    }
    public = {name for name in kept if not name.startswith("_")}
    assert public <= {"query_one"}
    assert {"_lock", "__init__"} & kept == set()


def test_queries_give_dicts_of_strings(queue: Queue) -> None:
    """Rows come as dicts of strings without padding, found by any column."""
    fill(queue)
    table = ours(queue)
    error = table.query_one(id="failed")["error"]
    assert error_lines(error)[0] == "ZeroDivisionError: division by zero"
    assert table.query_one(id="failed", status="pending") is None
    assert table.query_one(id="no such") is None
    assert [row["id"] for row in table.query(type="other", status="completed")] == [
        row["id"] for row in table.all() if row["type"] == "other"
    ]
    assert table.query_one(id="string")["result"] == '"a \\"string\\""'
    assert len(table.query(result=None, status="pending")) == table.count(status="pending") == 7
    assert table.query(nosuchcolumn="x") == []
    assert table.query(id="due1\tmail") == []
    assert table.query(id="\ud800") == []
    assert table.count() == len(list(table.all())) == 12
    assert all(set(row) == set(COLUMNS) for row in table.all())
    assert table.stats()["row_count"] == 12
    assert table.stats()["file_size"] == queue.path.stat().st_size


def test_what_is_inserted_is_a_job(queue: Queue, path: Path) -> None:
    """A record becomes a row of ours: values turned to text, quotes guarded, reserve and sector."""
    awkward = {"text": 'tab\t"q" Zoë'}
    assert ours(queue).insert(record("a1", payload=awkward)) is True
    results = ['"ok"', '"', '{"a": "b"}', ["x"], True, None]
    rows = [record(f"r{number}", result=value) for number, value in enumerate(results)]
    assert ours(queue).insert_many([*rows, record("e1", error='"quoted" error')]) == 7
    assert ours(queue).insert_many([]) == 0
    assert (queue.get_job("a1") or {})["payload"] == awkward
    assert [(queue.get_job(f"r{number}") or {})["result"] for number in range(6)] == [
        "ok", '"', {"a": "b"}, ["x"], 1, None,
    ]  # fmt: skip
    assert ours(queue).query_one(id="e1")["error"] == '"quoted" error'
    content = path.read_text()
    split = [line.split("\t") for line in content.splitlines()]
    assert split == list(csv.reader(content.splitlines(), delimiter="\t"))
    for row in ours(queue).rows():
        assert (row.offset + row.tail) // SECTOR == (row.offset + len(row.line) - 1) // SECTOR
    assert queue.process_jobs({"mail": lambda payload: None}).completed == 8


@pytest.mark.parametrize(
    "fault",
    [
        {"id": ""},
        {"id": "a b"},
        {"type": ""},
        {"type": '"mail'},
        {"status": "done"},
        {"created_at": "yesterday"},
        {"attempts": None},
        {"payload": "nul\0"},
    ],
    ids=str,
)
def test_what_is_no_job_is_not_inserted(table: JobTable, path: Path, fault: dict[str, Any]) -> None:
    """A record that makes no row is refused, with all that came with it."""
    add(table, "first")
    content = path.read_bytes()
    with pytest.raises(TableError, match="not written"):
        table.insert(record() | fault)
    with pytest.raises(TableError, match="not written"):
        table.insert_many([record("b2"), record() | fault, record("c3")])
    with pytest.raises(TableError, match="not written"):
        table.update({"id": "first"}, fault)
    assert path.read_bytes() == content


def test_updates(queue: Queue, path: Path) -> None:
    """Rows that equal the conditions get the new values, the others are not touched."""
    fill(queue)
    before = {row["id"]: row for row in ours(queue).all()}
    assert ours(queue).update({"status": "pending", "type": "mail"}, {"run_at": 77}) == 6
    assert ours(queue).update({"error": None, "id": "string"}, {"error": "x" * 300}) == 1
    assert ours(queue).update({"id": "nobody"}, {"run_at": 1}) == 0
    assert ours(queue).update({"id": "object"}, {"id": "renamed"}) == 1
    after = {row["id"]: row for row in look(path).all()}
    before["renamed"] = {**before.pop("object"), "id": "renamed"}
    for name, row in before.items():
        if name.startswith("due"):
            row["run_at"] = "77"
    before["string"]["error"] = "x" * 300
    assert after == before
    assert len(after) == ours(queue).count()


def test_deletes(queue: Queue, path: Path) -> None:
    """Rows that equal the conditions are gone, the others stay."""
    fill(queue)
    assert ours(queue).delete(type="mail", status="pending") == 6
    assert ours(queue).delete(id="nobody") == 0
    assert ours(queue).delete(error=None, status="completed") == 3
    assert states(look(path)) == {"later": "pending", "failed": "failed", "cancelled": "cancelled"}
    ours(queue).truncate()
    assert path.read_bytes() == HEADER


def test_backup_and_restore(queue: Queue, path: Path, tmp_path: Path) -> None:
    """A backup is the table of one moment; restored, it is the table again."""
    fill(queue)
    before = path.read_bytes()
    ours(queue).backup(tmp_path / "deep" / "backup")
    queue.prune_jobs(0)
    reader = ours(queue).rows()
    first = next(reader)
    ours(queue).restore(tmp_path / "deep" / "backup")
    assert path.read_bytes() == before
    assert len(list(queue.list_jobs())) == 12
    assert len([first, *reader]) == 8  # who was reading reads on in what was there
    (tmp_path / "deep" / "backup" / "queue.tsv").write_bytes(b"no table\n")
    with pytest.raises(TableError):
        ours(queue).restore(tmp_path / "deep" / "backup")
    assert path.read_bytes() == before
    assert names(path.parent) == {"queue.tsv", "queue.lock", "queue.claims", "queue.history"}


# -- flaws of the plain class ----------------------------------------------------------------------


def test_flaw_looking_makes_files(plain: Callable[[], Any], path: Path) -> None:
    """Plain: an object makes folder, table, index and metadata. Ours: nothing."""
    table = look(path)
    assert list(table.all()) == table.query(id="a1") == []
    assert not path.parent.exists()
    plain()
    assert names(path.parent) == {"queue.tsv", "queue.idx", "queue.meta"}


@pytest.mark.parametrize("verb", ["insert", "insert_many"])
def test_flaw_errors_are_printed(
    plain: Callable[[], Any], path: Path, verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Plain: an error is printed, and False or 0 returned. Ours: it is raised."""
    theirs, ours = plain(), look(path)
    path.unlink()
    path.mkdir()
    rows = record() if verb == "insert" else [record()]
    assert not getattr(theirs, verb)(rows)
    assert "Is a directory" in capsys.readouterr().out
    with pytest.raises(StorageError, match="it is a directory"):
        getattr(ours, verb)(rows)
    assert capsys.readouterr().out == ""


def test_flaw_a_batch_stops_in_the_middle(
    plain: Callable[[], Any], path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Plain: the rows before a bad one are written. Ours: none."""
    rows = [record("a1"), {**record("b2"), "type": "\ud800" * 9}, record("c3")]
    theirs = plain()
    assert theirs.insert_many(rows) == 1
    assert "Batch insert error" in capsys.readouterr().out
    assert "a1" in path.read_text()
    ours = look(path)
    content = path.read_bytes()
    with pytest.raises(TableError):
        ours.insert_many([record("d4"), {**record("e5"), "status": "no such"}, record("f6")])
    assert path.read_bytes() == content


def test_flaw_a_query_by_id_answers_from_a_cache(plain: Callable[[], Any], path: Path) -> None:
    """Plain: query(id=...) gives what was there once. Ours: what is there."""
    theirs, ours, other = plain(), look(path), plain()
    ours.insert(record("a1"))
    theirs._rebuild_index()
    for table in (theirs, ours):
        assert table.query(id="a1")[0]["status"] == "pending"
    other.update({"id": "a1"}, {"status": "completed"})
    assert theirs.query(id="a1")[0]["status"] == "pending"  # stale
    assert ours.query(id="a1")[0]["status"] == "completed"
    other.insert(record("b2"))
    assert theirs.query(id="b2") == []  # not in its index
    assert [row["id"] for row in ours.query(id="b2")] == ["b2"]


def test_flaw_counts_are_those_of_one_process(plain: Callable[[], Any], path: Path) -> None:
    """Plain: count() and stats() know only their own inserts. Ours: the file."""
    theirs, ours, other = plain(), look(path), plain()
    other.insert_many([record("a1"), record("b2")])
    assert (theirs.count(), theirs.stats()["row_count"]) == (0, 0)
    assert (ours.count(), ours.stats()["row_count"]) == (2, 2)


def test_flaw_index_and_data_share_a_temporary_name(
    plain: Callable[[], Any], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Plain: the data file is replaced by the index's JSON. Ours: no name is used twice."""
    theirs, other = plain(), plain()
    theirs.insert(record("a1"))
    replaced, replace = [], Path.replace

    def meanwhile(source: Path, target: Path) -> Path:
        replaced.append((source.name, target.name))
        if len(replaced) == 1:  # the other saves its index, which it does without the lock
            other._save_index()
        elif len(replaced) == 2:  # and is interrupted before it renames it
            return source
        return replace(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", meanwhile)
        theirs.update({"id": "a1"}, {"status": "completed"})
    assert replaced[:2] == [("queue.tmp", "queue.tsv"), ("queue.tmp", "queue.idx")]
    assert json.loads(path.read_text())["row_count"] == 0  # the data file is the index now

    write(path, text("a1"))
    renamed, rename = [], os.rename
    monkeypatch.setattr(
        os, "rename", lambda *args, **kw: (renamed.append(args[0]), rename(*args, **kw))
    )
    for number in range(5):
        look(path).delete(id=f"x{number}")
    assert len(set(renamed)) == 5
    assert states(look(path)) == {"a1": "pending"}


def test_flaw_an_update_rewrites_the_file(plain: Callable[[], Any], path: Path) -> None:
    """Plain: every update writes the whole file anew. Ours: the row, in the same file."""
    write(path, *(text(f"j{number}", payload='{"a": "' + "x" * 99 + '"}') for number in range(200)))
    before, inode = path.read_bytes(), path.stat().st_ino
    reader = path.open("rb")  # keeps the inode from being used again
    ours = look(path)
    assert ours.update({"id": "j7"}, {"status": "failed"}) == 1
    assert path.stat().st_ino == inode
    after = path.read_bytes()
    changed = sum(one != other for one, other in zip(before, after, strict=False))
    assert changed + len(after) - len(before) < 700
    plain().update({"id": "j8"}, {"status": "failed"})
    assert path.stat().st_ino != inode
    reader.close()
    assert states(ours)["j8"] == "failed"


def test_flaw_iterating_holds_the_lock(plain: Callable[[], Any], path: Path) -> None:
    """Plain: writers wait for as long as a reader takes between two rows. Ours: they do not."""
    write(path, text("a1"), text("b2"))
    ours = look(path)
    add(ours, "c3")
    rows = ours.all()
    next(rows)
    assert not is_locked(path)
    add(ours, "d4")
    assert len(list(rows)) >= 2
    theirs = plain().all()
    next(theirs)
    assert is_locked(path)
    theirs.close()


def test_flaw_truncate_empties_first(
    plain: Callable[[], Any], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Plain: an error in truncate leaves an empty file. Ours: the rows are there still."""
    module = plain_tsv()
    theirs = module.TSV("queue", list(COLUMNS), path.parent)
    theirs.insert(record("a1"))

    def crash(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(module.csv, "writer", crash)
        with pytest.raises(KeyboardInterrupt):
            theirs.truncate()
    assert path.read_bytes() == b""
    content = write(path, text("a1"))
    with monkeypatch.context() as patched:
        patched.setattr(os, "rename", crash)
        with pytest.raises(KeyboardInterrupt):
            look(path).truncate()
    assert path.read_bytes() == content
    look(path).truncate()
    assert path.read_bytes() == HEADER


def test_flaw_drop_deletes_the_lock_it_holds(plain: Callable[[], Any], path: Path) -> None:
    """Plain: who waits and who comes then lock different files. Ours: the lock file stays."""
    theirs = plain()
    theirs.insert(record("a1"))
    theirs.drop()
    assert "queue.lock" not in names(path.parent)
    ours = look(path)
    add(ours, "a1")
    lock = path.with_suffix(".lock").stat().st_ino
    ours.drop()
    assert not path.exists()
    assert path.with_suffix(".lock").stat().st_ino == lock
    assert list(ours.all()) == []
    add(ours, "b2")
    assert states(look(path)) == {"b2": "pending"}


def test_flaw_a_rollback_brings_back_a_stale_copy(plain: Callable[[], Any], path: Path) -> None:
    """Plain: a rollback writes an old copy over what came meanwhile. Ours: has no transactions."""
    theirs, ours = plain(), look(path)
    theirs.insert(record("a1"))

    def fail() -> None:
        with theirs.transaction():
            with path.open("ab") as file:  # `echo >> queue.tsv`, or 1.0.0's enqueue
                file.write(text("b2"))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert "b2" not in path.read_text()
    content = path.read_bytes()
    with pytest.raises(TableError, match="no transactions"):
        ours.transaction()
    assert path.read_bytes() == content


def test_flaw_indexing_writes_without_the_lock(
    plain: Callable[[], Any], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Plain: create_index writes through the data file's temporary name. Ours: writes nothing."""
    theirs, ours = plain(), look(path)
    add(ours, "a1")
    replaced, replace = [], Path.replace

    def watch(source: Path, target: Path) -> Path:
        replaced.append((source.name, is_locked(path)))
        return replace(source, target)

    monkeypatch.setattr(Path, "replace", watch)
    theirs.create_index("type")
    assert replaced == [("queue.tmp", False)]
    (path.parent / "queue.idx").unlink()
    before = names(path.parent)
    ours.create_index("type")
    with pytest.raises(ValueError, match="column 'colour'"):
        ours.create_index("colour")
    assert names(path.parent) == before
    assert len(replaced) == 1


def test_flaw_a_restore_writes_over_the_open_file(
    plain: Callable[[], Any], path: Path, tmp_path: Path
) -> None:
    """Plain: who is reading sees the file change below it. Ours: a new file takes its place."""
    for make, kept in ((plain, False), (lambda: look(path), True)):
        write(path, own(len(HEADER), "a1"))
        table = make()
        table.backup(tmp_path / f"backup {kept}")
        path.unlink()
        write(path, own(len(HEADER), "b2"))
        with path.open("rb") as reader:
            table.restore(tmp_path / f"backup {kept}")
            assert (b"b2\t" in reader.read()) is kept
        assert states(look(path)) == {"a1": "pending"}


def test_flaw_nothing_is_synced(
    plain: Callable[[], Any], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Plain: nothing is ever on disk for sure. Ours, in "full": every change, before it returns."""
    synced: list[str] = []

    def watch(name: str) -> None:
        original = getattr(os, name)
        monkeypatch.setattr(os, name, lambda fd: (synced.append(name), original(fd)))

    watch("fsync")
    watch("fdatasync")
    theirs = plain()
    theirs.insert(record("a1"))
    theirs.update({"id": "a1"}, {"status": "failed"})
    theirs.delete(id="a1")
    assert synced == []
    ours = JobTable(path, "full")
    ours.insert(record("a1"))
    assert synced == ["fdatasync"]
    ours.update({"id": "a1"}, {"status": "failed"})
    # The mark of the old line, the new line before the old one goes, then all of it.
    assert synced == ["fdatasync"] * 4
    synced.clear()
    ours.delete(id="a1")
    assert synced == ["fsync", "fsync"]  # the new file, then the folder
