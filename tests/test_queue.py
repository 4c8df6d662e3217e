"""The public face: enqueue and its forms, looking, the default queue, 1.0.0's programs, threads."""

from __future__ import annotations

import gc
import inspect
import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from actors import Clock, Diary, columns, in_child, join, start

import dbbasic_queue
from dbbasic_queue import (
    InvalidJob,
    JobExists,
    Queue,
    QueueError,
    Summary,
    cancel_job,
    count_jobs,
    enqueue,
    enqueue_many,
    get_job,
    list_jobs,
    process_jobs,
    prune_jobs,
    retry_job,
)
from dbbasic_queue.engines.tsv import claims
from dbbasic_queue.table.line import COLUMNS, HEADER

NOW = 1_700_000_000
ZERO = dict.fromkeys(("pending", "processing", "completed", "failed", "cancelled"), 0)


@pytest.fixture
def clock() -> Clock:
    return Clock(NOW)


@pytest.fixture
def queue(tmp_path: Path, clock: Clock) -> Queue:
    return Queue(tmp_path / "queue.tsv", "normal", clock=clock)


def content(queue: Queue) -> bytes:
    """The file as it is, or nothing."""
    return queue.path.read_bytes() if queue.path.exists() else b""


# -- enqueue -------------------------------------------------------------------------------------


def test_a_job_is_one_line_that_anything_can_read(queue: Queue) -> None:
    """Nine columns between tabs: what `cut`, `awk` and a person see is the job."""
    job_id = queue.enqueue("mail", {"to": "Zoë"})
    assert queue.path.read_bytes().startswith(HEADER)
    assert [[field.rstrip() for field in row] for row in columns(queue)] == [
        [job_id, "mail", '{"to": "Zoë"}', "pending", str(NOW), str(NOW), "0", "", ""]
    ]


def test_ids_are_sixteen_hex_digits_and_never_the_same(queue: Queue) -> None:
    """As 1.0.0 made them."""
    ids = [queue.enqueue("x", {}) for _ in range(500)]
    ids += queue.enqueue_many([("x", {})] * 500)
    assert len(set(ids)) == 1000
    assert all(len(job_id) == 16 and int(job_id, 16) >= 0 for job_id in ids)


BERLIN = timezone(timedelta(hours=1))


@pytest.mark.parametrize(
    ("run_at", "stored"),
    [
        (None, NOW),
        (0, NOW),
        (0.0, NOW),
        (1, 1),
        (NOW - 10, NOW - 10),
        (NOW + 10, NOW + 10),
        (NOW + 10.0, NOW + 10),
        (NOW + 10.001, NOW + 11),
        (datetime(2030, 1, 1, tzinfo=UTC), 1893456000),
        (datetime(2030, 1, 1, 1, tzinfo=BERLIN), 1893456000),
        (datetime(2030, 1, 1, 0, 0, 0, 1, tzinfo=UTC), 1893456001),
    ],
)
def test_run_at_is_seconds_or_an_aware_datetime(queue: Queue, run_at: Any, stored: int) -> None:
    """None and 0 mean now, as in 1.0.0; a fraction never lets a job run too early."""
    assert queue.get_job(queue.enqueue("x", {}, run_at))["run_at"] == stored
    assert queue.get_job(queue.enqueue_many([("x", {}, run_at)])[0])["run_at"] == stored
    assert queue.get_job(queue.enqueue("x", {}, run_at=run_at, job_id="k"))["run_at"] == stored


@pytest.mark.parametrize(
    ("run_at", "words"),
    [
        (datetime(2030, 1, 1), "no time zone"),
        ("2030-01-01", "not str"),
        (True, "not bool"),
        (math.nan, "not a time"),
        (math.inf, "not a time"),
        (-1, "not a time"),
        (NOW * 1000, "not a time"),  # milliseconds
        (timedelta(hours=1), "not timedelta"),
        ([NOW], "not list"),
    ],
)
def test_a_run_at_that_is_no_time_is_refused(queue: Queue, run_at: Any, words: str) -> None:
    """The error says what a time is; nothing is written."""
    with pytest.raises(InvalidJob, match=f"run_at .*{words}"):
        queue.enqueue("x", {}, run_at)
    with pytest.raises(InvalidJob, match=f"job 1: run_at .*{words}.*none was added"):
        queue.enqueue_many([("x", {}), ("x", {}, run_at)])
    assert content(queue) == b""


