"""What the commands share: how one is described, the exit codes, which queue and which config.

Exit codes, of every command that this package installs:

    code  dbq                        dbq-install-…                    dbq-health, check_dbq
    0     done                       done; as the config says         OK
    1     not found, or refused      differs, or nothing is there     WARNING
    2     wrong usage, or the queue  a fault in the config, an        CRITICAL
          cannot be used             edited file, no permission
    3     (wait) the time is up      -                                UNKNOWN
    130   interrupted (Ctrl-C)       -                                -

Which queue, and which config: the first of these that there is.

    1  the options --file, --url, --config  (beside a --config: the queue is --file's or --url's,
                                             the rest the config's)
    2  the variables $DBQ_FILE, $DBQ_URL, $DBQ_CONFIG  (two at once are an error)
    3  ./dbq.toml
    4  data/queue.tsv, if it exists
    5  /etc/dbbasic-queue/dbq.toml
    6  data/queue.tsv, which the first job creates

Beside a queue that is named by itself, the config of $DBQ_CONFIG or ./dbq.toml still tells a
command that needs one what to run.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ..config.search import DEFAULT_CONFIG, SYSTEM_CONFIG, search
from ..queue import DEFAULT_FILE, Queue
from ..support.address import has_password, scheme_of
from ..support.durations import parse_duration
from ..support.ids import is_made
from ..support.text import escape_control

if TYPE_CHECKING:
    from ..config.sections import Config

DONE: Final = 0
REFUSED: Final = 1
WRONG: Final = 2
TIME_IS_UP: Final = 3  # of a command that waits
INTERRUPTED: Final = 130  # as the shell has it: 128 + SIGINT

EXIT_CODES: Final = """\
exit codes:
  0  done
  1  not found, or refused
  2  wrong usage, or the queue cannot be read or written"""
EXIT_CODES_OF_WAIT: Final = f"{EXIT_CODES}\n  3  dbq wait, dbq restart --wait: the time is up"


class UsageError(Exception):
    """A mistake in the arguments that argparse cannot see."""


# -- how a command is described --------------------------------------------------------------------


class Argument(NamedTuple):
    """An argument or an option, as `ArgumentParser.add_argument` takes it."""

    flags: tuple[str, ...]
    settings: dict[str, Any]

    def add_to(self, parser: argparse._ActionsContainer) -> None:
        """Let a parser know it."""
        parser.add_argument(*self.flags, **self.settings)


def arg(*flags: str, **settings: Any) -> Argument:
    """Describe an argument.

    >>> arg("--limit", metavar="N").flags
    ('--limit',)
    """
    return Argument(flags, settings)


def json_option(what: str) -> Argument:
    """Describe the option --json."""
    return arg("--json", action="store_true", help=f"print {what}")


class Command(NamedTuple):
    """One command of `dbq`; arguments in a tuple of their own exclude one another."""

    name: str
    about: str
    run: Callable[[argparse.Namespace], int]
    examples: str
    arguments: tuple[Argument | tuple[Argument, ...], ...] = ()
    of_queue: bool = True  # it is about one queue, which --file or --config names
    exit_codes: str = EXIT_CODES

    def add_to(self, commands: Any) -> None:
        """Let the parser of `dbq` know this command."""
        shown = "\n".join(f"  {line}" for line in self.examples.splitlines())
        parser: argparse.ArgumentParser = commands.add_parser(
            self.name,
            help=self.about,
            description=self.about[0].upper() + self.about[1:] + ".",
            epilog=f"examples:\n{shown}\n\n{self.exit_codes}",
        )
        for each in (*self.arguments, *(WHICH if self.of_queue else ())):
            if isinstance(each, Argument):
                each.add_to(parser)
            else:
                group = parser.add_mutually_exclusive_group()
                for one in each:
                    one.add_to(group)
        parser.set_defaults(run=self.run, json=False)


WHICH: Final = (
    arg(
        "--config",
        metavar="PATH",
        help=f"the dbq.toml ($DBQ_CONFIG; ./dbq.toml; {SYSTEM_CONFIG})",
    ),
    arg(
        "--file",
        metavar="PATH",
        help=f"the queue ($DBQ_FILE; the config's; {DEFAULT_FILE})",
    ),
    arg(
        "--url",
        metavar="URL",
        help="the queue on a server, such as redis://10.0.0.5/0?name=shop ($DBQ_URL; the config's)",
    ),
)
DURABILITY: Final = arg(
    "--durability",
    choices=("full", "normal", "none"),
    help="full: what is acknowledged survives a power cut; normal: a crash of processes; none, on"
    " a server only: whatever it is set up for",
)


def count(text: str) -> int:
    """Return a whole number of 0 or more, for argparse."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 0 or more")
    return int(text)


