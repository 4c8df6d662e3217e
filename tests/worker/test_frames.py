"""Where a signal must not break in, and what it leaves of a run and of its log."""

from __future__ import annotations

import logging
import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from dbbasic_queue import Queue, Summary
from dbbasic_queue.engines import interface
from dbbasic_queue.worker import handlers, signals
from dbbasic_queue.worker.loop import Worker
from dbbasic_queue.worker.options import Options
from dbbasic_queue.worker.signals import StopSignals, TimeLimit, _may_break


def test_a_break_is_put_off_while_a_time_limit_begins_or_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also in what the limit calls: the frames below the one that was interrupted count."""
    may: list[bool] = []

    def setitimer(*args: Any) -> tuple[float, float]:
        may.append(_may_break(sys._getframe()))
        return 0.0, 0.0

    monkeypatch.setattr(signal, "setitimer", setitimer)
    with TimeLimit(60):
        assert _may_break(sys._getframe())
    assert may == [False, False]


def test_a_guard_of_an_engine_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine says which frames of its own an exception must not break into."""
    asked: list[FrameType | None] = []
    monkeypatch.setattr(interface, "guards", [lambda frame: bool(asked.append(frame) or True)])
    assert not _may_break(sys._getframe())
    assert len(asked) == 1


class Lock:
    """Notes whether a break may come where it is taken and given back."""

    def __init__(self) -> None:
        self.may: list[bool] = []

    def acquire(self) -> None:
        self.may.append(_may_break(sys._getframe(1)))

    release = __enter__ = acquire

    def __exit__(self, *error: object) -> None:
        self.may.append(_may_break(sys._getframe(1)))


def test_the_lock_of_a_log_is_not_left_taken() -> None:
    """What the log then does, over a network perhaps, may be broken off."""
    may: list[bool] = []

    class Log(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            may.append(_may_break(sys._getframe()))

    log, lock = Log(), Lock()
    log.lock = lock  # type: ignore[assignment]
    log.handle(logging.makeLogRecord({}))
    assert (lock.may, may) == ([False, False], [True])


def test_a_break_at_a_bad_moment_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second signal amid such code is not lost: it comes again a moment later."""
    monkeypatch.setattr(signals, "_may_break", lambda frame: False)
    started: list[Any] = []
    monkeypatch.setattr(signals._thread, "start_new_thread", lambda *args: started.append(args))
    stop = StopSignals()
    stop.interruptible = True
    stop.break_off(signal.SIGTERM, None)
    assert [args[1] for args in started] == [(signal.SIGTERM,)]


def test_between_two_handlers_nothing_is_broken_off(queue: Queue) -> None:
    """What a second signal would break off is a handler that runs, and nothing else."""
    queue.enqueue("x", {})
    stop = StopSignals()
    during: list[bool] = []
    does = {"x": lambda payload: during.append(stop.interruptible)}
    worker = Worker(queue.engine, does, Options(), stop)
    assert worker.run(queue.engine.seat()) == Summary(completed=1)
    assert during == [True]
    assert not stop.interruptible


def test_a_job_that_was_broken_off_is_not_counted_as_retried(queue: Queue) -> None:
    """Its attempt is given back, so that the run has done nothing with it."""
    queue.enqueue("x", {})
    stop = StopSignals()

    def handler(payload: Any) -> None:
        stop.on_signal(signal.SIGTERM)
        stop.on_signal(signal.SIGTERM)

    worker = Worker(queue.engine, {"x": handler}, Options(), stop)
    assert worker.run(queue.engine.seat()) == Summary(stopped=signal.SIGTERM)
    assert queue.count_jobs()["pending"] == 1


def test_a_program_that_a_signal_has_stopped_ends_with_0() -> None:
    """A program without a handler of its own ends; one with a handler has it called."""
    stop, heard = StopSignals(), []
    stop.received = signal.SIGTERM
    stop._before = {signal.SIGTERM: signal.SIG_DFL}
    with pytest.raises(SystemExit) as ended:
        stop.pass_on()
    assert ended.value.code == 0
    stop._before = {signal.SIGTERM: lambda *args: heard.append(args)}
    stop.pass_on()
    assert heard == [(signal.SIGTERM, None)]


def test_the_log_of_a_job_s_last_failure_says_where(
    queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    """The traceback is there when the job is given up, as it is when it is tried again."""

    def handler(payload: Any) -> None:
        raise ValueError("boom")

    queue.enqueue("x", {})
    queue.process_jobs({"x": handler}, 1)
    assert "in handler" in caplog.text


def test_a_folder_of_handlers_comes_behind_python_s_own_modules(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A file json.py of the application's does not take the place of Python's."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    handlers._put_on_path(str(tmp_path))
    assert sys.path.index(str(tmp_path)) > sys.path.index(os.path.dirname(os.__file__))
