"""What producers and people ask: enqueue and its forms, keys, batches, looking."""

from __future__ import annotations

import math
import os
import re
import signal
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from actors import Clock, columns, in_child

from dbbasic_queue import (
    InvalidJob,
    JobExists,
    Queue,
    QueueError,
)
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


def test_ids_are_sixteen_characters_and_never_the_same(queue: Queue) -> None:
    """As long as those of 1.0.0, of digits and small letters."""
    ids = [queue.enqueue("x", {}) for _ in range(500)]
    ids += queue.enqueue_many([("x", {})] * 500)
    assert len(set(ids)) == 1000
    assert all(re.fullmatch("[0-9a-z]{16}", job_id) for job_id in ids)


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


def test_a_time_that_is_there_already_is_now(queue: Queue, clock: Clock) -> None:
    """`run_at=time.time()` is due at once, and not in the next second."""
    clock.now = NOW + 0.75
    job_id = queue.enqueue("x", {}, NOW + 0.5)
    assert queue.get_job(job_id)["run_at"] == NOW
    (later,) = queue.enqueue_many([("x", {}, NOW + 0.8)])
    assert queue.get_job(later)["run_at"] == NOW + 1
    assert queue.process_jobs({"x": bool}).completed == 1


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
        ("x" * 129, {}, "job type 'x"),
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
        ("x", {"a": math.nan}, r"payload\['a'\]: nan is not a JSON number"),
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
    """kill -9 at one of its eight writes: a reader then sees no part of it either."""
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
