"""The log: one line an event, for people and for programs."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from actors import AT_ONCE, Clock, die, in_child

from dbbasic_queue import JsonFormatter, Queue, TextFormatter, current_job

Lines = Callable[[], list[Any]]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def queue(tmp_path: Path, clock: Clock) -> Queue:
    return Queue(tmp_path / "queue.tsv", "normal", clock=clock)


@contextmanager
def log_to(path: Path, formatter: logging.Formatter) -> Iterator[None]:
    """A strict UTF-8 log file, as a program would set one up."""
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(formatter)
    logger = logging.getLogger("dbbasic_queue")
    level = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    yield
    logger.removeHandler(handler)
    logger.setLevel(level)
    handler.close()


@pytest.fixture
def as_json(tmp_path: Path) -> Iterator[Lines]:
    """The events so far, each from a line of JSON of its own."""
    path = tmp_path / "log.json"
    with log_to(path, JsonFormatter()):
        yield lambda: [json.loads(line) for line in path.read_bytes().splitlines()]


@pytest.fixture
def as_text(tmp_path: Path) -> Iterator[Lines]:
    """The lines so far."""
    path = tmp_path / "log.txt"
    with log_to(path, TextFormatter()):
        yield lambda: path.read_text().split("\n")[:-1]


def events(lines: list[dict[str, Any]]) -> list[str]:
    return [line["event"] for line in lines]


def failing(payload: Any) -> None:
    raise ValueError("no such user")


def test_the_life_of_a_job_is_one_line_an_event(queue: Queue, as_json: Lines) -> None:
    """Enqueued, started, completed with its duration: each with the job's id and type."""
    job_id = queue.enqueue("mail", {"to": "z"})
    queue.process_jobs({"mail": lambda payload: "sent"})
    enqueued, started, completed = as_json()
    assert events([enqueued, started, completed]) == ["enqueued", "started", "completed"]
    for line in (enqueued, started, completed):
        assert (line["job_id"], line["job_type"], line["level"]) == (job_id, "mail", "info")
        assert line["pid"] == os.getpid()
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"])
    assert started["attempt"] == completed["attempt"] == 1
    assert completed["seconds"] >= 0
    assert completed["message"].startswith(f"completed mail {job_id} in ")


def test_a_retry_says_when_the_next_attempt_is(queue: Queue, clock: Clock, as_json: Lines) -> None:
    """With the reason, which attempt it was, of how many, and the next time."""
    queue.enqueue("mail", {})
    queue.process_jobs({"mail": failing})
    retried = as_json()[-1]
    assert (retried["event"], retried["level"], retried["attempt"]) == ("retried", "warning", 1)
    assert retried["run_at"] == clock.now + 120
    assert "attempt 1 of 3 failed" in retried["message"]
    assert "ValueError: no such user" in retried["message"]


def test_a_failure_has_its_traceback(queue: Queue, as_json: Lines) -> None:
    """The last attempt's exception, with the line of the handler that raised it, in one line."""
    queue.enqueue("mail", {})
    queue.process_jobs({"mail": failing}, 1)
    failed = as_json()[-1]
    assert (failed["event"], failed["level"]) == ("failed", "error")
    assert "test_log.py" in failed["traceback"]
    assert failed["traceback"].endswith("ValueError: no such user")
    assert "traceback" not in as_json()[0]


def test_every_other_event_has_its_line(queue: Queue, as_json: Lines) -> None:
    """Many enqueued, rescued, cancelled, retried by hand, pruned, put back: once each."""
    ids = queue.enqueue_many([("mail", {})] * 3)
    assert in_child(lambda: queue.process_jobs({"mail": die})) == -signal.SIGKILL
    queue.cancel_job(ids[1])
    queue.retry_job(ids[1])
    queue.process_jobs({"mail": bool}, backoff=AT_ONCE)
    queue.prune_jobs(0)
    lines = as_json()
    assert events(lines) == [
        "enqueued",
        "started",  # by the child that died
        "cancelled",
        "pending",
        "rescued",
        *["started", "completed"] * 3,
        "pruned",
    ]
    assert lines[0]["count"] == lines[-1]["count"] == 3
    assert lines[2]["job_id"] == lines[3]["job_id"] == ids[1]
    assert lines[4]["job_id"] == ids[0]
    assert "its worker died, attempt 1 of 3; it is pending now" in lines[4]["message"]


def test_nothing_is_logged_when_nothing_happened(queue: Queue, as_json: Lines) -> None:
    """A verb that changes nothing is not an event; neither is a run without work."""
    queue.enqueue("mail", {}, job_id="once")
    queue.enqueue("mail", {}, job_id="once")
    queue.process_jobs({"mail": bool})
    before = events(as_json())
    assert before == ["enqueued", "started", "completed"]
    queue.cancel_job("once")
    queue.retry_job("once")
    queue.cancel_job("unknown")
    queue.prune_jobs(1000)
    queue.process_jobs({})
    assert events(as_json()) == before


