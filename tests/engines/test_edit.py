"""Editing the table: what a person has changed is applied, all of it or nothing."""

from __future__ import annotations

import errno
import os
import random
import re
import shlex
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from actors import die, in_child, join, start
from hypothesis import given
from hypothesis import strategies as st
from specimens import EDITS
from tables import MALFORMED, NOBODY, fields, fill, let_in, look, names, own, states, text, write
from tables import in_child as as_user

from dbbasic_queue import Queue, StorageError
from dbbasic_queue.engines.interface import Outcome
from dbbasic_queue.engines.tsv import edit, editor, fsck
from dbbasic_queue.engines.tsv.dates import in_seconds, with_dates
from dbbasic_queue.engines.tsv.edit import Changes, hand_out, take_back
from dbbasic_queue.errors import EditRefused
from dbbasic_queue.table.line import HEADER, SECTOR, Row, parse_line

LATER = 4_000_000_000


def change(queue: Queue, *replacements: tuple[str, str]) -> Changes:
    """Edit the queue as `sed` would, with regular expressions for whole lines or parts of them."""
    before = hand_out(queue.engine)
    after = before.decode(errors="surrogateescape")
    for pattern, new in replacements:
        after, count = re.subn(pattern, new, after, flags=re.MULTILINE)
        assert count, f"there is no {pattern}"
    return take_back(queue.engine, before, after.encode(errors="surrogateescape"), "F")


def refusal(queue: Queue, *replacements: tuple[str, str]) -> list[str]:
    """The reasons why such an edit is refused; the table has to be what it was."""
    content, inode = queue.path.read_bytes(), queue.path.stat().st_ino
    with pytest.raises(EditRefused) as caught:
        change(queue, *replacements)
    assert (queue.path.read_bytes(), queue.path.stat().st_ino) == (content, inode)
    return str(caught.value).splitlines()


def jobs(queue: Queue) -> dict[str, Any]:
    """Every job by its id, as a reader that knows nothing yet sees it."""
    found = list(Queue(queue.path).list_jobs())
    assert len({job["id"] for job in found}) == len(found)
    return {job["id"]: job for job in found}


def rows(path: Path) -> list[Row]:
    """The rows of the file, where they stand."""
    found, offset = [], 0
    for line in path.read_bytes().splitlines(True):
        row = parse_line(line, offset)
        found += [row] if row else []
        offset += len(line)
    return found


def assert_fresh(row: Row) -> None:
    """A row has reserve, and a tail inside one sector, so that its next change is one write."""
    assert row.line.endswith(b" \n")
    assert (row.offset + row.tail) % SECTOR + len(row.line) - row.tail <= SECTOR


# -- what goes out ---------------------------------------------------------------------------------


def test_the_text_is_the_table_without_padding(path: Path) -> None:
    """What is handed out is the header, each job once, malformed lines, and no spaces."""
    write(path, own(70, "a1"), b"    \n", b"# note \xff\n", b"\n", text("b2"), text("c3")[:-1])
    assert hand_out(Queue(path).engine) == (
        HEADER + text("a1") + b"# note \xff\n" + text("b2") + text("c3")
    )
    write(path, text("a1"), text("b2"), own(99, "a1", "failed", moved=True), b"torn\tx\t{")
    assert hand_out(Queue(path).engine) == HEADER + text("b2") + text("a1", "failed")


def test_of_an_empty_file_there_is_the_header(path: Path) -> None:
    """A file that is empty, as 1.0.0 leaves one, can have jobs added to it."""
    write(path, header=b"")
    queue = Queue(path)
    assert hand_out(queue.engine) == HEADER
    assert take_back(queue.engine, HEADER, HEADER + text("a1")) == (0, 0, 1)
    assert states(look(path)) == {"a1": "pending"}


# -- what comes back -------------------------------------------------------------------------------


def test_change_remove_add(queue: Queue, path: Path) -> None:
    """A payload changed, a job removed, a line added: these three, and all else byte for byte."""
    fill(queue)
    kept, before = rows(path), jobs(queue)
    done = change(
        queue,
        (r'^(due1\t.*"n": )1', r"\g<1>111"),
        (r"^(later\t.*)pending(.*)4000000000", r"\1cancelled\g<2>17"),
        (r"^due2\t.*\n", ""),
        (r"^due3\t.*\n", 'n1\tmail\t{"new": "Zoë"}\tpending\t5\t6\t0\t\t\n\\g<0>'),
    )
    assert done == Changes(2, 1, 1)
    after = jobs(queue)
    assert after["due1"]["payload"] == {**before["due1"]["payload"], "n": 111}
    assert (after["later"]["status"], after["later"]["run_at"]) == ("cancelled", 17)
    assert (after["n1"]["payload"], after["n1"]["run_at"]) == ({"new": "Zoë"}, 6)
    same = before.keys() - {"due1", "later", "due2"}
    assert {name: after[name] for name in same} == {name: before[name] for name in same}
    assert after.keys() == before.keys() - {"due2"} | {"n1"}
    by_id = {row.id: row for row in rows(path)}
    for row in kept:
        if row.id.decode() in same:
            assert fields(by_id[row.id]) == fields(row)
    for name in (b"due1", b"later", b"n1"):
        assert_fresh(by_id[name])
    assert fsck.check(queue.engine) == []
    ran: list[Any] = []
    assert queue.process_jobs({"mail": ran.append}).completed == 6
    assert {"new": "Zoë"} in ran


