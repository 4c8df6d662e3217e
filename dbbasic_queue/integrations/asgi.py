"""A worker beside a web server, started and stopped with it: `FastAPI(lifespan=lifespan(...))`.

For a machine where nothing else starts workers. The worker is a process of its own, so that a slow
job holds up no request, and it dies with the server however that ends. Each process of the server
starts one; of those, only as many work as you say, and the others wait to take their place.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any, Final

from ..support.bound import die_with_parent

log = logging.getLogger("dbbasic_queue")

PAUSE: Final = 1.0  # seconds until a worker that has ended is started again; each time twice that
LONGEST: Final = 30.0
AGAIN: Final = 1.0  # seconds from one signal to the next that break a job off
TIMES: Final = 10  # of those, before the worker is killed


def lifespan(
    *handlers: str,
    config: str | os.PathLike[str] | None = None,
    file: str | os.PathLike[str] | None = None,
    workers: int = 1,
    patience: float = 20.0,
) -> Callable[[Any], AbstractAsyncContextManager[None]]:
    """Return what an ASGI framework takes as its `lifespan`; `async with` works, too.

    Args:
        handlers: each `MODULE:ATTRIBUTE` in the working directory; if none, the config's.
        config: the `dbq.toml`; if None, the one that `dbq` would find.
        file: the queue, in place of the config's.
        workers: how many jobs run at once, whatever number of processes the server has.
        patience: seconds that a job in hand may go on when the server stops; then it is broken off
            and put back, its attempt refunded.

    Example:
        app = FastAPI(lifespan=lifespan("shop.jobs:HANDLERS"))

    Raises `ValueError` for a number of workers below 1.
    """
    if workers < 1:
        raise ValueError(f"workers {workers}: must be 1 or more")
    words = [sys.executable, "-P", "-m", "dbbasic_queue", "work", *handlers]
    for option, value in (("--config", config), ("--file", file)):
        words += [] if value is None else [option, os.fspath(value)]
    words += ["--forever", "--places", str(workers)]

    @asynccontextmanager
    async def run(app: Any = None) -> AsyncGenerator[None]:
        keeping = asyncio.create_task(_keep(words, patience))
        try:
            yield
        finally:
            keeping.cancel()
            with suppress(asyncio.CancelledError):
                await keeping

    return run


async def _keep(words: list[str], patience: float) -> None:
    """Keep a worker running until this task is cancelled."""
    pause = PAUSE
    while True:
        # A session of its own: a Ctrl-C at the server's terminal is not for the worker, too.
        worker = await asyncio.create_subprocess_exec(
            *words, start_new_session=True, preexec_fn=die_with_parent(signal.SIGTERM)
        )
        try:
            code = await worker.wait()
        except asyncio.CancelledError:
            await _stop(worker, patience)
            raise
        log.error("the worker beside the server ended with exit code %d; begun anew", code)
        await asyncio.sleep(pause)
        pause = min(2 * pause, LONGEST)


async def _stop(worker: asyncio.subprocess.Process, patience: float) -> None:
    """Let a worker finish its job; break that off after a while."""
    # Sent again, as two signals that come at once are one.
    for seconds in (patience, *[AGAIN] * TIMES):
        with suppress(ProcessLookupError):
            worker.terminate()
        with suppress(TimeoutError):
            await asyncio.wait_for(worker.wait(), seconds)
            return
    with suppress(ProcessLookupError):
        worker.kill()
    await worker.wait()
