"""The table: its file, its lock, its end, its moves, and whatever others do to it."""

from __future__ import annotations

import csv
import errno
import fcntl
import io
import itertools
import os
import random
import re
import signal
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tables import (
    MALFORMED,
    add,
    fields,
    fill,
    in_child,
    look,
    mend,
    names,
    overwrite,
    own,
    replace,
    states,
    text,
    torn,
    write,
)

from dbbasic_queue import Queue, StorageError, TableError
from dbbasic_queue.engines.tsv import fsck
from dbbasic_queue.support.files import SLICE
from dbbasic_queue.table import scan
from dbbasic_queue.table import table as store
from dbbasic_queue.table.compat import JobTable
from dbbasic_queue.table.line import HEADER, SECTOR, Row, parse_line


def lines_of(path: Path) -> list[bytes]:
    return path.read_bytes().split(b"\n")


def find(table: JobTable, job_id: str) -> Row | None:
    with table.reading():
        return table.find(job_id.encode())


def get(table: JobTable, job_id: str) -> Row:
    row = find(table, job_id)
    assert row is not None
    return row


def change(table: JobTable, job_id: str, status: str, error: str = "", result: str = "") -> Row:
    with table.writing():
        row = get(table, job_id)
        return table.change(row, status, 6, row.attempts + 1, error.encode(), result.encode())


def stands(table: JobTable, row: Row) -> bool:
    """Whether a row is in the file as it is here."""
    return table.holds(row.line, row.offset)


def holds_lock(path: Path) -> bool:
    """Whether somebody holds the lock file that the path leads to now."""
    fd = os.open(path.with_suffix(".lock"), os.O_RDWR)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def refuse(*args: object, **kwargs: object) -> None:
    """Stands in for a system call that fails."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def unsynced(monkeypatch: pytest.MonkeyPatch) -> None:
    """No waiting for the disk, where a test makes hundreds of files and none of it matters."""
    monkeypatch.setattr(os, "fsync", lambda fd: None)
    monkeypatch.setattr(os, "fdatasync", lambda fd: None)


def set_piece(patch: pytest.MonkeyPatch, size: int) -> None:
    """Let so many bytes be read at a time."""
    for module in (store, scan):
        patch.setattr(module, "PIECE", size)


def files(path: Path) -> Iterator[Path]:
    """Ever new paths of tables in one folder."""
    path.parent.mkdir(exist_ok=True)
    return (path.with_name(f"q{number}.tsv") for number in itertools.count())


# -- looking and making ----------------------------------------------------------------------------


def test_looking_makes_nothing(table: JobTable, path: Path) -> None:
    """Every way of looking at a table that is not there finds nothing and makes nothing."""
    assert states(table) == {}
    assert find(table, "a1") is None
    assert table.count_by_status() == Counter()
    assert (table.count(), table.query(id="a1"), list(table.all())) == (0, [], [])
    assert table.stats()["file_size"] == 0
    assert table.moved() == {}
    assert table.state() is None
    assert not path.parent.exists()


def test_the_first_write_makes_the_file(table: JobTable, path: Path) -> None:
    """The first write makes folder, table and lock, and no index or metadata."""
    add(table, "a1")
    assert names(path.parent) == {"queue.tsv", "queue.lock"}
    assert path.read_bytes().startswith(HEADER)


def test_a_file_made_by_another_meanwhile_is_kept(
    table: JobTable, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table that a program without a lock makes at the same moment is not written over."""
    link = os.link

    def late(*args: Any) -> None:
        write(path, text("b2"))
        link(*args)

    monkeypatch.setattr(os, "link", late)
    add(table, "a1")
    assert states(look(path)) == {"b2": "pending", "a1": "pending"}


def test_an_unknown_durability_is_refused(path: Path) -> None:
    """A misspelt durability is an error, not silently the weaker one."""
    with pytest.raises(ValueError, match="fulll"):
        JobTable(path, "fulll")


@pytest.mark.parametrize("suffix", ["lock", "claims", "torn", "wake"])
def test_a_file_beside_a_table_is_not_taken_for_one(path: Path, suffix: str) -> None:
    """A path that names a table's lock (a slip of tab completion) is refused, and not emptied."""
    with pytest.raises(TableError, match=suffix):
        JobTable(path.with_suffix("." + suffix))


@pytest.mark.parametrize("use", [lambda table: add(table), states, lambda t: find(t, "a1")])
@pytest.mark.parametrize("kind", ["folder", "pipe"])
def test_what_is_no_file_is_refused(path: Path, use: Callable[[JobTable], Any], kind: str) -> None:
    """A folder or a pipe in the table's place is refused with an error of ours."""
    path.parent.mkdir()
    if kind == "folder":
        path.mkdir()
    else:
        os.mkfifo(path)
    with pytest.raises(StorageError):
        use(look(path))


# -- the header ------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [b"", HEADER[:1], HEADER[:20], HEADER[:-1]])
def test_an_empty_or_torn_header_is_written(path: Path, status: bytes) -> None:
    """A file that is empty, or holds the beginning of the header only, is a table without rows."""
    write(path, header=status)
    table = look(path)
    assert states(table) == {}
    assert path.read_bytes() == status
    add(table, "a1")
    assert states(table) == states(look(path)) == {"a1": "pending"}
    assert path.read_bytes().startswith(HEADER)


FOREIGN_HEADERS = {
    "byte order mark": b"\xef\xbb\xbf" + HEADER,
    "none": b"",
    "comment above": b"# jobs\n" + HEADER,
    "empty line above": b"\n" + HEADER,
    "a tenth column": HEADER.replace(b"result", b"result\tnote"),
    "eight columns": HEADER.replace(b"\tpayload", b""),
    "upper case": HEADER.upper(),
    "commas": HEADER.replace(b"\t", b","),
    "UTF-16": HEADER.decode().encode("utf-16"),
    "zeros": b"\0" * 4096,
    "joined to a row": HEADER[:-1],
}


