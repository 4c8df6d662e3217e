"""The lock, the file it is about, and what others do to either."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import operator
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tables import (
    add,
    change,
    find,
    get,
    holds_lock,
    in_child,
    look,
    names,
    refuse,
    replace,
    stands,
    states,
    text,
    write,
)
from working import works_in_a_thread

from dbbasic_queue import Queue, StorageError, TableError
from dbbasic_queue.support.opening import Folder
from dbbasic_queue.table import lock, opened
from dbbasic_queue.table.compat import JobTable
from dbbasic_queue.table.line import HEADER
from dbbasic_queue.table.opened import NEVER, TICK, DirectoryWatch, OpenTable
from dbbasic_queue.table.table import Table

# -- looking and making ----------------------------------------------------------------------------


def test_looking_makes_nothing(table: Table, path: Path) -> None:
    """Every way of looking at a table that is not there finds nothing and makes nothing."""
    assert states(table) == {}
    assert find(table, "a1") is None
    assert table.count_by_status() == Counter()
    plain = JobTable(path, "normal")
    assert (plain.count(), plain.query(id="a1"), list(plain.all())) == (0, [], [])
    assert plain.stats()["file_size"] == 0
    assert table.moved() == {}
    assert table.state() is None
    assert not path.parent.exists()


def test_the_first_write_makes_the_file(table: Table, path: Path) -> None:
    """The first write makes folder, table and lock, and no index or metadata."""
    add(table, "a1")
    assert names(path.parent) == {"queue.tsv", "queue.lock"}
    assert path.read_bytes().startswith(HEADER)


def test_a_file_made_by_another_meanwhile_is_kept(
    table: Table, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table that a program without a lock makes at the same moment is not written over."""
    link = os.link

    def late(*args: Any, **folders: int) -> None:
        write(path, text("b2"))
        link(*args, **folders)

    monkeypatch.setattr(os, "link", late)
    add(table, "a1")
    assert states(look(path)) == {"b2": "pending", "a1": "pending"}


def test_an_unknown_durability_is_refused(path: Path) -> None:
    """A misspelt durability is an error, not silently the weaker one."""
    with pytest.raises(ValueError, match="fulll"):
        Table(path, "fulll")


@pytest.mark.parametrize("suffix", ["lock", "claims", "torn", "wake"])
def test_a_file_beside_a_table_is_not_taken_for_one(path: Path, suffix: str) -> None:
    """A path that names a table's lock (a slip of tab completion) is refused, and not emptied."""
    with pytest.raises(TableError, match=suffix):
        Table(path.with_suffix("." + suffix))


@pytest.mark.parametrize("use", [lambda table: add(table), states, lambda t: find(t, "a1")])
@pytest.mark.parametrize("kind", ["folder", "pipe"])
def test_what_is_no_file_is_refused(path: Path, use: Callable[[Table], Any], kind: str) -> None:
    """A folder or a pipe in the table's place is refused with an error of ours."""
    path.parent.mkdir()
    if kind == "folder":
        path.mkdir()
    else:
        os.mkfifo(path)
    with pytest.raises(StorageError):
        use(look(path))


# -- the file is the one that the path leads to ----------------------------------------------------


Pause = Callable[[Table], None]


@pytest.fixture(params=["at once", "later"])
def pause(request: pytest.FixtureRequest) -> Pause:
    """What waits until the table trusts its folder to tell of changes, or does not."""

    def wait(table: Table) -> None:
        ends = time.monotonic() + 30
        while request.param == "later" and time.monotonic() < ends:
            with table.writing():
                if table._watch.is_unchanged():
                    return
            time.sleep(0.01)
        assert request.param == "at once", "the folder was never trusted"

    return wait


def test_a_deleted_table_is_made_anew(table: Table, path: Path, pause: Pause) -> None:
    """A table deleted while it is open is made anew, with nothing of what was before."""
    add(table, "a1")
    pause(table)
    path.unlink()
    assert states(table) == {}
    add(table, "b2")
    assert states(look(path)) == {"b2": "pending"} == states(table)


