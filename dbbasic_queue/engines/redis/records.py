"""A job as RQ keeps it, and the keys where it is.

Theory of operation
-------------------
RQ's hash of a job has its type and payload (as JSON text) as the arguments of a call, its status,
and in a field of ours, `dbq`, what RQ has no field for. (Not in RQ's `meta`: its tools before 3.0
write that anew with their own serializer, and lose what they cannot read.)

    run_at    Unix seconds, as in the file
    attempts  begun so far
    error     of the last attempt
    holder    the execution that has begun it, until that one has ended
    ended     the execution that ended last, or the call that has ended it for a dead worker
    progress  of the job, while it runs
    by        the call that changed it last by hand, so that its repetition knows its own work

`holder` is the fence: an execution that is not named there has lost the job. A pending job that
names one was put back by RQ's own tools, after its lease had run out.

A job's id on the server begins with the queue's name, as servers are shared and RQ's ids are one
namespace. Each type is a queue of RQ's own, so that workers can choose by type.
"""

from __future__ import annotations

import functools
import json
import logging
import zlib
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from rq import Queue
from rq.job import Job as RqJob
from rq.job import Retry
from rq.registry import (
    CanceledJobRegistry,
    FailedJobRegistry,
    FinishedJobRegistry,
    ScheduledJobRegistry,
    StartedJobRegistry,
)
from rq.results import Result
from rq.serializers import JSONSerializer

from ...job import CANCELLED, COMPLETED, FAILED, PENDING, PROCESSING, Job
from ...support.text import STRICT_JSON, dump_json
from ..unique import key_of

log = logging.getLogger("dbbasic_queue")

FUNCTION: Final = "dbbasic_queue.engines.redis.foreign.run"  # what a plain `rq worker` calls
KEEP: Final = 100 * 365 * 86400  # seconds that RQ keeps what has ended: until it is pruned
PUT_OFF: Final = 60  # seconds until a job comes back that RQ's own tools have put back
WORTH_PACKING: Final = 500  # bytes of a job's call; RQ reads what is not packed, too

# The fields of a hash that make a `Record`.
_READ: Final = ("data", "status", "created_at", "dbq", "worker_name")

QUEUED: Final = "queued"
SCHEDULED: Final = "scheduled"
STARTED: Final = "started"
RQ_STATUS: Final = {
    PROCESSING: STARTED,
    COMPLETED: "finished",
    FAILED: "failed",
    CANCELLED: "canceled",
}
STATUS: Final = {
    QUEUED: PENDING,
    SCHEDULED: PENDING,
    "deferred": PENDING,
    "created": PENDING,
    STARTED: PROCESSING,
    "finished": COMPLETED,
    "failed": FAILED,
    "stopped": FAILED,
    "canceled": CANCELLED,
}


class Lane(NamedTuple):
    """The keys of one type's queue."""

    type: str
    name: str  # of RQ's queue
    queue: str  # a list: what is due
    scheduled: str  # sorted sets: by when it is due
    started: str  # by when the lease ends; members are job:execution
    finished: str  # by when they ended, plus KEEP; as the two below
    failed: str
    canceled: str

    def ended(self, status: str) -> str:
        """The key of those that ended like this."""
        return {COMPLETED: self.finished, FAILED: self.failed, CANCELLED: self.canceled}[status]


class Record(NamedTuple):
    """A job as it is on the server."""

    id: str  # without the queue's name
    type: str
    payload: str  # JSON text
    status: str
    rq_status: str
    created_at: int
    run_at: int
    attempts: int
    error: str | None
    holder: str | None
    ended: str | None
    by: str | None
    worker: str  # that began it last
    progress: str | None = None  # JSON text, of one that is processing


