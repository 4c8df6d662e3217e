"""Each engine behind the same methods: seed, put, work, and where it can, find and listen.

Every adapter uses its library as that library's own documentation does. Only `seed`, which is
not measured, takes short cuts. Libraries are imported when an engine is opened, so that a process
pays for its own engine alone.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

Handler = Callable[[Any], None]
TYPE = "job"


class Enough(BaseException):
    """Raised in a handler to leave a worker that knows no limit."""


def payload(number: int) -> dict[str, Any]:
    """A payload as applications have it; the number tells jobs apart."""
    return {"n": number, "to": "zoe@example.com", "subject": "Your order has been sent"}


def payloads(count: int) -> Iterator[dict[str, Any]]:
    """Payloads of a backlog; their numbers are below zero, so that no producer has them."""
    return (payload(-1 - number) for number in range(count))


def peak_memory() -> int:
    """The most memory this process has had resident, in bytes (VmHWM, proc_pid_status(5))."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("/proc/self/status has no VmHWM")


class Engine(ABC):
    """A queue in a folder.

    Those that say `finds` have `find(key)`, which returns a job by what `put` has returned; those
    that say `listens` have `listen(handler, seconds)`, which waits for jobs and runs them with
    the library's own worker.
    """

    name: ClassVar[str]
    package: ClassVar[str]
    synced: ClassVar[bool]
    listens: ClassVar[bool] = False
    finds: ClassVar[bool] = False
    one_worker: ClassVar[str] = ""  # why not more than one

    @abstractmethod
    def __init__(self, folder: Path) -> None: ...

    def seed(self, count: int) -> None:
        """Add a backlog."""
        for item in payloads(count):
            self.put(item)

    @abstractmethod
    def put(self, item: dict[str, Any]) -> Any:
        """Add one job, and return what names it."""

    @abstractmethod
    def work(self, handler: Handler, count: int, seconds: float) -> None:
        """Take, run and finish up to `count` jobs; no more once so many seconds have passed.

        The time counts from the end of the first handler, which waits for the others.
        """


class Stepping(Engine):
    """An engine whose worker is a loop in the application."""

    def work(self, handler: Handler, count: int, seconds: float) -> None:
        end = math.inf
        for number in range(count):
            if time.monotonic() > end or not self.step(handler):
                return
            if number == 0:
                end = time.monotonic() + seconds

    @abstractmethod
    def step(self, handler: Handler) -> bool:
        """Take, run and finish a job; whether there was one."""


class Ours(Engine):
    package = "dbbasic-queue"
    listens = finds = True

    def __init__(self, folder: Path) -> None:
        from dbbasic_queue import Queue

        self.path = folder / "queue.tsv"
        self.queue = Queue(self.path, durability="full" if self.synced else "normal")

    def seed(self, count: int) -> None:
        self.queue.enqueue_many([(TYPE, item) for item in payloads(count)])

    def put(self, item: dict[str, Any]) -> Any:
        return self.queue.enqueue(TYPE, item)

    def work(self, handler: Handler, count: int, seconds: float) -> None:
        self.queue.process_jobs({TYPE: handler}, limit=count)  # at once, or as the disk lets it

    def find(self, key: Any) -> Any:
        return self.queue.get_job(key)

    def listen(self, handler: Handler, seconds: float) -> None:
        self.queue.process_jobs({TYPE: handler}, linger=seconds, max_seconds=seconds)


class OursFull(Ours):
    name = "dbbasic-queue 2, full"
    synced = True


class OursNormal(Ours):
    name = "dbbasic-queue 2, normal"
    synced = False


class Released(Engine):
    """1.0.0, from a folder of its own in front of the path."""

    name = "dbbasic-queue 1.0.0"
    package = ""
    synced = False
    finds = True
    one_worker = "two workers lose jobs and repeat them"

    def __init__(self, folder: Path) -> None:
        import dbbasic_queue
        from dbbasic_queue import queue

        if dbbasic_queue.__version__ != "1.0.0":
            raise RuntimeError(f"{dbbasic_queue.__file__} is not 1.0.0: check PYTHONPATH")
        queue.QUEUE_FILE = str(folder / "queue.tsv")
        self.queue = queue

    def put(self, item: dict[str, Any]) -> Any:
        return self.queue.enqueue(TYPE, item)

    def work(self, handler: Handler, count: int, seconds: float) -> None:
        end, done = math.inf, 0

        def limited(item: Any) -> None:
            nonlocal done, end
            if done == count or time.monotonic() > end:
                raise Enough
            handler(item)
            done += 1
            if done == 1:
                end = time.monotonic() + seconds

        with contextlib.suppress(Enough):
            self.queue.process_jobs({TYPE: limited})

    def find(self, key: Any) -> Any:
        return self.queue.get_job(key)


