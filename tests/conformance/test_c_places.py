"""C: a failed attempt keeps where it happened, whatever keeps the jobs."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

import pytest
from actors import AT_ONCE
from working import run_one, where

from dbbasic_queue import Queue, current_job
from dbbasic_queue.cli.main import main
from dbbasic_queue.job import ERROR_LIMIT, error_lines

HERE = Path(__file__).name


def inner(payload: Any) -> None:
    json.loads("{")


def outer(payload: Any) -> None:
    inner(payload)


def lines_of(queue: Queue, handler: Any, **options: Any) -> list[str]:
    """The lines of the error of a job that fails at once, without the path and number of each."""
    job = run_one(queue, handler, max_attempts=1, **options)
    assert job["status"] == "failed"
    assert len(job["error"]) <= ERROR_LIMIT
    return [line.replace(f"{Path(__file__).parent}/", "") for line in error_lines(job["error"])]


def test_an_error_says_where_it_was_raised(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    """The application's own files, from the worker's folder on, and nothing of Python's or ours."""
    monkeypatch.chdir(Path(__file__).parent)
    first, *places = lines_of(queue, outer)
    assert first.startswith("JSONDecodeError: Expecting property name")
    number = inner.__code__.co_firstlineno + 1
    assert places[1] == f"at {HERE}:{number} in inner"
    assert [place.rpartition(" ")[2] for place in places] == ["outer", "inner"]


def test_a_coroutine_says_so_too(queue: Queue) -> None:
    """Without the event loop's own frames."""

    async def handler(payload: Any) -> None:
        await asyncio.sleep(0)
        outer(payload)

    _, *places = lines_of(queue, handler)
    assert [place.rpartition(" ")[2] for place in places] == ["handler", "outer", "inner"]
    assert all(HERE in place for place in places)


def test_a_group_names_its_members(queue: Queue) -> None:
    """Each with its place, and groups in groups."""

    async def fail(error: Exception) -> None:
        raise error

    async def handler(payload: Any) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(fail(KeyError("a")))
            group.create_task(fail(ExceptionGroup("more", [ValueError("b")])))

    lines = lines_of(queue, handler)
    assert lines[0] == "ExceptionGroup: unhandled errors in a TaskGroup (2 sub-exceptions)"
    for name in ("+ KeyError: 'a'", "+ ExceptionGroup: more (1 sub-exception)", "+ ValueError: b"):
        assert name in [line.strip() for line in lines]
    assert sum(line.strip().endswith(" in fail") for line in lines) == 2


def test_the_cause_is_named(queue: Queue) -> None:
    """As `raise ... from` says it."""

    def handler(payload: Any) -> None:
        try:
            {}["x"]
        except KeyError as error:
            raise RuntimeError("no user") from error

    assert lines_of(queue, handler)[:2] == ["RuntimeError: no user", "from KeyError: 'x'"]


@pytest.mark.parametrize("length", [10, 1400, 1700, 5000])
def test_a_long_message_leaves_room_for_the_place(queue: Queue, length: int) -> None:
    """2,000 characters in all."""

    def handler(payload: Any) -> None:
        raise ValueError("ä" * length)

    first, *places = lines_of(queue, handler)
    assert first.startswith("ValueError: ää")
    assert places
    assert places[-1].endswith("in handler")


def test_a_deep_recursion_keeps_its_last_frames(queue: Queue) -> None:
    """Not all thousand of them."""

    def handler(payload: Any) -> None:
        handler(payload)

    first, *places = lines_of(queue, handler)
    assert first.startswith("RecursionError")
    assert 1 <= len(places) <= 4


def test_list_shows_the_first_line_and_show_all(
    queue: Queue, address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """`list --json` and `get_job` have it as it stands."""
    job = run_one(queue, outer, max_attempts=1)
    assert main(["list", *where(address)]) == 0
    listed = capsys.readouterr().out
    assert "JSONDecodeError: Expecting" in listed
    assert " in inner" not in listed
    assert main(["show", job["id"], *where(address)]) == 0
    shown = capsys.readouterr().out.splitlines()
    start = next(n for n, line in enumerate(shown) if line.startswith("error "))
    assert shown[start + 1].startswith("          at ")
    assert shown[start + 2].endswith(" in inner")


def test_every_failed_attempt_is_in_the_log_whole(
    queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    """Its traceback, not only that of the last."""
    caplog.set_level(logging.WARNING)
    queue.enqueue("x", {})
    queue.process_jobs({"x": outer}, 3, backoff=AT_ONCE)
    tracebacks = [record.exc_text or "" for record in caplog.records if record.exc_info]
    assert len(tracebacks) == 3
    assert caplog.text.count("json/decoder.py") >= 3


def test_a_handler_sees_the_error_of_the_attempt_before(queue: Queue) -> None:
    """All of it, and a completed job has none."""
    seen: list[str | None] = []

    def handler(payload: Any) -> None:
        seen.append(current_job().error)
        if current_job().attempt == 1:
            outer(payload)

    job = run_one(queue, handler, backoff=AT_ONCE)
    assert (job["status"], job["error"]) == ("completed", None)
    assert seen[0] is None
    assert seen[1] is not None
    assert seen[1].endswith(" in inner")
