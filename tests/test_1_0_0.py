"""Files go to and fro between us, the released 1.0.0, and plain dbbasic-tsv."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from released import run
from specimens import AWKWARD
from tables import fill, look, own, states, torn, write

from dbbasic_queue import Queue
from dbbasic_queue.table.compat import JobTable
from dbbasic_queue.table.line import COLUMNS, HEADER

FAR = 4_000_000_000

# What 1.0.0 may be given: its own rows cannot hold a tab or line end in an error.
PAYLOADS: list[Any] = [
    {},
    *({"text": text} for text in AWKWARD),
    {text: [text, {"deep": text}] for text in AWKWARD},
    {"numbers": [0, -1, 1.5, 1e300, 10**30], "others": [True, False, None]},
    {"long": "x" * 2000},
]
RESULTS: list[Any] = [*AWKWARD, {"a": 1}, [1, "two"], 5, 1.5, True, False, None, [], "x" * 2000]

WORK = """
results = iter(results)
def handler(payload):
    result = next(results)
    if result == "fail":
        raise ValueError('no such "user" Zoë')
    return result
process_jobs({"work": handler}, max_attempts=max_attempts)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The working directory of 1.0.0, whose file is data/queue.tsv below it."""
    return tmp_path


def jobs_of_1_0_0(folder: Path, ids: list[str]) -> list[dict[str, Any]]:
    return run("answer = [get_job(job_id) for job_id in ids]", folder, ids=ids)


def wire(value: Any) -> Any:
    return json.loads(json.dumps(value))


# -- the file of 1.0.0 -----------------------------------------------------------------------------


def test_what_1_0_0_has_enqueued_is_worked(folder: Path, path: Path) -> None:
    """Every payload that 1.0.0 wrote reaches its handler as it was, each once."""
    ids = run(
        "answer = [enqueue('mail', payload) for payload in payloads]", folder, payloads=PAYLOADS
    )
    queue = Queue(path, "normal")
    assert [job["payload"] for job in queue.list_jobs()] == wire(PAYLOADS)
    assert [queue.get_job(job_id) for job_id in ids] == jobs_of_1_0_0(folder, ids)
    seen: list[Any] = []
    assert queue.process_jobs({"mail": seen.append}).completed == len(PAYLOADS)
    assert seen == wire(PAYLOADS)
    assert Counter(states(look(path)).values()) == {"completed": len(PAYLOADS)}


def test_what_1_0_0_has_worked_is_read(folder: Path, path: Path) -> None:
    """Results, errors, retries, failures and cancelled jobs of 1.0.0 are what it says they are."""
    count = len(RESULTS)
    ids = run(
        "ids = [enqueue('work', {'n': n}) for n in range(len(results) + 1)]\n"
        "cancel_job(ids[-1]); ids.append(enqueue('work', {}, 4000000000))\n"
        f"cancelled = ids[-2]\n{WORK}\nanswer = ids",
        folder,
        results=[*RESULTS, "fail", "fail", "fail"],
        max_attempts=3,
    )
    run(WORK, folder, results=["fail"], max_attempts=1)
    wanted = jobs_of_1_0_0(folder, ids)
    assert Counter(job["status"] for job in wanted) == {
        "completed": count,
        "pending": 4,
        "cancelled": 1,
    }
    queue = Queue(path, "normal")
    content = path.read_bytes()
    assert [queue.get_job(job_id) for job_id in ids] == wanted
    assert list(queue.list_jobs()) == wanted
    assert queue.count_jobs()["completed"] == count
    assert path.read_bytes() == content
    errors = {job["error"] for job in wanted if job["status"] == "pending"}
    assert errors == {None, 'no such "user" Zoë'}


def test_errors_of_1_0_0_that_break_its_rows(folder: Path, path: Path) -> None:
    """An error with line ends breaks the row of 1.0.0: the job is read, the rest is kept."""
    ids = run(
        """
def handler(payload):
    raise ValueError(payload["text"])