class Records:
    """The keys and records of one queue.

    Args:
        name: the queue's, [a-z][a-z0-9-]*.
        client: redis-py's, which RQ's objects want.
    """

    def __init__(self, name: str, client: Any) -> None:
        self.name = name
        self.client = client
        self.types = f"dbq:{name}:types"
        self.wake = f"dbq:{name}:wake"
        self.slots = f"dbq:{name}:slots"
        self.moved = f"dbq:{name}:moved"
        self.paused = f"dbq:{name}:paused"
        self.history = f"dbq:{name}:history"
        self.run = f"dbq:{name}:run"
        self.workers = f"dbq:{name}:workers"
        self._prefix = f"{name}_"
        self._hash = f"{RqJob.redis_job_namespace_prefix}{name}_"
        self._lanes: dict[str, Lane] = {}
        self._templates: dict[str, dict[str, Any]] = {}

    # -- keys ----------------------------------------------------------------------------------

    def rq_id(self, job_id: str) -> str:
        """The id of a job on the server."""
        return self._prefix + job_id

    def key(self, job_id: str) -> str:
        """The key of a job's hash."""
        return self._hash + job_id

    def results(self, job_id: str) -> str:
        """The key of a job's results."""
        key: str = Result.get_key(self._prefix + job_id)
        return key

    def leftovers(self, job_id: str) -> list[str]:
        """All keys of a job."""
        rq_id = self._prefix + job_id
        return [
            self.key(job_id),
            self.results(job_id),
            RqJob.dependents_key_for(rq_id),
            f"rq:executions:{rq_id}",
        ]

    def unique(self, key: str) -> str:
        """The key of the index of the jobs with this key: id -> how often it came to wait."""
        return f"dbq:{self.name}:unique:{key}"

    def remove(self, pipe: Any, *job_ids: str) -> None:
        """Put into a pipeline that nothing is left of these jobs."""
        pipe.delete(*(key for job_id in job_ids for key in self.leftovers(job_id)))
        for job_id in job_ids:
            if key := key_of(job_id):
                pipe.hdel(self.unique(key), job_id)

    def comes_to_wait(self, pipe: Any, job_id: str) -> None:
        """Put into a pipeline what lets those that watch a job's key know that it is pending."""
        if key := key_of(job_id):
            pipe.hincrby(self.unique(key), job_id, 1)

    def of_key(self, key: str) -> list[Record]:
        """The jobs with a key. Watch `unique(key)` before."""
        ids = [each.decode() for each in self.client.hkeys(self.unique(key))] if key else []
        with self.client.pipeline(transaction=False) as look:
            for job_id in ids:
                self.read(look, job_id)
            raws = look.execute() if ids else []
        found = map(self.parse, ids, raws)
        return [record for record in found if record is not None]

    def is_ours(self, rq_id: bytes) -> bool:
        """Say whether an id is that of a job of this queue, as another tool may add its own."""
        return rq_id.decode(errors="replace").startswith(self._prefix)

    def own_id(self, rq_id: bytes) -> str:
        """The id of a job, from its id on the server or from that of an execution."""
        return rq_id.decode().partition(":")[0].removeprefix(self._prefix)

    def rate(self, job_type: str) -> str:
        """The key of a type's rate."""
        return f"dbq:{self.name}:rate:{job_type}"

    def lane(self, job_type: str) -> Lane:
        """The keys of a type's queue."""
        lane = self._lanes.get(job_type)
        if lane is None:
            name = f"dbq.{self.name}.{job_type}"
            registries = (
                registry(name, connection=self.client).key
                for registry in (
                    ScheduledJobRegistry,
                    StartedJobRegistry,
                    FinishedJobRegistry,
                    FailedJobRegistry,
                    CanceledJobRegistry,
                )
            )
            queue = Queue(name, connection=self.client, serializer=JSONSerializer)
            lane = self._lanes[job_type] = Lane(job_type, name, queue.key, *registries)
        return lane

    # -- reading -------------------------------------------------------------------------------

    def read(self, client: Any, job_id: str) -> Any:
        """Ask a client or a pipeline for what `parse` reads; RQ has twice as many fields."""
        return client.hmget(self.key(job_id), _READ)

    def parse(self, job_id: str, raw: list[bytes | None]) -> Record | None:
        """The record of a job; None when there is none, or one that is not ours."""
        data, status, created_at, dbq, worker = raw
        if data is None:
            return None
        try:
            args = json.loads(zlib.decompress(data) if data[:1] == b"\x78" else data)[2]
            own = json.loads(dbq or b"{}")
            job_type, payload = args
        except (ValueError, RecursionError, IndexError, TypeError, zlib.error) as error:
            log.error("%s: cannot be read as a job: %s", self.key(job_id), error)
            return None
        rq_status = (status or b"created").decode()
        created = _seconds(created_at or b"")
        return Record(
            job_id,
            job_type,
            payload,
            STATUS.get(rq_status, PENDING),
            rq_status,
            created,
            int(own.get("run_at", created)),
            int(own.get("attempts", 0)),
            own.get("error"),
            own.get("holder"),
            own.get("ended"),
            own.get("by"),
            (worker or b"").decode(),
            own.get("progress"),
        )

    # -- writing -------------------------------------------------------------------------------

    def new(self, job_id: str, job_type: str, payload: str, created_at: int) -> dict[str, Any]:
        """The fields of a new job's hash but its status and ours, as this version of RQ has them.

        With as many retries as RQ can count: what its own tools find without a lease (`rq info`
        looks for that) comes back after `PUT_OFF`, and whether it is tried once more is ours to
        say.
        """
        lane = self.lane(job_type)
        template = self._templates.get(job_type)
        if template is None:
            queue = Queue(lane.name, connection=self.client, serializer=JSONSerializer)
            made = queue.create_job(
                FUNCTION,
                args=[job_type, ""],
                timeout=-1,
                result_ttl=-1,
                failure_ttl=-1,
                description=job_type,
                job_id=self.rq_id(job_id),
                retry=Retry(max=10**6, interval=PUT_OFF),
            )
            fields = made.to_dict(include_meta=False)
            template = {name: value for name, value in fields.items() if value != ""}
            self._templates[job_type] = template
        moment, data = rq_time(created_at), self.call(job_type, payload)
        return template | {"data": data, "created_at": moment, "enqueued_at": moment}

    def call(self, job_type: str, payload: str) -> bytes:
        """The field of a job's hash that has its type and its payload, which is JSON text."""
        call: list[Any] = [FUNCTION, None, [job_type, payload], {}]
        data = json.dumps(call).encode()
        return zlib.compress(data, 1) if len(data) > WORTH_PACKING else data

    def save(self, pipe: Any, job_id: str, fields: dict[str, Any], **own: Any) -> None:
        """Put into a pipeline: fields of a job's hash, and all that is in ours."""
        kept = {key: value for key, value in own.items() if value is not None}
        pipe.hset(self.key(job_id), mapping=fields | {"dbq": json.dumps(kept)})


