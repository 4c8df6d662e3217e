"""The loop: what it takes and in which order, retries, trouble with the storage, the summary."""

from __future__ import annotations

import fcntl
import json
import logging
import math
import os
import re
import signal
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from actors import AT_ONCE, Clock, Diary, columns, die, in_child
from working import Trap, failing, run_one

from dbbasic_queue import Backoff, Queue, StorageError, Summary, current_job
from dbbasic_queue.job import error_lines
from dbbasic_queue.table import lock
from dbbasic_queue.table.line import HEADER
from dbbasic_queue.worker.handlers import Runner

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
    with pytest.raises(StorageError, match=r"cannot write to the queue .*[Nn]ot a directory"):
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


def test_every_failure_logs_where_it_happened(
    queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    """The traceback of an attempt that is tried again is logged, too, as a warning."""

    def broken(payload: Any) -> None:
        raise ValueError("no such user")

    queue.enqueue("mail", {})
    with caplog.at_level(logging.WARNING):
        queue.process_jobs({"mail": broken})
    (record,) = caplog.records
    assert (record.levelname, record.event) == ("WARNING", "retried")
    assert record.exc_info is not None
    assert "in broken" in caplog.text


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
    for job_type in ("naïve-jöb", "邮件", "a:b/c.d", "x" * 128, "\U0001f4e7"):
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


def test_the_default_schedule_is_that_of_1_0_0(queue: Queue, clock: Clock) -> None:
    """60 * 2**attempts seconds: 120 after the first attempt, 240 after the second."""
    job_id = queue.enqueue("x", {})
    for attempts, wait in ((1, 120), (2, 240)):
        assert queue.process_jobs({"x": failing}) == Summary(retried=1)
        job = queue.get_job(job_id)
        assert (job["status"], job["attempts"]) == ("pending", attempts)
        assert job["run_at"] == clock.now + wait
        assert error_lines(job["error"])[0] == "ValueError: no such user"
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
            if operation & ~fcntl.LOCK_NB == fcntl.LOCK_EX:
                raise OSError(37, "No locks available")
            fcntl.flock(fd, operation)

    job_id = queue.enqueue("x", {})
    with pytest.raises(StorageError, match=r"lock .*: No locks available"):
        queue.process_jobs({"x": lambda payload: monkeypatch.setattr(lock, "fcntl", Broken(0))})
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
    """The file was removed or replaced, or the row cut out: it is logged."""

    def handler(payload: Any) -> str:
        if action == "remove":
            queue.path.unlink()
        elif action == "replace":
            queue.path.rename(queue.path.with_suffix(".old"))
            Queue(queue.path, "normal").enqueue("y", {})
        else:
            queue.path.write_bytes(HEADER)
        return "x" * 1000

    job_id = queue.enqueue("x", {})
    queue.process_jobs({"x": handler}, types=["x"])
    assert queue.get_job(job_id) is None
    assert f"not recorded: x {job_id} is gone now" in caplog.text
    assert [row[1] for row in columns(queue)] == (["y"] if action == "replace" else [])


def test_an_error_that_ends_the_run_gives_the_job_in_hand_up(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C where no signal is caught: the next run takes the job back, in the same process."""
    queue.enqueue("x", {})

    def interrupted(runner: Runner, attempt: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Runner, "run", interrupted)
        with pytest.raises(KeyboardInterrupt):
            queue.process_jobs({"x": bool})
    assert queue.process_jobs({"x": bool}, backoff=AT_ONCE) == Summary(rescued=1, completed=1)


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
