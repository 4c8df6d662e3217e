"""Whether the job that bears an id already is the one that is asked for."""

from __future__ import annotations

import json

from ..errors import JobExists
from ..job import TRACE
from .interface import Order


def require_same(job_id: str, there: tuple[str, str], order: Order) -> None:
    """Raise `JobExists` unless the job that bears this id already is the one asked for.

    Args:
        job_id: of both.
        there: type, and payload as JSON text, of the one that exists.
        order: the other.
    """
    if there[0] != order.job_type:
        what = f"type {there[0]}, not {order.job_type}"
    elif not _same_json(there[1], order.payload):
        what = "another payload"
    else:
        return
    raise JobExists(f"a job with the id {job_id} exists, with {what}")


def _same_json(one: str, other: str) -> bool:
    try:
        return _normal(one) == _normal(other)
    except ValueError:
        return False


def _normal(text: str) -> str:
    """JSON with its keys in order, and without what a tracer has added.

    Compared as text, as in Python True equals 1.
    """
    value = json.loads(text)
    if isinstance(value, dict):
        value.pop(TRACE, None)
    return json.dumps(value, sort_keys=True)
