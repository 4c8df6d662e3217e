"""What handlers log: each record with its job, for programs that run a worker themselves."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from dbbasic_queue import JobFields, Queue, TextFormatter
from dbbasic_queue.worker.records import keep


class Kept(logging.Handler):
    """Keeps the records."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.fixture
def kept() -> Iterator[Kept]:
    """At the logger of an application."""
    handler = Kept()
    log = logging.getLogger("shop")
    log.addHandler(handler)
    yield handler
    log.removeHandler(handler)


def job_of(record: logging.LogRecord) -> tuple[object, object]:
    return getattr(record, "job_id", None), getattr(record, "job_type", None)


def run(folder: Path) -> None:
    """Run a job that logs, and log something before and after it."""
    log = logging.getLogger("shop")
    queue = Queue(folder / "queue.tsv", "normal")

    def greet(payload: object) -> None:
        log.error("in it")
        log.error("with its own", extra={"job_id": "mine"})
        queue.enqueue("other", {}, job_id="other")

    queue.enqueue("greet", {}, job_id="g")
    log.error("before")
    queue.process_jobs({"greet": greet}, types=["greet"])
    log.error("after")


def test_a_filter_notes_the_job(tmp_path: Path, kept: Kept) -> None:
    """In a handler, and nowhere else; what a record has already stays."""
    kept.addFilter(JobFields())
    run(tmp_path)
    jobs = [job_of(record) for record in kept.records]
    assert jobs == [(None, None), ("g", "greet"), ("mine", "greet"), (None, None)]


def test_the_workers_log_gets_copies(tmp_path: Path, kept: Kept) -> None:
    """With the job's own id; the application's handlers get theirs; it ends when it is ended."""
    outlet = Kept()
    end = keep(outlet)
    try:
        run(tmp_path)
    finally:
        end()
    assert [record.getMessage() for record in outlet.records] == ["in it", "with its own"]
    assert {job_of(record) for record in outlet.records} == {("g", "greet")}
    assert not {id(record) for record in outlet.records} & {id(each) for each in kept.records}
    assert [record.getMessage() for record in kept.records] == [
        *("before", "in it", "with its own", "after"),
    ]
    (tmp_path / "again").mkdir()
    run(tmp_path / "again")
    assert len(outlet.records) == 2


def test_a_line_names_the_logger_and_the_job() -> None:
    """A record of a handler has both before its message, on one line, and keeps its message."""
    record = logging.LogRecord("shop", 40, "", 0, "two\nlines", (), None)
    plain = TextFormatter().format(record)
    assert plain.endswith("] two\\nlines")
    record.__dict__["job_id"] = "g"
    record.stack_info = "Stack:\n  File"
    assert TextFormatter().format(record).endswith("] shop g: two\\nlines\n    Stack:\n      File")
    assert record.message == "two\nlines"
