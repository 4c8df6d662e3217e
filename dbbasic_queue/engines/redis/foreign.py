"""What a plain `rq worker` finds in our jobs: a function that refuses."""

from __future__ import annotations

from typing import NoReturn

from ...errors import Unsupported


def run(job_type: str, payload: str) -> NoReturn:
    """Refuse to run a job: RQ puts it back, as it has retries enough. Raises `Unsupported`."""
    raise Unsupported(f"{job_type} jobs are run by `dbq work`, not by `rq worker`")
