"""Coroutine handlers: one event loop for all jobs of a run.

What a job has opened in the loop, a connection perhaps, is there for the next one, whether the job
succeeded or failed; the tasks that it has left behind are cancelled. This module is imported when
the first coroutine comes: asyncio is slow to import.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from asyncio import base_events, events
from collections.abc import Awaitable
from contextlib import suppress
from contextvars import Context
from types import FrameType
from typing import Any, Final

from ..engines import interface

log = logging.getLogger("dbbasic_queue")

PATIENCE: Final = 5.0  # seconds that cancelled tasks have to end


class Loop:
    """An event loop, made by the first coroutine."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner()
        self._files: dict[int, tuple[int, int]] = {}  # that the loop waits by, as they were opened
        self._pid = os.getpid()

    def close(self) -> None:
        """Close the loop, if one was made: what makes them, a policy of a job's, may fail."""
        if self._files:
            self._whole_loop()
        if events._get_running_loop() is None:
            self._runner.close()
        else:  # which cannot be left to run another for a moment
            thread = threading.Thread(target=self._runner.close, daemon=True)
            thread.start()
            thread.join()

    def run(self, awaitable: Awaitable[Any], context: Context) -> Any:
        """Return what `awaitable` returns, or raise what it raises.

        In a thread whose own event loop is running, which cannot be entered again, the coroutine
        runs in another thread meanwhile.
        """
        if events._get_running_loop() is not None:
            return self._run_beside(awaitable, context)
        before = asyncio.all_tasks(self._whole_loop())
        runner = self._runner
        try:
            return runner.run(_wait_for(awaitable), context=context)
        finally:
            # A child must not touch what it shares, nor this a loop that was dropped meanwhile.
            if os.getpid() == self._pid and runner is self._runner:
                self._end_tasks(before)

    def _whole_loop(self) -> asyncio.AbstractEventLoop:
        """The loop; a new one if a handler has closed the files that it waits by.

        The old one is kept as it is: to close it would close whatever has their numbers now.
        """
        loop = self._runner.get_loop()
        if self._files and _files_of(loop) != self._files:
            _lost.append(self._runner)
            loop._closed = True  # type: ignore[attr-defined]  # so that its end does not close it
            self._runner, self._files = asyncio.Runner(), {}
            loop = self._runner.get_loop()
        self._files = self._files or _files_of(loop)
        return loop

    def _end_tasks(self, before: set[asyncio.Task[Any]]) -> None:
        """Cancel the tasks that were not there before; a loop in which they go on is dropped."""
        loop = self._runner.get_loop()
        left = asyncio.all_tasks(loop) - before
        if not left:
            return
        if self._whole_loop() is not loop:  # its files are closed: nothing goes on in it
            _give_up(loop)
            return
        for task in left:
            task.cancel()
        try:
            _, left = loop.run_until_complete(asyncio.wait(left, timeout=PATIENCE))
        finally:
            if left:
                self._drop()
                _give_up(loop)
                loop.close()

    def _drop(self) -> None:
        log.warning("a new event loop for the next job: tasks of this one did not end")
        self._runner, self._files = asyncio.Runner(), {}

    def _run_beside(self, awaitable: Awaitable[Any], context: Context) -> Any:
        answer: list[Any] = []
        failure: list[BaseException] = []
        tasks: list[asyncio.Task[Any] | None] = []
        told: list[bool] = []  # to break off, perhaps before the task was there
        # Not `join`: broken off by an exception, that of CPython 3.11 and 3.12 takes the thread
        # for ended, and does not wait for it any more.
        ended = threading.Event()

        async def noted() -> Any:
            tasks.append(asyncio.current_task())
            if told:
                if asyncio.iscoroutine(awaitable):
                    awaitable.close()
                raise asyncio.CancelledError
            return await awaitable

        def run() -> None:
            try:
                answer.append(self.run(noted(), context))
            except BaseException as error:
                failure.append(error)
            finally:
                ended.set()

        thread = threading.Thread(target=run, name="dbbasic_queue coroutine", daemon=True)
        thread.start()
        try:
            ended.wait()
        except BaseException:  # a signal: break the coroutine off, too
            told.append(True)
            for task in tasks:
                if task is not None:
                    task.get_loop().call_soon_threadsafe(task.cancel)
            if not ended.wait(PATIENCE):
                self._drop()
            raise
        if failure:
            raise failure[0]
        return answer[0]


_lost: Final[list[asyncio.Runner]] = []


def _files_of(loop: asyncio.AbstractEventLoop) -> dict[int, tuple[int, int]]:
    found = {}
    for name in ("_selector", "_ssock", "_csock"):  # of asyncio's own loops
        if (file := getattr(loop, name, None)) is not None:
            with suppress(OSError):
                status = os.fstat(file.fileno())
                found[file.fileno()] = status.st_dev, status.st_ino
    return found


async def _wait_for(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


def _give_up(loop: asyncio.AbstractEventLoop) -> None:
    """Keep asyncio from telling of tasks of ours as destroyed; of a handler's own it does."""
    for task in asyncio.all_tasks(loop):
        if getattr(task.get_coro(), "cr_code", None) in _OWN_TASKS:
            task._log_destroy_pending = False  # type: ignore[attr-defined]


_OWN_TASKS: Final = (_wait_for.__code__, asyncio.wait.__code__)


# The loop's own code, which an exception of a signal would leave in disorder. What it calls, a
# task or the wait for events, may be broken off.
_LOOP_CODE: Final = frozenset(
    function.__code__
    for function in (
        base_events.BaseEventLoop._run_once,  # type: ignore[attr-defined]
        base_events.BaseEventLoop.run_forever,
        base_events.BaseEventLoop.run_until_complete,
        events.Handle._run,
        asyncio.Runner.run,
    )
)


def _is_at_work(frame: FrameType | None) -> bool:
    return frame is not None and frame.f_code in _LOOP_CODE


interface.guards.append(_is_at_work)