@pytest.mark.parametrize(
    ("job_type", "payload", "words"),
    [
        ("", {}, "job type ''"),
        ("x" * 65, {}, "job type 'x"),
        ("two words", {}, "job type 'two words'"),
        ("a\tb", {}, "job type"),
        ("a\nb", {}, "job type"),
        ('"quoted', {}, "job type"),
        ("#comment", {}, "job type"),
        (None, {}, "job type None"),
        (b"mail", {}, "job type b'mail'"),
        ("x", None, "payload: must be a dict .* not NoneType"),
        ("x", [1], "payload: must be a dict .* not list"),
        ("x", "{}", "payload: must be a dict .* not str"),
        ("x", {"a": math.nan}, r"payload\['a'\]: nan is no JSON number"),
        ("x", {"a": [{"b": b"c"}]}, r"payload\['a'\]\[0\]\['b'\]: bytes cannot be JSON"),
        ("x", {1: 2}, "key 1 is int"),
        ("x", {"a": {None: 2}}, r"payload\['a'\]: key None is NoneType"),
        ("x", {"a": {1, 2}}, r"payload\['a'\]: set cannot be JSON"),
        ("x", {"a": 10**5000}, "too long to be written"),
        ("x", {"a": "x" * (1 << 20)}, "over the limit of 1048576"),
    ],
)
def test_what_cannot_be_a_job_is_refused_and_named(
    queue: Queue, job_type: Any, payload: Any, words: str
) -> None:
    """In `enqueue` as in the middle of a batch; nothing is written."""
    with pytest.raises(InvalidJob, match=words) as caught:
        queue.enqueue(job_type, payload)
    assert isinstance(caught.value, QueueError)
    assert isinstance(caught.value, ValueError)
    with pytest.raises(InvalidJob, match=f"job 1: .*{words}.*; none was added"):
        queue.enqueue_many([("x", {}), (job_type, payload), ("x", {})])
    assert content(queue) == b""


def test_the_limit_of_a_payload_can_be_set(tmp_path: Path) -> None:
    """In bytes of JSON: exactly that many fit."""
    queue = Queue(tmp_path / "queue.tsv", "normal", max_payload=10)
    queue.enqueue("x", {"a": "b"})
    with pytest.raises(InvalidJob, match="11 bytes of JSON, over the limit of 10"):
        queue.enqueue("x", {"a": "bc"})
    assert queue.count_jobs()["pending"] == 1


def test_a_durability_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    """A typing error in the configuration must not silently mean less."""
    with pytest.raises(ValueError, match='durability \'fast\': must be "full" or "normal"'):
        Queue(tmp_path / "queue.tsv", "fast")


