"""The worker: what it takes, how handlers end, time limits, signals, children, lingering."""

from __future__ import annotations

import asyncio
import fcntl
import json
import logging
import math
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from actors import AT_ONCE, Clock, Diary, columns, die, fork, in_child, join, script, start

from dbbasic_queue import Backoff, JobTimeout, Queue, StorageError, Summary, current_job
from dbbasic_queue.table import table as store

MIB = 1 << 20


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def queue(tmp_path: Path, clock: Clock) -> Queue:
    return Queue(tmp_path / "queue.tsv", "normal", clock=clock)


@pytest.fixture
def diary(tmp_path: Path) -> Diary:
    return Diary(tmp_path / "diary")


@pytest.fixture(autouse=True)
def _signals_are_left_alone() -> Iterator[None]:
    """No test may leave a signal handler or a timer behind: no run of a worker may."""
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGALRM)
    before = [signal.getsignal(number) for number in numbers]
    yield
    after = [signal.getsignal(number) for number in numbers]
    timer = signal.setitimer(signal.ITIMER_REAL, 0)
    assert after == before
    assert timer == (0, 0)


def run_one(queue: Queue, handler: Callable[[Any], Any], **options: Any) -> dict[str, Any]:
    """The job that this handler was run for, once."""
    job_id = queue.enqueue("x", {})
    queue.process_jobs({"x": handler}, **options)
    job = queue.get_job(job_id)
    assert job is not None
    return job


def a_lock_is_free(queue: Queue) -> bool:
    """Whether another process could take the table's lock now."""
    fd = os.open(queue.path.with_suffix(".lock"), os.O_RDWR)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(fd)
    return True


def works_in_a_thread(action: Callable[[], Any]) -> bool:
    """Whether another thread of this process gets it done."""
    thread = threading.Thread(target=action, daemon=True)
    thread.start()
    thread.join(20)
    return not thread.is_alive()


# -- what it takes, and in which order -----------------------------------------------------------


def test_due_jobs_are_run_by_time_and_then_by_place(queue: Queue, clock: Clock) -> None:
    """Jobs run in the order of run_at; of the same run_at, the one that came first goes first."""
    for number, due in enumerate([30, 10, 20, 10, 30]):
        queue.enqueue("x", {"n": number}, clock.now - due)
    ran: list[int] = []
    queue.process_jobs({"x": lambda payload: ran.append(payload["n"])})
    assert ran == [0, 4, 2, 1, 3]


def test_a_job_is_not_run_before_its_time(queue: Queue, clock: Clock) -> None:
    """A job waits until its run_at, and runs in that very second."""
    job_id = queue.enqueue("x", {}, clock.now + 10)
    assert queue.process_jobs({"x": bool}).attempts == 0
    clock.now += 9.999
    assert queue.process_jobs({"x": bool}).attempts == 0
    clock.now += 0.001
    assert queue.process_jobs({"x": bool}).completed == 1
    assert queue.get_job(job_id)["status"] == "completed"


def test_what_a_handler_enqueues_is_run_in_the_same_run(queue: Queue) -> None:
    """A chain of jobs, each enqueued by the one before, is worked off by one run."""

    def count_down(payload: dict[str, int]) -> int:
        if payload["n"]:
            queue.enqueue("x", {"n": payload["n"] - 1})
        return payload["n"]

    queue.enqueue("x", {"n": 20})
    assert queue.process_jobs({"x": count_down}).completed == 21
    assert [job["result"] for job in queue.list_jobs()] == list(range(20, -1, -1))


def test_a_worker_may_be_the_first_to_come(tmp_path: Path) -> None:
    """A worker that cron starts before anything was ever enqueued finds nothing to do."""
    queue = Queue(tmp_path / "not" / "yet" / "queue.tsv")
    assert queue.process_jobs({}) == Summary()
    queue.enqueue("x", {})
    assert queue.process_jobs({"x": bool}).completed == 1


def test_a_folder_that_may_not_be_made_is_a_clear_error(tmp_path: Path) -> None:
    """A worker that cannot make its files says which file, and why."""
    (tmp_path / "file").touch()
    with pytest.raises(
        StorageError, match=r"file/queue\.(claims|lock): (Not a directory|File exists)"
    ):
        Queue(tmp_path / "file" / "queue.tsv").process_jobs({})


def test_a_type_without_a_handler_is_a_failed_attempt(queue: Queue, clock: Clock) -> None:
    """It is retried as usual, with the reason in its error, and failed in the end."""
    job_id = queue.enqueue("mail", {})
    assert queue.process_jobs({}, 2) == Summary(retried=1)
    job = queue.get_job(job_id)
    assert (job["status"], job["attempts"], job["run_at"]) == ("pending", 1, clock.now + 120)
    assert "No handler for mail" in job["error"]
    clock.now += 120
    assert queue.process_jobs({}, 2) == Summary(failed=1)
    assert queue.get_job(job_id)["status"] == "failed"


def test_unknown_types_can_be_left_to_others(queue: Queue) -> None:
    """With unknown="skip" a job without a handler is not touched by a byte."""
    queue.enqueue("mail", {})
    before = queue.path.read_bytes()
    assert queue.process_jobs({"x": bool}, unknown="skip") == Summary()
    assert queue.path.read_bytes() == before
    queue.enqueue("x", {})
    assert queue.process_jobs({"x": bool}, unknown="skip").completed == 1
    assert queue.count_jobs()["pending"] == 1


def test_only_the_types_asked_for_are_taken(queue: Queue) -> None:
    """`types` limits what is taken, also to types without a handler."""
    for job_type in ("a", "b", "c"):
        queue.enqueue(job_type, {})
    handlers = {"a": bool, "b": bool}
    assert queue.process_jobs(handlers, types=["b"]).completed == 1
    assert queue.process_jobs(handlers, types=[]) == Summary()
    assert queue.process_jobs(handlers, types=["c"], unknown="skip") == Summary()
    assert queue.process_jobs(handlers, 1, types={"c"}) == Summary(failed=1)
    assert [job["status"] for job in queue.list_jobs()] == ["pending", "completed", "failed"]


def test_a_type_may_be_of_any_alphabet(queue: Queue) -> None:
    """What `enqueue` takes as a type is found again as a handler, and by `types`."""
    for job_type in ("naïve-jöb", "邮件", "a:b/c.d", "x" * 64, "\U0001f4e7"):
        queue.enqueue(job_type, {})
        handlers = {job_type: lambda payload: current_job().type}
        assert queue.process_jobs(handlers, types=[job_type], unknown="skip").completed == 1
        assert next(queue.list_jobs("completed", job_type))["result"] == job_type


def test_limit_bounds_the_jobs_taken(queue: Queue) -> None:
    """`limit` jobs are taken and no more; the rest is as it was."""
    queue.enqueue_many([("x", {})] * 5)
    assert queue.process_jobs({"x": bool}, limit=0) == Summary()
    assert queue.process_jobs({"x": bool}, limit=2).completed == 2
    assert queue.count_jobs()["pending"] == 3
    assert queue.process_jobs({}, 1, limit=2) == Summary(failed=2)


