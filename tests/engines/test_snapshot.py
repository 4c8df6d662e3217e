"""A look at the table says what the engine says, whatever happens meanwhile; it leaves no trace."""

from __future__ import annotations

import fcntl
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tables import NOBODY, in_child, let_in, look, own, text, write

from dbbasic_queue import Queue, StorageError, TableError
from dbbasic_queue.engines.answers import Limits, Snapshot
from dbbasic_queue.engines.tsv import snapshot, tally
from dbbasic_queue.engines.tsv.claims import Claims
from dbbasic_queue.engines.tsv.snapshot import take
from dbbasic_queue.job import STATUSES
from dbbasic_queue.table import scan
from dbbasic_queue.table.line import HEADER, parse_line
from dbbasic_queue.table.table import Table

NOW = 1_700_000_000


def seen(path: Path, names: int = 5) -> Snapshot:
    """The table by a clock that stands still."""
    return take(path, Limits(NOW, NOW - 1800, NOW - 300, NOW - 86_400, names))


def ids(found: Any) -> list[str]:
    """The ids of jobs, or of rows."""
    return [it.id if isinstance(it.id, str) else it.id.decode() for it in found]


# -- numbers -------------------------------------------------------------------------------------


def test_every_number_of_a_small_table(path: Path) -> None:
    """Each row counts where it belongs, and is named in the order of its time."""
    write(
        path,
        text("p1", run_at=NOW - 1000),
        text("p2", run_at=NOW - 2000),
        text("p3", run_at=NOW - 300),
        text("p4", run_at=NOW + 50, created_at=NOW),
        text("c1", "completed", run_at=NOW - 5),
        text("c2", "completed", run_at=NOW - 7),
        text("f1", "failed", run_at=NOW - 86_400),
        text("f2", "failed", run_at=NOW - 10),
        text("f3", "failed", run_at=NOW - 86_401),
        text("x1", "cancelled"),
        text("r1", "processing", run_at=NOW - 2, attempts=1),
    )
    found = seen(path)
    assert found.counts == dict(zip(STATUSES, (4, 1, 2, 3, 1), strict=True))
    assert (found.ready, found.oldest_ready, found.overdue) == (3, NOW - 2000, 2)
    assert ids(found.overdue_jobs) == ["p2", "p1"]
    assert (found.failed, ids(found.failed_jobs), found.failed_first) == (
        2,
        ["f2", "f1"],
        NOW - 86_400,
    )
    assert (found.stuck, found.running) == (1, 0)
    assert [(stuck.job.id, stuck.orphaned) for stuck in found.stuck_jobs] == [("r1", True)]
    assert (found.last_success, found.last_run, found.malformed) == (NOW - 5, None, 0)
    assert found.size == path.stat().st_size


def test_an_empty_queue_has_nothing(path: Path) -> None:
    """A table of a header only is all zeros."""
    write(path)
    found = seen(path)
    assert set(found.counts.values()) == {0}
    assert (found.ready, found.stuck, found.failed, found.malformed, found.ahead) == (0,) * 5
    assert (found.oldest_ready, found.last_success, found.failed_first) == (None, None, None)


def test_only_the_first_few_are_named(path: Path) -> None:
    """The longest due, the last failed and the longest processing are named, all are counted."""
    order = list(range(100))
    random.Random(7).shuffle(order)
    lines = [
        text(f"{status[0]}{i}", status, run_at=NOW - 1000 - i)
        for i in order
        for status in ("pending", "failed", "processing")
    ]
    write(path, *lines)
    found = seen(path, names=3)
    assert (found.overdue, found.failed, found.stuck) == (100, 100, 100)
    assert ids(found.overdue_jobs) == ["p99", "p98", "p97"]
    assert ids(found.failed_jobs) == ["f0", "f1", "f2"]
    assert ids(stuck.job for stuck in found.stuck_jobs) == ["p99", "p98", "p97"]
    assert found.failed_first == NOW - 1099