def test_full_syncs_each_acknowledged_change_and_normal_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One fdatasync an enqueue, one a batch, one a job run; none at all in "normal"."""
    synced: list[int] = []
    real = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda fd: (synced.append(fd), real(fd)))
    for durability, expected in (("full", [1, 1, 1, 4, 1]), ("normal", [0] * 5)):
        queue = Queue(tmp_path / durability / "queue.tsv", durability)
        counts = []
        for verb in (
            lambda queue=queue: queue.enqueue("x", {}, job_id="a"),
            lambda queue=queue: queue.enqueue_many([("x", {})] * 1000),
            lambda queue=queue: queue.cancel_job("a"),
            # Begin one; end it and begin the next, twice; end the last.
            lambda queue=queue: queue.process_jobs({"x": bool}, limit=3),
            lambda queue=queue: queue.retry_job("a"),
        ):
            synced.clear()
            verb()
            counts.append(len(synced))
        assert counts == expected


# -- idempotency keys ----------------------------------------------------------------------------


def test_a_second_enqueue_with_the_same_id_adds_nothing(queue: Queue) -> None:
    """It returns the id, whatever state the job is in by now."""
    assert queue.enqueue("x", {"a": 1, "b": [2]}, job_id="key-1") == "key-1"
    before = content(queue)
    assert queue.enqueue("x", {"b": [2], "a": 1}, NOW + 99, job_id="key-1") == "key-1"
    assert content(queue) == before
    queue.process_jobs({"x": lambda payload: "r" * 1000})
    before = content(queue)
    assert queue.enqueue("x", {"a": 1, "b": [2]}, job_id="key-1") == "key-1"
    assert content(queue) == before
    assert len(columns(queue)) == 1


@pytest.mark.parametrize(
    ("job_type", "payload", "words"),
    [
        ("y", {"a": 1}, "with type x, not y"),
        ("x", {"a": 2}, "with another payload"),
        ("x", {}, "with another payload"),
        ("x", {"a": True}, "with another payload"),
        ("x", {"a": "1"}, "with another payload"),
        ("x", {"a": 1, "b": None}, "with another payload"),
    ],
)
def test_the_same_id_with_another_type_or_payload_raises(
    queue: Queue, job_type: str, payload: dict[str, Any], words: str
) -> None:
    """The error says what differs; nothing is written."""
    queue.enqueue("x", {"a": 1}, job_id="key")
    before = content(queue)
    with pytest.raises(JobExists, match=f"a job with the id key exists, {words}"):
        queue.enqueue(job_type, payload, job_id="key")
    with pytest.raises(JobExists, match="a job with the id key exists"):
        queue.enqueue_many([("x", {}), {"job_type": job_type, "payload": payload, "job_id": "key"}])
    assert content(queue) == before


@pytest.mark.parametrize("job_id", ["", "a b", "a/b", "x" * 65, "ä", "a\n", 17, b"a", ["a"]])
def test_an_id_that_other_engines_would_not_take_is_refused(queue: Queue, job_id: Any) -> None:
    """1 to 64 letters, digits, hyphens or underscores."""
    with pytest.raises(InvalidJob, match=r"job id .*: must be 1 to 64 letters"):
        queue.enqueue("x", {}, job_id=job_id)
    assert content(queue) == b""


def test_a_pruned_id_may_be_used_again(queue: Queue) -> None:
    """The file is the only truth: what is no longer in it is forgotten."""
    queue.enqueue("x", {}, job_id="key")
    queue.cancel_job("key")
    queue.prune_jobs(0)
    queue.enqueue("y", {}, job_id="key")
    assert queue.get_job("key")["type"] == "y"


def test_an_id_is_found_in_a_large_table(queue: Queue) -> None:
    """At its begin, in its middle, and at its end; and what only looks like it is not it."""
    keys = {}
    for number in range(3):
        keys[f"key-{number}"] = queue.enqueue("x", {"n": number}, job_id=f"key-{number}")
        queue.enqueue_many([("x", {"text": f"\tkey-{number}\tkey-9\n" * 10})] * 10_000)
    for number, key in enumerate(keys):
        assert queue.get_job(key)["payload"] == {"n": number}
        assert queue.enqueue("x", {"n": number}, job_id=key) == key
    assert queue.get_job("key") is None
    assert queue.get_job("key-9") is None
    assert queue.count_jobs()["pending"] == 30_003


# -- enqueue_many --------------------------------------------------------------------------------


def test_a_batch_may_be_given_in_several_forms(queue: Queue) -> None:
    """Tuples of two or three, lists, mappings, from any iterable; ids in the same order."""
    jobs = [
        ("a", {"n": 0}),
        ("b", {"n": 1}, NOW + 5),
        ["c", {"n": 2}],
        {"job_type": "d", "payload": {"n": 3}},
        {"job_type": "e", "payload": {"n": 4}, "run_at": NOW + 7, "job_id": "key"},
    ]
    ids = queue.enqueue_many(iter(jobs))
    found = [queue.get_job(job_id) for job_id in ids]
    assert [job["payload"]["n"] for job in found] == [0, 1, 2, 3, 4]
    assert [job["type"] for job in found] == ["a", "b", "c", "d", "e"]
    assert [job["run_at"] - NOW for job in found] == [0, 5, 0, 0, 7]
    assert ids[4] == "key"
    assert [job["id"] for job in queue.list_jobs()] == ids


def test_an_empty_batch_is_no_error(queue: Queue) -> None:
    """There was nothing to add today."""
    assert queue.enqueue_many([]) == []
    assert queue.count_jobs() == ZERO


def test_keys_in_a_batch_are_added_once(queue: Queue) -> None:
    """Known ones, and ones that come twice in the same batch."""
    queue.enqueue("x", {"n": 1}, job_id="one")
    key = {"job_type": "x", "payload": {"n": 2}, "job_id": "two"}
    jobs = [{"job_type": "x", "payload": {"n": 1}, "job_id": "one"}, key, ("x", {}), key]
    ids = queue.enqueue_many(jobs)
    assert [ids[0], ids[1], ids[3]] == ["one", "two", "two"]
    assert queue.count_jobs()["pending"] == 3
    with pytest.raises(JobExists, match="the id two exists, with another payload"):
        queue.enqueue_many([("x", {}), {**key, "job_id": "three"}, {**key, "payload": {}}])
    assert queue.count_jobs()["pending"] == 3


@pytest.mark.parametrize(
    ("job", "words"),
    [
        ("mail", "'mail' is neither"),
        (("mail",), "is neither"),
        (("mail", {}, None, "id"), "is neither"),
        ({"type": "mail", "payload": {}}, "must have the keys job_type and payload"),
        ({"job_type": "mail"}, "must have the keys"),
        ({"job_type": "mail", "payload": {}, "delay": 3}, "it has .*'delay'"),
        (None, "None is neither"),
        ({"job_type": "x", "payload": {}, "job_id": "a b"}, "job id 'a b'"),
    ],
)
def test_a_batch_with_something_else_in_it_adds_nothing(queue: Queue, job: Any, words: str) -> None:
    """The error counts the jobs from 0 and says what a job has to be."""
    queue.enqueue("x", {})
    before = content(queue)
    with pytest.raises(InvalidJob, match=f"job 2: .*{words}"):
        queue.enqueue_many([("x", {}), ("x", {}), job, ("x", {})])
    assert content(queue) == before


def test_a_batch_whose_source_fails_adds_nothing(queue: Queue) -> None:
    """A generator over a database that breaks in the middle."""

    def jobs() -> Iterator[tuple[str, dict[str, Any]]]:
        yield "x", {}
        raise ConnectionError("lost")

    with pytest.raises(ConnectionError):
        queue.enqueue_many(jobs())
    assert content(queue) == b""


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
@pytest.mark.parametrize("call", [1, 2, 5])
def test_a_batch_broken_off_while_it_is_written_adds_nothing(
    queue: Queue, monkeypatch: pytest.MonkeyPatch, error: Any, call: int
) -> None:
    """Ctrl-C or a full disk in the middle of half a megabyte: the file is as it was before."""
    queue.enqueue("x", {})
    before = content(queue)
    calls = 0
    real = os.pwritev

    def breaking(*args: Any) -> int:
        nonlocal calls
        calls += 1
        if calls == call:
            raise error
        return real(*args)

    monkeypatch.setattr(os, "pwritev", breaking)
    with pytest.raises((KeyboardInterrupt, QueueError)):
        queue.enqueue_many([("x", {"text": "y" * 1000})] * 500)
    monkeypatch.undo()
    assert content(queue) == before
    assert len(queue.enqueue_many([("x", {"text": "y" * 1000})] * 500)) == 500
    assert queue.count_jobs()["pending"] == 501


@pytest.mark.parametrize("call", [1, 2, 5, 8])
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_batch_whose_process_is_killed_adds_all_or_nothing(
    queue: Queue, call: int, moment: str
) -> None:
    """kill -9 at one of its eight writes: also who only reads then sees no part of it."""
    first = queue.enqueue("x", {})
    calls = 0
    real = os.pwritev

    def killing(*args: Any) -> int:
        nonlocal calls
        calls += 1
        written = 0
        if calls == call and moment == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        written = real(*args)
        if calls == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return written

    def child() -> None:
        os.pwritev = killing  # type: ignore[assignment]
        queue.enqueue_many([("x", {"text": "y" * 850})] * 125)

    assert in_child(child) == -signal.SIGKILL
    expected = 126 if (call, moment) == (8, "after") else 1
    reader = Queue(queue.path, "normal")
    assert reader.count_jobs()["pending"] == expected
    assert len(list(reader.list_jobs())) == expected
    assert queue.get_job(first)["status"] == "pending"
    # The next writer sets aside what there is of it, and work goes on.
    queue.enqueue("x", {})
    assert Queue(queue.path, "normal").process_jobs({"x": bool}).completed == expected + 1
    assert len(columns(queue)) == expected + 1


# -- looking -------------------------------------------------------------------------------------


def test_get_job_gives_nine_keys_with_payload_and_result_parsed(queue: Queue) -> None:
    """As 1.0.0 did: numbers are numbers, empty error and result are None."""
    job_id = queue.enqueue("mail", {"to": "Zoë", "n": [1, None]}, NOW + 5)
    expected = {
        "id": job_id,
        "type": "mail",
        "payload": {"to": "Zoë", "n": [1, None]},
        "status": "pending",
        "created_at": NOW,
        "run_at": NOW + 5,
        "attempts": 0,
        "error": None,
        "result": None,
    }
    assert queue.get_job(job_id) == expected
    assert list(queue.get_job(job_id)) == list(COLUMNS)
    assert queue.find_job(job_id).as_dict() == expected
    assert queue.get_job("0" * 16) is None


def test_looking_at_a_queue_that_is_not_there_makes_nothing(tmp_path: Path) -> None:
    """No file, no folder; empty answers and no error."""
    queue = Queue(tmp_path / "a" / "queue.tsv")
    assert queue.get_job("x") is None
    assert list(queue.list_jobs()) == []
    assert queue.count_jobs() == ZERO
    assert queue.cancel_job("x") is False
    assert queue.retry_job("x") is False
    assert queue.prune_jobs(0) == 0
    assert list(tmp_path.iterdir()) == []


def test_list_jobs_yields_what_get_job_gives(queue: Queue) -> None:
    """In the order of the file; by status, type and limit in any combination."""
    ids = [queue.enqueue("ab"[number % 2], {"n": number}) for number in range(6)]
    for job_id in ids[:3]:
        queue.cancel_job(job_id)

    def numbers(*args: Any, **kwargs: Any) -> list[int]:
        return [job["payload"]["n"] for job in queue.list_jobs(*args, **kwargs)]

    assert list(queue.list_jobs()) == [queue.get_job(job_id) for job_id in ids]
    assert numbers() == [0, 1, 2, 3, 4, 5]
    assert numbers("cancelled") == [0, 1, 2]
    assert numbers(job_type="a") == [0, 2, 4]
    assert numbers("pending", "b", 1) == [3]
    assert numbers("failed") == numbers(job_type="c") == numbers(limit=0) == []
    assert numbers(limit=100) == [0, 1, 2, 3, 4, 5]
    assert next(queue.list_jobs())["id"] == ids[0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"status": "done"}, "status 'done': must be one of pending, processing"),
        ({"status": ""}, "status ''"),
        ({"limit": -1}, "limit -1: must be 0 or more"),
    ],
)
def test_list_jobs_refuses_what_makes_no_sense_at_once(
    queue: Queue, arguments: dict[str, Any], words: str
) -> None:
    """At the call, not when the first job is asked for."""
    with pytest.raises(ValueError, match=words):
        queue.list_jobs(**arguments)


def test_a_list_may_be_read_while_others_change_the_file(queue: Queue) -> None:
    """Each job that was there is given out once, though the table is written anew meanwhile."""
    ids = queue.enqueue_many([("x", {"text": "y" * 500}) for _ in range(2000)])
    seen = []
    for number, job in enumerate(queue.list_jobs()):
        seen.append(job["id"])
        if number % 500 == 0:
            queue.process_jobs({"x": lambda payload: "r" * 600}, limit=10)
            queue.prune_jobs(0)
            queue.enqueue("x", {})
    counts = Counter(seen)
    assert max(counts.values()) == 1
    pruned = set(ids) - {job["id"] for job in queue.list_jobs()}
    assert set(ids) - pruned <= set(seen)


def test_count_jobs_counts_each_state(queue: Queue) -> None:
    """All five, whether there are any or not; the sum is the number of rows."""
    assert queue.count_jobs() == ZERO
    ids = queue.enqueue_many([("x", {})] * 10)
    queue.cancel_job(ids[0])
    queue.process_jobs({"x": bool}, limit=4)
    queue.process_jobs({}, 1, limit=2)
    assert queue.count_jobs() == {
        "pending": 3,
        "processing": 0,
        "completed": 4,
        "failed": 2,
        "cancelled": 1,
    }


# -- the default queue ---------------------------------------------------------------------------


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory of its own, without $DBQ_FILE."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DBQ_FILE", raising=False)
    return tmp_path


def test_the_default_file_is_below_the_working_directory(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`data/queue.tsv`, made with its folder by the first job; a chdir leads to another one."""
    job_id = enqueue("x", {})
    assert Queue(here / "data" / "queue.tsv").get_job(job_id) == get_job(job_id)
    (here / "other").mkdir()
    monkeypatch.chdir(here / "other")
    assert get_job(job_id) is None
    enqueue("y", {})
    assert (here / "other" / "data" / "queue.tsv").exists()