@pytest.mark.parametrize("mend", sorted(EDITS.keys() - {"comments"}))
def test_what_editors_do_to_lines_is_no_change(queue: Queue, path: Path, mend: str) -> None:
    """White space, line ends, blank lines, order and csv's quotes: nothing is written at all."""
    fill(queue)
    before = hand_out(queue.engine)
    inode, content = path.stat().st_ino, path.read_bytes()
    assert take_back(queue.engine, before, EDITS[mend](before)) == (0, 0, 0)
    assert (path.stat().st_ino, path.read_bytes()) == (inode, content)


@pytest.mark.parametrize("mend", sorted(EDITS.keys() - {"comments"}))
def test_nor_does_it_hide_a_change(queue: Queue, mend: str) -> None:
    """Whatever else an editor does to the lines, one changed field is one changed job."""
    fill(queue)
    before = hand_out(queue.engine)
    after = EDITS[mend](before.replace(b'"n": 4', b'"n": 444'))
    assert take_back(queue.engine, before, after) == (1, 0, 0)
    assert jobs(queue)["due4"]["payload"]["n"] == 444


NEW: dict[str, tuple[bytes, str]] = {
    "words": (b"please do this", "has 1 fields, not 9"),
    "a comment": (b"# later", "has 1 fields, not 9"),
    "dead": (b" n1\tmail\t{}\tpending\t5\t5\t0\t\t", "begins with a space"),
    "a column more": (text("n1")[:-1] + b"\tx", "has 10 fields, not 9"),
    "no id": (text("")[:-1], "id '' is not 1 to 64 letters"),
    "an id with a blank": (text("n 1")[:-1], "id 'n 1' is not 1 to 64 letters"),
    "an id too long": (text("n" * 65)[:-1], "is not 1 to 64 letters"),
    "no type": (text("n1", type="")[:-1], "the type is empty"),
    "a type with a blank": (text("n1", type="two words")[:-1], "job type 'two words'"),
    "a type too long": (text("n1", type="t" * 129)[:-1], "1 to 128 printable characters"),
    "an unknown state": (text("n1", "done")[:-1], "status 'done' is none of"),
    "processing": (text("n1", "processing")[:-1], "only a worker that takes the job"),
    "a time in words": (text("n1", run_at="soon")[:-1], "run_at 'soon' is not a time"),
    "milliseconds": (text("n1", run_at=1_700_000_000_000)[:-1], "run_at 1700000000000: after the"),
    "made in milliseconds": (
        text("n1", created_at=10**12)[:-1],
        "1000000000000: after the year",
    ),
    "negative tries": (text("n1", attempts=-1)[:-1], "attempts '-1' is not a whole number"),
    "no JSON": (text("n1", payload="{")[:-1], "payload: not JSON"),
    "a list": (text("n1", payload="[1]")[:-1], "must be a dict (a JSON object), not list"),
    "NaN": (text("n1", payload='{"n": NaN}')[:-1], "nan is not a JSON number"),
    "too deep": (text("n1", payload='{"n": ' + "[" * 10**5)[:-1], "nested too deeply"),
    "too long": (text("n1", payload='{"n": "%s"}' % ("x" * (1 << 20)))[:-1], "over the limit"),
    "a result that is none": (text("n1", result="ok")[:-1], "result: not JSON"),
    "a result that is NaN": (text("n1", result="[NaN]")[:-1], "result: "),
    "a result too long": (text("n1", result=f"[{'1,' * (1 << 20)}1]")[:-1], "result: 3145731 b"),
    "an error with an escape": (text("n1", error="E: \x1b[2J")[:-1], "the error has control"),
    "an error too long": (text("n1", error="E" * 2001)[:-1], "more than 2000 characters"),
    "NUL": (text("n1", payload='{"n": "\0"}')[:-1], "holds NUL bytes"),
    "all NUL": (b"\0" * 5000, "holds NUL bytes"),
    "Latin 1": (text("n1", payload='{"n": "?"}')[:-1].replace(b"?", b"\xeb"), "byte 0xeb at 15"),
    "half a character": (text("n1", type="t?")[:-1].replace(b"?", b"\xc3"), "is not UTF-8"),
    "a surrogate": (text("n1", error="?")[:-1].replace(b"?", b"\xed\xa0\x80"), "is not UTF-8"),
    "a carriage return": (text("n1", payload='{"n": "\r"}')[:-1], "payload: not JSON"),
    "a huge line": (b"x" * (3 << 20), "has 1 fields, not 9"),
}


@pytest.mark.parametrize("kind", NEW)
def test_a_line_that_is_no_job_is_refused(queue: Queue, kind: str) -> None:
    """A line that cannot be in the table: FILE:LINE, what is wrong, and nothing is written."""
    queue.enqueue("mail", {}, job_id="a1")
    line, why = NEW[kind]
    before = hand_out(queue.engine)
    content = queue.path.read_bytes()
    for after in (before + line, before + line + b"\n", before + line + b"\r\n"):
        with pytest.raises(EditRefused) as caught:
            take_back(queue.engine, before, after, "F")
        assert queue.path.read_bytes() == content
        (said,) = str(caught.value).splitlines()
        assert said.startswith("F:3: ")
        assert why in said
        assert len(said) < 500


