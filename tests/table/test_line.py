"""The row codec: whatever is written as one line is read back, by us and by everybody else."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from jsons import hostile, values, wire
from tables import MALFORMED, text

from dbbasic_queue.job import STATUSES, check_payload, result_text, safe_error
from dbbasic_queue.support.text import dump_json
from dbbasic_queue.table import line as tsv
from dbbasic_queue.table.line import (
    COLUMNS,
    HEADER,
    SECTOR,
    TAIL,
    Row,
    begin,
    build_head,
    build_line,
    explain,
    in_place,
    is_moved,
    parse_line,
    pending_line,
    row_status,
    to_job,
)
from dbbasic_queue.table.scan import moved_in

payloads = st.dictionaries(hostile, values, max_size=3)
types = st.text(
    st.characters(exclude_categories=["C", "Z"], exclude_characters='"#'), min_size=1, max_size=64
)
ids = st.text("abcdefABCDEF0189_-", min_size=1, max_size=64)
numbers = st.integers(0, 10**15 - 1)
errors = hostile.map(lambda text: safe_error(f"Error: {text}")) | hostile.map(safe_error)


@st.composite
def states(draw: st.DrawFn) -> tuple[str, int, int, bytes, bytes]:
    """What a change writes: status, run_at, attempts, error, result."""
    return (
        draw(st.sampled_from(STATUSES)),
        draw(numbers),
        draw(st.integers(0, 10**9 - 1)),
        draw(st.just("") | errors).encode(),
        draw(st.just("") | values.map(result_text)).encode(),
    )


@st.composite
def rows(draw: st.DrawFn) -> Row:
    """A row as we write it, anywhere in a file."""
    offset = draw(st.integers(1, 3000))
    mark = draw(st.sampled_from(["", " "]))
    head = f"{draw(ids)}\t{draw(types)}\t{mark}{check_payload(draw(payloads))}".encode()
    status, run_at, attempts, error, result = draw(states())
    line = build_line(offset, head, status, draw(numbers), run_at, attempts, error, result)
    row = parse_line(line, offset)
    assert row is not None
    return row


def split(line: bytes) -> list[str]:
    """What awk -F'\\t' and every script of three lines read."""
    return line.decode().rstrip("\n").split("\t")


def by_csv(line: bytes) -> list[list[str]]:
    """What dbbasic-tsv reads: Python's csv, with universal newlines."""
    return list(csv.reader(io.StringIO(line.decode(), newline=None), delimiter="\t"))


@given(st.integers(0, 3000), st.integers(0, 3000), numbers, numbers)
def test_a_new_line_is_the_same_in_the_fast_way(
    offset: int, length: int, created_at: int, run_at: int
) -> None:
    """Wherever it stands and however long it is."""
    head = b"a1\tmail\t" + b"x" * length
    wanted = build_line(offset, head, "pending", created_at, run_at, 0)
    assert pending_line(offset, head, created_at, run_at) == wanted


# -- the line --------------------------------------------------------------------------------------


@given(ids, types, payloads, states(), numbers, st.integers(1, 5000), st.booleans())
@example("a", "t", {}, ("pending", 0, 0, b"", b""), 0, 1, True)
def test_a_row_round_trips(
    job_id: str,
    job_type: str,
    payload: dict[str, Any],
    state: tuple[str, int, int, bytes, bytes],
    created_at: int,
    offset: int,
    moved: bool,
) -> None:
    """A job is read back as it was written, whatever is in it and wherever it stands."""
    status, run_at, attempts, error, result = state
    space = " " if moved else ""
    head = f"{job_id}\t{job_type}\t{space}{check_payload(payload)}".encode()
    line = build_line(offset, head, status, created_at, run_at, attempts, error, result)
    row = parse_line(line, offset)
    assert row is not None
    assert (row.offset, row.line) == (offset, line)
    assert to_job(row) == (
        job_id,
        job_type,
        wire(payload),
        status,
        created_at,
        run_at,
        attempts,
        error.decode().strip() or None,
        json.loads(result) if result else None,
    )
    assert moved_in(line, offset) == ({job_id.encode(): offset} if moved else {})
    assert is_moved(row) is moved