def test_the_environment_overrides_the_default_file(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """$DBQ_FILE, looked at anew each time; empty counts as not set."""
    monkeypatch.setenv("DBQ_FILE", str(here / "env.tsv"))
    enqueue("x", {})
    assert count_jobs()["pending"] == 1
    assert (here / "env.tsv").exists()
    monkeypatch.setenv("DBQ_FILE", "")
    assert count_jobs()["pending"] == 0
    enqueue("x", {})
    assert (here / "data" / "queue.tsv").exists()


@pytest.mark.parametrize("env", [None, "env.tsv"])
@pytest.mark.parametrize("kind", [str, Path])
def test_a_program_may_assign_queue_file(
    here: Path, monkeypatch: pytest.MonkeyPatch, env: str | None, kind: Any
) -> None:
    """As programs for 1.0.0 do; what the program says goes before the environment."""
    if env:
        monkeypatch.setenv("DBQ_FILE", env)
    monkeypatch.setattr(dbbasic_queue.queue, "QUEUE_FILE", kind("mine/q.tsv"))
    job_id = enqueue("x", {})
    assert [path.name for path in here.iterdir()] == ["mine"]
    assert process_jobs({"x": bool}).completed == 1
    assert get_job(job_id)["status"] == "completed"


def test_every_function_works_on_the_default_queue(here: Path) -> None:
    """The functions are the methods of the same names."""
    ids = enqueue_many([("x", {"n": 1}), ("y", {"n": 2}, time.time() + 100)])
    assert enqueue("x", {"n": 3}, job_id="key") == "key"
    assert cancel_job(ids[1])
    assert process_jobs({"x": lambda payload: payload["n"]}) == Summary(completed=2)
    assert get_job("key")["result"] == 3
    assert [job["id"] for job in list_jobs("completed")] == [ids[0], "key"]
    assert count_jobs() == {**ZERO, "completed": 2, "cancelled": 1}
    assert retry_job(ids[1])
    assert prune_jobs(timedelta(0), ["completed"]) == 2
    assert [job["id"] for job in list_jobs()] == [ids[1]]


@pytest.mark.parametrize(
    "name",
    [
        "enqueue",
        "enqueue_many",
        "process_jobs",
        "get_job",
        "cancel_job",
        "retry_job",
        "list_jobs",
        "count_jobs",
    ],
)
def test_function_and_method_take_the_same_arguments(name: str) -> None:
    """Names, order, defaults and kinds."""
    function = inspect.signature(getattr(dbbasic_queue, name)).parameters
    method = inspect.signature(getattr(Queue, name)).parameters
    assert list(function.values()) == list(method.values())[1:]


def test_the_public_names_are_there() -> None:
    """`__all__` is complete and true; the version is the distribution's."""
    names = dbbasic_queue.__all__
    assert names == sorted(names, key=lambda name: (name.islower(), name))
    assert all(hasattr(dbbasic_queue, name) for name in names)
    errors = [getattr(dbbasic_queue, name) for name in names]
    for error in errors:
        if inspect.isclass(error) and issubclass(error, Exception):
            assert issubclass(error, QueueError)
    assert dbbasic_queue.__version__.startswith("2.")


# -- programs written for 1.0.0 ------------------------------------------------------------------


def test_the_functions_of_1_0_0_keep_their_signatures() -> None:
    """Every call that 1.0.0 took is taken, by position and by name."""
    parameters = {
        name: [
            each.name
            for each in inspect.signature(getattr(dbbasic_queue.queue, name)).parameters.values()
            if each.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
        ]
        for name in ("enqueue", "process_jobs", "get_job", "cancel_job")
    }
    assert parameters == {
        "enqueue": ["job_type", "payload", "run_at"],
        "process_jobs": ["handlers", "max_attempts"],
        "get_job": ["job_id"],
        "cancel_job": ["job_id"],
    }
    defaults = inspect.signature(process_jobs).parameters["max_attempts"].default
    assert defaults == dbbasic_queue.queue.MAX_ATTEMPTS == 3


# In the manner of the example in the README of 1.0.0: a program that enqueues, a worker for cron.
PRODUCER = """
from dbbasic_queue import enqueue

job_id = enqueue('send_email', {
    'to': 'user@example.com',
    'subject': 'Welcome',
    'body': 'Thanks for signing up!'
})
print(job_id)
"""
WORKER = """
import time
from dbbasic_queue import process_jobs

def send_email_handler(payload):
    return {'sent_at': time.time(), 'to': payload['to']}

if __name__ == '__main__':
    handlers = {
        'send_email': send_email_handler,
    }
    process_jobs(handlers, max_attempts=3)
"""
LOOKING = """
import sys, time
import dbbasic_queue.queue
from dbbasic_queue.queue import enqueue, process_jobs, get_job, cancel_job

dbbasic_queue.queue.QUEUE_FILE = 'data/queue.tsv'
job = get_job(sys.argv[1])
assert job['status'] == 'completed' and job['attempts'] == 1, job
assert job['result']['to'] == 'user@example.com' and job['error'] is None, job
later = enqueue('send_email', {}, run_at=int(time.time()) + 3600)
assert cancel_job(later) is True and cancel_job(later) is False
assert get_job(later)['error'] == 'Cancelled by user'
bad = enqueue('no_such_type', {})
process_jobs({})
job = get_job(bad)
assert job['status'] == 'pending' and 'No handler for no_such_type' in job['error'], job
assert job['run_at'] - int(time.time()) in range(110, 121), job
assert get_job('unknown') is None
"""


def test_programs_written_for_1_0_0_run_unchanged(here: Path) -> None:
    """A producer, a worker started by cron, and one that looks: each a process of its own."""

    def run(code: str, *args: str) -> str:
        return subprocess.run(
            [sys.executable, "-W", "error", "-c", code, *args],
            check=True,
            capture_output=True,
            text=True,
        ).stdout

    run(WORKER)  # cron comes before the first job
    job_id = run(PRODUCER).strip()
    run(WORKER)
    run(LOOKING, job_id)
    assert Queue("data/queue.tsv").count_jobs() == {
        **ZERO,
        "pending": 1,
        "completed": 1,
        "cancelled": 1,
    }


def test_a_file_of_1_0_0_is_worked(queue: Queue) -> None:
    """Rows without reserve, results as bare JSON, errors in its words, all five states."""
    queue.path.write_text(
        HEADER.decode()
        + "a1\tx\t{}\tpending\t5\t5\t0\t\t\n"
        + 'b2\tx\t{"n": "Zo\\u00eb"}\tpending\t5\t5\t2\tno such user\t\n'
        + 'c3\tx\t{}\tcompleted\t5\t5\t1\t\t"ok"\n'
        + "d4\tx\t{}\tcancelled\t5\t5\t0\tCancelled by user\t\n"
        + "e5\tx\t{}\tprocessing\t5\t5\t0\t\t\n"
    )
    assert queue.get_job("c3")["result"] == "ok"
    summary = queue.process_jobs({"x": lambda payload: payload.get("n", "r" * 300)})
    assert summary == Summary(completed=2, rescued=1)
    assert queue.get_job("b2")["result"] == "Zoë"
    assert queue.get_job("a1")["result"] == "r" * 300
    assert queue.get_job("e5")["error"].startswith("WorkerDied")
    assert {row[0] for row in columns(queue)} == {"a1", "b2", "c3", "d4", "e5"}


# -- threads and forks ---------------------------------------------------------------------------


def run_threads(*functions: Any) -> None:
    """Run functions at the same time, each in a thread; raise what one of them raised."""
    barrier = threading.Barrier(len(functions))
    errors: list[BaseException] = []

    def run(function: Any) -> None:
        barrier.wait()
        try:
            function()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(each,), daemon=True) for each in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "a thread hangs"
    if errors:
        raise errors[0]