def test_a_stop_by_a_signal_is_an_event(queue: Queue, as_json: Lines) -> None:
    """The signal's number, and that the job in hand was put back."""
    before = signal.signal(signal.SIGTERM, lambda number, frame: None)
    try:
        queue.enqueue("mail", {})
        queue.process_jobs(
            {"mail": lambda payload: [signal.raise_signal(signal.SIGTERM) for _ in range(2)]}
        )
    finally:
        signal.signal(signal.SIGTERM, before)
    # "stopping" is said by a thread of its own: before the job goes back, or too late to matter.
    said = [event for event in events(as_json()) if event != "stopping"]
    assert said == ["enqueued", "started", "put back", "stopped"]
    assert "signal 15" in as_json()[-1]["message"]


def test_what_was_not_recorded_is_an_event(queue: Queue, as_json: Lines) -> None:
    """A job that another process changed while it ran: fenced."""

    def handler(payload: Any) -> None:
        text = queue.path.read_bytes()
        queue.path.write_bytes(text.replace(b"processing", b"cancelled"))

    queue.enqueue("mail", {})
    queue.process_jobs({"mail": handler})
    assert "fenced" in events(as_json())


HOSTILE = "two\nlines \udcff \x1b[31m \x00 \x85 \u2028 2026-01-01 00:00:00,000 INFO forged Zoë"


def hostile(payload: Any) -> None:
    raise ValueError(HOSTILE)


def test_json_lines_survive_any_message(queue: Queue, as_json: Lines) -> None:
    """Newlines, control characters, lone surrogates: one line, readable, and the same text."""
    queue.enqueue("mail", {})
    queue.process_jobs({"mail": hostile}, 1)
    failed = as_json()[-1]
    assert failed["event"] == "failed"
    assert failed["traceback"].endswith(f"ValueError: {HOSTILE}")


def test_json_lines_are_readable_and_safe_to_show(queue: Queue, tmp_path: Path) -> None:
    """Letters stay letters; what steers a terminal is escaped."""
    path = tmp_path / "log"
    with log_to(path, JsonFormatter()):
        queue.enqueue("mail", {})
        queue.process_jobs({"mail": hostile}, 1)
    text = path.read_text()
    assert "Zoë" in text
    assert len(text.splitlines()) == text.count("\n")
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029]", text)


def test_a_line_of_text_that_begins_with_a_time_is_an_event(queue: Queue, as_text: Lines) -> None:
    """Tracebacks are indented and escaped, so that no message can forge a line of the log."""
    queue.enqueue("mail", {})
    queue.process_jobs({"mail": hostile}, 1)
    lines = as_text()
    dated = [line for line in lines if re.match(r"\d{4}-", line)]
    assert [line.split()[4] for line in dated] == ["enqueued", "started", "failed"]
    assert dated[0].split()[2:4] == ["INFO", f"[{os.getpid()}]"]
    rest = [line for line in lines if line not in dated]
    assert rest
    assert all(line.startswith("    ") for line in rest)
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029]", "".join(lines))


def test_a_type_that_was_written_by_hand_is_escaped(queue: Queue, as_text: Lines) -> None:
    """A row may hold a type that steers a terminal; the log never does."""
    queue.enqueue("mail", {})
    with queue.path.open("ab") as table:
        table.write("h1\tevil\x1b[2J\x9b31m\u2028\t{}\tpending\t5\t5\t0\t\t\n".encode())
    queue.process_jobs({}, 1)
    lines = as_text()
    assert [line for line in lines if "evil\\x1b[2J\\x9b31m\\u2028" in line]
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029]", "".join(lines))


def test_a_record_of_another_program_is_formatted_too(tmp_path: Path) -> None:
    """The formatters may serve a whole program: fields that are not there are left out."""
    record = logging.LogRecord("app", logging.WARNING, "", 0, "%s: %d", ("hello", 3), None)
    line = json.loads(JsonFormatter().format(record))
    assert (line["message"], line["level"]) == ("hello: 3", "warning")
    assert set(line) == {"time", "level", "message", "pid"}
    assert TextFormatter().format(record).endswith("hello: 3")


def test_a_field_that_is_no_json_is_written_as_text() -> None:
    """A program that logs a Path or a date in one of the fields loses no line."""
    record = logging.LogRecord("app", logging.INFO, "", 0, "x", (), None)
    record.count = Path("a/b")
    assert json.loads(JsonFormatter().format(record))["count"] == "a/b"


def test_logging_is_left_to_the_program(queue: Queue, capfd: pytest.CaptureFixture[str]) -> None:
    """The library sets up no handler and writes nothing while nothing goes wrong."""
    assert logging.getLogger("dbbasic_queue").handlers == []
    queue.enqueue("mail", {})
    queue.process_jobs({"mail": lambda payload: current_job().id})
    assert capfd.readouterr() == ("", "")