@pytest.mark.parametrize("header", FOREIGN_HEADERS)
@pytest.mark.parametrize(
    "use",
    [
        lambda table: add(table),
        lambda table: list(table.rows()),
        lambda table: table.find(b"a1", table.search(b"a1")),
        lambda table: table.count_by_status(),
        lambda table: table.compact(),
        lambda table: table.delete(id="a1"),
    ],
)
def test_another_first_line_is_refused(
    path: Path, header: str, use: Callable[[JobTable], Any]
) -> None:
    """A byte order mark, a lost or foreign header is a clear error each time; nothing changes."""
    content = write(path, text("a1"), header=FOREIGN_HEADERS[header])
    table = look(path)
    for _ in range(2):
        with pytest.raises(TableError, match="first line"):
            use(table)
    assert path.read_bytes() == content
    assert names(path.parent) <= {"queue.tsv", "queue.lock"}


def test_a_table_replaced_by_something_else_is_refused(table: JobTable, path: Path) -> None:
    """The header is looked at again when the file has been replaced or cut while it was open."""
    add(table, "a1")
    for save in (replace, overwrite):
        save(path, b"dear diary\n")
        for _ in range(2):
            with pytest.raises(TableError):
                add(table, "b2")
            with pytest.raises(TableError):
                states(table)
        assert path.read_bytes() == b"dear diary\n"


# -- the file is the one that the path leads to ----------------------------------------------------


Pause = Callable[[JobTable], None]


@pytest.fixture(params=["at once", "later"])
def pause(request: pytest.FixtureRequest) -> Pause:
    """What waits until the table trusts its folder to tell of changes, or does not."""

    def wait(table: JobTable) -> None:
        ends = time.monotonic() + 30
        while request.param == "later" and time.monotonic() < ends:
            with table.writing():
                if table._watch.is_unchanged():
                    return
            time.sleep(0.01)
        assert request.param == "at once", "the folder was never trusted"

    return wait


def test_a_deleted_table_is_made_anew(table: JobTable, path: Path, pause: Pause) -> None:
    """A table deleted while it is open is made anew, with nothing of what was before."""
    add(table, "a1")
    pause(table)
    path.unlink()
    assert states(table) == {}
    add(table, "b2")
    assert states(look(path)) == {"b2": "pending"} == states(table)