def test_one_queue_may_be_used_by_many_threads(queue: Queue) -> None:
    """Adding, looking, cancelling, pruning and working at once: nothing is lost or run twice."""
    ran: list[int] = []
    added: list[str] = []

    def produce(base: int) -> None:
        for number in range(base, base + 100):
            added.append(queue.enqueue("x", {"n": number}))
        added.extend(queue.enqueue_many([("x", {"n": base + 100 + n}) for n in range(100)]))

    def consume() -> None:
        while len(ran) < 600:
            queue.process_jobs({"x": lambda payload: ran.append(payload["n"])})

    def look() -> None:
        while len(ran) < 600:
            queue.count_jobs()
            queue.prune_jobs(0, ("cancelled",))
            assert all(queue.get_job(job_id) for job_id in added[-3:])

    run_threads(*(lambda n=n: produce(n * 1000) for n in range(3)), consume, consume, consume, look)
    assert sorted(ran) == [base * 1000 + n for base in range(3) for n in range(200)]
    assert queue.count_jobs() == {**ZERO, "completed": 600}
    assert sorted(row[0] for row in columns(queue)) == sorted(added)


def test_the_same_id_from_many_threads_is_added_once(queue: Queue) -> None:
    """An idempotency key holds between threads, too."""
    for number in range(20):
        run_threads(*[lambda n=number: queue.enqueue("x", {"n": n}, job_id=f"key-{n}")] * 4)
    assert queue.count_jobs()["pending"] == 20


