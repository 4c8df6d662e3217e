"""Jobs as spans: a producer's and a worker's, which are linked."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("opentelemetry.sdk", reason="opentelemetry-sdk is not installed")

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from dbbasic_queue import InvalidJob, Queue
from dbbasic_queue.integrations import otel
from dbbasic_queue.integrations.otel import OtelHandlers, TracedQueue
from dbbasic_queue.tasks import Tasks

APPLICATION = """
import os
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter
from dbbasic_queue.integrations.otel import OtelHandlers

out = open(f"spans-{os.getpid()}.json", "w")
provider = TracerProvider()
exporter = ConsoleSpanExporter(out=out, formatter=lambda span: span.to_json(indent=None) + "\\n")
provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=60_000))
trace.set_tracer_provider(provider)


def greet(payload):
    trace.get_current_span().set_attribute("n", payload["n"])
    return sorted(payload)


HANDLERS = OtelHandlers({"greet": greet})
"""


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """The spans that are made in this process."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(otel, "_tracer", lambda other=None: provider.get_tracer("test"))
    return exporter


@pytest.fixture
def queue(path: Path) -> TracedQueue:
    return TracedQueue(path, "normal")


def named(spans: InMemorySpanExporter, name: str) -> list[Any]:
    """The spans of one name that have ended."""
    return [span for span in spans.get_finished_spans() if span.name == name]


def test_a_job_is_linked_to_what_has_enqueued_it(
    queue: TracedQueue, spans: InMemorySpanExporter
) -> None:
    """The context travels in the payload, and is taken out before the handler is called."""
    seen: list[Any] = []
    job_id = queue.enqueue("mail", {"to": "zoe"})
    assert set(queue.get_job(job_id)["payload"]) == {"to", "_trace"}
    assert queue.process_jobs(OtelHandlers({"mail": seen.append})).completed == 1
    assert seen == [{"to": "zoe"}]
    (sent,), (processed,) = named(spans, "send mail"), named(spans, "process mail")
    (link,) = processed.links
    assert link.context.span_id == sent.context.span_id
    assert processed.context.trace_id != sent.context.trace_id
    assert (
        processed.attributes["messaging.message.id"]
        == job_id
        == sent.attributes["messaging.message.id"]
    )
    assert (sent.kind.name, processed.kind.name) == ("PRODUCER", "CONSUMER")


def test_what_is_enqueued_in_a_handler_is_linked_to_that_job(
    queue: TracedQueue, spans: InMemorySpanExporter
) -> None:
    """A job's own spans are below its span, and nothing of one job is in the next one's."""

    def first(payload: Any) -> None:
        assert trace.get_current_span().get_span_context().is_valid
        queue.enqueue("second", {})

    seen: list[Any] = []
    handlers = OtelHandlers({"first": first, "second": seen.append, "plain": seen.append})
    queue.enqueue("first", {})
    Queue(queue.path).enqueue("plain", {"n": 1})  # by a program that knows of no spans
    assert queue.process_jobs(handlers).completed == 3
    (job,), (sent,) = named(spans, "process first"), named(spans, "send second")
    assert sent.parent.span_id == job.context.span_id
    (plain,) = named(spans, "process plain")
    assert (plain.links, plain.parent) == ((), None)
    assert len({span.context.trace_id for span in spans.get_finished_spans()}) == 4
    assert not trace.get_current_span().get_span_context().is_valid


def test_failures_are_in_the_span(queue: TracedQueue, spans: InMemorySpanExporter) -> None:
    """A span says what was raised, and whether another attempt follows."""

    async def fail(payload: Any) -> None:
        await asyncio.sleep(0)
        raise ValueError("no such user")

    queue.enqueue("fail", {})
    handlers = OtelHandlers({"fail": fail})
    assert queue.process_jobs(handlers, 2, backoff=lambda attempts: 0).failed == 1
    one, two = named(spans, "process fail")
    assert [span.status.status_code.name for span in (one, two)] == ["ERROR", "ERROR"]
    assert [span.attributes["dbq.final"] for span in (one, two)] == [False, True]
    assert one.events[0].attributes["exception.message"] == "no such user"