class Huey(Stepping):
    package = "huey"

    def open(self, huey: Any) -> None:
        self.huey = huey
        self.handler: Handler = lambda item: None

        def run(item: Any) -> None:
            self.handler(item)

        self.task = huey.task(name=TYPE)(run)

    def put(self, item: dict[str, Any]) -> Any:
        return self.task(item)

    def step(self, handler: Handler) -> bool:
        self.handler = handler
        task = self.huey.dequeue()
        if task is None:
            return False
        self.huey.execute(task)
        return True

    def listen(self, handler: Handler, seconds: float) -> None:
        self.handler = handler
        consumer = self.huey.create_consumer(workers=1, periodic=False)
        consumer.start()
        time.sleep(seconds)
        consumer.stop(graceful=True)


class SqliteHuey(Huey):
    fsync: ClassVar[bool | None]
    listens = True

    def __init__(self, folder: Path) -> None:
        import huey

        self.open(huey.SqliteHuey(filename=str(folder / "huey.db"), fsync=self.fsync))

    def seed(self, count: int) -> None:
        storage = self.huey.storage
        rows = (
            (storage.name, self.huey.serialize_task(self.task.s(item)), 0.0)
            for item in payloads(count)
        )
        with storage.db(commit=True) as cursor:
            cursor.executemany("insert into task (queue, data, priority) values (?, ?, ?)", rows)


class SqliteHueyFull(SqliteHuey):
    name = "SqliteHuey (default)"
    synced = True
    fsync = None


class SqliteHueyOff(SqliteHuey):
    name = "SqliteHuey, fsync off"
    synced = False
    fsync = False


class FileHuey(Huey):
    name = "FileHuey"
    synced = False
    listens = True

    def __init__(self, folder: Path) -> None:
        import huey

        self.open(huey.FileHuey(path=str(folder / "huey")))


class Lite(Stepping):
    name = "litequeue"
    package = "litequeue"
    synced = False
    finds = True

    def __init__(self, folder: Path) -> None:
        from litequeue import LiteQueue

        self.queue: Any = LiteQueue(folder / "lite.db")

    def seed(self, count: int) -> None:
        with self.queue.transaction():
            super().seed(count)

    def put(self, item: dict[str, Any]) -> Any:
        return self.queue.put(json.dumps(item)).message_id

    def step(self, handler: Handler) -> bool:
        message = self.queue.pop()
        if message is None:
            return False
        handler(json.loads(message.data))
        self.queue.done(message.message_id)
        return True

    def find(self, key: Any) -> Any:
        return self.queue.get(key)


class Persist(Stepping):
    name = "persist-queue (SQLiteAckQueue)"
    package = "persist-queue"
    synced = True

    def __init__(self, folder: Path) -> None:
        import persistqueue

        # Otherwise a second worker puts back what the first one is running.
        self.queue: Any = persistqueue.SQLiteAckQueue(str(folder / "persist"), auto_resume=False)

    def seed(self, count: int) -> None:
        dump, now = self.queue._serializer.dumps, time.time()
        with self.queue._putter as connection:
            rows = ((dump(item), now) for item in payloads(count))
            connection.executemany(self.queue._sql_insert, rows)

    def put(self, item: dict[str, Any]) -> Any:
        return self.queue.put(item)

    def step(self, handler: Handler) -> bool:
        import persistqueue

        try:
            item = self.queue.get(block=False, raw=True)
        except persistqueue.Empty:
            return False
        handler(item["data"])
        self.queue.ack(id=item["pqid"])
        return True


ENGINES: dict[str, type[Engine]] = {
    "ours-full": OursFull,
    "huey-full": SqliteHueyFull,
    "persist": Persist,
    "ours-normal": OursNormal,
    "huey-off": SqliteHueyOff,
    "file-huey": FileHuey,
    "lite": Lite,
    "released": Released,
}


def versions() -> dict[str, str]:
    """The package of each engine, and its version here."""
    names = {engine.package for engine in ENGINES.values()} - {""}
    return {name: importlib.metadata.version(name) for name in sorted(names)}
