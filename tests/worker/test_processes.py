"""A crew of worker processes: what the command's tests do not reach."""

from __future__ import annotations

import logging
import os
import signal

import pytest

from dbbasic_queue.worker.loop import Summary
from dbbasic_queue.worker.processes import WorkerProcesses
from dbbasic_queue.worker.signals import StopSignals


def test_summaries_are_added_up() -> None:
    """What the children did is one summary, and none failed."""
    crew = WorkerProcesses(3, lambda number, signals: Summary(completed=number, failed=1))
    assert crew.run() == (Summary(completed=3, failed=3), 0)


def test_a_child_that_raises_is_counted_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    """An exception in a child is one failure; the others' work counts."""

    def work(number: int, signals: StopSignals) -> Summary:
        if number == 0:
            raise OSError("disk full")
        return Summary(completed=1)

    with caplog.at_level(logging.CRITICAL):
        assert WorkerProcesses(2, work).run() == (Summary(completed=1), 1)


def test_a_killed_child_is_counted() -> None:
    """A child that a signal ends is told from one that fails."""

    def work(number: int, signals: StopSignals) -> Summary:
        if number == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return Summary(completed=1)

    crew = WorkerProcesses(2, work)
    assert crew.run() == (Summary(completed=1), 0)
    assert crew.killed == 1


def test_the_programs_own_signal_handlers_come_back() -> None:
    """After a crew, SIGTERM and SIGINT mean what they meant before."""
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    WorkerProcesses(1, lambda number, signals: Summary()).run()
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


def test_programs_of_a_handler_die_of_sigterm() -> None:
    """What a handler starts does not inherit the crew's deafness."""

    def work(number: int, signals: StopSignals) -> Summary:
        child = os.fork()
        if child == 0:
            os.execvp("sleep", ["sleep", "60"])
        os.kill(child, signal.SIGTERM)
        _, status = os.waitpid(child, 0)
        return Summary(completed=os.WTERMSIG(status))

    summary, _ = WorkerProcesses(1, work).run()
    assert summary.completed == signal.SIGTERM


def test_what_a_handler_forks_does_not_hold_the_crew_up() -> None:
    """A daemon of a handler inherits the pipe of the child; the crew ends all the same."""
    daemons, out = os.pipe()

    def work(number: int, signals: StopSignals) -> Summary:
        daemon = os.fork()
        if daemon == 0:
            signal.pause()
        os.write(out, b"%d\n" % daemon)
        return Summary(completed=1)

    try:
        assert WorkerProcesses(1, work).run() == (Summary(completed=1), 0)
    finally:
        os.kill(int(os.read(daemons, 100)), signal.SIGKILL)
