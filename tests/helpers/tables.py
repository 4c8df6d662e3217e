"""Tables made by hand, and processes that look at them: shared by the tests of the lower layers."""

from __future__ import annotations

import errno
import fcntl
import itertools
import os
import pickle
import signal
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dbbasic_queue import Queue
from dbbasic_queue.table import scan
from dbbasic_queue.table.line import HEADER, Row, build_line, parse_line
from dbbasic_queue.table.table import Table

NOBODY = 65534
LONG = '{"text": "' + "x" * 300 + '"}'  # a result that moves its row

# Lines that are no rows, as hostile as they come.
MALFORMED = (
    b"# a comment\n",
    b"a1\tmail\t{}\tdone\t5\t5\t0\t\t\n",  # no such state, and the id of a job
    b"a1\t x\n",  # looks like the start of a moved row of a job
    b'a1\tmail\t {"a"' + b"\0" * 40 + b"\n",  # what a power cut leaves of one
    b"b2\tmail\t{}\tpending\t5\t5\t0\t\t\tone field more\n",
    b"m1\tmail\t{}\tpending\t-5\t5\t0\t\t\n",
    b"m 2\tmail\t{}\tpending\t5\t5\t0\t\t\n",
    b"\tmail\t{}\tprocessing\t5\t5\t0\t\t\n",
    b'"quoted\tx"\tpending\t1\t1\t\n',
    b"left\rright\n",
    b"\xff\xfe\x00\xc3\n",
    b"x" * 3000 + b"\n",
    HEADER,  # the second of two files put together
)


def text(job_id: str = "a1", status: str = "pending", **fields: Any) -> bytes:
    """A line without reserve, as 1.0.0 or a person would write it."""
    values = {
        "id": job_id,
        "type": "mail",
        "payload": "{}",
        "status": status,
        "created_at": 5,
        "run_at": 5,
        "attempts": 0,
        "error": "",
        "result": "",
        **fields,
    }
    return "\t".join(map(str, values.values())).encode() + b"\n"


def own(offset: int, job_id: str = "a1", status: str = "pending", **fields: Any) -> bytes:
    """A line as this library writes it at `offset`, with `moved=True` as the new version of one."""
    space = " " if fields.pop("moved", False) else ""
    row = parse_line(text(job_id, status, **fields))
    assert row is not None
    head = b"%b\t%b\t%b" % (row.id, row.type, space.encode() + row.payload)
    return build_line(
        offset, head, status, row.created_at, row.run_at, row.attempts, row.error, row.result
    )


def write(path: Path, *lines: bytes, header: bytes = HEADER) -> bytes:
    """Make a table of these lines; returns its content."""
    content = header + b"".join(lines)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    return content


def look(path: Path, durability: str = "normal") -> Table:
    """A table object that knows nothing yet."""
    return Table(path, durability)


def add(table: Table, job_id: str = "new", **fields: Any) -> Row:
    """Append a job's row under the lock, as `enqueue` does."""
    with table.writing():
        line = own(table.size, job_id, **fields)
        row = parse_line(line, table.append(line))
    assert row is not None
    return row


def mend(path: Path) -> None:
    """Do what every writer does first."""
    with look(path).writing():
        pass


def states(table: Table) -> dict[str, str]:
    """Id -> status of every row that the table yields; each id must be there once."""
    found = [(row.id.decode(), row.status) for row in table.rows()]
    assert len(dict(found)) == len(found), f"a job twice: {found}"
    return dict(found)


def torn(path: Path) -> bytes:
    """What has been set aside, nothing if nothing was."""
    aside = path.with_suffix(".torn")
    return aside.read_bytes() if aside.exists() else b""


def names(folder: Path) -> set[str]:
    """What there is in a folder."""
    return set(os.listdir(folder))


def replace(path: Path, content: bytes) -> None:
    """Save as vim, sed -i and most editors do: a new file, renamed over the old one."""
    other = path.with_name("4913~")
    other.write_bytes(content)
    other.rename(path)


