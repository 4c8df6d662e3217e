"""Files that people and other programs have edited keep working, and keep what is in them."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from specimens import EDITS
from tables import MALFORMED, fill, look, overwrite, own, replace, states, text, torn, write

from dbbasic_queue import Queue
from dbbasic_queue.engines.tsv import fsck
from dbbasic_queue.table.line import HEADER

LONG = '{"text": "' + "x" * 300 + '"}'


@pytest.mark.parametrize("save", [replace, overwrite])
@pytest.mark.parametrize("edit", EDITS)
def test_an_edited_file_is_the_same_queue(
    queue: Queue, path: Path, edit: str, save: Callable[[Path, bytes], None]
) -> None:
    """Whatever an editor does to white space and line ends, while a queue is open, jobs stay.

    They are the same jobs for all readers, and every job that is due is run once.
    """
    fill(queue)
    before = {job["id"]: job for job in queue.list_jobs()}
    counts = queue.count_jobs()
    save(path, EDITS[edit](path.read_bytes()))
    for reader in (queue, Queue(path, "normal")):
        assert {job["id"]: job for job in reader.list_jobs()} == before
        assert reader.count_jobs() == counts
        assert [reader.get_job(job_id) for job_id in before] == list(before.values())
    comments = path.read_bytes().count(b"# ---")
    ran: list[int] = []
    assert queue.process_jobs({"mail": lambda payload: ran.append(payload["n"])}).completed == 6
    assert sorted(ran) == list(range(6))
    assert queue.retry_job("failed")
    assert queue.cancel_job("later")
    after = {job["id"]: job["status"] for job in Queue(path).list_jobs()}
    assert after == {
        **{job_id: job["status"] for job_id, job in before.items()},
        **dict.fromkeys([f"due{number}" for number in range(6)], "completed"),
        "failed": "pending",
        "later": "cancelled",
    }
    assert path.read_bytes().count(b"# ---") == comments
    assert not torn(path)
    assert queue.prune_jobs(0, ["completed", "cancelled"]) == 11
    assert [job["id"] for job in queue.list_jobs()] == ["failed"]
    assert path.read_bytes().count(b"# ---") == comments


@pytest.mark.parametrize("save", [replace, overwrite])
def test_a_file_shifted_while_a_job_runs(
    queue: Queue, path: Path, save: Callable[[Path, bytes], None]
) -> None:
    """A line put in above while a worker works shifts all rows, and every job is run once."""
    for number in range(5):
        queue.enqueue("mail", {"n": number})
    ran: list[int] = []

    def handler(payload: dict[str, int]) -> None:
        ran.append(payload["n"])
        content = path.read_bytes()
        save(path, content.replace(HEADER, HEADER + b"# seen %d\n" % payload["n"]))

    assert queue.process_jobs({"mail": handler}).completed == 5
    assert sorted(ran) == list(range(5))
    assert Counter(states(look(path)).values()) == {"completed": 5}
    assert path.read_bytes().count(b"# seen") == 5


@pytest.mark.parametrize("save", [replace, overwrite])
def test_a_job_edited_by_hand_is_what_was_saved(
    queue: Queue, path: Path, save: Callable[[Path, bytes], None]
) -> None:
    """A payload, a time or a state changed in an editor is what the worker goes by."""
    queue.enqueue("mail", {"to": "a"}, job_id="payload")
    queue.enqueue("mail", {}, 4_000_000_000, job_id="time")
    queue.enqueue("mail", {}, job_id="state")
    queue.process_jobs({}, limit=0)
    text = path.read_bytes()
    text = text.replace(b'{"to": "a"}', b'{"to": "another person"}').replace(b"4000000000", b"17")
    text = re.sub(rb"(?m)^(state\t.*?)\tpending", rb"\1\tcancelled", text)
    save(path, text)
    ran = []
    queue.process_jobs({"mail": ran.append})
    assert ran == [{}, {"to": "another person"}]
    assert states(look(path)) == {
        "payload": "completed",
        "time": "completed",
        "state": "cancelled",
    }


def test_the_tools_of_every_day(queue: Queue, path: Path) -> None:
    """`sed -i`, `echo >>` and `sort` on the file that is open are edits like any other."""
    for number in range(4):
        queue.enqueue("mail", {"n": number}, job_id=f"j{number}")
    shell = r"""
        sed -i 's/"n": 2/"n": 222/' queue.tsv
        printf 'e5\tmail\t{"n": 5}\tpending\t5\t5\t0\t\t\n' >> queue.tsv
        (head -1 queue.tsv; tail -n +2 queue.tsv | sort -r) > sorted && cp sorted queue.tsv
        printf 'e6\tmail\t{"n": 6}\tpending\t6\t6\t0' >> queue.tsv
        awk -F'\t' '$4 == "pending"' queue.tsv | wc -l
    """
    done = subprocess.run(
        ["sh", "-euc", shell], cwd=path.parent, capture_output=True, text=True, check=True
    )
    assert int(done.stdout) == 6
    ran: list[int] = []
    assert queue.process_jobs({"mail": lambda payload: ran.append(payload["n"])}).completed == 6
    assert ran == [5, 6, 3, 222, 1, 0]
    assert set(states(look(path)).values()) == {"completed"}


def test_malformed_lines_are_kept_byte_for_byte(path: Path) -> None:
    """Lines that are no rows stay as they are, in their order, whatever happens around them."""
    lines, content = [], HEADER
    for number, bad in enumerate(MALFORMED):
        lines += [own(len(content), f"due{number}", payload=LONG), bad]
        content = HEADER + b"".join(lines)
    write(path, *lines, own(len(content), "a1"), own(len(content), "b2", "failed"))
    queue = Queue(path, "normal")

    def malformed() -> list[bytes]:
        known = {line for line in MALFORMED if not line.startswith(b" ")}
        return [line for line in path.read_bytes().splitlines(True)[1:] if line in known]

    def kept() -> bool:
        content = path.read_bytes()
        at = [content.index(line, len(HEADER)) for line in MALFORMED]
        return at == sorted(at)

    assert kept()
    wanted = {f"due{number}" for number in range(len(MALFORMED))} | {"a1", "b2"}
    assert set(states(queue.engine.table)) == wanted
    assert sum(queue.count_jobs().values()) == len(wanted)
    assert queue.process_jobs({"mail": lambda payload: payload}).completed == len(MALFORMED) + 1
    assert kept()
    assert queue.retry_job("b2")
    assert queue.cancel_job("b2")
    assert set(states(queue.engine.table)) == wanted
    with queue.engine.table.writing():
        assert queue.engine.table.rewrite() == 0
    assert kept()
    assert set(states(queue.engine.table)) == wanted
    assert queue.prune_jobs(0) == len(wanted)
    assert path.read_bytes() == HEADER + b"".join(MALFORMED)
    assert len(fsck.check(queue.engine)) == len(MALFORMED)


def test_only_jobs_count_as_ready(path: Path) -> None:
    """A malformed line that looks pending, or the old line of a moved job, delays no worker."""
    content = write(path, text("x9", run_at=7, result="a\tb"), b" " + text("y8")[1:], text("a1"))
    content += text("b2", run_at=8) + text("c3", run_at=4_000_000_000)
    overwrite(path, content + own(len(content), "a1", run_at=9, moved=True))
    stats = Queue(path, clock=lambda: 10.9).stats()
    assert (stats.ready, stats.latency, stats.jobs["pending"]) == (2, 2, 3)
    assert Queue(path, clock=lambda: 7).stats()[1:3] == (0, 0)


def test_of_two_lines_with_one_id_the_later_is_the_job(path: Path) -> None:
    """When a person has copied a line, a job's id means the later one, and fsck tells."""
    write(path, text("a1", attempts=1), text("b2"), text("a1", attempts=2), text("c3"))
    queue = Queue(path, "normal")
    job = queue.get_job("a1")
    assert job is not None
    assert job["attempts"] == 2
    assert queue.cancel_job("a1")
    assert states(queue.engine.table) == {"b2": "pending", "c3": "pending", "a1": "cancelled"}
    assert [(found.kind, found.line) for found in fsck.check(queue.engine)] == [("duplicate", 2)]
    assert [found.kind for found in fsck.repair(queue.engine)] == ["duplicate"]
    assert states(queue.engine.table) == {"b2": "pending", "c3": "pending", "a1": "cancelled"}
    assert torn(path) == text("a1", attempts=1)
