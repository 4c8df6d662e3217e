"""A signal handler's exception, or a signal handler's own job, in the middle of anything."""

from __future__ import annotations

import fcntl
import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from tables import holds_lock, in_child, look, own, states, text, write

from dbbasic_queue import Queue, StorageError
from dbbasic_queue.engines.tsv import fsck
from dbbasic_queue.table import opened
from dbbasic_queue.table.line import HEADER

MOST = 40  # steps of a verb that are tried
LONG = {"text": "x" * 20_000}  # takes more than one write


class Interrupted(Exception):
    """What the signal handler raises."""


class Interruption:
    """Calls a function at a step of Python code, where a signal handler can be run.

    That is where Python begins a function, and where one written in C has ended.
    """

    def __init__(self, at: int, action: Callable[[], None]) -> None:
        self.steps = 0
        self._at = at
        self._action = action

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        if event not in ("call", "c_return") or argument is sys.setprofile:
            return
        self.steps += 1
        if self.steps == self._at:
            sys.setprofile(None)
            self._action()

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Count, and act, in this block, in which the garbage of other tests is not collected."""
        gc.disable()
        sys.setprofile(self)
        try:
            yield
        finally:
            sys.setprofile(None)
            gc.enable()


def stop() -> None:
    raise Interrupted


def enqueuing(queue: Queue, acknowledged: list[str]) -> Callable[[], None]:
    """What enqueues a job, or is refused it in words."""

    def handle() -> None:
        try:
            acknowledged.append(queue.enqueue("late", {"by": "a handler"}))
        except StorageError as error:
            if "cannot be written now" not in str(error):
                raise

    return handle


VERBS: dict[str, Callable[[Queue], object]] = {
    "enqueue": lambda queue: queue.enqueue("mail", {}),
    "key": lambda queue: queue.enqueue("mail", {}, job_id="key"),
    "long": lambda queue: queue.enqueue("mail", LONG),
    "many": lambda queue: queue.enqueue_many([("mail", {})] * 3),
    "cancel": lambda queue: queue.cancel_job("one"),
    "retry": lambda queue: queue.retry_job("bad"),
    "list": lambda queue: list(queue.list_jobs()),
    "prune": lambda queue: queue.prune_jobs(0, ["failed", "completed"]),
    "repair": lambda queue: fsck.repair(queue.engine),
}


@pytest.fixture(autouse=True)
def trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder is trusted at once, as one is that has been quiet for a while."""
    monkeypatch.setattr(opened, "TICK", 0)


LINES = (own(len(HEADER), "one"), text("two"), text("bad", "failed"))


def prepared(path: Path, warm: bool = True) -> Queue:
    """A queue with a job of each kind, looked at by this object before if `warm`."""
    write(path, *LINES)
    queue = Queue(path, "normal")
    if warm:
        queue.enqueue("mail", {}, job_id="more")
        queue.enqueue("mail", {}, job_id="most")
    return queue


