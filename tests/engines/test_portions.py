"""A table in portions: what has not changed is not read anew."""

from __future__ import annotations

from pathlib import Path

from dbbasic_queue import Queue
from dbbasic_queue.engines.tsv.portions import BLOCK
from dbbasic_queue.job import PENDING


def test_only_what_has_changed_has_another_key(tmp_path: Path) -> None:
    """One job among thousands that changes in place changes one key, one that is added the last."""
    queue = Queue(tmp_path / "queue.tsv")
    queue.enqueue_many([("mail", {"n": n, "pad": "x" * 200}) for n in range(3000)])
    ids = [job["id"] for job in queue.list_jobs()]

    def keys() -> list[object]:
        return [portion.key for portion in queue.engine.portions([PENDING])]

    before = keys()
    assert len(before) > queue.path.stat().st_size // (2 * BLOCK) > 4
    assert keys() == before
    queue.cancel_job(ids[1500])
    cancelled = keys()
    assert sum(one != other for one, other in zip(before, cancelled, strict=True)) == 1
    queue.enqueue("mail", {})
    assert keys()[: len(cancelled) - 1] == cancelled[:-1]
    assert keys()[len(cancelled) - 1 :] != cancelled[-1:]


def test_there_is_nothing_in_a_table_that_is_not_there(tmp_path: Path) -> None:
    """A queue without a file has no portion with a job."""
    engine = Queue(tmp_path / "queue.tsv").engine
    assert not any(portion.read()[1] for portion in engine.portions([PENDING]))
