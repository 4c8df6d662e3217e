"""D: signals to a worker."""

from __future__ import annotations

import signal
from typing import Any

import pytest
from actors import script
from working import RUN, WORKER

from dbbasic_queue import Queue

IDLE = WORKER + "\ntell('ready')\nqueue.process_jobs({'ask': ask}, linger=1000)\n"


def job_of(queue: Queue, job_id: str) -> dict[str, Any]:
    job = queue.get_job(job_id)
    assert job is not None
    return job


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["TERM", "INT"])
def test_a_signal_lets_the_job_in_hand_finish(queue: Queue, address: str, number: int) -> None:
    """It is finished and written, no more are taken, exit code 0."""
    first, second = queue.enqueue("ask", {}), queue.enqueue("ask", {})
    with script(RUN, address) as worker:
        worker.hear("started")
        worker.signal(number)
        worker.say("the answer")
        assert worker.end() == 0
    assert job_of(queue, first)["result"] == "the answer"
    assert (job_of(queue, second)["status"], job_of(queue, second)["attempts"]) == ("pending", 0)


@pytest.mark.parametrize("job_type", ["ask", "sleep", "enqueue"])
def test_a_second_signal_puts_the_job_back(queue: Queue, address: str, job_type: str) -> None:
    """Its attempt refunded, whatever the handler was doing."""
    job_id = queue.enqueue(job_type, {})
    with script(RUN, address) as worker:
        worker.hear("started 1")
        worker.signal(signal.SIGINT)
        worker.signal(signal.SIGTERM)
        assert worker.end() == 0
    job = job_of(queue, job_id)
    assert (job["status"], job["attempts"], job["error"]) == ("pending", 0, None)
    with script(RUN, address) as worker:
        worker.hear("started 1")


def test_a_signal_ends_a_worker_that_waits(queue: Queue, address: str) -> None:
    """With exit code 0; it takes no job any more."""
    with script(IDLE, address) as worker:
        worker.hear("ready")
        job_id = queue.enqueue("ask", {})
        worker.hear("started")
        worker.say("x")
        worker.hear("finished")
        worker.signal(signal.SIGTERM)
        assert worker.end() == 0
    assert job_of(queue, job_id)["status"] == "completed"
