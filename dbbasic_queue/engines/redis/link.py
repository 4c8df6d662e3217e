"""The connection to a server: calls in bounded time, transactions, and the server's clock.

Theory of operation
-------------------
Whatever is done here may be done again: a call whose answer was lost is repeated with a new
connection, until it has taken `patience` seconds. So each transition recognises its own work (by
the job's id, or by the execution that holds the job), and a repetition changes nothing.

A transition is one MULTI/EXEC that WATCHes what it has read: of two that want one job, the one that
loses reads again. The server refuses a command of a transaction that it has no memory for before
any is carried out.

Time is the server's, so that no job depends on which host's clock is right. Between two looks at it
(`LOOK_AGAIN`) it is reckoned from a clock of this host that is never set.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, Final, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    ConnectionError,
    OutOfMemoryError,
    RedisError,
    TimeoutError,
    WatchError,
)
from redis.retry import Retry

from ...errors import ConfigError, StorageError
from .. import interface

LOOK_AGAIN: Final = 5.0  # seconds between two looks at the server's clock
PAUSE: Final = 0.02  # seconds before the first repetition; doubled each time
LONGEST_PAUSE: Final = 1.0

T = TypeVar("T")


class Away(StorageError):
    """The server could not be reached for as long as it was tried."""

    unsure = False  # whether it may have been told what to do before


class Link:
    """Calls to one server; threads may share it, and it survives a fork.

    Args:
        url: as redis-py reads it.
        shown: the same for messages.
        patience: seconds that a call is repeated for while the server cannot be reached.
        clock: Unix seconds, for tests; None: the server's.
    """

    def __init__(
        self, url: str, shown: str, patience: float, clock: Callable[[], float] | None
    ) -> None:
        self.shown = shown
        self.patience = patience
        self._clock = clock
        self._offset = 0.0
        self._looked: float | None = None  # _ticks() at the last look at the server's clock
        limit = max(patience, 0.1)
        by_network: dict[str, Any] = {}
        if not url.startswith("unix:"):
            by_network = {"socket_keepalive": True, "socket_connect_timeout": min(limit, 5.0)}
        try:
            self.client: Any = redis.Redis.from_url(
                url,
                socket_timeout=limit,
                **by_network,
                retry=Retry(NoBackoff(), 0),  # what may be repeated is decided here
                health_check_interval=0,
            )
        except (ValueError, TypeError) as error:
            raise ConfigError(f"{shown}: {error}") from None

    # -- calls ---------------------------------------------------------------------------------

    def run(self, call: Callable[[Any], T], patience: float | None = None) -> T:
        """What `call` returns, given the client; repeated while the server cannot be reached.

        Raises `Away` after `patience` seconds of that, `StorageError` when the server refuses.
        """
        ends = time.monotonic() + (self.patience if patience is None else patience)
        pause, unsure = PAUSE, False
        while True:
            try:
                return call(self.client)
            except AuthenticationError as error:
                raise self._refused(errno.EACCES, self._without_password() or error) from None
            except (ConnectionError, TimeoutError) as error:
                unsure |= "connecting to" not in str(error)
                left = ends - time.monotonic()
                if left <= 0:
                    away = Away(errno.ETIMEDOUT, f"cannot reach {self.shown}: {_said(error)}")
                    away.unsure = unsure
                    raise away from None
                time.sleep(min(pause, left))
                pause = min(2 * pause, LONGEST_PAUSE)
            except OutOfMemoryError as error:
                raise self._refused(errno.ENOSPC, error) from None
            except RedisError as error:
                raise self._refused(errno.EIO, error) from None

    def _without_password(self) -> str:
        """What is wrong where the address has no password: the server speaks of its protocol."""
        if self.client.connection_pool.connection_kwargs.get("password"):
            return ""
        said = "it asks for a password; write it before the host, as redis://:PASSWORD@10.0.0.5/0"
        return f"{said}, best in a url_file or in $DBQ_URL"

    def _refused(self, number: int, error: Exception | str) -> StorageError:
        return StorageError(number, f"{self.shown} refused: {_said(error)}")

    def transact(
        self,
        keys: list[str],
        change: Callable[[Any], T],
        patience: float | None = None,
        done: Callable[[list[Any]], object] = len,
    ) -> T:
        """What `change` returns once all that it has read of `keys` held until it was written.

        `change` is given a pipeline that watches the keys: it reads, calls `multi()`, and writes.
        It may be called again. `done` is given the answers to what was written. Raises what `run`
        does.
        """

        def once(client: Any) -> T:
            with client.pipeline() as pipe:
                while True:
                    try:
                        pipe.watch(*keys)
                        answer = change(pipe)
                        if pipe.explicit_transaction:
                            done(pipe.execute())
                        return answer
                    except WatchError:
                        continue

        return self.run(once, patience)

    def ask(self, questions: Callable[[Any], object], *, at_once: bool = False) -> list[Any]:
        """The answers to all commands that `questions` puts into a pipeline: one trip.

        `at_once`: as of one moment.
        """

        def once(client: Any) -> list[Any]:
            with client.pipeline(transaction=at_once) as pipe:
                questions(pipe)
                answers: list[Any] = pipe.execute()
                return answers

        return self.run(once)

    # -- the clock -----------------------------------------------------------------------------

    def now(self) -> float:
        """Unix seconds by the server's clock."""
        if self._clock is not None:
            return self._clock()
        if self._looked is None or _ticks() - self._looked > LOOK_AGAIN:
            self.look_at_clock()
        return _ticks() + self._offset

    def look_at_clock(self) -> float:
        """Ask the server for its time, and return it."""
        if self._clock is not None:
            return self._clock()
        began = _ticks()
        answer = self.run(lambda client: client.time())
        return self.set_clock(answer, began)

    def set_clock(self, answer: tuple[int, int], began: float) -> float:
        """Take note of what the server answered to a TIME asked at `began`; returns its time."""
        if self._clock is not None:
            return self._clock()
        self._looked = _ticks()
        server = answer[0] + answer[1] / 1e6
        self._offset = server - (began + self._looked) / 2
        return server


def _ticks() -> float:
    """Seconds by a clock that is never set, and that goes on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


ticks = _ticks


def _said(error: Exception | str) -> str:
    """What an error of redis-py says, on one line, as a part of a sentence."""
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__


_TALKING: Final = frozenset({Link.run.__code__})


def is_talking(frame: FrameType | None) -> bool:
    """Say whether the code that a signal has interrupted in `frame` is talking to a server.

    An exception that breaks into that would leave it unknown what the server has done.
    """
    while frame is not None and frame.f_code not in _TALKING:
        frame = frame.f_back
    return frame is not None


interface.guards.append(is_talking)
