"""Disks that are full, refuse, or may only be read: nothing is half written, nothing is lost."""

from __future__ import annotations

import errno
import gc
import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tables import (
    NOBODY,
    add,
    fill,
    in_child,
    let_in,
    look,
    names,
    own,
    replace,
    states,
    text,
    torn,
    write,
)

from dbbasic_queue import Queue, StorageError
from dbbasic_queue.table import renewing as store
from dbbasic_queue.table.compat import JobTable
from dbbasic_queue.table.line import HEADER
from dbbasic_queue.table.table import Table

LONG = "x" * 3000


class Fault:
    """Makes a system call fail, from its `after`-th call on, for as long as it is on."""

    def __init__(
        self, patch: pytest.MonkeyPatch, name: str, number: int = errno.EIO, *, after: int = 0
    ) -> None:
        self.on = True
        self.calls = 0
        self._original = getattr(os, name)
        self._number = number
        self._after = after
        patch.setattr(os, name, self._call)

    def _call(self, *args: Any, **kwargs: Any) -> Any:
        self.calls += self.on
        if self.on and self.calls > self._after:
            raise OSError(self._number, os.strerror(self._number))
        return self._original(*args, **kwargs)


# -- a full disk -----------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk of 512 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(folder)]
    if os.getuid() != 0:
        pytest.skip("mounting a small disk takes root; the tests with limits run all the same")
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"mount refused: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture(params=["small disk", "file size limit"])
def full(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[Any], Any]]:
    """Runs a function of a folder in a child that may write about 512 KiB there."""
    if request.param == "small disk":
        folder = request.getfixturevalue("small_disk")
        yield lambda function: in_child(lambda: function(folder))
        return

    def limited(function: Callable[[Path], Any]) -> Any:
        def work() -> Any:  # Python ignores SIGXFSZ, so that the write fails with EFBIG
            resource.setrlimit(resource.RLIMIT_FSIZE, (512 << 10, resource.RLIM_INFINITY))
            return function(tmp_path)

        return in_child(work)

    yield limited


def fill_up(queue: Queue) -> list[str]:
    """Enqueue until the disk refuses, to the last byte; the ids that were acknowledged."""
    ids: list[str] = []

    def enqueue_for_ever(size: int) -> None:
        while True:
            ids.append(queue.enqueue("mail", {"text": "x" * size}))

    for size in (20_000, 500, 1):
        with pytest.raises(StorageError) as caught:
            enqueue_for_ever(size)
        assert caught.value.errno in (errno.ENOSPC, errno.EFBIG)
    return ids


def test_enqueue_on_a_full_disk(full: Callable[[Any], Any]) -> None:
    """What was acknowledged is there, what was refused is not; the file ends in a whole line."""

    def work(folder: Path) -> None:
        path = folder / "queue.tsv"
        queue = Queue(path)
        ids = fill_up(queue)
        before = path.read_bytes()
        for job in ("mail", {"text": LONG}), ("mail", {}):
            for _ in range(3):
                with pytest.raises(StorageError, match="cannot append to the queue"):
                    queue.enqueue(*job)
        with pytest.raises(StorageError):
            queue.enqueue_many([("mail", {"text": LONG})] * 50)
        assert path.read_bytes() == before
        assert before.endswith(b"\n")
        assert list(states(look(path))) == ids
        assert (folder / "queue.lock").read_bytes() == b""
        assert not torn(path)

    full(work)


def test_work_on_a_full_disk(full: Callable[[Any], Any]) -> None:
    """A worker finishes jobs on a full disk: a change in place needs no space.

    A result that does not fit is left out, the job is completed all the same.
    """

    def work(folder: Path) -> None:
        queue = Queue(folder / "queue.tsv", "normal")
        queue.engine.claims.mark_run()
        ids = fill_up(queue)
        assert len(ids) > 20
        results = iter([None, "short", LONG, {"list": [LONG] * 9}])
        done = queue.process_jobs({"mail": lambda payload: next(results, 1)})
        assert (done.completed, done.failed, done.retried) == (len(ids), 0, 0)
        jobs = [queue.get_job(job_id) for job_id in ids]
        assert {job["status"] for job in jobs if job} == {"completed"}
        assert [job["result"] for job in jobs[:2] if job] == [None, "short"]
        assert all(job["payload"]["text"].strip("x") == "" for job in jobs if job)

    full(work)