def test_rows_named_come_from_all_pieces(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the table is read in many tally, the first few are those of all of it."""
    monkeypatch.setattr(scan, "PIECE", 400)
    order = list(range(300))
    random.Random(8).shuffle(order)
    write(path, *(own(0, f"j{i}", run_at=NOW - 1000 - i) for i in order))
    found = seen(path, names=4)
    assert (found.counts["pending"], found.overdue) == (300, 300)
    assert ids(found.overdue_jobs) == ["j299", "j298", "j297", "j296"]


def test_rows_that_are_alike_are_told_apart(path: Path) -> None:
    """Of jobs with the same times, each is named once."""
    write(path, *(text(f"f{i}", "failed", run_at=NOW) for i in range(9)), text("p"), text("q"))
    found = seen(path, names=20)
    assert ids(found.failed_jobs) == [f"f{i}" for i in range(9)]
    assert ids(found.overdue_jobs) == ["p", "q"]


def test_malformed_lines_are_numbered_as_an_editor_does(path: Path) -> None:
    """What is not a row is counted and named by its line; dead and empty lines are nothing."""
    write(
        path,
        text("a1"),
        b"garbage\n",
        b"   \t dead\n",
        b"\n",
        b"\t\n",
        text("a2", status="done"),
        text("a3").replace(b"\n", b"\r\n"),
        b"a4\tmail\t{}\tpending\t5\t5\t0\n",
        b"\0\0\0\n",
    )
    found = seen(path)
    assert (found.malformed, found.counts["pending"]) == (3, 3)
    assert [line.number for line in found.bad_lines] == [3, 7, 10]
    assert "status 'done'" in found.bad_lines[1].why


def test_a_torn_last_line_is_no_fault(path: Path) -> None:
    """A line that is being written at this moment is not there yet."""
    content = write(path, text("a1"))
    path.write_bytes(content + own(len(content), "a2")[:20])
    found = seen(path)
    assert (found.counts["pending"], found.malformed) == (1, 0)


def test_a_whole_last_line_without_a_newline_counts(path: Path) -> None:
    """A row that a person added with an editor that ends no last line is a row."""
    path.parent.mkdir()
    path.write_bytes(HEADER + text("a1") + text("a2").rstrip(b"\n"))
    assert seen(path).counts["pending"] == 2


def test_a_line_of_several_megabytes_is_a_row(path: Path) -> None:
    """A row may be longer than the pieces in which the table is read."""
    long = text("a2", "failed", run_at=NOW - 1, result='"%s"' % ("x" * 3_000_000))
    write(path, text("a1"), long, text("a3"))
    found = seen(path)
    assert (found.counts["pending"], found.failed, found.malformed) == (2, 1, 0)


def test_a_line_too_long_for_a_row_is_malformed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line that memory should not hold is counted and named, and what stands around it read."""
    monkeypatch.setattr(scan, "LONGEST_LINE", 1 << 20)
    write(path, text("a1"), b"x" * (5 << 20) + b"\n", text("a3"))
    found = seen(path)
    assert (found.counts["pending"], found.malformed) == (2, 1)
    assert [(line.number, line.why[:9]) for line in found.bad_lines] == [(3, "is longer")]


# -- the same as the engine says ----------------------------------------------------------------

moments = st.sampled_from(
    [0, 5, NOW - 86_400, NOW - 301, NOW - 300, NOW - 1, NOW, NOW + 1, NOW + 99]
)
rows = st.builds(
    lambda job_id, status, payload, created_at, run_at, error, cut: text(
        job_id, status, payload=payload, created_at=created_at, run_at=run_at, error=error
    ).rstrip(b"\t\n" if cut else b"\n"),
    st.sampled_from(["a", "b", "c", "d-1", "e_2", "0123456789abcdef"]),
    st.sampled_from(STATUSES),
    st.sampled_from(["{}", " {}", '{"a": 1}', ' {"a": "pending"}', '  "x"', "", "  {}"]),
    moments,
    moments,
    st.sampled_from(["", "E: x", "E: ää", " "]),
    st.booleans(),
)
bytes_of_a_line = st.lists(
    st.sampled_from(
        b'a|0|\t|\t\t| |  |\r|\0|"|pending|\t5\t5\t1\t\t|\xff|\x0b|{}|\x7f'.split(b"|"),
    ),
    max_size=12,
).map(b"".join)
spoiled = st.builds(
    lambda line, at, what, skip: line[:at] + what + line[at + skip :],
    rows,
    st.integers(0, 40),
    bytes_of_a_line,
    st.integers(0, 3),
)
lines = st.one_of(rows, rows, rows.map(lambda row: row + b"\r"), spoiled, bytes_of_a_line)


@given(st.lists(lines, max_size=12), st.booleans(), st.sampled_from([1 << 20, 64]))
def test_the_engine_says_the_same(
    tmp_path_factory: pytest.TempPathFactory, found: list[bytes], ended: bool, piece: int
) -> None:
    """Of any lines, those are rows, outdated, dead or malformed that the engine takes for it."""
    path = tmp_path_factory.mktemp("any") / "queue.tsv"
    path.write_bytes(HEADER + b"\n".join(found) + b"\n" * ended)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scan, "PIECE", piece)
        mine = seen(path, names=100)
    engine = list(look(path).rows())
    outdated = _outdated_completed(path)
    for status in STATUSES:
        expected = sum(row.status == status for row in engine)
        assert mine.counts[status] == expected + (outdated if status == "completed" else 0)
    due = sorted(row.run_at for row in engine if row.status == "pending" and row.run_at <= NOW)
    assert (mine.ready, mine.oldest_ready) == (len(due), due[0] if due else None)
    overdue = [row for row in engine if row.status == "pending" and row.run_at < NOW - 300]
    assert sorted(ids(mine.overdue_jobs)) == sorted(ids(overdue))
    failed = [row for row in engine if row.status == "failed" and row.run_at >= NOW - 86_400]
    assert sorted(ids(mine.failed_jobs)) == sorted(ids(failed))
    stuck = [row for row in engine if row.status == "processing"]
    assert sorted(ids(it.job for it in mine.stuck_jobs)) == sorted(ids(stuck))
    assert [line.number for line in mine.bad_lines] == _malformed(path)


