"""The command `dbq migrate`: a queue's jobs moved into another queue."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ..engines import open_engine
from ..errors import MigrationError
from ..support.text import counted, escape_control
from .common import DONE, REFUSED, Command, UsageError, arg, complain, duration, reason

if TYPE_CHECKING:
    from ..engines.interface import Engine
    from ..migrate.move import Left

BAR: Final = 30  # characters
EVERY: Final = 1.0  # seconds between two looks of --follow


def _migrate(args: argparse.Namespace) -> int:
    from ..migrate import export, move  # not needed by a worker, which should start fast
    from ..migrate.pauses import pauses_to_carry

    idle = duration(args.idle)
    target_address = _address(args.target)
    if export.is_celery(target_address):
        return _export(args, target_address)
    source, target = _open(_address(args.source), args), _open(target_address, args)
    _become_owner(source, target)
    _require_queue(source)
    pauses = ", ".join(escape_control(each.type) for each in pauses_to_carry(source, target))
    if args.dry_run:
        left = move.look(source)
        print(
            _plan(left, source, target) + (f"; would pause there, too: {pauses}" if pauses else "")
        )
        return REFUSED if left.waiting or left.jobs["processing"] else DONE
    bar = _Bar(source)
    try:
        if args.finish:
            new = move.finish(source, target, idle, bar.tell)
        else:
            new = move.move(source, target, bar.tell)
    except MigrationError as error:
        bar.clear()
        return complain(str(error), REFUSED)
    bar.clear()
    print(f"{counted(new, 'job')} moved to {target.url}", flush=True)
    if pauses:
        print(f"paused there, too: {pauses}", flush=True)
    while args.follow:
        time.sleep(EVERY)
        new = move.move_waiting(source, target)
        if new:
            print(f"{counted(new, 'job')} moved to {target.url}", flush=True)
    if args.finish:
        print(f"{source.url} is closed: it takes no new jobs")
        return DONE
    running = source.counts()["processing"]
    if running:  # what came meanwhile is not worth a word: producers go on
        jobs = counted(running, "job")
        return complain(f"{jobs} left at {source.url}, being processed; run this again", REFUSED)
    return DONE


def _export(args: argparse.Namespace, address: str) -> int:
    from ..migrate import export, move

    if args.follow or args.finish:
        raise UsageError("Celery gets the pending jobs once: --follow and --finish are for a move")
    source = _open(_address(args.source), args)
    _become_owner(source)
    _require_queue(source)
    pending = move.look(source).jobs["pending"]
    if args.dry_run:
        print(f"would send to {export.shown(address)}: {counted(pending, 'pending job')}")
        return REFUSED if pending else DONE
    bar = _Bar(source)
    sent = export.export(source, address, bar.tell)
    bar.clear()
    print(f"{counted(sent, 'job')} sent to {export.shown(address)}; there is no way back")
    return DONE


def _open(address: str, args: argparse.Namespace) -> Engine:
    """The engine at an address; a file is always synced, as a move relies on what is written."""
    engine = open_engine(address)
    return open_engine(address, args.durability) if engine.path is None else engine


def _require_queue(source: Engine) -> None:
    if source.path is not None and not source.path.exists():
        raise UsageError(f"there is no queue {source.path}")


class _Bar:
    """How far the moving is, on a terminal only."""

    def __init__(self, source: Engine) -> None:
        self._shown = sys.stderr.isatty()
        self._done = 0
        self._all = sum(source.counts().values()) if self._shown else 0

    def tell(self, count: int) -> None:
        """Count these jobs as done."""
        self._done += count
        if self._shown:
            part = min(1.0, self._done / max(self._all, 1))
            full = "#" * round(BAR * part)
            print(
                f"\r[{full:<{BAR}}] {self._done:,} of {self._all:,} jobs",
                end="",
                file=sys.stderr,
                flush=True,
            )

    def clear(self) -> None:
        """Take the bar away."""
        if self._shown and self._done:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def _plan(left: Left, source: Engine, target: Engine) -> str:
    jobs = ", ".join(f"{count:,} {status}" for status, count in left.jobs.items() if count)
    moved = f"; moved before: {left.moved:,}" if left.moved else ""
    return f"would move from {source.url} to {target.url}: {jobs or 'nothing'}{moved}"


def _address(word: str) -> str:
    """An address, or what stands in the file that `@FILE` names: so a password stays secret.

    That is read as the url_file of a config is: lines that begin with # are left.
    """
    if not word.startswith("@"):
        return word
    try:
        text = Path(word[1:]).read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{word[1:]}: cannot be read: {reason(error)}") from None
    lines = [line.strip() for line in text.splitlines()]
    found = [line for line in lines if line and not line.startswith("#")]
    if len(found) != 1:
        raise UsageError(f"{word[1:]}: must hold one line, the address of a queue")
    return found[0]


def _become_owner(*engines: Engine) -> None:
    """As root, become the user whose files these are: root's power is not needed here."""
    if os.geteuid() != 0:
        return
    from .as_root import become, owner_of

    found = (owner_of(engine.path) for engine in engines if engine.path is not None)
    owners = {owner.uid: owner for owner in found if owner is not None}
    if len(owners) > 1:
        names = " and ".join(sorted(owner.name for owner in owners.values()))
        raise UsageError(f"the two files belong to {names}: give both to one user first")
    for owner in owners.values():
        become(owner, server=any(engine.path is None for engine in engines))
        complain(f"as {owner.name} (who owns the folder), not as root", DONE)


MIGRATE: Final = Command(
    "migrate",
    "move all jobs of a queue into another, while producers go on; exit code 1 if some still run",
    _migrate,
    "dbq migrate data/queue.tsv 'redis://10.0.0.5/0?name=shop' --dry-run\n"
    "dbq migrate data/queue.tsv 'redis://10.0.0.5/0?name=shop'\n"
    "dbq migrate data/queue.tsv @address --follow\n"
    "dbq migrate data/queue.tsv @address --finish\n"
    "dbq migrate 'redis://10.0.0.5/0?name=shop' data/queue.tsv\n"
    "dbq migrate data/queue.tsv celery+redis://10.0.0.5/0",
    (
        arg("source", metavar="FROM", help="where the jobs are: a path, a URL, or @ and a file"),
        arg("target", metavar="TO", help="where they shall be: the same, a file with the address"),
        (
            arg(
                "--follow",
                action="store_true",
                help="go on until interrupted: move what old producers still add, each second",
            ),
            arg(
                "--finish",
                action="store_true",
                help="move what is left and close FROM, which then takes no new jobs",
            ),
            arg(
                "--dry-run",
                action="store_true",
                help="only count the jobs that would be moved: exit code 1 if there are any",
            ),
        ),
        arg(
            "--idle",
            metavar="DURATION",
            default="5min",
            help="what --finish wants to have passed since the last new job (default: 5min)",
        ),
        arg(
            "--durability",
            choices=("full", "normal", "none"),
            default="full",
            help="what a server has to keep jobs through: a power cut (full, the default), its own"
            " crash (normal), or nothing",
        ),
    ),
    of_queue=False,
)
