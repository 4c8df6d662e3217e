"""The public face: `Queue`, and the functions of dbbasic-queue 1.0.0 on the default queue.

The default queue is `QUEUE_FILE` below the working directory; `$DBQ_FILE` or `$DBQ_URL` overrides
it, unless a program has assigned another `QUEUE_FILE` to this module, as programs for 1.0.0 do.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import timedelta
from functools import wraps
from pathlib import Path
from types import MethodType
from typing import TYPE_CHECKING, Any, Concatenate, Final, ParamSpec, Self, TypeVar

from .backoff import Backoff, BackoffLike
from .engines import open_engine
from .engines.choosing import Choosing
from .engines.interface import Order, Policies, Policy
from .engines.pausing import Pausing
from .engines.unique import Unique, check_own_id
from .engines.unique import new_id as new_unique_id
from .errors import ConfigError, InvalidJob, Unsupported
from .job import (
    PAYLOAD_LIMIT,
    Job,
    check_payload,
    check_time,
    check_type,
)
from .support.address import is_url
from .support.ids import new_id, new_ids
from .support.text import dump_json, shown
from .worker.current import queue_in_hand
from .worker.handlers import Handlers
from .worker.loop import Summary, work
from .worker.options import Options, Timeout
from .worker.signals import StopSignals

if TYPE_CHECKING:
    from .engines.answers import Stats
    from .engines.history import History

DEFAULT_FILE: Final = "data/queue.tsv"
QUEUE_FILE = DEFAULT_FILE
MAX_ATTEMPTS = 3
LOOK_FOR_WORKERS: Final = 0.1  # seconds between two looks whether those of before have ended

log = logging.getLogger("dbbasic_queue")

_P = ParamSpec("_P")
_R = TypeVar("_R")
_new_tuple = tuple.__new__  # without the call of a NamedTuple's __new__, written in Python


class Queue(Choosing, Pausing):
    """A job queue in one TSV file, or on a server that several machines share.

    Args:
        path: the file; made, with its folder, by the first job. Or the URL of a Redis or Valkey
            server: `redis://10.0.0.5/0?name=shop` (docs/machines.md).
        durability: "full" (default): what is acknowledged survives a power cut, at one sync a
            job. "normal": it survives any crash of processes, but the last seconds may be lost
            in a crash of the machine. A server that is not set up for it is refused, unless by
            "none".
        max_payload: bytes of JSON a payload may have, 1 MiB if not given.
        clock: the time in Unix seconds; for tests, of a file only: a server has its own.
        lock_timeout: seconds to wait while another process keeps the queue locked; then a
            `StorageError` names that process. So long a server is waited for, too.
        lease: seconds after which a worker that its server has not heard of has lost its job.
        trust_server: take the durability of a server to be what was asked for, where it does not
            let itself be asked.

    Cheap to make, may be used from several threads, survives `fork`. It is an address: it can be
    copied and pickled. Its attribute `engine` is what keeps the jobs (engines/interface.py).

    Raises `ValueError` for another durability, `ConfigError` for a URL that no engine knows,
    `Unsupported` for a clock that a server is to go by.

    >>> import tempfile
    >>> queue = Queue(tempfile.mkdtemp() + "/queue.tsv")
    >>> job_id = queue.enqueue("greet", {"name": "Zoë"})
    >>> queue.process_jobs({"greet": lambda payload: "Hello " + payload["name"]}).completed
    1
    >>> queue.get_job(job_id)["result"]
    'Hello Zoë'
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        durability: str = "full",
        *,
        max_payload: int = PAYLOAD_LIMIT,
        clock: Callable[[], float] | None = None,
        lock_timeout: float = 10.0,
        lease: float = 60.0,
        trust_server: bool = False,
    ) -> None:
        options: dict[str, Any] = {
            "clock": clock,
            "lock_timeout": lock_timeout,
            "lease": lease,
            "trust_server": trust_server,
        }
        self.engine = open_engine(path, durability, **options)
        if clock is not None and self.engine.path is None:
            raise Unsupported(
                f"{self.engine.url}: jobs go by the server's clock, so that all machines agree;"
                " leave clock= out, or test with a queue in a file"
            )
        self.max_payload = max_payload
        # For copies: of a file its absolute path, of a server all of its URL, password and all.
        self._address = self.engine.url if self.engine.path is not None else os.fspath(path)
        self.policies: Mapping[str, Policy] = {}  # of its config
        self._options = {"durability": durability, "max_payload": max_payload, **options}

    @classmethod
    def from_config(cls, path: str | os.PathLike[str] | None = None) -> Self:
        """The queue that a `dbq.toml` says: its file or server, its durability, and its `[types]`.

        These are its `policies`: `process_jobs` goes by them where it is not told otherwise.

        Args:
            path: of the config. If None, the commands' own search: `$DBQ_CONFIG`, `./dbq.toml`,
                `/etc/dbbasic-queue/dbq.toml`. `$DBQ_FILE` and `$DBQ_URL` are not looked at.

        Raises `ConfigError`, which names each fault and its line, or says that there is no config.
        """
        from .config.search import search  # with what it needs, slow to import
        from .config.sections import load

        config = load(search(None if path is None else os.fspath(path)))
        queue = cls(config.address(), **config.queue_options)
        queue.policies = {
            name: Policy(*(getattr(said, key) for key in Policy._fields))
            for name, said in config.types.items()
        }
        return queue

    def __repr__(self) -> str:
        return f"Queue({self.engine.url!r})"

    def __reduce__(self) -> Any:
        return _opened, (self._address, self._options, self.policies)

    @property
    def path(self) -> Path:
        """The table file. Raises `Unsupported` for a queue that is not kept in one."""
        if self.engine.path is None:
            raise Unsupported(
                f"{self.engine.url}: this queue is not in a file; where it is, engine.url says"
            )
        return self.engine.path

    def now(self) -> int:
        """The time in Unix seconds, by the clock that the jobs go by."""
        return int(self.engine.now())

    # -- adding ------------------------------------------------------------------------------

    def enqueue(
        self,
        job_type: str,
        payload: dict[str, Any],
        run_at: Any = None,
        *,
        job_id: str | None = None,
        unique: str | None = None,
        unique_until: str | float | timedelta = "end",
    ) -> str:
        """Add a job and return its id. In "full" it is on disk by then.

        Args:
            job_type: 1 to 128 printable characters; which handler runs it.
            payload: a dict that JSON can hold, handed to the handler.
            run_at: Unix seconds or an aware datetime, before which it does not run. Now if None.
            job_id: an idempotency key, `[A-Za-z0-9_-]{1,64}`: as long as a job has it, its id is
                returned and nothing is added. Costs a search of the table.
            unique: a key, `[A-Za-z0-9_-]{1,54}`, that works like an id, but for a while only.
            unique_until: which job counts as there. "end": one that has not ended; "start": one
                that has not been begun; seconds, `timedelta`: also one created within them.

        Raises `InvalidJob` for a type, payload, time, id or key that is not what it should be,
        `JobExists` if a job with this id has another type or payload, `StorageError` if the disk
        refused; nothing was added then, unless the message says that only the sync failed.

        Example: `queue.enqueue("mail", {"to": "zoe@example.com"}, job_id="welcome-17")`
        """
        engine = self.engine
        now = int(moment := engine.now())
        job_type = check_type(job_type)
        text = check_payload(payload, self.max_payload)
        due = now if run_at is None else check_time(run_at, moment)
        if unique is not None:
            once = Unique.check(unique, unique_until, moment)
            if job_id is not None:
                raise InvalidJob("job_id and unique: give one of them")
            order = Order(new_unique_id(once.key), job_type, text, due, keyed=False)
            return self._log_added(engine.add_unique(order, once, now), order)
        keyed = job_id is not None
        job_id = check_own_id(job_id) if keyed else new_id(moment)
        order = _new_tuple(Order, (job_id, job_type, text, due, keyed))
        if engine.add((order,), now) and log.isEnabledFor(logging.INFO):
            self._log_added(job_id, order)
        return job_id

    async def aenqueue(
        self,
        job_type: str,
        payload: dict[str, Any],
        run_at: Any = None,
        *,
        job_id: str | None = None,
        unique: str | None = None,
        unique_until: str | float | timedelta = "end",
    ) -> str:
        """`enqueue` for a coroutine: other tasks go on while the disk or the server is waited for.

        Takes, returns and raises what `enqueue` does. A task that is cancelled meanwhile may have
        added the job all the same.

        >>> async def signup(request):
        ...     await queue.aenqueue("welcome", {"to": request["email"]})
        """
        from asyncio import to_thread  # a program without coroutines does without it

        more: dict[str, Any] = {"job_id": job_id, "unique": unique, "unique_until": unique_until}
        return await to_thread(self.enqueue, job_type, payload, run_at, **more)

    def _log_added(self, job_id: str, order: Order) -> str:
        """Log an order, unless the job that is there is another one; returns that job's id."""
        if job_id == order.job_id:
            more = {"event": "enqueued", "job_id": job_id, "job_type": order.job_type}
            log.info("enqueued %s %s", order.job_type, job_id, extra=more)
        return job_id

    def enqueue_many(self, jobs: Iterable[Sequence[Any] | Mapping[str, Any]]) -> list[str]:
        """Add many jobs with one lock, one write and one sync, all or none; returns their ids.

        Args:
            jobs: `(type, payload)` or `(type, payload, run_at)` each, or a mapping with the keys
                `job_type`, `payload` and perhaps `run_at` and `job_id`.

        Raises what `enqueue` raises, naming the number of the job (from 0); then none was added.

        >>> import tempfile
        >>> queue = Queue(tempfile.mkdtemp() + "/queue.tsv")
        >>> len(queue.enqueue_many([("mail", {"to": "a"}), ("mail", {"to": "b"}, 1800000000)]))
        2
        """
        now = self.engine.now()
        jobs = list(jobs)
        new = new_ids(len(jobs), now)
        orders = [
            _order(number, job, own_id, now, self.max_payload)
            for number, (job, own_id) in enumerate(zip(jobs, new, strict=True))
        ]
        added = self.engine.add(orders, int(now))
        log.info("enqueued %d jobs", added, extra={"event": "enqueued", "count": added})
        return [order.job_id for order in orders]

    # -- working -----------------------------------------------------------------------------

    def process_jobs(
        self,
        handlers: Handlers,
        max_attempts: int = MAX_ATTEMPTS,
        *,
        types: Sequence[str] | None = None,
        limit: int | None = None,
        max_seconds: float | None = None,
        linger: float = 0,
        timeout: Timeout = None,
        backoff: BackoffLike | None = None,
        unknown: str = "fail",
        policies: Mapping[str, Policy] | None = None,
    ) -> Summary:
        """Run the jobs that are due, one after the other, and return what became of them.

        Args:
            handlers: type -> function, plain or a coroutine's. It gets the payload; what it returns
                is the job's result; what it raises makes the attempt fail.
            max_attempts: attempts in total before a job counts as `failed`.
            types: take only these; None for all.
            limit, max_seconds: of jobs to take at most; after which no more are taken.
            linger: seconds to keep waiting for new work.
            timeout: seconds a handler may run, for all or by type; then `JobTimeout` is raised in
                it, and again every ten seconds. Works in the main thread only.
            backoff: from the attempts so far to seconds until the next: a callable, or an object
                with base, factor, cap and jitter. `Backoff()` if None: 120 s, 240 s, …
            unknown: "fail": a job without a handler is a failed attempt; "skip": left to others.
            policies: by type, or by a glob of types: what differs there from what is said here.

        SIGTERM and SIGINT in the main thread let the job in hand finish, then end the program with
        exit code 0 (or call the handler that it had set); a second one breaks the job off and puts
        it back with its attempt refunded.

        Raises `ValueError` for an option that makes no sense, `StorageError` if the disk refuses.
        """
        backoff = Backoff() if backoff is None else backoff
        options = Options(
            *(max_attempts, types, limit, max_seconds, linger, timeout, backoff, unknown),
            Policies(policies).over(self.policies),
        )
        signals = StopSignals()
        summary = work(self.engine, handlers, options, signals, queue=self)
        signals.pass_on()
        return summary

    def restart_workers(self, wait: float = 0) -> bool:
        """Ask the workers that wait for jobs to end between two of them, for new code.

        What starts them again (a service manager, `dbq run`, cron's next minute) has the new code
        run. Who may add jobs may ask.

        Args:
            wait: seconds to wait until none is at work that was before; `math.inf` without a limit.

        Returns whether none of them is at work any more. Raises `StorageError`.

        >>> import tempfile
        >>> queue = Queue(tempfile.mkdtemp() + "/queue.tsv")
        >>> job_id = queue.enqueue("greet", {})
        >>> queue.restart_workers()
        True
        """
        mark = self.engine.ask_restart()
        until = time.monotonic() + wait
        while self.engine.is_outdated(mark):
            if time.monotonic() >= until:
                return False
            time.sleep(LOOK_FOR_WORKERS)
        return True

    # -- looking -----------------------------------------------------------------------------

    def find_job(self, job_id: str) -> Job | None:
        """A job by its id, None when there is none. Takes no more than read permission.

        Raises `StorageError` where the queue cannot be read.
        """
        return self.engine.find(job_id)

    def get_job(self, job_id: str) -> dict[str, Any] | None:
        """A job as a dict of the nine columns, payload and result parsed; None if unknown.

        `error` and `result` are None when empty. A payload or result that is not JSON any more is
        handed over as its text. Raises `StorageError` where the queue cannot be read.

        >>> import tempfile
        >>> queue = Queue(tempfile.mkdtemp() + "/queue.tsv")
        >>> queue.get_job(queue.enqueue("mail", {"to": "zoe@example.com"}))["payload"]
        {'to': 'zoe@example.com'}
        """
        job = self.engine.find(job_id)
        return job.as_dict() if job is not None else None

    def history(self, types: str | Collection[str] | None = None, since: float = 0) -> History:
        """What workers did: a list of an `Hour` for each hour and type, the oldest first.

        An `Hour` has `start` (Unix seconds; 0: all that is older than is kept), `type`, the numbers
        of attempts that are `completed`, `retried`, `failed` and `cancelled`, and two times in
        seconds, `waited` and `ran`, with `total`, `most`, `number` and `quantile(0.95)`. The list
        has `by_type()` and `by_hour(last, number)`, which add hours up. Workers write it once a
        minute, and at the end of a run.

        Args:
            types: one type or several, which may be globs; None for all.
            since: Unix seconds; only hours that had not ended then.

        Takes no more than read permission. Raises `StorageError`.

        >>> import tempfile
        >>> queue = Queue(tempfile.mkdtemp() + "/queue.tsv")
        >>> ids = [queue.enqueue("mail", {"to": to}) for to in ("Zoë", "Ann")]
        >>> summary = queue.process_jobs({"mail": len})
        >>> [(hour.type, hour.completed, hour.ran.number) for hour in queue.history("m*")]
        [('mail', 2, 2)]
        """
        from .engines.history import chosen

        return chosen(self.engine.history(), types, since)

    def count_jobs(self) -> dict[str, int]:
        """How many jobs there are in each of the five states.

        >>> import tempfile
        >>> Queue(tempfile.mkdtemp() + "/queue.tsv").count_jobs()["pending"]
        0
        """
        return self.engine.counts()

    def stats(self) -> Stats:
        """The state of the queue in numbers. Takes no more than read permission.

        Raises `StorageError` where the queue cannot be read.
        """
        return self.engine.stats()