def test_threads_that_start_at_once_share_one_claims_file(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two descriptors would be two owners of locks: a claim could not be given back."""
    opened: list[int] = []
    real = claims.open_sibling

    def slowly(path: Path, table: Path) -> int:
        time.sleep(0.02)
        opened.append(real(path, table))
        return opened[-1]

    monkeypatch.setattr(claims, "open_sibling", slowly)
    run_threads(*[lambda: queue.process_jobs({})] * 4)
    assert len(opened) == 1


def test_a_queue_survives_a_fork(queue: Queue, diary: Diary) -> None:
    """Parent and children use the same object, also while a thread of the parent's has the lock."""
    queue.enqueue("x", {})
    stop = threading.Event()

    def busy() -> None:
        while not stop.is_set():
            queue.enqueue("parent", {})

    thread = threading.Thread(target=busy, daemon=True)
    thread.start()

    def child(number: int) -> None:
        for _ in range(20):
            queue.enqueue("child", {"n": number})
        queue.process_jobs({"x": lambda payload: diary.add("ran")}, types=["x"])
        assert queue.count_jobs()["pending"] >= 20

    children = [start(child, number) for number in range(5)]
    join(*children)
    stop.set()
    thread.join(60)
    assert diary.lines() == ["ran"]
    counts = Counter(row[1] for row in columns(queue))
    assert (counts["child"], counts["x"]) == (100, 1)
    assert counts["parent"] == queue.count_jobs()["pending"] - 100


@pytest.fixture
def diary(tmp_path: Path) -> Diary:
    return Diary(tmp_path / "diary")


def test_a_child_that_looked_first_can_work_then(queue: Queue) -> None:
    """Who has only asked for claims so far, with read access, opens the file anew to take one."""
    queue.process_jobs({})
    queue.enqueue("x", {})

    def child() -> None:
        assert not queue.engine.claims.is_held(b"a1")
        assert queue.process_jobs({"x": bool}).completed == 1

    assert in_child(child) == 0


def test_a_claim_stays_with_the_parent(queue: Queue) -> None:
    """A forked child neither holds its parent's claims nor drops them when it ends."""
    queue.enqueue("x", {})

    def handler(payload: Any) -> list[int]:
        def child() -> None:
            assert queue.process_jobs({"x": bool}) == Summary()

        return [in_child(child) for _ in range(3)]

    assert queue.process_jobs({"x": handler}) == Summary(completed=1)
    assert json.loads(columns(queue)[0][8]) == [0, 0, 0]


def test_a_queue_is_cheap_to_make(tmp_path: Path) -> None:
    """Making one opens and creates nothing, and what is gone leaves no descriptor behind."""
    gc.collect()  # what earlier tests have left
    before = len(os.listdir("/proc/self/fd"))
    queues = [Queue(tmp_path / "queue.tsv") for _ in range(1000)]
    assert list(tmp_path.iterdir()) == []
    assert len(os.listdir("/proc/self/fd")) == before
    for queue in queues[:100]:
        queue.enqueue("x", {})
        queue.process_jobs({"x": bool})
    del queue, queues
    assert len(os.listdir("/proc/self/fd")) <= before + 1
