"""The ends of the table: its header, a torn last line, half a batch."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tables import (
    add,
    change,
    fields,
    files,
    get,
    look,
    mend,
    names,
    overwrite,
    own,
    refuse,
    replace,
    states,
    text,
    torn,
    write,
)

from dbbasic_queue import Queue, StorageError, TableError
from dbbasic_queue.engines.tsv import fsck
from dbbasic_queue.support.files import SLICE
from dbbasic_queue.table import ending
from dbbasic_queue.table.compat import JobTable
from dbbasic_queue.table.line import HEADER, parse_line
from dbbasic_queue.table.table import Table

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


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_a_byte_order_mark_is_understood(path: Path, end: bytes) -> None:
    """What some editors put before the first line harms nothing, and stays."""
    write(path, text("a1"), text("b2", "completed"), header=b"\xef\xbb\xbf" + HEADER[:-1] + end)
    queue = Queue(path, "normal")
    add(queue.engine.table, "c3")
    assert queue.process_jobs({"mail": lambda payload: None}).completed == 2
    assert queue.prune_jobs(0) == 3
    assert path.read_bytes().startswith(b"\xef\xbb\xbfid\t")
    assert fsck.check(queue.engine) == []


FOREIGN_HEADERS = {
    "UTF-8 twice": b"\xef\xbb\xbf" * 2 + HEADER,
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
        lambda table: JobTable(table.data_file, "normal").delete(id="a1"),
    ],
)
def test_another_first_line_is_refused(
    path: Path, header: str, use: Callable[[Table], Any]
) -> None:
    """A lost or foreign header is a clear error each time; nothing changes."""
    content = write(path, text("a1"), header=FOREIGN_HEADERS[header])
    table = look(path)
    for _ in range(2):
        with pytest.raises(TableError, match="first line"):
            use(table)
    assert path.read_bytes() == content
    assert names(path.parent) <= {"queue.tsv", "queue.lock"}


def test_a_table_replaced_by_something_else_is_refused(table: Table, path: Path) -> None:
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
    """What is not a row and has no newline is out of the way in queue.torn, again and again."""
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
    boot = ending._boot_id() if boot is None else boot
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
    note(path, len(content), 10**12, boot=ending._boot_id() + b" " * 40)
    with table.writing():
        line = own(table.size, "c3")
        if many:
            # Dies in its batch: its own note has to be the one that counts.
            dies = lambda data, noted: path.open("ab").write(line)  # noqa: E731
            monkeypatch.setattr(table, "append", dies)
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
    """A row that a person appends after a batch was refused is not part of it."""
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
    """When what was written of a refused batch cannot be cut off, it is not a job all the same."""
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