@pytest.mark.parametrize(
    "after",
    [
        b"",
        b"\n \n",
        text("a1"),
        HEADER.replace(b"payload", b"Payload") + text("a1"),
        b"\xef\xbb\xbf" + HEADER + text("a1"),
        (HEADER + text("a1")).decode().encode("utf-16"),
        b"\0" * 3000,
    ],
)
def test_a_header_that_is_gone_is_refused(queue: Queue, after: bytes) -> None:
    """Without its header a text is not a table: refused, whatever else it is."""
    queue.enqueue("mail", {}, job_id="a1")
    content = queue.path.read_bytes()
    with pytest.raises(EditRefused, match="header"):
        take_back(queue.engine, hand_out(queue.engine), after)
    assert queue.path.read_bytes() == content


def test_all_faults_are_told_at_once(queue: Queue) -> None:
    """Each line that is wrong, and each thing that is wrong with it, with its number."""
    for number in range(4):
        queue.enqueue("mail", {"n": number}, job_id=f"j{number}")
    told = refusal(
        queue,
        (r'\{"n": 0\}', "{"),
        (r"^(j1\t.*)pending", r"\1done"),
        (r'^(j3\t)mail\t\{"n": 3\}', r"\1two words\t[]"),
    )
    assert [line.split()[0] for line in told] == ["F:2:", "F:3:", "F:5:"]
    assert "payload" in told[0]
    assert "done" in told[1]
    assert "two words" in told[2]
    assert jobs(queue).keys() == {"j0", "j1", "j2", "j3"}


def test_an_id_is_there_once(queue: Queue) -> None:
    """A copied line needs an id of its own, whether it was changed or not; so does a new one."""
    queue.enqueue("mail", {"n": 1}, job_id="a1")
    queue.enqueue("mail", {"n": 2}, job_id="b2")
    copy = ["F:3: job a1 is on line 2 already; a copy needs an id of its own"]
    assert refusal(queue, (r"^(a1.*\n)", r"\1\1")) == copy
    assert refusal(queue, (r"^(a1.*)(1\}.*\n)", r"\1\2\g<1>7\2")) == copy
    assert refusal(queue, (r"^(a1.*)(1\}.*\n)", r"\g<1>7\2\1\2")) == [
        "F:2: job a1 is on line 3 already; a copy needs an id of its own"
    ]
    assert refusal(queue, (r"^(a1.*)(1\}.*\n)", r"\g<1>7\2\g<1>8\2")) == copy
    assert refusal(queue, (r"^b2", "a1")) == copy
    assert change(queue, (r"^a1(.*\n)", r"\g<0>c3\1")) == (0, 0, 1)


def test_what_is_not_touched_need_not_be_valid(path: Path) -> None:
    """A row of 1.0.0 with a payload that none may have today can be cancelled, and stays so."""
    write(path, text("a1", payload="[1]", type="two words"), text("b2", payload='"text"'))
    queue = Queue(path)
    assert change(queue, ("pending", "cancelled")) == (2, 0, 0)
    found = jobs(queue)
    assert (found["a1"]["payload"], found["b2"]["payload"]) == ([1], "text")
    assert {job["status"] for job in found.values()} == {"cancelled"}
    assert "must be a dict" in refusal(queue, (r"\[1\]", "[2]"))[0]


def test_strings_and_quotes_are_read_as_csv_does(queue: Queue) -> None:
    """A result that is a string, an error that begins with a quote, get the space they need."""
    queue.enqueue("mail", {}, job_id="a1")
    assert change(queue, (r"pending(.*)\t\t$", r'completed\1\t"E"\t"fine"')) == (1, 0, 0)
    job = jobs(queue)["a1"]
    assert (job["status"], job["error"], job["result"]) == ("completed", '"E"', "fine")
    assert b'\t"' not in queue.path.read_bytes()
    assert fsck.check(queue.engine) == []


def test_malformed_lines_stay(path: Path) -> None:
    """A malformed line that is not touched stays, byte for byte."""
    lines = [line for line in MALFORMED if not line.startswith(b" ")]
    write(path, *lines, text("z9"), *lines)
    queue = Queue(path)
    assert change(queue, (r"^z9\t.*\n", "")) == (0, 1, 0)
    content = path.read_bytes()
    assert all(content.count(line) >= 2 for line in lines)


def test_each_malformed_line_can_go(path: Path) -> None:
    """Of two malformed lines that are alike, the one that is deleted goes, the other stays."""
    for line in MALFORMED:
        if line.startswith(b" "):
            continue
        write(path, line, text("z9"), line)
        queue = Queue(path)
        before = hand_out(queue.engine)
        after = HEADER + before[len(HEADER) :].replace(line, b"", 1)
        assert take_back(queue.engine, before, after) == (0, 1, 0), line
        assert (path.read_bytes() + b"\n").count(line) - (line == HEADER) == 1, line
        assert states(look(path)) == {"z9": "pending"}