@given(rows())
def test_everybody_reads_the_same_row(row: Row) -> None:
    """split("\\t"), csv and we agree on nine fields, and nothing but the end ends the line."""
    fields = split(row.line)
    assert by_csv(row.line) == [fields]
    assert len(fields) == len(COLUMNS)
    assert len(row.line.decode().splitlines()) == 1
    assert [value.strip() for value in fields] == [
        value.decode().strip() if isinstance(value, bytes) else str(value)
        for value in (
            row.id,
            row.type,
            row.payload,
            row.status,
            row.created_at,
            row.run_at,
            row.attempts,
            row.error,
            row.result,
        )
    ]
    assert not any(field.startswith('"') for field in fields)


@given(rows())
def test_a_row_that_csv_has_quoted_is_the_same_job(row: Row) -> None:
    """A row that plain dbbasic-tsv has read and written again says what it said."""
    out = io.StringIO()
    csv.writer(out, delimiter="\t", lineterminator="\n").writerows(by_csv(row.line))
    again = parse_line(out.getvalue().encode())
    assert again is not None
    assert to_job(again) == to_job(row)
    assert is_moved(again) == is_moved(row)


@given(rows(), st.sampled_from([b"\r\n", b"", b"\r"]), st.booleans())
def test_other_ends_of_line_are_read(row: Row, end: bytes, strip: bool) -> None:
    """CRLF, no newline, white space cut off at the end: the same job."""
    line = row.line.rstrip() if strip else row.line[:-1]
    again = parse_line(line + end)
    assert again is not None
    assert to_job(again) == to_job(row)


@given(st.integers(1, 5000), rows(), states())
def test_a_row_may_be_built_anew_anywhere(offset: int, row: Row, state: Any) -> None:
    """A head taken from a row makes the same job at another place, marked as moved or not."""
    status, run_at, attempts, error, result = state
    for moved in (True, False):
        head = build_head(row, moved=moved)
        line = build_line(offset, head, status, row.created_at, run_at, attempts, error, result)
        again = parse_line(line, offset)
        assert again is not None
        assert is_moved(again) is moved
        assert by_csv(line) == [split(line)]
        assert to_job(again)[:3] == to_job(row)[:3]
        assert again[6:] == (status, row.created_at, run_at, attempts, error, result.rstrip())


# -- the sector ------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [1, 30, SECTOR - TAIL, SECTOR - 1, SECTOR, SECTOR + 1, 3000])
def test_the_tail_of_a_new_row_lies_in_one_sector(length: int) -> None:
    """At every offset, for any payload, what changes of a row is inside one 512-byte sector."""
    head = b"a1\tmail\t" + b"x" * length
    for offset in range(1, 2 * SECTOR + 2):
        line = build_line(offset, head, "pending", 1_800_000_000, 1_800_000_000, 0)
        row = parse_line(line, offset)
        assert row is not None
        assert len(line) - row.tail == TAIL
        assert (offset + row.tail) // SECTOR == (offset + len(line) - 1) // SECTOR
        assert len(line) <= len(head) + 1 + TAIL + TAIL
        assert row.payload.strip() == b"x" * length


def test_a_tail_longer_than_a_sector_is_not_padded() -> None:
    """A row that cannot lie in one sector is as long as it has to be."""
    result = b'"' + b"x" * SECTOR + b'"'
    line = build_line(500, b"a1\tmail\t{}", "completed", 5, 5, 1, b"", result)
    assert line == b"a1\tmail\t{}\tcompleted\t5\t5\t1\t\t" + result + b"\n"


