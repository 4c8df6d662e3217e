"""The lease of the job in hand, and the sign of life of its worker: renewed by a thread.

A lease that has run out is not taken up again: the entry of an execution that another worker has
ended is not there any more, and the renewal writes only to one that is (ZADD XX).

The thread does not keep what it renews alive: of a worker's place that was dropped without a word
the job is another worker's, once its lease has run out.
"""

from __future__ import annotations

import logging
import threading
import weakref
from typing import Any, Final

from rq.worker import SimpleWorker

from ...errors import StorageError
from ...support.text import dump_json
from ...support.threads import without_signals
from . import restart
from .link import Link
from .records import Records
from .transitions import Grip

SHARE: Final = 4  # a lease is renewed so often before it runs out
WORKER_TTL: Final = 60  # seconds that RQ's tools show a worker that was not heard of; it adds 60
FAREWELL: Final = 2.0  # seconds that a worker which leaves tries to say so

log = logging.getLogger("dbbasic_queue")


class Lease:
    """A worker's signs of life, from `begin` to `stop`.

    Args:
        link: to the server.
        records: the queue's.
        name: the worker's.
        seconds: how long a lease is.
        worker: RQ's record of the worker.
    """

    def __init__(
        self, link: Link, records: Records, name: str, seconds: float, worker: SimpleWorker
    ) -> None:
        self.name = name
        self.seconds = seconds
        self._link = link
        self._records = records
        self._worker = worker
        self._grip: Grip | None = None
        self._heard = self._types = ""  # what is said of it, beside what RQ says
        self._over = threading.Event()
        self._thread = threading.Thread(
            target=_renew_on,
            args=(weakref.ref(self), self._over, seconds / SHARE),
            name="dbq lease",
            daemon=True,
        )

    def begin(self) -> None:
        """Let the worker be seen, and begin to renew."""
        self._heard = restart.read(self._link, self._records)
        self._appear()
        with without_signals():
            self._thread.start()

    def _appear(self) -> None:
        def tell(client: Any) -> None:
            # It can be repeated, as the answer to the first time is perhaps lost.
            client.hset(self._worker.key, "death", "")
            self._worker.register_birth()
            client.hset(self._worker.key, "state", "idle")
            client.hset(self._worker.key, restart.FIELD, self._heard)
            if self._types:
                client.hset(self._worker.key, "dbq_types", self._types)
            client.sadd(self._records.workers, self.name)

        self._link.run(tell)

    def introduce(self, types: list[str]) -> None:
        """Let others see which types this worker has handlers for."""
        self._types = text = dump_json(types)
        self._link.run(lambda client: client.hset(self._worker.key, "dbq_types", text))

    def hold(self, grip: Grip | None) -> None:
        """Renew the lease of this job from now on; None: of no job."""
        self._grip = grip

    def renew(self) -> None:
        """Renew the lease of the job in hand, and say that the worker lives.

        A server that has lost what it knew, as one without an append-only file does when it is
        started again, is told anew who works there.
        """
        grip, now = self._grip, self._link.now()

        def tell(client: Any) -> bool:
            with client.pipeline() as pipe:
                if grip is not None:
                    member = f"{self._records.rq_id(grip.job_id)}:{grip.execution}"
                    pipe.zadd(grip.lane.started, {member: now + self.seconds}, xx=True)
                    pipe.expire(f"rq:execution:{member}", max(1, int(self.seconds)))
                self._worker.heartbeat(WORKER_TTL + int(self.seconds), pipeline=pipe)
                pipe.set(self._records.run, int(now))
                pipe.sismember(self._records.workers, self.name)
                return bool(pipe.execute()[-1])

        is_known = self._link.run(tell, patience=self.seconds / SHARE)
        if not is_known and not self._over.is_set():
            self._appear()

    def give_up(self, grip: Grip) -> None:
        """End the lease of a job, so that the next worker that looks rescues it."""
        member = f"{self._records.rq_id(grip.job_id)}:{grip.execution}"
        started = grip.lane.started
        self._link.run(lambda client: client.zadd(started, {member: 1}, xx=True), FAREWELL)

    def stop(self) -> None:
        """Stop renewing."""
        self._over.set()
        self._grip = None

    def end(self) -> None:
        """Take the worker out of sight, once it has stopped renewing."""

        def tell(client: Any) -> None:
            self._worker.register_death()
            client.srem(self._records.workers, self.name)

        self._link.run(tell, FAREWELL)


def _renew_on(held: weakref.ref[Lease], over: threading.Event, share: float) -> None:
    """Renew a lease each `share` seconds until that is over, or nothing holds it any more."""
    pause = share
    while not over.wait(pause):
        lease = held()
        if lease is None:
            return
        try:
            lease.renew()
            pause = share
        except StorageError as error:
            log.warning("the lease is not renewed: %s", error, extra={"event": "lease"})
            pause = min(1.0, share)
        del lease