def test_a_malformed_line_becomes_a_job(path: Path) -> None:
    """What fsck reports is mended in the editor: the malformed line goes, the job is there."""
    write(path, text("a1"), text("b 2"), text("c3"))
    queue = Queue(path)
    assert change(queue, (r"^b 2\t", "b2\t")) == (0, 1, 1)
    assert jobs(queue).keys() == {"a1", "b2", "c3"}
    assert fsck.check(queue.engine) == []


def test_outdated_lines_of_a_job_go_with_it(path: Path) -> None:
    """An older line of a job, which a crash or a person left, does not come back to life."""
    twins = (text("a1"), own(200, "a1", moved=True), text("b2", attempts=1), text("b2"), text("c3"))
    write(path, *twins)
    assert change(Queue(path), (r"^a1\t.*\n", ""), (r"^(b2.*\t)5\t0", r"\g<1>9\t0")) == (1, 1, 0)
    assert states(look(path)) == {"b2": "pending", "c3": "pending"}
    assert jobs(Queue(path))["b2"]["run_at"] == 9
    assert fsck.check(Queue(path).engine) == []


def test_due_jobs_wake_a_worker(queue: Queue) -> None:
    """A job that is due by the edit touches the wake file; a job for later does not."""
    queue.enqueue("mail", {}, LATER, job_id="a1")
    wake = queue.engine.table.sibling("wake")
    wake.touch()
    os.utime(wake, (5, 5))
    change(queue, (r"\{\}", '{"n": 1}'))
    assert wake.stat().st_mtime == 5
    change(queue, (r"\t4000000000", r"\t5"))
    assert wake.stat().st_mtime > 5


# -- meanwhile -------------------------------------------------------------------------------------


def claim(queue: Queue) -> Any:
    """Take the first job, as a worker does."""
    seat = queue.engine.seat()
    return seat, seat.turn()


def test_a_job_that_runs_is_its_workers(queue: Queue) -> None:
    """A job that was processing when it was handed out is neither changed nor removed."""
    queue.enqueue("mail", {"n": 1}, job_id="a1")
    queue.enqueue("mail", {"n": 2}, job_id="b2")
    _, attempt = claim(queue)
    assert attempt.job.id == "a1"
    for replacement in ((r'"n": 1', '"n": 7'), (r"^a1\t.*\n", ""), ("processing", "pending")):
        (told,) = refusal(queue, replacement, (r'"n": 2', '"n": 8'))
        assert "job a1 is processing: its worker will write into this line" in told
        assert told.startswith("F: " if not replacement[1] else "F:2: ")


def test_an_attempt_in_hand_survives_the_edit(queue: Queue) -> None:
    """A worker writes its end into the new table, wherever its row stands then."""
    for name in ("a0", "a1", "b2"):
        queue.enqueue("mail", {"n": name, "pad": "x" * 300}, job_id=name)
    change(queue, (r"^a0\t.*\n", ""))
    seat, attempt = claim(queue)
    change(queue, (r'"n": "b2"', '"n": "b2 and a lot more' + "y" * 700 + '"'))
    assert seat.turn(Outcome(attempt, "completed", 9, result="1")).job.id == "b2"
    assert states(look(queue.path)) == {"a1": "completed", "b2": "processing"}


def meanwhile(queue: Queue, act: Callable[[Queue], Any], *replacements: tuple[str, str]) -> Changes:
    """Edit while another process does something."""
    before = hand_out(queue.engine)
    after = before.decode()
    for pattern, new in replacements:
        after, count = re.subn(pattern, new, after, flags=re.MULTILINE)
        assert count
    act(Queue(queue.path, "normal"))
    return take_back(queue.engine, before, after.encode(), "F")


STORIES: dict[str, tuple[Callable[[Queue], Any], str]] = {
    "taken": (claim, "job a1 changed meanwhile: it is processing now"),
    "done": (
        lambda q: q.process_jobs({"mail": lambda payload: None}, limit=1),
        "job a1 changed meanwhile: it is completed now",
    ),
    "cancelled": (lambda q: q.cancel_job("a1"), "job a1 changed meanwhile: it is cancelled now"),
    "pruned": (
        lambda q: (q.cancel_job("a1"), q.prune_jobs(0)),
        "job a1 is gone meanwhile: it was pruned or removed",
    ),
    "edited": (
        lambda q: change(q, (r'"n": 1', '"n": 5')),
        "job a1 changed meanwhile: it is pending still, but another line",
    ),
    "added": (
        lambda q: q.enqueue("mail", {}, job_id="c3"),
        "F:4: job c3 is in the queue already",
    ),
    "no line any more": (
        lambda q: change(q, ("^# note\n", "")),
        "this line is gone meanwhile: b'# note'",
    ),
}