def test_a_deleted_table_that_cannot_be_made_anew_takes_nothing(
    table: Table, path: Path, monkeypatch: pytest.MonkeyPatch
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
def test_a_replaced_table_is_noticed(table: Table, path: Path, first: str, pause: Pause) -> None:
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


@pytest.mark.parametrize("calmly", [True, False], ids=["trusting", "at-once"])
def test_a_producer_follows_a_link_that_was_turned(tmp_path: Path, calmly: bool) -> None:
    """A deployment that leads `current` elsewhere leads what looks and adds there, too."""
    for release in ("1", "2"):
        (tmp_path / release).mkdir()
    current = tmp_path / "current"
    current.symlink_to("1")
    queue = Queue(current / "queue.tsv")
    old = queue.enqueue("x", {})
    if calmly:
        time.sleep(2 * TICK / 1e9)
        assert queue.get_job(old) is not None
    (tmp_path / "next").symlink_to("2")
    (tmp_path / "next").rename(current)
    assert queue.get_job(old) is None
    first = queue.enqueue("x", {})
    (second,) = queue.enqueue_many([("x", {})])
    assert queue.cancel_job(first)
    assert states(look(tmp_path / "2" / "queue.tsv")) == {first: "cancelled", second: "pending"}
    assert states(look(tmp_path / "1" / "queue.tsv")) == {old: "pending"}


def test_a_backup_played_back_is_noticed(table: Table, path: Path, pause: Pause) -> None:
    """A table replaced by a tool that then puts the folder's time back, as rsync does, is seen."""
    add(table, "a1")
    pause(table)
    status = os.stat(path.parent)
    replace(path, HEADER + text("b2"))
    os.utime(path.parent, ns=(status.st_atime_ns, status.st_mtime_ns))
    add(table, "c3")
    assert states(look(path)) == {"b2": "pending", "c3": "pending"}


def test_a_table_moved_away_and_back_is_noticed(table: Table, path: Path, pause: Pause) -> None:
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


def test_a_reader_keeps_to_the_file_it_began(table: Table, path: Path) -> None:
    """A reading that has begun goes on over the file of that moment, replaced or deleted or not."""
    for number in range(50):
        add(table, f"a{number}")
    reading = table.rows()
    first = next(reading)
    replace(path, HEADER + text("b2"))
    assert states(table) == {"b2": "pending"}
    assert [row.id for row in (first, *reading)] == [b"a%d" % number for number in range(50)]


def test_a_moved_folder_takes_its_lock_with_it(table: Table, path: Path, pause: Pause) -> None:
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
    table: Table, path: Path, lose: Callable[[Path], None], pause: Pause
) -> None:
    """A lock on a deleted or renamed file keeps no process out, so a new one is taken."""
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


def test_a_lock_file_deleted_while_we_wait_is_noticed(table: Table, path: Path) -> None:
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


def test_readers_share_and_writers_do_not(table: Table, path: Path) -> None:
    """The lock is dbbasic-tsv's: shared to read, exclusive to write, free afterwards."""
    add(table, "a1")
    other = os.open(path.with_suffix(".lock"), os.O_RDWR)
    with table.reading():
        fcntl.flock(other, fcntl.LOCK_SH | fcntl.LOCK_NB)
        fcntl.flock(other, fcntl.LOCK_UN)
        assert holds_lock(path)
    with table.writing(), pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_SH | fcntl.LOCK_NB)
    assert not holds_lock(path)
    os.close(other)


def test_an_error_under_the_lock_lets_go_of_it(table: Table, path: Path) -> None:
    """An exception in the critical section, or on the way into it, leaves the table free."""
    add(table, "a1")
    with pytest.raises(KeyboardInterrupt), table.writing(), table.reading():
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


def test_a_reader_cannot_turn_writer(table: Table, path: Path) -> None:
    """To write while only the readers' lock is held is a mistake of the program, and refused."""
    add(table, "a1")
    with table.reading(), pytest.raises(StorageError, match="cannot be written"), table.writing():
        pass
    assert not holds_lock(path)
    with table.writing(), table.reading():
        assert states(table) == {"a1": "pending"}
    add(table, "b2")


