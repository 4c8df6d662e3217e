"""A job's states and what may follow what; what may become a job, and how an attempt ends."""

from __future__ import annotations

import enum
import itertools
import json
from collections import OrderedDict, defaultdict
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsons import FORBIDDEN, hostile

from dbbasic_queue import IllegalTransition, InvalidJob, Job, Queue, QueueError
from dbbasic_queue.job import (
    ERROR_LIMIT,
    FINISHED,
    PAYLOAD_LIMIT,
    STATUSES,
    TIME_LIMIT,
    TRANSITIONS,
    check_id,
    check_payload,
    check_time,
    check_type,
    error_text,
    may,
    require,
    safe_error,
)
from dbbasic_queue.table.line import COLUMNS

LEGAL = {
    ("pending", "processing"),
    ("pending", "cancelled"),
    ("processing", "completed"),
    ("processing", "failed"),
    ("processing", "pending"),
    ("failed", "pending"),
    ("cancelled", "pending"),
    ("processing", "cancelled"),
}
NOW = 1_700_000_000
HUGE = 10**5000  # more digits than Python writes out
PAIRS = list(itertools.product(STATUSES, STATUSES))


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError("no")


class Color(enum.IntEnum):
    RED = 1


def nested(depth: int, *, lists: bool = False) -> dict[str, Any]:
    inner: Any = {}
    for _ in range(depth):
        inner = [inner] if lists else {"a": inner}
    return {"a": inner}


def job(**changes: object) -> Job:
    return Job("a1", "mail", {"to": "z"}, "pending", 5, 6, 2)._replace(**changes)


@pytest.mark.parametrize(("old", "new"), PAIRS)
def test_only_the_listed_transitions_are_allowed(old: str, new: str) -> None:
    """Of the 25 pairs of states, the seven of the diagram are allowed and no other."""
    assert may(old, new) is ((old, new) in LEGAL)


@pytest.mark.parametrize(("old", "new"), [pair for pair in PAIRS if pair not in LEGAL])
def test_an_illegal_transition_raises_and_says_which(old: str, new: str) -> None:
    """The error names the job, its state, and the state it cannot enter."""
    with pytest.raises(IllegalTransition, match=f"job a1 is {old}: it cannot become {new}"):
        require(b"a1", old, new)


@pytest.mark.parametrize(("old", "new"), sorted(LEGAL))
def test_a_legal_transition_passes(old: str, new: str) -> None:
    """`require` lets every transition of the diagram pass."""
    require(b"a1", old, new)


def test_the_table_of_transitions_covers_every_state() -> None:
    """A state that is missing from the table, or unknown in it, would be a KeyError at work."""
    assert set(TRANSITIONS) == set(STATUSES)
    assert set().union(*TRANSITIONS.values()) <= set(STATUSES)


def test_completed_is_the_end() -> None:
    """What is done is never done again: no transition leads out of completed."""
    assert TRANSITIONS["completed"] == frozenset()


def test_unfinished_states_are_never_called_finished() -> None:
    """Pruning goes by FINISHED: a pending or processing job must never be in it."""
    assert set(FINISHED) == {"completed", "failed", "cancelled"}


@pytest.mark.parametrize("status", ["", "PENDING", "running", None])
def test_an_unknown_state_is_no_state(status: object) -> None:
    """A state that does not exist is a mistake of the caller's, never silently allowed."""
    with pytest.raises(KeyError):
        may(status, "pending")  # type: ignore[arg-type]
    assert not may("pending", status)  # type: ignore[arg-type]


def test_a_job_as_a_dict_has_the_nine_columns_in_their_order() -> None:
    """`as_dict` is what `get_job` returns: the nine columns of the file and nothing else."""
    assert tuple(job().as_dict()) == COLUMNS


def test_attempt_is_the_number_of_tries_begun() -> None:
    """`attempt`, counted from 1, is the column `attempts`, which counts the try in hand."""
    assert job(attempts=1).attempt == 1
    assert job(attempts=7).attempt == 7


def test_a_job_cannot_be_changed() -> None:
    """A handler that is given the job cannot change what the queue knows of it."""
    with pytest.raises(AttributeError):
        job().status = "completed"  # type: ignore[misc]


