"""A job: its states, its transitions, and what may become one.

pending ──claim──▶ processing ──▶ completed
   ▲                   │ ├──────▶ failed
   │ retry later,      │ │
   └── rescue, refund ─┘ │
cancelled ◀── pending    └ (attempts used up)
cancelled ◀── processing    (asked for while it ran)
failed, cancelled ──retry──▶ pending

A type, a payload, an id or a time that a job cannot have is refused in words, before anything is
written.
"""

from __future__ import annotations

import functools
import math
import re
from datetime import datetime
from typing import Any, Final, NamedTuple

from .errors import IllegalTransition, InvalidJob
from .support.text import dump_json, escape_control, shown

PENDING: Final = "pending"
PROCESSING: Final = "processing"
COMPLETED: Final = "completed"
FAILED: Final = "failed"
CANCELLED: Final = "cancelled"

STATUSES: Final = (PENDING, PROCESSING, COMPLETED, FAILED, CANCELLED)
FINISHED: Final = (COMPLETED, FAILED, CANCELLED)

TRANSITIONS: Final[dict[str, frozenset[str]]] = {
    PENDING: frozenset({PROCESSING, CANCELLED}),
    PROCESSING: frozenset({COMPLETED, FAILED, PENDING, CANCELLED}),
    COMPLETED: frozenset(),
    FAILED: frozenset({PENDING}),
    CANCELLED: frozenset({PENDING}),
}


TYPE_LIMIT: Final = 128  # characters: the module path of a function fits
PAYLOAD_LIMIT: Final = 1 << 20  # bytes; dbbasic-tsv's readers stop at 2 MiB a field
TRACE: Final = "_trace"  # the key of a payload under which a tracer's context travels
ERROR_LIMIT: Final = 2000  # characters of an error kept in the table; the log has the traceback
NEXT_LINE: Final = r"\n  "  # in an error, before each line of where the attempt failed
QUOTED: Final = 200  # characters of a payload that is not JSON, in the error of its job
TIME_LIMIT: Final = 10**11  # Unix seconds: the year 5138, far beyond any job and any typing error

_CONTAINERS: Final = (dict, list, tuple)  # what JSON nests; made once, as `dict | list` is not
_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_PLAIN_TYPE: Final = re.compile(r"[A-Za-z0-9_.:/-]{1,128}")


def may(old: str, new: str) -> bool:
    """Whether a job in state `old` may enter state `new`.

    >>> may("pending", "processing"), may("completed", "pending")
    (True, False)
    """
    return new in TRANSITIONS[old]


def require(job_id: bytes, old: str, new: str) -> None:
    """Raise `IllegalTransition` unless a job may go from `old` to `new`."""
    if new not in TRANSITIONS[old]:
        raise IllegalTransition(f"job {job_id.decode()} is {old}: it cannot become {new}")


class Job(NamedTuple):
    """One job, as its row says.

    `created_at` and `run_at` are Unix seconds. `run_at` is when the job is due while it is
    pending, when this attempt began while it is processing, and when it ended afterwards.
    `attempts` counts the attempts begun so far, the one in hand included.
    """

    id: str
    type: str
    payload: Any
    status: str
    created_at: int
    run_at: int
    attempts: int
    error: str | None = None
    result: Any = None

    @property
    def attempt(self) -> int:
        """Which try this is, counted from 1 (the same number as `attempts`)."""
        return self.attempts

    def as_dict(self) -> dict[str, Any]:
        """The dict of nine keys that `get_job` returns.

        >>> Job("a1", "mail", {"to": "z"}, "pending", 5, 5, 0).as_dict()["status"]
        'pending'
        """
        return self._asdict()


# -- what may become a job -------------------------------------------------------------------------


def check_type(job_type: Any) -> str:
    """The type, when it is 1 to 128 printable characters without white space, not led by " or #.

    Raises `InvalidJob`.
    """
    if isinstance(job_type, str):
        if type(job_type) is str and _is_plain(job_type):
            return job_type
        if (
            1 <= len(job_type) <= TYPE_LIMIT
            and job_type.isprintable()
            and not any(char.isspace() for char in job_type)
            and job_type[0] not in '"#'
        ):
            return job_type
    raise InvalidJob(
        f"job type {shown(job_type)}: must be a string of 1 to 128 printable characters, without"
        ' white space, not beginning with " or #'
    )


@functools.lru_cache(64)  # a program has few types, and many jobs of each
def _is_plain(job_type: str) -> bool:
    return _PLAIN_TYPE.fullmatch(job_type) is not None


def check_id(job_id: Any) -> str:
    """The id, when it matches `[A-Za-z0-9_-]{1,64}`. Raises `InvalidJob`."""
    if isinstance(job_id, str) and _ID.fullmatch(job_id):
        return job_id
    raise InvalidJob(
        f"job id {shown(job_id)}: must be 1 to 64 letters, digits, hyphens or underscores"
    )