@pytest.mark.parametrize("story", STORIES)
def test_a_change_meanwhile_refuses_all(queue: Queue, story: str) -> None:
    """One job that is not what it was when it was handed out: nothing at all is written."""
    queue.enqueue("mail", {"n": 1}, job_id="a1")
    queue.enqueue("mail", {"n": 2}, job_id="b2")
    queue.path.write_bytes(queue.path.read_bytes() + b"# note\n")
    act, why = STORIES[story]
    seen: list[bytes] = []
    edits = [(r'"n": 1', '"n": 7'), (r'"n": 2', '"n": 8')]
    edits.append(("^# note\n", text("c3").decode()))
    with pytest.raises(EditRefused) as caught:
        meanwhile(queue, lambda q: (act(q), seen.append(q.path.read_bytes())), *edits)
    assert str(caught.value).splitlines() == [why]
    assert queue.path.read_bytes() == seen[0]


def compact(queue: Queue) -> None:
    """Write the table anew."""
    with queue.engine.table.writing():
        queue.engine.table.rewrite()


@pytest.mark.parametrize(
    "act",
    [
        lambda q: q.enqueue("mail", {"n": 3}, job_id="c3"),
        lambda q: q.enqueue_many([{"job_type": "mail", "payload": {}, "job_id": "c3"}] * 1),
        lambda q: (q.enqueue("mail", {}, job_id="c3"), compact(q)),
        lambda q: (q.cancel_job("d4"), q.prune_jobs(0), q.enqueue("mail", {}, job_id="c3")),
        lambda q: q.path.write_bytes(q.path.read_bytes() + text("c3")[:-1]),
    ],
    ids=["enqueue", "batch", "compaction", "prune", "echo without newline"],
)
def test_what_others_do_meanwhile_is_kept(queue: Queue, act: Callable[[Queue], Any]) -> None:
    """Jobs added and lines shifted while the editor was open are no obstacle, and stay."""
    for name in ("d4", "a1", "b2"):
        queue.enqueue("mail", {"pad": "x" * 333}, job_id=name)
    assert meanwhile(queue, act, (r'^(a1.*"pad": )', r'\1"y", "more": '), (r"^b2\t.*\n", "")) == (
        1,
        1,
        0,
    )
    found = jobs(queue)
    assert found.keys() - {"d4"} == {"a1", "c3"}
    assert found["a1"]["payload"] == {"pad": "y", "more": "x" * 333}
    assert fsck.check(queue.engine) == []


def test_producers_never_lose_a_job(path: Path) -> None:
    """Whatever producers add while the table is edited again and again is there."""
    queue = Queue(path, "normal")
    queue.enqueue("mail", {"n": 0}, LATER, job_id="edited")
    acknowledged = path.parent / "ids"

    def produce() -> None:
        with acknowledged.open("ab", buffering=0) as ids:
            for number in range(400):
                pad = "x" * (number % 300)
                ids.write(Queue(path, "normal").enqueue("mail", {"pad": pad}).encode() + b"\n")

    producers = [start(produce) for _ in range(2)]
    edits = 0
    while any(producer.is_alive() for producer in producers) or edits < 3:
        edits += 1
        line = f"new{edits}\tmail\t{{}}\tpending\t5\t5\t0\t\t\n"
        done = change(queue, (r'"n": \d+', f'"n": {edits}'), (r"\Z", line))
        assert done == Changes(1, 0, 1)
    join(*producers)
    found = jobs(queue)
    added = acknowledged.read_text().split()
    assert len(added) == 800
    assert found.keys() == {*added, "edited"} | {f"new{n}" for n in range(1, edits + 1)}
    assert found["edited"]["payload"] == {"n": edits}
    assert fsck.check(queue.engine) == []


# -- all or nothing --------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["fsync", "rename"])
@pytest.mark.parametrize("after", [False, True])
def test_a_kill_leaves_the_old_table_or_the_new(queue: Queue, call: str, after: bool) -> None:
    """`kill -9` around the moment of truth: everything that was edited, or nothing."""
    fill(queue)
    old = jobs(queue)
    edits = [(r'("n": )(\d)', r"\g<1>10\2"), (r"^later\t.*\n", ""), (r"\Z", text("n1").decode())]

    def child() -> None:
        real = getattr(os, call)
        setattr(os, call, lambda *args, **kw: (real(*args, **kw) if after else None, die()))
        change(Queue(queue.path), *edits)

    assert in_child(child) == -9
    found = jobs(queue)
    if call == "rename" and after:
        assert found.keys() == old.keys() - {"later"} | {"n1"}
        assert [found[f"due{n}"]["payload"]["n"] for n in range(6)] == [100 + n for n in range(6)]
    else:
        assert found == old
    assert queue.enqueue("mail", {}, job_id="next") == "next"
    assert fsck.check(queue.engine) == []