# -- types and ids ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "good",
    [
        "mail",
        "x",
        "a.b:c/d-e_f",
        "Zoë",
        "日本",
        "🐍",
        "é" * 128,
        "a" * 128,
        "a\"b#c'd",
        "pending",
        "\\t",
    ],
)
def test_types(good: str) -> None:
    """1 to 128 printable characters without white space are a type."""
    assert check_type(good) == good


@pytest.mark.parametrize(
    "bad",
    [
        "", "a" * 129, "🐍" * 129, "two words", "tab\t", "line\n", "cr\r", "nul\0", "nbsp\xa0",
        "\u2028", "\u3000", "zero\u200bwidth", "\ufeffmail", "bell\x07", "\x85", '"mail', "#mail",
        "\ud800", None, 5, b"mail", ["mail"], HUGE, Unprintable(),
    ],
    ids=lambda bad: type(bad).__name__ if not isinstance(bad, str) else ascii(bad)[:20],
)  # fmt: skip
def test_what_is_no_type(bad: Any) -> None:
    """Anything else is an InvalidJob that says what a type is."""
    with pytest.raises(InvalidJob, match=r"job type .*1 to 128 printable"):
        check_type(bad)


@given(st.text())
def test_an_accepted_type_fits_in_a_field(text: str) -> None:
    """No accepted type can break a line, a field or a quote."""
    try:
        check_type(text)
    except InvalidJob:
        return
    assert text.split() == [text]
    assert text.encode().decode() == text
    assert text.isprintable()
    assert text[0] not in '"#'


@pytest.mark.parametrize("good", ["a", "A-z_0", "-", "0" * 64, "welcome-17"])
def test_ids(good: str) -> None:
    """1 to 64 letters, digits, hyphens and underscores are an id."""
    assert check_id(good) == good


@pytest.mark.parametrize(
    "bad",
    ["", "a" * 65, "a b", "a.b", "a\n", "\na", "é", "١", "a\0", None, 5, b"a", HUGE, Unprintable()],
    ids=lambda bad: type(bad).__name__ if not isinstance(bad, str) else ascii(bad)[:20],
)
def test_what_is_no_id(bad: Any) -> None:
    """Anything else is an InvalidJob that says what an id is."""
    with pytest.raises(InvalidJob, match=r"job id .*1 to 64 letters"):
        check_id(bad)


# -- payloads --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "good",
    [
        {},
        {"": ""},
        {"a": None, "b": True, "c": 1, "d": 1.5, "e": "x", "f": [], "g": {}},
        {"a": (1, [2, {"b": (3,)}])},
        {"a": 10**400, "b": -0.0, "c": 1e308, "d": 5e-324},
        {"a": Color.RED},
        OrderedDict(b=1, a=2),
        defaultdict(list, a=[1]),
        nested(200),
        nested(200, lists=True),
    ],
    ids=repr,
)
def test_payloads(good: dict[str, Any]) -> None:
    """Every dict that JSON can hold is a payload."""
    assert json.loads(check_payload(good)) == json.loads(json.dumps(good))


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (None, "payload: must be a dict .*not NoneType"),
        ("{}", "payload: must be a dict .*not str"),
        ([("a", 1)], "payload: must be a dict .*not list"),
        (b"{}", "not bytes"),
        ({1: 2}, r"payload: key 1 is int; JSON's keys are strings"),
        ({"a": {None: 2}}, r"payload\['a'\]: key None is NoneType"),
        ({"a": [0, ({True: 2},)]}, r"payload\['a'\]\[1\]\[0\]: key True is bool"),
        ({1.5: 2}, "key 1.5 is float"),
        ({b"a": 2}, "key b'a' is bytes"),
        ({("a",): 2}, r"key \('a',\) is tuple"),
        ({"a": {"b": float("nan")}}, r"payload\['a'\]\['b'\]: nan is not a JSON number"),
        ({"a": [1, float("-inf")]}, r"payload\['a'\]\[1\]: -inf is not a JSON number"),
        ({"a": b"x"}, r"payload\['a'\]: bytes cannot be JSON"),
        ({"a": {1, 2}}, "set cannot be JSON"),
        ({"a": datetime.now(UTC)}, "datetime cannot be JSON"),
        ({"a": Decimal("1.5")}, "Decimal cannot be JSON"),
        ({"a": Unprintable()}, "Unprintable cannot be JSON"),
        ({"a": HUGE}, r"payload\['a'\]: an integer of \d+ bits is too long"),
        ({HUGE: 1}, "payload: key .* is int"),
        ({Unprintable(): 1}, "payload: key .* is Unprintable"),
    ],
    ids=lambda value: "" if isinstance(value, str) else type(value).__name__,
)
def test_what_is_no_payload(bad: Any, words: str) -> None:
    """What JSON cannot hold is named, with the place where it is."""
    with pytest.raises(InvalidJob, match=words):
        check_payload(bad)