def positive(text: str) -> int:
    """Return a whole number of 1 or more, for argparse."""
    if not (text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 1 or more")
    return int(text)


def duration(text: str) -> int:
    """Return the seconds of `10min`; raises `UsageError`."""
    try:
        return parse_duration(text)
    except ValueError as error:
        raise UsageError(f"{error}") from None


def point_in_time(text: str, option: str = "--run-at") -> float:
    """Return the Unix seconds of Unix seconds, or of a time in ISO 8601 (local if it has no zone).

    A local time that the clock skips is that much later, one that it shows twice is the first.
    Raises `UsageError`.

    >>> point_in_time("2030-03-17T17:46:40Z")
    1900000000.0
    """
    if re.fullmatch("(19|20)[0-9]{6}", text):  # as seconds a day in August 1970: due at once
        said = f"{text[:4]}-{text[4:6]}-{text[6:]}"
        raise UsageError(f"{option} {text}: write a date with hyphens, as {said}")
    try:
        return float(text)
    except ValueError:
        pass
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        raise UsageError(
            f"{option} {text}: neither Unix seconds nor a time such as 2027-01-01T09:00"
        ) from None


# -- what is printed -------------------------------------------------------------------------------


def hold_descriptors() -> None:
    """Open /dev/null in place of a standard stream that is closed.

    Otherwise the queue's file would become that stream, and what a handler or a library prints
    would be written into it.
    """
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(fd, True)
    os.close(fd)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 - for the process's life


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return the end of a message about a word that is not known; empty if none is like it.

    >>> did_you_mean("lst", ["list", "show"])
    '; did you mean list?'
    """
    from difflib import get_close_matches  # not needed by a worker, which should start fast

    like = get_close_matches(word, sorted(set(known)), n=1)
    return f"; did you mean {like[0]}?" if like else ""


def set_up_output(*, json: bool = False) -> None:
    """Let any text be printed in any locale; JSON is UTF-8 whatever the locale says."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if json and isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")


def complain(message: str, code: int, program: str = "dbq") -> int:
    """Say on standard error what is wrong; returns the exit code."""
    for line in message.splitlines() or [""]:
        print(f"{program}: {escape_control(line)}", file=sys.stderr)
    return code


def reason(error: Exception) -> str:
    """Return an error's text, without the number of an `OSError`.

    >>> reason(PermissionError(13, "Permission denied", "/etc/shadow"))
    '/etc/shadow: Permission denied'
    """
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)


# -- which queue, which config ---------------------------------------------------------------------


class Where(NamedTuple):
    """What names the queue, and the config that goes with it."""

    address: str | None  # a path or a URL, which may hold a password; None: the config's
    config: str | None
    by: str  # an option, a variable, or the file that was found
    named: bool = False  # by an option or a variable


VARIABLES: Final = {"$DBQ_FILE": "--file", "$DBQ_URL": "--url", "$DBQ_CONFIG": "--config"}


def where(
    file: str | None,
    config: str | None,
    environment: Mapping[str, str] = os.environ,
    *,
    url: str | None = None,
) -> Where:
    """Find out which queue and which config are meant, in the order of this module's header.

    Args:
        file: the option --file.
        config: the option --config.
        environment: for the variables; an empty one counts as not set.
        url: the option --url.

    Raises `UsageError` when both --file and --url are given, or two variables and no option.

    >>> where("jobs.tsv", None, {}).by
    '--file'
    """
    given = {name: environment.get(name[1:]) for name in VARIABLES}
    their_config = given["$DBQ_CONFIG"]
    local = DEFAULT_CONFIG if os.path.exists(DEFAULT_CONFIG) else None
    if file and url:
        raise UsageError("both --file and --url are given: leave out one of them")
    if file or url:
        by = "--file" if file else "--url"
        return Where(file or url, config or their_config or local, by, named=True)
    if config:
        return Where(None, config, "--config", named=True)
    names = [name for name, value in given.items() if value]
    if len(names) > 1:
        raise _too_many(names)
    if their_config:
        return Where(None, their_config, "$DBQ_CONFIG", named=True)
    if names:
        return Where(given[names[0]], local, names[0], named=True)
    if local:
        return Where(None, local, f"./{local}")
    if not os.path.exists(DEFAULT_FILE) and os.path.exists(SYSTEM_CONFIG):
        return Where(None, SYSTEM_CONFIG, SYSTEM_CONFIG)
    return Where(DEFAULT_FILE, None, DEFAULT_FILE)


