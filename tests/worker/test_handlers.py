"""How handlers end, and what becomes of what they return and raise."""

from __future__ import annotations

import asyncio
import math
import sys
from pathlib import Path
from typing import Any

import pytest
from actors import AT_ONCE, Diary, columns
from working import run_one

from dbbasic_queue import Queue, Summary
from dbbasic_queue.errors import ConfigError
from dbbasic_queue.job import error_lines
from dbbasic_queue.worker.handlers import load, load_all

MIB = 1 << 20


@pytest.mark.parametrize(
    "result",
    [
        {"sent": 1, "to": "Zoë"},
        [1, 2.5, None, True],
        "ok",
        "",
        '"quoted"',
        "two\nlines\tand a tab\r",
        "\udcff lone",
        0,
        False,
        [],
        {},
        10**20,
        " spaces ",
    ],
)
def test_a_result_comes_back_as_it_was(queue: Queue, result: Any) -> None:
    """Whatever JSON can hold is what `get_job` gives back, falsy results included."""
    job = run_one(queue, lambda payload: result)
    assert job["status"] == "completed"
    assert job["result"] == result
    assert type(job["result"]) is type(result)


def test_no_result_is_none(queue: Queue) -> None:
    """A handler that returns nothing leaves the field empty."""
    job = run_one(queue, lambda payload: None)
    assert job["result"] is None
    assert columns(queue)[0][8] == ""


def test_a_note_is_kept_with_the_error(queue: Queue) -> None:
    """What `add_note` was told stands behind the message; what only looks like a note does not."""

    class Odd(Exception):
        __notes__ = "not a list"

    def handler(payload: Any) -> None:
        error = ValueError("no such user")
        for note in ("user 17", 4, "two\nlines", "x" * 999):
            error.__dict__.setdefault("__notes__", []).append(note)
        raise error

    def odd(payload: Any) -> None:
        raise Odd("as it is")

    lines = error_lines(run_one(queue, handler, max_attempts=1)["error"])
    assert lines[:3] == ["ValueError: no such user", "note: user 17", r"note: two\nlines"]
    assert lines[3] == f"note: {'x' * 200}"
    assert lines[4].startswith("at ")
    assert error_lines(run_one(queue, odd, max_attempts=1)["error"])[1].startswith("at ")


class AttributeDict(dict):  # type: ignore[type-arg]
    """The usual recipe: whatever is asked for, it is there, if only as None."""

    __getattr__ = dict.get


def test_a_result_is_awaited_only_if_its_type_says_so(queue: Queue) -> None:
    """A dict whose keys are attributes has no `__await__`, although it seems to have one."""
    ran: list[int] = []

    def handler(payload: Any) -> AttributeDict:
        ran.append(1)
        return AttributeDict(ok=True)

    job = run_one(queue, handler, backoff=AT_ONCE)
    assert (job["status"], job["result"], ran) == ("completed", {"ok": True}, [1])


class Changing(dict):  # type: ignore[type-arg]
    """As a dict that another thread changes while it is written."""

    def items(self) -> Any:
        raise RuntimeError("dictionary changed size during iteration")


class Unreadable:
    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __repr__(self) -> str:
        raise self.error


def circular() -> list[Any]:
    value: list[Any] = [1]
    value.append(value)
    return value


