"""The engine on a server: what producers and people may do with the jobs of one queue there."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from rq.serializers import JSONSerializer
from rq.worker import SimpleWorker

from ...errors import ConfigError, InvalidJob, StorageError
from ...job import PENDING, Job, check_id
from ...support.account import Account
from ..by_hand import ByHand
from ..interface import Ended, Order
from ..unique import Unique
from . import durability, identity, restart
from .adding import Adding
from .address import parse
from .lease import WORKER_TTL, Lease
from .link import Link
from .looking import Looking
from .paused import PausesOnServer
from .places import Places
from .records import Records
from .seat import RedisSeat
from .transitions import Transitions

if TYPE_CHECKING:
    from ..answers import Limits, Portion, Running, Server, Shortfall, Snapshot, Stats
    from ..choice import Choice
    from ..history import Hour
    from ..interface import HistoryMoves
    from ..verbs import Verb
    from .moving import Moving

log = logging.getLogger("dbbasic_queue")

LEASE: Final = 60.0
LARGE: Final = 1 << 16  # characters of a payload that a server should not keep


class RedisEngine(ByHand, PausesOnServer):
    """The jobs of one queue on a Redis or Valkey server, in RQ's records.

    Args:
        url: of the server; `?name=` is the queue's name there.
        asked: the durability: "full", "normal" or "none".
        clock: Unix seconds, for tests; the server's if not given.
        lock_timeout: seconds that a call is tried for while the server cannot be reached.
        lease: seconds after which a worker that the server has not heard of has lost its job.
        trust_server: take the durability to be what was asked for where it cannot be read.

    Cheap to make: no server is asked before the first call. Raises `ConfigError` for a URL that
    cannot be read, `ValueError` for another durability.
    """

    can = frozenset({"slots", "server"})
    path = None

    def __init__(
        self,
        url: str,
        asked: str = durability.FULL,
        *,
        clock: Callable[[], float] | None = None,
        lock_timeout: float = 10.0,
        lease: float = LEASE,
        trust_server: bool = False,
    ) -> None:
        if asked not in durability.CHOICES:
            raise ValueError(
                f"durability {asked!r}: must be one of {', '.join(durability.CHOICES)}"
            )
        if not lease >= 1:
            raise ValueError(f"lease {lease!r}: must be 1 second or more")
        address = parse(url)
        self.url = address.shown
        self._asked, self._trusted, self._lease = asked, trust_server, lease
        self._shortfall: Shortfall | None = None
        self._is_safe = False  # enough, as the server said
        self._link = Link(address.url, address.shown, lock_timeout, clock)
        self._records = Records(address.name, self._link.client)
        self._looking = Looking(self._link, self._records)
        self._transitions = Transitions(self._link, self._records)
        self._adding = Adding(self._link, self._records, self._transitions)

    def now(self) -> float:
        """The time in Unix seconds, by the server's clock."""
        return self._link.now()

    # -- the server ----------------------------------------------------------------------------

    def durability(self) -> Shortfall | None:
        """How the server falls short of the durability that was asked for."""
        settings = durability.read(self._link)
        return durability.judge(settings, self._asked, self._trusted, self.url)

    def _require_safety(self) -> Shortfall | None:
        """Raise `ConfigError` if the server is not as durable as was asked, once a process."""
        if self._is_safe:
            return self._shortfall
        shortfall = self._shortfall = self.durability()
        if shortfall is not None and shortfall.refused:
            lines = "".join(f"\n    {line}" for line in shortfall.lines)
            advice = f"\nadd to its configuration, and restart it:{lines}" if lines else ""
            raise ConfigError(shortfall.text + advice)
        self._is_safe = True
        return shortfall

    def server(self) -> Server | None:
        """What the server says of itself: see server.py."""
        from .server import describe  # not needed by a worker, which should start fast

        return describe(self._link, self._records, self._lease)

    # -- adding --------------------------------------------------------------------------------

    def add(self, orders: Sequence[Order], now: int) -> int:
        """Add jobs in one transaction, all or none; returns how many.

        Raises:
            JobExists: a job with this id is there, with another type or payload.
            ConfigError: the server is not as durable as was asked.
            StorageError: the server refused, or could not be reached; nothing was added, unless
                the message says that this is not known.
        """
        self._require_safety()
        for order in orders:
            if len(order.payload) > LARGE:
                log.warning(
                    "the payload of job %s has %d KiB, all of which the server keeps in memory;"
                    " keep the data elsewhere, and its place in the payload",
                    order.job_id,
                    len(order.payload) >> 10,
                    extra={"event": "large", "job_id": order.job_id},
                )
        return self._adding.add(orders, now)

    def add_unique(self, order: Order, unique: Unique, now: int) -> str:
        """Add a job, unless one with its key is there: see `Engine.add_unique`."""
        self._require_safety()
        return self._adding.add_unique(order, unique, now)

    def claim_slot(self, key: str, slot: int, order: Order | None) -> bool:
        """Mark a slot and add its job, both or neither: see slots.py."""
        from .slots import claim

        self._require_safety()
        return claim(self._link, self._records, self._adding, key, slot, order)

    def slots(self) -> dict[str, int]:
        """The last slot claimed, by key."""
        from .slots import read

        return read(self._link, self._records)

    def history(self) -> list[Hour]:
        """What workers did on all machines, by hour and type."""
        from .history import read

        return read(self._link, self._records)

    def add_history(self, noted: Sequence[Ended], call: str) -> None:
        """Add attempts that have ended, once a call: see history.py."""
        from .history import add

        add(self._link, self._records, noted, call)

    def fold_history(self, before: float) -> None:
        """Add what is old to one hour a type."""
        from .history import fold

        fold(self._link, self._records, before)

    def adopt(self, jobs: Sequence[Job], over: Callable[[Job], bool] | None = None) -> int:
        """Keep jobs with all that is known of them, all or none; returns how many were new."""
        self._require_safety()
        return self._adding.adopt(jobs, over)

    def close_for(self, url: str) -> None:
        """Refuse jobs from now on, naming `url`; with an empty one, take them again."""
        moved = self._records.moved
        self._link.run(lambda client: client.set(moved, url) if url else client.delete(moved))

    def closed_for(self) -> str:
        """The address that the queue is closed for; empty while it takes jobs."""
        moved = self._link.run(lambda client: client.get(self._records.moved))
        return moved.decode() if moved else ""

    # -- what a person does with a job ---------------------------------------------------------

    def act(self, verb: Verb, choice: Choice, *, dry_run: bool = False) -> list[Job]:
        """Do something to the jobs that are meant, a few hundred a transaction: see acting.py."""
        from .acting import act

        return act(self._link, self._records, self._looking, verb, choice, dry_run=dry_run)

    # -- to another queue ----------------------------------------------------------------------

    def history_moves(self) -> HistoryMoves:
        """The history on its way to another queue, and from one."""
        from .history_moves import MovesOnServer

        return MovesOnServer(self._link, self._records)

    def withdraw(
        self,
        limit: int,
        note: Callable[[Job], str],
        statuses: Collection[str] = (PENDING,),
    ) -> list[Job]:
        """Cancel up to `limit` jobs in these states, with a note each; returns them as they were.

        A few hundred are one transaction.
        """
        return self._moving().withdraw(limit, note, statuses)

    def renote(self, notes: Mapping[str, str]) -> None:
        """Give jobs that were withdrawn other notes, by id; others are left alone."""
        self._moving().renote(notes)

    def forget_moved(self) -> int:
        """Remove the jobs whose note says for certain that they are elsewhere; returns how many."""
        return self._moving().forget()

    def _moving(self) -> Moving:
        from .moving import Moving  # which only `dbq migrate` needs

        return Moving(self._link, self._records, self._looking, self._transitions)

    def prune(
        self,
        ages: Mapping[str, float],
        dry_run: bool = False,
        ids: Collection[str] | None = None,
    ) -> int:
        """Remove the jobs in these states that ended so many seconds ago: see pruning.py."""
        from .pruning import prune

        return prune(self._link, self._records, self._looking, ages, dry_run, ids)

    # -- looking -------------------------------------------------------------------------------

    def find(self, job_id: str) -> Job | None:
        """A job by its id; None when there is none."""
        return self._looking.find(job_id) if _is_id(job_id) else None

    def state(self) -> object:
        """Something new each time: to look at a job costs no more than to ask for changes."""
        return object()

    def jobs(
        self, statuses: Collection[str] | None = None, job_type: str | None = None
    ) -> Iterator[Job]:
        """The jobs in some states and of one type, state by state; None for all."""
        return self._looking.jobs(statuses, job_type)

    def portions(self, statuses: Collection[str]) -> Iterator[Portion]:
        """All jobs in one portion: a server does not say which have changed."""
        from ..answers import Portion

        yield Portion(object(), lambda: (self.counts(), list(self.jobs(statuses))))

    def counts(self) -> dict[str, int]:
        """How many jobs there are in each of the five states."""
        return self._looking.counts()

    def stats(self) -> Stats:
        """The state of the queue in numbers."""
        from .snapshot import stats

        return stats(self._link, self._records, self._looking)

    def snapshot(self, limits: Limits) -> Snapshot:
        """The queue in more numbers: see snapshot.py."""
        from .snapshot import take

        return take(self._link, self._records, self._looking, limits)

    def running(self, known: Sequence[Job] | None = None) -> list[Running]:
        """The jobs that are processing, and whether their workers live: always asked for anew.

        A worker of another host lives as far as its lease says.
        """
        from .snapshot import running

        return running(self._link, self._records, self._looking)

    # -- working -------------------------------------------------------------------------------

    def restart_mark(self) -> str:
        """What was last said to the workers: see restart.py."""
        return restart.read(self._link, self._records)

    def ask_restart(self) -> str:
        """Ask the workers to end between two jobs; returns what is said now."""
        me = Account.find(None)
        who = f"{me.name if me else os.geteuid()}@{socket.gethostname()}"
        return restart.ask(self._link, self._records, who)

    def is_outdated(self, mark: str) -> bool:
        """Whether a worker is at work that began before this was said."""
        return restart.is_left(self._link, self._records, mark)

    def seat(self, places: int | None = None) -> RedisSeat | None:
        """A worker's place, one of `places` on this host; None when all are taken.

        Raises `ConfigError` when the server is not as durable as was asked, `StorageError`.
        """
        shortfall = self._require_safety()
        if shortfall is not None:
            log.warning("%s", shortfall.text, extra={"event": "durability"})
        name = identity.new_name()
        allotted = Places(self._link, self._records)
        place = None
        if places is not None:
            place = allotted.take(places, name)
            if place is None:
                return None

        def free() -> None:
            if place is not None:
                allotted.free(place, name)

        try:
            return self._seat(name, free)
        except BaseException:
            with suppress(StorageError):
                free()
            raise

    def _seat(self, name: str, free: Callable[[], object]) -> RedisSeat:
        now = int(self._link.now())
        self._link.run(lambda client: client.set(self._records.run, now))
        lanes = self._looking.lanes() or [self._records.lane("jobs")]
        worker = SimpleWorker(
            [lane.name for lane in lanes],
            name=name,
            connection=self._link.client,
            serializer=JSONSerializer,
            worker_ttl=WORKER_TTL + int(self._lease),
            prepare_for_work=False,
        )
        worker.hostname, worker.pid = os.uname().nodename, os.getpid()
        lease = Lease(self._link, self._records, name, self._lease, worker)
        return RedisSeat(self._link, self._records, self._looking, self._transitions, lease, free)


def _is_id(job_id: str) -> bool:
    try:
        check_id(job_id)
    except InvalidJob:
        return False
    return True
