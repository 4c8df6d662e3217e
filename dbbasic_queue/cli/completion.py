"""The command `dbq completion`: what the tab key offers, for bash, zsh and fish."""

from __future__ import annotations

import argparse
import itertools
import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

from ..job import CANCELLED, COMPLETED, FAILED, PENDING, PROCESSING
from .common import DONE, Command, arg, config_of, queue_of

if TYPE_CHECKING:
    from ..queue import Queue

MOST: Final = 200  # ids that are offered
LOOKED_AT: Final = 10_000  # jobs, for their types
# What is offered. A type that another program has written may be anything, and bash expands what a
# word has of `$` and backquotes.
_WORD: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:@+-]*")


def _completion(args: argparse.Namespace) -> int:
    if args.what in ("ids", "types"):
        queue = queue_of(args)
        found = _ids(queue) if args.what == "ids" else _types(queue, args)
        for word in dict.fromkeys(filter(_WORD.fullmatch, found)):
            print(word)
        return DONE
    from . import options, shells

    write = getattr(shells, args.what)
    print("\n".join(write(name, parser) for name, parser in options.parsers().items()), end="")
    return DONE


def _ids(queue: Queue) -> Iterator[str]:
    """The ids of jobs that a person would do something with, before those that are over."""
    jobs = queue.engine.jobs
    open_ones = (job.id for job in jobs((PROCESSING, FAILED, PENDING)))
    done = (job.id for job in jobs((COMPLETED, CANCELLED)))
    return itertools.islice(itertools.chain(open_ones, done), MOST)


def _types(queue: Queue, args: argparse.Namespace) -> Iterable[str]:
    """The types of the jobs that are looked at first, and those that the config knows."""
    config = config_of(args)
    if config is not None:
        yield from (*config.commands, *config.types, *(job.type for job in config.recurring))
    for job in itertools.islice(queue.engine.jobs(), LOOKED_AT):
        yield job.type


COMPLETION: Final = Command(
    "completion",
    "print what a shell needs to complete the commands; or the words of a queue",
    _completion,
    'eval "$(dbq completion bash)"\n'
    "source <(dbq completion zsh)\n"
    "dbq completion fish | source\n"
    "dbq completion types",
    (
        arg(
            "what",
            choices=("bash", "zsh", "fish", "ids", "types"),
            help="the shell; or ids or types of jobs, which those ask for, a line each",
        ),
    ),
)