@given(rows(), states())
def test_a_change_in_place(row: Row, state: Any) -> None:
    """A change that fits keeps length and head, stays in its sector, and reads as it says."""
    status, run_at, attempts, error, result = state
    new = in_place(row, status, run_at, attempts, error, result)
    wanted = b"%b\t%d\t%d\t%d\t%b\t%b" % (
        status.encode(), row.created_at, run_at, attempts, error, result
    )  # fmt: skip
    first = (row.offset + row.tail) // SECTOR
    last = (row.offset + len(row.line) - 1) // SECTOR
    if new is None:
        assert len(wanted) > len(row.line) - row.tail - 1 or first != last
        return
    assert first == last
    assert len(new.line) == len(row.line)
    assert new.line[: row.tail] == row.line[: row.tail]
    assert new.line[row.tail :].rstrip() == wanted.rstrip()
    again = parse_line(new.line, new.offset)
    assert again == new._replace(result=new.result.rstrip())
    assert by_csv(new.line) == [split(new.line)]


ODD = (b"\0", b"\r", b"\n", b"\t", b'"', b" ", b"\r\n", b'\t"', b"\x0b", b"7")


@given(rows(), st.data())
def test_both_ways_to_read_a_line_agree(row: Row, data: st.DataObject) -> None:
    """A line as we write it is read faster, and is never read as anything else."""
    line = bytearray(row.line)
    for _ in range(data.draw(st.integers(0, 3))):
        at = data.draw(st.integers(0, len(line)))
        line[at : at + data.draw(st.integers(0, 1))] = data.draw(st.sampled_from(ODD))
    fast = parse_line(bytes(line), row.offset)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tsv, "_match_own", lambda line: None)
        slow = parse_line(bytes(line), row.offset)
    assert fast == slow


@st.composite
def waiting_lines(draw: st.DrawFn, offset: int) -> bytes:
    """A pending line as we write it."""
    mark = draw(st.sampled_from(["", "", " "]))
    head = f"{draw(ids)}\t{draw(types)}\t{mark}{check_payload(draw(payloads))}".encode()
    return build_line(
        offset, head, "pending", draw(numbers), draw(numbers), draw(st.integers(0, 9))
    )


@given(st.integers(1, 3000), st.data())
def test_an_attempt_at_a_job_as_we_write_it_begins_the_short_way(
    offset: int, data: st.DataObject
) -> None:
    """Whatever its payload is and wherever it stands, once it is due."""
    line = data.draw(waiting_lines(offset))
    row = parse_line(line, offset)
    assert row is not None
    assert begin(line, offset, row.run_at) is not None
    assert begin(line, offset, row.run_at - 1) is None


@given(st.integers(1, 3000), numbers, st.data())
def test_both_ways_to_begin_an_attempt_agree(offset: int, now: int, data: st.DataObject) -> None:
    """The short way says what parsing, changing and reading a row say, or leaves it to them."""
    line = data.draw(st.one_of(waiting_lines(offset), rows().map(lambda row: row.line)))
    spoiled = bytearray(line[:-1])
    for _ in range(data.draw(st.integers(0, 3))):
        at = data.draw(st.integers(0, len(spoiled)))
        odd = data.draw(st.sampled_from([text for text in ODD if b"\n" not in text]))
        spoiled[at : at + data.draw(st.integers(0, 1))] = odd
    line = bytes(spoiled) + b"\n"
    begun = begin(line, offset, now)
    if begun is None:
        return
    row = parse_line(line, offset)
    assert row is not None
    assert (row.status, row.result) == ("pending", b"")
    assert row.run_at <= now
    new = in_place(row, "processing", now, row.attempts + 1, row.error, b"")
    assert new is not None
    assert repr(begun) == repr((row.id, to_job(new), row.tail, new.line[row.tail : -1], row.run_at))
    json.loads(row.payload)


