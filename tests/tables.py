"""Tables made by hand, and processes that look at them: what the tests of the lower layers share."""

from __future__ import annotations

import os
import pickle
import signal
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dbbasic_queue.table import JobTable
from dbbasic_queue.tsv import HEADER, Row, build_line, parse_line

NOBODY = 65534


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


def look(path: Path, durability: str = "normal") -> JobTable:
    """A table object that knows nothing yet."""
    return JobTable(path, durability)


def add(table: JobTable, job_id: str = "new", **fields: Any) -> Row:
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


def states(table: JobTable) -> dict[str, str]:
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
