"""The commands of `dbbasic`, the family's own command line, such as `dbbasic queue:worker`.

dbbasic-cli 1.0.0 imports `dbbasic_queue.cli` and takes `COMMANDS` from there: a function of the
arguments by its name. It shows the first line of each docstring as help, and an exit code reaches
the shell by `sys.exit` only.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Final, NoReturn

from . import main

# The family's word for each command of ours.
WORDS: Final = {"worker": "work"} | {
    word: word for word in ("stats", "list", "show", "enqueue", "cancel", "retry", "prune", "fsck")
}


def _command(name: str) -> Callable[[list[str]], NoReturn]:
    """`dbq NAME` as a function of its arguments, with its help for a docstring."""

    def run(args: list[str]) -> NoReturn:
        sys.exit(main.main([name, *args]))

    run.__doc__ = main.command(name).about
    return run


COMMANDS: Final = {f"queue:{word}": _command(name) for word, name in WORDS.items()}
