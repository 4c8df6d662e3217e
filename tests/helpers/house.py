"""A queue that a group shares, and what the parties that share it try."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from parties import PRODUCER, READER, ROOT, WORKER, as_user

from dbbasic_queue import Queue, QueueError
from dbbasic_queue.support.account import Account
from dbbasic_queue.support.files import BESIDE

# Each that a version of ours writes; the rest of the list is of 1.0.0.
FILES = ("tsv", *(ending for ending in BESIDE if ending not in ("idx", "meta", "tmp")))
PARTIES = (ROOT, WORKER, PRODUCER, READER)
HANDLERS = {"ok": print}


@dataclass
class House:
    """A shared folder with a queue in it, and a file elsewhere that is none of the queue's."""

    folder: Path
    table: Path
    victim: Path

    def beside(self, ending: str) -> Path:
        """A file of the queue."""
        return self.table.with_suffix(f".{ending}")

    def queue(self) -> Queue:
        """The queue, opened anew, as another process does."""
        return Queue(self.table)

    def enqueue(self, user: Account = PRODUCER, job_type: str = "ok") -> str:
        """Add a job as that user; returns its id."""
        return as_user(user, lambda: self.queue().enqueue(job_type, {}))

    def work(self, user: Account = WORKER) -> int:
        """Run what is due as that user; returns how many jobs were completed."""
        return as_user(
            user, lambda: self.queue().process_jobs({"ok": lambda payload: None}).completed
        )

    def statuses(self) -> list[str]:
        """What became of the jobs, as the worker sees them."""
        return as_user(WORKER, lambda: [job["status"] for job in self.queue().list_jobs()])


class Ran:
    """What a command printed, and its exit code."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def text(self) -> str:
        """All that it printed."""
        return self.out + self.err

    def __repr__(self) -> str:
        return f"exit {self.code}\n{self.text}"


def command(user: Account, main: Callable[[list[str]], int], *words: object) -> Ran:
    """Run a command of ours as a user, and return what it printed."""
    return as_user(user, lambda: printed(main, *words))


def printed(main: Callable[[list[str]], int], *words: object) -> Ran:
    """Run a command of ours in this process, whose standard streams it gets for itself."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        os.dup2(out.fileno(), 1)
        os.dup2(err.fileno(), 2)
        for name, fd in (("stdout", 1), ("stderr", 2)):
            stream = os.fdopen(fd, "w", encoding="utf-8", closefd=False)
            setattr(sys, name, stream)
        try:
            code = main([str(word) for word in words])
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        sys.stdout.flush()
        sys.stderr.flush()
        texts = (os.pread(each.fileno(), 1 << 20, 0).decode() for each in (out, err))
        return Ran(code, *texts)


def outcome(user: Account, function: Callable[[], object]) -> str:
    """What came of an attempt: nothing to complain of, or an error that is meant for people.

    Any other exception, such as a bare `OSError`, fails the test.
    """
    try:
        as_user(user, function)
    except QueueError as error:
        return str(error)
    return ""
