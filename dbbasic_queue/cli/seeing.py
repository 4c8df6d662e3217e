"""What the commands share that draw a reading of the queue: report, top, serve."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..queue import Queue
from .common import config_of, place_of, queue_of
from .secrets import error_hider, secrets_of

if TYPE_CHECKING:
    from ..config.sections import Config
    from ..install.schedules import Scheduled
    from ..views.reading import Reader


def reader_of(
    args: argparse.Namespace, *, payloads: bool = False, must_exist: bool = True
) -> Reader:
    """Return what reads the queue of a command; as root, become the worker's user first.

    Args:
        args: of the command.
        payloads: whether readings have payloads, less what the config says is secret.
        must_exist: raise `UsageError` when there is no such queue yet; else its reading says so.

    Raises `UsageError`, `ConfigError`, and what `queue_of` does.
    """
    from ..views.reading import Reader
    from .health import checker

    config = config_of(args)
    queue = queue_of(args, config, must_exist=must_exist)
    check, advice = checker(args)
    own = config if config is not None and place_of(args).address is None else None
    hide = secrets_of(args)
    return Reader(
        queue,
        check=check,
        advice=advice,
        scheduled=(lambda: _scheduled(own, queue)) if own is not None else None,
        hide=hide,
        hide_error=error_hider(hide),
        payloads=payloads,
    )


def _scheduled(config: Config, queue: Queue) -> Iterator[Scheduled]:
    """What the clock starts by a config."""
    from ..install.schedules import schedules
    from .schedules import installed_entries
    from .slots import server_slots

    slots = server_slots(queue)
    kept = slots.slots() if slots is not None else None
    return schedules(config, queue.engine, installed_entries(config), kept)
