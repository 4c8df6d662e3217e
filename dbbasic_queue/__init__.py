"""dbbasic-queue: background jobs for one server, in one plain-text TSV file.

>>> import os, tempfile
>>> os.environ["DBQ_FILE"] = tempfile.mkdtemp() + "/queue.tsv"
>>> from dbbasic_queue import enqueue, process_jobs, get_job
>>> job_id = enqueue("greet", {"name": "Zoë"})
>>> process_jobs({"greet": lambda payload: "Hello " + payload["name"]}).completed
1
>>> get_job(job_id)["result"]
'Hello Zoë'
"""

from .backoff import Backoff
from .errors import (
    ConfigError,
    IllegalTransition,
    InvalidJob,
    JobExists,
    JobTimeout,
    QueueError,
    StorageError,
    TableError,
)
from .job import Job
from .log import JsonFormatter, TextFormatter
from .queue import (
    Queue,
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
from .worker import Summary, current_job

__version__ = "2.0.0"

__all__ = [
    "Backoff",
    "ConfigError",
    "IllegalTransition",
    "InvalidJob",
    "Job",
    "JobExists",
    "JobTimeout",
    "JsonFormatter",
    "Queue",
    "QueueError",
    "StorageError",
    "Summary",
    "TableError",
    "TextFormatter",
    "cancel_job",
    "count_jobs",
    "current_job",
    "enqueue",
    "enqueue_many",
    "get_job",
    "list_jobs",
    "process_jobs",
    "prune_jobs",
    "retry_job",
]