def _malformed(path: Path) -> list[int]:
    numbers = []
    all_lines = path.read_bytes().split(b"\n")
    for number, line in enumerate(all_lines[1:-1], 2):
        if parse_line(line + b"\n") is None and not line.startswith(b" ") and line.strip():
            numbers.append(number)
    return numbers


def _outdated_completed(path: Path) -> int:
    """Completed rows of which a later one is alive: workers leave none, so none is looked for."""
    table = look(path)
    moved = table.moved()
    pieces = list(table.pieces())
    parsed = []
    for offset, piece in pieces:
        for line in piece.splitlines(keepends=True) if b"\r" not in piece else _kept(piece):
            parsed.append(parse_line(line, offset))
            offset += len(line)
    return sum(
        row is not None and row.status == "completed" and row.offset < moved.get(row.id, 0)
        for row in parsed
    )


def _kept(piece: bytes) -> list[bytes]:
    return [line + b"\n" for line in piece.split(b"\n")[:-1]] + [piece.split(b"\n")[-1]]


def test_an_outdated_line_of_a_crash_is_not_counted(path: Path) -> None:
    """Of a job that a crash left twice, only the later line counts; nothing is stuck or overdue."""
    lines, offset = [], len(HEADER)
    for job_id, old, new in [("s", "processing", "completed"), ("o", "pending", "completed")] * 2:
        job_id += str(len(lines))
        for status, moved in ((old, False), (new, True)):
            lines.append(own(offset, job_id, status, moved=moved))
            offset += len(lines[-1])
    write(path, *lines)
    found = seen(path)
    assert found.counts == {**dict.fromkeys(STATUSES, 0), "completed": 4}
    assert (found.stuck, found.overdue, found.ready) == (0, 0, 0)