@pytest.mark.parametrize(
    "head",
    [
        b"a1\tmail\t{} x",
        b"a1\tmail\t{",
        b"a1\tmail\t",
        b"a1\tmail\t\xff",
        b"a1\tma\0il\t{}",
        b"a1\tma\ril\t{}",
        b'a1\tmail\t{\r"n": 1}',
        b'a1\tmail\t{"n": "\0"}',
        b"a1\tma\xffil\t{}",
        b'a1\t"mail"\t{}',
        b'a1\tmail\t"{""n"": 1}"',
        b" a1\tmail\t{}",
        b"a.1\tmail\t{}",
        b"mail\t{}",
    ],
)
def test_what_is_not_as_we_write_it_does_not_begin_the_short_way(head: bytes) -> None:
    """Spoiled, foreign, dead and malformed lines are left to the way that knows of them."""
    assert begin(build_line(0, b"a1\tmail\t{}", "pending", 5, 5, 0), 0, 5) is not None
    for error in (b"", b"E: no"):
        assert begin(build_line(0, head, "pending", 5, 5, 0, error), 0, 5) is None
    for error in (b"E:\0", b"E:\r", b'"E: no"'):
        assert begin(build_line(0, b"a1\tmail\t{}", "pending", 5, 5, 0, error), 0, 5) is None


def test_a_change_that_fits_to_the_byte() -> None:
    """The reserve may be used up to its last byte; one byte more moves the row."""
    row = parse_line(build_line(1, b"a1\tmail\t{}", "pending", 5, 5, 0), 1)
    assert row is not None
    room = TAIL - 1 - len(b"completed\t5\t5\t1\t\t")
    full = in_place(row, "completed", 5, 1, b"", b"1" * room)
    assert full is not None
    assert full.line.endswith(b"1\n")
    assert parse_line(full.line, 1) == full
    assert in_place(full, "completed", 5, 1, b"", b"1" * (room + 1)) is None
    assert in_place(full, "pending", 5, 0, b"", b"") is not None


def test_a_row_across_two_sectors_is_never_changed_in_place() -> None:
    """A row whose tail another program has put across a boundary has to move."""
    line = build_line(1, b"a1\tmail\t{}", "pending", 5, 5, 0)
    for offset in range(1, 2 * SECTOR):
        row = parse_line(line, offset)
        assert row is not None
        inside = (offset + row.tail) // SECTOR == (offset + len(line) - 1) // SECTOR
        assert (in_place(row, "cancelled", 5, 0, b"", b"") is not None) is inside


# -- what is not a row ----------------------------------------------------------------------------


@pytest.mark.parametrize("line", [*MALFORMED, b"\n", b" \n", b" a1\n", b"\r\n", b""], ids=repr)
def test_what_is_no_row(line: bytes) -> None:
    """A line that does not fit is not a row, and can be explained."""
    assert parse_line(line) is None
    assert explain(line)
    assert not row_status().findall(line)


@pytest.mark.parametrize(
    ("field", "value", "word"),
    [
        ("id", "a.1", "id"),
        ("id", "", "id"),
        ("id", "x" * 65, "id"),
        ("id", "é", "id"),
        ("type", "", "type"),
        ("status", "Pending", "status"),
        ("status", "", "status"),
        ("status", "pending ", "status"),
        ("created_at", "", "created_at"),
        ("created_at", "5.0", "created_at"),
        ("run_at", "-1", "run_at"),
        ("run_at", "1" * 16, "run_at"),
        ("run_at", "١٢", "run_at"),
        ("attempts", "", "attempts"),
        ("attempts", "1" * 10, "row"),
        ("attempts", "0 ", "attempts"),
        ("payload", "\0", "NUL"),
        ("result", "\t", "fields"),
    ],
)
def test_a_bad_field_is_named(field: str, value: str, word: str) -> None:
    """Each fault makes the line malformed, and the explanation names the field."""
    values = {"job_id" if field == "id" else field: value}
    line = text(**values)
    assert parse_line(line) is None
    assert word in explain(line)


def test_the_longest_fields_are_read() -> None:
    """What is at the limit is a row."""
    line = text("x" * 64, created_at="9" * 15, run_at="9" * 15, attempts="9" * 9)
    row = parse_line(line)
    assert row is not None
    assert (row.created_at, row.attempts) == (10**15 - 1, 10**9 - 1)