def check_payload(payload: Any, limit: int = PAYLOAD_LIMIT) -> str:
    """The JSON text of a payload: a dict with string keys, of what JSON can hold, up to `limit`.

    `limit` is in bytes. Raises `InvalidJob`, which names the value that does not fit.

    >>> check_payload({"to": "zoe@example.com"})
    '{"to": "zoe@example.com"}'
    """
    if not isinstance(payload, dict):
        raise InvalidJob(f"payload: must be a dict (a JSON object), not {type(payload).__name__}")
    try:
        text = dump_json(payload)
        "".join(payload)  # raises TypeError for a key of another kind
        # Only where there is a second brace may there be a dict in it, with keys of its own.
        keys_are_strings = text.find("{", 1) < 0 or _keys_are_strings(payload)
    except RecursionError:
        raise InvalidJob("payload: nested too deeply for JSON") from None
    except (TypeError, ValueError) as error:
        raise InvalidJob(_explain(payload, str(error))) from None
    if not keys_are_strings:
        raise InvalidJob(_explain(payload, "a key is not a string"))
    size = len(text) if text.isascii() else len(text.encode())
    if size > limit:
        raise InvalidJob(
            f"payload: {size} bytes of JSON, over the limit of {limit}; put the data in a file"
            " and its path in the payload"
        )
    return text


def check_time(run_at: Any, now: float) -> int:
    """The Unix second from which a job may run; `None` and 0 mean now.

    A fraction rounds up, so that no job runs too early, unless that time is there already.

    Raises `InvalidJob` for anything but a number of seconds or an aware `datetime`.

    >>> check_time(None, 1700000000), check_time(1800000000.5, 1700000000)
    (1700000000, 1800000001)
    """
    if run_at is None:
        return int(now)
    if isinstance(run_at, datetime):
        if run_at.tzinfo is None:
            raise InvalidJob(
                f"run_at {run_at!r}: this datetime has no time zone; use datetime.now(UTC) or"
                " .astimezone()"
            )
        run_at = run_at.timestamp()
    if isinstance(run_at, bool) or not isinstance(run_at, int | float):
        raise InvalidJob(
            f"run_at {shown(run_at)}: must be Unix seconds (int or float) or an aware datetime,"
            f" not {type(run_at).__name__}"
        )
    if not 0 <= run_at <= TIME_LIMIT:  # false for NaN, too
        raise InvalidJob(f"run_at {shown(run_at)}: not a time between 1970 and the year 5138")
    due = int(run_at) if run_at <= now else 0
    return due or math.ceil(run_at) or int(now)


def _keys_are_strings(value: Any) -> bool:
    """Whether every dict below `value` has string keys only (json turns others into strings)."""
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                return False
        value = value.values()
    for item in value:
        if isinstance(item, _CONTAINERS) and not _keys_are_strings(item):
            return False
    return True


def _explain(payload: dict[Any, Any], otherwise: str) -> str:
    try:
        fault = _find_fault(payload, "payload")
    except RecursionError:  # it holds itself
        fault = None
    text = fault or f"payload: {otherwise}"
    return text if len(text) <= 300 else f"{text[:100]} … {text[-200:]}"


def _find_fault(value: Any, where: str) -> str | None:
    """The first place below `value` that JSON cannot hold, in words."""
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                return f"{where}: key {shown(key)} is {type(key).__name__}; JSON's keys are strings"
            fault = _find_fault(item, f"{where}[{shown(key)}]")
            if fault:
                return fault
        return None
    if isinstance(value, list | tuple):
        faults = (_find_fault(item, f"{where}[{i}]") for i, item in enumerate(value))
        return next((fault for fault in faults if fault), None)
    if isinstance(value, float) and not math.isfinite(value):
        return f"{where}: {value!r} is not a JSON number"
    if value is None or isinstance(value, str | float | bool):
        return None
    if isinstance(value, int):
        return _int_fault(value, where)
    return f"{where}: {type(value).__name__} cannot be JSON; use strings, numbers, lists and dicts"


def _int_fault(value: int, where: str) -> str | None:
    try:
        str(value)
    except ValueError:
        return f"{where}: an integer of {value.bit_length()} bits is too long to be written"
    return None


# -- how an attempt ended --------------------------------------------------------------------------


def error_text(error: BaseException) -> str:
    """`Type: message` of an exception, on one line, at most `ERROR_LIMIT` characters.

    >>> error_text(ValueError("no such user"))
    'ValueError: no such user'
    """
    try:
        message = str(error)
    except BaseException as broken:  # a __str__ that raises must not take the worker down
        message = f"(its message cannot be read: {type(broken).__name__})"
    name = type(error).__name__
    return safe_error(f"{name}: {message}" if message else name)


def safe_error(text: str) -> str:
    """`text` as it may stand in the error column: one line, bounded, not beginning with `"`."""
    text = escape_control(text[: ERROR_LIMIT + 1])  # which makes it longer, if anything
    if len(text) > ERROR_LIMIT:
        text = text[: ERROR_LIMIT - 1] + "…"
    return " " + text if text.startswith('"') else text


def error_lines(error: str | None) -> list[str]:
    """The lines of an error: `Type: message`, and where it happened, if that is known.

    >>> error_lines(r"ValueError: no\\n  at shop/mail.py:12 in send")
    ['ValueError: no', 'at shop/mail.py:12 in send']
    """
    return (error or "").split(NEXT_LINE)


def result_text(value: Any) -> str:
    """The text of a result that JSON can hold; raises what `dump_json` raises.

    `None` is the empty field.

    >>> result_text({"sent": 1}), result_text("ok"), result_text(None)
    ('{"sent": 1}', ' "ok"', '')
    """
    if value is None:
        return ""
    text = dump_json(value)
    return " " + text if text.startswith('"') else text