@pytest.mark.parametrize("depth", [*range(960, 1003), 3000, 9000, 50_000, 200_000])
@pytest.mark.parametrize("lists", [False, True], ids=["dicts", "lists"])
def test_too_deep_a_payload_is_refused_in_words(depth: int, lists: bool) -> None:
    """Nesting too deep for this Python is an InvalidJob at every depth, on every version."""
    payload = nested(depth, lists=lists)
    with suppress(InvalidJob):  # and nothing else
        check_payload(payload)
    if depth >= 50_000:
        with pytest.raises(InvalidJob, match="nested too deeply"):
            check_payload(payload)


def test_a_fault_deep_inside_is_named_in_short() -> None:
    """The path to a fault far down is cut in the middle, the fault itself is not."""
    payload = nested(400)
    inner = payload
    while inner["a"]:
        inner = inner["a"]
    inner["a"] = b"x"
    with pytest.raises(InvalidJob, match=r"^payload\['a'\].* … .*\['a'\]: bytes cannot") as caught:
        check_payload(payload)
    assert len(str(caught.value)) < 400


def test_a_payload_that_holds_itself_is_refused() -> None:
    """A circle is an InvalidJob and no endless loop."""
    payload: dict[str, Any] = {}
    payload["self"] = [payload]
    with pytest.raises(InvalidJob):
        check_payload(payload)


def test_the_limit_counts_bytes_of_utf_8() -> None:
    """A payload may have exactly the limit in bytes, and no byte more, in any script."""
    assert PAYLOAD_LIMIT == 1 << 20
    for char in ("x", "é", "日", "🐍"):
        size = len(char.encode())
        room = PAYLOAD_LIMIT - len('{"a": ""}')
        text = char * (room // size) + "x" * (room % size)
        assert len(check_payload({"a": text}).encode()) == PAYLOAD_LIMIT
        with pytest.raises(InvalidJob, match=f"{PAYLOAD_LIMIT + 1} bytes of JSON"):
            check_payload({"a": text + "x"})
    assert check_payload({"a": 1}, 8) == '{"a": 1}'
    with pytest.raises(InvalidJob, match="8 bytes"):
        check_payload({"a": 1}, 7)


# -- times -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given_time", "second"),
    [
        (None, NOW),
        (0, NOW),  # as in 1.0.0: "run_at or now"
        (0.0, NOW),
        (-0.0, NOW),
        (1, 1),
        (0.1, 1),
        (NOW + 0.000001, NOW + 1),
        (NOW, NOW),
        (TIME_LIMIT, TIME_LIMIT),
        (Color.RED, 1),
        (datetime(2030, 1, 1, tzinfo=UTC), 1893456000),
        (datetime(2030, 1, 1, 1, tzinfo=timezone(timedelta(hours=1))), 1893456000),
        (datetime(2030, 1, 1, 0, 0, 0, 1, tzinfo=UTC), 1893456001),
    ],
)
def test_times(given_time: Any, second: int) -> None:
    """Unix seconds or an aware datetime; never before the time that was asked for."""
    assert check_time(given_time, NOW) == second
    assert type(check_time(given_time, NOW)) is int


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (-1, "1970"),
        (TIME_LIMIT + 1, "5138"),
        (NOW * 1000, "5138"),  # milliseconds, the usual slip
        (float("nan"), "nan"),
        (float("inf"), "inf"),
        (HUGE, "5138"),
        (-HUGE, "1970"),
        (True, "not bool"),
        ("tomorrow", "not str"),
        ("1700000000", "not str"),
        (Decimal(5), "not Decimal"),
        (Fraction(5), "not Fraction"),
        (timedelta(5), "not timedelta"),
        (datetime.now(UTC).date(), "not date"),
        (datetime(2030, 1, 1), "no time zone"),
        (datetime(1, 1, 1, tzinfo=UTC), "1970"),
        (datetime(9999, 12, 31, tzinfo=UTC), "5138"),
        (Unprintable(), "not Unprintable"),
    ],
    ids=lambda value: "" if isinstance(value, str) else type(value).__name__,
)
def test_what_is_no_time(bad: Any, words: str) -> None:
    """Anything else is an InvalidJob that says what is wrong with it."""
    with pytest.raises(InvalidJob, match=words):
        check_time(bad, NOW)