def test_after_a_full_disk_all_goes_on(full: Callable[[Any], Any]) -> None:
    """Once there is space again the same queue object goes on, with nothing lost."""

    def work(folder: Path) -> None:
        queue = Queue(folder / "queue.tsv")
        ids = fill_up(queue)
        assert queue.cancel_job(ids[0])
        assert queue.process_jobs({"mail": lambda payload: None}, limit=9).completed == 9
        first_ten = queue.path.read_bytes().split(b"\n")[:11]
        os.truncate(queue.path, len(b"\n".join(first_ten)) + 1)  # some space
        assert queue.enqueue("mail", {"text": LONG}, job_id="after") == "after"
        assert queue.prune_jobs(0) == 10
        assert states(queue.engine.table) == states(look(queue.path)) == {"after": "pending"}

    full(work)


def test_a_prune_without_space_changes_nothing(small_disk: Path) -> None:
    """A prune takes as much space again; without it, it is refused and leaves no litter."""
    queue = Queue(small_disk / "queue.tsv", "normal")
    ids = fill_up(queue)
    assert queue.cancel_job(ids[0])
    content = queue.path.read_bytes()
    with pytest.raises(StorageError, match=r"cannot rewrite the queue .*: No space left"):
        queue.prune_jobs(0)
    assert queue.path.read_bytes() == content
    assert names(small_disk) == {"queue.tsv", "queue.lock"}
    assert queue.cancel_job(ids[1])


