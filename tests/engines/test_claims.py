"""Claims: kernel locks that say which worker runs what, and end exactly when it does."""

from __future__ import annotations

import errno
import fcntl
import gc
import os
import shutil
import signal
import stat
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tables import NOBODY, in_child, let_in, names, write

from dbbasic_queue import Queue, StorageError
from dbbasic_queue.engines.tsv import claims
from dbbasic_queue.engines.tsv.claims import NOTE, Claims, byte_of
from dbbasic_queue.table.opened import disown_closed


def open_claims(path: Path) -> Claims:
    """The claims of the table at `path`, as another process would open them."""
    return Claims(path.with_suffix(".claims"), path)


def held(path: Path, *ids: bytes) -> list[bool]:
    """Which jobs are claimed, as a process that has nothing to do with it sees."""
    return in_child(lambda: [open_claims(path).is_held(job_id) for job_id in ids])


@pytest.fixture
def made(path: Path) -> Path:
    """A table that is there."""
    write(path)
    return path


@contextmanager
def process(work: Callable[[], None]) -> Iterator[int]:
    """A process that has done `work` and then waits for its death."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        signal.alarm(60)
        try:
            work()
            os.write(writer, b"x")
            signal.pause()
        finally:
            os._exit(1)
    os.close(writer)
    assert os.read(reader, 1) == b"x"
    os.close(reader)
    try:
        yield pid
    finally:
        end(pid)


def end(pid: int) -> None:
    """Kill a process and wait for it; nothing if that has been done."""
    try:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    except (ProcessLookupError, ChildProcessError):
        return


# -- taking and giving back ------------------------------------------------------------------------


def test_a_job_is_claimed_once(made: Path) -> None:
    """A claim keeps all others out: its own process, its threads, other processes."""
    mine, other = open_claims(made), open_claims(made)
    claim = mine.take(b"a1")
    assert claim is not None
    assert mine.take(b"a1") is None
    assert other.take(b"a1") is None
    assert in_child(lambda: open_claims(made).take(b"a1")) is None
    assert mine.is_held(b"a1")
    assert other.is_held(b"a1")
    assert held(made, b"a1", b"b2") == [True, False]
    mine.release(claim)
    assert held(made, b"a1") == [False]
    again = other.take(b"a1")
    assert again is not None
    assert mine.take(b"a1") is None
    mine.release(claim)  # not its own any more
    assert held(made, b"a1") == [True]


def test_claims_are_independent(made: Path) -> None:
    """Any number of jobs may be claimed, and each is given back alone."""
    mine = open_claims(made)
    ids = [b"%016x" % (number * 7919) for number in range(500)]
    taken = [mine.take(job_id) for job_id in ids]
    assert None not in taken
    for claim in taken[::2]:
        assert claim is not None
        mine.release(claim)
    assert held(made, *ids) == [bool(number % 2) for number in range(500)]


@given(st.text("0123456789abcdefABCDEFgxz_-", min_size=1, max_size=64))
def test_every_id_has_a_byte(job_id: str) -> None:
    """Any id falls on a byte that the kernel can lock and that is not a worker's slot."""
    byte = byte_of(job_id.encode())
    assert 1 << 61 <= byte < 1 << 62


@pytest.mark.parametrize(
    ("job_id", "byte"),
    [
        ("5f2c9b1e8a7d4c30", 1 << 61 | 0x1F2C9B1E8A7D4C30),
        ("bill-17", 0x25C62283F64A9045),
        ("myx1htc0k3v9q7aa", 0x3642405F99C051EE),
    ],
)
def test_a_job_has_the_byte_that_a_worker_of_2_0_0_chooses(job_id: str, byte: int) -> None:
    """While some workers are of another version, each sees which jobs the others run."""
    assert byte_of(job_id.encode()) == byte


def test_two_jobs_on_one_byte(made: Path) -> None:
    """Ids that are the same number are not run at once, and neither claim outlives its release."""
    mine = open_claims(made)
    claim = mine.take(b"a1")
    assert claim is not None
    for same in (b"A1", b"0a1", b"0xa1", b"a_1"):
        assert mine.take(same) is None
        assert mine.is_held(same)
    mine.release(claim)
    assert held(made, b"A1", b"a1") == [False, False]