def _too_many(names: Sequence[str]) -> UsageError:
    """The error when more than one variable names a queue."""
    how_many, superfluous = ("both", "one") if len(names) == 2 else ("all of", "two")
    options = " or ".join(VARIABLES[name] for name in names)
    return UsageError(
        f"{how_many} {' and '.join(names)} are set: unset {superfluous} of them,"
        f" or name the queue with {options}"
    )


def config_path(option: str | None, environment: Mapping[str, str] = os.environ) -> str:
    """Return the path of the config, for a command that cannot do without one.

    Raises `ConfigError` when there is none, and `UsageError` as `where` does.
    """
    return search(where(None, option, environment).config, environment)


TRIED: Final = (*VARIABLES, "./dbq.toml", DEFAULT_FILE, SYSTEM_CONFIG)


def place_of(args: argparse.Namespace) -> Where:
    """Return what `where` says for the arguments of a command."""
    return where(args.file, args.config, url=args.url)


def config_of(args: argparse.Namespace) -> Config | None:
    """Return the config that goes with the queue, None if there is none.

    Raises `ConfigError` for its faults.
    """
    path = place_of(args).config
    if path is None:
        return None
    return load_config(path)


def load_config(path: str) -> Config:
    """Return the config in a file; raises `ConfigError` for its faults."""
    from ..config import sections  # not needed by a worker without one, which should start fast

    return sections.load(path)


def queue_of(
    args: argparse.Namespace,
    config: Config | None = None,
    *,
    must_exist: bool = True,
    starts_programs: bool = False,
) -> Queue:
    """Return the queue; on a terminal, say which one it is if it was not named.

    Args:
        args: those of the command.
        config: the config of `config_of`, if it is loaded already.
        must_exist: raise `UsageError` when there is no such queue yet.
        starts_programs: root's terminal is kept from what the command starts as another user.
    """
    place = place_of(args)
    if config is not None and place.address is not None and not place.named:
        # The command needs a config, and has found one without a queue being named.
        place = Where(None, str(config.path), str(config.path))
    if place.address is None and place.config is not None:
        config = config or load_config(place.config)
    own = config if place.address is None else None  # the config whose queue it is
    table = own.queue.file if own else table_of(place.address or DEFAULT_FILE)
    if os.geteuid() == 0:
        table = table and Path(os.path.abspath(table))  # for a user who cannot enter this folder
        _as_worker(own, table, starts_programs)
    address = table or (own.address() if own else str(place.address))
    try:
        queue = Queue(address, **_options(args, config))
    except ValueError as error:  # a durability that only a server has
        raise UsageError(str(error)) from None
    if must_exist and queue.engine.path and not _is_there(queue.path):
        raise UsageError(_no_queue(queue.path, place))
    if place.by == "--url" and has_password(str(address)):
        complain("a password in --url stands in the list of processes: better in $DBQ_URL", DONE)
    if not place.named and sys.stderr.isatty():
        by = f", by {place.by}" if place.config else ""
        complain(f"the queue is {queue.engine.url}{by}", DONE)
    return queue


def table_of(address: str) -> Path | None:
    """Return the file of a queue's address, None for one on a server.

    >>> table_of("file:/srv/queue.tsv"), table_of("redis://10.0.0.5/0")
    (PosixPath('/srv/queue.tsv'), None)
    """
    if scheme_of(address) is not None:
        return None
    return Path(re.sub("^file:(?://)?", "", address, flags=re.IGNORECASE))


def _options(args: argparse.Namespace, config: Config | None) -> dict[str, Any]:
    """How the queue is to be opened: what the arguments say, then what the config says."""
    asked = getattr(args, "durability", None)
    if config is None:
        return {"durability": asked} if asked else {}
    return {**config.queue_options, **({"durability": asked} if asked else {})}