def test_a_rescue_does_not_use_up_the_limit(queue: Queue) -> None:
    """A dead worker's job that is given up was not run, so it does not count as a job taken."""
    queue.enqueue("x", {})
    assert in_child(lambda: queue.process_jobs({"x": die})) == -signal.SIGKILL
    job_id = queue.enqueue("x", {})
    assert queue.process_jobs({"x": bool}, 1, limit=1) == Summary(completed=1, failed=1, rescued=1)
    assert queue.get_job(job_id)["status"] == "completed"


def test_max_seconds_ends_a_run_between_two_jobs(queue: Queue) -> None:
    """When the time is up the job in hand is finished and no other taken."""
    queue.enqueue_many([("x", {})] * 3)
    assert queue.process_jobs({"x": bool}, max_seconds=0) == Summary()
    summary = queue.process_jobs({"x": lambda payload: time.sleep(0.06)}, max_seconds=0.05)
    assert summary == Summary(completed=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_attempts": 0}, "max_attempts 0: must be a whole number of 1 or more"),
        ({"max_attempts": 2.0}, "max_attempts 2.0"),
        ({"max_attempts": True}, "max_attempts True"),
        ({"limit": -1}, "limit -1: must be a whole number of 0 or more"),
        ({"max_seconds": -1}, "max_seconds -1: must be 0 or more seconds"),
        ({"max_seconds": math.nan}, "max_seconds nan"),
        ({"linger": -0.1}, "linger -0.1"),
        ({"linger": "50s"}, "linger '50s'"),
        ({"timeout": 0}, "timeout 0: must be"),
        ({"timeout": -1}, "timeout -1"),
        ({"timeout": math.inf}, "timeout inf: must be"),
        ({"timeout": 1e18}, r"timeout 1e\+18"),
        ({"timeout": {"x": 0}}, "timeout 0"),
        ({"timeout": {"x": "1"}}, "timeout '1'"),
        ({"unknown": "ignore"}, """unknown 'ignore': must be "fail" or "skip"""),
        ({"types": "mail"}, "types 'mail': must be a list of types"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    queue: Queue, options: dict[str, Any], message: str
) -> None:
    """The error names the option and its value, and no job has been touched."""
    queue.enqueue("x", {})
    before = queue.path.read_bytes()
    with pytest.raises(ValueError, match=message):
        queue.process_jobs({"x": bool}, **options)
    assert queue.path.read_bytes() == before


@pytest.mark.parametrize("handlers", [None, [("x", bool)], bool, "x"])
def test_handlers_have_to_be_a_mapping(queue: Queue, handlers: Any) -> None:
    """Anything else is refused before a job is taken."""
    queue.enqueue("x", {})
    with pytest.raises(TypeError, match="handlers: must be a dict of type -> callable"):
        queue.process_jobs(handlers)
    assert queue.count_jobs()["pending"] == 1


def test_a_table_rewritten_in_place_during_a_run_is_worked_off(queue: Queue) -> None:
    """An editor that saves in place shifts every row under the worker, which drains it still."""
    for number in range(20):
        queue.enqueue("x", {"n": number})
    ran: list[int] = []

    def edit(payload: dict[str, int]) -> None:
        ran.append(payload["n"])
        if payload["n"] == 0:
            text = queue.path.read_bytes().replace(b'{"n": 1}', b'{"n": 1, "note": "edited"}')
            with open(queue.path, "r+b") as file:
                file.write(text)

    assert queue.process_jobs({"x": edit}).completed == 20
    assert sorted(ran) == list(range(20))
    assert queue.count_jobs()["completed"] == 20


def test_a_handler_may_prune_and_retry_while_it_runs(queue: Queue) -> None:
    """The table is written anew below the worker; each job is run once all the same."""
    for number in range(10):
        queue.enqueue("x", {"n": number})
    ran: list[int] = []

    def handler(payload: dict[str, int]) -> None:
        ran.append(payload["n"])
        queue.prune_jobs(0)
        assert not queue.retry_job(current_job().id)
        assert not queue.cancel_job(current_job().id)

    assert queue.process_jobs({"x": handler}).completed == 10
    assert ran == list(range(10))
    assert queue.count_jobs()["completed"] == 1


# -- when a failed job is tried again ------------------------------------------------------------


def failing(payload: Any) -> None:
    raise ValueError("no such user")


def test_the_default_schedule_is_that_of_1_0_0(queue: Queue, clock: Clock) -> None:
    """60 * 2**attempts seconds: 120 after the first attempt, 240 after the second."""
    job_id = queue.enqueue("x", {})
    for attempts, wait in ((1, 120), (2, 240)):
        assert queue.process_jobs({"x": failing}) == Summary(retried=1)
        job = queue.get_job(job_id)
        assert (job["status"], job["attempts"]) == ("pending", attempts)
        assert job["run_at"] == clock.now + wait
        assert job["error"] == "ValueError: no such user"
        clock.now += wait - 1
        assert queue.process_jobs({"x": failing}) == Summary()
        clock.now += 1
    assert queue.process_jobs({"x": failing}) == Summary(failed=1)
    job = queue.get_job(job_id)
    assert (job["status"], job["attempts"], job["run_at"]) == ("failed", 3, clock.now)


def test_success_clears_the_error_of_an_earlier_attempt(queue: Queue) -> None:
    """A completed job shows no error, though its attempts tell that it was retried."""

    def second_time(payload: Any) -> str:
        if current_job().attempt == 1:
            raise ValueError("not yet")
        return "done"

    job = run_one(queue, second_time, backoff=AT_ONCE)
    assert (job["status"], job["attempts"]) == ("completed", 2)
    assert (job["error"], job["result"]) == (None, "done")


@pytest.mark.parametrize(
    ("backoff", "waits"),
    [
        (lambda attempts: 7 * attempts, [7, 14]),
        (lambda attempts: 0.2, [1, 1]),
        (Backoff(base=1, factor=10), [10, 100]),
        (Backoff(base=100, cap=150), [150, 150]),
        (SimpleNamespace(base=2, factor=3, cap=None, jitter=0), [6, 18]),
        (lambda attempts: -5, [0, 0]),
        (lambda attempts: math.inf, [10 * 365 * 86400] * 2),
    ],
)
def test_the_schedule_can_be_exchanged(
    queue: Queue, clock: Clock, backoff: Any, waits: list[int]
) -> None:
    """`backoff` is a callable from the attempts so far to seconds, or an object with its terms."""
    job_id = queue.enqueue("x", {})
    for wait in waits:
        queue.process_jobs({"x": failing}, backoff=backoff, limit=1)
        assert queue.get_job(job_id)["run_at"] == clock.now + wait
        clock.now += wait


@pytest.mark.parametrize(
    "backoff",
    [
        lambda attempts: 1 / 0,
        lambda attempts: None,
        lambda attempts: "5",
        lambda attempts: math.nan,
        lambda: 5,
        SimpleNamespace(base=1),
        "10s",
    ],
)
def test_a_schedule_that_fails_loses_no_job(
    queue: Queue, clock: Clock, backoff: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged, and the default schedule takes its place."""
    job = run_one(queue, failing, backoff=backoff)
    assert (job["status"], job["run_at"]) == ("pending", clock.now + 120)
    assert "the default is used" in caplog.text


def test_a_lower_max_attempts_ends_a_job_that_has_had_more(queue: Queue, clock: Clock) -> None:
    """A job with three attempts behind it gets one more, not none and not for ever."""
    job_id = queue.enqueue("x", {})
    for _ in range(3):
        queue.process_jobs({"x": failing}, 10, backoff=AT_ONCE, limit=1)
    assert queue.process_jobs({"x": failing}, 2) == Summary(failed=1)
    assert queue.get_job(job_id)["attempts"] == 4


# -- how handlers end ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "result",
    [
        {"sent": 1, "to": "Zoë"},
        [1, 2.5, None, True],
        "ok",
        "",
        '"quoted"',
        "two\nlines\tand a tab\r",
        "\udcff lone",
        0,
        False,
        [],
        {},
        10**20,
        " spaces ",
    ],
)
def test_a_result_comes_back_as_it_was(queue: Queue, result: Any) -> None:
    """Whatever JSON can hold is what `get_job` gives back, falsy results included."""
    job = run_one(queue, lambda payload: result)
    assert job["status"] == "completed"
    assert job["result"] == result
    assert type(job["result"]) is type(result)


def test_no_result_is_none(queue: Queue) -> None:
    """A handler that returns nothing leaves the field empty."""
    job = run_one(queue, lambda payload: None)
    assert job["result"] is None
    assert columns(queue)[0][8] == ""


class Changing(dict):  # type: ignore[type-arg]
    """As a dict that another thread changes while it is written."""

    def items(self) -> Any:
        raise RuntimeError("dictionary changed size during iteration")


class Unreadable:
    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __repr__(self) -> str:
        raise self.error


def circular() -> list[Any]:
    value: list[Any] = [1]
    value.append(value)
    return value


@pytest.mark.parametrize(
    ("result", "stored"),
    [
        ({1, 2}, "{1, 2}"),
        (b"bytes", "b'bytes'"),
        (math.nan, "nan"),
        ([math.inf], "[inf]"),
        (circular(), "[1, [...]]"),
        (Path("a/b"), "PosixPath('a/b')"),
        ({(1, 2): 3}, "{(1, 2): 3}"),
        (Changing(a=1), "{'a': 1}"),
        (Unreadable(ValueError()), "<Unreadable, whose repr raised ValueError>"),
        (Unreadable(SystemExit()), "<Unreadable, whose repr raised SystemExit>"),
    ],
)
def test_a_result_that_json_cannot_hold_is_stored_as_its_repr(
    queue: Queue, result: Any, stored: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The work is done, so the job is completed; a warning names it."""
    job = run_one(queue, lambda payload: result)
    assert (job["status"], job["result"]) == ("completed", stored)
    assert f"the result of x {job['id']} is no JSON" in caplog.text


def test_an_integer_too_long_to_be_written_does_not_undo_the_work(queue: Queue) -> None:
    """Neither JSON nor repr can write it (int_max_str_digits); the job is completed."""
    job = run_one(queue, lambda payload: 10**5000)
    assert (job["status"], job["result"]) == ("completed", "<int, whose repr raised ValueError>")


def test_a_large_result_is_stored_whole(queue: Queue) -> None:
    """A result of many sectors moves its row and comes back to the letter."""
    job = run_one(queue, lambda payload: {"text": "ä" * 100_000})
    assert job["result"] == {"text": "ä" * 100_000}
    assert len(columns(queue)) == 1


def test_a_huge_result_is_left_out_and_said_so(
    queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    """Above 1 MiB, which dbbasic-tsv's readers could not read, a note takes its place."""
    job = run_one(queue, lambda payload: "x" * MIB)
    assert job["status"] == "completed"
    assert job["result"] == f"(a result of {MIB + 3} bytes was not stored)"
    assert "not stored" in caplog.text


@pytest.mark.parametrize(
    "error",
    [
        SystemExit(3),
        SystemExit(),
        KeyboardInterrupt(),
        GeneratorExit(),
        asyncio.CancelledError(),
        StopIteration(1),
        RecursionError("deep"),
        MemoryError(),
        BaseException("base"),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("kind", ["plain", "coroutine"])
def test_whatever_a_handler_raises_is_a_failure_of_the_job_only(
    queue: Queue, error: BaseException, kind: str
) -> None:
    """Also what ends a program elsewhere: the worker goes on with the next job."""

    def plain(payload: dict[str, bool]) -> str:
        if payload["raise"]:
            raise error
        return "fine"

    async def coroutine(payload: dict[str, bool]) -> str:
        await asyncio.sleep(0)
        return plain(payload)

    first = queue.enqueue("x", {"raise": True})
    second = queue.enqueue("x", {"raise": False})
    handler = plain if kind == "plain" else coroutine
    assert queue.process_jobs({"x": handler}, 1) == Summary(completed=1, failed=1)
    # A coroutine cannot raise StopIteration: Python makes a RuntimeError of it.
    expected = type(error).__name__
    if kind == "coroutine" and isinstance(error, StopIteration):
        expected = "RuntimeError"
    assert queue.get_job(first)["error"].startswith(expected)
    assert queue.get_job(second)["result"] == "fine"


class Mute(Exception):
    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __str__(self) -> str:
        raise self.error


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(1), KeyboardInterrupt()])
def test_an_exception_that_cannot_say_what_it_is_fails_the_job_only(
    queue: Queue, error: BaseException
) -> None:
    """`__str__` raises: the error names the type, the worker lives."""

    def handler(payload: Any) -> None:
        raise Mute(error)

    job = run_one(queue, handler)
    assert job["status"] == "pending"
    assert job["error"] == f"Mute: (its message cannot be read: {type(error).__name__})"


@pytest.mark.parametrize(
    "message",
    ["two\nlines", "tab\there", "\r\n", "\x00\x1b[31m", "\u2028\x85", "\udcff", '"quoted', "Zoë"],
)
def test_an_error_is_one_readable_line(queue: Queue, message: str) -> None:
    """Whatever the message holds, the table keeps its lines and columns."""

    def handler(payload: Any) -> None:
        raise ValueError(message)

    job = run_one(queue, handler)
    assert job["error"].startswith("ValueError: ")
    assert len(job["error"].splitlines()) == 1
    assert [row[0] for row in columns(queue)] == [job["id"]]
    assert len(columns(queue)[0]) == 9


def test_a_huge_error_is_cut(queue: Queue) -> None:
    """A message of a megabyte (a whole HTML page, say) does not fill the table."""

    def handler(payload: Any) -> None:
        raise ValueError("x" * MIB)

    job = run_one(queue, handler)
    assert len(job["error"]) == 2000
    assert job["error"].endswith("x…")


def test_a_payload_arrives_as_it_was_sent(queue: Queue) -> None:
    """Types, nesting, text of any alphabet, control characters and empty values."""
    payload = {
        "text": 'Zoë \U0001f600 \t\n\r\x00\x7f\x85\u2028 "quoted" \\ \udcff',
        "": [None, True, False, 0, -1, 1.5, 1e300, 10**30],
        "nested": {"a": [{"b": {}}], "c": []},
    }
    seen: list[Any] = []
    queue.enqueue("x", payload)
    queue.process_jobs({"x": seen.append})
    assert seen == [payload]


def test_a_payload_that_somebody_has_spoiled_fails_the_job(queue: Queue, diary: Diary) -> None:
    """A payload that is no JSON never reaches the handler; the error says what it is."""
    job_id = queue.enqueue("x", {"n": 1})
    text = queue.path.read_bytes()
    queue.path.write_bytes(text.replace(b'{"n": 1}', b'{"n": 1 '))
    assert queue.process_jobs({"x": diary.add}, 1) == Summary(failed=1)
    assert 'the payload is not JSON: {"n": 1' in queue.get_job(job_id)["error"]
    assert diary.lines() == []


def test_a_handler_that_is_no_function_fails_the_job(queue: Queue) -> None:
    """A wrong entry of the dict is an error of that job, told in its words."""
    assert "not callable" in run_one(queue, "module.function")["error"]  # type: ignore[arg-type]


# -- coroutine functions, and the job in hand ----------------------------------------------------


def test_handlers_may_be_coroutine_functions(queue: Queue) -> None:
    """Beside plain ones, and as callable objects; tasks and threads of theirs work."""

    async def double(payload: dict[str, int]) -> int:
        one, other = await asyncio.gather(
            asyncio.sleep(0, payload["n"]), asyncio.to_thread(lambda: payload["n"])
        )
        return one + other

    class Called:
        async def __call__(self, payload: dict[str, int]) -> int:
            return await double(payload) + 1

    queue.enqueue("a", {"n": 1})
    queue.enqueue("b", {"n": 2})
    queue.enqueue("c", {"n": 3})
    handlers = {"a": double, "b": lambda payload: payload["n"], "c": Called()}
    assert queue.process_jobs(handlers).completed == 3
    assert [job["result"] for job in queue.list_jobs()] == [2, 2, 7]


@pytest.mark.parametrize("ending", ["return", "raise", "exit"])
def test_tasks_that_nobody_waits_for_end_with_their_job(queue: Queue, ending: str) -> None:
    """As with asyncio.run: nothing of a job runs on while the next one does."""
    ticks: list[str] = []
    cancelled: list[str] = []

    async def tick() -> None:
        try:
            while True:
                ticks.append(current_job().id)
                await asyncio.sleep(0)
        except asyncio.CancelledError:
            cancelled.append(current_job().id)
            raise

    async def leave(payload: Any) -> None:
        task = asyncio.create_task(tick())
        await asyncio.sleep(0)
        assert not task.done()
        if ending == "raise":
            raise ValueError
        if ending == "exit":
            sys.exit(1)

    async def clean(payload: Any) -> int:
        before = len(ticks)
        await asyncio.sleep(0.01)
        return len(ticks) - before

    first = queue.enqueue("leave", {})
    second = queue.enqueue("clean", {})
    queue.process_jobs({"leave": leave, "clean": clean})
    assert queue.get_job(second)["result"] == 0
    assert set(ticks) == set(cancelled) == {first}


def test_a_child_that_comes_back_from_a_coroutine_leaves_its_parents_loop_alone(
    queue: Queue, diary: Diary
) -> None:
    """The event loop's descriptors are shared: the parent goes on waiting for its threads."""

    async def handler(payload: Any) -> int:
        pid = os.fork()
        if pid == 0:
            diary.add("child")
            return -1
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        return await asyncio.to_thread(lambda: code)

    queue.enqueue_many([("x", {})] * 2)
    assert queue.process_jobs({"x": handler}, 1, timeout=20).completed == 2
    assert [job["result"] for job in queue.list_jobs()] == [0, 0]
    assert diary.lines() == ["child"] * 2


def test_coroutines_work_off_the_main_thread(queue: Queue) -> None:
    """A worker in a thread runs coroutine functions, too."""

    async def handler(payload: Any) -> str:
        await asyncio.sleep(0)
        return "done"

    queue.enqueue("x", {})
    assert works_in_a_thread(lambda: queue.process_jobs({"x": handler}))
    assert [job["result"] for job in queue.list_jobs()] == ["done"]


def test_a_handler_can_ask_for_its_job(queue: Queue) -> None:
    """Id, type and attempt, without a change of its signature, and in the functions it calls."""

    def deep() -> tuple[str, str, int]:
        job = current_job()
        return job.id, job.type, job.attempt

    seen: list[tuple[str, str, int]] = []

    def handler(payload: Any) -> None:
        seen.append(deep())
        raise ValueError

    job_id = queue.enqueue("x", {})
    queue.process_jobs({"x": handler}, backoff=AT_ONCE)
    assert seen == [(job_id, "x", 1), (job_id, "x", 2), (job_id, "x", 3)]


def test_a_coroutine_can_ask_for_its_job(queue: Queue) -> None:
    """Also after an await, in a task of its own, and in a thread that asyncio started."""

    async def handler(payload: Any) -> list[str]:
        await asyncio.sleep(0)
        here = current_job().id

        async def inner() -> str:
            return current_job().id

        return [here, await asyncio.create_task(inner()), await asyncio.to_thread(lambda: here)]

    job = run_one(queue, handler)
    assert job["result"] == [job["id"]] * 3


def test_outside_a_handler_there_is_no_current_job(queue: Queue) -> None:
    """A clear LookupError before and after a run, and also after a handler has failed."""
    with pytest.raises(LookupError, match="for handlers: no job is running here"):
        current_job()
    run_one(queue, failing)
    with pytest.raises(LookupError, match="for handlers: no job is running here"):
        current_job()


def test_a_handler_may_run_a_worker_itself(queue: Queue, tmp_path: Path) -> None:
    """On another queue or on its own; its own job is then not taken a second time."""
    other = Queue(tmp_path / "other.tsv", "normal")
    other.enqueue("y", {})
    seen: list[str] = []

    def handler(payload: Any) -> str:
        mine = current_job().id
        other.process_jobs({"y": lambda payload: seen.append(current_job().id)})
        assert queue.process_jobs({"x": failing}) == Summary()
        return "same" if current_job().id == mine else "another"

    assert run_one(queue, handler)["result"] == "same"
    assert seen == [next(iter(other.list_jobs()))["id"]]


# -- time limits ---------------------------------------------------------------------------------


def long(payload: Any) -> None:
    time.sleep(30)


def test_a_handler_that_takes_too_long_fails_with_job_timeout(queue: Queue, clock: Clock) -> None:
    """It is interrupted, and the attempt has failed like any other."""
    job = run_one(queue, long, timeout=0.05)
    assert (job["status"], job["run_at"]) == ("pending", clock.now + 120)
    assert job["error"] == "JobTimeout: ran for longer than 0.05 s"


def test_timeouts_by_type(queue: Queue) -> None:
    """Only the types named have a limit."""
    queue.enqueue("slow", {})
    queue.enqueue("free", {})
    handlers = {"slow": long, "free": lambda payload: time.sleep(0.1)}
    assert queue.process_jobs(handlers, 1, timeout={"slow": 0.05}) == Summary(completed=1, failed=1)


def test_a_handler_that_swallows_its_timeout_has_failed_all_the_same(queue: Queue) -> None:
    """Whatever it returns after that, or raises instead."""

    def swallow(payload: Any) -> str:
        try:
            time.sleep(30)
        except Exception:
            return "nothing happened"
        return "slept"

    def replace(payload: Any) -> None:
        try:
            time.sleep(30)
        except JobTimeout:
            raise KeyError("hidden") from None

    for handler in (swallow, replace):
        job = run_one(queue, handler, timeout=0.05)
        assert job["error"] == "JobTimeout: ran for longer than 0.05 s"
        assert job["result"] is None


def test_a_handler_that_goes_on_after_its_timeout_is_stopped_again(queue: Queue) -> None:
    """The timeout comes back every second, until the handler has ended."""
    caught: list[int] = []

    def stubborn(payload: Any) -> None:
        while len(caught) < 2:
            try:
                time.sleep(30)
            except JobTimeout:
                caught.append(1)

    assert run_one(queue, stubborn, timeout=0.05)["error"].startswith("JobTimeout")
    assert len(caught) == 2


def test_a_timeout_that_is_over_before_it_began_does_no_harm(queue: Queue) -> None:
    """A timer that rings while it is being set or taken back hits no code but the handler's."""
    queue.enqueue_many([("x", {})] * 200)
    summary = queue.process_jobs({"x": lambda payload: sum(range(50))}, 1, timeout=1e-6)
    assert summary.completed + summary.failed == 200
    assert summary.attempts == 200
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_a_coroutine_that_takes_too_long(queue: Queue) -> None:
    """It fails with JobTimeout, its cleanup runs, and the next coroutine finds all in order."""
    cleaned: list[int] = []

    async def handler(payload: dict[str, float]) -> str:
        try:
            await asyncio.sleep(payload["seconds"])
        finally:
            cleaned.append(1)
        return "slept"

    queue.enqueue("x", {"seconds": 30})
    queue.enqueue("x", {"seconds": 0})
    assert queue.process_jobs({"x": handler}, 1, timeout=0.05) == Summary(completed=1, failed=1)
    first, second = queue.list_jobs()
    assert first["error"] == "JobTimeout: ran for longer than 0.05 s"
    assert second["result"] == "slept"
    assert len(cleaned) == 2


def test_a_coroutine_that_does_not_stop_when_told_does_not_spoil_the_next(queue: Queue) -> None:
    """Its cleanup is broken off after a second; the coroutines after it run as ever."""

    async def handler(payload: dict[str, bool]) -> str:
        try:
            await asyncio.sleep(30 if payload["slow"] else 0)
        finally:
            if payload["slow"]:
                await asyncio.sleep(30)
        return "fine"

    queue.enqueue("x", {"slow": True})
    queue.enqueue("x", {"slow": False})
    queue.enqueue("x", {"slow": False})
    assert queue.process_jobs({"x": handler}, 1, timeout=0.05) == Summary(completed=2, failed=1)
    errors = [job["error"] for job in queue.list_jobs()]
    assert errors == ["JobTimeout: ran for longer than 0.05 s", None, None]


def test_a_timeout_off_the_main_thread_is_a_clear_error(queue: Queue) -> None:
    """SIGALRM reaches the main thread only: it is refused before a job is taken."""
    queue.enqueue("x", {})
    before = queue.path.read_bytes()
    errors: list[Exception] = []

    def run() -> None:
        try:
            queue.process_jobs({"x": bool}, timeout=1)
        except ValueError as error:
            errors.append(error)

    assert works_in_a_thread(run)
    assert "timeout works in the main thread only" in str(errors[0])
    assert queue.path.read_bytes() == before


class Trap:
    """The module fcntl, with a signal that comes in the middle of a call of flock."""

    def __init__(self, operation: int, *numbers: int) -> None:
        self.operation = operation
        self.numbers = numbers
        self.armed = False

    def __getattr__(self, name: str) -> Any:
        return getattr(fcntl, name)

    def flock(self, fd: int, operation: int) -> None:
        fcntl.flock(fd, operation)
        if self.armed and operation == self.operation:
            self.armed = False
            for number in self.numbers:
                signal.raise_signal(number)


@pytest.mark.parametrize("operation", [fcntl.LOCK_EX, fcntl.LOCK_UN], ids=["lock", "unlock"])
def test_a_timeout_never_leaves_the_table_locked(
    queue: Queue, operation: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes while the handler enqueues, between taking the lock and giving it back."""
    trap = Trap(operation, signal.SIGALRM)
    monkeypatch.setattr(store, "fcntl", trap)

    def handler(payload: Any) -> None:
        trap.armed = True
        queue.enqueue("child", {})
        time.sleep(30)

    job = run_one(queue, handler, timeout=20, types=["x"])
    assert job["error"] == "JobTimeout: ran for longer than 20 s"
    assert a_lock_is_free(queue)
    assert works_in_a_thread(lambda: queue.enqueue("after", {}))
    assert sorted(job["type"] for job in queue.list_jobs()) == ["after", "child", "x"]


def test_a_handler_that_enqueues_all_the_time_is_stopped_at_a_good_moment(queue: Queue) -> None:
    """Whenever the timeout comes, the table stays whole and free for others."""
    added: list[str] = []

    def handler(payload: Any) -> None:
        while True:
            added.append(queue.enqueue("child", {}))

    for _ in range(10):
        queue.enqueue("x", {})
    assert queue.process_jobs({"x": handler}, 1, timeout=0.01, types=["x"]) == Summary(failed=10)
    assert a_lock_is_free(queue)
    assert works_in_a_thread(lambda: queue.enqueue("after", {}))
    ids = [row[0] for row in columns(queue)]
    assert len(ids) == len(set(ids)) == queue.count_jobs()["pending"] + 10
    assert set(added) <= set(ids)


def test_a_programs_own_alarm_outlives_a_run(queue: Queue) -> None:
    """A watchdog that the program has set is put off by a timeout, never lost."""
    rang: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda number, frame: rang.append(number))
    try:
        signal.setitimer(signal.ITIMER_REAL, 1000)
        run_one(queue, lambda payload: None, timeout=20)
        assert 900 < signal.getitimer(signal.ITIMER_REAL)[0] <= 1000
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        run_one(queue, lambda payload: time.sleep(0.05), timeout=20)
        while not rang:
            time.sleep(0.001)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


# -- signals -------------------------------------------------------------------------------------

WORKER = """
import asyncio, logging, os, signal, sys, time
from dbbasic_queue import Queue, current_job
logging.basicConfig(stream=sys.stderr, level=logging.INFO)
queue = Queue(sys.argv[1], "normal")

def tell(*words):
    print(*words, flush=True)

def ask(payload):
    tell("started", current_job().attempt)
    answer = sys.stdin.readline().strip()
    tell("finished")
    return answer

async def sleep(payload):
    tell("started", current_job().attempt)
    try:
        await asyncio.sleep(60)
    finally:
        tell("cleaned")

def enqueue(payload):
    tell("started", current_job().attempt)
    while True:
        queue.enqueue("child", {})
"""
RUN = WORKER + "\nqueue.process_jobs({'ask': ask, 'sleep': sleep, 'enqueue': enqueue})\n"
TELL = WORKER + "\nsignal.signal(signal.SIGTERM, lambda *args: tell('heard', *args))\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["TERM", "INT"])
def test_a_signal_lets_the_job_in_hand_finish(queue: Queue, number: int) -> None:
    """The first SIGTERM or SIGINT: it is finished and written, no more are taken, exit code 0."""
    first, second = queue.enqueue("ask", {}), queue.enqueue("ask", {})
    with script(RUN, queue.path) as worker:
        worker.hear("started")
        worker.signal(number)
        worker.say("the answer")
        assert worker.end() == 0
        assert worker.out == "finished\n"
    assert queue.get_job(first)["result"] == "the answer"
    assert (queue.get_job(second)["status"], queue.get_job(second)["attempts"]) == ("pending", 0)
    assert f"signal {number}: took no more jobs" in worker.err


@pytest.mark.parametrize("job_type", ["ask", "sleep", "enqueue"])
def test_a_second_signal_puts_the_job_back(queue: Queue, job_type: str) -> None:
    """It is pending again with its attempt refunded, whatever the handler was doing."""
    job_id = queue.enqueue(job_type, {})
    with script(RUN, queue.path) as worker:
        worker.hear("started 1")
        worker.signal(signal.SIGINT)
        worker.signal(signal.SIGTERM)
        assert worker.end() == 0
    job = queue.get_job(job_id)
    assert (job["status"], job["attempts"], job["error"]) == ("pending", 0, None)
    assert f"put back {job_type} {job_id}" in worker.err
    with script(RUN, queue.path) as worker:
        worker.hear("started 1")


def test_the_same_signal_twice_puts_the_job_back(queue: Queue) -> None:
    """Ctrl-C and Ctrl-C again, as an impatient person does."""
    code = WORKER + (
        "from dbbasic_queue.worker import signals\n"
        "def wait(payload):\n"
        "    tell('started')\n"
        "    while not signals._active.received: time.sleep(0.001)\n"
        "    tell('stopping')\n"
        "    time.sleep(60)\n"
        "queue.process_jobs({'wait': wait})\n"
    )
    job_id = queue.enqueue("wait", {})
    with script(code, queue.path) as worker:
        for word in ("started", "stopping"):
            worker.hear(word)
            worker.signal(signal.SIGINT)
        assert worker.end() == 0
    assert (queue.get_job(job_id)["status"], queue.get_job(job_id)["attempts"]) == ("pending", 0)


def test_a_lingering_worker_ends_at_a_signal(queue: Queue) -> None:
    """With nothing in hand it just ends, with exit code 0."""
    code = WORKER + "\ntell('here')\nqueue.process_jobs({'ask': ask}, linger=1000)\n"
    queue.enqueue("ask", {})
    with script(code, queue.path) as worker:
        worker.hear("here")
        worker.hear("started")
        worker.say("answer")
        worker.hear("finished")
        worker.signal(signal.SIGTERM)
        assert worker.end() == 0
    assert queue.count_jobs()["completed"] == 1


def test_a_programs_own_handler_is_called(queue: Queue) -> None:
    """After the job in hand is finished and written; if it returns, the program goes on."""
    code = TELL + (
        "summary = queue.process_jobs({'ask': ask})\n"
        "tell('summary', summary.completed, summary.stopped)\n"
        "tell(signal.getsignal(signal.SIGTERM).__name__)\n"
    )
    queue.enqueue_many([("ask", {})] * 2)
    with script(code, queue.path) as worker:
        worker.hear("started")
        worker.signal(signal.SIGTERM)
        worker.say("answer")
        assert worker.end() == 0
        assert worker.out == "finished\nheard 15 None\nsummary 1 15\n<lambda>\n"
    assert queue.count_jobs() == {**dict.fromkeys(queue.count_jobs(), 0), "completed": 1,
                                  "pending": 1}  # fmt: skip


def test_a_programs_own_handler_may_end_it(queue: Queue) -> None:
    """The usual `signal(SIGTERM, lambda *_: sys.exit(7))` ends the program with its own code."""
    code = WORKER + (
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))\nqueue.process_jobs({'ask': ask})\n"
    )
    queue.enqueue("ask", {})
    with script(code, queue.path) as worker:
        worker.hear("started")
        worker.signal(signal.SIGTERM)
        worker.say("answer")
        assert worker.end() == 7
    assert queue.count_jobs()["completed"] == 1


def test_an_ignored_signal_stays_ignored(queue: Queue) -> None:
    """Under nohup, or as a shell's background job, SIGINT means nothing."""
    code = WORKER + (
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\nqueue.process_jobs({'ask': ask})\n"
    )
    queue.enqueue_many([("ask", {})] * 2)
    with script(code, queue.path) as worker:
        for _ in range(2):
            worker.hear("started")
            worker.signal(signal.SIGINT)
            worker.signal(signal.SIGINT)
            worker.say("answer")
            worker.hear("finished")
        assert worker.end() == 0
    assert queue.count_jobs()["completed"] == 2


@pytest.fixture
def own_handler() -> Iterator[list[int]]:
    """A SIGTERM handler of the program's, so that a signal does not end the tests."""
    heard: list[int] = []

    def hear(number: int, frame: Any) -> None:
        heard.append(number)

    before = signal.signal(signal.SIGTERM, hear)
    yield heard
    signal.signal(signal.SIGTERM, before)


def twice(payload: Any = None) -> None:
    signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGTERM)


def test_what_is_put_back_keeps_the_error_of_the_attempt_before(
    queue: Queue, own_handler: list[int]
) -> None:
    """The attempt that was broken off leaves no trace in the job."""

    def handler(payload: Any) -> None:
        if current_job().attempt == 1:
            raise ValueError("the first")
        twice()

    job = run_one(queue, handler, backoff=AT_ONCE)
    assert (job["status"], job["attempts"]) == ("pending", 1)
    assert job["error"] == "ValueError: the first"
    assert own_handler == [signal.SIGTERM]


def test_a_handler_can_clean_up_when_it_is_broken_off(queue: Queue, own_handler: list[int]) -> None:
    """Its `finally` blocks run, and further signals do not break into them."""
    cleaned: list[int] = []

    def handler(payload: Any) -> None:
        try:
            twice()
        finally:
            twice()
            cleaned.append(1)

    job = run_one(queue, handler)
    assert (job["status"], job["attempts"]) == ("pending", 0)
    assert cleaned == [1]


def test_a_second_signal_never_leaves_the_table_locked(
    queue: Queue, own_handler: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes while the handler enqueues: the job is broken off a moment later."""
    trap = Trap(fcntl.LOCK_UN, signal.SIGTERM, signal.SIGTERM)
    monkeypatch.setattr(store, "fcntl", trap)

    def handler(payload: Any) -> None:
        trap.armed = True
        queue.enqueue("child", {})
        time.sleep(30)

    job = run_one(queue, handler, types=["x"])
    assert (job["status"], job["attempts"]) == ("pending", 0)
    assert a_lock_is_free(queue)
    assert works_in_a_thread(lambda: queue.enqueue("after", {}))


def test_a_signal_between_two_jobs_breaks_nothing_off(
    queue: Queue, own_handler: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Signals that come while the worker writes how a job ended do not disturb that."""
    trap = Trap(fcntl.LOCK_EX, signal.SIGTERM, signal.SIGTERM, signal.SIGTERM)
    monkeypatch.setattr(store, "fcntl", trap)
    queue.enqueue_many([("x", {})] * 2)

    def handler(payload: Any) -> str:
        trap.armed = True
        return "done"

    summary = queue.process_jobs({"x": handler})
    # The signal came before the next job was taken, or after.
    assert summary.completed in (1, 2)
    assert queue.count_jobs()["processing"] == 0
    assert queue.count_jobs()["completed"] == summary.completed
    assert a_lock_is_free(queue)


def test_a_signal_logs_nothing_while_it_interrupts(queue: Queue, own_handler: list[int]) -> None:
    """logging's handlers may hold locks that are not re-entrant: none is called from a signal."""

    class Strict(logging.Handler):
        def __init__(self) -> None:
            super().__init__()
            self.busy = False
            self.broken = False

        def emit(self, record: logging.LogRecord) -> None:
            self.broken = self.broken or self.busy
            self.busy = True
            if record.getMessage() == "in hand":
                signal.raise_signal(signal.SIGTERM)
            self.busy = False

    strict = Strict()
    root = logging.getLogger()
    level = root.level
    root.addHandler(strict)
    root.setLevel(logging.INFO)
    try:
        run_one(queue, lambda payload: logging.getLogger("app").info("in hand"))
    finally:
        root.removeHandler(strict)
        root.setLevel(level)
    assert own_handler == [signal.SIGTERM]
    assert not strict.broken


def test_signals_of_a_run_within_a_run_end_both(
    queue: Queue, tmp_path: Path, own_handler: list[int]
) -> None:
    """A handler that runs a worker itself: one SIGTERM stops the inner one, then the outer one."""
    other = Queue(tmp_path / "other.tsv", "normal")
    other.enqueue_many([("y", {})] * 2)
    queue.enqueue_many([("x", {})] * 2)

    def inner(payload: Any) -> None:
        signal.raise_signal(signal.SIGTERM)

    def outer(payload: Any) -> int:
        summary = other.process_jobs({"y": inner})
        assert own_handler == []
        return summary.completed

    assert queue.process_jobs({"x": outer}).completed == 1
    assert next(iter(queue.list_jobs("completed")))["result"] == 1
    assert own_handler == [signal.SIGTERM]


def test_off_the_main_thread_signals_are_left_alone(queue: Queue) -> None:
    """A worker in a thread neither sets nor needs a signal handler."""
    seen: list[Any] = []
    queue.enqueue("x", {})
    before = signal.getsignal(signal.SIGTERM)
    handlers = {"x": lambda payload: seen.append(signal.getsignal(signal.SIGTERM))}
    assert works_in_a_thread(lambda: queue.process_jobs(handlers))
    assert seen == [before]


def test_handlers_of_signals_are_restored_after_an_error(queue: Queue) -> None:
    """Also when the run ends in an exception (the fixture of these tests compares)."""
    queue.enqueue("x", {})

    def handler(payload: Any) -> None:
        queue.path.write_text("no table\n")

    with pytest.raises(Exception, match="not a queue table"):
        queue.process_jobs({"x": handler})


# -- children of handlers ------------------------------------------------------------------------


def test_children_of_a_handler_die_of_sigterm(queue: Queue) -> None:
    """They are no workers: multiprocessing's terminate() ends them, as it would anywhere."""

    def handler(payload: Any) -> list[int]:
        program = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        program.terminate()
        codes = [program.wait(20)]
        for _ in range(20):  # the signal comes when the child has hardly been born
            worker = fork.Process(target=time.sleep, args=(60,))
            worker.start()
            worker.terminate()
            worker.join(20)
            codes.append(worker.exitcode or 0)
        return codes

    assert run_one(queue, handler)["result"] == [-signal.SIGTERM] * 21


def test_children_of_a_run_within_a_run_die_of_sigterm(queue: Queue, tmp_path: Path) -> None:
    """Both runs' signal handlers are gone in the child."""
    other = Queue(tmp_path / "other.tsv", "normal")
    other.enqueue("y", {})

    def inner(payload: Any) -> int:
        return in_child(lambda: signal.raise_signal(signal.SIGTERM))

    def outer(payload: Any) -> int:
        other.process_jobs({"y": inner})
        after = in_child(lambda: signal.raise_signal(signal.SIGTERM))
        assert after == -signal.SIGTERM
        return next(iter(other.list_jobs()))["result"]

    assert run_one(queue, outer)["result"] == -signal.SIGTERM


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_pool_of_processes_works_inside_a_handler(queue: Queue, method: str) -> None:
    """multiprocessing's Pool, which ends its processes by SIGTERM."""

    def handler(payload: Any) -> list[int]:
        with multiprocessing.get_context(method).Pool(2) as pool:
            return pool.map(abs, [-1, -2, -3])

    assert run_one(queue, handler)["result"] == [1, 2, 3]


def test_children_of_a_handler_may_enqueue(queue: Queue) -> None:
    """The queue survives the fork; the parent's claim on its job does, too."""

    def handler(payload: Any) -> list[int]:
        return [in_child(lambda: queue.enqueue("child", {})) for _ in range(3)]

    job = run_one(queue, handler, types=["x"])
    assert (job["status"], job["result"]) == ("completed", [0, 0, 0])
    assert queue.count_jobs()["pending"] == 3


@pytest.mark.parametrize(
    ("ending", "code"),
    [
        (lambda: None, 0),
        (lambda: sys.exit(), 0),
        (lambda: sys.exit(3), 3),
        (lambda: sys.exit("a reason"), 1),
        (lambda: 1 / 0, 1),
        (lambda: signal.raise_signal(signal.SIGTERM), -signal.SIGTERM),
    ],
    ids=["return", "exit", "exit 3", "exit with words", "raise", "signal"],
)
@pytest.mark.parametrize("timeout", [None, 20])
def test_a_child_that_comes_back_from_the_handler_is_no_second_worker(
    queue: Queue, diary: Diary, ending: Callable[[], Any], code: int, timeout: float | None
) -> None:
    """It ends there, with the exit code that Python would have given it."""
    queue.enqueue_many([("x", {})] * 2)

    def handler(payload: Any) -> int:
        diary.add("start")
        pid = os.fork()
        if pid == 0:
            ending()
            return -1
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    assert queue.process_jobs({"x": handler}, timeout=timeout).completed == 2
    assert [job["result"] for job in queue.list_jobs()] == [code, code]
    assert diary.lines() == ["start"] * 2


def test_a_second_signal_at_a_fork_is_not_lost(queue: Queue, own_handler: list[int]) -> None:
    """Python drops what is raised in a hook of os.fork: the job is broken off right after it."""
    real = signal.pthread_sigmask
    calls: list[int] = []

    def interrupted(how: int, mask: Any) -> Any:
        calls.append(how)
        if how == signal.SIG_SETMASK:
            signal.pthread_sigmask = real
            result = real(how, mask)
            twice()
            return result
        return real(how, mask)

    def handler(payload: Any) -> None:
        signal.pthread_sigmask = interrupted
        in_child(lambda: None)
        time.sleep(30)

    try:
        job = run_one(queue, handler)
    finally:
        signal.pthread_sigmask = real
    assert (job["status"], job["attempts"]) == ("pending", 0)
    assert calls == [signal.SIG_BLOCK, signal.SIG_SETMASK]


# -- trouble with the storage --------------------------------------------------------------------


def test_a_job_whose_end_could_not_be_written_is_run_again(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error is raised; the next run, in the same process too, rescues the job."""

    def broken(*args: Any) -> int:
        raise OSError(5, "Input/output error")

    def handler(payload: Any) -> None:
        monkeypatch.setattr(os, "pwrite", broken)

    job_id = queue.enqueue("x", {})
    with pytest.raises(StorageError, match="Input/output error"):
        queue.process_jobs({"x": handler})
    monkeypatch.undo()
    assert queue.get_job(job_id)["status"] == "processing"
    assert queue.process_jobs({"x": bool}, backoff=AT_ONCE) == Summary(completed=1, rescued=1)
    assert queue.get_job(job_id)["attempts"] == 2


def test_a_lock_that_cannot_be_taken_gives_the_job_back(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that cannot even begin to write how a job ended does not keep it claimed."""

    class Broken(Trap):
        def flock(self, fd: int, operation: int) -> None:
            if operation == fcntl.LOCK_EX:
                raise OSError(37, "No locks available")
            fcntl.flock(fd, operation)

    job_id = queue.enqueue("x", {})
    with pytest.raises(StorageError, match=r"lock .*: No locks available"):
        queue.process_jobs({"x": lambda payload: monkeypatch.setattr(store, "fcntl", Broken(0))})
    monkeypatch.undo()
    assert queue.process_jobs({"x": bool}, backoff=AT_ONCE).rescued == 1
    assert queue.get_job(job_id)["status"] == "completed"


def test_an_attempt_that_may_not_be_on_disk_is_not_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, diary: Diary
) -> None:
    """In "full", when the sync of the claim fails, the handler is not run, the attempt not used."""
    queue = Queue(tmp_path / "queue.tsv", "full")
    job_id = queue.enqueue("x", {})

    def broken(fd: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", broken)
    with pytest.raises(StorageError, match="sync failed"):
        queue.process_jobs({"x": diary.add})
    monkeypatch.undo()
    assert diary.lines() == []
    assert (queue.get_job(job_id)["status"], queue.get_job(job_id)["attempts"]) == ("pending", 0)
    assert queue.process_jobs({"x": bool}) == Summary(completed=1)


@pytest.mark.parametrize("action", ["remove", "replace", "edit"])
def test_a_job_that_is_gone_when_its_handler_ends_stays_gone(
    queue: Queue, action: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Somebody removed the file, put another in its place, or cut the row out: it is logged."""

    def handler(payload: Any) -> str:
        if action == "remove":
            queue.path.unlink()
        elif action == "replace":
            queue.path.rename(queue.path.with_suffix(".old"))
            Queue(queue.path, "normal").enqueue("y", {})
        else:
            queue.path.write_bytes(store.HEADER)
        return "x" * 1000

    job_id = queue.enqueue("x", {})
    queue.process_jobs({"x": handler}, types=["x"])
    assert queue.get_job(job_id) is None
    assert f"not recorded: x {job_id} is gone now" in caplog.text
    assert [row[1] for row in columns(queue)] == (["y"] if action == "replace" else [])


# -- lingering -----------------------------------------------------------------------------------


def test_lingering_ends_when_its_time_is_over(queue: Queue) -> None:
    """Without work it waits and returns."""
    assert queue.process_jobs({"x": bool}, linger=0.05) == Summary()


def later(action: Callable[[], Any]) -> threading.Thread:
    """Do something as soon as the worker of the main thread has nothing to do."""

    def run() -> None:
        time.sleep(0.1)
        action()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


def test_a_lingering_worker_takes_new_work(queue: Queue) -> None:
    """Jobs enqueued by others while it waits, one at a time and many at once."""
    other = Queue(queue.path, "normal", clock=Clock())
    thread = later(lambda: (other.enqueue("x", {}), other.enqueue_many([("x", {})] * 3)))
    assert queue.process_jobs({"x": bool}, linger=1000, limit=4).completed == 4
    thread.join()


def test_a_lingering_worker_takes_what_is_put_back(queue: Queue) -> None:
    """A failed job that somebody retries, which changes the file in place."""
    other = Queue(queue.path, "normal", clock=Clock())
    job_id = queue.enqueue("x", {})
    queue.process_jobs({}, 1)
    thread = later(lambda: other.retry_job(job_id))
    assert queue.process_jobs({"x": bool}, linger=1000, limit=1) == Summary(completed=1)
    thread.join()


def test_a_lingering_worker_runs_a_job_when_it_is_due(queue: Queue, clock: Clock) -> None:
    """A job for later that the worker knows of, though the file does not change."""
    queue.enqueue("x", {}, clock.now + 3600)

    def wait_an_hour() -> None:
        clock.now += 3600

    thread = later(wait_an_hour)
    assert queue.process_jobs({"x": bool}, linger=1000, limit=1) == Summary(completed=1)
    thread.join()


def test_a_lingering_worker_rescues_what_a_dead_one_leaves(queue: Queue, diary: Diary) -> None:
    """Another worker is killed in mid-job while this one waits: it takes over."""

    def hang(payload: Any) -> None:
        diary.add("begun")
        time.sleep(60)

    job_id = queue.enqueue("x", {})
    victim = start(queue.process_jobs, {"x": hang})
    while not diary.lines():
        time.sleep(0.001)
    thread = later(victim.kill)
    summary = queue.process_jobs({"x": bool}, linger=1000, limit=1, backoff=AT_ONCE)
    assert summary == Summary(completed=1, rescued=1)
    assert queue.get_job(job_id)["attempts"] == 2
    join(victim, code=-signal.SIGKILL)
    thread.join()


def test_a_change_within_one_tick_of_the_clock_is_not_overlooked(queue: Queue) -> None:
    """Older kernels give all changes of one tick the same time: a young state is no state yet."""
    queue.enqueue("x", {})
    old = time.time_ns() - 10**9
    os.utime(queue.path, ns=(old, old))
    assert queue.engine.table.state() == queue.engine.table.state()
    now = time.time_ns()
    os.utime(queue.path, ns=(now, now))
    assert queue.engine.table.state() != queue.engine.table.state()


def test_a_lingering_worker_notes_that_it_is_alive(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time of `queue.claims` is that of the last run, also while it only waits."""
    monkeypatch.setattr("dbbasic_queue.engines.tsv.seat.MARK_EVERY", 0.02)
    claims = queue.path.with_suffix(".claims")
    queue.process_jobs({})
    os.utime(claims, (1, 1))
    queue.process_jobs({}, linger=0.1)
    assert claims.stat().st_mtime > 1


# -- the summary ---------------------------------------------------------------------------------


def test_the_summary_tells_what_became_of_the_jobs(queue: Queue) -> None:
    """Completed, retried, failed; attempts is their sum, and two summaries can be added."""

    def handler(payload: dict[str, int]) -> None:
        if payload["n"] % 2:
            raise ValueError

    for number in range(5):
        queue.enqueue("x", {"n": number})
    summary = queue.process_jobs({"x": handler}, 2, backoff=AT_ONCE)
    assert summary == Summary(completed=3, retried=2, failed=2)
    assert summary.attempts == 7
    summary.add(Summary(completed=1, rescued=2, stopped=15))
    assert summary == Summary(completed=4, retried=2, failed=2, rescued=2, stopped=15)
    assert json.loads(json.dumps(summary.as_dict()))["completed"] == 4
    assert re.fullmatch(r"Summary\(.*completed=4.*\)", repr(summary))


def test_a_generator_function_is_no_handler(queue: Queue) -> None:
    """Calling one runs nothing of it, so the job fails instead of looking done."""

    def plain(payload: Any) -> Any:
        yield payload

    async def coroutine(payload: Any) -> Any:
        yield payload

    for handler in (plain, coroutine):
        job_id = queue.enqueue("mail", {})
        queue.process_jobs({"mail": handler}, max_attempts=1)
        job = queue.get_job(job_id)
        assert job is not None
        assert job["status"] == "failed"
        assert "generator function" in job["error"]