def test_a_deleted_table_that_cannot_be_made_anew_takes_nothing(
    table: JobTable, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a deleted table cannot be made anew, every append is refused, not only the first."""
    add(table, "a1")
    path.unlink()
    with monkeypatch.context() as broken:
        broken.setattr(os, "link", refuse)
        for _ in range(3):
            with pytest.raises(StorageError):
                add(table, "b2")
    add(table, "c3")
    assert states(look(path)) == {"c3": "pending"}
    assert names(path.parent) == {"queue.tsv", "queue.lock"}


@pytest.mark.parametrize("first", ["read", "write"])
def test_a_replaced_table_is_noticed(table: JobTable, path: Path, first: str, pause: Pause) -> None:
    """What an editor saved is what is read and written next."""
    add(table, "a1")
    row = get(table, "a1")
    pause(table)
    replace(path, HEADER + text("b2"))
    if first == "read":
        assert states(table) == {"b2": "pending"}
    add(table, "c3")
    assert states(look(path)) == {"b2": "pending", "c3": "pending"} == states(table)
    assert not stands(table, row)


def test_a_backup_played_back_is_noticed(table: JobTable, path: Path, pause: Pause) -> None:
    """A table replaced by a tool that then puts the folder's time back, as rsync does, is seen."""
    add(table, "a1")
    pause(table)
    status = os.stat(path.parent)
    replace(path, HEADER + text("b2"))
    os.utime(path.parent, ns=(status.st_atime_ns, status.st_mtime_ns))
    add(table, "c3")
    assert states(look(path)) == {"b2": "pending", "c3": "pending"}


def status_at(table: JobTable, offset: int) -> str:
    """The state of the row at an offset, as a worker reads it."""
    row = parse_line(table.line_at(offset), offset)
    assert row is not None
    return row.status


def test_what_is_read_ahead_is_forgotten_with_the_lock(table: JobTable) -> None:
    """A row that another process changes between two turns is read as it is then."""
    first, second = add(table, "a1"), add(table, "b2")
    other = JobTable(table.data_file, "normal")
    with table.writing():
        assert stands(table, first)
        assert status_at(table, second.offset) == "pending"
    change(other, "b2", "processing")
    with table.writing():
        assert table.line_at(first.offset) == first.line
        assert status_at(table, second.offset) == "processing"
    change(other, "b2", "failed")
    with table.writing():
        assert status_at(table, second.offset) == "failed"


def test_what_is_read_ahead_is_forgotten_when_it_is_written(table: JobTable) -> None:
    """Under one lock, a row is read as it was changed last; the row before it may change freely."""
    first, second, third = add(table, "a1"), add(table, "b2"), add(table, "c3")
    with table.writing():
        assert stands(table, first)
        table.change(first, "processing", 6, 1)
        assert table.line_at(second.offset) == second.line
        table.change(second, "processing", 6, 1)
        assert status_at(table, first.offset) == status_at(table, second.offset) == "processing"
        table.change(third, "processing", 6, 1)
        assert [status_at(table, row.offset) for row in (third, second)] == ["processing"] * 2
        assert stands(table, get(table, "a1"))
        table.kill(get(table, "b2"))
        assert table.line_at(second.offset).strip() == b""
        assert table.line_at(third.offset) == get(table, "c3").line


@pytest.mark.parametrize("size", [1, 300, 600, 5000, 10**6])
def test_a_row_longer_than_what_is_read_ahead_is_read_whole(table: JobTable, size: int) -> None:
    """The next row may begin in what was read with the one before it and end beyond."""
    first, second = add(table, "a1"), add(table, "b2", payload='{"x": "%s"}' % ("y" * size))
    third = add(table, "c3")
    with table.writing():
        assert stands(table, first)
        for row in (second, third, second, first, third):
            assert table.line_at(row.offset) == row.line


@pytest.mark.parametrize("seed", range(5))
def test_lines_are_those_of_the_file_in_whatever_order(table: JobTable, seed: int) -> None:
    """Looked at and changed in any order under one lock, each line is as it stands in the file."""
    chance = random.Random(seed)
    rows = [
        add(table, f"a{number}", payload='{"x": "%s"}' % ("y" * chance.randrange(900)))
        for number in range(20)
    ]
    with table.writing():
        for _ in range(300):
            place = chance.randrange(20)
            row = rows[place]
            if chance.random() < 0.3:
                assert stands(table, row)
            if chance.random() < 0.3:
                rows[place] = row = table.change(row, "pending", chance.randrange(10**9), 0)
            content = table.data_file.read_bytes()
            end = content.index(b"\n", row.offset) + 1
            assert table.line_at(row.offset) == content[row.offset : end] == row.line
            assert table.line_at(row.offset + 1) == b""


def test_a_long_malformed_line_is_a_line(path: Path) -> None:
    """What is no row, but names the state pending, is passed over by a worker, and not for ever."""
    long = b"a1\tmail\t" + b"\0" * 5000 + b"\tpending\t5\t5\t0\t\t\n"
    content = write(path, long, text("b2"))
    with look(path).writing():
        pass
    table = look(path)
    with table.writing():
        assert table.line_at(content.index(b"a1")) == long
    ran: list[Any] = []
    Queue(path, "normal").process_jobs({"mail": ran.append})
    assert len(ran) == 1


def test_no_line_begins_within_one_or_beyond_the_end(table: JobTable) -> None:
    """What is no line's first byte gives no line, and so does the end of the file."""
    first, second = add(table, "a1"), add(table, "b2")
    with table.writing():
        for known in (False, True):
            if known:
                assert stands(table, first)
            assert table.line_at(second.offset + 3) == b""
            assert table.line_at(table.size) == b""
            assert table.line_at(table.size + 999) == b""


def test_a_table_moved_away_and_back_is_noticed(table: JobTable, path: Path, pause: Pause) -> None:
    """A table that was renamed is not written to under its new name."""
    add(table, "a1")
    away = path.with_name("away.tsv")
    pause(table)
    path.rename(away)
    add(table, "b2")
    assert states(look(away)) == {"a1": "pending"}
    pause(table)
    away.rename(path)
    add(table, "c3")
    assert states(look(path)) == {"a1": "pending", "c3": "pending"}


def test_a_reader_keeps_to_the_file_it_began(table: JobTable, path: Path) -> None:
    """A reading that has begun goes on over the file of that moment, replaced or deleted or not."""
    for number in range(50):
        add(table, f"a{number}")
    reading = table.rows()
    first = next(reading)
    replace(path, HEADER + text("b2"))
    assert states(table) == {"b2": "pending"}
    assert [row.id for row in (first, *reading)] == [b"a%d" % number for number in range(50)]


def test_a_moved_folder_takes_its_lock_with_it(table: JobTable, path: Path, pause: Pause) -> None:
    """After the folder was moved away and made anew, everybody locks the same, new file."""
    add(table, "a1")
    pause(table)
    path.parent.rename(path.parent.with_name("away"))
    add(look(path), "b2")
    with table.writing():
        assert holds_lock(path)
    add(table, "c3")
    assert states(look(path)) == {"b2": "pending", "c3": "pending"}
    pause(table)
    path.parent.rename(path.parent.with_name("further away"))
    add(table, "d4")
    assert states(look(path)) == {"d4": "pending"}


# -- the lock --------------------------------------------------------------------------------------


@pytest.mark.parametrize("lose", [os.unlink, lambda lock: os.rename(lock, f"{lock}.old")])
def test_a_lost_lock_file_is_noticed(
    table: JobTable, path: Path, lose: Callable[[Path], None], pause: Pause
) -> None:
    """A lock on a deleted or renamed file keeps nobody out, so a new one is taken."""
    add(table, "a1")
    lock = path.with_suffix(".lock")
    pause(table)
    lose(lock)
    with table.writing():
        assert holds_lock(path)
    assert not holds_lock(path)
    pause(table)
    lose(lock)
    with table.reading():
        assert not lock.exists()  # as a reader makes nothing
    add(table, "b2")
    with table.reading():
        assert holds_lock(path)
    pause(table)
    lose(lock)
    with look(path).writing():
        pass
    with table.reading():
        assert holds_lock(path)


def test_a_lock_file_deleted_while_we_wait_is_noticed(table: JobTable, path: Path) -> None:
    """Who waited for a lock file that was deleted meanwhile takes the new one."""
    add(table, "a1")
    fd = os.open(path.with_suffix(".lock"), os.O_RDWR)
    fcntl.flock(fd, fcntl.LOCK_EX)
    entered, leave, seen = threading.Event(), threading.Event(), []

    def wait() -> None:
        with look(path).writing():
            seen.append(holds_lock(path))
            entered.set()
            leave.wait(30)

    thread = threading.Thread(target=wait)
    thread.start()
    path.with_suffix(".lock").unlink()
    os.close(fd)
    assert entered.wait(30)
    leave.set()
    thread.join()
    assert seen == [True]


def test_readers_share_and_writers_do_not(table: JobTable, path: Path) -> None:
    """The lock is dbbasic-tsv's: shared to read, exclusive to write, free afterwards."""
    add(table, "a1")
    other = os.open(path.with_suffix(".lock"), os.O_RDWR)
    with table.reading():
        fcntl.flock(other, fcntl.LOCK_SH | fcntl.LOCK_NB)
        fcntl.flock(other, fcntl.LOCK_UN)
        assert holds_lock(path)
    with table._lock(exclusive=True), pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_SH | fcntl.LOCK_NB)
    with table._lock(exclusive=False):
        fcntl.flock(other, fcntl.LOCK_SH | fcntl.LOCK_NB)
        fcntl.flock(other, fcntl.LOCK_UN)
    assert not holds_lock(path)
    os.close(other)