def _opened(
    address: str | os.PathLike[str],
    options: Mapping[str, Any],
    policies: Mapping[str, Policy],
) -> Queue:
    """A queue that was copied or pickled: the same address, opened anew."""
    queue = Queue(address, **options)
    queue.policies = policies
    return queue


_SEQUENCES = (list, tuple)


def _order(number: int, job: Any, new_id: str, now: float, max_payload: int) -> Order:
    """One job of a batch, checked; raises `InvalidJob`, naming its number."""
    try:
        job_type, payload, run_at, job_id = _unpack(job)
        return _new_tuple(
            Order,
            (
                new_id if job_id is None else check_own_id(job_id),
                check_type(job_type),
                check_payload(payload, max_payload),
                int(now) if run_at is None else check_time(run_at, now),
                job_id is not None,
            ),
        )
    except InvalidJob as error:
        raise type(error)(f"job {number}: {error}; none was added") from None


def _unpack(job: Any) -> tuple[Any, Any, Any, Any]:
    if isinstance(job, _SEQUENCES):
        if len(job) == 2:
            return *job, None, None
        if len(job) == 3:
            return *job, None
    elif isinstance(job, Mapping):
        unknown = set(job) - {"job_type", "payload", "run_at", "job_id"}
        if unknown or not {"job_type", "payload"} <= set(job):
            raise InvalidJob(
                "must have the keys job_type and payload, and may have run_at and job_id;"
                f" it has {', '.join(map(shown, job))}"
            )
        return job["job_type"], job["payload"], job.get("run_at"), job.get("job_id")
    raise InvalidJob(f"{shown(job)} is neither (type, payload[, run_at]) nor a mapping")