def test_many_jobs_have_one_span(queue: TracedQueue, spans: InMemorySpanExporter) -> None:
    """All jobs of a batch are linked to it; a wrong job is refused as ever."""
    jobs: list[Any] = [("mail", {"n": 1}), {"job_type": "mail", "payload": {"n": 2}}]
    assert len(queue.enqueue_many(jobs)) == 2
    with pytest.raises(InvalidJob, match="job 1: "):
        queue.enqueue_many([("mail", {}), "mail"])
    queue.process_jobs(OtelHandlers({"mail": lambda payload: payload["n"]}))
    batch = named(spans, "send 2")[0]
    links = [span.links[0].context.span_id for span in named(spans, "process mail")]
    assert links == [batch.context.span_id] * 2


def test_an_id_still_means_the_same_job(queue: TracedQueue, spans: InMemorySpanExporter) -> None:
    """A producer that repeats itself adds nothing, although each of its spans is another one."""
    assert queue.enqueue("bill", {"n": 1}, job_id="bill-1") == "bill-1"
    assert queue.enqueue("bill", {"n": 1}, job_id="bill-1") == "bill-1"
    assert Queue(queue.path).enqueue("bill", {"n": 1}, job_id="bill-1") == "bill-1"
    assert len(list(queue.list_jobs())) == 1


def test_typed_tasks_are_traced(queue: TracedQueue, spans: InMemorySpanExporter) -> None:
    """A task's function gets its own arguments only, and a coroutine's span lasts to its end."""
    tasks = Tasks(queue)

    @tasks.task
    async def greet(name: str) -> bool:
        await asyncio.sleep(0)
        return trace.get_current_span().get_span_context().is_valid

    job_id = asyncio.run(greet.aenqueue("Zoë"))
    assert queue.process_jobs(OtelHandlers(tasks)).completed == 1
    assert queue.get_job(job_id)["result"] is True
    assert len(named(spans, "process greet")[0].links) == 1


@pytest.mark.parametrize("carrier", [None, 7, "x", {"traceparent": 7}, {"traceparent": "00-x"}])
def test_what_others_write_as_context_harms_nothing(
    queue: TracedQueue, spans: InMemorySpanExporter, carrier: Any
) -> None:
    """A context that is none is taken out all the same."""
    seen: list[Any] = []
    Queue(queue.path).enqueue("mail", {"to": "zoe", "_trace": carrier})
    assert queue.process_jobs(OtelHandlers({"mail": seen.append})).completed == 1
    assert seen == [{"to": "zoe"}]
    assert named(spans, "process mail")[0].links == ()


def test_two_processes_lose_no_span(tmp_path: Path) -> None:
    """Each process sends what it has left when it ends: 4 of 4 spans, all linked."""
    (tmp_path / "app.py").write_text(APPLICATION)
    enqueue = (
        "from app import provider; from dbbasic_queue.integrations.otel import TracedQueue\n"
        "queue = TracedQueue('queue.tsv')\n"
        "for n in range(4): queue.enqueue('greet', {'n': n})"
    )
    work = ["-m", "dbbasic_queue", "work", "app:HANDLERS", "--file", "queue.tsv"]
    for command in (["-c", enqueue], [*work, "--concurrency", "2"]):
        done = subprocess.run(
            [sys.executable, *command],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(tmp_path)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
    found = [
        json.loads(line)
        for file in sorted(tmp_path.glob("spans-*.json"))
        for line in file.read_text().splitlines()
    ]
    sent = {span["context"]["span_id"] for span in found if span["name"] == "send greet"}
    processed = [span for span in found if span["name"] == "process greet"]
    assert len(sent) == len(processed) == 4
    assert {span["links"][0]["context"]["span_id"] for span in processed} == sent
    assert sorted(span["attributes"]["n"] for span in processed) == [0, 1, 2, 3]
    assert len({span["context"]["trace_id"] for span in processed}) == 4
    results = [job["result"] for job in Queue(tmp_path / "queue.tsv").list_jobs()]
    assert results == [["n"]] * 4