def test_an_error_under_the_lock_lets_go_of_it(table: JobTable, path: Path) -> None:
    """An exception in the critical section, or on the way into it, leaves the table free."""
    add(table, "a1")
    with pytest.raises(KeyboardInterrupt), table.writing(), table.writing():
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt), table.reading():
        raise KeyboardInterrupt
    assert not holds_lock(path)
    replace(path, b"dear diary\n")
    with pytest.raises(TableError):
        add(table, "b2")
    assert not holds_lock(path)
    replace(path, HEADER)
    add(table, "c3")


def test_a_reader_cannot_turn_writer(table: JobTable, path: Path) -> None:
    """To write while only the readers' lock is held is a mistake of the program, and refused."""
    add(table, "a1")
    with table.reading(), pytest.raises(RuntimeError, match="cannot be written"), table.writing():
        pass
    assert not holds_lock(path)
    with table.writing(), table.reading(), table.writing():
        assert states(table) == {"a1": "pending"}
    add(table, "b2")


def test_threads_take_turns(table: JobTable, path: Path) -> None:
    """Threads that share one table object lose no row."""

    def work(thread: int) -> None:
        for number in range(50):
            add(table, f"t{thread}-{number}")
            change(table, f"t{thread}-{number}", "completed", result='{"a": "' + "x" * 90 + '"}')

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Counter(states(look(path)).values()) == {"completed": 200}


# -- fork ------------------------------------------------------------------------------------------


def test_a_child_does_not_unlock_its_parents_table(queue: Queue, path: Path) -> None:
    """A child forked under the lock neither holds the table nor frees it when it ends."""
    queue.enqueue("mail", {})
    with queue.engine.table.writing():
        assert in_child(lambda: queue.engine.table._lock_fd) == -1
        assert holds_lock(path)
    assert not holds_lock(path)