def test_a_full_disk_keeps_table_and_text(
    queue: Queue, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without room for the new table: StorageError, the old one, and the text where it says."""
    queue.enqueue("mail", {"n": 1}, job_id="a1")
    content = path.read_bytes()
    there = names(path.parent)

    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError) as caught:
        edit.edit(queue.engine, ["sed", "-i", 's/"n": 1/"n": 2/'])
    assert path.read_bytes() == content
    (kept,) = names(path.parent) - there
    assert caught.value.__notes__ == [f"the edited text is kept for a week in {path.parent / kept}"]
    assert b'"n": 2' in (path.parent / kept).read_bytes()
    monkeypatch.undo()
    assert edit.edit(queue.engine, ["cp", str(path.parent / kept)]) == (1, 0, 0)


cells = st.sampled_from(["", "x", "y" * 90, "z" * 400, "ä" * 333])


@given(
    before=st.lists(st.tuples(cells, st.booleans()), max_size=12),
    after=st.lists(st.tuples(st.integers(0, 15), cells), max_size=12),
    seed=st.integers(0, 99),
)
def test_any_edit_is_what_is_in_the_queue_then(
    tmp_path_factory: pytest.TempPathFactory,
    before: list[tuple[str, bool]],
    after: list[tuple[int, str]],
    seed: int,
) -> None:
    """Whatever lines come and go, the queue is what the text says, each row in its sector."""
    path = tmp_path_factory.mktemp("edit") / "queue.tsv"
    content = HEADER
    for number, (pad, ours) in enumerate(before):
        line = text(f"j{number}", payload=f'{{"pad": "{pad}"}}')
        content += own(len(content), f"j{number}", payload=f'{{"pad": "{pad}"}}') if ours else line
    path.write_bytes(content)
    queue = Queue(path, "normal")
    wanted = dict(after)
    lines = [text(f"j{n}", payload=f'{{"pad": "{pad}"}}') for n, pad in wanted.items()]
    random.Random(seed).shuffle(lines)
    old = {row.id: row for row in rows(path)}
    take_back(queue.engine, hand_out(queue.engine), HEADER + b"".join(lines))
    found = jobs(queue)
    assert {name: job["payload"]["pad"] for name, job in found.items()} == {
        f"j{n}": pad for n, pad in wanted.items()
    }
    for row in rows(path):
        was = old.get(row.id)
        assert_fresh(row)
        if was is not None and was.payload.strip() == row.payload.strip():
            assert fields(row) == fields(was)
    assert fsck.check(queue.engine) == []


# -- the editor ------------------------------------------------------------------------------------


def script(folder: Path, body: str) -> list[str]:
    """An editor: a program that gets the name of a file."""
    program = folder / "editor.py"
    program.write_text(
        f"import os, sys\nfrom pathlib import Path\npath = Path(sys.argv[1])\n{body}"
    )
    return [sys.executable, str(program)]


def test_the_copy_is_private_and_beside_the_table(queue: Queue, tmp_path: Path) -> None:
    """The text lies in the queue's folder, and is gone afterwards."""
    queue.enqueue("mail", {"n": 1}, job_id="a1")
    there = names(queue.path.parent)
    command = script(tmp_path, f"Path({str(tmp_path / 'seen')!r}).write_text(str(path))")
    assert edit.edit(queue.engine, command) == (0, 0, 0)
    seen = Path((tmp_path / "seen").read_text())
    assert seen.parent == queue.path.parent
    assert names(queue.path.parent) == there


def test_its_mode_is_0600_whatever_the_umask(queue: Queue, tmp_path: Path) -> None:
    """No other user can read what is being edited."""
    queue.enqueue("mail", {"n": 1}, job_id="a1")
    old = os.umask(0)
    try:
        command = script(tmp_path, "sys.exit(oct(path.stat().st_mode) != '0o100600')")
        assert edit.edit(queue.engine, command) == (0, 0, 0)
    finally:
        os.umask(old)


def test_no_lock_is_held_while_a_person_thinks(queue: Queue, tmp_path: Path) -> None:
    """From within the editor jobs are added, worked off and pruned, and the edit goes through."""
    queue.enqueue("mail", {"n": 1}, LATER, job_id="a1")
    queue.enqueue("mail", {"n": 2}, job_id="b2")
    body = f"""
from dbbasic_queue import Queue
queue = Queue({str(queue.path)!r})
queue.enqueue("mail", {{"n": 3}}, job_id="c3")
assert queue.process_jobs({{"mail": lambda payload: payload}}).completed == 2
assert queue.prune_jobs(0) == 2
queue.enqueue("mail", {{"n": 4}}, job_id="d4")
path.write_bytes(path.read_bytes().replace(b'"n": 1', b'"n": 100'))
"""
    assert edit.edit(queue.engine, script(tmp_path, body)) == (1, 0, 0)
    assert {name: job["payload"]["n"] for name, job in jobs(queue).items()} == {"a1": 100, "d4": 4}


@pytest.mark.parametrize(
    ("body", "why", "kept"),
    [
        ("sys.exit(3)", "ended with exit code 3", False),
        ("os.kill(os.getpid(), 9)", "was killed by signal 9", False),
        ("path.write_bytes(path.read_bytes() + b'x'); sys.exit(1)", "ended with exit code 1", True),
        ("path.unlink()", "No such file", False),
        ("path.write_bytes(b'')", "it is empty", False),
        ("path.write_bytes(path.read_bytes() + b'x')", ":3: has 1 fields", True),
    ],
)
def test_an_editor_that_fails_changes_nothing(
    queue: Queue, tmp_path: Path, body: str, why: str, kept: bool
) -> None:
    """The table is as it was; the text is kept if there is something new in it, and said where."""
    queue.enqueue("mail", {"n": 1}, job_id="a1")
    content = queue.path.read_bytes()
    there = names(queue.path.parent)
    with pytest.raises(EditRefused, match=re.escape(why)) as caught:
        edit.edit(queue.engine, script(tmp_path, body))
    left = [f"the edited text is kept for a week in {queue.path.parent / name}"
            for name in names(queue.path.parent) - there]  # fmt: skip
    assert len(left) == kept
    assert caught.value.__notes__ == ["nothing was changed", *left]
    assert queue.path.read_bytes() == content


def test_an_editor_that_cannot_be_started(queue: Queue, tmp_path: Path) -> None:
    """A program that is none is told, and leaves no file behind."""
    queue.enqueue("mail", {}, job_id="a1")
    there = names(queue.path.parent)
    (tmp_path / "broken").write_text("no program")
    with pytest.raises(EditRefused, match="cannot start"):
        edit.edit(queue.engine, [str(tmp_path / "broken")])
    assert names(queue.path.parent) == there


def test_who_may_not_write_is_told_before_the_editor(queue: Queue, tmp_path: Path) -> None:
    """Where no new table can be written, no editor is opened either."""
    queue.enqueue("mail", {}, job_id="a1")
    let_in(queue.path.parent)
    queue.path.parent.chmod(0o555)
    with pytest.raises(StorageError, match=r"edit writes.*sudo -u root dbq edit"):
        as_user(lambda: edit.edit(Queue(queue.path).engine, ["touch", "/nowhere"]), user=NOBODY)
    queue.path.parent.chmod(0o755)


def test_which_editor(tmp_path: Path) -> None:
    """$VISUAL, $EDITOR, editor, nano, vi, in this order; words as the shell takes them apart."""
    for name in ("vi", "nano", "editor"):
        with pytest.raises(ValueError, match=r"no program|set \$VISUAL"):
            editor.editor({"PATH": str(tmp_path), "EDITOR": "" if name == "vi" else "none"})
        (tmp_path / name).touch(0o755)
        assert editor.editor({"PATH": str(tmp_path), "VISUAL": " "}) == [name]
    given = {"PATH": str(tmp_path), "VISUAL": "vi -c 'set nu'", "EDITOR": "nano"}
    assert editor.editor(given) == ["vi", "-c", "set nu"]
    assert editor.editor({**given, "VISUAL": ""}) == ["nano"]
    with pytest.raises(ValueError, match="No closing quotation"):
        editor.editor({**given, "EDITOR": "vi '", "VISUAL": ""})


def test_many_lines(path: Path) -> None:
    """Tens of thousands of jobs changed at once are changed, each once."""
    queue = Queue(path, "normal")
    queue.enqueue_many([("mail", {"n": n, "pad": "x" * (n % 200)}) for n in range(20_000)])
    assert edit.edit(queue.engine, shlex.split("sed -i -e 's/\"n\": /\"n\": 1/' -e '/999,/d'")) == (
        19_980,
        20,
        0,
    )
    numbers = Counter(job["payload"]["n"] for job in queue.list_jobs())
    assert numbers == Counter(int(f"1{n}") for n in range(20_000) if n % 1000 != 999)
    assert (
        subprocess.run(["grep", "-cE", "^[0-9a-z]{16}", path], capture_output=True).stdout
        == b"19980\n"
    )


# -- dates, and the editor -------------------------------------------------------------------------


@pytest.fixture(params=["UTC", "Europe/Berlin", "Asia/Kathmandu", "America/St_Johns"])
def zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A local time zone."""
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield request.param
    monkeypatch.undo()
    time.tzset()


def test_times_are_shown_as_dates(path: Path, zone: str) -> None:
    """A person sees local times; one left alone changes nothing, one edited is that time."""
    now = 1_795_640_400
    write(path, text("a1", created_at=now, run_at=now), text("b2", run_at=10**13), b"#\t\t\t\t1\n")
    engine = Queue(path).engine
    before = hand_out(engine)
    dated = with_dates(before)
    moment = datetime.fromtimestamp(now, ZoneInfo(zone)).isoformat()
    assert dated.decode().count(moment) == 2
    assert b"\t10000000000000\t" in dated  # beyond all calendars
    assert in_seconds(dated, dated, before) == before
    header, _, rest = dated.partition(b"\n")
    after = header + b"\n" + rest.replace(b"\n", b"  \r\n")
    assert in_seconds(after, dated, before) == before
    local = datetime(2027, 3, 28, 12, 30, tzinfo=ZoneInfo(zone))
    for typed in (
        "2027-03-28 12:30",
        "2027-03-28T12:30:00",
        local.isoformat(),
        '"2027-03-28 12:30"',
    ):
        after = dated.replace(moment.encode(), typed.encode())
        changed = in_seconds(after, dated, before)
        assert changed == before.replace(str(now).encode(), str(int(local.timestamp())).encode())


@given(st.integers(-(10**15), 10**15))
def test_any_number_of_seconds_survives_the_dates(seconds: int) -> None:
    """What is shown for a time, typed anew, is that time to the second."""
    line = b"a1\tmail\t{}\tpending\t%d\t5\t0\t\t\n" % seconds
    before = HEADER + line
    dated = with_dates(before)
    assert in_seconds(dated, HEADER, HEADER) == before


def test_a_line_that_only_looks_like_a_job_stays(path: Path) -> None:
    """A malformed line with dates in it is handed out and taken back as it is."""
    odd = b"x y\tmail\t{}\tpending\t2026-11-25T10:00:00\tnever\t0\t\t\n"
    write(path, text("a1"), odd)
    engine = Queue(path).engine
    assert edit.edit(engine, ["true"]) == (0, 0, 0)
    assert path.read_bytes().endswith(odd)


def test_only_some_jobs(queue: Queue, path: Path) -> None:
    """Of the jobs named, and no other, and no malformed line; what is left out stays."""
    write(path, text("a1"), text("b2"), b"# note\n", text("c3"))
    engine = queue.engine
    before = hand_out(engine, ["a1", "c3"])
    assert before == HEADER + text("a1") + text("c3")
    assert take_back(engine, before, HEADER + text("c3", "cancelled")) == (1, 1, 0)
    assert states(look(path)) == {"b2": "pending", "c3": "cancelled"}
    assert b"# note\n" in path.read_bytes()


def test_a_typo_opens_the_editor_again_at_its_line(queue: Queue, tmp_path: Path) -> None:
    """As often as it is wanted, with the reasons; the text is as the person left it."""
    fill(queue)
    vim = tmp_path / "vim"
    vim.write_text(
        f"#!{sys.executable}\nimport sys\nfrom pathlib import Path\npath = Path(sys.argv[-1])\n"
        "with open(path.parent / 'calls', 'a') as calls: print(*sys.argv[1:-1], file=calls)\n"
        "old, new = [('pending', 'pnding'), ('pnding', 'paused'), ('paused', 'cancelled')]"
        "[len((path.parent / 'calls').read_text().splitlines()) - 1]\n"
        "path.write_text(path.read_text().replace(old, new, 1))\n"
    )
    vim.chmod(0o755)
    asked: list[str] = []
    done = edit.edit(queue.engine, [str(vim)], again=lambda why: not asked.append(why))
    assert done == (1, 0, 0)
    lines = [re.search(r"\.tsv:(\d+): status '(\w+)'", why) for why in asked]
    assert [found[2] for found in lines if found] == ["pnding", "paused"]
    calls = (queue.path.parent / "calls").read_text().splitlines()
    assert calls == ["", *(f"+{found[1]}" for found in lines if found)]


def test_a_refusal_to_edit_again_keeps_the_text(queue: Queue) -> None:
    """As does a conflict, which editing the same text again would not mend."""
    fill(queue)
    command = ["sed", "-i", "0,/pending/s//pnding/"]
    for again in (None, lambda why: False):
        with pytest.raises(EditRefused, match="pnding") as caught:
            edit.edit(queue.engine, command, again=again)
        assert caught.value.line is not None
        assert "is kept for a week in" in caught.value.__notes__[1]


def test_kept_texts_go_after_a_week(queue: Queue) -> None:
    """The next edit removes them; those of a younger edit, or of another table, stay."""
    fill(queue)
    folder = queue.path.parent
    old = [".queue.0123456789ab.edit.tsv", ".queue.0123456789ab.edit.tsv.swp"]
    young = [".queue.ba9876543210.edit.tsv", ".other.0123456789ab.edit.tsv", "edit.tsv"]
    for name in (*old, *young):
        (folder / name).touch()
    for name in (*old, *young[1:]):
        os.utime(folder / name, (0, time.time() - 8 * 86_400))
    assert edit.edit(queue.engine, ["true"]) == (0, 0, 0)
    left = set(os.listdir(folder))
    assert not left & set(old)
    assert left >= set(young)


def test_backups_of_the_editor_go_with_the_text(queue: Queue, tmp_path: Path) -> None:
    """What an editor has put beside the text has payloads, too: it is removed with it."""
    fill(queue)
    there = set(os.listdir(queue.path.parent))
    body = "import shutil\nfor end in ('~', '.swp', '.save'): shutil.copy(path, f'{path}{end}')\n"
    assert edit.edit(queue.engine, script(tmp_path, body)) == (0, 0, 0)
    assert set(os.listdir(queue.path.parent)) == there


def test_a_link_in_the_place_of_the_text_is_not_read(queue: Queue, tmp_path: Path) -> None:
    """What another user has put there is refused."""
    fill(queue)
    (tmp_path / "secret").write_text("secret")
    body = f"path.unlink(); path.symlink_to({str(tmp_path / 'secret')!r})"
    with pytest.raises(EditRefused, match="it is a symbolic link"):
        edit.edit(queue.engine, script(tmp_path, body))


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["/usr/bin/vim"], ["+7", "F"]),
        (["vim.basic", "-n"], ["-n", "+7", "F"]),
        (["emacsclient", "-nw"], ["-nw", "+7", "F"]),
        (["code", "--wait"], ["--wait", "--goto", "F:7"]),
        (["hx"], ["F:7"]),
        (["sed", "-i", "s/a/b/"], ["-i", "s/a/b/", "F"]),
    ],
)
def test_an_editor_is_told_the_line_in_its_own_words(command: list[str], words: list[str]) -> None:
    """Where it is known; any other gets the file only."""
    assert editor.at_line(command, Path("F"), 7)[1:] == words
    assert editor.at_line(command, Path("F"), None) == [*command, "F"]