answer = [enqueue("work", {"text": text}) for text in texts]
process_jobs({"work": handler}, max_attempts=1)
""",
        folder,
        texts=['"unbalanced', 'a "word" inside', '"', '"all of it"', "three\nlines\nof it"],
    )
    queue = Queue(path, "normal")
    errors = [job["error"] for job in map(queue.get_job, ids) if job]
    assert errors == ['"unbalanced', 'a "word" inside', '"', '"all of it"', "three"]
    assert queue.count_jobs()["failed"] == 5
    assert all(queue.retry_job(job_id) for job_id in ids)
    assert queue.process_jobs({"work": lambda payload: "ok"}).completed == 5
    assert queue.prune_jobs(0) == 5
    assert path.read_bytes() == HEADER + b"lines\nof it\t\n"


def test_an_empty_file_of_1_0_0_is_a_queue(folder: Path, path: Path) -> None:
    """What is left when two of its processes met, an empty file, becomes a table again."""
    write(path, header=b"")
    queue = Queue(path, "normal")
    job_id = queue.enqueue("mail", {"a": 1})
    assert run("answer = get_job(job_id)", folder, job_id=job_id) == queue.get_job(job_id)


# -- our file --------------------------------------------------------------------------------------


def make_ours(path: Path) -> list[dict[str, Any]]:
    """A file of ours with everything in it, worked by us; returns its jobs."""
    queue = Queue(path, "normal", clock=lambda: 1_700_000_000)
    for number, payload in enumerate(PAYLOADS):
        queue.enqueue("mail", payload, job_id=f"pending-{number}")
    queue.enqueue_many([("work", {"n": number}) for number in range(len(RESULTS))])
    results = iter(RESULTS)
    queue.process_jobs({"work": lambda payload: next(results)}, types=["work"])
    for number, text in enumerate(AWKWARD):
        queue.enqueue("bad", {"text": text}, job_id=f"failed-{number}")
    queue.process_jobs({"bad": lambda payload: 1 / int(payload["text"])}, 1, types=["bad"])
    queue.enqueue("Zoë/🐍.日本\"'#", {}, FAR, job_id="later_-1")
    queue.enqueue("mail", {}, FAR, job_id="cancelled")
    queue.cancel_job("cancelled")
    queue.enqueue("bad", {}, job_id="retried")
    queue.process_jobs({"bad": lambda payload: 1 / 0}, types=["bad"])
    return list(queue.list_jobs())


def test_1_0_0_reads_ours(folder: Path, path: Path) -> None:
    """Every job of ours is for 1.0.0 what it is for us, with every awkward string."""
    jobs = make_ours(path)
    before = path.read_bytes()
    assert jobs_of_1_0_0(folder, [job["id"] for job in jobs]) == jobs
    assert path.read_bytes() == before


def test_1_0_0_works_ours_and_we_go_on(folder: Path, path: Path) -> None:
    """1.0.0 works on a file of ours, which we have open, and we go on with what it wrote."""
    jobs = {job["id"]: job for job in make_ours(path)}
    queue = Queue(path, "normal")
    payloads = run(
        """
answer = []
def mail(payload):
    answer.append(payload)
    return {"seen": len(answer)}