def test_ids_that_share_a_place_in_memory_are_told_apart(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row is out of date only if the moved row further down bears its very id."""
    monkeypatch.setattr(tally.MovedRows, "_MASK", 0)
    content = write(path, text("p", run_at=NOW - 400), text("q", run_at=NOW - 400))
    content = write(path, text("p", run_at=NOW - 400), text("q", run_at=NOW - 400), own(0, "q"))
    write(path, content[len(HEADER) :], own(len(content), "q", "completed", moved=True))
    found = seen(path)
    assert (found.counts["pending"], ids(found.overdue_jobs)) == (1, ["p"])


def test_a_clock_that_went_back_is_noticed(path: Path) -> None:
    """Events that are yet to come are counted, by creation for a job that waits; plans are not."""
    write(
        path,
        text("plan", created_at=NOW, run_at=NOW + 10**6),
        text("made", created_at=NOW + 500, run_at=NOW + 500),
        text("done", "completed", run_at=NOW + 7000),
        text("fine", "completed", run_at=NOW + 60),
    )
    found = seen(path)
    assert (found.ahead, ids(found.ahead_jobs)) == (2, ["done", "made"])
    assert found.last_success == NOW + 60


# -- which workers live -----------------------------------------------------------------------


def test_a_claimed_job_runs_and_is_stuck_only_after_its_time(path: Path) -> None:
    """A job whose worker lives is running; it is stuck once it has run for longer than it may."""
    write(path, text("new", "processing", run_at=NOW - 1800), text("old", "processing", run_at=9))
    claims = Claims(path.with_suffix(".claims"), path)
    assert claims.take(b"new") is not None
    assert claims.take(b"old") is not None
    found = seen(path)
    assert (found.running, found.stuck) == (2, 1)
    assert [(stuck.job.id, stuck.orphaned) for stuck in found.stuck_jobs] == [("old", False)]


def test_a_job_of_a_killed_worker_is_stuck_at_once(path: Path) -> None:
    """SIGKILL in mid-job leaves an orphan, which is seen in the same second."""
    queue = Queue(path, "normal")
    job_id = queue.enqueue("die", {})
    worker = _worker(queue, lambda payload: os.kill(os.getpid(), signal.SIGKILL))
    os.waitpid(worker, 0)
    (stuck,) = _now(path).stuck_jobs
    assert (stuck.job.id, stuck.orphaned, stuck.job.attempts) == (job_id, True, 1)


def test_a_hanging_handler_is_running_then_stuck(path: Path) -> None:
    """A handler that hangs is running, and stuck when it has hung for long enough."""
    queue = Queue(path, "normal")
    job_id = queue.enqueue("hang", {})
    worker = _worker(queue, lambda payload: time.sleep(600))
    try:
        _until(lambda: _now(path).running == 1)
        assert _now(path).stuck == 0
        (stuck,) = _now(path, later=1900).stuck_jobs
        assert (stuck.job.id, stuck.orphaned) == (job_id, False)
    finally:
        os.kill(worker, signal.SIGKILL)
        os.waitpid(worker, 0)
    assert _now(path).stuck_jobs[0].orphaned


def _now(path: Path, later: int = 0) -> Snapshot:
    """The table by the real clock, or by one that is ahead."""
    now = int(time.time()) + later
    return take(path, Limits(now, now - 1800, now - 300, now - 86_400, names=5))


def _worker(queue: Queue, handler: Callable[[Any], Any]) -> int:
    """A worker in a process of its own; its process id."""
    pid = os.fork()
    if pid == 0:
        queue.process_jobs({"die": handler, "hang": handler})
        os._exit(0)
    return pid


def _until(condition: Callable[[], bool]) -> None:
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it never happened")


# -- changes while it looks ----------------------------------------------------------------------


class Meanwhile:
    """Does something when the table has been read, before the second look."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, action: Callable[[], object]) -> None:
        self.times = 0
        self._action = action
        read = snapshot.whole_lines

        def whole_lines(fd: int, *bounds: int, **more: bool) -> Iterator[tuple[int, bytes]]:
            yield from read(fd, *bounds, **more)
            self._act()

        monkeypatch.setattr(snapshot, "whole_lines", whole_lines)

    def _act(self) -> None:
        self.times += 1
        if self.times == 2:  # of an attempt to read the table, the second reading is the last
            self._action()


def test_a_job_that_ends_while_it_looks_is_no_orphan(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row seen as processing whose worker finishes before its claim is asked for is not stuck."""
    table = look(path)
    write(path, text("a1", "processing", run_at=NOW))
    row = next(iter(table.rows()))

    def finish() -> None:
        with table.writing():
            table.change(row, "completed", NOW, 1, b"", b'"done"')

    meanwhile = Meanwhile(monkeypatch, finish)
    found = seen(path)
    assert meanwhile.times >= 2
    assert (found.stuck, found.running) == (0, 0)


@pytest.mark.parametrize("compact", [False, True])
def test_a_table_written_anew_is_read_again(
    path: Path, monkeypatch: pytest.MonkeyPatch, compact: bool
) -> None:
    """Offsets in the old file mean nothing in the new one: nothing is said by them."""
    write(
        path,
        *(text(f"c{i}", "completed") for i in range(50)),
        text("r1", "processing", run_at=NOW),
        text("o1", run_at=NOW - 400),
    )
    claims = Claims(path.with_suffix(".claims"), path)
    claims.take(b"r1")
    queue = Queue(path, "normal", clock=lambda: NOW)

    def rewrite() -> None:
        if compact:
            with queue.engine.table.writing():
                queue.engine.table.rewrite()
        else:
            queue.prune_jobs(0)

    Meanwhile(monkeypatch, rewrite)
    found = seen(path)
    assert (found.running, found.stuck, found.malformed) == (1, 0, 0)
    assert ids(found.overdue_jobs) == ["o1"]


def test_what_was_caught_half_written_is_not_believed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What looked malformed, overdue, failed or ahead, and does not any more, is not counted."""
    whole = write(path, *(text(f"a{i}", run_at=NOW + 5) for i in range(5)))
    write(
        path,
        text("a0", run_at=1),
        text("a1", "failed", run_at=NOW).replace(b"failed", b"failed "),
        text("a2", "failed", run_at=NOW),
        text("a3", "completed", run_at=10**11),
        text("a4", run_at=NOW + 5),
    )

    def finish() -> None:
        with path.open("r+b") as file:
            file.write(whole)

    Meanwhile(monkeypatch, finish)
    found = seen(path)
    assert (found.malformed, found.overdue, found.failed, found.ahead) == (0, 0, 0, 0)


def test_a_job_that_moves_while_it_looks_is_counted(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row that moved to beyond what was read is found by another look."""
    table = look(path)
    write(path, text("a1", "processing", run_at=NOW), text("a2"))
    row = next(iter(table.rows()))
    read = snapshot.whole_lines
    moved: list[bytes] = []

    def whole_lines(fd: int, *bounds: int, **more: bool) -> Iterator[tuple[int, bytes]]:
        if not moved:
            moved.append(b"")
            with table.writing():
                table.change(row, "completed", NOW, 1, b"", b'{"text": "%s"}' % (b"x" * 500))
        yield from read(fd, *bounds, **more)

    monkeypatch.setattr(snapshot, "whole_lines", whole_lines)
    assert (seen(path).counts["completed"], seen(path).stuck) == (1, 0)


def test_a_table_that_is_deleted_while_it_looks_is_told(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table that vanishes before the second look is a clear error."""
    write(path, text("o1", run_at=NOW - 400))
    Meanwhile(monkeypatch, path.unlink)
    with pytest.raises(TableError, match="there is no such file"):
        seen(path)


def test_an_emptied_file_is_looked_at_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program without locks that writes the file anew at this moment does no harm."""
    content = write(path, text("a1"))
    path.write_bytes(b"")
    monkeypatch.setattr(snapshot.time, "sleep", lambda seconds: path.write_bytes(content))
    assert seen(path).counts["pending"] == 1


# -- a lock that is held, files that may only be read ----------------------------------------------


def test_a_lock_that_others_hold_is_not_waited_for(path: Path) -> None:
    """While another process holds the table for long, the look ends all the same."""
    write(path, text("o1", run_at=NOW - 400), text("r1", "processing"), b"garbage\n")
    lock = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        found = seen(path)
    finally:
        os.close(lock)
    assert (found.overdue, found.stuck, found.malformed) == (1, 1, 1)


def test_without_the_lock_a_job_that_ends_meanwhile_is_no_orphan(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no lock can be had, the row is looked at once more after its claim."""
    write(path, text("a1", "processing", run_at=NOW))
    is_held = Claims.is_held

    def ends(claims: Claims, job_id: bytes) -> bool:
        write(path, text("a1", "completed", run_at=NOW))
        return is_held(claims, job_id)

    monkeypatch.setattr(Table, "_open_lock", lambda table, folder, writable: -1)
    assert seen(path).stuck == 1
    monkeypatch.setattr(Claims, "is_held", ends)
    assert seen(path).stuck == 0


def test_a_reader_sees_what_root_sees_and_leaves_no_trace(path: Path) -> None:
    """A user who can only read gets the same answer; no file is made or changed."""
    queue = Queue(path, "normal")
    job_id = queue.enqueue("die", {})
    os.waitpid(_worker(queue, lambda payload: os.kill(os.getpid(), signal.SIGKILL)), 0)
    queue.enqueue("wait", {}, 1)
    with path.open("ab") as file:
        file.write(b"garbage\n")
    let_in(path.parent)
    before = _traces(path.parent)
    mine = _now(path)
    theirs = in_child(lambda: _now(path), user=NOBODY)
    assert _traces(path.parent) == before
    assert mine == theirs
    assert (mine.stuck, mine.stuck_jobs[0].job.id) == (1, job_id)
    assert (mine.overdue, mine.malformed) == (1, 1)


def _traces(folder: Path) -> dict[str, tuple[bytes, int, int]]:
    return {
        file.name: (file.read_bytes(), file.stat().st_mtime_ns, file.stat().st_ctime_ns)
        for file in folder.iterdir()
    }


def test_a_bare_file_gets_no_company(path: Path) -> None:
    """A look at a file that stands alone makes neither lock nor claims beside it."""
    write(path, text("a1"))
    seen(path)
    assert os.listdir(path.parent) == ["queue.tsv"]


def test_claims_that_cannot_be_read_are_said_to_be_unknown(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where neither the claims nor the kernel tell, a running job is neither alive nor dead."""
    monkeypatch.setattr("dbbasic_queue.engines.tsv.kernel_locks.LOCKS", "/no/locks")
    write(path, text("a1", "processing", run_at=NOW))
    claims = Claims(path.with_suffix(".claims"), path)
    claims.take(b"a1")
    claims.path.chmod(0)
    let_in(path.parent)
    found = in_child(lambda: seen(path), user=NOBODY)
    assert found.stuck == 0
    assert "queue.claims: Permission denied" in found.unknown


def test_more_rows_than_can_run_are_orphans(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the number of jobs that any machine can run, rows are not looked at one by one."""
    monkeypatch.setattr(snapshot, "MANY", 3)
    write(path, *(text(f"j{i}", "processing") for i in range(10)))
    assert seen(path).stuck == 10


@pytest.mark.parametrize(
    ("make", "error", "what"),
    [
        (lambda path: None, StorageError, "there is no queue"),
        (lambda path: path.write_bytes(b""), TableError, "is empty"),
        (lambda path: path.write_bytes(os.urandom(500)), TableError, "is not a queue"),
        (lambda path: path.write_text("id,type\n"), TableError, "is not a queue"),
        (lambda path: path.mkdir(), TableError, "is not a regular file"),
        (lambda path: os.mkfifo(path), TableError, "is not a regular file"),
        (lambda path: path.symlink_to("/dev/zero"), TableError, "is not a regular file"),
        (lambda path: path.symlink_to("nowhere"), StorageError, "there is no queue"),
    ],
)
def test_what_is_no_queue_is_refused(
    path: Path, make: Callable[[Path], object], error: type[Exception], what: str
) -> None:
    """A missing, empty, binary or foreign file, a folder, a pipe and a device get a clear word."""
    path.parent.mkdir()
    make(path)
    with pytest.raises(error, match=what):
        seen(path)


def test_a_file_that_may_not_be_read_is_refused(path: Path) -> None:
    """A file that is closed to the reader is not a missing one."""
    write(path)
    path.chmod(0)
    let_in(path.parent)
    with pytest.raises(StorageError, match="cannot read the queue"):
        in_child(lambda: seen(path), user=NOBODY)


# -- a busy queue --------------------------------------------------------------------------------


def test_a_busy_queue_never_gives_a_false_alarm(path: Path) -> None:
    """While others enqueue, work, move, prune and compact, nothing is stuck, late or malformed."""
    queue = Queue(path, "normal")
    queue.enqueue("job", {})
    crew = [
        _forked(_produce, path),
        *(_forked(_work, path) for _ in range(2)),
        _forked(_tidy, path),
    ]
    try:
        until, worked = time.monotonic() + 3, False
        while time.monotonic() < until or not worked:
            found = _now(path)
            worked = worked or found.counts["completed"] > 0
            assert (found.stuck, found.overdue, found.malformed, found.ahead) == (0, 0, 0, 0), found
            assert (found.failed, found.unknown) == (0, "")
    finally:
        for pid in crew:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def _forked(function: Callable[[Queue], None], path: Path) -> int:
    pid = os.fork()
    if pid == 0:
        signal.alarm(60)
        function(Queue(path, "normal"))
        os._exit(0)
    return pid


def _produce(queue: Queue) -> None:
    while True:
        queue.enqueue("job", {"text": "x" * random.randrange(600)})
        if random.random() < 0.05:
            queue.enqueue_many([("job", {"n": n}) for n in range(300)])
        time.sleep(0.002)


def _work(queue: Queue) -> None:
    while True:
        queue.process_jobs({"job": lambda payload: "y" * random.randrange(400)})


def _tidy(queue: Queue) -> None:
    while True:
        queue.prune_jobs(0)
        with queue.engine.table.writing():
            queue.engine.table.rewrite()
        time.sleep(0.005)