def test_a_worker_that_cannot_compact_has_done_its_work(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """No space to compact is a warning; the jobs are done, and the next run tries again."""
    monkeypatch.setattr(store, "WORTH_COMPACTING", 1000)
    queue = Queue(small_disk / "queue.tsv", "normal")
    queue.enqueue_many([("mail", {"text": "x" * 20_000})] * 4)
    (small_disk / "ballast").write_bytes(b"x" * 200_000)
    assert queue.process_jobs({"mail": lambda payload: payload["text"][:12_000]}).completed == 4
    assert "not compacted" in caplog.text
    assert states(queue.engine.table) == states(look(queue.path))
    (small_disk / "ballast").unlink()
    size = queue.path.stat().st_size
    queue.engine.table.compact()
    assert queue.path.stat().st_size < size


def test_a_disk_too_full_to_make_a_queue(small_disk: Path) -> None:
    """Where not even the header fits, making a queue fails and leaves no empty table behind."""
    ballast = small_disk / "ballast"
    with pytest.raises(OSError, match="No space left"):
        ballast.write_bytes(b"x" * (1 << 20))
    queue = Queue(small_disk / "queue.tsv")
    for _ in range(2):
        with pytest.raises(StorageError) as caught:
            queue.enqueue("mail", {})
        assert caught.value.errno == errno.ENOSPC
    assert names(small_disk) <= {"ballast", "queue.lock"}
    ballast.unlink()
    queue.enqueue("mail", {})
    assert queue.count_jobs()["pending"] == 1


# -- writes that fail ------------------------------------------------------------------------------


def stop_after(patch: pytest.MonkeyPatch, length: int) -> None:
    """Let the next append write so many bytes, and then fail."""
    pwritev, written = os.pwritev, []

    def half(fd: int, parts: list[bytes], *args: int) -> int:
        if written or not length:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written.append(pwritev(fd, [bytes(parts[0])[:length]], *args))
        return length

    patch.setattr(os, "pwritev", half)


@pytest.mark.parametrize("length", [0, 1, 60, 111])
def test_an_append_that_fails_is_cut_off(
    queue: Queue, path: Path, monkeypatch: pytest.MonkeyPatch, length: int
) -> None:
    """A write that stops in the middle of a row leaves nothing of it, and the next one works."""
    queue.enqueue("mail", {}, job_id="a1")
    content = path.read_bytes()
    with monkeypatch.context() as broken:
        stop_after(broken, length)
        with pytest.raises(StorageError, match="No space left"):
            queue.enqueue("mail", {}, job_id="b2")
    assert path.read_bytes() == content
    queue.enqueue("mail", {}, job_id="b2")
    assert states(look(path)) == {"a1": "pending", "b2": "pending"}
    assert not torn(path)


def test_an_append_that_cannot_be_cut_off_is_set_aside(
    queue: Queue, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When even the cut fails, the torn line is seen to by the next writer."""
    queue.enqueue("mail", {}, job_id="a1")
    with monkeypatch.context() as broken:
        stop_after(broken, 20)
        Fault(broken, "ftruncate")
        with pytest.raises(StorageError, match=r"cannot shorten .* Input/output error"):
            queue.enqueue("mail", {}, job_id="b2")
    queue.enqueue("mail", {}, job_id="c3")
    assert states(look(path)) == {"a1": "pending", "c3": "pending"}
    assert torn(path).startswith(b"b2\tmail\t{}")


def test_a_change_in_place_that_fails_changes_nothing(
    queue: Queue, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cancel that the disk refuses raises, and the job is pending still."""
    queue.enqueue("mail", {}, job_id="a1")
    content = path.read_bytes()
    fault = Fault(monkeypatch, "pwrite")
    with pytest.raises(StorageError, match="cannot write to the queue"):
        queue.cancel_job("a1")
    assert path.read_bytes() == content
    fault.on = False
    assert queue.cancel_job("a1")


@pytest.mark.parametrize("call", ["pwritev", "fdatasync", "pwrite"])
def test_a_move_that_fails_leaves_the_old_state(
    queue: Queue, path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """When any step of a move is refused, the old row stands and no second one."""
    write(path, text("a1"))  # without reserve, so that it has to move
    content = path.read_bytes()
    fault = Fault(monkeypatch, call)
    for _ in range(3):
        with pytest.raises(StorageError):
            queue.cancel_job("a1")
        assert path.read_bytes() == content
        assert queue.count_jobs()["pending"] == 1
    fault.on = False
    assert queue.cancel_job("a1")
    assert states(look(path)) == {"a1": "cancelled"}


def test_a_tombstone_that_stays_half_done_is_none(
    queue: Queue, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the second write of a long tombstone fails, the job is there once, in its new state."""
    write(path, text("a1", payload='{"text": "' + LONG + '"}'))
    fault = Fault(monkeypatch, "fdatasync", after=1)  # the second of a move
    with pytest.raises(StorageError):
        queue.cancel_job("a1")
    fault.on = False
    assert states(queue.engine.table) == states(look(path)) == {"a1": "cancelled"}
    assert queue.count_jobs() == Queue(path).count_jobs()


def ours(queue: Queue) -> JobTable:
    """The table of a queue as programs see it that know dbbasic-tsv."""
    return JobTable(queue.path, queue.engine.table.durability)


# -- syncs that fail -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "verb",
    [
        lambda queue: queue.enqueue("mail", {}),
        lambda queue: queue.enqueue("other", {"result": {"a": None}}, job_id="object"),
        lambda queue: queue.enqueue_many([("mail", {})]),
        lambda queue: queue.cancel_job("due1"),
        lambda queue: queue.retry_job("failed"),
        lambda queue: ours(queue).insert({"id": "z9", "type": "mail", **dict.fromkeys(
            ["created_at", "run_at", "attempts"], 1), "status": "pending"}),
        lambda queue: ours(queue).update({"id": "later"}, {"run_at": 5}),
    ],
    ids=["enqueue", "again", "many", "cancel", "retry", "insert", "update"],
)  # fmt: skip
def test_a_failed_sync_is_never_reported_as_done(
    path: Path, monkeypatch: pytest.MonkeyPatch, verb: Callable[[Queue], Any]
) -> None:
    """In "full" each verb raises when the disk does not confirm; in "normal" none asks it to."""
    queue = Queue(path, "full")
    fill(queue)
    fault = Fault(monkeypatch, "fdatasync")
    with pytest.raises(StorageError, match="sync failed") as caught:
        verb(queue)
    assert caught.value.errno == errno.EIO
    assert fault.calls == 1


def test_a_failed_sync_is_not_tried_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One error is one error: nothing syncs a second time and calls it good."""
    queue = Queue(path, "full")
    queue.enqueue("mail", {})
    fault = Fault(monkeypatch, "fdatasync")
    with pytest.raises(StorageError, match="is perhaps not on disk"):
        queue.enqueue("mail", {})
    assert fault.calls == 1
    fault.on = False
    queue.enqueue("mail", {})
    assert queue.count_jobs()["pending"] == 3


def test_a_worker_stops_when_the_disk_does_not_confirm(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No handler runs for an attempt that is not on disk; the job is pending, nothing counted."""
    queue = Queue(path, "full")
    queue.enqueue("mail", {}, job_id="a1")
    ran: list[Any] = []
    fault = Fault(monkeypatch, "fdatasync")
    with pytest.raises(StorageError, match="sync failed"):
        queue.process_jobs({"mail": ran.append})
    fault.on = False
    assert ran == []
    job = queue.get_job("a1")
    assert job is not None
    assert (job["status"], job["attempts"]) == ("pending", 0)
    assert queue.process_jobs({"mail": ran.append}).completed == 1
    assert ran == [{}]


def test_normal_asks_for_no_sync(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In "normal" nothing waits for the disk but a move, whose order matters."""
    queue = Queue(path, "normal")
    queue.enqueue("mail", {})
    fault = Fault(monkeypatch, "fdatasync")
    queue.enqueue("mail", {}, job_id="a1")
    queue.enqueue_many([("mail", {})] * 5)
    queue.cancel_job("a1")
    assert queue.process_jobs({"mail": lambda payload: "short"}).completed == 6
    assert fault.calls == 0


def test_full_syncs_once_a_job(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One sync an enqueue, one a batch, one for finishing a job and beginning the next."""
    queue = Queue(path, "full")
    queue.enqueue("mail", {})
    fault = Fault(monkeypatch, "fdatasync")
    fault.on = False
    counted: list[int] = []
    fdatasync = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda fd: (counted.append(fd), fdatasync(fd)))
    queue.enqueue("mail", {})
    assert len(counted) == 1
    queue.enqueue_many([("mail", {})] * 8)
    assert len(counted) == 2
    assert queue.process_jobs({"mail": lambda payload: None}).completed == 10
    assert len(counted) == 2 + 11


# -- places that may only be read ------------------------------------------------------------------


def readers(path: Path) -> dict[str, Any]:
    """All that may be asked of a queue without changing it."""
    queue = Queue(path)
    return {
        "get": queue.get_job("due1"),
        "none": queue.get_job("nobody"),
        "list": list(queue.list_jobs()),
        "count": queue.count_jobs(),
        "stats": queue.stats()[:2],
        "query": ours(queue).query(status="failed"),
        "held": queue.engine.claims.is_held(b"due1"),
    }


@pytest.mark.parametrize("lock", ["readable", "hidden", "missing"])
@pytest.mark.parametrize("folder", ["read-only", "shared"])
def test_read_permission_is_enough_to_look(path: Path, lock: str, folder: str) -> None:
    """Who may only read gets every answer, changes nothing, and leaves nothing behind."""
    queue = Queue(path, "normal")
    fill(queue)
    claim = queue.engine.claims.take(b"due1")
    assert claim is not None
    wanted = readers(path)
    path.chmod(0o444)
    path.with_suffix(".claims").chmod(0o444)
    if lock == "missing":
        path.with_suffix(".lock").unlink()
    else:
        path.with_suffix(".lock").chmod(0o444 if lock == "readable" else 0)
    path.parent.chmod(0o555 if folder == "read-only" else 0o777)
    let_in(path.parent)
    before = path.read_bytes(), names(path.parent)
    assert in_child(lambda: readers(path), user=NOBODY) == wanted
    assert (path.read_bytes(), names(path.parent)) == before
    path.parent.chmod(0o755)


@pytest.mark.parametrize(
    "verb",
    [
        lambda queue: queue.enqueue("mail", {}),
        lambda queue: queue.enqueue_many([("mail", {})]),
        lambda queue: queue.cancel_job("due1"),
        lambda queue: queue.retry_job("failed"),
        lambda queue: queue.prune_jobs(0),
        lambda queue: queue.process_jobs({"mail": print}),
    ],
    ids=["enqueue", "many", "cancel", "retry", "prune", "work"],
)
@pytest.mark.parametrize("folder", ["read-only", "shared"])
def test_who_may_not_write_is_told(path: Path, verb: Callable[[Queue], Any], folder: str) -> None:
    """A change without permission is a StorageError that says which file, and changes nothing."""
    fill(Queue(path, "normal"))
    for name in names(path.parent):
        (path.parent / name).chmod(0o444)
    path.parent.chmod(0o555 if folder == "read-only" else 0o777)
    let_in(path.parent)
    before = path.read_bytes(), names(path.parent)

    def work() -> tuple[int | None, str]:
        with pytest.raises(StorageError) as caught:
            verb(Queue(path))
        return caught.value.errno, str(caught.value)

    number, message = in_child(work, user=NOBODY)
    assert number in (errno.EACCES, errno.EPERM)
    assert str(path.parent) in message
    assert (path.read_bytes(), names(path.parent)) == before
    path.parent.chmod(0o755)


def test_a_folder_that_may_not_be_entered_is_no_empty_queue(path: Path) -> None:
    """A user who cannot enter the folder is told so, instead of that there are no jobs."""
    fill(Queue(path, "normal"))
    let_in(path.parent)
    path.parent.chmod(0)

    def work() -> list[str]:
        messages = []
        for ask in (
            lambda queue: queue.count_jobs(),
            lambda queue: queue.get_job("due1"),
            lambda queue: list(queue.list_jobs()),
            lambda queue: queue.enqueue("mail", {}),
        ):
            with pytest.raises(StorageError) as caught:
                ask(Queue(path))
            messages.append(str(caught.value))
        return messages

    assert all("Permission denied" in message for message in in_child(work, user=NOBODY))
    path.parent.chmod(0o755)


def test_a_reader_becomes_a_writer(table: Table, path: Path) -> None:
    """An object that has only read so far writes when it is asked to, to the same table."""
    write(path, text("a1"))
    assert states(table) == {"a1": "pending"}
    add(table, "b2")
    assert states(table) == states(look(path)) == {"a1": "pending", "b2": "pending"}


def test_descriptors_do_not_leak(path: Path) -> None:
    """However often a table is replaced, deleted or refused, the process holds a few files open."""
    queue = Queue(path, "normal")
    queue.enqueue("mail", {})
    gc.collect()  # what other tests have left open
    before = len(os.listdir("/proc/self/fd"))
    for number in range(50):
        replace(path, HEADER + own(len(HEADER), f"a{number}"))
        assert queue.count_jobs()["pending"] == 1
        queue.enqueue("mail", {})
        queue.prune_jobs(0)
        replace(path, b"no table\n")
        with pytest.raises(Exception, match="not a queue table"):
            queue.enqueue("mail", {})
        path.unlink()
        path.with_suffix(".lock").unlink()
        assert queue.count_jobs()["pending"] == 0
    assert len(os.listdir("/proc/self/fd")) <= before


def test_a_program_that_has_no_descriptors_left(path: Path) -> None:
    """With every descriptor in use a verb fails with an error of ours, and works again later."""
    Queue(path, "normal").enqueue("mail", {}, job_id="a1")

    def use_all() -> list[int]:
        opened = []
        while len(opened) < 64:
            opened.append(os.dup(0))
        return opened

    def work() -> dict[str, str]:
        queue = Queue(path, "normal")
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        opened = use_all()
        resource.setrlimit(resource.RLIMIT_NOFILE, (opened[-1], hard))
        for _ in range(2):
            with pytest.raises(StorageError, match="Too many open files"):
                queue.enqueue("mail", {})
        for fd in opened:
            os.close(fd)
        queue.enqueue("mail", {}, job_id="b2")
        return states(queue.engine.table)

    assert in_child(work) == {"a1": "pending", "b2": "pending"}
