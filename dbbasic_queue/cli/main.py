"""The command `dbq`: parse the arguments, make one or two calls of the library, print."""

from __future__ import annotations

import argparse
import functools
import os
import re
import sys
from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Any, Final, NoReturn

from ..errors import JobExists, QueueError
from ..version import VERSION
from .common import (
    DONE,
    EXIT_CODES_OF_WAIT,
    INTERRUPTED,
    REFUSED,
    WRONG,
    Command,
    UsageError,
    complain,
    did_you_mean,
    hold_descriptors,
    reason,
    set_up_output,
)

EXAMPLES: Final = """\
examples:
  dbq enqueue send_mail '{"to": "zoe@example.com"}'
  dbq enqueue report '{"month": 5}' --in 10min
  dbq list --status failed
  dbq work myapp.jobs:HANDLERS
  dbq prune --older-than 7d"""

# The commands, as `dbq --help` has them, and the module of each: it has it by its name in capitals.
PLACES: Final = {
    "enqueue": "jobs",
    "list": "look",
    "show": "look",
    "errors": "errors",
    "log": "job_log",
    "wait": "awaiting",
    "cancel": "by_hand",
    "retry": "by_hand",
    "defer": "by_hand",
    "prune": "jobs",
    "stats": "stats",
    "top": "top",
    "report": "report",
    "history": "history",
    "serve": "serve",
    "work": "work",
    "run": "run",
    "restart": "restart",
    "pause": "pausing",
    "resume": "pausing",
    "edit": "upkeep",
    "fsck": "upkeep",
    "backup": "backup",
    "restore": "backup",
    "migrate": "migrate",
    "init": "setup",
    "check": "setup",
    "enqueue-recurring": "setup",
    "schedules": "schedules",
    "completion": "completion",
}


def command(name: str) -> Command:
    """Return one command, for which only its own module is imported."""
    module = import_module(f".{PLACES[name]}", __package__)
    found: Command = getattr(module, name.upper().replace("-", "_"))
    return found


def parse(words: list[str]) -> argparse.Namespace:
    """Return the arguments of one command, for what is not started by a person.

    Raises `SystemExit`, with a message on standard error, for a mistake in them.
    """
    return _parser(words[:1]).parse_args(words, argparse.Namespace(words=words[1:]))


def main(argv: list[str] | None = None) -> int:
    """Run `dbq` with these arguments (the process's own if None); returns the exit code."""
    hold_descriptors()
    set_up_output()
    words = sys.argv[1:] if argv is None else argv
    if words[:1] == ["help"]:
        words = [*words[1:2], "--help"]
    # A worker that starts each minute needs one of them: modules and parsers are slow to make.
    parser = _parser([name for name in words[:1] if name in PLACES] or PLACES)
    args = parser.parse_args(words, argparse.Namespace(words=words[1:]))
    if args.run is None:
        parser.print_help()
        return WRONG
    set_up_output(json=args.json)
    try:
        act: Callable[[argparse.Namespace], int] = args.run
        code = act(args)
        sys.stdout.flush()
        return code
    except JobExists as error:
        return complain(reason(error), REFUSED)
    except BrokenPipeError:  # dbq list | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except (UsageError, QueueError, OSError) as error:
        return complain(reason(error), WRONG)
    except KeyboardInterrupt:
        return INTERRUPTED


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Knows the width of the terminal without `shutil`, which argparse imports for each option."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=_columns() - 2)


@functools.cache
def _columns() -> int:
    try:
        return int(os.environ["COLUMNS"]) or 80
    except (KeyError, ValueError):
        pass
    try:
        return os.get_terminal_size(1).columns or 80
    except OSError:  # standard output is not a terminal
        return 80


class _Parser(argparse.ArgumentParser):
    """Says what was probably meant by a word that it does not know."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(formatter_class=_Formatter, **settings)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse, and refuse what is left over, which argparse would leave to its caller."""
        found, rest = super().parse_known_args(args, namespace)
        if rest:
            option = rest[0].partition("=")[0]
            if option.startswith("-"):
                known = re.findall(r"(?<![\w-])--[a-z-]+", self.format_help())
                self.error(f"there is no option {option}{did_you_mean(option, known)}")
            quoted = "; put the JSON in single quotes" if self.prog.endswith(" enqueue") else ""
            self.error(f"one argument too many: {rest[0]}{quoted}")
        return found, rest

    def error(self, message: str) -> NoReturn:
        """End with exit code 2 and a message, which names the command that was meant."""
        unknown = re.match(r"argument COMMAND: invalid choice: '([^']*)'", message)
        if unknown:
            meant = did_you_mean(unknown[1], list(PLACES))
            message = f"there is no command {unknown[1]}{meant or '; see dbq --help'}"
        super().error(message)


def _parser(wanted: Iterable[str] = PLACES) -> argparse.ArgumentParser:
    parser = _Parser(
        prog="dbq",
        description="A job queue in one plain-text file: add jobs, look at them, run them.",
        epilog=f"{EXAMPLES}\n\n{EXIT_CODES_OF_WAIT}",
    )
    parser.add_argument("--version", action="version", version=f"dbq {VERSION}")
    parser.set_defaults(run=None, json=False)
    commands = parser.add_subparsers(metavar="COMMAND", prog=parser.prog)
    for name in wanted:
        command(name).add_to(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
