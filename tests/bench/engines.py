"""The queues that are compared, each used as its own documentation shows, behind one interface.

`work` takes jobs and finishes them with a handler that does nothing; the time that counts is from
the first handler's start to the last's, so that no engine pays for its start here.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

PAYLOAD = {"to": "zoe@example.com", "subject": "Welcome", "template": "welcome-2"}
SYNCED = "synced"
UNSYNCED = "not synced"


class Enough(BaseException):
    """Raised in a handler to break off an engine that knows no limit."""


class Stopwatch:
    """A handler that counts jobs, and the time since the first."""

    def __init__(self, limit: int, seconds: float) -> None:
        self.count = 0
        self._limit = limit
        self._seconds = seconds
        self.first = self.last = 0.0

    def __call__(self, payload: Any = None) -> None:
        self.last = time.perf_counter()
        if not self.count:
            self.first = self.last
        self.count += 1

    def is_enough(self) -> bool:
        """Whether it ran often or long enough; three jobs at least."""
        if self.count >= self._limit:
            return True
        return self.count >= 3 and self.last - self.first >= self._seconds

    def cost(self) -> float:
        """Seconds a job."""
        return (self.last - self.first) / (self.count - 1)


class Engine:
    """A queue in a folder."""

    name = ""
    durability = ""
    largest = 1_000_000  # backlog that it is asked to bear
    processes = True  # whether several processes may use it

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def enqueue(self) -> None:
        """Add one job."""
        raise NotImplementedError

    def fill(self, count: int) -> None:
        """Add many jobs, by the fastest way there is."""
        for _ in range(count):
            self.enqueue()

    def work(self, watch: Stopwatch) -> None:
        """Take and finish jobs until there are none or it is enough."""
        raise NotImplementedError

    def bytes_used(self) -> int:
        """What its files take on disk."""
        return sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())


class Ours(Engine):
    """dbbasic-queue 2, through the library."""

    name = "dbbasic-queue 2 (full)"
    durability = SYNCED
    mode = "full"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        from dbbasic_queue import Queue

        self.queue = Queue(folder / "queue.tsv", self.mode)

    def enqueue(self) -> None:
        self.queue.enqueue("mail", PAYLOAD)

    def fill(self, count: int) -> None:
        for start in range(0, count, 10_000):
            self.queue.enqueue_many([("mail", PAYLOAD)] * min(10_000, count - start))

    def work(self, watch: Stopwatch) -> None:
        def handler(payload: Any) -> None:
            watch()
            if watch.is_enough():  # a first signal lets the job in hand finish
                os.kill(os.getpid(), signal.SIGTERM)

        with suppress(SystemExit):
            self.queue.process_jobs({"mail": handler})


class OursNormal(Ours):
    """The same without syncs."""

    name = "dbbasic-queue 2 (normal)"
    durability = UNSYNCED
    mode = "normal"


class Old(Engine):
    """dbbasic-queue 1.0.0, from a folder of its own, as its package has the same name."""

    name = "dbbasic-queue 1.0.0"
    durability = UNSYNCED
    largest = 100_000
    processes = False  # they overwrite each other's file

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        sys.path.insert(0, os.environ["BENCH_OLD"])
        import dbbasic_queue.queue as old

        assert not hasattr(old, "Queue"), "this is not 1.0.0"
        old.QUEUE_FILE = str(folder / "queue.tsv")
        self._old: Any = old

    def enqueue(self) -> None:
        self._old.enqueue("mail", PAYLOAD)

    def work(self, watch: Stopwatch) -> None:
        def handler(payload: Any) -> None:
            watch()
            if watch.is_enough():
                raise Enough

        with suppress(Enough):
            self._old.process_jobs({"mail": handler})


class _Huey(Engine):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.huey = self._open()
        self._watch: Stopwatch | None = None

        @self.huey.task()  # type: ignore[untyped-decorator]
        def mail(payload: Any) -> None:
            if self._watch is not None:
                self._watch()

        self._mail = mail

    def _open(self) -> Any:
        raise NotImplementedError

    def enqueue(self) -> None:
        self._mail(PAYLOAD)

    def work(self, watch: Stopwatch) -> None:
        self._watch = watch
        while not watch.is_enough():
            task = self.huey.dequeue()
            if task is None:
                break
            self.huey.execute(task)


class _Sqlite(_Huey):
    fsync: bool | None = None

    def _open(self) -> Any:
        from huey import SqliteHuey

        return SqliteHuey(filename=str(self.folder / "huey.db"), fsync=self.fsync)

    def fill(self, count: int) -> None:
        self.enqueue()
        database = sqlite3.connect(self.folder / "huey.db")
        database.execute("pragma synchronous=off")
        copy_rows(database, "task", "queue, data, priority", "id", count)


class HueyDefault(_Sqlite):
    """huey on SQLite as it comes: each commit is synced."""

    name = "SqliteHuey (default)"
    durability = SYNCED


class HueyNoSync(_Sqlite):
    """huey on SQLite, told not to sync."""

    name = "SqliteHuey (fsync off)"
    durability = UNSYNCED
    fsync = False


class HueyFile(_Huey):
    """huey on one file a job."""

    name = "FileHuey"
    durability = UNSYNCED
    largest = 100_000

    def _open(self) -> Any:
        from huey import FileHuey

        return FileHuey(path=str(self.folder / "files"))


class LiteQueue(Engine):
    """litequeue: SQLite, WAL, synchronous=NORMAL."""

    name = "litequeue"
    durability = UNSYNCED

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        import json

        from litequeue import LiteQueue as Queue

        self._queue = Queue(str(folder / "lite.db"))
        self._dumps = json.dumps

    def enqueue(self) -> None:
        self._queue.put(self._dumps(PAYLOAD))

    def fill(self, count: int) -> None:
        with self._queue.transaction():
            for _ in range(count):
                self.enqueue()

    def work(self, watch: Stopwatch) -> None:
        while not watch.is_enough():
            message = self._queue.pop()
            if message is None:
                break
            watch(message)
            self._queue.done(message.message_id)


class PersistQueue(Engine):
    """persist-queue's SQLiteAckQueue: each commit is synced."""

    name = "persist-queue (SQLiteAckQueue)"
    durability = SYNCED

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        from persistqueue import SQLiteAckQueue

        self._queue = SQLiteAckQueue(str(folder / "persist"), multithreading=True)

    def enqueue(self) -> None:
        self._queue.put(PAYLOAD)

    def fill(self, count: int) -> None:
        self.enqueue()
        (path,) = (self.folder / "persist").glob("*.db")
        database = sqlite3.connect(path)
        database.execute("pragma synchronous=off")
        copy_rows(database, "ack_queue_default", "data, timestamp, status", "_id", count)

    def work(self, watch: Stopwatch) -> None:
        from persistqueue.exceptions import Empty

        while not watch.is_enough():
            try:
                item = self._queue.get(block=False)
            except Empty:
                break
            watch(item)
            self._queue.ack(item)


def copy_rows(database: sqlite3.Connection, table: str, columns: str, key: str, count: int) -> None:
    """Fill a table with copies of its last row."""
    with database:
        database.execute(
            f"insert into {table} ({columns}) with recursive n(i) as (select 1 union all"
            f" select i + 1 from n where i < {count - 1}) select {columns} from {table}, n"
            f" where {key} = (select max({key}) from {table})"
        )
    database.close()


ENGINES: dict[str, Callable[[Path], Engine]] = {
    "ours-full": Ours,
    "huey": HueyDefault,
    "persist": PersistQueue,
    "ours-normal": OursNormal,
    "huey-nosync": HueyNoSync,
    "huey-file": HueyFile,
    "litequeue": LiteQueue,
    "old": Old,
}