@pytest.mark.parametrize(
    ("result", "stored"),
    [
        ({1, 2}, "{1, 2}"),
        (b"bytes", "b'bytes'"),
        (math.nan, "nan"),
        ([math.inf], "[inf]"),
        (circular(), "[1, [...]]"),
        (Path("a/b"), "PosixPath('a/b')"),
        ({(1, 2): 3}, "{(1, 2): 3}"),
        (Changing(a=1), "{'a': 1}"),
        (Unreadable(ValueError()), "<Unreadable, whose repr raised ValueError>"),
        (Unreadable(SystemExit()), "<Unreadable, whose repr raised SystemExit>"),
    ],
)
def test_a_result_that_json_cannot_hold_is_stored_as_its_repr(
    queue: Queue, result: Any, stored: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The work is done, so the job is completed; a warning names it."""
    job = run_one(queue, lambda payload: result)
    assert (job["status"], job["result"]) == ("completed", stored)
    assert f"the result of x {job['id']} cannot be JSON" in caplog.text


def test_an_integer_too_long_to_be_written_does_not_undo_the_work(queue: Queue) -> None:
    """Neither JSON nor repr can write it (int_max_str_digits); the job is completed."""
    job = run_one(queue, lambda payload: 10**5000)
    assert (job["status"], job["result"]) == ("completed", "<int, whose repr raised ValueError>")


def test_a_large_result_is_stored_whole(queue: Queue) -> None:
    """A result of many sectors moves its row and comes back to the letter."""
    job = run_one(queue, lambda payload: {"text": "ä" * 100_000})
    assert job["result"] == {"text": "ä" * 100_000}
    assert len(columns(queue)) == 1


def test_a_huge_result_is_left_out_and_said_so(
    queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    """Above 1 MiB, which dbbasic-tsv's readers could not read, a note takes its place."""
    job = run_one(queue, lambda payload: "x" * MIB)
    assert job["status"] == "completed"
    assert job["result"] == f"(a result of {MIB + 3} bytes was not stored)"
    assert "not stored" in caplog.text


@pytest.mark.parametrize(
    "error",
    [
        SystemExit(3),
        SystemExit(),
        KeyboardInterrupt(),
        GeneratorExit(),
        asyncio.CancelledError(),
        StopIteration(1),
        RecursionError("deep"),
        MemoryError(),
        BaseException("base"),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("kind", ["plain", "coroutine"])
def test_whatever_a_handler_raises_is_a_failure_of_the_job_only(
    queue: Queue, error: BaseException, kind: str
) -> None:
    """Also what ends a program elsewhere: the worker goes on with the next job."""

    def plain(payload: dict[str, bool]) -> str:
        if payload["raise"]:
            raise error
        return "fine"

    async def coroutine(payload: dict[str, bool]) -> str:
        await asyncio.sleep(0)
        return plain(payload)

    first = queue.enqueue("x", {"raise": True})
    second = queue.enqueue("x", {"raise": False})
    handler = plain if kind == "plain" else coroutine
    assert queue.process_jobs({"x": handler}, 1) == Summary(completed=1, failed=1)
    # A coroutine cannot raise StopIteration: Python makes a RuntimeError of it.
    expected = type(error).__name__
    if kind == "coroutine" and isinstance(error, StopIteration):
        expected = "RuntimeError"
    assert queue.get_job(first)["error"].startswith(expected)
    assert queue.get_job(second)["result"] == "fine"


class Mute(Exception):
    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __str__(self) -> str:
        raise self.error


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(1), KeyboardInterrupt()])
def test_an_exception_that_cannot_say_what_it_is_fails_the_job_only(
    queue: Queue, error: BaseException
) -> None:
    """`__str__` raises: the error names the type, the worker lives."""

    def handler(payload: Any) -> None:
        raise Mute(error)

    job = run_one(queue, handler)
    assert job["status"] == "pending"
    assert (
        error_lines(job["error"])[0]
        == f"Mute: (its message cannot be read: {type(error).__name__})"
    )


@pytest.mark.parametrize(
    "message",
    ["two\nlines", "tab\there", "\r\n", "\x00\x1b[31m", "\u2028\x85", "\udcff", '"quoted', "Zoë"],
)
def test_an_error_is_one_readable_line(queue: Queue, message: str) -> None:
    """Whatever the message holds, the table keeps its lines and columns."""

    def handler(payload: Any) -> None:
        raise ValueError(message)

    job = run_one(queue, handler)
    assert job["error"].startswith("ValueError: ")
    assert len(job["error"].splitlines()) == 1
    assert [row[0] for row in columns(queue)] == [job["id"]]
    assert len(columns(queue)[0]) == 9


def test_a_huge_error_is_cut(queue: Queue) -> None:
    """A message of a megabyte (a whole HTML page, say) does not fill the table."""

    def handler(payload: Any) -> None:
        raise ValueError("x" * MIB)

    job = run_one(queue, handler)
    first, *places = error_lines(job["error"])
    assert len(job["error"]) <= 2000
    assert first.endswith("x…")
    assert len(first) >= 1500
    assert places


def test_a_huge_error_is_cut_before_it_is_logged(
    queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    """Also its notes, and that of the one it came from or of a member; the place is still told."""

    def handler(payload: Any) -> None:
        raise ValueError("x" * 50 * MIB)

    def chained(payload: Any) -> None:
        try:
            handler(payload)
        except ValueError as error:
            raise LookupError("short") from error

    def noted(payload: Any) -> None:
        error = ValueError("short")
        error.add_note("x" * 50 * MIB)
        raise error

    def grouped(payload: Any) -> None:
        raise ExceptionGroup("short", [ValueError("x" * 50 * MIB)])

    for each in (handler, chained, noted, grouped):
        run_one(queue, each)
    assert len(caplog.text) < 20_000
    assert caplog.text.count("in handler") == 1
    assert all(f"in {each}" in caplog.text for each in ("chained", "noted", "grouped"))


def test_the_log_says_where_a_handler_failed(
    queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    """At each attempt, from the application's own code on; none where no handler was run."""

    def handler(payload: Any) -> None:
        raise ValueError("boom")

    run_one(queue, handler)
    assert "in handler" in caplog.text
    assert "_call" not in caplog.text
    caplog.clear()
    queue.enqueue("unknown", {})
    queue.process_jobs({})
    assert "No handler for unknown" in caplog.text
    assert "Traceback" not in caplog.text


def test_a_payload_arrives_as_it_was_sent(queue: Queue) -> None:
    """Types, nesting, text of any alphabet, control characters and empty values."""
    payload = {
        "text": 'Zoë \U0001f600 \t\n\r\x00\x7f\x85\u2028 "quoted" \\ \udcff',
        "": [None, True, False, 0, -1, 1.5, 1e300, 10**30],
        "nested": {"a": [{"b": {}}], "c": []},
    }
    seen: list[Any] = []
    queue.enqueue("x", payload)
    queue.process_jobs({"x": seen.append})
    assert seen == [payload]


def test_a_spoiled_payload_fails_the_job(queue: Queue, diary: Diary) -> None:
    """A payload that is not JSON never reaches the handler; the error says what it is."""
    job_id = queue.enqueue("x", {"n": 1})
    text = queue.path.read_bytes()
    queue.path.write_bytes(text.replace(b'{"n": 1}', b'{"n": 1 '))
    assert queue.process_jobs({"x": diary.add}, 1) == Summary(failed=1)
    assert 'the payload is not JSON: {"n": 1' in queue.get_job(job_id)["error"]
    assert diary.lines() == []


def test_a_handler_that_is_no_function_fails_the_job(queue: Queue) -> None:
    """A wrong entry of the dict is an error of that job, told in its words."""
    assert "not callable" in run_one(queue, "module.function")["error"]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("source", "name", "says"),
    [
        ("import sys; sys.exit(0)", "app:HANDLERS", r"cannot load app:HANDLERS: SystemExit: 0 \("),
        ("raise GeneratorExit", "app:HANDLERS", "cannot load app:HANDLERS: GeneratorExit"),
        ("1 / 0", "app:HANDLERS", r"ZeroDivisionError: division by zero \(.*app\.py, line 1\)"),
        (
            "def greet(p): pass\nHANDLERS = {'greet': greet}",
            "app:greet",
            "app:greet is a function, not a dict of job type .*; did you mean app:HANDLERS",
        ),
        ("greet = 5", "app:greet", "app:greet is an int, not a dict of job type -> function$"),
        (
            "HANDLERS = {'a': print, 'b': None, 'c': 'print'}",
            "app:HANDLERS",
            r"app:HANDLERS: the handler for 'b' cannot be called: None\n"
            r"app:HANDLERS: the handler for 'c' cannot be called: 'print'$",
        ),
        ("HANDLERS = {5: print}", "app:HANDLERS", "the key 5 is not a string"),
        ("", "app", "must be MODULE:ATTRIBUTE"),
    ],
)
def test_handlers_that_cannot_be_used_are_a_fault_at_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, name: str, says: str
) -> None:
    """A module that ends the program, too; the message says what, where and what was meant."""
    (tmp_path / "app.py").write_text(source)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.delitem(sys.modules, "app", raising=False)
    try:
        with pytest.raises(ConfigError, match=says):
            load(name, str(tmp_path))
    finally:
        sys.modules.pop("app", None)


def test_handlers_of_several_modules_are_one_mapping(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each type has the handler of its module; a type that two have is refused, with both names."""
    (tmp_path / "app_one.py").write_text("def a(p): return 1\nHANDLERS = {'a': a}")
    (tmp_path / "app_two.py").write_text("def b(p): return 2\nHANDLERS = {'b': b, 'a': b}")
    (tmp_path / "app_three.py").write_text("def b(p): return 3\nHANDLERS = {'b': b}")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    found = load_all(["app_one:HANDLERS", "app_three:HANDLERS"], str(tmp_path))
    assert {job_type: found[job_type]({}) for job_type in found} == {"a": 1, "b": 3}
    assert found.get("c") is None
    with pytest.raises(ConfigError) as refused:
        load_all(["app_one:HANDLERS", "app_two:HANDLERS"], str(tmp_path))
    both = "both app_one:HANDLERS and app_two:HANDLERS have a handler for 'a': take one out"
    assert str(refused.value) == both


def test_a_missing_handler_is_named_among_those_there_are(queue: Queue) -> None:
    """The error of such a job lists the types that there are handlers for, not too many."""
    queue.enqueue("gret", {})
    queue.process_jobs({"greet": print, "report": print})
    (job,) = queue.list_jobs()
    assert error_lines(job["error"])[0] == (
        "LookupError: No handler for gret; there are handlers for: greet, report"
    )
    queue.enqueue("other", {})
    queue.process_jobs({f"type-{n:03}": print for n in range(100)}, types=["other"])
    (error,) = (job["error"] for job in queue.list_jobs(job_type="other"))
    assert error.endswith("type-018, type-019, ...")