def test_a_child_waits_for_its_parents_lock(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child forked under the lock cannot enter: it takes a lock of its own."""
    queue.enqueue("mail", {})
    flock = fcntl.flock

    def enter() -> str:
        monkeypatch.setattr(fcntl, "flock", lambda fd, how: flock(fd, how | fcntl.LOCK_NB))
        try:
            with queue.engine.table.writing():
                return "entered"
        except StorageError as error:
            return errno.errorcode[error.errno or 0]

    with queue.engine.table.writing():
        assert in_child(enter) == "EAGAIN"
    assert in_child(enter) == "entered"


def test_a_fork_while_another_thread_holds_the_lock(queue: Queue, path: Path) -> None:
    """A child is not stuck for ever on a mutex that a thread of its parent held."""
    queue.enqueue("mail", {}, job_id="a1")
    holding, forked = threading.Event(), threading.Event()

    def hold() -> None:
        with queue.engine.table.writing():
            holding.set()
            forked.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    assert holding.wait(30)
    pid = os.fork()
    if pid == 0:
        signal.alarm(30)
        try:
            queue.enqueue("mail", {}, job_id="b2")
        finally:
            os._exit(0)
    forked.set()
    thread.join()
    assert os.waitpid(pid, 0)[1] == 0
    assert states(look(path)) == {"a1": "pending", "b2": "pending"}


# -- the end of the file ---------------------------------------------------------------------------


PAYLOADS = ("{}", '{"name": "Zoë 🐍", "text": "' + "ab " * 60 + '"}', '{"n": 1}')
KINDS: dict[str, Callable[..., bytes]] = {
    "ours": own,
    "foreign": lambda offset, job_id, **more: text(job_id, **more),
}


@pytest.mark.usefixtures("unsynced")
@pytest.mark.parametrize("kind", KINDS)
def test_a_file_cut_anywhere_is_mended(path: Path, kind: str) -> None:
    """Whatever byte the file was cut at, the next write mends it, and nothing else changes.

    What is left of the cut row is the job itself, when all that counts of it is there, or is set
    aside as it is.
    """
    content = HEADER
    for number, payload in enumerate(PAYLOADS):
        content += KINDS[kind](len(content), f"a{number}", payload=payload)
    first = content.index(b"\n", len(HEADER)) + 1
    for cut, file in zip(range(first, len(content) + 1), files(path), strict=False):
        file.write_bytes(content[:cut])
        whole = content.rfind(b"\n", 0, cut) + 1
        fragment = content[whole:cut]
        table = look(file)
        before = states(table)
        new = add(table, "new")
        after = file.read_bytes()
        assert after.startswith(content[:whole])
        assert after.endswith(b"\n" + new.line)
        if torn(file):
            assert torn(file) == fragment + b"\n"
            assert after == content[:whole] + new.line
            assert parse_line(fragment) is None
        elif fragment:
            assert after == content[:cut] + b"\n" + new.line
            end = content.index(b"\n", cut) + 1
            assert fields(parse_line(fragment)) == fields(parse_line(content[whole:end]))
        assert states(look(file)) == {**before, "new": "pending"}


RESULTS = {
    "object": '{"a": {"b c": [1, 2, "x  y"]}, "d": "e f"}',
    "string": ' "a string, with  spaces and a \\" quote "',
    "array": "[1, 2, 3]",
    "number": "1234567890",
    "long": '{"text": "' + "spam and eggs " * 8 + '"}',
    "none": "",
}


@pytest.mark.usefixtures("unsynced")
@pytest.mark.parametrize("error", ["", "ValueError: no such user "])
@pytest.mark.parametrize("kind", RESULTS)
def test_a_move_cut_anywhere_is_the_old_state_or_the_new(path: Path, kind: str, error: str) -> None:
    """However little of a move is on disk, a job is there once, as it was or as it became."""
    old = HEADER + own(len(HEADER), "a1", "processing", attempts=1)
    old += own(len(old), "b2")
    new = {"status": "completed", "attempts": 1, "error": error, "result": RESULTS[kind]}
    content = old + own(len(old), "a1", moved=True, **new)
    wanted = (
        fields(parse_line(old.split(b"\n", 1)[1].split(b"\n")[0])),
        fields(parse_line(content[len(old) :])),
    )
    for cut, file in zip(range(len(old), len(content) + 1), files(path), strict=False):
        file.write_bytes(content[:cut])
        queue = Queue(file, "normal")
        seen = [fields(row) for row in queue.engine.table.rows() if row.id == b"a1"]
        assert len(seen) == 1
        assert seen[0] in wanted
        # As it was found, and once a writer has been there.
        for table in (queue.engine.table, look(file)):
            assert [fields(row) for row in table.rows() if row.id == b"a1"] == seen
            assert fields(get(table, "a1")) == seen[0]
            assert table.count_by_status() == Counter(states(table).values())
            if table is queue.engine.table:
                add(look(file), "c3")
        assert states(look(file))["c3"] == "pending"
    assert seen[0] == wanted[1]


@pytest.mark.parametrize("strip", [b"\n", b" \n", b" \t\n"], ids=repr)
@pytest.mark.parametrize("result", ["", '{"a": 1}', ' "long" ' + "x" * 300])
def test_a_moved_row_without_its_newline_is_kept(path: Path, strip: bytes, result: str) -> None:
    """A program that strips the end of the file does not lose the job that was moved there last."""
    table = look(path)
    add(table, "a1")
    change(table, "a1", "failed", error="E: " + "x" * 200)
    if result:
        change(table, "a1", "pending")
        change(table, "a1", "processing")
        change(table, "a1", "completed", result=result)
    wanted = fields(get(table, "a1"))
    overwrite(path, path.read_bytes().rstrip(strip))
    assert fields(get(look(path), "a1")) == wanted
    assert [fields(row) for row in look(path).rows()] == [wanted]
    add(table, "b2")
    assert fields(get(table, "a1")) == wanted
    assert not torn(path)


def test_a_row_without_its_newline_is_found_by_every_reader(path: Path) -> None:
    """`printf` without a newline makes a job for get_job, list_jobs and count_jobs alike."""
    content = write(path, text("a1"), text("b2")[:-1])
    queue = Queue(path)
    assert [job["id"] for job in queue.list_jobs()] == ["a1", "b2"]
    assert queue.count_jobs()["pending"] == 2
    job = queue.get_job("b2")
    assert job is not None
    assert job["type"] == "mail"
    assert path.read_bytes() == content


@pytest.mark.parametrize("status", ["pending", "processing", "completed", "failed", "cancelled"])
def test_a_file_that_was_stripped_loses_no_job(path: Path, status: str) -> None:
    """`text.strip()` takes the last row's empty fields along, and the row is a job still."""
    write(path, text("a1"), text("b2", status, attempts=2).rstrip())
    add(look(path), "c3")
    assert states(look(path)) == {"a1": "pending", "b2": status, "c3": "pending"}
    assert not torn(path)


@pytest.mark.parametrize("rubbish", [b"\0" * 70, b"# note", b"a1\tmail", b" ", b"\xff"], ids=repr)
def test_rubbish_at_the_end_is_set_aside(path: Path, rubbish: bytes) -> None:
    """What is no row and has no newline is out of the way in queue.torn, again and again."""
    content = write(path, text("a1"))
    table = look(path)
    for number in (1, 2):
        overwrite(path, content + rubbish)
        with table.writing():
            pass
        assert path.read_bytes() == content
        assert torn(path) == (rubbish + b"\n") * number


def test_readers_leave_a_torn_line_alone(path: Path) -> None:
    """Who only looks neither sees half a row nor mends anything."""
    content = write(path, text("a1"), own(999, "b2")[:30])
    queue = Queue(path)
    assert states(queue.engine.table) == {"a1": "pending"}
    assert queue.get_job("b2") is None
    assert queue.count_jobs()["pending"] == 1
    assert [finding.kind for finding in fsck.check(queue.engine)] == ["torn"]
    assert path.read_bytes() == content
    assert names(path.parent) == {"queue.tsv"}


def test_a_torn_line_that_cannot_be_set_aside_stays(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When queue.torn cannot be written, nothing is cut off and the write is refused."""
    content = write(path, text("a1"), b"torn")
    path.with_suffix(".torn").mkdir()
    table = look(path)
    for _ in range(2):
        with pytest.raises(StorageError, match="aside"):
            add(table)
    assert path.read_bytes() == content
    path.with_suffix(".torn").rmdir()
    add(table, "b2")
    assert states(table) == {"a1": "pending", "b2": "pending"}


# -- batches ---------------------------------------------------------------------------------------


def note(path: Path, start: int, length: int, *, boot: bytes | None = None, inode: int = 0) -> None:
    boot = store._boot_id() if boot is None else boot
    inode = inode or path.stat().st_ino
    line = b"append %d %d %d %s\n" % (inode, start, length, boot)
    path.with_suffix(".lock").write_bytes(line)


def batch(path: Path) -> tuple[bytes, bytes]:
    """A table, and a batch of three that its file is to be followed by."""
    content = write(path, text("a1"))
    rows = b""
    for number in range(3):
        rows += own(len(content) + len(rows), f"b{number}")
    return content, rows


@pytest.mark.usefixtures("unsynced")
def test_half_a_batch_is_set_aside(path: Path) -> None:
    """Wherever a process died in a batch, the next writer leaves none of it, or all of it."""
    content, rows = batch(path.with_name("made.tsv"))
    for cut, file in zip(range(len(rows) + 1), files(path), strict=False):
        file.write_bytes(content + rows[:cut])
        note(file, len(content), len(rows))
        new = add(look(file), "new")
        kept = rows if cut == len(rows) else b""
        assert file.read_bytes() == content + kept + new.line
        assert torn(file).rstrip(b"\n") == (b"" if kept else rows[:cut].rstrip(b"\n"))
        assert file.with_suffix(".lock").read_bytes() == b""


@pytest.mark.parametrize("many", [False, True], ids=["one", "a batch"])
def test_a_note_of_a_batch_of_which_nothing_was_written_is_void(
    path: Path, many: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a process appends that knows the table is not taken for part of a dead one's batch."""
    content = write(path, text("a1"))
    table = look(path)
    with table.writing():
        pass
    note(path, len(content), 10**12, boot=store._boot_id() + b" " * 40)
    with table.writing():
        line = own(table.size, "c3")
        if many:
            # Dies in its batch: its own note has to be the one that counts.
            monkeypatch.setattr(table, "_append_whole", lambda data: path.open("ab").write(line))
            table.append_batch(line + own(table.size + len(line), "d4"))
        else:
            table.append(line)
    monkeypatch.undo()
    assert states(look(path)) == ({"a1": "pending"} if many else {"a1": "pending", "c3": "pending"})
    new = add(look(path), "new")
    kept = b"" if many else line
    assert path.read_bytes() == content + kept + new.line
    assert torn(path) == (line if many else b"")


@pytest.mark.parametrize("known", [True, False], ids=["open", "new"])
def test_a_note_from_before_a_reboot_is_void(path: Path, known: bool) -> None:
    """After a power cut the note proves nothing: whole rows stay, a torn one is set aside."""
    content, rows = batch(path)
    table = look(path)
    if known:
        with table.writing():
            pass
    cut = rows.index(b"\n") + 20
    overwrite(path, content + rows[:cut])
    note(path, len(content), len(rows), boot=b"6f1e0e5c-0000-4000-8000-000000000000")
    with table.writing():
        pass
    assert states(look(path)) == {"a1": "pending", "b0": "pending"}
    assert torn(path) == rows[cut - 19 : cut] + b"\n"
    assert path.with_suffix(".lock").read_bytes() == b""


def test_a_note_about_another_file_is_void(path: Path) -> None:
    """A note that speaks of a file that has been replaced since takes nothing from the new one."""
    content, rows = batch(path)
    overwrite(path, content + rows[:-60] + b"\n")
    note(path, len(content), len(rows), inode=path.stat().st_ino + 1)
    mend(path)
    assert path.read_bytes() == content + rows[:-60] + b"\n"
    assert not torn(path)


@pytest.mark.parametrize(
    "words",
    [b"hello\n", b"append\n", b"append a b c d\n", b"append 1 2 3", b"\0" * 90, b"append " * 5],
    ids=repr,
)
def test_a_lock_file_that_says_nonsense_harms_nothing(path: Path, words: bytes) -> None:
    """Whatever else stands in the lock file is ignored and cleared."""
    content = write(path, text("a1"))
    path.with_suffix(".lock").write_bytes(words)
    mend(path)
    assert path.read_bytes() == content
    assert path.with_suffix(".lock").read_bytes() == b""


def test_a_process_killed_in_a_batch_leaves_none_of_it(
    queue: Queue, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`kill -9` between two writes of enqueue_many: none of its jobs is there afterwards."""
    queue.enqueue("mail", {}, job_id="a1")
    pwritev, written = os.pwritev, []

    def die(fd: int, parts: Any, *args: int) -> int:
        if written:
            os.kill(os.getpid(), signal.SIGKILL)
        written.append(pwritev(fd, parts, *args))
        return written[0]

    pid = os.fork()
    if pid == 0:
        monkeypatch.setattr(os, "pwritev", die)
        queue.enqueue_many([("mail", {"text": "x" * 500})] * 500)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL
    assert path.stat().st_size > SLICE
    add(queue.engine.table, "b2")
    assert states(look(path)) == {"a1": "pending", "b2": "pending"}


def test_a_batch_that_failed_says_nothing_about_what_comes_then(
    queue: Queue, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row that a person appends after a batch was refused is no part of it."""
    queue.enqueue("mail", {}, job_id="a1")
    with monkeypatch.context() as broken:
        broken.setattr(os, "pwritev", refuse)
        with pytest.raises(StorageError):
            queue.enqueue_many([("mail", {"text": "x" * 500})] * 500)
    with path.open("ab") as file:
        file.write(text("b2"))
    queue.enqueue("mail", {}, job_id="c3")
    assert states(look(path)) == dict.fromkeys(["a1", "b2", "c3"], "pending")
    assert not torn(path)


def test_a_batch_that_cannot_be_taken_back_is_none(
    queue: Queue, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When what was written of a refused batch cannot be cut off, it is no job all the same."""
    queue.enqueue("mail", {}, job_id="a1")
    pwritev, written = os.pwritev, []

    def half(fd: int, parts: Any, *args: int) -> int:
        if written:
            refuse()
        written.append(pwritev(fd, parts, *args))
        return written[0]

    with monkeypatch.context() as broken:
        broken.setattr(os, "pwritev", half)
        broken.setattr(os, "ftruncate", refuse)
        with pytest.raises(StorageError, match="cannot shorten"):
            queue.enqueue_many([("mail", {"text": "x" * 500})] * 500)
    assert path.stat().st_size > SLICE
    assert states(look(path)) == {"a1": "pending"}
    queue.enqueue("mail", {}, job_id="b2")
    assert states(look(path)) == {"a1": "pending", "b2": "pending"}
    assert torn(path).count(b"\n") > 20


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(errno.EIO, "broken")], ids=repr)
def test_a_batch_broken_off_leaves_none_of_it(
    queue: Queue, path: Path, monkeypatch: pytest.MonkeyPatch, error: Any
) -> None:
    """An exception between two writes of enqueue_many (a timeout, Ctrl-C) takes the first back."""
    queue.enqueue("mail", {}, job_id="a1")
    content = path.read_bytes()
    pwritev, written = os.pwritev, []

    def break_off(fd: int, parts: Any, *args: int) -> int:
        if written:
            raise error
        written.append(pwritev(fd, parts, *args))
        return written[0]

    with monkeypatch.context() as broken:
        broken.setattr(os, "pwritev", break_off)
        with pytest.raises((KeyboardInterrupt, StorageError)):
            queue.enqueue_many([("mail", {"text": "x" * 500})] * 500)
    assert written
    assert path.read_bytes() == content
    queue.enqueue("mail", {}, job_id="b2")
    assert states(look(path)) == {"a1": "pending", "b2": "pending"}


# -- moves -----------------------------------------------------------------------------------------


LONG = '{"text": "' + "x" * 300 + '"}'


def moving(path: Path, old: str, new: str, **more: Any) -> bytes:
    """A table in which the job a1 has been appended anew, and its old line not yet killed."""
    first = own(len(HEADER), "a1", old, attempts=1)
    other = own(len(HEADER) + len(first), "b2", run_at=4_000_000_000)
    offset = len(HEADER) + len(first) + len(other)
    return write(path, first, other, own(offset, "a1", new, moved=True, **more))


@pytest.mark.parametrize(
    ("old", "new"),
    [("pending", "processing"), ("processing", "completed"), ("processing", "pending")],
)
def test_a_crash_before_the_tombstone_is_finished_by_a_worker(
    path: Path, old: str, new: str
) -> None:
    """Of two live lines the later is the job, for every reader; a worker kills the older one."""
    content = moving(path, old, new, attempts=2, run_at=4_000_000_000, result="")
    queue = Queue(path, "normal")
    held = queue.engine.claims.take(b"a1")
    for _ in range(2):
        assert states(queue.engine.table) == {"b2": "pending", "a1": new}
        assert [job["status"] for job in queue.list_jobs()] == ["pending", new]
        assert sum(queue.count_jobs().values()) == 2
        job = queue.get_job("a1")
        assert job is not None
        assert (job["status"], job["attempts"]) == (new, 2)
        assert queue.engine.table.count(id="a1") == 1
        assert queue.process_jobs({"mail": print}).attempts == 0
    after = path.read_bytes()
    start, end = len(HEADER), content.index(b"\n", len(HEADER))
    assert after == content[:start] + b" " * (end - start) + content[end:]
    assert held is not None


def test_a_crash_before_the_tombstone_is_finished_by_a_rewrite(path: Path) -> None:
    """The outdated line of a finished job, which no worker looks at, goes with the next rewrite."""
    moving(path, "failed", "pending", attempts=0)
    table = look(path)
    with table.writing():
        assert table.rewrite() == 0
    assert states(table) == {"b2": "pending", "a1": "pending"}
    assert path.read_bytes().count(b"a1\t") == 1
    assert table.moved() == {}


def test_a_line_half_blanked_is_dead(path: Path) -> None:
    """A crash between the two writes that blank a long line leaves a dead line, not a malformed."""
    old = own(len(HEADER), "a1", payload=LONG + " " * 900)
    content = HEADER + b" " * (SECTOR - len(HEADER)) + old[SECTOR - len(HEADER) :]
    write(path, content + own(len(content), "a1", "completed", moved=True), header=b"")
    queue = Queue(path)
    assert states(queue.engine.table) == {"a1": "completed"}
    assert fsck.check(queue.engine) == []
    assert queue.engine.table.count_by_status() == {"completed": 1}


@pytest.mark.parametrize("size", [0, 90, 400, 2000])
def test_a_long_result_moves_the_row(table: JobTable, path: Path, size: int) -> None:
    """A change that does not fit goes to the end of the file and leaves blanks where it was."""
    add(table, "a1", payload='{"text": "' + "y" * size + '"}')
    add(table, "b2")
    before = path.read_bytes()
    with table.writing():
        old = get(table, "a1")
    new = change(table, "a1", "completed", result=LONG)
    after = path.read_bytes()
    assert new.offset == len(before)
    blank = b" " * (len(old.line) - 1) + b"\n"
    assert after == before.replace(old.line, blank) + new.line
    assert fields(get(table, "a1")) == fields(new)
    assert states(look(path)) == {"b2": "pending", "a1": "completed"}


def test_a_moved_row_may_move_again(table: JobTable, path: Path) -> None:
    """However often a row moves, its job is there once."""
    add(table, "a1")
    for number in range(1, 6):
        change(table, "a1", "processing", error="x" * 120 * number)
        assert fields(get(look(path), "a1"))[-2] == b"x" * 120 * number
        assert states(look(path)) == {"a1": "processing"}
    assert len(table.moved()) == 1


def test_a_change_in_place_touches_the_tail_only(table: JobTable, path: Path) -> None:
    """A change that fits is written where the tail stands, and to no other byte."""
    for number in range(20):
        add(table, f"a{number}", payload='{"n": "' + "z" * 7 * number + '"}')
    before = path.read_bytes()
    row = get(table, "a7")
    new = change(table, "a7", "completed", result='{"ok": true}')
    after = path.read_bytes()
    changed = [at for at, pair in enumerate(zip(before, after, strict=True)) if len({*pair}) > 1]
    assert new.offset == row.offset
    assert changed[0] >= row.offset + row.tail
    assert changed[-1] < row.offset + len(row.line) - 1
    assert changed[0] // SECTOR == changed[-1] // SECTOR


# -- reading while others write --------------------------------------------------------------------


def test_a_row_that_moves_while_we_read_is_given_out_once(
    table: JobTable, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reading that meets a job twice, as it moves to the end meanwhile, yields it once."""
    set_piece(monkeypatch, 400)
    for number in range(40):
        add(table, f"a{number}")
    reading = look(path).rows()
    first = [next(reading) for _ in range(5)]
    for number in (2, 30):
        change(table, f"a{number}", "completed", result=LONG)
    add(table, "late")
    ids = [row.id.decode() for row in (*first, *reading)]
    assert sorted(ids) == sorted([*(f"a{number}" for number in range(40)), "late"])


def test_counting_while_rows_move(
    table: JobTable, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job that moves from behind the reader to before it, or back, is counted once."""
    set_piece(monkeypatch, 400)
    for number in range(40):
        add(table, f"a{number}")
    pieces, moved = JobTable.pieces, []

    def disturbed(self: JobTable, *args: Any, **kwargs: Any) -> Iterator[tuple[int, bytes]]:
        for piece in pieces(self, *args, **kwargs):
            yield piece
            if len(moved) < 60:
                number = 39 - len(moved) % 40
                moved.append(number)
                change(table, f"a{number}", "completed", result=LONG)

    monkeypatch.setattr(JobTable, "pieces", disturbed)
    counts = look(path).count_by_status()
    assert len(moved) == 60
    assert sum(counts.values()) == 40


@given(data=st.data())
@settings(max_examples=50)
def test_pieces_of_any_size_give_the_same_rows(data: st.DataObject) -> None:
    """Rows, searches, counts and moved rows do not depend on how much is read at a time."""
    lines = data.draw(
        st.lists(
            st.one_of(
                st.builds(
                    own,
                    st.integers(0, SECTOR),
                    st.sampled_from(["a1", "b2", "c3", "d4"]),
                    st.sampled_from(["pending", "completed"]),
                    payload=st.sampled_from(["{}", LONG]),
                    moved=st.booleans(),
                ),
                st.sampled_from([*MALFORMED, b"\n", b"    \n", b" a1\t\n"]),
            ),
            max_size=12,
        )
    )
    last = data.draw(st.sampled_from([b"", b"a1", text("e5")[:-1], b" a1\t{"]))
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patched:
        path = Path(folder) / "queue.tsv"
        write(path, *lines, last)
        seen = []
        for size in (1 << 20, data.draw(st.integers(20, 700))):
            set_piece(patched, size)
            table = look(path)
            seen.append(
                (
                    list(table.rows()),
                    table.count_by_status(),
                    table.moved(),
                    [find(table, name) for name in ("a1", "b2", "c3", "d4", "e5")],
                )
            )
            assert b"".join(piece for _, piece in table.pieces()) in (
                path.read_bytes(),
                path.read_bytes()[: len(path.read_bytes()) - len(last)],
            )
        assert seen[0] == seen[1]
        rows, counts, _, found = seen[0]
        assert counts == Counter(row.status for row in rows)
        assert all(row == [r for r in rows if r.id == row.id][-1] for row in found if row)


# -- writing it anew -------------------------------------------------------------------------------


def test_a_rewrite_keeps_owner_mode_and_attributes(table: JobTable, path: Path) -> None:
    """Prune and compaction leave owner, group, mode and extended attributes as they were."""
    add(table, "a1")
    path.chmod(0o640)
    os.setxattr(path, "user.note", b"kept")
    if os.getuid() == 0:
        os.chown(path, 12345, 23456)
    before = path.stat()
    assert table.delete(id="a1") == 1
    after = path.stat()
    assert after.st_ino != before.st_ino
    assert (after.st_uid, after.st_gid) == (before.st_uid, before.st_gid)
    assert after.st_mode == before.st_mode
    assert os.getxattr(path, "user.note") == b"kept"


def test_temporary_names_are_unique(
    table: JobTable, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every rewrite has a temporary file of its own, beside the table, gone afterwards."""
    add(table, "a1")
    rename, seen = os.rename, []

    def watch(source: Path, target: Path) -> None:
        seen.append(source)
        assert source.parent == target.parent == path.parent
        rename(source, target)

    monkeypatch.setattr(os, "rename", watch)
    for _ in range(20):
        with table.writing():
            table.rewrite()
    assert len(set(seen)) == 20
    assert not {"queue.tmp", "queue.tsv.tmp"} & {source.name for source in seen}
    assert names(path.parent) == {"queue.tsv", "queue.lock"}


def test_a_prune_takes_only_what_is_old_when_it_holds_the_lock(
    queue: Queue, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What changes, moves or shifts between the search for old jobs and the lock is kept."""
    fill(queue)
    acquire, done = JobTable.acquire, []

    def meanwhile(table: JobTable) -> None:
        if not done and table is queue.engine.table:
            done.append(True)
            other = Queue(path, "normal", clock=lambda: 4_000_000_000)
            assert other.retry_job("failed")
            assert other.process_jobs({"bad": lambda payload: "good"}, types=["bad"]).completed
            content = path.read_bytes()
            overwrite(path, content.replace(b"\nlong\t", b"\n# a line more\nlong\t"))
        acquire(table)

    before = states(queue.engine.table)
    monkeypatch.setattr(JobTable, "acquire", meanwhile)
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
        os.rename = lambda *args: os.kill(os.getpid(), signal.SIGKILL)
        queue.prune_jobs(0)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL
    assert path.read_bytes() == content
    litter = names(path.parent) - {"queue.tsv", "queue.lock", "queue.claims"}
    assert len(litter) == 1
    others = {".queue.tsv.swp", ".queue2.tsv.0123456789ab.tmp", "queue.tmp"}
    for name in others:
        (path.parent / name).touch()
    assert queue.prune_jobs(0) == 4
    assert names(path.parent) == {"queue.tsv", "queue.lock", "queue.claims"} | others


@pytest.mark.parametrize("call", ["fsync", "rename", "write", "fchown", "open"])
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


# -- anything, in any order ------------------------------------------------------------------------


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
                assert table.delete(id=job_id) == (job_id in model)
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