def test_threads_take_turns(table: Table, path: Path) -> None:
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
        assert in_child(lambda: queue.engine.table.lock.fd) == -1
        assert holds_lock(path)
    assert not holds_lock(path)


def test_a_child_waits_for_its_parents_lock(queue: Queue) -> None:
    """A child forked under the lock cannot enter: it takes a lock of its own."""
    queue.enqueue("mail", {})
    queue.engine.table.lock_timeout = 0.1

    def enter() -> str:
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


# -- an open table file ----------------------------------------------------------------------------


def test_failed_sync_fails_for_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sync that failed once fails for everybody who wrote through that descriptor."""
    queue = Queue(tmp_path / "queue.tsv")
    queue.enqueue("work", {})
    handle = OpenTable(Folder(queue.path.parent), queue.path, writable=True)
    monkeypatch.setattr(os, "fdatasync", fail_to_sync)
    with pytest.raises(OSError, match="Input/output error"):
        handle.sync()
    monkeypatch.undo()
    with pytest.raises(OSError, match="Input/output error"):
        handle.sync()


def test_next_writer_opens_the_file_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a failed sync the next job goes through a new descriptor, and is accepted."""
    queue = Queue(tmp_path / "queue.tsv")
    queue.enqueue("work", {})
    monkeypatch.setattr(os, "fdatasync", fail_to_sync)
    with pytest.raises(StorageError, match="sync failed"):
        queue.enqueue("work", {})
    monkeypatch.undo()
    assert queue.get_job(queue.enqueue("work", {"again": True})) is not None


def test_thread_is_not_told_of_another_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread whose write went through a failed descriptor is told, although it is open again."""
    queue = Queue(tmp_path / "queue.tsv")
    queue.enqueue("work", {})
    with queue.engine.table.writing():
        pass  # as a thread that has written, and not synced yet
    with ThreadPoolExecutor(1) as other:
        monkeypatch.setattr(os, "fdatasync", fail_to_sync)
        with pytest.raises(StorageError):
            other.submit(queue.enqueue, "work", {}).result()
        monkeypatch.undo()
        assert other.submit(queue.enqueue, "work", {}).result()
    with pytest.raises(StorageError, match="sync failed"):
        queue.engine.table.sync()


def fail_to_sync(fd: int) -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


# -- the watch over a directory --------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "old").write_text("")
    return folder


def trusting(folder: Path) -> DirectoryWatch:
    """A watch that trusts its directory, which has been quiet for long enough."""
    time.sleep(2 * TICK / 1e9)
    watch = DirectoryWatch(str(folder))
    watch.trust(watch.look())
    assert watch.is_unchanged()
    return watch


def move_folder(folder: Path) -> None:
    folder.rename(folder.with_name("away"))


def replace_folder(folder: Path) -> None:
    move_folder(folder)
    folder.mkdir()


def replace_above(folder: Path) -> None:
    folder.parent.rename(folder.parent.with_name("above"))
    folder.mkdir(parents=True)


def replace_unseen(folder: Path) -> None:
    """As rsync does, or tar: what is in the folder, and then the folder's own time."""
    status = os.stat(folder)
    (folder / "new").write_text("")
    (folder / "new").replace(folder / "old")
    os.utime(folder, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "new").write_text(""),
        lambda folder: (folder / "old").unlink(),
        lambda folder: (folder / "old").rename(folder / "new"),
        lambda folder: (folder / "old").rename(folder.parent / "old"),
        lambda folder: os.link(folder / "old", folder / "new"),
        move_folder,
        replace_folder,
        replace_above,
        replace_unseen,
    ],
    ids=["made", "deleted", "renamed", "moved out", "linked", "gone", "replaced", "above", "rsync"],
)
def test_a_change_of_the_entries_is_seen(folder: Path, change: Callable[[Path], object]) -> None:
    """Whatever makes a name in the directory lead to another file ends the trust."""
    watch = trusting(folder)
    change(folder)
    assert not watch.is_unchanged()