# -- nothing is written ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("job", "more"),
    [
        (("two words", {}), {}),
        (("mail", {"a": float("nan")}), {}),
        (("mail", {1: 1}), {}),
        (("mail", {"a": b""}), {}),
        (("mail", None), {}),
        (("mail", {}, "soon"), {}),
        (("mail", {}), {"job_id": "a b"}),
        (("mail", nested(50_000)), {}),
        (("mail", {"a": "x" * PAYLOAD_LIMIT}), {}),
    ],
    ids=range(9),
)
def test_a_refused_job_leaves_no_trace(
    queue: Queue, path: Path, job: tuple[Any, ...], more: dict[str, Any]
) -> None:
    """After a refusal there is no file, or the file is as it was; a batch is refused whole."""
    with pytest.raises(InvalidJob) as caught:
        queue.enqueue(*job, **more)
    assert isinstance(caught.value, QueueError)
    assert isinstance(caught.value, ValueError)
    assert not path.parent.exists()
    queue.enqueue("mail", {})
    content = path.read_bytes()
    names = ("job_type", "payload", "run_at")
    with pytest.raises(InvalidJob, match=r"job 1: .*none was added"):
        queue.enqueue_many([("mail", {}), {**dict(zip(names, job, strict=False)), **more}])
    assert path.read_bytes() == content


def test_the_message_of_a_refusal_is_short(queue: Queue) -> None:
    """However big what was handed in, the message fits on a screen."""
    for bad in ("x" * 10**6, ["x" * 10**6], 10**4000):
        for check in (check_type, check_id, lambda value: check_time(value, NOW)):
            with pytest.raises(InvalidJob) as caught:
                check(bad)
            assert len(str(caught.value)) < 400
    for payload in ({"x" * 10**6: b""}, {"a": {5: 1}, "b" * 10**6: {6: 1}}, {HUGE: 1}):
        with pytest.raises(InvalidJob) as caught:
            check_payload(payload)
        assert len(str(caught.value)) < 400


# -- how an attempt ended --------------------------------------------------------------------------


@given(hostile)
def test_errors_are_one_bounded_line(message: str) -> None:
    """An error is `Type: message` on one line, and no field that begins with a quote."""
    written = error_text(ValueError(message))
    assert written.startswith("ValueError")
    assert len(written) <= ERROR_LIMIT + 1
    for written in (safe_error(message), error_text(type('"\t E', (Exception,), {})(message))):
        assert not FORBIDDEN & set(written)
        assert not written.startswith('"')
        assert len(written.encode()) < 4 * ERROR_LIMIT + 10


def test_a_long_error_is_cut() -> None:
    """What is over the limit is cut, and shown to be."""
    written = error_text(ValueError("x" * 10**6))
    assert len(written) == ERROR_LIMIT
    assert written.endswith("x…")
    assert error_text(ValueError("x" * (ERROR_LIMIT - 12))).endswith("x")


def test_an_exception_without_a_message() -> None:
    """The type alone is an error, and a broken __str__ is one more."""

    class Broken(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no")

    class NoText(Exception):
        def __str__(self) -> str:
            return 5  # type: ignore[return-value]

    assert error_text(KeyError()) == "KeyError"
    assert error_text(Broken()) == "Broken: (its message cannot be read: RuntimeError)"
    assert error_text(NoText()) == "NoText: (its message cannot be read: TypeError)"
