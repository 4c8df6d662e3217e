"""Jobs as spans of OpenTelemetry, from the request that enqueues one to the worker that runs it.

    queue = TracedQueue("data/queue.tsv")       # a producer's span; its context travels along
    HANDLERS = OtelHandlers({"mail": mail})     # a consumer's span, linked to that one

The context is in the payload, under `_trace`, and is taken out before the handler is called. A job
runs minutes or days after its request, and perhaps more than once, so its span is the root of a
trace of its own, linked to the producer's, as the conventions for messaging have it:
https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from opentelemetry import context, propagate, trace
from opentelemetry.trace import Link, SpanKind, Status, StatusCode, Tracer, TracerProvider

from ..job import TRACE
from ..queue import Queue
from ..version import VERSION
from ..worker.current import current_job
from ..worker.handlers import Handlers
from .wrapping import Around, is_final

SYSTEM: Final = "dbbasic_queue"


def _tracer(provider: TracerProvider | None = None) -> Tracer:
    return trace.get_tracer(SYSTEM, VERSION, provider)


class TracedQueue(Queue):
    """A `Queue` whose jobs take along which span has enqueued them."""

    def enqueue(self, job_type: str, payload: dict[str, Any], *args: Any, **options: Any) -> str:
        """Add a job, as `Queue.enqueue` does, inside of a producer's span."""
        with _sending(job_type, 1) as span:
            job_id = super().enqueue(job_type, _with_context(payload), *args, **options)
            span.set_attribute("messaging.message.id", job_id)
            return job_id

    def enqueue_many(self, jobs: Iterable[Sequence[Any] | Mapping[str, Any]]) -> list[str]:
        """Add many jobs, as `Queue.enqueue_many` does, inside of one producer's span."""
        jobs = list(jobs)
        with _sending("", len(jobs)):
            return super().enqueue_many([_job_with_context(job) for job in jobs])


class OtelHandlers(Around):
    """Handlers, each call of which is a consumer's span.

    Args:
        handlers: type -> function, or `Tasks`, or another wrapper's.
        provider: what makes spans; the application's own if None, as it is when a job begins.
    """

    def __init__(self, handlers: Handlers, provider: TracerProvider | None = None) -> None:
        super().__init__(handlers)
        self._provider = provider

    @contextmanager
    def around(self, job_type: str, payload: Any) -> Generator[Any]:
        """A span for one job, in a context with nothing in it of the job before."""
        job = current_job()
        sender = context.Context()
        if isinstance(payload, dict) and TRACE in payload:
            payload = dict(payload)
            sender = propagate.extract(_texts(payload.pop(TRACE)), sender)
        of = trace.get_current_span(sender).get_span_context()
        attributes: dict[str, Any] = {
            "messaging.system": SYSTEM,
            "messaging.operation.type": "process",
            "messaging.destination.name": job_type,
            "messaging.message.id": job.id,
            "dbq.attempt": job.attempt,
        }
        token = context.attach(context.Context())
        try:
            with _tracer(self._provider).start_as_current_span(
                f"process {job_type}",
                kind=SpanKind.CONSUMER,
                attributes=attributes,
                links=[Link(of)] if of.is_valid else [],
                record_exception=False,
                set_status_on_exception=False,
            ) as span:
                try:
                    yield payload
                except BaseException as error:
                    span.record_exception(error)
                    span.set_attribute("dbq.final", is_final(error))
                    span.set_status(Status(StatusCode.ERROR, type(error).__name__))
                    raise
        finally:
            context.detach(token)


@contextmanager
def _sending(job_type: str, count: int) -> Generator[Any]:
    attributes: dict[str, Any] = {
        "messaging.system": SYSTEM,
        "messaging.operation.type": "send",
    }
    if job_type:
        attributes["messaging.destination.name"] = job_type
    else:
        attributes["messaging.batch.message_count"] = count
    name = f"send {job_type or count}"
    with _tracer().start_as_current_span(
        name, kind=SpanKind.PRODUCER, attributes=attributes
    ) as span:
        yield span


def _with_context(payload: Any) -> Any:
    """The payload with the context of the current span; what is not a payload as it is."""
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return {**payload, TRACE: carrier} if isinstance(payload, dict) and carrier else payload


def _job_with_context(job: Any) -> Any:
    if isinstance(job, Mapping) and "payload" in job:
        return {**job, "payload": _with_context(job["payload"])}
    if isinstance(job, list | tuple) and len(job) >= 2:
        return (job[0], _with_context(job[1]), *job[2:])
    return job


def _texts(carrier: Any) -> dict[str, str]:
    """What another process has written as a context, as far as it can be one."""
    if not isinstance(carrier, dict):
        return {}
    return {key: value for key, value in carrier.items() if isinstance(value, str)}