near = st.lists(
    st.one_of(
        st.sampled_from(
            [
                *STATUSES, "\t", "\t", "\t", "\t", "\n", "\r", "\r\n", " ", '"', '""', "\0", "a1",
                "mail", "{}", "5", "-5", "1" * 16, "é", "\t5\t5\t0\t\t", "a1\tmail\t{}\tpending",
            ]
        ),
        st.text(max_size=3),
    ),
    max_size=24,
).map(lambda parts: "".join(parts).encode("utf-8", "surrogatepass"))  # fmt: skip


@given(
    st.lists(st.one_of(near, st.binary(max_size=40), rows().map(lambda row: row.line)), max_size=5)
)
def test_any_bytes_are_read_without_an_error(parts: list[bytes]) -> None:
    """No line makes the parser stumble, and counting agrees with parsing."""
    content = HEADER + b"".join(parts)
    found: Counter[bytes] = Counter()
    for line in content.split(b"\n"):
        for end in (b"", b"\n"):
            row = parse_line(line + end)
            if row is None:
                assert explain(line + end)
            else:
                to_job(row)
        if row is not None:
            found[row.status.encode()] += 1
    assert Counter(row_status().findall(content)) == found


@given(rows(), st.binary(max_size=20), st.data())
def test_a_spoiled_line_is_no_error(row: Row, junk: bytes, data: st.DataObject) -> None:
    """A line with some bytes overwritten is a row or malformed, never a crash."""
    at = data.draw(st.integers(0, len(row.line)))
    line = row.line[:at] + junk + row.line[at + len(junk) :]
    again = parse_line(line)
    if again is not None:
        to_job(again)
        build_head(again, moved=True)
    else:
        explain(line)


NO_NUMBERS = [b'{"n": NaN}', b'{"n": [-Infinity]}', b'{"n": 1e999}', b'{"n": -1.5e400}']


@pytest.mark.parametrize("payload", NO_NUMBERS)
def test_a_number_that_cannot_be_written_again_spoils_a_payload(payload: bytes) -> None:
    """Python reads it, and JSON has none: no listing ends at a job that another program wrote."""
    line = text(payload="PAYLOAD", result="[2.5e-3]").replace(b"PAYLOAD", payload)
    assert begin(line, 0, 10**9) is None
    row = parse_line(line)
    assert row is not None
    job = to_job(row)
    assert job.payload == payload.decode()
    assert job.result == [0.0025]
    dump_json(job.as_dict())


@pytest.mark.parametrize("spoiled", [b"{", b"hello", b"'a'", b"\xff", b'"a', b"[" * 100_000])
def test_a_spoiled_payload_is_handed_on_as_text(spoiled: bytes) -> None:
    """A payload or result that a person has broken is shown as it stands."""
    row = parse_line(text(payload="PAYLOAD", result="RESULT").replace(b"PAYLOAD", spoiled))
    assert row is not None
    assert to_job(row).payload == spoiled.decode(errors="replace")
    assert to_job(row).result == "RESULT"


def test_empty_fields_of_a_foreign_row() -> None:
    """An empty payload is an empty dict, as in 1.0.0; an empty result and error are None."""
    row = parse_line(text(payload="", error="", result="   "))
    assert row is not None
    assert to_job(row)[2] == {}
    assert to_job(row)[7:] == (None, None)


@pytest.mark.parametrize("value", ['"ok"', '""', '"a ""b"" c"', '"unbalanced'])
def test_a_foreign_field_that_begins_with_a_quote_is_not_written_again(value: str) -> None:
    """A bare JSON string of 1.0.0 is read, and written by us so that csv reads it too."""
    row = parse_line(text(status="failed", error=value, result=value, payload='"text"'))
    assert row is not None
    line = build_line(1, build_head(row, moved=True), *row[6:10], row.error, row.result)
    assert by_csv(line) == [split(line)]
    again = parse_line(line)
    assert again is not None
    assert to_job(again) == to_job(row)