def overwrite(path: Path, content: bytes) -> None:
    """Save as nano and `cp` do: the same file, cut and written again."""
    path.write_bytes(content)


def fill(queue: Queue) -> None:
    """Jobs of all states and kinds."""
    for number in range(6):
        payload = {"n": number, "text": 'Zoë 🐍 \u2028 \x00\t\n "quoted" \'' * number}
        queue.enqueue("mail", payload, job_id=f"due{number}")
    queue.enqueue("later", {}, 4_000_000_000, job_id="later")
    queue.enqueue("other", {"result": ["long"] * 60}, job_id="long")
    queue.enqueue("other", {"result": 'a "string"'}, job_id="string")
    queue.enqueue("other", {"result": {"a": None}}, job_id="object")
    queue.enqueue("bad", {"text": '"' * 200}, job_id="failed")
    queue.process_jobs({"other": lambda payload: payload["result"]}, types=["other"])
    queue.process_jobs({"bad": lambda payload: 1 / 0}, 1, types=["bad"])
    queue.enqueue("mail", {}, job_id="cancelled")
    queue.cancel_job("cancelled")


TESTS = "dbq-tests-"  # how the folder begins that tests/conftest.py makes for each run


def let_in(folder: Path) -> None:
    """Let other users into a test's folder, and into pytest's above it: those are private."""
    while folder.name.startswith(("data", "test_", "pytest-", "popen-", TESTS)):
        folder.chmod(folder.stat().st_mode | 0o555)
        folder = folder.parent


def in_child(function: Callable[[], Any], *, user: int | None = None) -> Any:
    """What `function` returns or raises in a forked child, as user `user` when this one is root."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        os.write(writer, _outcome(function, user))
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        data = pipe.read()
    _, status = os.waitpid(pid, 0)
    assert data, f"the child ended with status {status}"
    good, value = pickle.loads(data)
    if not good:
        raise value
    return value


def _outcome(function: Callable[[], Any], user: int | None) -> bytes:
    signal.alarm(60)
    try:
        if user is not None and os.getuid() == 0:
            os.setgroups([])
            os.setgid(user)
            os.setuid(user)
        outcome = True, function()
    except BaseException as error:  # handed on, whatever it is
        error.add_note(traceback.format_exc())
        outcome = False, error
    return pickle.dumps(outcome)


def fields(row: Row | None) -> tuple[Any, ...]:
    """What a row says, wherever it stands and however much reserve it has."""
    assert row is not None
    return (row.id, row.type, row.payload.strip(), *row[6:])


def lines_of(path: Path) -> list[bytes]:
    return path.read_bytes().split(b"\n")


def find(table: Table, job_id: str) -> Row | None:
    with table.reading():
        return table.find(job_id.encode())


def get(table: Table, job_id: str) -> Row:
    row = find(table, job_id)
    assert row is not None
    return row


def change(table: Table, job_id: str, status: str, error: str = "", result: str = "") -> Row:
    with table.writing():
        row = get(table, job_id)
        return table.change(row, status, 6, row.attempts + 1, error.encode(), result.encode())


def stands(table: Table, row: Row) -> bool:
    """Whether a row is in the file as it is here."""
    return table.holds(row.line, row.offset)


def holds_lock(path: Path) -> bool:
    """Whether another process holds the lock file that the path leads to now."""
    fd = os.open(path.with_suffix(".lock"), os.O_RDWR)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def refuse(*args: object, **kwargs: object) -> None:
    """Stands in for a system call that fails."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def set_piece(patch: pytest.MonkeyPatch, size: int) -> None:
    """Let so many bytes be read at a time."""
    patch.setattr(scan, "PIECE", size)


def files(path: Path) -> Iterator[Path]:
    """Ever new paths of tables in one folder."""
    path.parent.mkdir(exist_ok=True)
    return (path.with_name(f"q{number}.tsv") for number in itertools.count())