# -- the default queue -----------------------------------------------------------------------------

_default: tuple[str, Queue] | None = None


def default_queue() -> Queue:
    """The queue that the functions of this module use.

    In a handler that is the queue whose job it runs, unless a path is named: an assigned
    `QUEUE_FILE`, `$DBQ_FILE` or `$DBQ_URL`.

    Raises `ConfigError` when both `$DBQ_FILE` and `$DBQ_URL` are set.
    """
    global _default
    name = QUEUE_FILE
    if name == DEFAULT_FILE:
        file, url = os.environ.get("DBQ_FILE"), os.environ.get("DBQ_URL")
        if file and url:
            raise ConfigError("both $DBQ_FILE and $DBQ_URL are set: unset one of them")
        name = file or url or DEFAULT_FILE
        if name == DEFAULT_FILE and isinstance(queue := queue_in_hand(), Queue):
            return queue
    address = name if isinstance(name, str) and is_url(name) else os.path.abspath(name)
    if _default is None or _default[0] != address:
        _default = address, Queue(address)
    return _default[1]


def _on_default_queue(method: Callable[Concatenate[Queue, _P], _R]) -> Callable[_P, _R]:
    """A method of `Queue` as a function on the default queue, with its signature and docstring."""

    @wraps(method)
    def function(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        return method(default_queue(), *args, **kwargs)

    # What inspect.signature follows: a bound method, whose signature is without `self`.
    function.__wrapped__ = MethodType(method, Queue)
    function.__qualname__ = method.__name__
    return function


enqueue = _on_default_queue(Queue.enqueue)
aenqueue = _on_default_queue(Queue.aenqueue)
enqueue_many = _on_default_queue(Queue.enqueue_many)
process_jobs = _on_default_queue(Queue.process_jobs)
get_job = _on_default_queue(Queue.get_job)
cancel_job = _on_default_queue(Queue.cancel_job)
retry_job = _on_default_queue(Queue.retry_job)
list_jobs = _on_default_queue(Queue.list_jobs)
count_jobs = _on_default_queue(Queue.count_jobs)
prune_jobs = _on_default_queue(Queue.prune_jobs)


def _read_tsv() -> list[list[str]]:
    """The jobs of the default queue as lists of nine texts: dbbasic-email calls it, as 1.0.0's."""
    return [
        [
            *(job["id"], job["type"], dump_json(job["payload"]), job["status"]),
            *(str(job["created_at"]), str(job["run_at"]), str(job["attempts"])),
            *(job["error"] or "", "" if job["result"] is None else dump_json(job["result"])),
        ]
        for job in list_jobs()
    ]
