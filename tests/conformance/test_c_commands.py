"""C: a program as a job, whatever keeps the jobs."""

from __future__ import annotations

from dbbasic_queue import Command, Queue
from dbbasic_queue.job import error_lines


def test_a_command_is_run_and_its_end_is_kept(queue: Queue) -> None:
    """The exit status and the output, or the error that says how it ended."""
    handlers = {
        "say": Command(["printf", "%s", "--", "{what}"]),
        "fail": Command(["sh", "-c", "echo full >&2; exit 3"]),
    }
    what = "'; $(reboot)\n\t\"\\u2603"
    said, failed = queue.enqueue("say", {"what": what}), queue.enqueue("fail", {})
    missing = queue.enqueue("say", {})
    summary = queue.process_jobs(handlers, max_attempts=2)
    assert (summary.completed, summary.retried, summary.failed) == (1, 1, 1)
    assert queue.get_job(said)["result"] == {"exit": 0, "output": "--" + what}
    assert (
        error_lines(queue.get_job(failed)["error"])[0] == "CommandFailed: sh: exit status 3: full"
    )
    assert error_lines(queue.get_job(missing)["error"])[0] == "Discard: printf: what: is missing"
