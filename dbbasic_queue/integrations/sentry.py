"""Jobs that have failed for good, told to Sentry: `HANDLERS = SentryHandlers({"mail": mail})`.

Each job has a scope of its own, so that no tag or breadcrumb of one is told with the next. An
attempt that is tried again is not an event. `sentry_sdk.init()` is the application's to call, in
the module of the handlers: each worker process loads that itself, and sends what is left at its
end. Sentry sends the local variables of a failed call, the payload among them, without those values
that the config hides (`[types.X] redact`); `init(include_local_variables=False)` sends none.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import sentry_sdk
from sentry_sdk.crons import capture_checkin
from sentry_sdk.integrations.logging import ignore_logger

from ..engines.choice import matches
from ..errors import JobCancelled
from ..job import FAILED, Job
from ..support.text import dump_json
from ..worker.current import current_job
from ..worker.handlers import Handlers
from .wrapping import Around, is_final

if TYPE_CHECKING:
    from ..config.sections import Config

HIDDEN: Final = "…"
LEAST: Final = 4  # characters of a value that is looked for in all that is sent
_RECURRING: Final = re.compile(r"(?P<config>[^_]+)_(?P<name>[^_]+)_\d{8}T\d{4}Z")
_ZONES: Final = "/zoneinfo/"


class SentryHandlers(Around):
    """Handlers whose failures are told to Sentry.

    Args:
        handlers: type -> function, or `Tasks`, or another wrapper's.
        config: a `dbq.toml`. Its `[[recurring]]` jobs are told as check-ins of Sentry's Crons, the
            monitor `CONFIG-NAME` with the job's schedule, and what `[types.X] redact` hides is not
            sent. None: no check-ins, and nothing is hidden.

    Raises `ConfigError` for a fault of the config.
    """

    def __init__(self, handlers: Handlers, config: str | os.PathLike[str] | None = None) -> None:
        super().__init__(handlers)
        ignore_logger("dbbasic_queue")  # the log of the worker tells each failure as well
        self._monitors: dict[str, Any] = {}
        self._hidden: dict[str, tuple[str, ...]] = {}
        if config is not None:
            from ..config.sections import load

            found = load(os.fspath(config))
            self._monitors = _monitors(found)
            self._hidden = {name: each.redact for name, each in found.types.items()}

    def worker_died(self, job: Job) -> None:
        """Tell of a job that ended with its worker, which had no time to tell of it."""
        if job.status == FAILED:
            with sentry_sdk.isolation_scope() as scope:
                scope.clear_breadcrumbs()
                scope.set_tag("dbq.type", job.type)
                scope.set_context("dbq job", {"id": job.id, "attempt": job.attempts})
                sentry_sdk.capture_message(job.error or "", "error")
        slug = _slug_of(job.id)
        if slug in self._monitors:
            _check_in(job.id, slug, self._monitors[slug], "error")
        super().worker_died(job)

    @contextmanager
    def around(self, job_type: str, payload: Any) -> Generator[Any]:
        """A scope and a transaction for one job; what ends it is captured."""
        job = current_job()
        slug = _slug_of(job.id)
        monitor = self._monitors.get(slug)
        keys = {
            key for glob, each in self._hidden.items() if matches(job_type, glob) for key in each
        }
        with sentry_sdk.isolation_scope() as scope:
            scope.clear_breadcrumbs()
            scope.set_tag("dbq.type", job_type)
            scope.set_context(
                "dbq job", {"id": job.id, "attempt": job.attempt, "of": job.max_attempts}
            )
            if keys:
                scope.add_event_processor(_hider(keys, payload))
            if monitor and job.attempt == 1:
                _check_in(job.id, slug, monitor, "in_progress")
            with sentry_sdk.start_transaction(op="queue.process", name=job_type):
                try:
                    yield payload
                except BaseException as error:
                    if is_final(error):
                        if not isinstance(error, JobCancelled):
                            sentry_sdk.capture_exception(error)
                        if monitor:
                            _check_in(job.id, slug, monitor, "error")
                    raise
            if monitor:
                _check_in(job.id, slug, monitor, "ok")


def _slug_of(job_id: str) -> str:
    """The name of the monitor of a job that the clock has enqueued; empty for others."""
    found = _RECURRING.fullmatch(job_id)
    return f"{found['config']}-{found['name']}" if found else ""


def _check_in(job_id: str, slug: str, monitor: Any, status: str) -> None:
    # The same id for each attempt, whichever process makes it.
    known = hashlib.md5(job_id.encode(), usedforsecurity=False).hexdigest()
    capture_checkin(slug, known, status, monitor_config=monitor)


def _monitors(config: Config) -> dict[str, Any]:
    """The monitors of a config's recurring jobs, by their names."""
    place = os.path.realpath("/etc/localtime")
    zone = place.partition(_ZONES)[2] or "UTC"
    return {
        f"{config.name}-{job.name}": {
            "schedule": {"type": "crontab", "value": job.schedule.cron()},
            "timezone": zone,
        }
        for job in config.recurring
    }


def _hider(keys: set[str], payload: Any) -> Callable[[Any, Any], Any]:
    """What takes the values of these keys of a payload from an event."""
    found = [payload[key] for key in keys & payload.keys()] if isinstance(payload, dict) else []
    texts = [each if isinstance(each, str) else dump_json(each) for each in found]
    secrets = [text for text in texts if len(text) >= LEAST]

    def hide(value: Any) -> Any:
        if isinstance(value, str):
            for secret in secrets:
                value = value.replace(secret, HIDDEN)
            return value
        if isinstance(value, dict):
            return {key: HIDDEN if key in keys else hide(each) for key, each in value.items()}
        return [hide(each) for each in value] if isinstance(value, list | tuple) else value

    return lambda event, hint: hide(event)