process_jobs({"mail": mail})
assert cancel_job("later_-1") and not cancel_job("cancelled")
""",
        folder,
    )
    assert payloads == wire(PAYLOADS)
    after = {job["id"]: job for job in queue.list_jobs()}
    for number in range(len(PAYLOADS)):
        job = after.pop(f"pending-{number}")
        assert (job["status"], job["result"]) == ("completed", {"seen": number + 1})
        jobs.pop(job["id"])
    changed = {name for name in jobs if jobs[name] != after[name]}
    assert changed == {"later_-1", "retried"}  # its backoff was over for the clock of 1.0.0
    assert after["later_-1"]["status"] == "cancelled"
    assert queue.retry_job("later_-1")
    assert queue.process_jobs({"Zoë/🐍.日本\"'#": lambda payload: "ok"}, unknown="skip").completed
    assert queue.prune_jobs(0) > 60
    assert not torn(path)


def test_a_crash_in_a_move_leaves_1_0_0_a_job(folder: Path, path: Path) -> None:
    """Both lines that a crash in a move leaves are rows for 1.0.0, too."""
    content = write(path, own(len(HEADER), "a1", "processing", attempts=1))
    line = own(len(content), "a1", "completed", attempts=1, moved=True, result='{"a": 1}')
    path.write_bytes(content + line)
    assert jobs_of_1_0_0(folder, ["a1"])[0]["status"] == "processing"
    assert (Queue(path).get_job("a1") or {})["status"] == "completed"


# -- plain dbbasic-tsv -----------------------------------------------------------------------------


PLAIN = "table = TSV('queue', columns, __import__('pathlib').Path('data'))\n"


def test_plain_dbbasic_tsv_reads_ours(folder: Path, path: Path) -> None:
    """The rows of ours are, for plain dbbasic-tsv, those that our own table gives out."""
    make_ours(path)
    before = path.read_bytes()
    rows = run(PLAIN + "answer = list(table.all())", folder, columns=COLUMNS)
    live = [row for row in rows if row["id"].strip()]
    stripped = [{name: value.strip() for name, value in row.items()} for row in live]
    assert stripped == list(JobTable(path).all())
    assert path.read_bytes() == before


def test_plain_dbbasic_tsv_changes_ours_while_it_is_open(folder: Path, path: Path) -> None:
    """Its update, insert and delete go into a file that we have open, and no job suffers."""
    wanted = {job["id"]: job for job in make_ours(path)}
    queue = Queue(path, "normal", clock=lambda: 1_700_000_000)
    assert queue.get_job("pending-1") == wanted["pending-1"]
    counts = run(
        PLAIN + "answer = [table.update({'id': 'pending-0'}, {'run_at': '4000000000'}),\n"
        "table.delete(id='pending-2'), table.delete(id='nobody'),\n"
        "table.insert({**record, 'payload': {'a': 'say \"hi\"'}}),\n"
        "table.insert_many([{**record, 'id': 'plain-2', 'result': '\"ok\"', 'status': 'failed'}])]",
        folder,
        columns=COLUMNS,
        record=dict(zip(COLUMNS, ["plain-1", "mail", "", "pending", 5, 5, 0, "", ""], strict=True)),
    )
    assert counts == [1, 1, 0, True, 1]
    wanted.pop("pending-2")
    wanted["pending-0"]["run_at"] = FAR
    found = {job["id"]: job for job in queue.list_jobs()}
    assert found.pop("plain-1")["payload"] == {"a": 'say "hi"'}
    assert found.pop("plain-2")["status"] == "failed"
    assert found == wanted
    assert [queue.get_job(job_id) for job_id in wanted] == list(wanted.values())
    seen: list[Any] = []
    done = queue.process_jobs({"mail": seen.append}, types=["mail"])
    assert done.completed == len(PAYLOADS) - 1
    assert sorted(map(str, seen)) == sorted(
        map(str, [*wire(PAYLOADS)[1:2], *wire(PAYLOADS)[3:], {"a": 'say "hi"'}])
    )
    assert len(states(queue.engine.table)) == len(wanted) + 2
    again = run(PLAIN + "answer = [row['id'] for row in table.all()]", folder, columns=COLUMNS)
    assert {name for name in again if name.strip()} == set(states(queue.engine.table))


def test_plain_dbbasic_tsv_rewrites_the_file_while_a_job_runs(folder: Path, path: Path) -> None:
    """The job in hand is recorded in the new file, and the others are run once."""
    queue = Queue(path, "normal")
    for number in range(4):
        queue.enqueue("mail", {"n": number, "text": 'say "hi"'}, job_id=f"j{number}")
    update = "answer = table.update({'id': 'j3'}, {'payload': json.dumps({'n': n})})"
    ran: list[int] = []

    def handler(payload: dict[str, Any]) -> str:
        ran.append(payload["n"])
        if len(ran) < 4:
            assert run(PLAIN + update, folder, columns=COLUMNS, n=100 + len(ran)) == 1
        return 'a "quoted" result'

    assert queue.process_jobs({"mail": handler}).completed == 4
    assert ran == [0, 1, 2, 103]
    assert [job["result"] for job in queue.list_jobs()] == ['a "quoted" result'] * 4
    assert not torn(path)


def test_plain_dbbasic_tsv_locks_what_we_lock(folder: Path, path: Path) -> None:
    """What keeps plain dbbasic-tsv out is held while we write or read, and readers share it."""
    fill(Queue(path, "normal"))
    code = """
import fcntl, os
fd = os.open("data/queue.lock", os.O_RDWR)
try:
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    answer = "free"
except BlockingIOError:
    answer = "held"
"""
    table = look(path)
    with table.writing():
        assert run(code, folder) == "held"
    with table.reading():
        assert run(code, folder) == "held"
        query = "answer = table.query(id='due1')[0]['type']"
        assert run(PLAIN + query, folder, columns=COLUMNS) == "mail"
    assert run(code, folder) == "free"
