"""B: batches and keys."""

from __future__ import annotations

import pytest

from dbbasic_queue import InvalidJob, JobExists, Queue

NONE = dict.fromkeys(("pending", "processing", "completed", "failed", "cancelled"), 0)


def keyed(job_id: str, payload: dict[str, int], job_type: str = "x") -> dict[str, object]:
    return {"job_type": job_type, "payload": payload, "job_id": job_id}


def test_a_batch_with_a_bad_job_adds_none(queue: Queue) -> None:
    """Whatever is wrong with it, wherever it stands; the message names it."""
    for bad in (("x", []), ("", {}), ("x", {}, "soon"), keyed("no id", {}), ("x",)):
        with pytest.raises(InvalidJob, match=r"job 2: .*none was added"):
            queue.enqueue_many([("x", {}), ("y", {}), bad])  # type: ignore[list-item]
    assert queue.count_jobs() == NONE


def test_a_key_is_one_job_in_a_batch_too(queue: Queue) -> None:
    """Twice the same is one; twice another is refused, and nothing is added."""
    assert queue.enqueue_many([keyed("k", {"n": 1}), ("x", {}), keyed("k", {"n": 1})])[0] == "k"
    assert queue.count_jobs()["pending"] == 2
    for other in (keyed("k", {"n": 2}), keyed("k", {"n": 1}, "y")):
        with pytest.raises(JobExists, match="k exists"):
            queue.enqueue_many([("x", {}), keyed("new", {}), other])
        with pytest.raises(JobExists):
            queue.enqueue_many([keyed("m", {"n": 1}), {**other, "job_id": "m"}])
    assert queue.count_jobs()["pending"] == 2


def test_a_key_holds_until_its_job_is_pruned(queue: Queue) -> None:
    """Also when the job has ended."""
    queue.enqueue("x", {"n": 1}, job_id="k")
    queue.process_jobs({"x": bool})
    assert queue.enqueue("x", {"n": 1}, job_id="k") == "k"
    assert queue.count_jobs() == NONE | {"completed": 1}
    queue.prune_jobs(0)
    assert queue.enqueue("x", {"n": 2}, job_id="k") == "k"
    assert queue.count_jobs() == NONE | {"pending": 1}


def test_the_order_of_keys_in_a_payload_makes_no_other_job(queue: Queue) -> None:
    """It is the same JSON; True and 1 are not."""
    queue.enqueue("x", {"a": 1, "b": 2}, job_id="k")
    assert queue.enqueue("x", {"b": 2, "a": 1}, job_id="k") == "k"
    with pytest.raises(JobExists):
        queue.enqueue("x", {"a": True, "b": 2}, job_id="k")


def test_many_jobs_are_one_batch(queue: Queue) -> None:
    """All are there, in their order."""
    ids = queue.enqueue_many([("x", {"n": n}) for n in range(5000)])
    assert [job["id"] for job in queue.list_jobs("pending")] == ids
