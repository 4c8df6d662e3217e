"""dbbasic-queue: background jobs for one server, in one plain-text TSV file.

>>> import tempfile
>>> from dbbasic_queue import Queue
>>> queue = Queue(tempfile.mkdtemp() + "/queue.tsv")
>>> job_id = queue.enqueue("greet", {"name": "Zoë"})
>>> queue.process_jobs({"greet": lambda payload: "Hello " + payload["name"]}).completed
1
>>> queue.get_job(job_id)["result"]
'Hello Zoë'

`enqueue`, `process_jobs` and the others are the same on the default queue: `$DBQ_FILE` or
`$DBQ_URL`, else `data/queue.tsv` below the working directory.
"""

from .backoff import Backoff
from .engines.interface import Policy
from .errors import (
    CommandFailed,
    ConfigError,
    IllegalTransition,
    InvalidJob,
    JobCancelled,
    JobExists,
    JobTimeout,
    QueueError,
    StorageError,
    TableError,
    Unsupported,
)
from .job import Job
from .log import JsonFormatter, TextFormatter, read_log
from .queue import (
    Queue,
    _read_tsv,  # noqa: F401 - dbbasic-email 1.0.0 imports it from here
    aenqueue,
    cancel_job,
    count_jobs,
    enqueue,
    enqueue_many,
    get_job,
    list_jobs,
    process_jobs,
    prune_jobs,
    retry_job,
)
from .rate import Rate
from .version import VERSION
from .worker.commands import Command
from .worker.current import current_job
from .worker.loop import Summary
from .worker.records import JobFields
from .worker.wishes import Discard, Retry, Snooze

__version__ = VERSION

__all__ = [
    "Backoff",
    "Command",
    "CommandFailed",
    "ConfigError",
    "Discard",
    "IllegalTransition",
    "InvalidJob",
    "Job",
    "JobCancelled",
    "JobExists",
    "JobFields",
    "JobTimeout",
    "JsonFormatter",
    "Policy",
    "Queue",
    "QueueError",
    "Rate",
    "Retry",
    "Snooze",
    "StorageError",
    "Summary",
    "TableError",
    "TextFormatter",
    "Unsupported",
    "aenqueue",
    "cancel_job",
    "count_jobs",
    "current_job",
    "enqueue",
    "enqueue_many",
    "get_job",
    "list_jobs",
    "process_jobs",
    "prune_jobs",
    "read_log",
    "retry_job",
]