def test_threads_exclude_each_other(made: Path) -> None:
    """Of many threads that begin at one moment, one gets the job; the file is opened once."""
    mine = open_claims(made)
    gc.collect()  # what other tests have left open
    before = len(os.listdir("/proc/self/fd"))
    start, taken = threading.Barrier(16), []

    def take() -> None:
        start.wait()
        mine.mark_run()
        taken.append(mine.take(b"a1"))

    threads = [threading.Thread(target=take) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    claim, *others = sorted(taken, key=lambda claim: claim is None)
    assert claim is not None
    assert others == [None] * 15
    assert len(os.listdir("/proc/self/fd")) == before + 1
    mine.release(claim)
    assert held(made, b"a1") == [False]


# -- the end of a process --------------------------------------------------------------------------


def test_a_killed_process_has_no_claims(made: Path) -> None:
    """`kill -9` frees the jobs of a process, at once."""

    def work() -> None:
        assert open_claims(made).take(b"a1") is not None

    with process(work) as pid:
        # Its object is collected, with no reference left; the claim is the process's all the same.
        assert held(made, b"a1") == [True]
        end(pid)
        assert open_claims(made).is_held(b"a1") is False
        assert open_claims(made).take(b"a1") is not None


@pytest.mark.parametrize(
    "touch",
    [
        lambda path: path.with_suffix(".claims").read_bytes(),
        lambda path: shutil.copytree(path.parent, path.parent.with_name("backup")),
        lambda path: subprocess.run(["cat", path.with_suffix(".claims")], check=True),
        lambda path: open_claims(path).is_held(b"b2"),
        lambda path: open_claims(path).mark_run(),
    ],
    ids=["read", "backup", "cat", "is_held", "mark_run"],
)
def test_a_claim_outlives_a_look_at_its_file(
    made: Path, touch: Callable[[Path], Any], capfd: pytest.CaptureFixture[str]
) -> None:
    """A handler that reads queue.claims, as a backup does, does not give its own job away.

    With traditional locks it would: closing any descriptor of the file drops them all.
    """
    mine = open_claims(made)
    assert mine.take(b"a1") is not None
    touch(made)
    assert held(made, b"a1") == [True]


def test_the_trap_of_traditional_locks_is_real(made: Path) -> None:
    """The reason for open file description locks, shown: a traditional one is lost by a look."""
    with made.with_suffix(".claims").open("wb") as file:
        fcntl.lockf(file, fcntl.LOCK_EX, 1, byte_of(b"a1"))
        assert held(made, b"a1") == [True]
        made.with_suffix(".claims").read_bytes()
        assert held(made, b"a1") == [False]


def test_a_child_that_outlives_its_worker_holds_nothing(queue: Queue, path: Path) -> None:
    """A process that a handler has forked does not keep the job of its dead worker alive."""
    queue.enqueue("mail", {})
    reader, writer = os.pipe()

    def work() -> None:
        assert queue.engine.claims.take(b"a1") is not None
        if os.fork() == 0:
            os.write(writer, b"%d\n" % os.getpid())
            signal.pause()

    with process(work) as pid:
        child = int(os.read(reader, 20))
        assert held(path, b"a1") == [True]
        end(pid)
        os.kill(child, 0)  # it lives
        assert held(path, b"a1") == [False]
        os.kill(child, signal.SIGKILL)
    os.close(reader)
    os.close(writer)


def test_a_program_that_outlives_its_worker_holds_nothing(made: Path) -> None:
    """Nor does a program that a handler has started."""
    reader, writer = os.pipe()

    def work() -> None:
        assert open_claims(made).take(b"a1") is not None
        program = subprocess.Popen(["sleep", "60"], close_fds=False)
        os.write(writer, b"%d\n" % program.pid)

    with process(work) as pid:
        child = int(os.read(reader, 20))
        assert held(made, b"a1") == [True]
        end(pid)
        os.kill(child, 0)
        assert held(made, b"a1") == [False]
        os.kill(child, signal.SIGKILL)
    os.close(reader)
    os.close(writer)


def test_a_forked_child_has_no_claims_and_takes_none_away(queue: Queue, path: Path) -> None:
    """A child starts with none: it sees its parent's as another's, and cannot give it back."""
    queue.enqueue("mail", {})
    claim = queue.engine.claims.take(b"a1")
    assert claim is not None

    def look_around() -> list[Any]:
        seen = [queue.engine.claims.is_held(b"a1"), queue.engine.claims.take(b"a1")]
        queue.engine.claims.release(claim)
        return [
            *seen,
            queue.engine.claims.take(b"b2") is not None,
            queue.engine.claims.is_held(b"b2"),
        ]

    assert in_child(look_around) == [True, None, True, True]
    assert held(path, b"a1", b"b2") == [True, False]
    assert queue.engine.claims.is_held(b"a1")
    queue.engine.claims.release(claim)
    assert held(path, b"a1") == [False]


def test_a_fork_while_a_thread_is_at_the_claims(queue: Queue) -> None:
    """A child is not stuck on a mutex that a thread of its parent held."""
    queue.enqueue("mail", {})
    with queue.engine.claims._mutex:
        thread_holds = in_child(lambda: queue.engine.claims.take(b"a1") is not None)
    assert thread_holds


# -- the file --------------------------------------------------------------------------------------


def test_looking_makes_no_file(made: Path) -> None:
    """Without a file nothing is claimed, and looking does not make one."""
    mine = open_claims(made)
    assert mine.is_held(b"a1") is False
    assert mine.last_run() is None
    assert names(made.parent) == {"queue.tsv"}


def test_the_file_says_what_it_is_for(made: Path) -> None:
    """Its text says why it is there; its time is that of the last worker run."""
    mine = open_claims(made)
    assert mine.take(b"a1") is not None
    file = made.with_suffix(".claims")
    os.utime(file, (5, 5))
    assert mine.last_run() == 5
    assert mine.take(b"b2") is not None
    assert mine.last_run() == 5
    mine.mark_run()
    assert mine.last_run() == file.stat().st_mtime > 10**9
    open_claims(made).mark_run()
    assert file.read_bytes() == NOTE


@pytest.mark.parametrize(
    ("mode", "closed"), [(0o600, 0o600), (0o640, 0o600), (0o664, 0o660), (0o666, 0o666)]
)
def test_the_file_belongs_to_who_owns_the_table(made: Path, mode: int, closed: int) -> None:
    """The owner of the queue may claim in it, though root was there first; readers get no lock."""
    made.chmod(mode)
    if os.getuid() == 0:
        os.chown(made, NOBODY, NOBODY)
        os.chown(made.parent, NOBODY, NOBODY)
    before = os.umask(0o077)
    try:
        open_claims(made).mark_run()
    finally:
        os.umask(before)
    status, table = made.with_suffix(".claims").stat(), made.stat()
    assert stat.S_IMODE(status.st_mode) == closed
    assert (status.st_uid, status.st_gid) == (table.st_uid, table.st_gid)


def test_root_at_work_locks_no_user_out(made: Path) -> None:
    """After root has enqueued and mended a torn end, the table's owner enqueues and works."""
    if os.getuid() == 0:
        os.chown(made, NOBODY, NOBODY)
        os.chown(made.parent, NOBODY, NOBODY)
    queue = Queue(made, "normal")
    queue.enqueue("mail", {"n": 1})
    made.write_bytes(made.read_bytes() + b"torn")
    queue.enqueue("mail", {"n": 2})
    assert names(made.parent) == {"queue.tsv", "queue.lock", "queue.torn"}
    let_in(made.parent)

    def work() -> int:
        own = Queue(made, "normal")
        own.enqueue("mail", {"n": 3})
        with made.open("ab") as file:
            file.write(b"torn again")
        return own.process_jobs({"mail": lambda payload: payload}).completed

    assert in_child(work, user=NOBODY) == 3


def test_a_reader_sees_claims(made: Path) -> None:
    """Read permission is enough to see what is running; to claim it takes more, and is refused."""
    mine = open_claims(made)
    assert mine.take(b"a1") is not None
    made.with_suffix(".claims").chmod(0o444)
    let_in(made.parent)

    def look() -> tuple[bool, bool]:
        other = open_claims(made)
        seen = other.is_held(b"a1"), other.is_held(b"b2")
        for refused in (lambda: other.take(b"b2"), other.mark_run):
            with pytest.raises(StorageError, match="cannot claim") as caught:
                refused()
            assert caught.value.errno == errno.EACCES
        assert seen == (other.is_held(b"a1"), other.is_held(b"b2"))
        return seen

    assert in_child(look, user=NOBODY) == (True, False)


def test_a_deleted_file_is_made_anew(made: Path) -> None:
    """A process that holds no claim when the file is deleted goes over to the new one."""
    idle, other = open_claims(made), open_claims(made)
    idle.mark_run()
    assert idle.is_held(b"a1") is False
    made.with_suffix(".claims").unlink()
    assert other.take(b"a1") is not None
    assert idle.is_held(b"a1") is True
    assert idle.take(b"a1") is None
    assert idle.take(b"b2") is not None
    assert held(made, b"a1", b"b2") == [True, True]
    made.parent.rename(made.parent.with_name("away"))
    write(made)
    newcomer = open_claims(made)
    assert newcomer.take(b"c3") is not None
    reader = open_claims(made)
    assert reader.is_held(b"c3")


def test_a_kernel_that_refuses_is_an_error_of_ours(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No locks to be had (a network file system) is an error, not a free job."""
    mine = open_claims(made)
    mine.mark_run()

    def refuse(*args: Any) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    with monkeypatch.context() as broken:
        broken.setattr(fcntl, "fcntl", refuse)
        with pytest.raises(StorageError, match="No locks available"):
            mine.take(b"a1")
    assert mine.take(b"a1") is not None


def test_where_there_are_no_open_file_locks(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a kernel that has only the traditional locks, claims keep other processes out."""
    monkeypatch.setattr(claims, "_SETLK", fcntl.F_SETLK)
    monkeypatch.setattr(claims, "_GETLK", fcntl.F_GETLK)
    mine = open_claims(made)
    claim = mine.take(b"a1")
    assert claim is not None
    assert mine.take(b"a1") is None
    assert held(made, b"a1", b"b2") == [True, False]
    assert in_child(lambda: open_claims(made).take(b"a1")) is None
    mine.release(claim)
    assert held(made, b"a1") == [False]


# -- worker slots ----------------------------------------------------------------------------------


def test_slots_bound_the_number_of_workers(made: Path) -> None:
    """So many workers as allowed over all processes; a dead one's slot is free."""
    mine = open_claims(made)
    assert mine.take(b"0") is not None
    assert mine.take_slot(0) is None
    assert mine.take_slot(2) == 0

    def work() -> None:
        assert open_claims(made).take_slot(2) == 1

    with process(work) as pid:
        assert mine.take_slot(2) is None
        assert open_claims(made).take_slot(2) is None
        assert open_claims(made).take_slot(3) == 2
        end(pid)
        assert mine.take_slot(2) == 1
    mine.release_slot(0)
    assert open_claims(made).take_slot(2) == 0


def test_a_thread_that_opens_a_table_keeps_no_claim_from_being_known(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It lets go of descriptors that the program has closed, and of no other one."""
    write(path)
    real = claims.identity

    def identity(status: os.stat_result) -> tuple[int, int]:
        disown_closed()
        return real(status)

    monkeypatch.setattr(claims, "identity", identity)
    mine = open_claims(path)
    assert mine.take(b"a1") is not None
    assert held(path, b"a1") == [True]
    assert mine.fd >= 0


def test_claims_that_the_program_has_closed_are_opened_anew(path: Path) -> None:
    """A job that is claimed after that is claimed for all to see."""
    write(path)
    mine = open_claims(path)
    assert mine.take(b"a1") is not None
    os.close(mine.fd)
    assert mine.take(b"b2") is not None
    assert held(path, b"a1", b"b2") == [False, True]


def test_claims_that_were_read_are_opened_to_write(path: Path) -> None:
    """A process that has asked for a claim may take one."""
    write(path)
    assert open_claims(path).take(b"b2") is not None
    mine = open_claims(path)
    assert not mine.is_held(b"a1")
    assert mine.take(b"a1") is not None
    assert held(path, b"a1") == [True]


def test_a_shared_byte_outlives_the_deletion_of_the_file(tmp_path: Path) -> None:
    """As dbq restart --wait asks it: a worker of before is seen in the file that is made anew."""
    path, table = tmp_path / "q.claims", tmp_path / "q.tsv"
    worker, other = Claims(path, table), Claims(path, table)
    for _ in range(2):
        worker.share(7)
    path.unlink()
    worker.mark_run()
    assert other.is_shared(0, 8)
    assert not other.is_shared(8, 100)
    worker.unshare(7)
    assert other.is_shared(7, 8)
    worker.unshare(7)
    assert not other.is_shared(0, 100)