def _as_worker(config: Config | None, table: Path | None, starts_programs: bool) -> None:
    """As root, become the user whose queue it is: root's power is not needed here."""
    from .as_root import become, owner_of, worker_of

    account = worker_of(config) if config is not None else None
    why = "[worker].user" if account else "who owns its folder"
    account = account or (owner_of(table) if table else None)
    if account is None:
        return
    become(account, starts_programs=starts_programs, server=table is None)
    if sys.stderr.isatty():
        complain(f"as {account.name} ({why}), not as root", DONE)


def _is_there(path: Path) -> bool:
    """Say whether there is a file or a link; raises `UsageError` where this user cannot look."""
    try:
        os.lstat(path)
        return True
    except (FileNotFoundError, NotADirectoryError):
        return False
    except PermissionError:
        from ..support.opening import user_name

        shut = next(folder for folder in path.parents if os.path.exists(folder))
        raise UsageError(
            f"cannot look at the queue {path}: you have no permission to enter {shut}, which is "
            f"{user_name(shut.stat().st_uid)}'s; run this as that user, or ask it to let you in"
        ) from None


def _no_queue(path: Path, place: Where) -> str:
    """The message for a queue that does not exist: which, what named it, what else was tried."""
    said = f"there is no queue {path}"
    if place.named:
        return f"{said} ({place.by}); the first `dbq enqueue` creates it"
    by = f" ({place.by})" if place.config else ""
    return (
        f"{said}{by}; tried {', '.join(TRIED)}: name the queue with --file or --config,"
        " or create it with the first `dbq enqueue`"
    )


# -- which job -------------------------------------------------------------------------------------


SHORTEST: Final = 4  # characters of an id that stand for it where a job is changed
CANDIDATES: Final = 12  # ids that are named where several begin or end so


def find_id(queue: Queue, text: str, *, to_change: bool = False) -> tuple[str | None, str]:
    """Return what `find_ids` yields for one text."""
    return next(find_ids(queue, [text], to_change=to_change))


def find_ids(
    queue: Queue, texts: Iterable[str], *, to_change: bool = False
) -> Iterator[tuple[str | None, str]]:
    """Yield for each text the id of the one job whose id it is, or begins or ends with it.

    Ends with it: four characters at least, of an id that dbq made.

    Args:
        queue: where the jobs are.
        texts: ids, or their beginnings, or their ends.
        to_change: take no text for a part that may well be the whole id of a job that is gone:
            order-1 is not order-10, and report is not report-2.

    Yields None and the reason where a text stands for no job, or for several.
    """
    ids: list[str] | None = None
    for text in texts:
        if queue.find_job(text) is not None:
            yield text, ""
            continue
        if ids is None:
            ids = [job.id for job in queue.engine.jobs()]
        begun = [job_id for job_id in ids if job_id.startswith(text)] if text else []
        ended = [job_id for job_id in ids if _is_an_end(text, job_id)]
        like = begun + ended
        if len(like) == 1 and (not to_change or ended or _is_a_beginning(text, like[0])):
            yield like[0], ""
        elif len(like) > 1:
            parts = " or ".join(["begin"] * bool(begun) + ["end"] * bool(ended))
            names = ", ".join(like[:CANDIDATES]) + (", ..." if len(like) > CANDIDATES else "")
            yield None, f"{len(like)} ids {parts} with {text}: {names}; give more of it"
        else:
            meant = f"; did you mean {like[0]}?" if like else ""
            yield None, f"there is no job {text} in {queue.engine.url}{meant}"


def _is_an_end(text: str, job_id: str) -> bool:
    """Whether an id that dbq made ends with this, and does not begin so."""
    return (
        job_id.endswith(text)
        and len(text) >= SHORTEST
        and not job_id.startswith(text)
        and is_made(job_id)
    )


def _is_a_beginning(text: str, job_id: str) -> bool:
    """Whether what a longer id begins with is hardly an id by itself.

    >>> _is_a_beginning("order-1", "order-10"), _is_a_beginning("repor", "report-2")
    (False, True)
    """
    if len(text) < SHORTEST:
        return False
    if is_made(job_id) or re.fullmatch(".+_[0-9]{8}T[0-9]{4}Z", job_id):  # as dbq makes them
        return True
    last, following = text[-1], job_id[len(text)]
    return last in "-_" or (last.isalpha() and following.isalpha())