def to_job(record: Record, result: str = "") -> Job:
    """The job of a record, with the JSON text of its result, or of its progress."""
    if record.status == PROCESSING and record.progress:
        result = record.progress
    return Job(
        record.id,
        record.type,
        read_json(record.payload),
        record.status,
        record.created_at,
        record.run_at,
        record.attempts,
        record.error,
        read_json(result) if result else None,
    )


def read_json(text: str) -> Any:
    """The value of a JSON text; of one that is not JSON, the text."""
    try:
        return STRICT_JSON.decode(text)
    except (ValueError, RecursionError):
        return text.strip()


def is_json(text: str) -> bool:
    """Say whether a text is JSON."""
    try:
        STRICT_JSON.decode(text)
    except (ValueError, RecursionError):
        return False
    return True


def payload_text(job: Job) -> str:
    """The text of a job's payload; one that is a string was not JSON."""
    return job.payload if isinstance(job.payload, str) else dump_json(job.payload)


def result_in(entries: list[Any]) -> str:
    """The JSON text of a result, from the last entry of a job's results; empty without one."""
    if not entries:
        return ""
    entry_id, fields = entries[0]
    result = Result.restore("", entry_id.decode(), fields, None, serializer=JSONSerializer)
    return result.return_value if isinstance(result.return_value, str) else ""


@functools.lru_cache(8)  # many jobs are made in one second
def rq_time(seconds: int) -> str:
    """Unix seconds as RQ writes them."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


@functools.lru_cache(64)
def _seconds(text: bytes) -> int:
    try:
        return int(datetime.fromisoformat(text.decode()).timestamp())
    except ValueError:
        return 0