@pytest.mark.parametrize(
    "change",
    [lambda folder: (folder / "new").write_text(""), move_folder, replace_folder, replace_unseen],
    ids=["made", "gone", "replaced", "rsync"],
)
def test_a_worker_sees_a_change_at_its_next_look(
    folder: Path, change: Callable[[Path], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cheaper look between two jobs follows no path, and misses nothing in the folder."""
    monkeypatch.setattr(opened, "FOLLOW_EVERY", 1e9)
    watch = trusting(folder)
    assert watch.is_unchanged_yet()
    assert watch.is_unchanged_yet()
    change(folder)
    assert not watch.is_unchanged_yet()


def test_a_worker_follows_its_path_now_and_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That a link on the way leads elsewhere, it learns when it follows the path the next time."""
    now = 100.0
    monkeypatch.setattr(opened.time, "monotonic", lambda: now)
    for release in ("1", "2"):
        (tmp_path / release / "data").mkdir(parents=True)
    current = tmp_path / "current"
    current.symlink_to("1")
    watch = trusting(current / "data")
    assert watch.is_unchanged_yet()
    current.unlink()
    current.symlink_to("2")
    now += opened.FOLLOW_EVERY
    assert not watch.is_unchanged_yet()


def test_a_descriptor_of_the_folder_that_is_lost_is_opened_anew(folder: Path) -> None:
    """Whatever the program has closed, or put in its place, is not taken for the folder."""
    watch = trusting(folder)
    assert watch.is_unchanged_yet()
    lost = watch.fd
    with (folder / "old").open() as other:
        os.dup2(other.fileno(), lost)
        assert watch.is_unchanged_yet()
        (folder / "new").write_text("")
        assert not watch.is_unchanged_yet()
        watch.trust(watch.look())
        del watch
        os.close(lost)  # which is still the other's


def quiet_queue(path: Path) -> Queue:
    """A queue that holds its files to be the right ones: in its folder nothing has changed."""
    queue = Queue(path, "normal")
    queue.enqueue("mail", {}, job_id="a1")
    time.sleep(2 * TICK / 1e9)
    queue.enqueue("mail", {}, job_id="a2")
    assert queue.engine.table._watch.is_unchanged()
    return queue


def close(fd: int) -> None:
    os.close(fd)


def give_to_a_file(fd: int) -> None:
    with Path("other").open("w+") as other:
        os.dup2(other.fileno(), fd)


def give_to_a_pipe(fd: int) -> None:
    reader, writer = os.pipe()
    os.dup2(writer, fd)
    os.close(reader)
    os.close(writer)


@pytest.mark.parametrize("lose", [close, give_to_a_file, give_to_a_pipe])
@pytest.mark.parametrize("both", [False, True], ids=["table", "table and lock"])
def test_a_table_that_the_program_has_closed_is_opened_anew(
    path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    lose: Callable[[int], None],
    both: bool,
) -> None:
    """Jobs go into the table, under its lock, and nothing into the file that has its number."""
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    queue = quiet_queue(path)
    table = queue.engine.table
    lost = [table._file.fd, table.lock.fd] if both else [table._file.fd]
    for fd in lost:
        lose(fd)
    queue.enqueue("mail", {}, job_id="b2")
    with table.writing():
        assert holds_lock(path)
    assert queue.get_job("b2")["status"] == "pending"
    assert not Path("other").exists() or Path("other").read_bytes() == b""


def test_a_lock_that_the_program_has_closed_is_taken_anew(path: Path) -> None:
    """A job that is added then is added under the lock."""
    queue = quiet_queue(path)
    os.close(queue.engine.table.lock.fd)
    queue.enqueue("mail", {}, job_id="b2")
    with queue.engine.table.writing():
        assert holds_lock(path)


def test_a_file_that_is_written_changes_no_entry(folder: Path) -> None:
    """Writing to a file of the directory does not end the trust."""
    watch = trusting(folder)
    with (folder / "old").open("a") as file:
        file.write("more")
    os.utime(folder / "old")
    assert watch.is_unchanged()


def test_a_directory_changed_just_now_is_not_trusted(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While another change might get the same time, or the clock was set back, nothing is."""
    watch = DirectoryWatch(str(folder))
    changed = os.stat(folder).st_ctime_ns
    for later, trusted in ((0, False), (TICK - 1, False), (TICK, True), (-TICK, False)):
        monkeypatch.setattr(opened.time, "time_ns", lambda at=changed + later: at)
        assert (watch.look() != NEVER) == trusted


def test_times_in_whole_seconds_are_not_trusted(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a file system that counts in seconds, a second change may bear the time of the first."""
    watch = trusting(folder)
    monkeypatch.setattr(opened, "SECOND", 1)  # every time is a whole number of these
    assert watch.look() == NEVER


def test_a_directory_that_cannot_be_looked_at_is_not_trusted(tmp_path: Path) -> None:
    """A missing directory is not an error here: what opens files in it says what is wrong."""
    watch = DirectoryWatch(str(tmp_path / "missing"))
    assert not watch.is_unchanged()
    watch.trust(watch.look())
    assert not watch.is_unchanged()


@pytest.mark.parametrize("breaks", [True, False], ids=["broken into", "beside another thread"])
def test_a_descriptor_is_known_as_soon_as_it_is_held(
    path: Path, monkeypatch: pytest.MonkeyPatch, breaks: bool
) -> None:
    """Neither a signal handler nor a thread that opens a table finds a lock file half noted.

    A descriptor that is not the file it was counts as closed by the program, and is let go of: with
    its lock, if it has one.
    """
    write(path)
    real = lock.identity

    def identity(status: os.stat_result) -> tuple[int, int]:
        opened.disown_closed()
        if breaks:
            monkeypatch.setattr(lock, "identity", real)
            raise KeyboardInterrupt
        return real(status)

    queue = Queue(path, "normal")
    monkeypatch.setattr(lock, "identity", identity)
    if breaks:
        with pytest.raises(KeyboardInterrupt):
            queue.enqueue("mail", {})
        assert queue.engine.table.lock.fd == -1
    queue.enqueue("mail", {})
    file = queue.engine.table.lock
    assert file.fd >= 0
    assert file.identity == real(os.fstat(file.fd))
    assert not holds_lock(path)
    look(path)
    assert Queue(path, "normal").enqueue("mail", {}, job_id="after") == "after"


class Interrupted(Exception):
    """What a signal handler raises."""


@pytest.fixture
def interrupting() -> Iterator[None]:
    """SIGUSR2 and SIGALRM raise an exception."""

    def interrupt(number: int, frame: Any) -> None:
        raise Interrupted

    numbers = (signal.SIGUSR2, signal.SIGALRM)
    before = [signal.signal(number, interrupt) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def test_a_second_exception_leaves_the_lock_free(path: Path, interrupting: None) -> None:
    """As of a second Ctrl-C, while the first is seen to: another thread gets the lock."""
    table = look(path)
    raise_in_c = partial(getattr(ctypes.CDLL(None), "raise"), signal.SIGUSR2)
    call: Any = operator.call
    # One call: the signal, and an exception before Python looks whether a signal has come.
    table._begin_writing = partial(any, map(call, (raise_in_c, partial(operator.truediv, 1, 0))))
    with pytest.raises(Interrupted), table.writing():
        raise AssertionError("it is not held")
    del table._begin_writing
    other = look(path)
    assert works_in_a_thread(lambda: add(other))


def test_waiting_for_another_thread_that_is_broken_off_leaves_it_the_lock(
    path: Path, interrupting: None
) -> None:
    """It has the lock by the same descriptor, and goes on to write."""
    table = look(path)
    held, go_on = threading.Event(), threading.Event()

    def holds() -> None:
        with table.writing():
            held.set()
            go_on.wait()

    thread = threading.Thread(target=holds)
    thread.start()
    held.wait()
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(Interrupted), table.writing():
            raise AssertionError("the thread has it")
        assert holds_lock(path)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        go_on.set()
        thread.join()