def steps_of(path: Path, action: Callable[[Queue], object], warm: bool = True) -> list[int]:
    """Some of the steps of a verb, evenly spread; the last is the first beyond its end."""
    for times in ("first", "again"):  # at the first, what a verb imports would be steps too
        count = Interruption(0, stop)
        queue = prepared(path.parent.with_name(times) / path.name, warm)
        with count.watch():
            action(queue)
    return [*range(1, count.steps + 1, max(1, count.steps // MOST)), count.steps + 50]


@pytest.mark.parametrize("warm", [True, False], ids=["open", "first"])
@pytest.mark.parametrize("verb", VERBS)
def test_an_exception_at_any_step_leaves_the_lock_free(
    tmp_path: Path, verb: str, warm: bool
) -> None:
    """Whatever step of a verb an exception breaks into, others get the lock; no job is harmed.

    The exceptions are kept, as a notebook keeps the last one.
    """
    kept = []
    for at in steps_of(tmp_path / "steps" / "queue.tsv", VERBS[verb], warm):
        path = tmp_path / str(at) / "queue.tsv"
        queue = prepared(path, warm)
        try:
            with Interruption(at, stop).watch():
                VERBS[verb](queue)
        except (Interrupted, StorageError) as error:  # what comes of closing what is closed
            kept.append(error)
        assert not (path.with_suffix(".lock").exists() and holds_lock(path)), f"step {at}"
        assert states(look(path)).keys() >= ({"two"} if verb == "prune" else {"one", "two", "bad"})
        assert Queue(path, "normal").enqueue("mail", {}, job_id="after") == "after"
        assert queue.enqueue("mail", {})
        # A move that was broken off leaves two lines, as a crash does: the later one counts.
        kinds = {finding.kind for finding in fsck.check(queue.engine)}
        assert kinds <= ({"duplicate"} if verb == "retry" else set()), f"step {at}"
    assert len(kept) > 10


@pytest.mark.parametrize("other", [False, True], ids=["same", "other"])
@pytest.mark.parametrize("verb", VERBS)
def test_a_job_amid_any_step_is_added_or_refused(tmp_path: Path, verb: str, other: bool) -> None:
    """What a handler enqueues, by any object, is there if it was acknowledged; nothing hangs."""
    added = 0
    for at in steps_of(tmp_path / "steps" / "queue.tsv", VERBS[verb]):
        path = tmp_path / str(at) / "queue.tsv"
        queue = prepared(path)
        acknowledged: list[str] = []
        handler = Queue(path, "normal") if other else queue
        before = states(look(path)).keys()
        with Interruption(at, enqueuing(handler, acknowledged)).watch():
            VERBS[verb](queue)
        added += len(acknowledged)
        found = states(look(path))
        assert found.keys() >= {*acknowledged}, f"step {at}"
        if verb != "prune":
            assert found.keys() >= before
        if verb in ("enqueue", "long"):
            assert len(found) == len(before) + 1 + len(acknowledged), f"step {at}"
        assert not holds_lock(path)
        assert fsck.check(queue.engine) == []
    assert added > 3


def test_a_job_amid_the_turns_of_a_worker(tmp_path: Path) -> None:
    """A worker's own process may enqueue from a signal handler at any step of its work."""

    def work(queue: Queue) -> object:
        return queue.process_jobs({"mail": lambda payload: "x" * 300}, types=["mail"])

    for at in steps_of(tmp_path / "steps" / "queue.tsv", work):
        path = tmp_path / str(at) / "queue.tsv"
        queue = prepared(path)
        acknowledged: list[str] = []
        with Interruption(at, enqueuing(Queue(path, "normal"), acknowledged)).watch():
            work(queue)
        found = states(look(path))
        assert found.keys() == {"one", "two", "bad", "more", "most", *acknowledged}, f"step {at}"
        done = {found[name] for name in ("one", "two", "more", "most")}
        assert done == {"completed"}, f"step {at}"


def test_a_finalizer_that_enqueues(path: Path) -> None:
    """The garbage collector may run one at any time, in a thread that holds the lock."""
    queue, other = Queue(path, "normal"), Queue(path, "normal")
    acknowledged: list[str] = []

    class Cleanup:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            enqueuing(other, acknowledged)()

    threshold = gc.get_threshold()
    gc.set_threshold(1)
    try:
        for number in range(100):
            Cleanup()
            queue.enqueue("mail", {"n": number})
            queue.enqueue_many([("mail", {})] * 3)
    finally:
        gc.set_threshold(*threshold)
    gc.collect()
    found = states(queue.engine.table)
    assert found.keys() >= {*acknowledged}
    assert len(found) == 400 + len(acknowledged)


def test_a_real_signal_in_a_handler_of_which_a_job_is_made(path: Path) -> None:
    """SIGHUP after SIGHUP, each of which makes a job, while the program enqueues: none is lost."""

    def program() -> tuple[int, int]:
        queue = Queue(path, "normal")
        made = [queue.enqueue("first", {})]
        heard: list[int] = []
        main = threading.main_thread().ident
        assert main is not None

        def reload(number: int, frame: object) -> None:
            with suppress(StorageError):  # where the table is at work, it is told to do it later
                made.append(queue.enqueue("reload", {}))
            heard.append(number)

        signal.signal(signal.SIGHUP, reload)

        def poke() -> None:
            for sent in range(300):
                # Not into the handler of the one before, which may be told to do it later.
                while len(heard) < sent:
                    time.sleep(0.0005)
                signal.pthread_kill(main, signal.SIGHUP)
                time.sleep(0.0005)

        poker = threading.Thread(target=poke)
        poker.start()
        while poker.is_alive():
            made.append(queue.enqueue("main", {}))
        poker.join()
        return len(made), len(set(made) - states(queue.engine.table).keys())

    made, lost = in_child(program)
    assert made > 10
    assert lost == 0


def test_a_second_path_to_the_same_table_is_no_deadlock(path: Path) -> None:
    """A handler that reaches the table through another spelling of its folder is refused."""
    queue = Queue(path, "normal")
    queue.enqueue("mail", {})
    alias = path.parent.with_name("alias")
    alias.symlink_to(path.parent)
    other = Queue(alias / "queue.tsv", "normal")

    def program() -> str:
        with (
            queue.engine.table.writing(),
            pytest.raises(StorageError, match="cannot be written now"),
        ):
            other.enqueue("mail", {})
        return other.enqueue("mail", {})

    assert in_child(program)


def test_two_tables_that_are_no_queue_share_no_lock_with_a_child(path: Path) -> None:
    """A table object used over a fork has a lock of its own in the child."""
    table = look(path)
    with table.writing():
        pass

    def child() -> bool:
        fd = os.open(path.with_suffix(".lock"), os.O_RDWR)
        with table.writing():
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    assert in_child(child)
    assert not holds_lock(path)
